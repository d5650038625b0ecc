"""An honest tower is never slashed, whatever its clients and their peers do, both in league included; one that sleeps
is, whenever it broke a promise, while the cover lasts. On both chains at once, by random histories.

Who is guilty is worked out here from what happened, and not from what any contract keeps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm_twins import STRANGER
from simulation.tower_twins import HONEST, SLEEPY, TowerTwins
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.settlement.chain import SettleCall
from tallystick.settlement.modules.covers import TowerCover

STEP = 200
"""Seconds after which a tower that is awake looks at the chain: half of the time that it says to take."""

BOND = 1_000
SIDES = st.integers(0, 1)
TOWERS = st.sampled_from([HONEST, SLEEPY])


class Promised(NamedTuple):
    """A promise that a tower has signed."""

    key: PrivateKey
    cover: TowerCover
    since: int
    seqs: tuple[int, int]


class Dispute(msgspec.Struct):
    """What happened to a channel since it was closed alone."""

    closer: int
    closed: int
    seqs: list[int]


class TowersMachine(RuleBasedStateMachine):
    """See above."""

    promises: Bundle[Promised] = Bundle("promises")
    covers: Bundle[TowerCover] = Bundle("covers")

    def __init__(self) -> None:
        super().__init__()
        self.twins = TowerTwins()
        self.at: dict[bytes, ChannelFixture] = {}
        self.disputes: dict[bytes, Dispute] = {}
        self.holds: dict[tuple[bytes, bytes], list[int]] = {}
        """The newest proofs that a tower has of a channel, by its address and the channel."""
        self.apart: dict[bytes, dict[TowerCover, int]] = {HONEST.address: {}, SLEEPY.address: {}}
        """Covers that are set apart, with their ends."""
        self.bonds = {HONEST.address: BOND, SLEEPY.address: BOND}
        self.made: list[Promised] = []
        for address in self.bonds:
            assert self.twins.do(address, "bond", BOND, value=BOND) == ""
        self.open()

    @precondition(lambda self: len(self.at) < 3)
    @rule()
    def open(self) -> None:
        fixture = self.twins.channel_fixture()
        self.at[fixture.id] = fixture

    def _newest(self, data: Any) -> ChannelFixture:
        return data.draw(st.sampled_from(list(self.at.values())))

    @rule(
        target=covers,
        data=st.data(),
        key=TOWERS,
        side=SIDES,
        amount=st.sampled_from([1, 300, 700]),
        lasts=st.sampled_from([100, 2_000, 50_000]),
        price=st.sampled_from([0, 3]),
    )
    def reserve(self, data: Any, key: PrivateKey, side: int, amount: int, lasts: int, price: int) -> TowerCover:
        fixture, now = self._newest(data), self.twins.time
        changes = {"amount": amount, "until": now + lasts, "price": price, "response": 2 * STEP}
        cover = self.twins.cover(fixture, key, side, **changes)
        free = self.bonds[key.address] - sum(each.amount for each in self.apart[key.address])
        said = self.twins.reserve(fixture, cover, key=key)
        if cover not in self.apart[key.address]:
            assert (said == "") == (fixture.id not in self.disputes and amount <= free)
        if not said:
            self.apart[key.address][cover] = now + lasts + PERIOD + 7 * 86_400
            self.bonds[key.address] += price
        return cover

    @rule(target=promises, cover=covers, seq0=st.integers(0, 4), seq1=st.integers(0, 4))
    def promise(self, cover: TowerCover, seq0: int, seq1: int) -> Promised:
        """The client shows proofs, which both sign at will, and gets a promise for them, of from the next second on."""
        key = HONEST if cover.tower == HONEST.address else SLEEPY
        held = self.holds.setdefault((cover.tower, cover.channel), [0, 0])
        held[:] = [max(held[0], seq0), max(held[1], seq1)]
        late = cover.channel in self.disputes
        made = Promised(key, cover, self.twins.time + 1, (0, 0) if late else (seq0, seq1))
        self.made.append(made)
        return made

    @rule(data=st.data(), side=SIDES, seq0=st.integers(0, 4), seq1=st.integers(0, 4))
    def close(self, data: Any, side: int, seq0: int, seq1: int) -> None:
        fixture = self._newest(data)
        proofs = [fixture.proof(sender, seq) if seq else None for sender, seq in enumerate((seq0, seq1))]
        said = self.twins.send(fixture.close(*proofs), fixture.address(side), fixture.id)
        assert (said == "") == (fixture.id not in self.disputes)
        self.disputes.setdefault(fixture.id, Dispute(side, self.twins.time, [seq0, seq1]))

    @precondition(lambda self: len(self.at) < 6)
    @rule(
        target=promises,
        key=TOWERS,
        side=SIDES,
        closer=SIDES,
        seqs=st.tuples(st.integers(0, 3), st.integers(0, 3)),
        awake=st.booleans(),
        waits=st.integers(1, 3),
    )
    def cheat(
        self, key: PrivateKey, side: int, closer: int, seqs: tuple[int, int], awake: bool, waits: int
    ) -> Promised:
        """All that it takes, in a row: a cover, a promise, and a close with numbers that may be lower."""
        fixture = self.twins.channel_fixture()
        self.at[fixture.id] = fixture
        cover = self.twins.cover(fixture, key, side, response=2 * STEP, amount=10)
        end = self.twins.time + 3_600 + PERIOD + 7 * 86_400
        if not self.twins.reserve(fixture, cover, key=key):
            self.apart[key.address][cover] = end
        made = self.promise(cover, 2, 2)
        self.twins.time += 1
        proofs = [fixture.proof(sender, seq) if seq else None for sender, seq in enumerate(seqs)]
        assert self.twins.send(fixture.close(*proofs), fixture.address(closer), fixture.id) == ""
        self.disputes[fixture.id] = Dispute(closer, self.twins.time, list(seqs))
        self.pass_time(waits, awake)
        return made

    @precondition(lambda self: self.disputes)
    @rule(data=st.data(), sender=SIDES, seq=st.integers(1, 4))
    def challenge(self, data: Any, sender: int, seq: int) -> None:
        """Anybody does, with anything: what is in between delays nobody."""
        self._challenge(data.draw(st.sampled_from(list(self.disputes))), sender, seq)

    def _challenge(self, channel: bytes, sender: int, seq: int) -> None:
        fixture, dispute = self.at[channel], self.disputes[channel]
        said = self.twins.send(fixture.challenge(fixture.proof(sender, seq, seen=9)), STRANGER, fixture.id)
        assert (said == "") == (seq > dispute.seqs[sender] and self.twins.time <= dispute.closed + PERIOD)
        if not said:
            dispute.seqs[sender] = seq

    @rule(steps=st.integers(1, 6), awake=st.booleans())
    def pass_time(self, steps: int, awake: bool) -> None:
        """The honest tower looks after each step; the other one if it is awake."""
        for _ in range(steps):
            self.twins.time += STEP
            self._look(HONEST)
            if awake:
                self._look(SLEEPY)

    @rule()
    def pass_a_week(self) -> None:
        self.pass_time(6, awake=False)
        self.twins.time += 7 * 86_400 - 5 * STEP

    def _look(self, key: PrivateKey) -> None:
        for channel, dispute in self.disputes.items():
            held = self.holds.get((key.address, channel), [0, 0])
            for sender, seq in enumerate(held):
                if seq > dispute.seqs[sender] and self.twins.time <= dispute.closed + PERIOD:
                    self._challenge(channel, sender, seq)

    @rule(data=st.data())
    def settle(self, data: Any) -> None:
        fixture = self._newest(data)
        self.twins.send(SettleCall(fixture.id), STRANGER, fixture.id)

    def _is_guilty(self, made: Promised) -> bool:
        dispute, cover = self.disputes.get(made.cover.channel), made.cover
        if dispute is None or self.twins.time <= dispute.closed + PERIOD:
            return False
        is_peer = self.at[cover.channel].address(dispute.closer) != cover.client
        in_time = made.since <= dispute.closed <= cover.until
        return is_peer and in_time and any(mine > stood for mine, stood in zip(made.seqs, dispute.seqs, strict=True))

    @rule(made=promises)
    def accuse(self, made: Promised) -> None:
        client = self.twins.evm.balance(made.cover.client)
        said = self.twins.accuse(
            self.at[made.cover.channel], made.cover, made.since, *made.seqs, key=made.key, by=STRANGER
        )
        apart = self.apart[made.cover.tower]
        assert (said == "") == (made.cover in apart and self._is_guilty(made))
        if not said:
            assert made.key is not HONEST, "an honest tower was slashed"
            assert self.twins.evm.balance(made.cover.client) == client + made.cover.amount
            del apart[made.cover]
            self.bonds[made.cover.tower] -= made.cover.amount

    @rule(made=promises, other=promises, more=st.integers(0, 2))
    def accuse_with_what_was_never_signed(self, made: Promised, other: Promised, more: int) -> None:
        seqs = (made.seqs[0] + (more == 1), made.seqs[1] + (more == 2))
        said = self.twins.accuse(
            self.at[made.cover.channel],
            made.cover,
            made.since,
            *seqs,
            key=other.key,
            signed=(other.cover, other.since, *other.seqs),
        )
        is_same = other.cover == made.cover and other.since == made.since and other.seqs == seqs
        assert said or (is_same and made.key is not HONEST)
        if not said:
            del self.apart[made.cover.tower][made.cover]
            self.bonds[made.cover.tower] -= made.cover.amount

    @rule(cover=consumes(covers))
    def release(self, cover: TowerCover) -> None:
        apart = self.apart[cover.tower]
        said = self.twins.release(cover)
        assert (said == "") == (cover in apart and self.twins.time > apart[cover])
        if not said:
            del apart[cover]

    @rule(key=TOWERS, amount=st.sampled_from([1, 300]))
    def withdraw(self, key: PrivateKey, amount: int) -> None:
        said = self.twins.do(key.address, "withdraw", amount)
        apart = sum(each.amount for each in self.apart[key.address])
        assert (said == "") == (amount <= self.bonds[key.address] - apart)
        self.bonds[key.address] -= 0 if said else amount

    @invariant()
    def check_books(self) -> None:
        for key in (HONEST, SLEEPY):
            apart = sum(cover.amount for cover in self.apart[key.address])
            assert self.twins.bond_of(key) == (self.bonds[key.address], apart)
        assert self.twins.vault() == sum(self.bonds.values())

    def teardown(self) -> None:
        """Whoever broke a promise whose cover is still set apart pays; the honest one has all that it had.

        One breaks its own at the end of each history, whatever came before: so each has one that is guilty.
        """
        for address in self.bonds:
            assert self.twins.do(address, "bond", 10, value=10) == ""
            self.bonds[address] += 10
        for key in (HONEST, SLEEPY):
            self.cheat(key, 0, 1, (2, 1), awake=False, waits=3)
        broken = self.made[-1]
        self.pass_time(4, awake=False)
        for made in self.made:
            assert made.key is not HONEST or not self._is_guilty(made)
            self.accuse(made)
        assert broken.cover not in self.apart[SLEEPY.address], "a guilty tower was not slashed"


TestTowers = TowersMachine.TestCase
TestTowers.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
