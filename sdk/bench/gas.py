"""`tally bench gas`: what each call of the contract costs on a real node, by the receipts of its transactions.

The contract is deployed anew, so that the pair's first channel is its first. Native coin; every account has coins
before, as else whoever is paid first makes an account.
"""

from __future__ import annotations

import msgspec
import trio
from rich.table import Table

from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import (
    channel_id,
    digest_cooperative_close,
    digest_proof,
    domain_separator,
    locks_root,
)
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, BalanceProof, CooperativeClose, Lock, SignedProof, Terms
from tallystick.contracts import artifact
from tallystick.sdk.bench.evm_node import GAS_MAX, EvmNode, open_evm_node
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.chain import (
    Call,
    ChallengeCall,
    CloseCall,
    CooperativeCloseCall,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
)
from tallystick.settlement.ethereum.abi import Deployment, Envelope, Signature
from tallystick.settlement.ethereum.evm.abi import ChannelContext, HeldLocks, encode_evm_call
from tallystick.settlement.testing.anvil import VERSION, find_anvil, start_anvil

AMOUNT = 10**15
PERIOD = 60
"""Seconds of the channels' challenge window."""
FAR = 2**40 - 1
CLOSE_KEY = keccak(b"the close key of tally bench gas")
REWARD_BPS = 1_000
LOCKS = (1, 10, 483)
BATCH = 100
"""Cooperative closes, or registrations of secrets, in one transaction."""

_BATCH = Signature("batch", ("bytes[]",))


class CallGas(msgspec.Struct, frozen=True):
    """Gas of each call. `open` is the pair's first, `batch_close_each` one of BATCH cooperative closes."""

    open: int
    open_later: int
    deposit: int
    cooperative_close: int
    close: int
    """With two proofs, without locks."""
    challenge: int
    settle: int
    redeem: dict[str, int]
    """By the number of locks."""
    batch_close_each: int


class GasResult(msgspec.Struct, frozen=True):
    """What `tally bench gas` found."""

    client: str
    fork: str
    calls: CallGas

    @property
    def dear(self) -> list[str]:
        """Which calls cost more than they may; none where gas has other prices than the limits are for."""
        return [name for name, used, limit, *_ in _rows(self) if limit is not None and used > limit]


LIMITS = {
    "open, a later one of the pair": 80_000,
    "deposit": 34_000,
    "cooperative close": 58_000,
    "close with two proofs": 76_000,
    "challenge": 48_000,
    "settle": 54_000,
    **{f"redeem, locks: {count}": 50_000 + 4_400 * count for count in LOCKS},
    f"cooperative close, each of {BATCH}": 40_000,
}
"""The most that a call may cost by Osaka's prices."""

SAME_PRICES = ("cancun", "prague", "osaka")
"""Forks by whose rules these calls cost the same."""

OTHERS = {
    "open, the pair's first": ("146,956 with the deposit", "", "328,861"),
    "deposit": ("56,000", "29,408 to 46,496", "93,318"),
    "cooperative close": ("112,270", "111,514", "129,257"),
    "close with two proofs": ("118,501 + 90,516", "113,146", "up to 464,887"),
    "challenge": ("224,262 by a tower", "73,936", ""),
    "settle": ("108,569", "82,026", "80,215"),
    "redeem, locks: 1": ("38,619", "", "8,883"),
}
"""What Raiden's, Nitro's and Celer's own files say of theirs; a call of theirs is not always the same as ours."""


def run_gas(url: str | None) -> GasResult:
    """Measure on the node at `url`, by default on anvil, which is started; raise MeasurementVoid if it is not there."""
    if url is not None:
        return trio.run(measure, url)
    if find_anvil() is None:
        raise MeasurementVoid(
            f"there is no node: name one with --rpc, or npm install --no-save @foundry-rs/anvil@{VERSION}"
        )
    with start_anvil("--hardfork", "osaka") as node:
        return trio.run(measure, node.url)


async def measure(url: str) -> GasResult:
    """Measure on the node at `url`, which must give coins for nothing."""
    async with open_evm_node(url) as node:
        meter = Meter(node)
        await meter.deploy()
        figures = await _agreed(meter)
        figures |= await _alone(meter)
        return GasResult(await node.client(), await node.fork(), msgspec.convert(figures, CallGas))


