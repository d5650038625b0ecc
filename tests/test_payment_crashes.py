"""A payment over three hops, and a crash at each effect of each node: made exactly once in the end, as without a crash.

Here the points are thinned out; `make soak` takes every one.
"""

from __future__ import annotations

import msgspec
import pytest

from simulation.crashpoints import Crash
from simulation.journeys import AMOUNT, DEPOSIT, LINE, check_crash, crash_points, make_payment
from tallystick.channels.protocol.objects import Address


def test_the_payment_without_a_crash_costs_what_the_forwarders_ask_for() -> None:
    made = make_payment(None)
    fees = (50, 50)
    assert made.final == (DEPOSIT - AMOUNT - sum(fees), DEPOSIT + fees[0], DEPOSIT + fees[1], AMOUNT)
    assert all(made.effects[name] > 4 for name in LINE)


def test_a_crash_at_any_effect_of_any_node_changes_nothing_in_the_end() -> None:
    expected = make_payment(None)
    for crash in crash_points(expected.effects, every=8):
        check_crash(crash, expected)


def test_a_payment_in_tokens_survives_the_same() -> None:
    token = Address(b"\x70" * 20)
    expected = make_payment(None, asset=token)
    assert expected.final == make_payment(None).final
    for crash in crash_points(expected.effects, every=29):
        check_crash(crash, expected, asset=token)


def test_a_second_crash_in_the_midst_of_recovery_changes_nothing_either() -> None:
    expected = make_payment(None)
    for number, crash in enumerate(crash_points(expected.effects, every=19)):
        check_crash(msgspec.structs.replace(crash, again=number % 6), expected)


@pytest.mark.parametrize("index", [6, 7, 8])
def test_a_payer_that_crashes_with_the_receipt_on_disk_still_records_what_its_locks_paid(index: int) -> None:
    """Nothing is under way in memory then, and an empty list of payments is not the same as nobody who listens."""
    check_crash(Crash("alice", index, after=True), make_payment(None))
