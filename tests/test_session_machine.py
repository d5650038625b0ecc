"""Two engines under every interleaving of rounds, frames, losses, crashes and views of the chain.

Honest parties never find fault with each other, never sign two statements with one number, never send what is not
durable, and, once connected and up to date, agree on every payment. The chain is played by the machine: each side sees
it late, in its own time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulation.pair import NewDisk, Pair, Party, memory_disk, sqlite_disk
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, Policy
from tallystick.channels.protocol import core
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.messages import Ack, CloseOffer, Message, Reestablish, Update, WithdrawRequest, decode
from tallystick.channels.protocol.objects import BalanceProof
from tallystick.channels.protocol.operations import Pay
from tallystick.channels.session.inputs import (
    RejectLock,
    RequestClose,
    RequestWithdrawal,
    RevealSecret,
    SubmitLock,
    SubmitPayment,
    SubmitPayments,
)
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.storage.schema import load_channels, received_after
from tallystick.channels.storage.tables import table
from tallystick.channels.testing.clock import EPOCH

SENT = table("sent", "seq frame")
SECRETS = [bytes([n]) * 32 for n in range(4)]
CONDITIONS = [hashlib.sha256(secret).digest() for secret in SECRETS]
CONFIRMED = 12
"""Seconds after which the machine's chain does not change any more."""
SIDES = st.integers(0, 1)
MOMENTS = st.lists(st.tuples(st.sampled_from(["begin", "finish", "deliver", "deliver"]), SIDES), max_size=16)
AMOUNTS = st.one_of(st.integers(1, 40), st.integers(1, AMOUNT_MAX))


@dataclass
class Chain:
    """What has happened on chain: each fact with its time."""

    time: int = int(EPOCH)
    deposits: list[tuple[int, int, int]] = field(default_factory=list)
    withdrawals: list[tuple[int, int, int]] = field(default_factory=list)
    secrets: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    def funds(self, at: int) -> tuple[tuple[int, int], tuple[int, int]]:
        deposits = [sum(v for t, s, v in self.deposits if t <= at and s == side) for side in (0, 1)]
        taken = [max([v for t, s, v in self.withdrawals if t <= at and s == side], default=0) for side in (0, 1)]
        return (deposits[0], deposits[1]), (taken[0], taken[1])


