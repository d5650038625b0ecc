"""A duty that is due though it was taken on before: it goes on under its nonce, by the time that is left now."""

from __future__ import annotations

import pytest

from tallystick.settlement.chain import RegisterSecretCall
from tallystick.settlement.errors import Refusal
from tallystick.settlement.sending.judging import due_again
from tallystick.settlement.sending.obligations import (
    Attempt,
    Duty,
    Obligation,
    ObligationStatus,
    change,
)
from tallystick.settlement.sending.policy import SendingPolicy

UNDER_WAY = Obligation(
    id="o",
    call=RegisterSecretCall(bytes(32)),
    purpose="a test",
    duty=Duty.REGISTER_SECRET,
    budget=1_000,
    deadline=500,
    status=ObligationStatus.SENT,
    nonce=3,
    attempts=(Attempt(7, hash=b"h" * 32, raw=b"raw"),),
    late_heads=2,
)


def test_what_is_due_as_before_stays_as_it_is() -> None:
    assert due_again(UNDER_WAY, 1_000, 500) is UNDER_WAY
    assert due_again(UNDER_WAY, 1_100, 500) is UNDER_WAY, "a little more is not worth a write"


def test_it_may_cost_more_and_take_as_long_as_is_left_now() -> None:
    again = due_again(UNDER_WAY, 5_000, 900)
    assert (again.budget, again.deadline, again.late_heads) == (5_000, 900, 0)
    assert again.attempts == UNDER_WAY.attempts


def test_what_was_moot_and_is_due_goes_on_under_its_nonce() -> None:
    moot = UNDER_WAY.finish(ObligationStatus.SUPERSEDED, "the close has left the chain")
    again = due_again(moot, 1_000, 900)
    assert (again.status, again.reason, again.nonce, again.deadline) == (ObligationStatus.SENT, "", 3, 900)


def test_what_was_moot_and_is_due_goes_on_in_its_batch() -> None:
    moot = change(UNDER_WAY.finish(ObligationStatus.SUPERSEDED, "moot"), nonce=None, attempts=(), batch="batch:1")
    again = due_again(moot, 5_000, 900)
    assert (again.status, again.batch, again.budget, again.deadline) == (ObligationStatus.SENT, "batch:1", 5_000, 900)


@pytest.mark.parametrize("ended", ({"resting": True}, {"filler": True}, {"far": True}, {"nonce": None}))
def test_what_cannot_be_mined_any_more_does_not_go_on(ended: dict[str, object]) -> None:
    moot = change(UNDER_WAY.finish(ObligationStatus.SUPERSEDED, "moot"), **ended)
    assert due_again(moot, 5_000, 900) is moot
    done = change(UNDER_WAY, status=ObligationStatus.DONE)
    assert due_again(done, 5_000, 900) is done


def test_a_fee_above_the_nodes_cap_ends_nothing_and_says_what_to_do() -> None:
    obligation = UNDER_WAY
    for _ in range(100):
        said = "tx fee (2.00 ether) exceeds the configured cap (1.00 ether)"
        obligation = obligation.refuse(Refusal.FEE_CAPPED, said, SendingPolicy())
    assert obligation.status is ObligationStatus.SENT and not obligation.filler and obligation.refused == 0
    assert "--rpc.txfeecap" in obligation.trouble and obligation.stalled
    assert not obligation.with_attempt_taken().trouble
