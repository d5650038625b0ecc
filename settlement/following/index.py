"""What the chain says of one account's channels, kept event by event so that any block can be taken back.

The index keeps the events of those channels in which the account takes part, and every registered secret and
link, each with its block. A channel's state at any height is the fold of its events up to there: at the head to act in
time, at the confirmed height to count funds. There is no second, incremental copy of the state that could differ: what
was folded is remembered only until the channel has a further event.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from tallystick.channels.limits import KIND_MAX
from tallystick.channels.protocol.app_court import AppStands
from tallystick.channels.protocol.apps import APP
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.conditions import HASH, STREAM
from tallystick.channels.protocol.hashchain import StreamProof, StreamTerms
from tallystick.channels.protocol.objects import ZERO32, Address, ChannelId, Puzzle
from tallystick.channels.protocol.virtual import VIRTUAL
from tallystick.channels.session.chaintime import StakeInCourt
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import CAME, Condition, Rows, at_least, at_most, decode_column, table
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.chain import (
    CLOSED,
    GONE,
    OPEN,
    SETTLED,
    AccountEvent,
    Block,
    Challenged,
    ChannelEvent,
    ChannelOpened,
    Closed,
    ContractChannel,
    CooperativelyClosed,
    Deposited,
    Header,
    LinkRegistered,
    ProofRegistered,
    Redeemed,
    RegistryEvent,
    SecretRegistered,
    Settled,
    Withdrawn,
    with_side,
)
from tallystick.settlement.following.courts import CourtEvent, InCourt, instance_of, stakes_of
from tallystick.settlement.following.courts import fold as fold_court
from tallystick.settlement.following.virtual import VirtualInCourt, fold_virtual, locks_of

STANDS = KIND_MAX + 1
"""Under which kind the states are kept that stand in court: their outcomes are proofs of kind 1."""

QUIET_MOST = 10_000
"""Stakes that are known not to be in court: beyond, all are looked up again."""


class EventInBlock(msgspec.Struct, frozen=True, array_like=True):
    """One event and the block that holds it."""

    number: int
    time: int
    event: ChannelEvent


class EventsSeen(Discreet, Moment, frozen=True):
    """A block held these events of our channels, and these of the registry."""

    number: int
    sightings: tuple[EventInBlock, ...]
    registered: tuple[RegistryEvent, ...] = ()


class EventsUndone(Moment, frozen=True):
    """The block of this number left the best branch."""

    number: int


def fold(history: Iterable[EventInBlock], up_to: int) -> ContractChannel | None:
    """Return a channel's state after block `up_to`, None if it was not opened by then."""
    view: ContractChannel | None = None
    for sighting in history:
        if sighting.number <= up_to:
            view = with_event(view, sighting.event)
    return view


def with_event(view: ContractChannel | None, event: ChannelEvent) -> ContractChannel | None:
    """Return a channel's state after one more event, None if it was not opened yet."""
    if isinstance(event, ChannelOpened):
        return ContractChannel(terms=event.terms, status=OPEN, deposits=(0, 0), withdrawn=(0, 0))
    if view is None:
        return None
    replace = msgspec.structs.replace
    match event:
        case Deposited(_, side, total):
            return replace(view, deposits=with_side(view.deposits, side, total))
        case Withdrawn(_, side, total):
            return replace(view, withdrawn=with_side(view.withdrawn, side, total))
        case CooperativelyClosed():
            return replace(view, status=GONE)
        case Closed(_, closer, seq0, seq1, _, deadline):
            return replace(view, status=CLOSED, closer=closer, deadline=deadline, seqs=(seq0, seq1))
        case Challenged(_, sender, seq, _, convicts):
            return replace(view, seqs=with_side(view.seqs, sender, seq), convicted=view.convicted or convicts)
        case Settled(_, _, _, _, pot0, pot1, _):
            return replace(view, status=SETTLED if pot0 or pot1 else GONE, pots=(pot0, pot1))
        case Redeemed(_, sender, paid, refunded, root):
            pot = 0 if root == ZERO32 else view.pots[sender] - paid - refunded
            pots = with_side(view.pots, sender, pot)
            return replace(view, pots=pots, status=SETTLED if any(pots) else GONE)


