"""What others sign for a move to carry: an arbiter's decision, a member's vote, an oracle's price.

EIP-712 data of the domain {name: "Tallystick", version: "1"}: no chain and no contract, as an instance's id names both,
and a price is the same on every chain. A signature is 64 bytes, r and s, with low s.
"""

from __future__ import annotations

from tallystick.channels.apps.fields import packed
from tallystick.channels.protocol.eip712 import digest_of_struct
from tallystick.channels.protocol.keys import keccak

TYPES = {
    "AppDecision": "bytes32 instance,uint128 paid",
    "AppVote": "bytes32 instance,uint128 paid",
    "AppPrice": "bytes32 feed,uint128 price,uint64 time",
}
"""Of a decision and of a vote, `paid` is how much of the stake goes to the other player. A price is that of the feed at
a chain time."""

_DOMAIN = keccak(keccak(b"EIP712Domain(string name,string version)") + keccak(b"Tallystick") + keccak(b"1"))
_DECISION, _VOTE, _PRICE = (keccak(f"{name}({fields})".encode()) for name, fields in TYPES.items())


def digest_decision(instance: bytes, paid: int) -> bytes:
    """Return what an arbiter signs (32 bytes): of the stake, `paid` goes to the other player."""
    return digest_of_struct(_DOMAIN, _DECISION + instance + packed((paid, 32)))


def digest_vote(instance: bytes, paid: int) -> bytes:
    """Return what a member signs (32 bytes) who votes for paying out that much of the stake."""
    return digest_of_struct(_DOMAIN, _VOTE + instance + packed((paid, 32)))


def digest_price(feed: bytes, price: int, time: int) -> bytes:
    """Return what an oracle signs (32 bytes): the price of a feed (32 bytes) at a chain time."""
    return digest_of_struct(_DOMAIN, _PRICE + feed + packed((price, 32), (time, 32)))
