"""The watching engine: one store transaction per block with position, events and obligations, through any failure.

Each block is handed in by the follower. What needs the chain is asked first; then, in one synchronous step, the
disputes change, their duties are derived anew and become obligations; then everything is committed at once. If the
chain does not answer, the block is handed in again. If the disk refuses, the commit is tried again until it succeeds:
nothing moves on without it.

Strangers close channels, too, and need not settle them. A dispute for which the tower holds nothing sleeps: no block
costs anything for it until something happens to it, or an appointment comes. One whose window has long been over is
dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Terms
from tallystick.channels.storage.store import Moment
from tallystick.settlement.chain import Block, Challenged, Closed, ContractChannel, Header, Settled
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.following.follower import BlockAdded, Step, for_a_while, headers_kept
from tallystick.settlement.sending.moments import step_moment
from tallystick.settlement.sending.sender import Sender
from tallystick.watchtower.claims import ClaimPolicy
from tallystick.watchtower.cover_schema import promised_defences
from tallystick.watchtower.disputes import (
    ChallengeBudget,
    Defence,
    Dispute,
    DisputeEvent,
    check,
    duties,
    moot,
    settlement,
)
from tallystick.watchtower.registrar import Registrar
from tallystick.watchtower.schema import DisputeOver, DisputeSeen, DisputesUndone, read_appointments, read_disputes
from tallystick.watchtower.sealing import locator_of, unseal

ASKED_AT_ONCE = 256
"""Channels that the chain is asked for in one go: nodes take so many topics in a search."""


def closes(step: Step) -> list[Closed]:
    """Return what a step tells of channels that somebody closed alone."""
    return [event for event in step.block.events if isinstance(event, Closed)] if isinstance(step, BlockAdded) else []


def _funds(view: ContractChannel) -> tuple[int, int]:
    """Return what each side has in a channel, in the coin; 0 in other assets."""
    if view.terms.asset != NATIVE:
        return 0, 0
    first, second = (put - taken for put, taken in zip(view.deposits, view.withdrawn, strict=True))
    return first, second


def _at_the_head(number: int) -> bool:
    return False


@dataclass(eq=False, repr=False)
class Watch:
    """The disputes of the tower whose challenges `sender` sends, on its chain. The follower hands out to `on_steps`."""

    sender: Sender
    budget: ChallengeBudget
    claims: ClaimPolicy = field(default_factory=ClaimPolicy)
    price: Callable[[], int | None] = lambda: None
    """Returns what a unit of gas costs, None if that is not known."""
    is_catching_up: Callable[[int], bool] = _at_the_head
    """Whether blocks above that number are about to be followed: what seems due may be done in one of them."""
    challenged: int = field(default=0, init=False)
    """Challenges taken on since the start."""

    def __post_init__(self) -> None:
        self._kept = headers_kept(self.sender.chain.figures)
        self.registrar = Registrar(self.sender, self.claims, self.price)
        self._funds: dict[ChannelId, tuple[int, int]] = {}
        """What each side has in the channels that were closed since the start, in the coin: 0 in other assets."""
        self._terms: dict[ChannelId, Terms] = {}
        """Of channels whose close is about to be taken in."""
        self._opened: dict[tuple[bytes, Address, int], Defence | None] = {}
        self.disputes: dict[ChannelId, Dispute] = read_disputes(self.sender.store)
        self._awake: dict[ChannelId, None] = dict.fromkeys(self.disputes)
        """Cases for which something may have to be done."""
        self._asleep: dict[bytes, ChannelId] = {}
        """By locator: the disputes that an appointment under it would wake."""
        self._windows: list[tuple[int, ChannelId]] = []
        """Deadlines of the disputes, the next one first."""
        self._closing: deque[tuple[int, ChannelId]] = deque()
        """Cases whose window is over, and at which block that is beyond any reorganisation."""
        for dispute in self.disputes.values():
            self.sender.chain.learn(dispute.terms)
            if dispute.closed is not None:
                heappush(self._windows, (dispute.closed.deadline, dispute.channel))

    async def on_steps(self, steps: Sequence[Step]) -> int:
        """Take in the first of these steps; return, once their effects and the position are durable, how many."""
        await self._ask_terms(steps)
        moments, taken = list[Moment](), 0
        for step in for_a_while(steps):
            if any(event.channel not in self._terms for event in closes(step)):
                break
            moments.append(step_moment(self.sender.chain.chain_id, step, self._kept))
            if isinstance(step, BlockAdded):
                self.registrar.on_block(step.block)
                moments += self._add(step.block)
                moments += self._work(step.block.header)
                if not self.is_catching_up(step.block.header.number):
                    moments += self.registrar.work(step.block.header)
            else:
                self.registrar.on_removed(step.header.number)
                moments += self._remove(step.header)
            taken += 1
        await self.sender.commit(moments)
        return taken

    async def _ask_terms(self, steps: Sequence[Step]) -> None:
        """Ask for the terms of the channels that these steps close: of many at once, or else of the first step's alone.

        Raise ChainUnavailable or ChainError if the chain does not tell those of the first step.
        """
        first = [event.channel for event in closes(steps[0])]
        unknown = [event.channel for step in steps for event in closes(step) if event.channel not in self._terms]
        try:
            await self._learn(unknown[: max(ASKED_AT_ONCE, len(first))])
        except (ChainUnavailable, ChainError):
            await self._learn([channel for channel in first if channel not in self._terms])
        if any(channel not in self._terms for channel in first):
            raise ChainUnavailable("the chain node does not know a channel that was closed; it is out of step")

    async def _learn(self, channels: Sequence[ChannelId]) -> None:
        for asked in (channels[at : at + ASKED_AT_ONCE] for at in range(0, len(channels), ASKED_AT_ONCE)):
            for channel, view in zip(asked, await self.sender.chain.channels(asked), strict=True):
                if view is not None and channel_id(view.terms) == channel:
                    self._terms[channel] = view.terms
                    self._funds[channel] = _funds(view)

    def _add(self, block: Block) -> list[Moment]:
        moments: list[Moment] = []
        for position, event in enumerate(block.events):
            if isinstance(event, Closed):
                self.disputes[event.channel] = Dispute(self._terms.pop(event.channel))
                heappush(self._windows, (event.deadline, event.channel))
            if isinstance(event, Closed | Challenged | Settled) and event.channel in self.disputes:
                dispute = self.disputes[event.channel]
                self.disputes[event.channel] = dispute.with_event(block.header, event)
                self._awake[event.channel] = None
                moments.append(DisputeSeen(event.channel, dispute.terms, position, DisputeEvent(block.header, event)))
        return moments

    def _remove(self, header: Header) -> list[Moment]:
        self._terms.clear()
        moments: list[Moment] = [DisputesUndone(header.number)]
        for channel, dispute in list(self.disputes.items()):
            self.disputes[channel] = dispute.without_block(header.number)
            if len(self.disputes[channel].sightings) < len(dispute.sightings):
                self._awake[channel] = None
            if not self.disputes[channel].sightings:
                moments += self._supersede(None, channel, self._taken_on().get(channel, ()))
                moments.append(self._drop(channel, ()))
        return moments

    def _work(self, head: Header) -> list[Moment]:
        """Derive all duties anew; return what to store."""
        moments: list[Moment] = []
        taken_on = self._taken_on()
        for channel in list(self._awake):
            dispute = self.disputes[channel]
            defences = self._defences(dispute)
            moments += self._supersede(dispute, channel, taken_on.get(channel, ()))
            if not self.is_catching_up(head.number):
                moments += self._require(dispute, head, defences, taken_on.get(channel, ()))
            settled = dispute.settled
            if settled is not None and head.number - settled.block.number >= self._kept:
                moments.append(self._drop(channel, self._locators(dispute)))
            elif not (defences or settled or channel in taken_on):
                del self._awake[channel]
                self._asleep.update(dict.fromkeys(self._locators(dispute), channel))
        moments += self._end_windows(head)
        if not self.disputes:
            self._opened.clear()
        return moments

    def _end_windows(self, head: Header) -> list[Moment]:
        """Drop the disputes whose window has been over for as many blocks as can be reorganised: nothing can be
        done."""
        moments: list[Moment] = []
        while self._windows and self._windows[0][0] < head.time:
            self._closing.append((head.number + self._kept, heappop(self._windows)[1]))
        while self._closing and self._closing[0][0] <= head.number:
            dispute = self.disputes.get(self._closing.popleft()[1])
            if dispute is not None and dispute.closed is not None and dispute.closed.deadline < head.time:
                moments.append(self._drop(dispute.channel, self._locators(dispute)))
        return moments

    def _drop(self, channel: ChannelId, locators: tuple[bytes, ...]) -> DisputeOver:
        dispute = self.disputes.pop(channel)
        self._awake.pop(channel, None)
        self._funds.pop(channel, None)
        for locator in self._locators(dispute):
            self._asleep.pop(locator, None)
        return DisputeOver(channel, locators)

    def on_appointed(self, client: Address, locator: bytes, timely: bool = False) -> None:
        """An appointment was stored there: look at its dispute, if there is one, with the next block."""
        self.registrar.on_stored(client, locator, timely)
        channel = self._asleep.get(locator)
        if channel in self.disputes:
            self._awake[channel] = None

    def on_promised(self, channel: ChannelId) -> None:
        """Proofs were stored for a channel: look at its dispute, if there is one, with the next block."""
        self._awake.update({channel: None} if channel in self.disputes else {})

    @property
    def at_work(self) -> list[Dispute]:
        """The disputes for which something may have to be done."""
        return [self.disputes[channel] for channel in self._awake]

    def _taken_on(self) -> dict[ChannelId, list[str]]:
        """Return the names of each channel's obligations: looked through once for a block, not for each dispute."""
        names: dict[ChannelId, list[str]] = {}
        for obligation in self.sender.obligations():
            if obligation.channel is not None:
                names.setdefault(obligation.channel, []).append(obligation.id)
        return names

    def _supersede(self, dispute: Dispute | None, channel: ChannelId, names: Sequence[str]) -> list[Moment]:
        moments: list[Moment] = []
        for obligation in filter(None, map(self.sender.find, names)):
            if reason := moot(dispute, obligation, self.sender.account):
                moments += self.sender.supersede(obligation.id, reason)
        return moments

    def _require(
        self, dispute: Dispute, head: Header, defences: Sequence[Defence], taken_on: Sequence[str]
    ) -> list[Moment]:
        moments: list[Moment] = []
        at_work = {o.call for o in filter(None, map(self.sender.find, taken_on)) if not o.is_final}
        for duty in duties(dispute, defences, self.budget, self._funds.get(dispute.channel)):
            if duty.call in at_work:
                continue
            added = self.sender.pursue(duty, head.number)
            self.challenged += bool(added)
            moments += added
        for due in settlement(dispute, defences, self.budget, self.sender.account, head.time):
            moments += self.sender.pursue(due, head.number)
        found = zip(dispute.terms.participants, self._locators(dispute), strict=False)
        names = {party: (party, locator) for party, locator in found}
        claims = [(claim, names[defence.party]) for defence in defences for claim in defence.claims]
        moments += self.registrar.pursue(claims, dispute.terms, dispute.channel, head)
        return moments

    def locators(self) -> set[bytes]:
        """Return the locators of all channels that are being closed."""
        return {locator for dispute in self.disputes.values() for locator in self._locators(dispute)}

    def _locators(self, dispute: Dispute) -> tuple[bytes, ...]:
        closed = dispute.closed
        if closed is None:
            return ()
        return tuple(locator_of(closed.close_key, self.sender.account, party) for party in dispute.terms.participants)

    def _defences(self, dispute: Dispute) -> Sequence[Defence]:
        """Return what the tower holds for the dispute, opened with the key that the close has published."""
        closed = dispute.closed
        if closed is None:
            return []
        defences = []
        for party, locator in zip(dispute.terms.participants, self._locators(dispute), strict=True):
            for row in read_appointments(self.sender.store, locator):
                if row.client != party:  # the peer knows the locator too, and would leave old proofs there
                    continue
                name = (locator, row.client, row.revision)
                if name not in self._opened:
                    self._opened[name] = self._open(row.blob, closed.close_key, dispute.terms, party)
                defence = self._opened[name]
                if defence is not None:
                    defences.append(defence)
        return [*defences, *promised_defences(self.sender.store, dispute.channel)]

    def _open(self, blob: bytes, close_key: bytes, terms: Terms, party: Address) -> Defence | None:
        try:
            defence = check(unseal(blob, close_key, self.sender.account, party), terms, party, self.sender.account)
        except (MalformedMessage, InvalidInput) as error:
            text = f"an appointment of 0x{party.hex()} is of no use: {error}; tell the client"
            self.sender.alarm(Alarm(AlarmKind.APPOINTMENT_USELESS, text))
            return None
        if defence.voucher is None:
            text = f"an appointment of 0x{party.hex()} has no valid voucher: the tower defends it without reward"
            self.sender.alarm(Alarm(AlarmKind.APPOINTMENT_UNREWARDED, text))
        return defence
