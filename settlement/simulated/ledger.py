"""Executing transactions into blocks: nonces, fees, tokens, and the calls of adjudicator and registry.

A failed call changes nothing but the sender's nonce and the fee: the call runs in a layer of its own, which is dropped.
The fee goes to the block's miner, so that no coin is made or lost. A block holds what takes its effects back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import TypeAlias

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address
from tallystick.settlement.chain import (
    ApproveCall,
    Block,
    ClaimCall,
    Claimed,
    Event,
    FailedCall,
    Header,
    LedgerEvent,
    ModuleCall,
    ModuleEvent,
    OpenCall,
    Owed,
    RegistryCall,
    SingleCall,
    TransactionReceipt,
    TransferCall,
)
from tallystick.settlement.contract.adjudicator import CallContext, ChannelCall, Verify, apply, channel_of
from tallystick.settlement.contract.state import ChannelStorage, Parameters
from tallystick.settlement.errors import Revert, Reverted, read_revert
from tallystick.settlement.ethereum.abi import Deployment, Envelope
from tallystick.settlement.ethereum.signatures import verify_signer
from tallystick.settlement.ethereum.transactions import OUTBOX, Reading, Transaction, read_envelope
from tallystick.settlement.execution.prepared import Prepared, prepare
from tallystick.settlement.modules.table import MODULES_AT
from tallystick.settlement.shards.receipts import hash_block, outbox_root
from tallystick.settlement.simulated.crossing import (
    Crossing,
    ParcelArrival,
    check_flow,
    cross,
    is_shard,
    mint_limit,
    minted,
    take_leave,
)
from tallystick.settlement.simulated.module_calls import run_module
from tallystick.settlement.simulated.registry import kept, register, run_court
from tallystick.settlement.simulated.world import (
    Layer,
    allowance_key,
    balance_key,
    channel_key,
    check_conservation,
    count_key,
    deposits_key,
    move,
    nonce_key,
    owed_key,
    refusal_key,
    supply_key,
)

NO_PARENT = ZERO32
"""The parent of the genesis block."""

MINER = Address(keccak(b"tallystick: the account that earns the fees")[12:])
"""Earns the fees of all blocks. Nobody has its key, so fees are out of circulation but accounted for."""


class Execution(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of a transaction in a block."""

    success: bool
    gas: int
    fee: int
    reason: str
    """Empty on success; else `<Revert code>: <sentence>`, as receipts say it on the wire."""
    events: tuple[LedgerEvent, ...]
    failures: tuple[FailedCall, ...] = ()
    """Of a batch: its calls that did nothing."""


class Mint(msgspec.Struct, frozen=True, array_like=True):
    """New coins or tokens for an account: at genesis, and on a development chain at any time."""

    account: Address
    asset: Address
    amount: int


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A transaction in a block, and what came of it."""

    hash: bytes
    raw: bytes
    execution: Execution


class BlockRecord(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A whole block, and what takes its effects back."""

    header: Header
    mints: tuple[Mint, ...]
    entries: tuple[Entry, ...]
    undo: tuple[tuple[bytes, int | ChannelStorage | None], ...]
    crossing: Crossing | None = None
    """Of a shard: what left it, and what came."""

    @cached_property
    def block(self) -> Block:
        """The block as the chain interface shows it: one for all who follow the chain."""
        return Block(self.header, tuple(event for _, _, event in self.logs() if not isinstance(event, ModuleEvent)))

    def logs(self) -> Iterator[tuple[int, bytes, LedgerEvent]]:
        """Yield each event with the index and hash of its transaction."""
        for index, entry in enumerate(self.entries):
            for event in entry.execution.events:
                yield index, entry.hash, event

    def receipts(self) -> Iterator[TransactionReceipt]:
        """Yield the receipt of each transaction."""
        for entry in self.entries:
            done = entry.execution
            revert, sentence = read_revert(done.reason)
            yield TransactionReceipt(entry.hash, self.header, done.success, done.fee, sentence, revert, done.failures)


class Plan(msgspec.Struct, frozen=True):
    """What a block is built from, besides transactions."""

    rules: Parameters
    parent: Header | None
    """None for the genesis block."""
    time: int
    gas_limit: int
    salt: int = 0
    """Tells blocks of different branches apart that are otherwise equal."""


def affordable(state: Layer, transaction: Transaction) -> bool:
    """Whether the sender can pay the fee now. What the call itself takes is the call's business."""
    return state.number(balance_key(NATIVE, transaction.sender)) >= transaction.gas * transaction.price


def execute(
    state: Layer,
    rules: Parameters,
    transaction: Transaction,
    time: int,
    reading: Reading | None = None,
    verify: Verify = verify_signer,
) -> Execution:
    """Run a transaction that is the next of its sender and `affordable`, in a block of `time`.

    `reading` is what its envelope reads as, where somebody has read it before; `verify` does as `verify_signer` does.
    """
    if reading is None:
        reading = read_envelope(transaction.envelope, Deployment(rules.chain_id, rules.contract))
    gas = reading.gas
    fee = gas * transaction.price
    sender = transaction.sender
    state.add(nonce_key(sender), 1)
    move(state, NATIVE, sender, MINER, fee)
    attempt = Layer(state) if type(reading.call) is not TransferCall else state  # that one writes once it cannot fail
    try:
        events, failures = _carry_out(attempt, rules, sender, reading, time, verify)
    except Reverted as error:
        return Execution(False, gas, fee, f"{error.code}: {error}", ())
    if attempt is not state:
        state.changes.update(attempt.changes)
    return Execution(True, gas, fee, "", events, failures)