class Meter:
    """The contract on a node, two parties that sign anything, and a third one who hands in."""

    def __init__(self, node: EvmNode) -> None:
        self.node = node
        keys = sorted((PrivateKey(keccak(b"tally bench gas %d" % at)) for at in (0, 1)), key=lambda key: key.address)
        self.keys = (keys[0], keys[1])
        self.third = PrivateKey(keccak(b"tally bench gas, a third"))
        self.number = 0

    async def deploy(self) -> None:
        """Fill the accounts, and put the contract onto the chain."""
        await self.node.fund(*(key.address for key in (*self.keys, self.third)))
        code = bytes.fromhex(artifact().bytecode.removeprefix("0x")) + REWARD_BPS.to_bytes(32, "big")
        self.at = Deployment(self.node.chain_id, await self.node.create(self.third, code))
        self.domain = domain_separator(*self.at)

    def terms(self) -> Terms:
        """Return the terms of the pair's next channel."""
        participants = (self.keys[0].address, self.keys[1].address)
        self.number += 1
        return Terms(*self.at, participants, NATIVE, self.number - 1, PERIOD, keccak(CLOSE_KEY))

    async def call(self, key: PrivateKey, terms: Terms, call: Call, *held: HeldLocks) -> int:
        """Make a call about a channel; return its gas."""
        return await self.node.send(key, self.envelope(terms, call, *held), GAS_MAX // 4)

    def envelope(self, terms: Terms, call: Call, *held: HeldLocks) -> Envelope:
        """Return what a transaction carries for a call; `held` is of simplex 0."""
        context = ChannelContext(terms, (held[0], HeldLocks())) if held else ChannelContext(terms)
        return encode_evm_call(call, self.at, context)

    async def opened(self, count: int) -> list[Terms]:
        """Return channels that both have paid into."""
        made = [self.terms() for _ in range(count)]
        await self.node.send_all(self.keys[0], [self.envelope(terms, OpenCall(terms, AMOUNT)) for terms in made])
        deposits = [self.envelope(terms, DepositCall(channel_id(terms), 1, AMOUNT)) for terms in made]
        await self.node.send_all(self.keys[1], deposits)
        return made

    async def batch(self, envelopes: list[Envelope]) -> int:
        """Make calls in one transaction; return its gas."""
        data = _BATCH.encode_call([each.data for each in envelopes])
        return await self.node.send(self.third, Envelope(self.at.contract, 0, data), GAS_MAX)

    def close(self, terms: Terms) -> CooperativeCloseCall:
        """Return a close that both have signed, with another division than the deposits'."""
        close = CooperativeClose(channel_id(terms), AMOUNT // 2, AMOUNT + AMOUNT // 2, FAR)
        digest = digest_cooperative_close(self.domain, close)
        return CooperativeCloseCall(close, self.keys[0].sign(digest), self.keys[1].sign(digest))

    def proof(self, terms: Terms, sender: int, seq: int, transferred: int, locks: tuple[Lock, ...] = ()) -> SignedProof:
        """Return a balance proof that both have signed."""
        locked = sum(lock.amount for lock in locks)
        proof = BalanceProof(channel_id(terms), sender, seq, transferred, locked, locks_root(locks), seq - 1)
        digest = digest_proof(self.domain, proof)
        return SignedProof(proof, self.keys[sender].sign(digest), self.keys[1 - sender].sign(digest))


async def _agreed(meter: Meter) -> dict[str, object]:
    """Measure what both agree on."""
    first, later = meter.terms(), meter.terms()
    opener, other = meter.keys
    figures: dict[str, object] = {"open": await meter.call(opener, first, OpenCall(first, AMOUNT))}
    figures["deposit"] = await meter.call(other, first, DepositCall(channel_id(first), 1, AMOUNT))
    figures["open_later"] = await meter.call(opener, later, OpenCall(later, AMOUNT))
    figures["cooperative_close"] = await meter.call(opener, first, meter.close(first))
    closes = [meter.envelope(terms, meter.close(terms)) for terms in await meter.opened(BATCH)]
    figures["batch_close_each"] = await meter.batch(closes) // BATCH
    await _check_closed(meter, BATCH + 2)
    return figures


async def _check_closed(meter: Meter, opened: int) -> None:
    """Raise MeasurementVoid unless the contract holds the coins of one channel alone: in a batch, each may fail."""
    held = int(await meter.node.ask("eth_getBalance", f"0x{meter.at.contract.hex()}", "latest"), 16)
    if held != AMOUNT or meter.number != opened:
        raise MeasurementVoid(f"a close of the batch failed: the contract still holds {held}")


async def _alone(meter: Meter) -> dict[str, object]:
    """Measure what is done without the other's consent."""
    closed, challenged, *locked = await meter.opened(2 + len(LOCKS))
    opener = meter.keys[0]
    figures: dict[str, object] = {}
    for terms in (closed, challenged):
        proofs = meter.proof(terms, 0, 1_000, 10**12), meter.proof(terms, 1, 1_001, 2 * 10**12)
        figures["close"] = await meter.call(opener, terms, CloseCall(channel_id(terms), *proofs, CLOSE_KEY))
    newer = ChallengeCall(meter.proof(challenged, 0, 2_000, 10**12 + 5))
    figures["challenge"] = await meter.call(meter.third, challenged, newer)
    pending: dict[int, tuple[Lock, ...]] = {}
    for count, terms in zip(LOCKS, locked, strict=True):
        secrets = [keccak(b"%d of %d" % (at, count)) for at in range(count)]
        pending[count] = tuple(Lock(at, 10**9 + at, FAR, 0, digest_of(secret)) for at, secret in enumerate(secrets))
        proof = meter.proof(terms, 0, 1_000, 10**12, pending[count])
        await meter.call(opener, terms, CloseCall(channel_id(terms), proof, None, CLOSE_KEY))
        calls = [meter.envelope(terms, RegisterSecretCall(secret)) for secret in secrets]
        for begin in range(0, count, BATCH):
            await meter.batch(calls[begin : begin + BATCH])
    await meter.node.pass_time(meter.third, PERIOD + 1)
    figures["settle"] = await meter.call(meter.third, closed, SettleCall(channel_id(closed)))
    redeems = figures["redeem"] = {}
    for count, terms in zip(LOCKS, locked, strict=True):
        locks = pending[count]
        held = HeldLocks(sum(lock.amount for lock in locks), locks_root(locks))
        await meter.call(meter.third, terms, SettleCall(channel_id(terms)), held)
        redeems[str(count)] = await meter.call(meter.third, terms, RedeemCall(channel_id(terms), 0, locks), held)
    return figures


def _rows(result: GasResult) -> list[tuple[str, int, int | None, str, str, str]]:
    """Return of each call its name, gas, limit, and what it costs elsewhere."""
    calls = result.calls
    limits = LIMITS if result.fork in SAME_PRICES else {}
    figures = {
        "open, the pair's first": calls.open,
        "open, a later one of the pair": calls.open_later,
        "deposit": calls.deposit,
        "cooperative close": calls.cooperative_close,
        f"cooperative close, each of {BATCH}": calls.batch_close_each,
        "close with two proofs": calls.close,
        "challenge": calls.challenge,
        "settle": calls.settle,
        **{f"redeem, locks: {count}": used for count, used in calls.redeem.items()},
    }
    return [(name, used, limits.get(name), *OTHERS.get(name, ("", "", ""))) for name, used in figures.items()]


def gas_table(result: GasResult) -> Table:
    """Return the table of a `tally bench gas`."""
    caption = "native coin, by receipts; Raiden, Nitro and Celer as their own files say, whose calls are not quite ours"
    rows = Table(title=f"gas of each call: {result.client}, {result.fork}", caption=caption)
    rows.add_column("call")
    for heading in ("gas", "limit", "Raiden", "Nitro", "Celer"):
        rows.add_column(heading, justify="right")
    for name, used, limit, *others in _rows(result):
        rows.add_row(name, f"{used:,}", "" if limit is None else f"{limit:,}", *others)
    return rows
