"""The adjudicator's rules, one by one: what each call does, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from simulation.disputes import CLOSE_KEY, PERIOD, ChannelFixture, DisputeFixture
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, CHALLENGE_PERIOD_MAX
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import locks_root
from tallystick.channels.protocol.keys import HALF_ORDER
from tallystick.channels.protocol.objects import ZERO32, Address, BalanceProof, Lock, SignedProof
from tallystick.settlement.chain import (
    ChallengeCall,
    Challenged,
    CloseCall,
    Closed,
    CooperativelyClosed,
    DepositCall,
    OpenCall,
    RedeemCall,
    Redeemed,
    RegisterSecretCall,
    SettleCall,
    Settled,
)
from tallystick.settlement.contract.adjudicator import ChannelCall
from tallystick.settlement.contract.state import ChannelStatus, Parameters, view
from tallystick.settlement.contract.verdicts.hash_lock import HashVerdict
from tallystick.settlement.errors import Revert, Reverted

FIXTURE = ChannelFixture()
TOWER = Address(b"\x77" * 20)
SECRET = b"s" * 32


def dispute(deposit0: int = 100, deposit1: int = 50) -> DisputeFixture:
    made = DisputeFixture(FIXTURE)
    made.open(deposit0, deposit1)
    return made


def lock(id: int, amount: int, expiry: int = 5_000, kind: int = 0, secret: bytes = SECRET) -> Lock:
    return Lock(id, amount, expiry, kind, digest_of(secret))


def refused(dispute: DisputeFixture, call: ChannelCall, code: Revert, by: int | Address = 0) -> None:
    before = dispute.channel
    with pytest.raises(Reverted) as caught:
        dispute.apply(call, by)
    assert caught.value.code is code, str(caught.value)
    assert dispute.channel == before


# --- open, deposit, withdraw, cooperative close -----------------------------------------------------------------


def test_open_takes_the_callers_deposit_for_its_own_side() -> None:
    dispute = DisputeFixture(FIXTURE)
    events = dispute.apply(OpenCall(FIXTURE.terms, 7), 1)
    assert dispute.state.deposits == (0, 7) and dispute.taken == 7
    assert [type(event).__name__ for event in events] == ["ChannelOpened", "Deposited"]
    refused(dispute, OpenCall(FIXTURE.terms, 7), Revert.CHANNEL_EXISTS)


def test_open_without_a_deposit_has_no_deposit_event() -> None:
    assert len(DisputeFixture(FIXTURE).apply(OpenCall(FIXTURE.terms, 0))) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"chain_id": 1}, Revert.BAD_TERMS),
        ({"contract": TOWER}, Revert.BAD_TERMS),
        ({"challenge_period": 0}, Revert.BAD_TERMS),
        ({"challenge_period": CHALLENGE_PERIOD_MAX + 1}, Revert.BAD_TERMS),
        ({"number": 1}, Revert.WRONG_NUMBER),
        ({"participants": (Address(b"\1" * 20), Address(b"\2" * 20))}, Revert.NOT_A_PARTICIPANT),
        ({"participants": tuple(sorted((FIXTURE.address(0), FIXTURE.terms.contract)))}, Revert.BAD_TERMS),
    ],
)
def test_open_refuses_wrong_terms(change: dict[str, object], code: Revert) -> None:
    refused(DisputeFixture(FIXTURE), OpenCall(msgspec.structs.replace(FIXTURE.terms, **change), 1), code)


def test_open_refuses_an_asset_that_does_not_exist() -> None:
    dispute = DisputeFixture(FIXTURE)
    dispute.asset_exists = False
    refused(dispute, OpenCall(FIXTURE.terms, 1), Revert.BAD_TERMS)


def test_anyone_may_deposit_for_either_side() -> None:
    made = dispute()
    made.apply(DepositCall(FIXTURE.id, 1, 5), TOWER)
    assert made.state.deposits == (100, 55) and made.taken == 155


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (DepositCall(FIXTURE.id, 2, 5), Revert.NOT_A_PARTICIPANT),
        (DepositCall(FIXTURE.id, 0, 0), Revert.BAD_AMOUNT),
        (DepositCall(FIXTURE.id, 0, AMOUNT_MAX), Revert.BAD_AMOUNT),
        (DepositCall(FIXTURE.id, 0, 5, TOWER), Revert.BAD_TERMS),
    ],
)
def test_deposit_refuses(call: DepositCall, code: Revert) -> None:
    refused(dispute(), call, code)


def test_withdrawals_are_cumulative_and_may_exceed_the_own_deposit() -> None:
    made = dispute()
    made.apply(FIXTURE.withdrawal(1, 60, made.time), TOWER)
    assert made.received(1) == 60 and made.state.withdrawn == (0, 60) and made.state.total == 90
    refused(made, FIXTURE.withdrawal(1, 60, made.time), Revert.BAD_AMOUNT)
    made.apply(FIXTURE.withdrawal(1, 61, made.time))
    assert made.received(1) == 61
    refused(made, FIXTURE.withdrawal(1, 151, made.time), Revert.BAD_AMOUNT)
    refused(made, FIXTURE.withdrawal(0, 90, made.time), Revert.BAD_AMOUNT)
    made.apply(FIXTURE.withdrawal(0, 80, made.time))
    refused(made, FIXTURE.withdrawal(0, 90, made.time), Revert.BAD_AMOUNT)
    made.apply(FIXTURE.withdrawal(0, 89, made.time))
    assert made.state.held == 0


def test_withdraw_refuses_what_is_expired_too_much_or_not_signed_by_both() -> None:
    made = dispute()
    refused(made, FIXTURE.withdrawal(0, 1, made.time - 1), Revert.EXPIRED)
    refused(made, FIXTURE.withdrawal(0, 151, made.time), Revert.BAD_AMOUNT)
    refused(made, FIXTURE.withdrawal(2, 1, made.time), Revert.NOT_A_PARTICIPANT)
    good = FIXTURE.withdrawal(0, 1, made.time)
    refused(made, msgspec.structs.replace(good, signature1=good.signature0), Revert.BAD_SIGNATURE)
    refused(made, msgspec.structs.replace(good, signature0=b""), Revert.BAD_SIGNATURE)


def test_a_high_s_signature_is_refused() -> None:
    made = dispute()
    good = FIXTURE.withdrawal(0, 1, made.time)
    s = int.from_bytes(good.signature0[32:], "big")
    assert s <= HALF_ORDER
    order = 2 * HALF_ORDER + 1
    malleated = good.signature0[:32] + (order - s).to_bytes(32, "big")
    refused(made, msgspec.structs.replace(good, signature0=malleated), Revert.BAD_SIGNATURE)


def test_a_cheater_cannot_escape_with_a_cooperative_close_that_was_signed_before() -> None:
    made = dispute()
    offer = FIXTURE.cooperative_close(30, 120, made.time + PERIOD)
    made.apply(FIXTURE.close(), 0)
    refused(made, offer, Revert.WRONG_STATUS)
    made.apply(FIXTURE.challenge(FIXTURE.proof(1, 1)), 1)
    refused(made, offer, Revert.WRONG_STATUS)


def test_cooperative_close_pays_exactly_what_both_signed() -> None:
    made = dispute()
    assert made.apply(FIXTURE.cooperative_close(30, 120, made.time), TOWER) == (
        CooperativelyClosed(FIXTURE.id, 30, 120),
    )
    assert (made.received(0), made.received(1)) == (30, 120)
    assert made.state.status == ChannelStatus.GONE and made.state.held == 0


def test_cooperative_close_refuses_another_sum_and_a_late_block() -> None:
    made = dispute()
    refused(made, FIXTURE.cooperative_close(30, 119, made.time), Revert.BAD_BALANCES)
    refused(made, FIXTURE.cooperative_close(30, 121, made.time), Revert.BAD_BALANCES)
    refused(made, FIXTURE.cooperative_close(30, 120, made.time - 1), Revert.EXPIRED)
    good = FIXTURE.cooperative_close(30, 120, made.time)
    refused(made, msgspec.structs.replace(good, signature0=good.signature1), Revert.BAD_SIGNATURE)


# --- status -----------------------------------------------------------------------------------------------------

CALLS: dict[str, tuple[Callable[[], ChannelCall], set[ChannelStatus]]] = {
    "deposit": (lambda: DepositCall(FIXTURE.id, 0, 1), {ChannelStatus.OPEN}),
    "withdraw": (lambda: FIXTURE.withdrawal(0, 1, 10_000), {ChannelStatus.OPEN}),
    "cooperative_close": (lambda: FIXTURE.cooperative_close(0, 0, 10_000), {ChannelStatus.OPEN}),
    "close": (FIXTURE.close, {ChannelStatus.OPEN}),
    "challenge": (lambda: FIXTURE.challenge(FIXTURE.proof(0, 1)), {ChannelStatus.CLOSED}),
    "settle": (lambda: SettleCall(FIXTURE.id), {ChannelStatus.CLOSED}),
    "redeem": (lambda: RedeemCall(FIXTURE.id, 0, ()), {ChannelStatus.SETTLED}),
}


@pytest.mark.parametrize("status", list(ChannelStatus))
@pytest.mark.parametrize("name", list(CALLS))
def test_a_call_is_refused_for_its_status_exactly_where_the_table_says_so(name: str, status: ChannelStatus) -> None:
    make, allowed = CALLS[name]
    made = dispute()
    made.channel = msgspec.structs.replace(made.state, status=status)
    try:
        made.apply(make())
        code = None
    except Reverted as error:
        code = error.code
    assert (code is Revert.WRONG_STATUS) == (status not in allowed)


@pytest.mark.parametrize("name", list(CALLS))
def test_a_channel_that_was_never_opened_is_unknown(name: str) -> None:
    refused(DisputeFixture(FIXTURE), CALLS[name][0](), Revert.UNKNOWN_CHANNEL)


# --- close and challenge ----------------------------------------------------------------------------------------


def test_close_starts_the_window_and_stores_what_stands() -> None:
    made = dispute()
    (event,) = made.apply(FIXTURE.close(None, FIXTURE.proof(1, 3, 20)), 1)
    assert event == Closed(FIXTURE.id, 1, 0, 3, CLOSE_KEY, made.time + PERIOD)
    assert made.state.own_seq == 3
    shown = view(made.state)
    assert (shown.closer, shown.deadline, shown.seqs) == (1, made.time + PERIOD, (0, 3))


def test_close_refuses_strangers_wrong_keys_and_wrong_proofs() -> None:
    made = dispute()
    refused(made, FIXTURE.close(), Revert.NOT_A_PARTICIPANT, TOWER)
    refused(made, CloseCall(FIXTURE.id, None, None, bytes(32)), Revert.BAD_CLOSE_KEY)
    refused(made, CloseCall(FIXTURE.id, None, None, b""), Revert.BAD_CLOSE_KEY)
    refused(made, FIXTURE.close(FIXTURE.proof(1, 1)), Revert.BAD_PROOF)
    refused(made, FIXTURE.close(FIXTURE.proof(0, 0)), Revert.BAD_PROOF)
    other = ChannelFixture(chain_id=7)
    refused(made, FIXTURE.close(other.proof(0, 1)), Revert.BAD_PROOF)
    refused(made, FIXTURE.close(other.sign(BalanceProof(FIXTURE.id, 0, 1))), Revert.BAD_SIGNATURE)
    good = FIXTURE.proof(0, 1)
    for change in (
        {"countersignature": good.signature},
        {"signature": bytes(64)},
        {"signature": b"\xff" * 32 + bytes(32)},
    ):
        refused(made, FIXTURE.close(msgspec.structs.replace(good, **change)), Revert.BAD_SIGNATURE)


def test_challenges_count_up_to_the_deadline_and_settling_begins_after_it() -> None:
    made = dispute()
    made.apply(FIXTURE.close())
    made.time += PERIOD
    refused(made, SettleCall(FIXTURE.id), Revert.WINDOW_OPEN)
    made.apply(FIXTURE.challenge(FIXTURE.proof(0, 1)), TOWER)
    made.time += 1
    refused(made, FIXTURE.challenge(FIXTURE.proof(0, 2)), Revert.WINDOW_OVER)
    made.apply(SettleCall(FIXTURE.id), TOWER)
    assert made.state.status == ChannelStatus.GONE


def test_only_a_strictly_higher_seq_replaces() -> None:
    made = dispute()
    made.apply(FIXTURE.close(FIXTURE.proof(0, 5)))
    refused(made, FIXTURE.challenge(FIXTURE.proof(0, 5, 1)), Revert.NOT_NEWER)
    refused(made, FIXTURE.challenge(FIXTURE.proof(0, 4)), Revert.NOT_NEWER)
    refused(made, FIXTURE.challenge(SignedProof(BalanceProof(FIXTURE.id, 2, 9), b"", b"")), Revert.NOT_A_PARTICIPANT)
    good = FIXTURE.proof(0, 6)
    refused(made, ChallengeCall(msgspec.structs.replace(good, signature=b"")), Revert.BAD_SIGNATURE)
    (event,) = made.apply(FIXTURE.challenge(good), TOWER)
    assert event == Challenged(FIXTURE.id, 0, 6, TOWER, convicts=False)


def test_rule_1_a_newer_proof_of_the_victims_simplex_convicts_the_closer() -> None:
    made = dispute()
    made.apply(FIXTURE.close(FIXTURE.proof(0, 5), FIXTURE.proof(1, 2)), 0)
    (event,) = made.apply(FIXTURE.challenge(FIXTURE.proof(1, 3)), 1)
    assert isinstance(event, Challenged) and event.convicts and made.state.convicted


@pytest.mark.parametrize(("seen", "convicts"), [(4, False), (5, False), (6, True)])
def test_rule_2_compares_seen_with_what_the_closer_closed_with(seen: int, convicts: bool) -> None:
    made = dispute()
    made.apply(FIXTURE.close(FIXTURE.proof(0, 5)), 0)
    made.apply(FIXTURE.challenge(FIXTURE.proof(0, 8, seen=5)), 1)
    assert not made.state.convicted
    made.apply(FIXTURE.challenge(FIXTURE.proof(0, 9, seen=seen)), 1)
    assert made.state.convicted is convicts


def test_the_first_convictions_beneficiary_stands() -> None:
    made = dispute()
    made.apply(FIXTURE.close(), 0)
    made.apply(FIXTURE.challenge(FIXTURE.proof(1, 1, 5), tower=TOWER, victim=1), TOWER)
    made.apply(FIXTURE.challenge(FIXTURE.proof(1, 2, 5), tower=Address(b"\x78" * 20), victim=1), TOWER)
    assert made.state.beneficiary == TOWER


def test_a_voucher_of_a_challenge_that_does_not_convict_earns_nothing() -> None:
    made = dispute()
    made.apply(FIXTURE.close(), 0)
    made.apply(FIXTURE.challenge(FIXTURE.proof(0, 1), tower=TOWER, victim=1), TOWER)
    assert made.state.beneficiary is None


def test_a_voucher_must_be_the_victims_for_this_channel_and_not_for_the_contract() -> None:
    made = dispute()
    made.apply(FIXTURE.close(), 0)
    newer = FIXTURE.proof(1, 1)
    refused(made, FIXTURE.challenge(newer, tower=TOWER, victim=0), Revert.BAD_SIGNATURE)
    refused(made, FIXTURE.challenge(newer, tower=FIXTURE.terms.contract, victim=1), Revert.BAD_PROOF)
    elsewhere = msgspec.structs.replace(FIXTURE.challenge(newer, tower=TOWER, victim=1).voucher, channel=ZERO32)
    refused(made, ChallengeCall(newer, elsewhere, bytes(64)), Revert.BAD_PROOF)


# --- settle and redeem ------------------------------------------------------------------------------------------


def settled(made: DisputeFixture, proof0: SignedProof | None, proof1: SignedProof | None, closer: int = 0) -> Settled:
    made.apply(FIXTURE.close(proof0, proof1), closer)
    made.time += PERIOD + 1
    (event,) = made.apply(SettleCall(FIXTURE.id), TOWER)
    assert isinstance(event, Settled)
    return event


def test_settle_pays_nets_and_holds_pots_back() -> None:
    made = dispute()
    event = settled(made, FIXTURE.proof(0, 1, 30, [lock(1, 20)]), FIXTURE.proof(1, 1, 10, [lock(1, 5)]))
    assert event == Settled(FIXTURE.id, 60, 65, 0, 20, 5, False)
    assert made.state.status == ChannelStatus.SETTLED and made.state.held == 25


def test_on_conviction_the_closers_net_goes_to_the_victim_less_the_towers_reward() -> None:
    made = dispute()
    made.apply(FIXTURE.close(FIXTURE.proof(0, 1, 30, [lock(1, 15)])), 0)
    made.apply(FIXTURE.challenge(FIXTURE.proof(1, 1, 4), tower=TOWER, victim=1), TOWER)
    made.time += PERIOD + 1
    (event,) = made.apply(SettleCall(FIXTURE.id))
    assert isinstance(event, Settled)
    net = 100 + 4 - 30 - 15
    reward = net // 10
    assert (event.net0, event.net1, event.reward, event.pot0) == (0, 150 - 15 - reward, reward, 15)
    assert made.paid == {FIXTURE.address(1): event.net1, TOWER: reward}


def test_on_conviction_without_a_voucher_all_goes_to_the_victim() -> None:
    made = dispute()
    made.apply(FIXTURE.close(), 1)
    made.apply(FIXTURE.challenge(FIXTURE.proof(0, 1, 4)), 0)
    made.time += PERIOD + 1
    made.apply(SettleCall(FIXTURE.id))
    assert made.paid == {FIXTURE.address(0): 150}


def test_redeem_pays_refunds_and_keeps_each_lock_by_its_condition() -> None:
    made = dispute()
    locks = (
        lock(1, 10, expiry=made.time + 50),
        lock(2, 11, expiry=made.time + 5, secret=b"x" * 32),
        lock(3, 12, expiry=made.time + 10_000, secret=b"y" * 32),
    )
    made.time += 50
    made.register(SECRET)
    settled(made, FIXTURE.proof(0, 1, 0, locks), None)
    (event,) = made.apply(RedeemCall(FIXTURE.id, 0, locks), TOWER)
    assert isinstance(event, Redeemed) and (event.paid, event.refunded) == (10, 11)
    assert made.state.pots == (12, 0) and made.state.standing[0].root == event.root != ZERO32
    refused(made, RedeemCall(FIXTURE.id, 0, locks), Revert.BAD_LOCKS)
    refused(made, RedeemCall(FIXTURE.id, 0, locks[2:]), Revert.NOTHING_TO_REDEEM)
    refused(made, RedeemCall(FIXTURE.id, 1, ()), Revert.NOTHING_TO_REDEEM)
    refused(made, RedeemCall(FIXTURE.id, 2, ()), Revert.NOT_A_PARTICIPANT)
    made.time += 10_001
    made.apply(RedeemCall(FIXTURE.id, 0, locks[2:]), TOWER)
    assert made.state.status == ChannelStatus.GONE
    assert (made.received(0), made.received(1)) == (90, 60)


def test_a_secret_registered_after_the_expiry_does_not_pay() -> None:
    made = dispute()
    pending = (lock(1, 10, expiry=made.time + 1),)
    made.time += 2
    made.register(SECRET)
    settled(made, FIXTURE.proof(0, 1, 0, pending), None)
    made.apply(RedeemCall(FIXTURE.id, 0, pending))
    assert (made.received(0), made.received(1)) == (100, 50)


def test_at_its_expiry_a_lock_still_waits() -> None:
    made = dispute()
    pending = (lock(1, 10, expiry=made.time + PERIOD + 1),)
    settled(made, FIXTURE.proof(0, 1, 0, pending), None)
    refused(made, RedeemCall(FIXTURE.id, 0, pending), Revert.NOTHING_TO_REDEEM)
    made.time += 1
    made.apply(RedeemCall(FIXTURE.id, 0, pending))
    assert made.received(0) == 100


def test_a_lock_of_an_unknown_kind_falls_back_to_its_sender_after_its_expiry() -> None:
    made = dispute()
    pending = (lock(1, 10, expiry=made.time + PERIOD + 1, kind=9),)
    made.register(SECRET)
    settled(made, FIXTURE.proof(0, 1, 0, pending), None)
    refused(made, RedeemCall(FIXTURE.id, 0, pending), Revert.NOTHING_TO_REDEEM)
    made.time += 1
    made.apply(RedeemCall(FIXTURE.id, 0, pending))
    assert (made.received(0), made.received(1)) == (100, 50)


def test_a_pot_smaller_than_its_locks_pays_in_order_of_id_whenever_they_are_redeemed() -> None:
    locks = (lock(1, 60, expiry=9_000), lock(2, 60, expiry=9_000, secret=b"x" * 32))
    results = []
    for wait in (0, 10_000):
        made = dispute(100, 0)
        made.register(b"x" * 32)
        settled(made, FIXTURE.proof(0, 1, 20, locks), None)
        assert made.state.pots == (80, 0)
        if not wait:
            made.apply(RedeemCall(FIXTURE.id, 0, locks))
            assert made.state.pots == (60, 0)
        made.time += 10_000
        made.apply(RedeemCall(FIXTURE.id, 0, locks[:1] if not wait else locks))
        results.append((made.received(0), made.received(1), made.state.status))
    assert results[0] == results[1] == (60, 40, ChannelStatus.GONE)


def test_what_a_pot_has_beyond_its_locks_goes_back_with_the_last_of_them() -> None:
    made = dispute()
    locks = (lock(1, 10, expiry=made.time), lock(2, 20, expiry=made.time + 2 * PERIOD))
    settled(made, FIXTURE.sign(BalanceProof(FIXTURE.id, 0, 1, 0, 40, locks_root(locks))), None)
    made.apply(RedeemCall(FIXTURE.id, 0, locks))
    assert made.state.pots == (30, 0)
    made.time += 2 * PERIOD
    made.apply(RedeemCall(FIXTURE.id, 0, locks[1:]))
    assert (made.received(0), made.received(1), made.state.status) == (100, 50, ChannelStatus.GONE)


def test_a_pot_without_locks_goes_back_to_its_sender() -> None:
    made = dispute()
    settled(made, FIXTURE.sign(BalanceProof(FIXTURE.id, 0, 1, 0, 40)), None)
    made.apply(RedeemCall(FIXTURE.id, 0, ()))
    assert (made.received(0), made.received(1), made.state.status) == (100, 50, ChannelStatus.GONE)


# --- registry and parameters ------------------------------------------------------------------------------------


def test_a_secret_is_registered_once_and_has_32_bytes() -> None:
    verdict = HashVerdict()
    assert verdict.register(RegisterSecretCall(SECRET), lambda digest: 0, 5).kept == 5
    with pytest.raises(Reverted) as again:
        verdict.register(RegisterSecretCall(SECRET), lambda digest: 5, 6)
    assert again.value.code is Revert.ALREADY_REGISTERED
    with pytest.raises(Reverted):
        verdict.register(RegisterSecretCall(b"short"), lambda digest: 0, 5)


def test_the_reward_is_a_part_of_the_whole() -> None:
    with pytest.raises(InvalidInput):
        Parameters(1, FIXTURE.terms.contract, 10_001)
