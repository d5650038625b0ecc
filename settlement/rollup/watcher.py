"""What a watcher does, without any IO: it runs every batch again, and says what must go to the chain. One is enough.

It believes nobody: a step that is wrong is proven, a signature that it was not given is demanded, and one that is not
shown in time ends the batch.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.rollup.batches import Batch, StepProof
from tallystick.settlement.rollup.execution import BatchReplay, prove, replay
from tallystick.settlement.rollup.rules import Place, StepContext
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.steps import QueueEntry


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


RollupDuty: TypeAlias = ConvictBatch | DemandSignatures | CallSilence


class RollupWatcher:
    """The watcher of one rollup, from its first batch on."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._state = RollupState()
        self._queue: list[QueueEntry] = []
        self._replays: list[tuple[RollupState, BatchReplay]] = []
        """Of each batch that stands and is right: the state before it, and what it did."""
        self._wrong: int | None = None
        """The number of the first batch that stands and is wrong."""
        self._waiting: dict[tuple[int, int], int] = {}
        """Deadlines of demands, by batch and step."""

    def on_entry(self, entry: QueueEntry) -> None:
        """The chain has ordered something."""
        self._queue.append(entry)

    def on_batch(self, number: int, batch: Batch) -> list[RollupDuty]:
        """A batch was posted: return what must be done if it is wrong. What stands on a wrong one falls with it."""
        if number != len(self._replays):
            return []
        found = replay(batch, self._state, self.place, self._entry)
        if found.wrong is not None:
            self._wrong = number
            context = StepContext(self.place, batch.time, batch.queue_end)
            return [ConvictBatch(number, prove(batch, found.wrong, found.state, context, self._entry))]
        self._replays.append((self._state, found))
        self._state = found.state
        return []

    def on_signatures(self, number: int, signatures: tuple[tuple[bytes, ...], ...]) -> list[RollupDuty]:
        """The operator gave the signatures of a batch, or none of them: return demands for all that are not good."""
        if self._wrong is not None and number >= self._wrong:
            return []  # it falls anyway
        duties: list[RollupDuty] = []
        for position, statements in enumerate(self._replays[number][1].statements):
            given = signatures[position] if position < len(signatures) else ()
            good = len(given) >= len(statements) and all(
                statement.is_signed(signature) for statement, signature in zip(statements, given, strict=False)
            )
            if not good and (number, position) not in self._waiting:
                duties.append(DemandSignatures(number, position))
        return duties

    def on_demanded(self, number: int, position: int, deadline: int) -> None:
        """Somebody has demanded signatures, which must be shown up to this time."""
        self._waiting[number, position] = deadline

    def on_shown(self, number: int, position: int) -> None:
        """They were shown: the chain has checked them."""
        self._waiting.pop((number, position), None)

    def on_convicted(self, number: int) -> None:
        """This batch and all after it are gone."""
        if self._wrong is not None and number <= self._wrong:
            self._wrong = None
        if number < len(self._replays):
            self._state = self._replays[number][0]
            del self._replays[number:]
        self._waiting = {key: deadline for key, deadline in self._waiting.items() if key[0] < number}

    def on_time(self, time: int) -> list[RollupDuty]:
        """It is this time on the chain: return what was not shown."""
        late = sorted(key for key, deadline in self._waiting.items() if deadline < time)
        return [CallSilence(number, position) for number, position in late[:1]]

    def _entry(self, index: int) -> QueueEntry | None:
        return self._queue[index] if index < len(self._queue) else None