class Payments(RuleBasedStateMachine):
    @initialize(
        deposits=st.tuples(st.sampled_from([0, 100, 2**65, 2**127]), st.sampled_from([100, 5_000, 2**127 - 2**64])),
        reserve=st.sampled_from([0, 50]),
        reserve_ppm=st.sampled_from([0, 10_000, 100_000]),
        window=st.sampled_from([1, 2, 8]),
        new_disk=st.sampled_from([sqlite_disk, memory_disk]),
    )
    def begin(self, deposits: tuple[int, int], reserve: int, reserve_ppm: int, window: int, new_disk: NewDisk) -> None:
        self.chain = Chain()
        self.chain.deposits = [(self.chain.time, side, deposits[side]) for side in (0, 1)]
        self.reserve, self.reserve_ppm = reserve, reserve_ppm
        self.committed, self.heeded = [0, 0], [0, 0]
        self.statements: dict[tuple[int, int], set[BalanceProof]] = {}
        self.most = [0, 0]
        self.tickets: tuple[list[Ticket], list[Ticket]] = ([], [])
        self.pair = Pair(
            deposits,
            reserve=reserve,
            reserve_ppm=reserve_ppm,
            policy=Policy(window=window),
            sent=self.on_sent,
            new_disk=new_disk,
        )
        self.parties = self.pair.parties
        for party in self.parties:
            self.sync_party(party)
            party.step()
        self.pair.connect()
        self.pair.settle()

    # --- what they do --------------------------------------------------------------------------------------------

    @rule(side=SIDES, amounts=st.lists(AMOUNTS, min_size=1, max_size=4), memo=st.sampled_from([b"", bytes(256)]))
    def pay(self, side: int, amounts: list[int], memo: bytes) -> None:
        party = self.parties[side]
        for amount in amounts:
            try:
                ticket = party.apply(SubmitPayment(amount, memo))
            except InvalidInput:
                continue
            self.tickets[side].append(ticket)

    @rule(side=SIDES, amounts=st.lists(AMOUNTS, min_size=1, max_size=12))
    def pay_many(self, side: int, amounts: list[int]) -> None:
        party = self.parties[side]
        try:
            self.tickets[side].extend(party.apply(SubmitPayments(tuple(amounts))))
        except InvalidInput:
            return

    @rule(side=SIDES, percent=st.sampled_from([20, 100]))
    def pay_share(self, side: int, percent: int) -> None:
        self.pay(side, [self.parties[side].session.spendable * percent // 100], b"")

    @rule(side=SIDES, percent=st.sampled_from([0, 30, 100]), lifetime=st.integers(1, 2_000), which=st.integers(0, 3))
    def lock(self, side: int, percent: int, lifetime: int, which: int) -> None:
        party = self.parties[side]
        amount = max(1, party.session.spendable * percent // 100)
        try:
            party.apply(SubmitLock(amount, party.chain.now + lifetime, CONDITIONS[which], b"onion"))
        except InvalidInput:
            return

    @precondition(lambda self: any(party.channel.theirs.simplex.locks for party in self.parties))
    @rule(side=SIDES, data=st.data(), accept=st.booleans())
    def answer_lock(self, side: int, data: st.DataObject, accept: bool) -> None:
        party = self.parties[side]
        locks = party.channel.theirs.simplex.locks
        if not locks:
            return
        lock = data.draw(st.sampled_from(locks))
        try:
            if accept:
                party.apply(RevealSecret(lock.id, SECRETS[CONDITIONS.index(lock.condition)]))
            else:
                party.apply(RejectLock(lock.id, b"no"))
        except InvalidInput:
            return

    @rule(side=SIDES, amount=st.integers(1, 200))
    def withdraw(self, side: int, amount: int) -> None:
        party = self.parties[side]
        try:
            party.apply(RequestWithdrawal(amount))
        except InvalidInput:
            return

    @rule(side=SIDES)
    def close(self, side: int) -> None:
        party = self.parties[side]
        try:
            party.apply(RequestClose())
        except InvalidInput:
            return

    # --- the chain -----------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 20, 100, 700]))
    def time_passes(self, seconds: int) -> None:
        self.chain.time += seconds

    @rule(side=SIDES)
    def sync(self, side: int) -> None:
        self.sync_party(self.parties[side])

    def sync_party(self, party: Party) -> None:
        final = self.chain.time - CONFIRMED
        deposits, withdrawn = self.chain.funds(max(final, int(EPOCH)))
        party.fund(deposits, withdrawn)
        proofs = {(HASH, digest): seen for digest, seen in self.chain.secrets.items() if seen[0] <= final}
        party.time(self.chain.time, final, proofs)

    @rule(side=SIDES, amount=st.integers(1, 1_000))
    def deposit(self, side: int, amount: int) -> None:
        self.chain.deposits.append((self.chain.time, side, amount))

    @rule(which=st.integers(0, 3))
    def register(self, which: int) -> None:
        self.chain.secrets.setdefault(CONDITIONS[which], (self.chain.time, SECRETS[which]))

    @rule(side=SIDES, holder=SIDES)
    def mine_withdrawal(self, side: int, holder: int) -> None:
        pending = self.parties[holder].channel.withdrawals[side]
        if pending is None or not pending.peer_signature or pending.withdrawal.valid_until < self.chain.time:
            return
        if (
            self.parties[holder].pending is None
            and pending.withdrawal.total > self.chain.funds(self.chain.time)[1][side]
        ):
            self.chain.withdrawals.append((self.chain.time, side, pending.withdrawal.total))

    # --- moments -------------------------------------------------------------------------------------------------

    @rule(moments=MOMENTS)
    def work(self, moments: list[tuple[str, int]]) -> None:
        """Rounds begin and end, frames arrive, in any order."""
        for moment, side in moments:
            party = self.parties[side]
            if moment == "begin":
                party.begin()
            elif moment == "finish":
                party.finish()
            else:
                self.pair.deliver(party)
            self.look()

    @rule()
    def settle(self) -> None:
        self.pair.settle()

    @rule(moments=MOMENTS)
    def reconnect(self, moments: list[tuple[str, int]]) -> None:
        self.pair.connect()
        self.work(moments)

    @rule()
    def disconnect(self) -> None:
        self.pair.disconnect()

    @rule(side=SIDES, moments=MOMENTS)
    def crash(self, side: int, moments: list[tuple[str, int]]) -> None:
        self.pair.crash(self.parties[side])
        self.most[side], self.committed[side] = 0, AMOUNT_MAX
        self.reconnect(moments)

    @rule(side=SIDES, takes_effect=st.booleans(), moments=MOMENTS)
    def crash_at_commit(self, side: int, takes_effect: bool, moments: list[tuple[str, int]]) -> None:
        self.parties[side].begin()
        self.look()
        self.pair.crash_at_commit(self.parties[side], takes_effect=takes_effect)
        self.most[side], self.committed[side] = 0, AMOUNT_MAX
        self.reconnect(moments)

    # --- what must hold ------------------------------------------------------------------------------------------

    def on_sent(self, party: Party, message: Message) -> None:
        """Nothing leaves that is not durable."""
        if isinstance(message, Update):
            rows = party.store.read(SENT.rows(seq=message.seq))
            assert [decode(frame) for _, frame in rows] == [message]
            return
        if not isinstance(message, (Ack, Reestablish, CloseOffer, WithdrawRequest)):
            return
        (stored,) = load_channels(party.store)
        if isinstance(message, Ack):
            assert (stored.theirs.seq, stored.theirs.countersignature) == (message.seq, message.signature)
        elif isinstance(message, Reestablish):
            assert message.theirs is None or stored.theirs.seq >= message.theirs.proof.seq
        elif isinstance(message, CloseOffer):
            assert stored.offer is not None and stored.offer.signature == message.signature
        elif stored.withdrawals[stored.side] is not None:
            pending = stored.withdrawals[stored.side]
            dead = message.withdrawal.valid_until < party.session.chain.final  # its successor may have been stored
            assert pending is not None and (dead or pending.signature == message.signature)

    @invariant()
    def look(self) -> None:
        if not hasattr(self, "pair"):
            return
        assert self.pair.faults == []
        for side, party in enumerate(self.parties):
            channel = party.channel
            self.check_signatures(party, channel)
            self.check_amounts(side, channel)
            self.check_settlement(side, channel)

    def check_signatures(self, party: Party, channel: Channel) -> None:
        """What was signed and not yet committed never left, and may be signed anew after a crash; the rest may not."""
        if party.pending is not None:
            return
        proofs = [flying.simplex.proof for flying in channel.flight]
        if channel.theirs.countersignature:
            proofs.append(channel.theirs.simplex.proof)
        for proof in proofs:
            self.statements.setdefault((proof.sender, proof.seq), set()).add(proof)
            assert len(self.statements[proof.sender, proof.seq]) == 1, "two statements with one number"

    def check_amounts(self, side: int, channel: Channel) -> None:
        assert sum(channel.balances()) == channel.funding(0) + channel.funding(1)
        free = core.capacity(channel, channel.funding(side))
        assert free >= 0
        self.most[side] = max(self.most[side], free)
        assert free >= min(self.reserve, self.most[side]), "spent from the reserve"
        assert channel.ours.seq <= channel.newest.proof.seq <= channel.ours.seq + len(channel.flight)
        if self.reserve_ppm:
            self.check_reserve(side, channel, free)

    def check_reserve(self, side: int, channel: Channel, free: int) -> None:
        """Who commits more keeps its share of all that it knows of; what the peer does not count never reaches it."""
        before, self.committed[side] = self.committed[side], channel.newest.committed
        heeded, self.heeded[side] = self.heeded[side], channel.heeded  # it may have grown behind what was signed
        if before < channel.newest.committed:
            known = channel.funding(side) + heeded - channel.withdrawn[1 - side]
            assert free >= known * self.reserve_ppm // 10**6, "spent from the reserve"
        received = channel.theirs.simplex.proof.transferred
        assert channel.newest.committed + channel.taken(side) <= channel.counted + received
        assert channel.counted <= self.parties[1 - side].channel.heeded or self.parties[1 - side].pending is not None

    def check_settlement(self, side: int, channel: Channel) -> None:
        """Whatever of our outgoing statements the other holds, settlement pays what our newest incoming one says."""
        deposits, taken = self.chain.funds(self.chain.time)
        for mined in (False, True):
            funds = list(map(int.__sub__, deposits, taken))
            for which, pending in enumerate(channel.withdrawals):
                if mined and pending is not None and pending.withdrawal.valid_until >= self.chain.time:
                    funds[which] = deposits[which] - max(taken[which], pending.withdrawal.total)
            incoming = channel.theirs.simplex.proof
            for outgoing in (channel.ours, *channel.flight):
                due = funds[side] + incoming.transferred - outgoing.simplex.proof.transferred
                gross = min(max(due, 0), sum(funds))
                assert gross >= due, "the other owes more than it has in the channel"
                assert due >= outgoing.simplex.proof.locked, "we promised more than we have"

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.heal()
            self.check_agreement()

    def heal(self) -> None:
        """Connect, let both see the chain, and time pass until every lock and offer has ended."""
        for seconds in (0, 100, 3_000, 1_000, 1_000, 1_000):
            self.chain.time += seconds
            for party in self.parties:
                self.sync_party(party)
            if not self.pair.connected:
                self.pair.connect()
            self.pair.settle()
            self.look()

    def check_agreement(self) -> None:
        alice, bob = self.parties
        for writer, reader in ((alice, bob), (bob, alice)):
            channel = writer.channel
            assert channel.phase is Phase.OPEN and not channel.flight and not channel.newest.locks
            assert channel.ours == reader.channel.theirs
            assert channel.counted == (channel.deposits[channel.side] if self.reserve_ppm else 0)
            assert channel.heeded == (channel.deposits[1 - channel.side] if self.reserve_ppm else 0)
            assert channel.own_reserve(writer.session.funding) == reader.channel.peer_reserve()
            assert writer.session.funding == channel.funding(channel.side)
            assert len(writer.session.outbox) == 0
            frames = [frame for _, frame in writer.store.read(SENT.rows())]
            assert frames == [row.frame for row in received_after(reader.store, 0, 10**6)]
            self.check_payments(self.tickets[channel.side], frames, channel)
        for party in self.parties:
            if party.session.spendable:
                ticket = party.apply(SubmitPayment(1))
                self.pair.settle()
                assert ticket.receipt is not None, "the channel cannot carry a payment any more"

    def check_payments(self, tickets: list[Ticket], frames: list[bytes], channel: Channel) -> None:
        made: list[tuple[int, bytes]] = []
        for frame in frames:
            update = decode(frame)
            assert isinstance(update, Update)
            for run in update.operations:
                if isinstance(run, Pay):
                    made += zip(run.amounts, run.memos or [b""] * len(run.amounts), strict=True)
        assert len(made) == channel.ours.simplex.next_payment
        receipts = [ticket.receipt for ticket in tickets if ticket.receipt is not None]
        paid_for = [number for r in receipts for number in range(r.payment, r.payment + r.count)]
        assert len(set(paid_for)) == len(paid_for)
        for receipt in receipts:
            run = made[receipt.payment : receipt.payment + receipt.count]
            assert sum(amount for amount, _ in run) == receipt.amount
            assert {memo for _, memo in run} == {receipt.memo}


Payments.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPayments = Payments.TestCase
