"""Living through a recording again: the same rules, on the same inputs, without key, disk, network or clock.

Each state is compared with what it was: where they differ, another release does something else, and what follows says
nothing about what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec

from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.messages import decode
from tallystick.channels.session.inputs import PeerMessage
from tallystick.channels.session.locks import LockKeeper
from tallystick.channels.session.machine import process
from tallystick.channels.session.recording import inputs_written
from tallystick.channels.session.recording.document import Asked, ChannelState, Recording, Step, digest
from tallystick.channels.session.recording.snapshots import restored, state_of


class Lived(msgspec.Struct, frozen=True):
    """One input, and what became of it."""

    number: int
    depth: int
    """0; more for what the keeper of locks did within another input."""
    time: float
    what: str
    """The input, or the peer's message."""
    given: Any
    """Its fields, as the recording has them."""
    refused: str
    """Why; empty: it was not."""
    says: tuple[str, ...]
    """Messages to the peer that follow from it, and from those within it."""
    tells: tuple[str, ...]
    """Events for the application."""
    state: ChannelState
    agrees: bool
    """Whether it is the state that it was."""


class Replay:
    """One recording, to be lived through once."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._session = restored(recording.start)
        self._step: Step | None = None
        self._questions: Iterator[Asked] = iter(())
        self._within: list[Lived] = []
        self._depth = 0
        self._number = 0
        self._session.locks.fresh = lambda: self._step is None or self._step.fresh
        self._session.lost = lambda: self._step is not None and self._step.lost

    @property
    def start(self) -> ChannelState:
        """The state at the beginning. Only before anything was lived through."""
        return state_of(self._session)

    def run(self) -> Iterator[Lived]:
        """Live through it, input by input; those that came within another one come before it."""
        for step in self._recording.steps:
            self._within = []
            self._live(step)
            yield from self._within

    def _live(self, step: Step) -> None:
        session, outer = self._session, (self._step, self._questions)
        self._step, self._questions = step, iter(step.asked)
        session.locks.keeper = cast(LockKeeper, _Keeper(self._asked)) if step.keeper else None
        for place in step.withdrawn:
            session.outbox.tickets[place].give_up()
        given = inputs_written.given(step.kind, step.given, session.channel.id)
        number, refused = self._number, ""
        self._number += 1
        try:
            process(session, given, step.now)
        except TallystickError as error:
            refused = f"{type(error).__name__}: {error}"
        finally:
            self._step, self._questions = outer
        state = state_of(session)
        agrees = digest(_blanked(state)) == step.state and _kind(refused) == _kind(step.fault)
        effects = session.effects.take()
        says = tuple(type(decode(frame)).__name__ for _, frame in effects.frames)
        tells = tuple(type(event).__name__ for event in effects.events)
        what = type(given.message).__name__ if isinstance(given, PeerMessage) else step.kind
        self._within.append(Lived(number, self._depth, step.now, what, step.given, refused, says, tells, state, agrees))

    def _asked(self) -> bytes:
        """Do what the keeper did when it was asked this."""
        asked = next(self._questions, None)
        if asked is None:
            return b""
        self._depth += 1
        try:
            for step in asked.steps:
                self._live(step)
        finally:
            self._depth -= 1
        return asked.answer


class _Keeper:
    """Does what the keeper of locks did."""

    def __init__(self, asked: Callable[[], bytes]) -> None:
        self._asked = asked

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*arguments: Any) -> Any:
            given = self._asked()
            return given if name == "refusal" else bool(given) if name in ("covers", "stands_for") else ()

        return answer


def _blanked(state: ChannelState) -> ChannelState:
    """Return the state without the reasons that policy gives for a rejection: in a recording, they are blank."""
    said = state.channel.rejections
    blank = tuple(msgspec.structs.replace(one, reason=bytes(len(one.reason))) for one in said)
    channel = msgspec.structs.replace(state.channel, rejections=blank) if said else state.channel
    return msgspec.structs.replace(state, channel=channel)


def _kind(fault: str) -> str:
    return fault.partition(":")[0]
