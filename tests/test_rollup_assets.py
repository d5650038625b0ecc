"""Accounts and channels of tokens in a rollup: what is of one asset never pays for another one, on both chains."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from simulation.evm import calldata
from simulation.evm_tokens import code_of
from simulation.rollup_house import Posted, RollupHouse, rebuilt
from simulation.rollup_twins import BOND, FEE, OPERATOR, ORDER_TIME, RICH, WATCHER, WINDOW, Twins, withdrawal
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.rollup.execution import make_batch, replay
from tallystick.settlement.rollup.rules import Statement, digest_exit, digest_transfer
from tallystick.settlement.rollup.state import RollupChannel, RollupState
from tallystick.settlement.rollup.steps import (
    EntryKind,
    NextEntry,
    QueueEntry,
    RollupExit,
    RollupOpen,
    RollupTransfer,
    Step,
)
from tallystick.settlement.testing.token import TOKEN


class Assets:
    """Two users, each with an account of the coin (0, 1) and one of a token (2, 3)."""

    def __init__(self, *steps: Step, code: bytes = TOKEN) -> None:
        self.house = house = RollupHouse(1)
        self.twins = twins = Twins(house)
        assert twins.do(OPERATOR, "bond", value=BOND) is None
        self.token = twins.add_token(code)
        self.owners = [key.address for key in house.keys[:2]]
        for at, owner in enumerate(self.owners):
            entry = QueueEntry(EntryKind.DEPOSIT, at, owner, amount0=1_000)
            assert twins.order(owner, "deposit", entry, owner, value=1_000) is None
        for at, owner in enumerate(self.owners):
            self.deposit(2 + at, owner)
        self.posted = self.post(*[NextEntry()] * 4, *steps)

    def deposit(self, number: int, owner: Address, amount: int = 500) -> None:
        """Let somebody deposit tokens."""
        entry = QueueEntry(EntryKind.DEPOSIT, number, owner, amount0=amount, asset=self.token)
        assert self.twins.order(owner, "depositToken", entry, owner, self.token, amount) is None

    def post(self, *steps: Step) -> Posted:
        """Post a batch of these steps."""
        house, before = self.house, self.house.state
        done = before.head + sum(isinstance(step, NextEntry) for step in steps)
        batch, house.state = make_batch(before, steps, house.place, house.time, done, house.entry)
        assert self.twins.post(batch) is None
        return Posted(batch, (), before, house.state)


def blind(state: RollupState, step: RollupTransfer | RollupOpen) -> RollupState:
    """Return the state after a step, if assets did not matter."""
    payer, payee = (step.opener, step.other) if isinstance(step, RollupOpen) else (step.payer, step.payee)
    amount, after = step.deposit if isinstance(step, RollupOpen) else step.amount, state.copy()
    paying, paid = after.accounts.get(payer), after.accounts.get(payee)
    assert paying is not None and paid is not None
    after.put_account(payer, replace(paying, balance=paying.balance - amount, nonce=paying.nonce + 1))
    if isinstance(step, RollupOpen):
        after.put_channel(step.channel, RollupChannel(payer, payee, amount))
    else:
        after.put_account(payee, replace(paid, balance=paid.balance + amount))
    return after


@pytest.mark.parametrize(
    "step",
    [RollupTransfer(0, 3, 5, 0), RollupTransfer(2, 1, 5, 0), RollupOpen(7, 0, 3, 5, 0), RollupOpen(7, 3, 0, 5, 0)],
)
def test_a_step_over_two_assets_is_convicted(step: RollupTransfer | RollupOpen) -> None:
    assets = Assets()
    house, twins = assets.house, assets.twins
    right = make_batch(house.state, [RollupTransfer(0, 1, 5, 0)], house.place, house.time, 4, house.entry)
    posted = Posted(right[0], (), house.state, right[1])
    wrong = rebuilt(house, posted, 0, step, blind(house.state, step))
    assert wrong is not None and twins.post(wrong) is None
    proof = twins.proof(wrong, 0, posted.before)
    assert twins.do(WATCHER, "convict", 1, list(proof.words)) is None
    twins.check_equal()


def test_a_signature_over_one_asset_does_not_count_for_another_one() -> None:
    steps = (RollupTransfer(2, 3, 5, 0), RollupExit(3, 7, 0))
    assets = Assets(*steps)
    twins, owners, batch = assets.twins, assets.owners, assets.posted.batch
    states = replay(batch, assets.posted.before, assets.house.place, assets.house.entry).states
    for at, step in enumerate(steps, 4):
        assert twins.do(WATCHER, "demand", 0, at, value=FEE) is None
        proof = twins.proof(batch, at, states[at])
        for asset, wanted in ((NATIVE, "bad-signature"), (assets.token, None)):
            signed = {}
            for where, place in twins.places.items():
                if isinstance(step, RollupTransfer):
                    statement = Statement(owners[0], digest_transfer(place, owners[0], owners[1], 5, 0, asset))
                else:
                    statement = Statement(owners[1], digest_exit(place, owners[1], 7, 0, asset))
                signed[where] = (statement,)
            assert twins.do(OPERATOR, "answer", 0, list(proof.words), statements=signed) == wanted
    twins.check_equal()


def test_everybody_takes_out_each_asset_and_no_other() -> None:
    assets = Assets(RollupTransfer(2, 3, 100, 0), RollupTransfer(1, 0, 10, 0))
    house, twins = assets.house, assets.twins
    before = {(owner, asset): twins.balance(owner, asset)[0] for owner in assets.owners for asset in twins.assets}
    for at, (owner, asset) in enumerate((owner, asset) for asset in twins.assets for owner in assets.owners):
        entry = QueueEntry(EntryKind.EXIT, at, owner, asset=asset)
        assert twins.order(owner, "forceExit", entry, asset) is None
    assert twins.do(house.keys[2].address, "forceExit", assets.token) == "not-a-participant"
    assets.post(*[NextEntry()] * 4)
    twins.set_time(house.time + WINDOW + 1)
    for at in range(4):
        assert twins.do(WATCHER, "withdraw", 1, withdrawal(house.state, at)) is None
        assert twins.do(WATCHER, "withdraw", 1, withdrawal(house.state, at)) == "nothing-owed"
    gained = {key: twins.balance(*key)[0] - held for key, held in before.items()}
    first, second = assets.owners
    token = assets.token
    assert gained == {(first, NATIVE): 1_010, (second, NATIVE): 990, (first, token): 400, (second, token): 600}
    assert twins.do(OPERATOR, "unbond") is None, "nobody has anything left"
    twins.check_equal()


def test_a_bond_waits_for_tokens_too_and_pays_nobody_for_their_way_out() -> None:
    assets = Assets()
    house, twins = assets.house, assets.twins
    assets.deposit(2, assets.owners[0], 9)
    twins.set_time(house.time + ORDER_TIME + 1)
    assert twins.do(WATCHER, "freeze") is None
    twins.set_time(house.time + WINDOW + 1)
    owed = twins.number("owed", bytes(12) + WATCHER)
    for at in (2, 3):
        assert twins.do(WATCHER, "escape", withdrawal(house.state, at)) is None
        assert twins.do(WATCHER, "escape", withdrawal(house.state, at)) == "nothing-owed"
    assert twins.number("owed", bytes(12) + WATCHER) == owed
    for at in (0, 1):
        assert twins.do(WATCHER, "escape", withdrawal(house.state, at)) is None
    assert twins.number("owed", bytes(12) + WATCHER) == owed + 2_000
    assert twins.do(OPERATOR, "unbond") == "wrong-status", "a deposit of tokens is not given back yet"
    assert twins.do(WATCHER, "reclaim", 4, list(house.queue[4].words)) is None
    assert twins.do(OPERATOR, "unbond") is None
    twins.check_equal()


def test_a_token_that_does_not_come_whole_or_is_none_is_not_taken() -> None:
    assets = Assets()
    twins, owner = assets.twins, assets.owners[0]
    odd = twins.add_token(code_of("ordinary"))
    twins.evm.send(OPERATOR, odd, calldata("set_fee", ("uint256",), (2,)))
    assert twins.evm_call(owner, "depositToken", owner, odd, 100) == "inexact-transfer"
    assert twins.evm_call(owner, "depositToken", owner, WATCHER, 100) == "bad-terms"
    assert twins.do(owner, "depositToken", owner, NATIVE, 100) == "bad-terms"
    for amount in (0, 2**88):
        assert twins.do(owner, "depositToken", owner, assets.token, amount) == "bad-amount"
    assert twins.do(owner, "depositToken", owner, assets.token, RICH) == "insufficient-balance"
    twins.assets.remove(odd)
    twins.check_equal()


@pytest.mark.parametrize("kind", ["silent", "false", "strict"])
def test_a_token_that_speaks_otherwise_is_taken_and_paid_out(kind: str) -> None:
    assets = Assets(code=code_of(kind))
    house, twins, owner = assets.house, assets.twins, assets.owners[0]
    entry = QueueEntry(EntryKind.EXIT, 2, owner, asset=assets.token)
    assert twins.order(owner, "forceExit", entry, assets.token) is None
    assets.post(NextEntry())
    twins.set_time(house.time + WINDOW + 1)
    if kind == "false":
        twins.evm.send(OPERATOR, assets.token, calldata("block_account", ("address", "bool"), (owner, True)))
        refused = twins.evm_call(WATCHER, "withdraw", 1, withdrawal(house.state, 2))
        assert refused == "transfer-failed"
        twins.evm.send(OPERATOR, assets.token, calldata("block_account", ("address", "bool"), (owner, False)))
    assert twins.do(WATCHER, "withdraw", 1, withdrawal(house.state, 2)) is None
    twins.check_equal()


def test_a_token_that_calls_back_while_it_moves_counts_once() -> None:
    assets = Assets(code=code_of("ordinary"))
    twins, owner, token = assets.twins, assets.owners[0], assets.token
    inner = calldata("deposit_token", ("address", "address", "uint256"), (owner, token, 100))
    twins.evm.send(OPERATOR, token, calldata("set_call", ("address", "bytes"), (twins.at, inner)))
    before = twins.number("held", bytes(32), token)
    twins.evm.send(OPERATOR, token, calldata("approve", ("address", "uint256"), (twins.at, 2**255)))
    assert twins.evm_call(owner, "depositToken", owner, token, 7) is None
    assert twins.number("held", bytes(32), token) == before + 7, "the call from within was refused"
    assert twins.balance(twins.at, token)[1] == before + 7