def mint(state: Layer, rules: Parameters, order: Mint) -> None:
    """Make new units of an asset; raise InvalidInput if there would be too many, or for the adjudicator."""
    if order.amount <= 0 or minted(state, order.asset) + order.amount > mint_limit(state):
        raise InvalidInput("what is minted must be positive, and all of an asset (on all shards) stay below 2**128")
    if {order.account, order.asset} & {rules.contract, *MODULES_AT}:
        raise InvalidInput("the adjudicator and modules are no tokens, and take coins by their functions only")
    state.add(supply_key(order.asset), order.amount)
    state.add(balance_key(order.asset, order.account), order.amount)


_Done: TypeAlias = tuple[tuple[LedgerEvent, ...], tuple[FailedCall, ...]]
"""What was done: its events, and what failed of a batch."""


def _carry_out(state: Layer, rules: Parameters, caller: Address, reading: Reading, time: int, verify: Verify) -> _Done:
    """Do what a transaction carries."""
    call = reading.call
    if isinstance(call, Envelope):
        take_leave(state, rules.contract, caller, call)
        return (), ()
    if isinstance(call, Reverted):
        raise Reverted(call.code, str(call))
    if call is not None:
        return _run(state, rules, caller, call, time, verify), ()
    run = partial(_carry_out, rules=rules, caller=caller, time=time, verify=verify)
    return run_each(state, [partial(run, reading=each) for each in reading.members])


def run_each(state: Layer, members: Iterable[Callable[[Layer], _Done]]) -> _Done:
    """Do each by itself: one that fails does nothing, and stops none."""
    events: list[LedgerEvent] = []
    failures: list[FailedCall] = []
    for index, run in enumerate(members):
        attempt = Layer(state)
        try:
            told, failed = run(attempt)
        except Reverted as error:
            failures.append(FailedCall(index, str(error), error.code))
            continue
        state.changes.update(attempt.changes)
        events += told
        failures += failed
    return tuple(events), tuple(failures)


def _run(
    state: Layer, rules: Parameters, caller: Address, call: SingleCall, time: int, verify: Verify = verify_signer
) -> tuple[LedgerEvent, ...]:
    match call:
        case TransferCall(asset, to, amount):
            if asset != NATIVE:
                _check_token(state, asset)
            if to == rules.contract or to in MODULES_AT:
                raise Reverted(Revert.UNKNOWN_CALL, "the adjudicator and modules take coins by their functions only")
            move(state, asset, caller, to, amount)
            return ()
        case ApproveCall(asset, amount):
            _check_token(state, asset)
            state.put(allowance_key(asset, caller), amount)
            return ()
        case ModuleCall():
            return run_module(state, caller, call, time, rules.contract)
        case ClaimCall():
            return (_claim(state, rules.contract, caller, call),)
        case _ if isinstance(call, RegistryCall):
            return register(state, call, time)
        case RegisterStateCall() | CourtMoveCall():
            return run_court(state, call, time, verify)
        case _:
            return _run_channel_call(state, rules, caller, call, time, verify)


def _run_channel_call(
    state: Layer, rules: Parameters, caller: Address, call: ChannelCall, time: int, verify: Verify
) -> tuple[Event, ...]:
    id = channel_of(call)
    before = state.channel(id)
    outcome = apply(before, call, _situation(state, rules, caller, call, time, verify))
    asset = outcome.channel.terms.asset
    if outcome.taken:
        _take(state, rules.contract, caller, asset, outcome.taken)
    owed: list[Owed] = []
    for payout in outcome.payouts:
        if refuses(state, asset, payout.to):
            state.add(owed_key(asset, payout.to), payout.amount)
            owed.append(Owed(payout.to, asset, payout.amount))
        else:
            move(state, asset, rules.contract, payout.to, payout.amount)
    state.put(channel_key(id), outcome.channel)
    if outcome.outgrown is not None:
        state.put(deposits_key(id, sum(outcome.outgrown)), outcome.outgrown[0] + 1)
    if before is None:
        state.add(count_key(*outcome.channel.terms.participants, asset), 1)
    return (*outcome.events, *owed)


def refuses(state: Layer, asset: Address, account: Address) -> bool:
    """Whether an account refuses to be paid in an asset."""
    return state.number(refusal_key(asset, account)) > 0


