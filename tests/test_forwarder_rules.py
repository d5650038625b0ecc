"""The forwarder's rules, one by one: which way a lock goes on, and what each thing that happens to it leads to."""

from __future__ import annotations

import msgspec
import pytest

from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.router.codes import Code
from tallystick.router.forwarding.forwarder import (
    Circuit,
    ClaimLock,
    CloseCircuit,
    Forwarder,
    ForwardingLimits,
    ForwardOutcome,
    KeepReason,
    OutboundChannel,
    Readiness,
    ReleaseLock,
    choose,
)
from tallystick.router.objects import MARGIN_MAX, ForwardingPolicy
from tallystick.router.onion.failures import Failure, wrap
from tallystick.router.onion.payload import ForwardPayload

IN, OUT, TWIN, ELSE = (ChannelId(bytes([n]) * 32) for n in range(4))
PAYER, PEER = b"payer", b"peer"
NOW, EXPIRY = 10_000, 20_000
LIMITS = ForwardingLimits()
POLICY = ForwardingPolicy(base_fee=5, fee_ppm=0, minimum=100, maximum=10_000, margin=40)
LOCK = Lock(7, 1_005, EXPIRY, HASH, bytes(32))
ORDER = ForwardPayload(1_000, EXPIRY, OUT)


def outbound(channel: ChannelId = OUT, peer: bytes = PEER, **changes: object) -> OutboundChannel:
    plain = OutboundChannel(channel, peer, NATIVE, POLICY, Readiness.OPEN, 5_000, 9)
    return msgspec.structs.replace(plain, **changes)


ORIGIN = outbound(IN, PAYER)


def go(*outlets: OutboundChannel, lock: Lock = LOCK, order: ForwardPayload = ORDER, now: int = NOW) -> ChannelId | Code:
    found = choose(lock, IN, order, [ORIGIN, *outlets], now, LIMITS)
    return found.channel if isinstance(found, OutboundChannel) else found.code


# --- which way --------------------------------------------------------------------------------------------------


def test_the_named_channel_is_taken_if_it_can_carry_it_to_the_last_unit() -> None:
    assert go(outbound(spendable=1_000, slots=1), outbound(TWIN)) == OUT
    assert go(outbound(spendable=999)) == Code.TEMPORARY_CHANNEL_FAILURE
    assert go(outbound(slots=0)) == Code.TEMPORARY_CHANNEL_FAILURE


def test_else_the_one_with_the_same_peer_that_it_fills_best() -> None:
    twins = outbound(TWIN, spendable=3_000), outbound(ELSE, spendable=2_000)
    assert go(outbound(spendable=0), *twins) == ELSE
    assert go(outbound(slots=0), *twins) == ELSE
    assert go(outbound(way=Readiness.OFFLINE), *twins) == ELSE
    assert go(outbound(spendable=0), outbound(TWIN, b"another")) == Code.TEMPORARY_CHANNEL_FAILURE
    assert go(outbound(spendable=0), outbound(TWIN, asset=Address(b"t" * 20))) == Code.TEMPORARY_CHANNEL_FAILURE


def test_an_asset_never_becomes_another_one_on_its_way() -> None:
    assert go(outbound(asset=Address(b"t" * 20))) == Code.UNKNOWN_NEXT_PEER
    assert go() == Code.UNKNOWN_NEXT_PEER


def test_it_says_whether_waiting_could_help() -> None:
    assert go(outbound(way=Readiness.CLOSING)) == Code.PERMANENT_CHANNEL_FAILURE
    assert go(outbound(way=Readiness.CLOSING), outbound(TWIN, way=Readiness.OFFLINE)) == Code.CHANNEL_DISABLED
    assert go(outbound(way=Readiness.CLOSING), outbound(TWIN, spendable=0)) == Code.TEMPORARY_CHANNEL_FAILURE


def test_nothing_goes_back_where_it_came_from_though_another_channel_with_that_peer_may_carry_it() -> None:
    order = msgspec.structs.replace(ORDER, channel=IN)
    assert go(order=order) == Code.TEMPORARY_CHANNEL_FAILURE
    assert go(outbound(TWIN, PAYER), order=order) == TWIN


@pytest.mark.parametrize(
    ("amount", "taken", "expected"),
    [
        (100, 105, OUT),
        (99, 104, Code.AMOUNT_BELOW_MINIMUM),
        (5_000, 5_004, Code.FEE_INSUFFICIENT),
        (5_000, 5_005, OUT),
        (10_001, 10_006, Code.TEMPORARY_CHANNEL_FAILURE),
    ],
)
def test_amounts_and_fees_are_held_to_the_policy_to_the_last_unit(
    amount: int, taken: int, expected: ChannelId | Code
) -> None:
    lock = msgspec.structs.replace(LOCK, amount=taken)
    order = msgspec.structs.replace(ORDER, amount=amount)
    assert go(outbound(spendable=20_000), lock=lock, order=order) == expected


