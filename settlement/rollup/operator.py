"""What an operator does, without any IO: it takes signed steps, makes batches, and shows signatures when asked.

Whoever drives it posts what `next_batch` gives only once that is stored, signatures and all: an operator that cannot
show them is convicted. After a start or a reorganisation another one begins at the state that the chain has.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.rollup.batches import STEPS_MAX, Batch, StepProof
from tallystick.settlement.rollup.execution import Entries, make_batch, prove, run_step
from tallystick.settlement.rollup.rules import Place, StepContext, WrongStep
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.steps import NextEntry, QueueEntry, Step, decode_step, encode_step

PENDING_MAX = 16 * STEPS_MAX
"""Steps that may wait for a batch."""


class SignedStep(msgspec.Struct, frozen=True):
    """A step with the signatures (64 bytes each) that it needs, in order."""

    step: Step
    signatures: tuple[bytes, ...]


class PostBatch(msgspec.Struct, frozen=True):
    """Post this batch, which becomes that of this number, and be able to show these signatures."""

    number: int
    batch: Batch
    signatures: tuple[tuple[bytes, ...], ...]


class ShowSignatures(Discreet, msgspec.Struct, frozen=True):
    """Answer a demand with these signatures."""

    number: int
    proof: StepProof
    signatures: tuple[bytes, ...]


def show_signatures(
    made: PostBatch, position: int, before: RollupState, place: Place, entries: Entries
) -> ShowSignatures:
    """Return what answers a demand for a step of a batch; `before` is the state before the batch."""
    batch, state = made.batch, before
    context = StepContext(place, batch.time, batch.queue_end)
    for index, (_, word, _) in enumerate(batch.steps()):
        step = decode_step(word)
        if index == position or step is None:
            break
        state, _ = run_step(state, step, context, entries)
    return ShowSignatures(made.number, prove(batch, position, state, context, entries), made.signatures[position])


class RollupOperator:
    """The operator of one rollup."""

    def __init__(
        self,
        place: Place,
        steps_max: int = STEPS_MAX,
        *,
        state: RollupState | None = None,
        number: int = 0,
        entries: Sequence[QueueEntry] = (),
    ) -> None:
        """It goes on from `state`, which the batches before `number` lead to; `entries` is the chain's list by now."""
        self.place = place
        self.state = state or RollupState()
        """After all batches that were made."""
        self.number = number
        """Of the next batch."""
        self._steps_max = steps_max
        self._queue: list[QueueEntry] = list(entries)
        self._pending: list[SignedStep] = []
        self._ahead = self.state
        self._posted: dict[int, tuple[PostBatch, RollupState]] = {}
        self._look_ahead(0)

    def on_entry(self, entry: QueueEntry) -> None:
        """The chain has ordered something: it is in the next batch."""
        self._queue.append(entry)

    def submit(self, *bundle: SignedStep, time: int) -> None:
        """Take steps for the next batch, all or none; raise WrongStep, InvalidSignature, or InvalidInput.

        Invalid is a number that is too large for a step, and any step while too many wait.
        """
        if len(self._pending) + len(bundle) > PENDING_MAX:
            raise InvalidInput(f"{PENDING_MAX} steps wait for a batch already")
        ahead = self._ahead
        while ahead.head < len(self._queue):
            ahead, _ = run_step(ahead, NextEntry(), self._context(time), self._entry)
        self._ahead = ahead
        for signed in bundle:
            if isinstance(signed.step, NextEntry):
                raise WrongStep("the chain alone orders what is in its list")
            encode_step(signed.step)  # what has no word would take the whole batch with it
            ahead, statements = run_step(ahead, signed.step, self._context(time), self._entry)
            if len(statements) != len(signed.signatures):
                raise InvalidSignature(f"this step needs {len(statements)} signatures, not {len(signed.signatures)}")
            for statement, signature in zip(statements, signed.signatures, strict=True):
                if not statement.is_signed(signature):
                    raise InvalidSignature(f"the signature is not that of 0x{statement.signer.hex()} over this step")
        self._ahead = ahead
        self._pending += bundle

    def next_batch(self, time: int) -> PostBatch | None:
        """Return a batch of what the chain ordered, and then of what waits; None if there is nothing.

        What does not fit any more (a close that has expired, a payer whose exit came first) is dropped.
        """
        state, steps = self.state, list[SignedStep]()
        while state.head < len(self._queue) and len(steps) < self._steps_max:
            steps.append(SignedStep(NextEntry(), ()))
            state, _ = run_step(state, NextEntry(), self._context(time), self._entry)
        head = state.head
        while self._pending and len(steps) < self._steps_max:
            signed = self._pending.pop(0)
            try:
                state, _ = run_step(state, signed.step, self._context(time), self._entry)
            except WrongStep:
                continue
            steps.append(signed)
        if not steps:
            self._look_ahead(time)
            return None
        batch, after = make_batch(self.state, [each.step for each in steps], self.place, time, head, self._entry)
        made = PostBatch(self.number, batch, tuple(each.signatures for each in steps))
        self._posted[self.number] = made, self.state
        self.number += 1
        self.state = after
        self._look_ahead(time)
        return made

    def on_demand(self, number: int, position: int) -> ShowSignatures:
        """Somebody demands a step's signatures: show them."""
        made, state = self._posted[number]
        return show_signatures(made, position, state, self.place, self._entry)

    @property
    def ahead(self) -> RollupState:
        """The state after all that waits for a batch: what the next step must fit."""
        return self._ahead

    @property
    def pending(self) -> tuple[SignedStep, ...]:
        """What waits for a batch."""
        return tuple(self._pending)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to make a batch of."""
        return not self._pending and self.state.head == len(self._queue)

    def _look_ahead(self, time: int) -> None:
        """Run again what still waits, from the newest batch on; what does not fit any more is dropped."""
        waiting, self._pending, self._ahead = self._pending, [], self.state
        while self._ahead.head < len(self._queue):
            self._ahead, _ = run_step(self._ahead, NextEntry(), self._context(time), self._entry)
        for signed in waiting:
            try:
                self._ahead, _ = run_step(self._ahead, signed.step, self._context(time), self._entry)
            except WrongStep:
                continue
            self._pending.append(signed)

    def _context(self, time: int) -> StepContext:
        return StepContext(self.place, time, len(self._queue))

    def _entry(self, index: int) -> QueueEntry | None:
        return self._queue[index] if index < len(self._queue) else None