def _claim(state: Layer, contract: Address, caller: Address, call: ClaimCall) -> Claimed:
    key = owed_key(call.asset, caller)
    amount = state.number(key)
    if not amount:
        raise Reverted(Revert.NOTHING_OWED, f"nothing of asset 0x{call.asset.hex()} is owed to the caller")
    lost = call.to in (contract, call.asset, NATIVE, *MODULES_AT)  # there it would be nobody's
    if lost or refuses(state, call.asset, call.to):
        why = "nobody could take it out again" if lost else "it, or the token, refuses"
        raise Reverted(Revert.TRANSFER_FAILED, f"what is owed cannot be paid to 0x{call.to.hex()}: {why}")
    state.put(key, 0)
    move(state, call.asset, contract, call.to, amount)
    return Claimed(caller, call.asset, call.to, amount)


def _situation(
    state: Layer, rules: Parameters, caller: Address, call: ChannelCall, time: int, verify: Verify
) -> CallContext:
    count, exists = 0, True
    if isinstance(call, OpenCall):
        count = state.number(count_key(*call.terms.participants, call.terms.asset))
        exists = _exists(state, call.terms.asset)

    def shared(total: int) -> int | None:
        noted = state.number(deposits_key(channel_of(call), total)) if 0 <= total <= AMOUNT_MAX else 0
        return noted - 1 if noted else None

    return CallContext(rules, caller, time, count, exists, partial(kept, state), shared, verify)


def _exists(state: Layer, asset: Address) -> bool:
    return asset == NATIVE or state.number(supply_key(asset)) > 0


def _check_token(state: Layer, asset: Address) -> None:
    if not _exists(state, asset):
        raise Reverted(Revert.UNKNOWN_CALL, f"there is no contract at 0x{asset.hex()}")


def _take(state: Layer, contract: Address, caller: Address, asset: Address, amount: int) -> None:
    """Move a deposit into the contract; tokens need the caller's allowance."""
    if asset != NATIVE:
        key = allowance_key(asset, caller)
        allowed = state.number(key)
        if allowed < amount:
            raise Reverted(
                Revert.INSUFFICIENT_ALLOWANCE, f"the caller allows the adjudicator {allowed} of the {amount} needed"
            )
        state.put(key, allowed - amount)
    move(state, asset, caller, contract, amount)


def build_block(
    state: Layer,
    plan: Plan,
    mints: Sequence[Mint],
    candidates: Iterable[Transaction | Prepared],
    arrivals: Sequence[ParcelArrival] = (),
) -> BlockRecord:
    """Return a block filled from `candidates` in their order; its effects are in `state`, a fresh layer.

    Candidates may look at `state`, to see nonces move on. One that does not fit or whose sender cannot pay its fee is
    left out. Whether somebody has prepared them changes nothing. Of a shard, `arrivals` are executed at the end.
    Raise LedgerBroken if a coin would be made or lost.
    """
    rules, time = plan.rules, plan.time
    at = Deployment(rules.chain_id, rules.contract)
    for order in mints:
        mint(state, rules, order)
    entries: list[Entry] = []
    leaving: list[tuple[Address, Envelope]] = []
    gas = 0
    for candidate in candidates:
        prepared = candidate if isinstance(candidate, Prepared) else prepare(candidate, at)
        transaction, reading = prepared.transaction, prepared.reading
        if gas + reading.gas > plan.gas_limit or not affordable(state, transaction):
            continue
        execution = execute(state, rules, transaction, time, reading, prepared.verify)
        entries.append(Entry(transaction.hash, transaction.raw, execution))
        gas += execution.gas
        if execution.success and transaction.envelope.to == OUTBOX:
            leaving.append((transaction.sender, transaction.envelope))
    crossing = cross(state, plan.rules.contract, plan.time, plan.salt, leaving, arrivals)
    undo = state.before()
    check_conservation(undo, state.changes, rules.contract)
    if is_shard(state):
        check_flow(undo, state.changes, ((order.asset, order.amount) for order in mints))
    header = _header(plan, mints, entries, crossing)
    return BlockRecord(header, tuple(mints), tuple(entries), tuple(undo.items()), crossing)


def next_nonce(state: Layer, account: Address) -> int:
    """Return how many of the account's transactions are in blocks, as seen from `state`."""
    return state.number(nonce_key(account))


def content_of(mints: Iterable[Mint], entries: Iterable[Entry], parcels: Sequence[bytes] = ()) -> bytes:
    """Return what of a block came in from outside, to be hashed."""
    content = b"".join(entry.hash for entry in entries)
    content += b"".join(order.account + order.asset + order.amount.to_bytes(16, "big") for order in mints)
    return content + (b"parcels" + b"".join(keccak(raw) for raw in parcels) if parcels else b"")


def _header(plan: Plan, mints: Sequence[Mint], entries: Sequence[Entry], crossing: Crossing | None) -> Header:
    number = plan.parent.number + 1 if plan.parent else 0
    parent = plan.parent.hash if plan.parent else NO_PARENT
    parcels, pages = (crossing.parcels, crossing.pages) if crossing else ((), ())
    content, outbox = keccak(content_of(mints, entries, parcels)), outbox_root(pages)
    hash = hash_block(parent, plan.rules.chain_id, number, plan.time, plan.salt, content, outbox)
    return Header(number, hash, parent, plan.time)
