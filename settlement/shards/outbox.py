"""The call by which coins leave a shard: what a transaction to the outbox carries. Pure.

It is no call of the adjudicator: the outbox has an address of its own, the same on every shard. What it pays for
includes that the receipt is executed on the other shard, where nobody pays.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.abi import Envelope, Signature
from tallystick.settlement.ethereum.transactions import OUTBOX, OUTBOX_GAS, sign_envelope

_SEND = Signature("send", ("uint64", "address", "address", "uint128", "uint64"))


class Sending(NamedTuple):
    """Coins that are to leave."""

    shard: int
    """To which one they go."""
    asset: Address
    to: Address
    amount: int
    expiry: int = 0
    """Block time after which they are refunded instead; 0: none."""


def encode_sending(sending: Sending) -> Envelope:
    """Return what a transaction must carry to send coins to another shard; raise InvalidInput if it cannot."""
    if not (0 < sending.amount <= AMOUNT_MAX and 0 <= sending.shard <= UINT64_MAX):
        raise InvalidInput(f"an amount must be from 1 to 2**128 - 1, not {sending.amount}, and a shard is a number")
    if not 0 <= sending.expiry <= UINT64_MAX or len(sending.asset) != 20 or len(sending.to) != 20:
        raise InvalidInput("addresses have 20 bytes, and an expiry is a block time from 0 to 2**64 - 1")
    return Envelope(OUTBOX, sending.amount if sending.asset == NATIVE else 0, _SEND.encode_call(*sending))


def decode_sending(envelope: Envelope) -> Sending:
    """Return what a transaction to the outbox asks for; raise Reverted if it cannot be read."""
    if envelope.data[:4] != _SEND.selector:
        raise Reverted(Revert.UNKNOWN_CALL, f"the outbox has no function 0x{envelope.data[:4].hex()}")
    try:
        sending = Sending(*_SEND.decode_call(envelope.data))
    except InvalidInput as error:
        raise Reverted(Revert.UNKNOWN_CALL, f"the arguments of this call cannot be read: {error}") from error
    if envelope.value != (sending.amount if sending.asset == NATIVE else 0):
        raise Reverted(Revert.BAD_AMOUNT, f"this call must carry what it sends as its value, not {envelope.value}")
    return sending


def sign_sending(key: PrivateKey, chain_id: int, sending: Sending, nonce: int, price: int) -> bytes:
    """Return the raw transaction by which `key` sends coins from the shard of that chain id to another one."""
    return sign_envelope(key, chain_id, encode_sending(sending), nonce, price, price, OUTBOX_GAS)
