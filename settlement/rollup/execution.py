"""Running steps one after the other: what an operator makes batches with, and what a watcher does again. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from tallystick.settlement.rollup.batches import Batch, StepProof, show
from tallystick.settlement.rollup.rules import Place, Statements, StepContext, WrongStep, apply
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.steps import ENTRY_WORDS, NextEntry, QueueEntry, Step, decode_step, encode_step

Entries = Callable[[int], QueueEntry | None]
"""The chain's list: an entry by its number."""


def run_step(state: RollupState, step: Step, context: StepContext, entries: Entries) -> tuple[RollupState, Statements]:
    """Return the state after a step, and what must be signed for it; raise WrongStep."""
    if isinstance(step, NextEntry):
        context = replace(context, entry=entries(state.head))
    after = state.copy()
    return after, apply(after, step, context)


def make_batch(
    state: RollupState, steps: Sequence[Step], place: Place, time: int, queue_end: int, entries: Entries
) -> tuple[Batch, RollupState]:
    """Return the batch of these steps, and the state after it; raise WrongStep if one of them is wrong."""
    context = StepContext(place, time, queue_end)
    parts = [state.root]
    for step in steps:
        state, _ = run_step(state, step, context, entries)
        parts += (encode_step(step), state.root)
    if state.head != queue_end:
        raise WrongStep(f"the steps do {state.head} entries of the chain's list, not {queue_end}")
    return Batch(time, queue_end, state.accounts.root, state.channels.root, b"".join(parts)), state


def prove(batch: Batch, index: int, state: RollupState, context: StepContext, entries: Entries) -> StepProof:
    """Return the proof of a step, right or wrong; `state` is that before it."""
    before, word, after, siblings = show(batch, index)
    seen = state.copy(note=True)
    step = decode_step(word)
    entry = entries(state.head) if isinstance(step, NextEntry) and state.head < context.queue_end else None
    if step is not None:
        with contextlib.suppress(WrongStep):  # then what was looked at until then shows it
            apply(seen, step, replace(context, entry=entry))
    words = entry.words if entry is not None else (0,) * ENTRY_WORDS
    roots = state.accounts.root, state.channels.root
    return StepProof(index, before, word, after, siblings, *roots, state.head, words, tuple(seen.openings or ()))


class BatchReplay(NamedTuple):
    """What running a batch again showed."""

    state: RollupState
    """After it; before the wrong step if there is one."""
    statements: tuple[Statements, ...]
    """Of each step that was run: what must be signed."""
    states: tuple[RollupState, ...]
    """Before each step that was run."""
    wrong: int | None = None
    """The number of the first step that is wrong."""


def replay(batch: Batch, state: RollupState, place: Place, entries: Entries) -> BatchReplay:
    """Run a batch again, from the state before it, until a step of it is wrong."""
    context = StepContext(place, batch.time, batch.queue_end)
    statements: list[Statements] = []
    states: list[RollupState] = []
    for index, (_, word, claimed) in enumerate(batch.steps()):
        states.append(state)
        step = decode_step(word)
        try:
            if step is None:
                raise WrongStep("it is no step")
            after, needed = run_step(state, step, context, entries)
        except WrongStep:
            return BatchReplay(state, tuple(statements), tuple(states), index)
        if after.root != claimed:
            return BatchReplay(state, tuple(statements), tuple(states), index)
        statements.append(needed)
        state = after
    return BatchReplay(state, tuple(statements), tuple(states))