@pytest.mark.parametrize(
    ("margin", "expiry", "lock_expiry", "expected"),
    [
        (40, NOW + 300, NOW + 300, OUT),
        (40, NOW + 299, NOW + 340, Code.EXPIRY_TOO_SOON),
        (40, NOW + 301, NOW + 300, Code.INCORRECT_EXPIRY),
        (400, NOW + 400, NOW + 400, OUT),
        (400, NOW + 399, NOW + 399, Code.EXPIRY_TOO_SOON),
        (MARGIN_MAX, NOW + MARGIN_MAX, NOW + MARGIN_MAX, OUT),
        (0, NOW + 300, NOW + LIMITS.expiry_max, OUT),
        (0, NOW + 300, NOW + LIMITS.expiry_max + 1, Code.EXPIRY_TOO_FAR),
    ],
)
def test_times_are_held_to_the_policy_to_the_second(
    margin: int, expiry: int, lock_expiry: int, expected: ChannelId | Code
) -> None:
    lock, policy = msgspec.structs.replace(LOCK, expiry=lock_expiry), msgspec.structs.replace(POLICY, margin=margin)
    assert go(outbound(policy=policy), lock=lock, order=msgspec.structs.replace(ORDER, expiry=expiry)) == expected


def test_a_channel_that_is_switched_off_carries_nothing_whatever_its_twins_do() -> None:
    off = msgspec.structs.replace(POLICY, enabled=False)
    assert go(outbound(policy=off), outbound(TWIN)) == Code.CHANNEL_DISABLED


# --- what follows -----------------------------------------------------------------------------------------------

SECRET, ONION = b"s" * 32, b"o" * 32
CIRCUIT = Circuit(IN, 7, OUT, 3, 1_005, 1_000, EXPIRY, ONION, NOW)
REASON = b"r" * 292
"""As long as a failure from behind us is."""


def told(secret: bytes, failure: Failure) -> bytes:
    return failure.code.name.encode()


def forwarder(*, reason: bytes = b"") -> Forwarder:
    made = Forwarder(told)
    made.resume([(CIRCUIT, reason)])
    return made


def release(reason: bytes) -> ReleaseLock:
    return ReleaseLock(IN, 7, reason)


CLAIM = ClaimLock(IN, 7, SECRET)
PAID, FAILED, EXPIRED, LOST = (CloseCircuit(CIRCUIT, outcome) for outcome in ForwardOutcome)
TEMPORARY = release(b"TEMPORARY_CHANNEL_FAILURE")


def never(channel: ChannelId) -> bool:
    return False


def test_a_secret_claims_once_and_its_end_is_told_once() -> None:
    made = forwarder()
    assert made.on_secret_learned(OUT, 3, SECRET) == (CLAIM,)
    assert made.on_secret_learned(OUT, 3, SECRET) == ()
    assert made.on_ended(OUT, 3, SECRET) == (PAID,)
    assert made.on_ended(OUT, 3, SECRET) == () and len(made) == 0 and made.of_origin(IN, 7) is None
    assert forwarder().on_ended(OUT, 3, SECRET) == (CLAIM, PAID), "even if the secret is new with the end"


def test_what_was_claimed_is_never_released() -> None:
    made = forwarder()
    made.on_secret_learned(OUT, 3, SECRET)
    assert made.on_time(EXPIRY + 1, never) == []
    assert made.on_ended(OUT, 3, b"") == (PAID,), "agreed to be cancelled, and paid by the chain"
    made = forwarder()
    made.on_secret_learned(OUT, 3, SECRET)
    assert made.on_time(NOW, lambda channel: True) == [PAID] and len(made) == 0


def test_an_expired_lock_is_released_once_in_the_second_after_its_last() -> None:
    made = forwarder()
    assert made.on_time(EXPIRY, never) == []
    assert made.on_time(EXPIRY + 1, never) == [TEMPORARY]
    assert made.on_time(EXPIRY + 2, never) == []
    assert made.on_ended(OUT, 3, b"") == (EXPIRED,)


def test_a_reject_releases_when_it_is_agreed_and_with_the_reason_from_behind() -> None:
    made = forwarder()
    assert made.on_rejected(OUT, 3, REASON) == (KeepReason(CIRCUIT, REASON),)
    assert made.on_time(EXPIRY, never) == []
    assert made.on_ended(OUT, 3, b"") == (release(wrap(ONION, REASON)), FAILED)
    assert forwarder(reason=REASON).on_ended(OUT, 3, b"") == (release(wrap(ONION, REASON)), FAILED), "across a restart"


def test_a_channel_that_is_gone_ends_what_went_through_it_and_no_other_does() -> None:
    made = forwarder()
    assert made.on_time(NOW, lambda channel: channel == IN) == []
    gone = made.on_time(NOW, lambda channel: channel == OUT)
    assert gone == [release(b"PERMANENT_CHANNEL_FAILURE"), EXPIRED] and len(made) == 0
    late = forwarder()
    late.on_time(EXPIRY + 1, never)
    assert late.on_time(EXPIRY + 2, lambda channel: True) == [EXPIRED], "it was released before"


def test_what_was_never_signed_never_was() -> None:
    made = forwarder()
    assert made.on_dropped(OUT, 3) == (release(b"CHANNEL_DISABLED"),)
    assert len(made) == 0 and not made.holds(OUT, 3) and made.of_origin(IN, 7) is None
    assert made.on_dropped(OUT, 3) == () and made.on_secret_learned(OUT, 3, SECRET) == ()


def test_an_incoming_lock_that_was_paid_ends_it_and_one_that_is_not_there_is_a_loss() -> None:
    made = forwarder()
    assert made.on_incoming_paid(IN, 7) == (PAID,)
    assert made.on_incoming_paid(IN, 7) == () and len(made) == 0
    made = forwarder()
    made.on_secret_learned(OUT, 3, SECRET)
    assert made.on_incoming_lost(CIRCUIT) == (LOST,)
    assert made.on_incoming_lost(CIRCUIT) == () and len(made) == 0
