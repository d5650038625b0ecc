"""Taking down what happens to a channel, while it happens: in memory, bounded, and with next to no work.

What is kept holds secrets; nothing but `Recorder.recording` hands it out, and that leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from tallystick.channels.errors import InvalidSignature, TallystickError
from tallystick.channels.protocol.hashchain import StreamTerms
from tallystick.channels.session.inputs import Asks, BeginStream, Env, SignDue
from tallystick.channels.session.locks import LockKeeper
from tallystick.channels.session.recording import inputs_written
from tallystick.channels.session.recording.document import Asked, Recording, Step, digest
from tallystick.channels.session.recording.redaction import Redactor
from tallystick.channels.session.recording.snapshots import snapshot
from tallystick.channels.session.session import Session
from tallystick.channels.session.state import ChannelState, state_of

STEPS_MAX = 100_000
"""Inputs that are kept: a recording that becomes longer ends there."""


class _Question:
    """One question to the keeper of locks."""

    def __init__(self) -> None:
        self.steps: list[_Happened] = []
        self.answer = b""


class _Happened:
    """One input, as it came."""

    def __init__(self, session: Session, given: Asks[Any], now: float) -> None:
        self.given = given
        self.now = now
        self.fresh, self.lost = session.locks.fresh(), session.lost()
        self.keeper = session.locks.keeper is not None
        self.withdrawn = session.outbox.withdrawn if isinstance(given, SignDue) else ()
        self.chain = inputs_written.chain_of(given, session)
        self.asked: list[_Question] = []
        self.fault: TallystickError | None = None
        self.after: ChannelState | None = None


class _Listening:
    """Stands before the keeper of locks: what it does to the channel belongs to the input within which it is asked."""

    def __init__(self, keeper: LockKeeper, recorder: Recorder) -> None:
        self.keeper = keeper
        self._recorder = recorder

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self._recorder.ask(getattr(self.keeper, name), arguments)


class Recorder:
    """What has happened to one channel since it was made."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._start = snapshot(session)
        self._steps: list[_Happened] = []
        self._open: list[_Happened] = []
        """The input that is being worked on, and those within which it came."""
        self._count = 0
        session.recorder = self

    def end(self) -> None:
        """Take nothing more down."""
        if self._session.recorder is self:
            self._session.recorder = None
        keeper = self._session.locks.keeper
        if isinstance(keeper, _Listening):
            self._session.locks.keeper = keeper.keeper

    @property
    def whole(self) -> bool:
        """Whether all that happened is in it."""
        return self._count < STEPS_MAX

    def take(self, given: Asks[Any], env: Env, act: Callable[[Session, Asks[Any], Env], Any]) -> Any:
        """Let an input happen, and take it down."""
        session, keeper = self._session, self._session.locks.keeper
        if keeper is not None and not isinstance(keeper, _Listening):
            session.locks.keeper = cast(LockKeeper, _Listening(keeper, self))
        happened = _Happened(session, given, env.now)
        siblings = self._open[-1].asked[-1].steps if self._open and self._open[-1].asked else self._steps
        siblings.append(happened)
        self._open.append(happened)
        self._count += 1
        try:
            return act(session, given, env)
        except TallystickError as error:
            happened.fault = error
            raise
        finally:
            self._open.pop()
            happened.after = state_of(session)
            if not self.whole and not self._open:
                self.end()

    def ask(self, question: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Let the keeper decide."""
        if not self._open:
            return question(*arguments)
        asked = _Question()
        self._open[-1].asked.append(asked)
        answer = question(*arguments)
        asked.answer = answer if isinstance(answer, bytes) else b""
        return answer

    def recording(self) -> Recording:
        """Return what has happened so far, without secrets."""
        redactor = Redactor()
        self._learn(redactor, self._steps)
        redactor.learn(self._start)
        start = redactor.redact(self._start)
        states = self._states(redactor, self._steps)
        return Recording(start, self._written(redactor, self._steps, states), self.whole)

    def _learn(self, redactor: Redactor, steps: list[_Happened]) -> None:
        for step in steps:
            if isinstance(step.given, BeginStream):
                terms = StreamTerms(step.given.chain.tip, step.given.unit, step.given.chain.length)
                redactor.know(terms, step.given.expiry)
            redactor.learn(step.given)
            redactor.learn(step.after)
            for asked in step.asked:
                self._learn(redactor, asked.steps)

    def _states(self, redactor: Redactor, steps: list[_Happened]) -> dict[int, str]:
        """Return the digests of all states: first of all, as messages speak of states that come later."""
        found: dict[int, str] = {}
        for step in steps:
            for asked in step.asked:
                found |= self._states(redactor, asked.steps)
            if step.after is not None:
                found[id(step)] = digest(redactor.redact(step.after))
        return found

    def _written(self, redactor: Redactor, steps: list[_Happened], states: dict[int, str]) -> tuple[Step, ...]:
        return tuple(self._step(redactor, step, states) for step in steps)

    def _step(self, redactor: Redactor, step: _Happened, states: dict[int, str]) -> Step:
        redactor.holds = not isinstance(step.fault, InvalidSignature)
        given = inputs_written.plain(redactor, step.given, step.chain)
        redactor.holds = True
        asked = tuple(Asked(self._written(redactor, one.steps, states), bytes(len(one.answer))) for one in step.asked)
        return Step(
            type(step.given).__name__,
            msgspec.to_builtins(given),
            step.now,
            step.fresh,
            step.lost,
            step.keeper,
            step.withdrawn,
            asked,
            "" if step.fault is None else f"{type(step.fault).__name__}: {step.fault}",
            states.get(id(step), ""),
        )