def puzzles_of(event: RegistryEvent) -> tuple[Puzzle, ...]:
    """Return the puzzles that what was registered is about."""
    match event:
        case SecretRegistered(digest):
            return ((HASH, digest),)
        case LinkRegistered(condition):
            return ((STREAM, condition),)
        case ProofRegistered(_, kind, proof) if kind == VIRTUAL:
            return tuple((VIRTUAL, condition) for condition in locks_of(proof))
        case ProofRegistered(condition, kind) if kind != APP:
            return ((kind, condition),)
        case AppStands() | ProofRegistered():
            return tuple((APP, stake) for stake in stakes_of(instance_of(event)))


class ChainIndex:
    """The events of one account's channels. Change it only together with the moments that it returns."""

    def __init__(self, account: Address, store: Store, head: Header | None = None) -> None:
        """`head`: the newest block that was taken in before, None if there is none."""
        self._account = account
        self._store = store
        self._histories: dict[ChannelId, list[EventInBlock]] = {}
        self._folded: dict[ChannelId, dict[int, ContractChannel | None]] = {}
        """By how many of a channel's events are in it, from the first on: what was folded since one was last put in."""
        self.head_number, self.head_time = (-1, 0) if head is None else (head.number, head.time)
        self._told: list[CourtEvent] = []
        """Of the newest block, which may not be on disk yet: a move in court has little time."""
        self._quiet: set[bytes] = set()
        """Stakes that were asked for, of which no block told anything: as a rule all, and each block asks for each."""
        self._loud: set[bytes] = set()
        """Stakes that were told of, the newest ones at least: that may be on its way to the disk, so that nothing found
        there does not mean that there is nothing."""
        for *_, blob in store.read(_EVENTS.rows()):
            sighting = decode_column(_SIGHTING, blob, "chain_events")
            self._histories.setdefault(sighting.event.channel, []).append(sighting)

    def add(self, block: Block) -> list[EventsSeen]:
        """Take in a block; return what to store."""
        number, time = block.header.number, block.header.time
        self.head_number, self.head_time = number, time
        self._told = [event for event in block.events if isinstance(event, AppStands | ProofRegistered)]
        told = {condition for event in self._told for kind, condition in puzzles_of(event) if kind == APP}
        self._loud = told if len(self._loud) > QUIET_MOST else self._loud | told
        self._quiet -= told
        sightings, registered = [], []
        for event in block.events:
            if isinstance(event, AccountEvent):
                continue
            if isinstance(event, RegistryEvent):
                registered.append(event)
            elif event.channel in self._histories or (
                isinstance(event, ChannelOpened) and self._account in event.terms.participants
            ):
                sighting = EventInBlock(number, time, event)
                self._histories.setdefault(event.channel, []).append(sighting)
                self._folded.pop(event.channel, None)
                sightings.append(sighting)
        return [EventsSeen(number, tuple(sightings), tuple(registered))] if sightings or registered else []

    def remove(self, number: int, time: int) -> list[Moment]:
        """Take back the block of that number, which was the newest; return what to store. `time`: of the one below."""
        self.head_number, self.head_time = number - 1, time
        self._told = []
        for channel, history in list(self._histories.items()):
            self._histories[channel] = [sighting for sighting in history if sighting.number < number]
        return [EventsUndone(number)]

    def view(self, channel: ChannelId, up_to: int) -> ContractChannel | None:
        """Return a channel's state after block `up_to`."""
        history = self._histories.get(channel)
        if history is None:
            return None
        count = bisect_right(history, up_to, key=attrgetter("number"))
        known = self._folded.setdefault(channel, {})
        if count not in known:
            known[count] = fold(history[:count], up_to)
        return known[count]

    def events(self, channel: ChannelId) -> Sequence[EventInBlock]:
        """Return what happened to a channel, in order."""
        return self._histories.get(channel, ())

    def mended(self, channel: ChannelId, blocks: Iterable[Block]) -> tuple[EventInBlock, ...]:
        """Return what happened to a channel if these blocks are right where they say more of it than is known."""
        known = self._histories.get(channel, [])
        by_number = {number: [each for each in known if each.number == number] for number in {e.number for e in known}}
        for block in blocks:
            number, time = block.header.number, block.header.time
            told = [
                EventInBlock(number, time, event)
                for event in block.events
                if not isinstance(event, RegistryEvent | AccountEvent) and event.channel == channel
            ]
            if set(map(repr, by_number.get(number, ()))) < set(map(repr, told)):
                by_number[number] = told
        return tuple(each for number in sorted(by_number) for each in by_number[number])

    def mend(self, channel: ChannelId, history: Sequence[EventInBlock]) -> list[EventsSeen]:
        """Take that in as what happened to a channel (see `mended`); return what to store."""
        before = self._histories.get(channel, [])
        self._histories[channel] = list(history)
        self._folded.pop(channel, None)
        numbers = sorted({each.number for each in history if each not in before})
        everything = [each for one in self._histories.values() for each in one]
        return [EventsSeen(number, tuple(each for each in everything if each.number == number)) for number in numbers]

    def redeems(self, channel: ChannelId, sender: int) -> list[tuple[int, bytes]]:
        """Return when locks of simplex `sender` were decided (block times, in order), and the root of those left."""
        return [
            (s.time, s.event.root)
            for s in self._histories.get(channel, ())
            if isinstance(s.event, Redeemed) and s.event.sender == sender
        ]

    def proofs(self, puzzles: Iterable[Puzzle], up_to: int) -> dict[Puzzle, tuple[int, bytes]]:
        """Return what was registered by block `up_to` that solves these puzzles: (block time, proof), in that order.

        The proof of a hash lock is its secret; that of a stream tells its deepest link.
        """
        puzzles, until = sorted(set(puzzles)), at_most("number", up_to)
        hashes = {condition for kind, condition in puzzles if kind == HASH}
        secrets = _SECRETS.rows(until, columns=f"{CAME} time secret digest", order=(CAME,), limit=len(hashes))
        rows = self._store.read(secrets) if hashes else []
        if len(rows) == len(hashes):  # there may be more of others' than there are locks: each is looked for
            by_digest = (_SECRETS.rows(until, columns=f"{CAME} time secret digest", digest=each) for each in hashes)
            rows = sorted(row for query in by_digest for row in self._store.read(query))
        found: dict[Puzzle, tuple[int, bytes]] = {
            (HASH, digest): (time, secret) for _, time, secret, digest in rows if digest in hashes
        }
        for kind, condition in puzzles:
            if kind == HASH:
                continue
            if kind == STREAM:
                query = _LINKS.rows(until, columns="time proof", order=("-depth",), limit=1, condition=condition)
            else:
                order = ("-number", f"-{CAME}")
                query = _PROOFS.rows(until, columns="time proof", order=order, limit=1, kind=kind, condition=condition)
            for time, proof in self._store.read(query):
                found[kind, condition] = (time, proof)
        return found

    def stakes(self, puzzles: Iterable[Puzzle], up_to: int) -> dict[Puzzle, StakeInCourt]:
        """Return what the court had said after block `up_to` of those of these puzzles that it decides."""
        found: dict[Puzzle, StakeInCourt] = {}
        for kind, condition in puzzles:
            court: InCourt | VirtualInCourt | None = None
            if kind == APP:
                court = self.court(condition, up_to)
            elif kind == VIRTUAL:
                court = self.virtual(condition, up_to)
            if court is not None:
                found[kind, condition] = court.stake(condition)
        return found

    def court(self, stake: bytes, up_to: int) -> InCourt | None:
        """Return what the court knew after block `up_to` of the instance that has a stake with that condition."""
        if stake in self._quiet:
            return None
        newest = list[CourtEvent]()
        if up_to >= self.head_number:
            newest = [event for event in self._told if (APP, stake) in puzzles_of(event)]
        until = at_most("number", self.head_number - 1 if newest else up_to)
        told = [*self._newest_told(stake, until), *newest]
        if told:
            self._loud.add(stake)
        elif up_to >= self.head_number and stake not in self._loud:
            if len(self._quiet) >= QUIET_MOST:
                self._quiet.clear()
            self._quiet.add(stake)
        return fold_court(told)

    def _newest_told(self, stake: bytes, until: Condition) -> list[CourtEvent]:
        """Return of what the court told of an instance what still counts: from the newest state that both signed on.

        What came before is not read: two players may bring as many states as they pay for, and each block asks this.
        """
        order = ("-number", f"-{CAME}")
        outcome = _PROOFS.rows(until, columns="time proof", order=order, limit=1, kind=APP, condition=stake)
        for time, proof in self._store.read(outcome):  # it decided, for ever
            return [ProofRegistered(stake, APP, proof, time)]
        limit, states = 16, list[AppStands]()
        while True:
            query = _PROOFS.rows(until, columns="proof", order=order, limit=limit, kind=STANDS, condition=stake)
            states = [decode_column(_STANDS, state, "chain_proofs") for (state,) in self._store.read(query)]
            agreed = next((at for at, state in enumerate(states) if state.is_agreed), None)
            if agreed is not None or len(states) < limit:
                return [*reversed(states if agreed is None else states[: agreed + 1])]
            limit *= 4

    def virtual(self, condition: bytes, up_to: int) -> VirtualInCourt | None:
        """Return what the court knew after block `up_to` of the virtual channel that has a lock with that condition."""
        newest = list[ProofRegistered]()
        if up_to >= self.head_number:
            newest = [
                event
                for event in self._told
                if isinstance(event, ProofRegistered) and (VIRTUAL, condition) in puzzles_of(event)
            ]
        until = at_most("number", self.head_number - 1 if newest else up_to)
        columns, order = "time proof", ("number", CAME)
        rows = self._store.read(_PROOFS.rows(until, columns=columns, order=order, kind=VIRTUAL, condition=condition))
        return fold_virtual([*(ProofRegistered(condition, VIRTUAL, proof, time) for time, proof in rows), *newest])


