"""Taking down what happens to a channel, while it happens: in memory, bounded, and with next to no work.

What is kept holds secrets; nothing but `Recorder.recording` hands it out, and that leaves them out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec

from tallystick.channels.errors import InvalidSignature, TallystickError
from tallystick.channels.protocol.hashchain import StreamTerms
from tallystick.channels.session.inputs import Asks, BeginStream, PeerMessage, SignDue, SubmitPayments
from tallystick.channels.session.locks import LockKeeper
from tallystick.channels.session.recording import inputs_written
from tallystick.channels.session.recording.document import Asked, ChannelState, Recording, Step, digest
from tallystick.channels.session.recording.redaction import Redactor
from tallystick.channels.session.recording.snapshots import snapshot, state_of
from tallystick.channels.session.session import Session

STEPS_MAX = 10_000
"""Inputs that are kept: a recording that becomes longer ends there."""

BYTES_MAX = 4 << 20
"""Bytes of the peer's messages and of our runs of payments that are kept. Read, they take some ten times as much."""


class _Question:
    """One question to the keeper of locks."""

    def __init__(self) -> None:
        self.steps: list[_Happened] = []
        self.answer = b""


YES = b"\1"
"""An answer that is no bytes but yes; no is written as none. Of answers, a recording keeps the length."""


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

    @property
    def inner(self) -> list[_Happened]:
        """What the keeper of locks did to the channel meanwhile."""
        return [step for asked in self.asked for step in asked.steps]


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
        self._count = self._bytes = 0
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
        return self._count < STEPS_MAX and self._bytes < BYTES_MAX

    def take(self, given: Asks[Any], now: float, act: Callable[..., Any]) -> Any:
        """Let an input happen, and take it down."""
        session, keeper = self._session, self._session.locks.keeper
        if keeper is not None and not isinstance(keeper, _Listening):
            session.locks.keeper = cast(LockKeeper, _Listening(keeper, self))
        happened = _Happened(session, given, now)
        siblings = self._open[-1].asked[-1].steps if self._open and self._open[-1].asked else self._steps
        siblings.append(happened)
        self._open.append(happened)
        self._count += 1
        self._bytes += _size_of(given)
        try:
            return act(session, given, now, True)
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
        asked.answer = answer if isinstance(answer, bytes) else YES if answer is True else b""
        return answer

    def recording(self) -> Recording:
        """Return what has happened so far, without secrets."""
        made = deque(self.build(), maxlen=1)[0]
        assert made is not None
        return made

    def build(self) -> Iterator[Recording | None]:
        """Do the same in slices, so that others may work between them; what comes last is the recording."""
        whole, steps, redactor = self.whole, [step for step in self._steps if step.after is not None], Redactor()
        for step in steps:
            self._learn(redactor, step)
            yield None
        redactor.learn(self._start)
        start = redactor.redact(self._start)
        states: dict[int, str] = {}
        for step in steps:  # before what was said, which may be about a state that came later
            self._digest(redactor, step, states)
            yield None
        written: list[Step] = []
        for step in steps:
            written.append(self._step(redactor, step, states))
            yield None
        yield Recording(start, tuple(written), whole)

    def _learn(self, redactor: Redactor, step: _Happened) -> None:
        if isinstance(step.given, BeginStream):
            terms = StreamTerms(step.given.chain.tip, step.given.unit, step.given.chain.length)
            redactor.know(terms, step.given.expiry)
        redactor.learn(step.given)
        redactor.learn(step.after)
        for inner in step.inner:
            self._learn(redactor, inner)

    def _digest(self, redactor: Redactor, step: _Happened, states: dict[int, str]) -> None:
        for inner in step.inner:
            self._digest(redactor, inner, states)
        if step.after is not None:
            states[id(step)] = digest(redactor.redact(step.after))

    def _step(self, redactor: Redactor, step: _Happened, states: dict[int, str]) -> Step:
        redactor.holds = not isinstance(step.fault, InvalidSignature)
        given = inputs_written.plain(redactor, step.given, step.chain)
        redactor.holds = True
        asked = tuple(
            Asked(tuple(self._step(redactor, inner, states) for inner in one.steps), bytes(len(one.answer)))
            for one in step.asked
        )
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


def _size_of(given: Asks[Any]) -> int:
    """Return how many bytes an input that may be large has about."""
    if isinstance(given, PeerMessage):
        return len(given.frame)
    return 8 * len(given.amounts) if isinstance(given, SubmitPayments) else 0
