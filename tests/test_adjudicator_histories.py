"""The adjudicator before random histories: nothing created, nobody honest worse off, only the guilty convicted.

A history is what two parties could have signed: payments, locks, unlocks and cancellations within capacity, each an
update that the other countersigned, with acknowledgements that may be late or withheld.
"""

from __future__ import annotations

from itertools import product

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.disputes import PERIOD, ChannelFixture, DisputeFixture
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.objects import Address, Lock, SignedProof
from tallystick.settlement.chain import RedeemCall, SettleCall
from tallystick.settlement.contract.state import BPS, ChannelStatus, ChannelStorage, StandingProof
from tallystick.settlement.errors import Revert, Reverted

FIXTURE = ChannelFixture()
TOWER = Address(b"\x77" * 20)
START = 1_000


class Update(msgspec.Struct, frozen=True):
    """One countersigned state of a simplex."""

    seq: int = 0
    transferred: int = 0
    locks: tuple[Lock, ...] = ()
    seen: int = 0

    @property
    def locked(self) -> int:
        return sum(lock.amount for lock in self.locks)

    def signed(self, sender: int) -> SignedProof | None:
        if self.seq == 0:
            return None
        return FIXTURE.proof(sender, self.seq, self.transferred, self.locks, self.seen)


class History(msgspec.Struct):
    """All that both parties ever signed."""

    deposits: tuple[int, int]
    updates: tuple[list[Update], list[Update]]
    acked: list[int]
    """The highest seq of its own simplex for which each writer holds the countersignature."""

    def newest(self, side: int) -> Update:
        return self.updates[side][-1]

    def due(self, side: int) -> int:
        """What a side owns by the newest statements, its own pending locks included."""
        return self.deposits[side] + self.newest(1 - side).transferred - self.newest(side).transferred

    def capacity(self, side: int) -> int:
        return self.due(side) - self.newest(side).locked


Step = tuple[int, str, int]
STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["pay", "lock", "unlock", "cancel", "ack"]), st.integers(1, 60)),
    max_size=14,
)
DEPOSITS = st.tuples(st.integers(0, 100), st.integers(0, 100))


def play(deposits: tuple[int, int], steps: list[Step]) -> History:
    history = History(deposits, ([Update()], [Update()]), [0, 0])
    for side, what, amount in steps:
        last = history.newest(side)
        transferred, locks = last.transferred, last.locks
        amount = min(amount, history.capacity(side))
        if what == "ack":
            history.acked[side] = last.seq
            continue
        if what == "pay" and amount > 0:
            transferred += amount
        elif what == "lock" and amount > 0:
            id = 1 + max((lock.id for lock in locks), default=last.seq)
            locks = (*locks, Lock(id, amount, START + amount * 50, 0, digest_of(id.to_bytes(32, "big"))))
        elif what == "unlock" and locks:
            transferred, locks = transferred + locks[0].amount, locks[1:]
        elif what == "cancel" and locks:
            locks = locks[1:]
        else:
            continue
        history.updates[side].append(Update(last.seq + 1, transferred, locks, history.acked[side]))
    return history


def closed(history: History, pair: tuple[Update, Update]) -> ChannelStorage:
    """A channel whose window is over, with any two of its updates standing."""
    standing = tuple(
        StandingProof(update.seq, update.transferred, update.locked, ZERO if not update.locks else b"\1" * 32)
        for update in pair
    )
    return ChannelStorage(
        FIXTURE.terms,
        history.deposits,
        status=ChannelStatus.CLOSED,
        deadline=START - 1,
        standing=(standing[0], standing[1]),
    )


ZERO = bytes(32)


@given(DEPOSITS, STEPS)
@settings(max_examples=300, deadline=None)
def test_every_pair_of_updates_settles_without_creating_losing_or_going_below_zero(
    deposits: tuple[int, int], steps: list[Step]
) -> None:
    history = play(deposits, steps)
    total = sum(deposits)
    for pair in product(*history.updates):
        dispute = DisputeFixture(FIXTURE, time=START)
        dispute.channel = closed(history, pair)
        dispute.apply(SettleCall(FIXTURE.id))
        nets, pots = (dispute.received(0), dispute.received(1)), dispute.state.pots
        assert sum(nets) + sum(pots) == total
        assert min(*nets, *pots) >= 0
        assert dispute.state.held == sum(pots)
        for side in (0, 1):
            if pair[1 - side] is history.newest(1 - side):
                assert nets[side] + pots[side] >= history.due(side)
            if pair[0] is history.newest(0) and pair[1] is history.newest(1):
                assert nets[side] + pots[side] == history.due(side)
                assert pots[side] == history.newest(side).locked