_SIGHTING: Codec[EventInBlock] = Codec(EventInBlock, canonical=False)

_STANDS: Codec[AppStands] = Codec(AppStands, canonical=False)

_EVENTS = table("chain_events", "number position sighting", keys=2)
_SECRETS = table("chain_secrets", "digest secret time number")
_LINKS = table("chain_links", "condition depth proof time number", keys=2)
_PROOFS = table("chain_proofs", "kind condition number proof time", keys=4)


def _seen(rows: Rows, moment: EventsSeen) -> None:
    for position, sighting in enumerate(moment.sightings):
        rows.put(_EVENTS, moment.number, position, _SIGHTING.encode(sighting))
    for event in moment.registered:
        match event:
            case SecretRegistered(digest, secret, time):
                rows.keep(_SECRETS, digest, secret, time, moment.number)
            case LinkRegistered(condition, link, depth, tip, unit, length, time):
                proof = StreamProof(link, depth, StreamTerms(tip, unit, length)).encode()
                rows.keep(_LINKS, condition, depth, proof, time, moment.number)
            case ProofRegistered(_, _, solution, time):
                for kind, condition in puzzles_of(event):
                    rows.keep(_PROOFS, kind, condition, moment.number, solution, time)
            case AppStands():
                for _, condition in puzzles_of(event):
                    rows.keep(_PROOFS, STANDS, condition, moment.number, _STANDS.encode(event), event.time)


def _undone(rows: Rows, moment: EventsUndone) -> None:
    for of in INDEX.tables:
        rows.delete(of, at_least("number", moment.number))


INDEX = Subject("index", (_EVENTS, _SECRETS, _LINKS, _PROOFS), {EventsSeen: _seen, EventsUndone: _undone})
