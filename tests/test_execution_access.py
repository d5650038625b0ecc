"""What transactions read and write is recorded whole: those that share nothing may change places."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.protocol.objects import NATIVE
from tallystick.sdk.bench.ledger_workloads import BLOCK_TIME, RULES, WORKLOADS, make_workload
from tallystick.settlement.ethereum.transactions import Transaction, decode_transaction
from tallystick.settlement.simulated.access import FEES, Access, RecordingLayer, contention
from tallystick.settlement.simulated.ledger import Entry, Plan, build_block
from tallystick.settlement.simulated.world import Layer, World, balance_key, nonce_key

PLAN = Plan(RULES, None, BLOCK_TIME, 10**12)


def executed(world: World, transactions: list[Transaction]) -> tuple[dict[bytes, object], dict[bytes, Entry]]:
    state = Layer(world)
    record = build_block(state, PLAN, (), transactions)
    return {**world, **state.changes}, {entry.hash: entry for entry in record.entries}


def recorded(world: World, transactions: list[Transaction]) -> RecordingLayer:
    state = RecordingLayer(world)
    plain = Layer(world)
    assert build_block(state, PLAN, (), state.each(transactions)) == build_block(plain, PLAN, (), transactions)
    assert list(state.changes.items()) == list(plain.changes.items())
    assert len(state.accesses) == len(transactions)
    return state


@pytest.mark.parametrize("name", WORKLOADS)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_transactions_that_share_nothing_may_change_places(name: str, data: st.DataObject) -> None:
    workload = make_workload(name, 12, 24, data.draw(st.integers(0, 3)))
    transactions = [decode_transaction(raw, 1337) for raw in workload.raws]
    accesses = recorded(workload.world, transactions).accesses
    free = [at for at in range(23) if accesses[at].is_disjoint(accesses[at + 1])]
    bound = [at for at in range(23) if transactions[at].sender == transactions[at + 1].sender]
    assert not set(free) & set(bound), "an account's own are numbered"
    if free:
        at = data.draw(st.sampled_from(free))
        turned = [*transactions[:at], transactions[at + 1], transactions[at], *transactions[at + 2 :]]
        assert executed(workload.world, turned) == executed(workload.world, transactions)


@pytest.mark.parametrize("name", WORKLOADS)
def test_nothing_else_decides_what_a_transaction_does(name: str) -> None:
    """Of a state in which all that it did not read is gone, it makes the same."""
    workload = make_workload(name, 6, 10)
    world: World = dict(workload.world)
    for raw in workload.raws:
        transaction = decode_transaction(raw, 1337)
        access = recorded(world, [transaction]).accesses[0]
        needed = {key: value for key, value in world.items() if key in access.reads}
        state, alone = Layer(world), Layer(needed)
        whole, part = build_block(state, PLAN, (), [transaction]), build_block(alone, PLAN, (), [transaction])
        assert whole.entries == part.entries and state.changes == alone.changes
        assert set(state.changes) == access.writes
        for key, value in state.changes.items():
            world[key] = value  # type: ignore[assignment]
            if value is None:
                del world[key]


def test_transfers_between_two_wait_for_each_other_and_between_many_they_need_not() -> None:
    found = {}
    for accounts in (2, 1_000):
        workload = make_workload("transfer", accounts, 60)
        state = recorded(workload.world, [decode_transaction(raw, 1337) for raw in workload.raws])
        payer = decode_transaction(workload.raws[0], 1337)
        assert state.accesses[0].reads == {
            nonce_key(payer.sender),
            balance_key(NATIVE, payer.sender),
            balance_key(NATIVE, payer.envelope.to),
            *FEES,
        }
        assert state.accesses[0].reads == state.accesses[0].writes
        found[accounts] = contention(state.accesses)
        assert contention(state.accesses, ()).longest == 60, "all add to the fees"
    assert found[2] == (59 / 60, 60)
    assert found[1_000].longest < 6 and found[1_000].dependent < 0.3


def test_contention_counts_what_is_read_after_it_was_written() -> None:
    a, b, c = b"a", b"b", b"c"
    row = [Access({a}, {a}), Access({b}, {b}), Access({a, b}, {c}), Access({c}, set()), Access(set(), {a})]
    assert contention(row, ()) == (2 / 5, 3)
    assert contention(row, {a, b}) == (1 / 5, 2)
    assert contention([], ()) == (0, 0)
    assert not Access({a}, set()).is_disjoint(Access(set(), {a}), ()) and Access({a}, set()).is_disjoint(row[1], ())
    assert Access({a}, {b}).is_disjoint(Access({a}, {c}), ()) and not Access({a}, {b}).is_disjoint(
        Access(set(), {b}), ()
    )
