"""The payee takes all parts of a payment or none, and nothing that it did not ask for."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.protocol.conditions import HASH as KIND
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.router.onion.payload import FinalLock, FinalPayload
from tallystick.router.receiving.payee import (
    Claimable,
    ClaimPayment,
    HoldPayment,
    PartRefusal,
    Payee,
    PayeeOptions,
    RefusePart,
)

HASH, SECRET, WORD = b"h" * 32, b"s" * 32, b"w" * 32
CHANNEL = ChannelId(b"c" * 32)
WANTED = Claimable(SECRET, WORD, amount=100)
NOW = 1_000
PATIENCE = PayeeOptions(parts=60, claim=180)


def part(
    lock: int,
    amount: int = 100,
    *,
    total: int = 100,
    word: bytes = WORD,
    expiry: int = NOW + 3_600,
    told: tuple[int, int] | None = None,
    digest: bytes = HASH,
) -> FinalLock:
    """A lock that holds so much until then; `told`: what the payer says that it should."""
    said = FinalPayload(*(told or (amount, 0)), word, total)
    return FinalLock(CHANNEL, Lock(lock, amount, expiry, KIND, digest), said, b"o" * 32)


def test_a_whole_payment_is_claimed_at_once() -> None:
    payee = Payee(PATIENCE)
    assert payee.on_arrived(part(0), WANTED, NOW) == [ClaimPayment(HASH, SECRET, (part(0),))]
    assert len(payee) == 0


def test_parts_are_claimed_together_and_only_together() -> None:
    payee = Payee(PATIENCE)
    assert payee.on_arrived(part(0, 60), WANTED, NOW) == []
    assert payee.on_arrived(part(0, 60), WANTED, NOW) == []  # presented again
    (claim,) = payee.on_arrived(part(1, 40), WANTED, NOW)
    assert isinstance(claim, ClaimPayment) and [each.lock.id for each in claim.parts] == [0, 1]


def test_what_does_not_belong_is_refused_alone() -> None:
    payee = Payee(PATIENCE)
    assert payee.on_arrived(part(0, 60), WANTED, NOW) == []
    for wrong, verdict in [
        (part(1, 40, word=b"x" * 32), PartRefusal.WRONG_SECRET),
        (part(2, 40, total=101), PartRefusal.SUPERFLUOUS),
        (part(3, 40, expiry=NOW + 179), PartRefusal.TOO_SOON),
        (part(4, 39, told=(40, 0)), PartRefusal.TAMPERED),
        (part(5, 40, told=(40, NOW + 3_601)), PartRefusal.TAMPERED),
    ]:
        assert payee.on_arrived(wrong, WANTED, NOW) == [RefusePart(wrong, verdict)]
    assert payee.on_arrived(part(6, digest=b"?" * 32), None, NOW) == [
        RefusePart(part(6, digest=b"?" * 32), PartRefusal.UNWANTED)
    ]
    (claim,) = payee.on_arrived(part(7, 40), WANTED, NOW)
    assert isinstance(claim, ClaimPayment)


def test_too_little_and_far_too_much_are_refused() -> None:
    payee = Payee(PATIENCE)
    for total in (99, 201):
        wrong = part(0, total, total=total)
        assert payee.on_arrived(wrong, WANTED, NOW) == [RefusePart(wrong, PartRefusal.WRONG_AMOUNT)]
    assert isinstance(payee.on_arrived(part(1, 200, total=200), WANTED, NOW)[0], ClaimPayment)


def test_an_invoice_that_expired_takes_no_new_payment() -> None:
    late = Claimable(SECRET, WORD, amount=100, expires=NOW - 1)
    assert Payee(PATIENCE).on_arrived(part(0), late, NOW) == [RefusePart(part(0), PartRefusal.EXPIRED)]


def test_an_incomplete_payment_is_let_go_after_a_while() -> None:
    payee = Payee(PATIENCE)
    payee.on_arrived(part(0, 60), WANTED, NOW)
    assert payee.on_time(NOW + 60) == []
    assert payee.on_time(NOW + 61) == [RefusePart(part(0, 60), PartRefusal.INCOMPLETE)]
    assert len(payee) == 0


def test_an_incomplete_payment_that_nears_its_expiry_is_incomplete_and_not_unwanted() -> None:
    expiry = NOW + PATIENCE.claim
    soon = NOW + PATIENCE.claim // 2 + 1
    patient = Payee(msgspec.structs.replace(PATIENCE, parts=PATIENCE.claim))
    patient.on_arrived(part(0, 60, expiry=expiry), WANTED, NOW)
    assert patient.on_time(soon) == [RefusePart(part(0, 60, expiry=expiry), PartRefusal.INCOMPLETE)]


def test_a_held_payment_waits_for_its_secret_and_can_be_cancelled() -> None:
    payee = Payee(PATIENCE)
    hold = Claimable(b"", WORD, amount=100, hold=True)
    assert payee.on_arrived(part(0), hold, NOW) == [HoldPayment(HASH, (part(0),))]
    assert payee.on_time(NOW + 600) == [] and payee.held_payments == {HASH: 100}
    assert payee.settle(HASH, SECRET, NOW) == ClaimPayment(HASH, SECRET, (part(0),))
    assert payee.settle(HASH, SECRET, NOW) is None

    payee.on_arrived(part(1), hold, NOW)
    assert payee.cancel(HASH) == [RefusePart(part(1), PartRefusal.UNWANTED)]


def test_a_held_payment_is_let_go_before_its_locks_cannot_be_claimed_safely() -> None:
    payee = Payee(PATIENCE)
    payee.on_arrived(part(0), Claimable(b"", WORD, amount=100, hold=True), NOW)
    assert payee.on_time(NOW + 3_600 - 90) == []
    assert payee.settle(HASH, SECRET, NOW + 3_600 - 89) is None
    assert payee.on_time(NOW + 3_600 - 89) == [RefusePart(part(0), PartRefusal.TOO_SOON)]


def test_what_was_pending_before_a_restart_came_in_time() -> None:
    late = Claimable(b"", WORD, amount=100, hold=True, expires=NOW - 1)
    near = NOW + PATIENCE.claim // 2
    for expiry in (NOW + 3_600, near):
        before = msgspec.structs.replace(part(0, expiry=expiry), again=True)
        assert Payee(PATIENCE).on_arrived(before, late, NOW) == [HoldPayment(HASH, (before,))]
    too_near = msgspec.structs.replace(part(0, expiry=near - 1), again=True)
    assert Payee(PATIENCE).on_arrived(too_near, late, NOW) == [RefusePart(too_near, PartRefusal.TOO_SOON)]


def test_a_held_payment_that_loses_a_part_is_not_settled() -> None:
    payee = Payee(PATIENCE)
    hold = Claimable(b"", WORD, amount=100, hold=True)
    payee.on_arrived(part(0, 60), hold, NOW)
    payee.on_arrived(part(1, 40), hold, NOW)
    assert payee.on_gone(CHANNEL, part(1, 40).lock) == part(1, 40)
    assert payee.on_gone(CHANNEL, part(1, 40).lock) is None
    assert payee.settle(HASH, SECRET, NOW) is None
    payee.on_gone(CHANNEL, part(0).lock)
    assert len(payee) == 0


def test_no_more_payments_are_gathered_than_the_limit() -> None:
    payee, other = Payee(PATIENCE, limit=1), part(1, 60, digest=b"i" * 32)
    payee.on_arrived(part(0, 60), WANTED, NOW)
    assert payee.on_arrived(other, WANTED, NOW) == [RefusePart(other, PartRefusal.TOO_MANY)]


@given(
    amounts=st.lists(st.integers(1, 100), min_size=1, max_size=8),
    gaps=st.lists(st.integers(0, 30), min_size=8, max_size=8),
)
def test_every_part_is_answered_once_and_claims_are_whole(amounts: list[int], gaps: list[int]) -> None:
    payee = Payee(PATIENCE)
    total = sum(amounts)
    wanted = Claimable(SECRET, WORD, amount=total)
    answered: list[int] = []
    now = NOW
    for lock, amount in enumerate(amounts):
        now += gaps[lock]
        for answer in payee.on_time(now) + payee.on_arrived(part(lock, amount, total=total), wanted, now):
            if isinstance(answer, ClaimPayment):
                assert sum(each.lock.amount for each in answer.parts) >= total
                answered += [each.lock.id for each in answer.parts]
            elif isinstance(answer, RefusePart):
                answered.append(answer.part.lock.id)
    answered += [answer.part.lock.id for answer in payee.on_time(now + 61) if isinstance(answer, RefusePart)]
    assert sorted(answered) == list(range(len(amounts)))