@given(DEPOSITS, STEPS, st.integers(0, 1), st.integers(0, BPS))
@settings(max_examples=100, deadline=None)
def test_a_conviction_moves_exactly_the_closers_net(
    deposits: tuple[int, int], steps: list[Step], closer: int, reward_bps: int
) -> None:
    history = play(deposits, steps)
    for pair in product(*history.updates):
        free, convicted = (
            DisputeFixture(FIXTURE, time=START),
            DisputeFixture(FIXTURE, time=START, reward_bps=reward_bps),
        )
        free.channel = closed(history, pair)
        convicted.channel = msgspec.structs.replace(
            free.state, convicted=True, closer=closer, beneficiary=TOWER if reward_bps else None
        )
        free.apply(SettleCall(FIXTURE.id))
        convicted.apply(SettleCall(FIXTURE.id))
        loot = free.received(closer)
        assert convicted.received(closer) == 0
        assert convicted.paid[TOWER] == loot * reward_bps // BPS
        assert convicted.received(1 - closer) == free.received(1 - closer) + loot - convicted.paid[TOWER]
        assert convicted.state.pots == free.state.pots


@given(DEPOSITS, STEPS, st.integers(0, 1), st.data())
@settings(max_examples=200, deadline=None)
def test_an_honest_closer_is_never_convicted_by_anything_that_was_ever_signed(
    deposits: tuple[int, int], steps: list[Step], closer: int, data: st.DataObject
) -> None:
    history = play(deposits, steps)
    held: list[Update] = [history.newest(0), history.newest(1)]
    held[closer] = history.updates[closer][history.acked[closer]]
    dispute = DisputeFixture(FIXTURE, time=START)
    dispute.open(*deposits)
    dispute.apply(FIXTURE.close(held[0].signed(0), held[1].signed(1)), closer)
    challenges = [(side, update) for side in (0, 1) for update in history.updates[side][1:]]
    for side, update in data.draw(st.permutations(challenges)):
        try:
            dispute.apply(FIXTURE.challenge(update.signed(side), tower=TOWER, victim=1 - closer), TOWER)
        except Reverted as error:
            assert error.code is Revert.NOT_NEWER
    assert not dispute.state.convicted
    assert dispute.state.standing[closer].seq == history.newest(closer).seq


@given(DEPOSITS, STEPS, st.integers(0, 1), st.data())
@settings(max_examples=200, deadline=None)
def test_only_a_guilty_closer_is_convicted_and_the_victim_with_all_proofs_never_loses(
    deposits: tuple[int, int], steps: list[Step], closer: int, data: st.DataObject
) -> None:
    history = play(deposits, steps)
    victim = 1 - closer
    chosen = [data.draw(st.sampled_from(history.updates[side])) for side in (0, 1)]
    dispute = DisputeFixture(FIXTURE, time=START)
    dispute.open(*deposits)
    dispute.apply(FIXTURE.close(chosen[0].signed(0), chosen[1].signed(1)), closer)
    for side in (0, 1):
        newest = history.newest(side)
        if newest.seq > chosen[side].seq:
            dispute.apply(FIXTURE.challenge(newest.signed(side), tower=TOWER, victim=victim), TOWER)
    hid_incoming = chosen[victim].seq < history.newest(victim).seq
    hid_own = chosen[closer].seq < history.acked[closer]
    proven = hid_incoming or history.newest(closer).seen > chosen[closer].seq
    assert dispute.state.convicted is proven
    assert not proven or hid_incoming or hid_own
    dispute.time += PERIOD + 1
    dispute.apply(SettleCall(FIXTURE.id))
    assert dispute.received(victim) + dispute.state.pots[victim] >= history.due(victim)
    assert sum(dispute.paid.values()) + dispute.state.held == sum(deposits)


@given(DEPOSITS, STEPS, st.lists(st.integers(1, 20), max_size=6), st.lists(st.integers(0, 900), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_redeeming_ends_with_every_unit_paid_out_and_no_matter_when_it_was_done(
    deposits: tuple[int, int], steps: list[Step], secrets: list[int], waits: list[int]
) -> None:
    history = play(deposits, steps)
    results = []
    for pauses in (waits, []):
        dispute = DisputeFixture(FIXTURE, time=START)
        dispute.open(*deposits)
        dispute.apply(FIXTURE.close(history.newest(0).signed(0), history.newest(1).signed(1)))
        for number in secrets:
            dispute.register(number.to_bytes(32, "big"))
        dispute.time += PERIOD + 1
        dispute.apply(SettleCall(FIXTURE.id))
        pending = [list(history.newest(side).locks) for side in (0, 1)]
        for pause in (*pauses, 10_000):
            dispute.time += pause
            for side in (0, 1):
                redeem(dispute, side, pending)
                assert sum(dispute.paid.values()) + dispute.state.held == sum(deposits)
        assert dispute.state.status == ChannelStatus.GONE
        results.append(dispute.paid)
    assert results[0] == results[1]


def redeem(dispute: DisputeFixture, side: int, pending: list[list[Lock]]) -> None:
    """Redeem what is decided of a simplex; `pending` is what remains."""
    if dispute.state.status != ChannelStatus.SETTLED or not dispute.state.pots[side]:
        return
    try:
        dispute.apply(RedeemCall(FIXTURE.id, side, tuple(pending[side])))
    except Reverted as error:
        assert error.code is Revert.NOTHING_TO_REDEEM
        return
    pending[side] = [lock for lock in pending[side] if lock.puzzle not in dispute.kept and dispute.time <= lock.expiry]
