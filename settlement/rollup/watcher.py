"""What a watcher does, without any IO: it runs every batch again, and says what must go to the chain. One is enough.

It believes nobody: a step that is wrong is proven, a signature that it was not given is demanded, and one that is not
shown in time ends the batch. What must be done is derived from what the chain told, again and again (`duties`), and
never remembered: nothing is lost by a crash, and after a reorganisation the other branch's events make another watcher.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, TypeAlias

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.rollup.batches import Batch, StepProof
from tallystick.settlement.rollup.disputes import with_side
from tallystick.settlement.rollup.events import (
    BatchConvicted,
    BatchPosted,
    CloseChallenged,
    ClosedAlone,
    EntryOrdered,
    RollupEvent,
    RollupFrozen,
    RollupWithdrawn,
    SignatureDemanded,
    SignatureShown,
)
from tallystick.settlement.rollup.execution import prove, replay
from tallystick.settlement.rollup.rules import Place, Statements, StepContext
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.steps import EntryKind, QueueEntry, list_hash


class ConvictBatch(Discreet, msgspec.Struct, frozen=True):
    """Prove to the chain that a step of this batch is wrong."""

    number: int
    proof: StepProof


class DemandSignatures(msgspec.Struct, frozen=True):
    """Demand the signatures of this step."""

    number: int
    position: int


class CallSilence(msgspec.Struct, frozen=True):
    """Tell the chain that signatures were not shown in time."""

    number: int
    position: int


class StopRollup(msgspec.Struct, frozen=True):
    """Tell the chain that this entry of its list is overdue: everything stops."""

    index: int


RollupDuty: TypeAlias = ConvictBatch | DemandSignatures | CallSilence | StopRollup


class StandingBatch(NamedTuple):
    """A batch that stands and is right."""

    serial: int
    batch: Batch
    before: RollupState
    """The state before it."""
    statements: tuple[Statements, ...]
    """Of each step: what must be signed."""


class RunningClose(NamedTuple):
    """A close by one side that the other one may answer."""

    closer: int
    seqs: tuple[int, int]
    """Of the balance proofs that stand."""
    deadline: int


class RollupWatcher:
    """The watcher of one rollup, from its first batch on."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.state = RollupState()
        """After all batches that stand and are right."""
        self.entries: list[QueueEntry] = []
        """The chain's list."""
        self.standing: list[StandingBatch] = []
        self.is_frozen = False
        self.paid: dict[tuple[Address, Address], int] = {}
        """What the chain paid out to each owner of each asset in all, by withdrawals and escapes."""
        self.disputes: dict[int, RunningClose] = {}
        """Channels that one side closes alone, by number, from then on until that is settled."""
        self.waiting: dict[tuple[int, int], int] = {}
        """Deadlines of demands, by batch and step."""
        self._wrong: ConvictBatch | None = None
        """The first batch that stands and is wrong."""
        self._wanted: dict[tuple[int, int], DemandSignatures] = {}
        self._asked: dict[tuple[int, int], Address] = {}
        """Who demanded what of the batches that stand: the chain takes no second demand."""
        self._dues: list[int] = []
        self._posted = 0

    @property
    def count(self) -> int:
        """How many batches stand on the chain, right or wrong."""
        return self._posted

    @property
    def is_wrong(self) -> bool:
        """Whether a batch that stands is wrong."""
        return self._wrong is not None

    def done(self, count: int) -> bytes:
        """Return the running hash of so many entries of the list."""
        return list_hash(self.entries[:count])

    def on_event(self, event: RollupEvent) -> list[RollupDuty]:
        """The chain told this, after all before: return what follows from it at once."""
        match event:
            case EntryOrdered():
                if event.index != len(self.entries):
                    raise InvalidInput(f"the chain told of entry {event.index}, and {len(self.entries)} is next")
                self.on_entry(event.entry, event.due)
            case BatchPosted():
                return self.on_batch(event.number, event.batch, event.serial)
            case BatchConvicted():
                self.on_convicted(event.number)
            case SignatureDemanded():
                self.on_demanded(event.number, event.position, event.deadline, event.by)
            case SignatureShown():
                self.on_shown(event.number, event.position)
            case RollupFrozen():
                self.is_frozen = True
            case RollupWithdrawn():
                key = (event.account, event.asset)
                self.paid[key] = self.paid.get(key, 0) + event.amount
            case ClosedAlone():
                self.disputes[event.index] = RunningClose(event.closer, event.seqs, event.deadline)
            case CloseChallenged() if event.index in self.disputes:
                found = self.disputes[event.index]
                self.disputes[event.index] = found._replace(seqs=with_side(found.seqs, event.sender, event.seq))
        return []

    def on_entry(self, entry: QueueEntry, due: int = 2**64) -> None:
        """The chain has ordered something."""
        self.entries.append(entry)
        if entry.kind == EntryKind.SETTLE:
            self.disputes.pop(entry.index, None)
        self._dues.append(due)

    def on_batch(self, number: int, batch: Batch, serial: int = 0) -> list[RollupDuty]:
        """A batch was posted: return what must be done if it is wrong. What stands on a wrong one falls with it."""
        self._posted = number + 1
        if self._wrong is not None:
            return []
        if number != len(self.standing):
            raise InvalidInput(f"the chain told of batch {number}, and {len(self.standing)} is next")
        found = replay(batch, self.state, self.place, self.entry)
        if found.wrong is not None:
            context = StepContext(self.place, batch.time, batch.queue_end)
            self._wrong = ConvictBatch(number, prove(batch, found.wrong, found.state, context, self.entry))
            return [self._wrong]
        self.standing.append(StandingBatch(serial, batch, self.state, found.statements))
        self.state = found.state
        return []

    def on_signatures(self, number: int, signatures: tuple[tuple[bytes, ...], ...]) -> list[RollupDuty]:
        """The operator gave the signatures of a batch, or none of them: return demands for all that are not good."""
        if number >= len(self.standing):
            return []  # it falls anyway
        duties: list[RollupDuty] = []
        for position, statements in enumerate(self.standing[number].statements):
            given = signatures[position] if position < len(signatures) else ()
            good = len(given) >= len(statements) and all(
                statement.is_signed(signature) for statement, signature in zip(statements, given, strict=False)
            )
            self._wanted.pop((number, position), None)
            if not good and (number, position) not in self._asked:
                duty = self._wanted[number, position] = DemandSignatures(number, position)
                duties.append(duty)
        return duties

    def on_demanded(self, number: int, position: int, deadline: int, by: Address = NATIVE) -> None:
        """An account has demanded signatures, which must be shown up to this time."""
        self.waiting[number, position] = deadline
        self._asked[number, position] = by
        self._wanted.pop((number, position), None)

    def on_shown(self, number: int, position: int) -> None:
        """They were shown: the chain has checked them."""
        self.waiting.pop((number, position), None)

    def on_convicted(self, number: int) -> None:
        """This batch and all after it are gone."""
        self._posted = number
        if self._wrong is not None and number <= self._wrong.number:
            self._wrong = None
        if number < len(self.standing):
            self.state = self.standing[number].before
            del self.standing[number:]
        self.waiting = {key: deadline for key, deadline in self.waiting.items() if key[0] < number}
        self._asked = {key: by for key, by in self._asked.items() if key[0] < number}
        self._wanted = {key: duty for key, duty in self._wanted.items() if key[0] < number}

    def demanded(self, by: Address) -> Counter[int]:
        """Return how many signatures of each batch that stands an account has demanded, by the batch's number."""
        return Counter(number for (number, _), whose in self._asked.items() if whose == by)

    def on_time(self, time: int) -> list[RollupDuty]:
        """It is this time on the chain: return what was not shown."""
        late = sorted(key for key, deadline in self.waiting.items() if deadline < time)
        return [CallSilence(number, position) for number, position in late[:1]]

    def duties(self, time: int, final: int) -> list[RollupDuty]:
        """Return all that must be done now; `final` batches can be convicted no more.

        The first wrong batch comes first: whatever else there is may fall with it.
        """
        if self._wrong is not None and self._wrong.number >= final:
            return [self._wrong]
        duties: list[RollupDuty] = [each for each in self.on_time(time) if isinstance(each, CallSilence)]
        duties += [each for key, each in sorted(self._wanted.items()) if key[0] >= final]
        head = self.queue_end
        if not self.is_frozen and head < len(self.entries) and time > self._dues[head]:
            duties.append(StopRollup(head))
        return duties

    @property
    def queue_end(self) -> int:
        """How many entries of the list are done after all that stands, right or wrong as far as it is known."""
        return self.state.head

    def due(self, index: int) -> int | None:
        """Return by when an entry must be done, None if there is none of that number."""
        return self._dues[index] if index < len(self._dues) else None

    def entry(self, index: int) -> QueueEntry | None:
        return self.entries[index] if index < len(self.entries) else None
