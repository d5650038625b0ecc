"""One side of a rollup's channel closes it alone: whoever is honest gets what its newest proofs say, on both chains."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.rollup_house import FAR, Posted, rebuilt
from simulation.rollup_quarrel import INDEX, Numbers, Quarrel
from simulation.rollup_twins import BOND, OPERATOR, WATCHER, WINDOW
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import BalanceProof, SignedProof
from tallystick.settlement.rollup.execution import make_batch, replay
from tallystick.settlement.rollup.leaving import show_channel
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.steps import EntryKind, NextEntry, QueueEntry, RollupClose, RollupFund, Step
from tallystick.settlement.testing.token import TOKEN


class Traffic:
    """Payments of two sides, of which each keeps what the protocol lets it have."""

    def __init__(self, rng: random.Random, deposits: tuple[int, int], count: int) -> None:
        self.sent = [[Numbers(0, 0, 0)], [Numbers(1, 0, 0)]]
        """By sender: all that both have signed, or that the receiver may sign whenever it likes."""
        self.acked = [0, 0]
        """The newest of these that its sender has with both signatures."""
        for _ in range(count):
            side = rng.randrange(2)
            last = self.sent[side][-1]
            capacity = deposits[side] + self.sent[1 - side][-1].transferred - last.transferred
            amount = rng.randint(0, capacity)
            self.sent[side].append(Numbers(side, last.seq + 1, last.transferred + amount, self.acked[side]))
            if rng.random() < 0.7:
                self.acked[side] = last.seq + 1

    def due(self, side: int, deposits: tuple[int, int]) -> int:
        """Return what a side is due at least: as if all that it has sent had arrived."""
        return deposits[side] + self.sent[1 - side][-1].transferred - self.sent[side][-1].transferred

    def held(self, side: int) -> tuple[Numbers | None, Numbers | None]:
        """Return the newest proofs that a side has with both signatures."""
        mine, theirs = self.sent[side][self.acked[side]], self.sent[1 - side][-1]
        pair = (mine, theirs) if side == 0 else (theirs, mine)
        return (pair[0] if pair[0].seq else None, pair[1] if pair[1].seq else None)


def balances(quarrel: Quarrel) -> list[int]:
    """Return what the accounts of both sides hold in the rollup."""
    accounts = [quarrel.state.accounts.get(side) for side in range(2)]
    return [account.balance if account else 0 for account in accounts]


@pytest.mark.parametrize("token", [None, TOKEN], ids=["coin", "token"])
@settings(deadline=None, max_examples=5)
@given(st.integers(0, 2**32))
def test_whatever_the_other_side_and_the_operator_do_an_honest_one_gets_its_due(token: bytes | None, seed: int) -> None:
    rng = random.Random(seed)
    deposits = (rng.randint(0, 10**6), rng.randint(0, 10**6))
    quarrel, traffic = Quarrel(seed, deposits, token), Traffic(rng, deposits, rng.randint(0, 6))
    honest = rng.randrange(2)
    cheater, stands, convicted = 1 - honest, [Numbers(0, 0, 0), Numbers(1, 0, 0)], False
    closer = rng.randrange(2)
    shown: tuple[Numbers | None, ...] = traffic.held(honest)
    if closer == cheater:
        chosen = [rng.choice(each) for each in traffic.sent]
        shown = tuple(each if each.seq else None for each in chosen)
    assert quarrel.close(closer, shown[0], shown[1]) is None
    own = shown[closer]
    own_seq = own.seq if own else 0
    stands = [each or stands[at] for at, each in enumerate(shown)]

    def challenge(numbers: Numbers) -> None:
        nonlocal convicted
        newer = numbers.seq > stands[numbers.sender].seq
        wanted = None if newer else "not-newer"
        assert numbers.seq == 0 or quarrel.challenge(numbers) == wanted
        if newer:
            stands[numbers.sender] = numbers
            convicted = convicted or numbers.sender != closer or numbers.seen > own_seq

    for _ in range(rng.randrange(4)):  # the cheater shows what it likes, and the honest one its newest
        challenge(rng.choice(traffic.sent[rng.randrange(2)]))
    for each in traffic.held(honest):
        if each is not None and each.seq > stands[each.sender].seq:
            challenge(each)
    given = (stands[0].transferred, stands[1].transferred)
    if convicted:
        assert closer == cheater, "nobody is convicted who closed with the newest"
        given = (AMOUNT_MAX, 0) if closer == 0 else (0, AMOUNT_MAX)
    paid = quarrel.settled(given, is_included=rng.random() < 0.5)
    assert sum(paid) == sum(deposits)
    assert paid[honest] >= traffic.due(honest, deposits)
    if convicted:
        assert paid[honest] == sum(deposits)


def test_who_may_close_alone_and_by_what() -> None:
    quarrel = Quarrel(1, (1_000, 500))
    twins, shown = quarrel.twins, show_channel(quarrel.state, INDEX)
    proofs = quarrel.signed(Numbers(0, 3, 200), None)
    assert quarrel.close_by(WATCHER, shown, proofs) == "not-a-participant"
    assert quarrel.close_by(quarrel.sides[0], shown, proofs, 1) == "window-open", "no such batch is final"
    swapped = quarrel.signed(Numbers(0, 3, 200), None, signers=(1, 0))
    assert quarrel.close_by(quarrel.sides[0], shown, swapped) == "bad-signature"
    for signers in ((0, 0), (1, 1)):
        one = quarrel.signed(Numbers(0, 3, 200), None, signers=signers)
        assert quarrel.close_by(quarrel.sides[0], shown, one) == "bad-signature"
    crossed = quarrel.signed(None, Numbers(0, 3, 200))
    assert quarrel.close_by(quarrel.sides[0], shown, crossed) == "bad-signature", "it is the other side's"
    assert quarrel.close(0, Numbers(0, 0, 200), None) == "bad-proof"
    for at in range(len(shown)):
        bent = [*shown[:at], shown[at] + 1, *shown[at + 1 :]]
        assert quarrel.close_by(quarrel.sides[0], bent, proofs) == "bad-proof"
    assert quarrel.close_by(quarrel.sides[0], shown, proofs) is None
    assert quarrel.close_by(quarrel.sides[1], shown, proofs) == "wrong-status"
    assert twins.do(WATCHER, "challengeClose", *quarrel.parties, 2, proofs=quarrel.signed(Numbers(1, 1, 5))) == (
        "not-a-participant"
    )
    assert quarrel.challenge(Numbers(0, 3, 100)) == "not-newer"
    assert quarrel.challenge(Numbers(0, 4, 250, 3)) is None
    twins.set_time(quarrel.house.time + WINDOW)
    assert quarrel.challenge(Numbers(1, 1, 10)) is None, "the deadline itself counts"
    twins.set_time(quarrel.house.time + 1)
    assert quarrel.challenge(Numbers(1, 2, 20)) == "window-over"
    twins.set_time(quarrel.house.time - 1)
    assert quarrel.settled((AMOUNT_MAX, 0)) == (0, 1_500), "a newer one of the other side's convicts"


def test_a_channel_under_another_name_of_the_same_leaf_is_none() -> None:
    quarrel = Quarrel(2, (1_000, 0))
    quarrel.parties = quarrel.parties._replace(channel=INDEX + 2**32)
    shown = show_channel(quarrel.state, INDEX)
    shown[3] += 2**32
    assert quarrel.close_by(quarrel.sides[1], shown, quarrel.signed(None, None)) == "bad-amount"


def test_nobody_closes_a_channel_before_it_is_there_or_as_anothers() -> None:
    quarrel = Quarrel(3, (1_000, 0))
    twins, honest = quarrel.twins, quarrel.parties
    shown = show_channel(quarrel.state, INDEX)
    for parties in (
        honest._replace(channel=8),
        honest._replace(first=honest.second, second=honest.first),
        honest._replace(second=WATCHER),
        honest._replace(asset=twins.add_token()),
    ):
        quarrel.parties = parties
        answer = quarrel.close_by(parties.first, shown, quarrel.signed(None, None))
        assert answer == ("bad-proof" if parties.channel == 8 else "nothing-owed")
    quarrel.parties = honest
    assert quarrel.challenge(Numbers(0, 1, 5)) == "wrong-status" and quarrel.settle() == "wrong-status"
    assert quarrel.close(0, None, None) is None
    assert quarrel.settled((0, 0)) == (1_000, 0)
    assert quarrel.settle() == "wrong-status" and quarrel.close(0, None, None) == "wrong-status"


def test_a_closed_channel_is_not_closed_alone_and_what_both_signed_comes_first() -> None:
    quarrel = Quarrel(4, (1_000, 500))
    house, twins = quarrel.house, quarrel.twins
    before = show_channel(quarrel.state, INDEX)
    quarrel.post(RollupClose(INDEX, 700, FAR))
    twins.set_time(house.time + WINDOW + 1)
    shown = show_channel(quarrel.state, INDEX)
    assert quarrel.close_by(quarrel.sides[0], shown, quarrel.signed(None, None), 1) == "nothing-owed"
    assert quarrel.close_by(quarrel.sides[0], before, quarrel.signed(None, None)) is None, "an older batch has it open"
    twins.set_time(house.time + WINDOW + 1)
    held = balances(quarrel)
    assert quarrel.settle() is None
    house.order(QueueEntry(EntryKind.SETTLE, INDEX, *quarrel.sides))
    quarrel.post(NextEntry())
    assert balances(quarrel) == held
    twins.check_equal()


def test_an_operator_that_settles_otherwise_is_convicted_and_no_other_one() -> None:
    quarrel = Quarrel(5, (1_000, 500))
    house, twins = quarrel.house, quarrel.twins
    assert quarrel.close(1, Numbers(0, 2, 300), None) is None
    twins.set_time(house.time + WINDOW + 1)
    assert quarrel.settle() is None
    house.order(QueueEntry(EntryKind.SETTLE, INDEX, *quarrel.sides, 300, 0))
    before = house.state
    batch, right = make_batch(before, [NextEntry()], house.place, house.time, 3, house.entry)
    posted = Posted(batch, (), before, right)
    for claimed in wrong_ends(right, before):
        bad = rebuilt(house, posted, 0, NextEntry(), claimed)
        assert bad is not None and twins.post(bad) is None
        proof = twins.proof(bad, 0, before)
        assert twins.do(WATCHER, "convict", 1, list(proof.words)) is None
        assert twins.do(OPERATOR, "bond", value=BOND) is None
    assert twins.post(batch) is None
    assert twins.do(WATCHER, "convict", 1, list(twins.proof(batch, 0, before).words)) == "step-right"
    house.state = right
    assert balances(quarrel) == [700, 800]
    twins.check_equal()


def wrong_ends(right: RollupState, before: RollupState) -> Iterator[RollupState]:
    """Yield states in which a channel of 1,000 and 500 whose first side has given 300 is not settled as it must be."""
    for first in (0, 1_000, 699, 701, 1_500):  # as if other proofs stood, or one side were convicted
        made = right.copy()
        for at, balance in enumerate((first, 1_500 - first)):
            account = right.accounts.get(at)
            assert account is not None
            made.put_account(at, replace(account, balance=balance))
        yield made
    made = right.copy()
    channel = before.channels.get(INDEX)
    assert channel is not None
    made.put_channel(INDEX, channel)  # it is paid out, and stays open
    yield made
    yield RollupState(before.accounts, before.channels, right.head, right.done)


def test_each_step_of_a_channel_is_right_on_both() -> None:
    quarrel = Quarrel(9, (1_000, 500))
    quarrel.deposit(1, 70)
    house, twins, before = quarrel.house, quarrel.twins, quarrel.state
    steps: list[Step] = [NextEntry(), RollupFund(INDEX, 1, 60, 1), RollupFund(INDEX, 0, 0, 1)]
    quarrel.post(*steps)
    batch, _ = make_batch(before, steps, house.place, house.time, 3, house.entry)
    for at, state in enumerate(replay(batch, before, house.place, house.entry).states):
        assert twins.do(WATCHER, "convict", 1, list(twins.proof(batch, at, state).words)) == "step-right"
    channel = quarrel.state.channels.get(INDEX)
    assert channel is not None and (channel.total, channel.second_paid) == (1_560, 560)


def test_what_is_closed_alone_while_everything_stands_still_is_paid_out() -> None:
    quarrel = Quarrel(6, (1_000, 500))
    twins = quarrel.twins
    assert twins.do(OPERATOR, "freeze") is None
    assert quarrel.close(0, None, Numbers(1, 1, 400)) is None
    twins.set_time(quarrel.house.time + WINDOW + 1)
    assert quarrel.settle() is None
    entry = QueueEntry(EntryKind.SETTLE, INDEX, *quarrel.sides, 0, 400)
    quarrel.house.order(entry)
    at, shown = len(quarrel.house.queue) - 1, show_channel(quarrel.state, INDEX)
    assert twins.do(WATCHER, "reclaim", at, list(entry.words)) == "bad-proof"
    assert twins.do(WATCHER, "reclaimClose", at, list(entry.words), shown) is None
    assert [twins.number("owed", bytes(12) + side) for side in quarrel.sides] == [1_400, 100]
    twins.check_equal()


def test_a_proof_with_locks_counts_for_nothing() -> None:
    quarrel = Quarrel(7, (1_000, 500))
    place = quarrel.twins.places["ledger"]
    proof = BalanceProof(quarrel.parties.name(place), 0, 1, 5, 7, b"\x01" * 32)
    signatures = [quarrel.house.sign(each) for each in quarrel.parties.statements(place, proof)]
    with pytest.raises(InvalidInput, match="locks"):
        quarrel.parties.check(place, SignedProof(proof, *signatures))
