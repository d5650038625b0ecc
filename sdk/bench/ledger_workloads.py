"""Blocks to be executed: signed transactions of so many accounts, and the state that they begin with."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tallystick.channels.protocol.eip712 import channel_id, digest_proof, domain_separator
from tallystick.channels.protocol.keys import PrivateKey, keccak, with_recovery_id
from tallystick.channels.protocol.objects import NATIVE, Address, BalanceProof, ChannelId, SignedProof, Terms
from tallystick.settlement.chain import Call, ChallengeCall, CloseCall, TransferCall
from tallystick.settlement.contract.state import ChannelStorage, Parameters
from tallystick.settlement.ethereum.abi import Deployment, encode_call
from tallystick.settlement.ethereum.fast_fields import TYPE
from tallystick.settlement.ethereum.rlp_items import Item, encode_item
from tallystick.settlement.ethereum.transactions import gas_of
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint, mint
from tallystick.settlement.simulated.world import Layer, World, apply_changes, balance_key, channel_key, supply_key

RULES = Parameters(1337, ADJUDICATOR)
TOKEN = Address(b"\x70" * 20)
HELD = 10**15
"""Of each account, of coins and of tokens."""
DEPOSIT = 1_000
CLOSE_KEY = keccak(b"bench: the close key")

_AT = Deployment(RULES.chain_id, RULES.contract)
_Calls = Iterator[tuple[PrivateKey, Call]]


class Workload(NamedTuple):
    """Transactions in order, as they came, and the state before them."""

    raws: list[bytes]
    world: World
    accounts: list[Address]


def _transfers(asset: Address) -> Callable[[list[PrivateKey], int, World, random.Random], _Calls]:
    def calls(keys: list[PrivateKey], count: int, world: World, choose: random.Random) -> _Calls:
        """Each pays somebody else, drawn at random."""
        for _ in range(count):
            payer, payee = choose.sample(keys, 2)
            yield payer, TransferCall(asset, payee.address, 5)

    return calls


def _disputes(keys: list[PrivateKey], count: int, world: World, choose: random.Random) -> _Calls:
    """Two of the accounts have a channel: one closes it with both proofs, the other one challenges."""
    domain = domain_separator(RULES.chain_id, RULES.contract)
    for number in range((count + 1) // 2):
        pair = sorted(choose.sample(keys, 2), key=lambda key: key.address)
        sides = (pair[0], pair[1])
        terms = Terms(*_AT, (sides[0].address, sides[1].address), NATIVE, number, 600, keccak(CLOSE_KEY))
        channel = channel_id(terms)
        world[channel_key(channel)] = ChannelStorage(terms, (DEPOSIT, DEPOSIT))
        for key in (balance_key(NATIVE, RULES.contract), supply_key(NATIVE)):
            held = world.get(key, 0)
            world[key] = 2 * DEPOSIT + (held if isinstance(held, int) else 0)

        first, second = (_prove(domain, channel, sides, side, 1) for side in (0, 1))
        yield sides[0], CloseCall(channel, first, second, CLOSE_KEY)
        if 2 * number + 1 < count:
            yield sides[1], ChallengeCall(_prove(domain, channel, sides, 1, 2))


def _prove(
    domain: bytes, channel: ChannelId, sides: tuple[PrivateKey, PrivateKey], sender: int, seq: int
) -> SignedProof:
    proof = BalanceProof(channel, sender, seq, 10 * seq)
    digest = digest_proof(domain, proof)
    return SignedProof(proof, sides[sender].sign(digest), sides[1 - sender].sign(digest))


WORKLOADS: dict[str, Callable[[list[PrivateKey], int, World, random.Random], _Calls]] = {
    "transfer": _transfers(NATIVE),
    "token": _transfers(TOKEN),
    "dispute": _disputes,
}
"""transfer: of coins. token: of tokens. dispute: closes of channels with two proofs, and their challenges, in turn."""


def make_workload(name: str, accounts: int, count: int, seed: int = 1) -> Workload:
    """Return so many transactions of so many accounts."""
    keys = [PrivateKey(keccak(b"bench account" + number.to_bytes(4, "big"))) for number in range(accounts)]
    world: World = {}
    genesis = Layer(world)
    for key in keys:
        for asset in (NATIVE, TOKEN):
            mint(genesis, RULES, Mint(key.address, asset, HELD))
    apply_changes(world, genesis.changes)
    nonces: Counter[Address] = Counter()
    raws = []
    for key, call in WORKLOADS[name](keys, count, world, random.Random(seed)):
        raws.append(_sign(key, call, nonces[key.address]))
        nonces[key.address] += 1
    return Workload(raws, world, [key.address for key in keys])


def _sign(key: PrivateKey, call: Call, nonce: int) -> bytes:
    """Sign as `sign_call` does, in a tenth of the time that eth-account takes."""
    to, value, data = encode_call(call, _AT)
    fields: list[Item] = [RULES.chain_id, nonce, 1, 1, gas_of(call), to, value, data, []]
    digest = keccak(TYPE + encode_item(fields))
    signature = with_recovery_id(digest, key.sign(digest), key.address)
    r, s = (int.from_bytes(signature[begin : begin + 32], "big") for begin in (0, 32))
    return TYPE + encode_item([*fields, signature[64] - 27, r, s])
