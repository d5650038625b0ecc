"""Blocks to be executed: signed transactions of so many accounts, and the state that they begin with."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tallystick.channels.protocol.eip712 import channel_id, digest_proof, domain_separator
from tallystick.channels.protocol.keys import PrivateKey, keccak, with_recovery_id
from tallystick.channels.protocol.objects import NATIVE, Address, BalanceProof, ChannelId, SignedProof, Terms
from tallystick.settlement.chain import Call, ChallengeCall, CloseCall, ModuleCall, TransferCall
from tallystick.settlement.contract.state import ChannelStorage, Parameters
from tallystick.settlement.ethereum.abi import Deployment, Signature, encode_call
from tallystick.settlement.ethereum.fast_fields import TYPE
from tallystick.settlement.ethereum.rlp_items import Item, encode_item
from tallystick.settlement.ethereum.transactions import gas_of
from tallystick.settlement.modules.table import MODULES
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint, mint
from tallystick.settlement.simulated.module_calls import run_module
from tallystick.settlement.simulated.world import Layer, World, apply_changes, balance_key, channel_key, supply_key

RULES = Parameters(1337, ADJUDICATOR)
TOKEN = Address(b"\x70" * 20)
OTHER = Address(b"\x71" * 20)
PROVIDER = Address(b"\x33" * 20)
"""Whose pools and markets these are."""
EVER = 2**63
SETUP_TIMES = (1_000, 5_000)
"""When pools are filled."""
BLOCK_TIME = 10_000
"""The second of the blocks."""
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


def _swaps(pools: int) -> Callable[[list[PrivateKey], int, World, random.Random], _Calls]:
    def calls(keys: list[PrivateKey], count: int, world: World, choose: random.Random) -> _Calls:
        """Each swaps one token for the other one, in one of the pools, drawn at random."""
        _fill_pools(world, pools)
        for _ in range(count):
            given, wanted = choose.sample((TOKEN, OTHER), 2)
            swap = ("swap", given, wanted, choose.randrange(pools), 5, 1, EVER)
            yield choose.choice(keys), _module_call("exchange", *swap)

    return calls


def _loans(keys: list[PrivateKey], count: int, world: World, choose: random.Random) -> _Calls:
    """All in one market, in which everybody has collateral: each supplies, adds to that, or borrows."""
    _fill_pools(world, 1)
    _do(world, PROVIDER, SETUP_TIMES[0], _module_call("lending", "createMarket", TOKEN, OTHER, 0, 800_000))
    _do(world, PROVIDER, SETUP_TIMES[0], _module_call("lending", "supply", 0, HELD))
    for key in keys:
        _do(world, key.address, SETUP_TIMES[1], _module_call("lending", "addCollateral", 0, HELD // 2))
    calls = [
        _module_call("lending", "supply", 0, 1_000),
        _module_call("lending", "addCollateral", 0, 1_000),
        _module_call("lending", "borrow", 0, 10),
    ]
    for _ in range(count):
        yield choose.choice(keys), choose.choice(calls)


def _fill_pools(world: World, pools: int) -> None:
    """Let one account fill so many pools, old enough to have a price on average."""
    genesis = Layer(world)
    for asset in (TOKEN, OTHER):
        mint(genesis, RULES, Mint(PROVIDER, asset, (pools + 2) * HELD))
    apply_changes(world, genesis.changes)
    for number in range(pools):
        _do(world, PROVIDER, SETUP_TIMES[0], _module_call("exchange", "createPool", TOKEN, OTHER, 3_000))
        for time in SETUP_TIMES:
            deposit = ("addLiquidity", TOKEN, OTHER, number, HELD // 2, HELD // 2, 1, EVER)
            _do(world, PROVIDER, time, _module_call("exchange", *deposit))


def _do(world: World, caller: Address, time: int, call: ModuleCall) -> None:
    state = Layer(world)
    run_module(state, caller, call, time, RULES.contract)
    apply_changes(world, state.changes)


def _module_call(module: str, function: str, *values: object) -> ModuleCall:
    types = MODULES[module].functions[function].form.types
    return ModuleCall(MODULES[module].address, Signature(function, types).encode_call(*values))


WORKLOADS: dict[str, Callable[[list[PrivateKey], int, World, random.Random], _Calls]] = {
    "transfer": _transfers(NATIVE),
    "token": _transfers(TOKEN),
    "dispute": _disputes,
    "swap": _swaps(1),
    "swaps": _swaps(64),
    "lending": _loans,
}
"""transfer: of coins. token: of tokens. dispute: closes of channels with two proofs, and their challenges, in turn.
swap: in one pool. swaps: in many. lending: supplies, pledges and loans in one market."""


def make_workload(name: str, accounts: int, count: int, seed: int = 1) -> Workload:
    """Return so many transactions of so many accounts."""
    keys = [PrivateKey(keccak(b"bench account" + number.to_bytes(4, "big"))) for number in range(accounts)]
    world: World = {}
    genesis = Layer(world)
    for key in keys:
        for asset in (NATIVE, TOKEN, OTHER):
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
    envelope = encode_call(call, _AT)
    fields: list[Item] = [RULES.chain_id, nonce, 1, 1, gas_of(call), envelope.to, envelope.value, envelope.data, []]
    digest = keccak(TYPE + encode_item(fields))
    signature = with_recovery_id(digest, key.sign(digest), key.address)
    r, s = (int.from_bytes(signature[begin : begin + 32], "big") for begin in (0, 32))
    return TYPE + encode_item([*fields, signature[64] - 27, r, s])
