"""Executing one transaction: nonce, fee, tokens, and the calls of adjudicator and registry.

A failed call changes nothing but the sender's nonce and the fee: the call runs in a layer of its own, which is dropped.
The fee goes to the block's miner, so that no coin is made or lost. Nothing here knows of blocks or time passing.
"""

from __future__ import annotations

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import NATIVE, Address, Puzzle
from tallystick.settlement.chain import ApproveCall, Call, Event, OpenCall, RegistryCall, TransferCall
from tallystick.settlement.contract import verdicts
from tallystick.settlement.contract.adjudicator import CallContext, ChannelCall, apply, channel_of
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.contract.verdicts import verdict_for
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.abi import Deployment, decode_call
from tallystick.settlement.ethereum.transactions import Transaction, gas_needed
from tallystick.settlement.simulated.world import (
    Layer,
    allowance_key,
    balance_key,
    channel_key,
    count_key,
    deposits_key,
    nonce_key,
    supply_key,
)


class Execution(msgspec.Struct, frozen=True, array_like=True):
    """What came of a transaction in a block."""

    success: bool
    gas: int
    fee: int
    reason: str
    """Empty on success; else `<Revert code>: <sentence>`, as receipts say it on the wire."""
    events: tuple[Event, ...]


class Mint(msgspec.Struct, frozen=True, array_like=True):
    """New coins or tokens for an account: at genesis, and on a development chain at any time."""

    account: Address
    asset: Address
    amount: int


def affordable(state: Layer, transaction: Transaction) -> bool:
    """Whether the sender can pay the fee now. What the call itself takes is the call's business."""
    return state.number(balance_key(NATIVE, transaction.sender)) >= transaction.gas * transaction.price


def execute(state: Layer, rules: Parameters, transaction: Transaction, time: int, miner: Address) -> Execution:
    """Run a transaction that is the next of its sender and `affordable`, in a block of `time`."""
    at = Deployment(rules.chain_id, rules.contract)
    gas = gas_needed(transaction.envelope, at)
    fee = gas * transaction.price
    state.add(nonce_key(transaction.sender), 1)
    _move(state, NATIVE, transaction.sender, miner, fee)
    attempt = Layer(state)
    try:
        events = _run(attempt, rules, transaction.sender, decode_call(transaction.envelope, at), time)
    except Reverted as error:
        return Execution(False, gas, fee, f"{error.code}: {error}", ())
    state.changes.update(attempt.changes)
    return Execution(True, gas, fee, "", events)


def mint(state: Layer, rules: Parameters, order: Mint) -> None:
    """Make new units of an asset; raise InvalidInput if there would be too many, or for the adjudicator."""
    if order.amount <= 0 or state.number(supply_key(order.asset)) + order.amount > AMOUNT_MAX:
        raise InvalidInput("what is minted must be positive, and all of an asset must stay below 2**128")
    if rules.contract in (order.account, order.asset):
        raise InvalidInput("the adjudicator is no token, and takes coins through deposits only")
    state.add(supply_key(order.asset), order.amount)
    state.add(balance_key(order.asset, order.account), order.amount)


def _run(state: Layer, rules: Parameters, caller: Address, call: Call, time: int) -> tuple[Event, ...]:
    match call:
        case TransferCall(asset, to, amount):
            _check_token(state, asset)
            if to == rules.contract:
                raise Reverted(Revert.UNKNOWN_CALL, "the adjudicator takes coins through deposits only")
            _move(state, asset, caller, to, amount)
            return ()
        case ApproveCall(asset, amount):
            _check_token(state, asset)
            state.put(allowance_key(asset, caller), amount)
            return ()
        case _ if isinstance(call, RegistryCall):
            verdict = verdict_for(call)
            done = verdict.register(call, lambda condition: state.number(verdict.slot(condition)), time)
            state.put(verdict.slot(done.condition), done.kept)
            return (done.event,)
        case _:
            return _run_channel_call(state, rules, caller, call, time)


def _run_channel_call(
    state: Layer, rules: Parameters, caller: Address, call: ChannelCall, time: int
) -> tuple[Event, ...]:
    id = channel_of(call)
    before = state.channel(id)
    outcome = apply(before, call, _situation(state, rules, caller, call, time))
    asset = outcome.channel.terms.asset
    if outcome.taken:
        _take(state, rules.contract, caller, asset, outcome.taken)
    for payout in outcome.payouts:
        _move(state, asset, rules.contract, payout.to, payout.amount)
    state.put(channel_key(id), outcome.channel)
    if outcome.outgrown is not None:
        state.put(deposits_key(id, sum(outcome.outgrown)), outcome.outgrown[0] + 1)
    if before is None:
        state.add(count_key(*outcome.channel.terms.participants, asset), 1)
    return outcome.events


def _situation(state: Layer, rules: Parameters, caller: Address, call: ChannelCall, time: int) -> CallContext:
    count, exists = 0, True
    if isinstance(call, OpenCall):
        count = state.number(count_key(*call.terms.participants, call.terms.asset))
        exists = _exists(state, call.terms.asset)

    def kept(puzzle: Puzzle) -> int:
        kind, condition = puzzle
        verdict = verdicts.VERDICTS.find(kind)
        return state.number(verdict.slot(condition)) if verdict is not None else 0

    def shared(total: int) -> int | None:
        noted = state.number(deposits_key(channel_of(call), total)) if 0 <= total <= AMOUNT_MAX else 0
        return noted - 1 if noted else None

    return CallContext(rules, caller, time, count, exists, kept, shared)


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
    _move(state, asset, caller, contract, amount)


def _move(state: Layer, asset: Address, payer: Address, payee: Address, amount: int) -> None:
    held = state.number(balance_key(asset, payer))
    if held < amount:
        raise Reverted(Revert.INSUFFICIENT_BALANCE, f"0x{payer.hex()} holds {held} of the {amount} needed")
    state.add(balance_key(asset, payer), -amount)
    state.add(balance_key(asset, payee), amount)
