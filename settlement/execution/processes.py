"""Helpers that are processes: two cores' worth under the interpreter's lock.

The owner waits for nobody here either. It hands each helper a few bundles, works itself, and takes up what has come
back whenever it is between two bundles of its own; when none is left, it works on those that were handed out last. An
answer that is not the one to the question that was asked first ends its helper. One that died is replaced, a few times.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tallystick.channels.errors import MalformedMessage
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.execution.helper import FRAME
from tallystick.settlement.execution.prepared import Bundle, Preparation
from tallystick.settlement.execution.questions import NAME_SIZE, name_of, read_answer, write_question

AHEAD = 3
"""Bundles that one helper has at a time."""

SHARED_MIN = 16
"""Transactions of a block that are worth the trouble."""

REPLACED_MAX = 16
"""Helpers that are started in place of such as died, by one crew, ever."""

ANSWER_MAX = 2**26
"""Bytes of an answer."""

_CHUNK = 2**16
_STOP_SECONDS = 5.0


class _AskedBundle(NamedTuple):
    name: bytes
    by: Shared
    number: int
    """Of the bundle."""


class Helper:
    """One process, and what it was asked."""

    def __init__(self) -> None:
        """Start it; it needs some tenths of a second until it answers, for which nobody waits."""
        own, other = socket.socketpair()
        flags = ["-I"] if sys.flags.isolated else ["-P"]
        command = [sys.executable, *flags, "-m", "tallystick.settlement.execution.helper"]
        with other:
            self.process = subprocess.Popen(
                command,
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                process_group=0,  # what the terminal tells all is told to the owner alone
            )
        own.setblocking(False)
        self._socket = own
        self._sending = bytearray()
        self._received = bytearray()
        self.asked: deque[_AskedBundle] = deque()
        self.ended = False

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked something."""
        return not self.ended and len(self.asked) < AHEAD

    def ask(self, question: bytes, asked: _AskedBundle) -> None:
        """Send a question, as far as that is possible at once."""
        self.asked.append(asked)
        self._sending += FRAME.pack(len(question)) + question

    def exchange(self) -> None:
        """Send what is to be sent, and take what came, without waiting."""
        if self.ended:
            return
        try:
            with suppress(BlockingIOError):
                while self._sending:
                    del self._sending[: self._socket.send(self._sending)]
            with suppress(BlockingIOError):
                while True:
                    data = self._socket.recv(_CHUNK)
                    if not data:
                        raise ConnectionResetError
                    self._received += data
                    if len(data) < _CHUNK:
                        break
            self._take()
        except (ConnectionError, MalformedMessage):
            self.end()

    def end(self) -> None:
        """Stop it, and give back what it was asked."""
        if not self.ended:
            self.ended = True
            self._socket.close()
            self.process.kill()
            for each in self.asked:
                each.by.on_lost(each.number)
            self.asked.clear()

    def wait(self, seconds: float) -> None:
        """Wait for something to come, no longer than that, and take it."""
        select.select([self._socket], [], [], seconds)
        self.exchange()

    def hang_up(self) -> None:
        """Let it end by itself, as nothing more comes."""
        if not self.ended:
            self.ended = True
            self._socket.close()

    def wait_ended(self) -> None:
        """Wait until it has ended, or make it end."""
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _take(self) -> None:
        received = self._received
        while len(received) >= FRAME.size:
            (size,) = FRAME.unpack_from(received)
            if not NAME_SIZE <= size <= ANSWER_MAX:
                raise MalformedMessage("a helper's answer has no name, or is too long")
            end = FRAME.size + size
            if len(received) < end:
                return
            name = bytes(received[FRAME.size : FRAME.size + NAME_SIZE])
            if not self.asked or self.asked[0].name != name:
                raise MalformedMessage("a helper answers what it was not asked")
            asked = self.asked[0]
            asked.by.on_answer(asked.number, bytes(received[FRAME.size + NAME_SIZE : end]))
            self.asked.popleft()
            del received[:end]


class ProcessCrew:
    """Processes that help, one block at a time."""

    def __init__(self, count: int) -> None:
        """They are started by the first block that is worth it."""
        self._count = count
        self._replaced = 0
        self.helpers: list[Helper] = []

    def share(self, preparation: Preparation, bundles: Sequence[Sequence[bytes]]) -> Shared:
        """Return the bundles prepared, in order: iterate it once."""
        if sum(map(len, bundles)) < SHARED_MIN:
            return Shared(preparation, bundles, ())
        self._man()
        return Shared(preparation, bundles, self.helpers)

    def _man(self) -> None:
        """Start those who are not there."""
        while len(self.helpers) < self._count:
            self.helpers.append(Helper())
        for number, helper in enumerate(self.helpers):
            helper.exchange()
            if helper.ended and self._replaced < REPLACED_MAX:
                helper.process.wait()
                self._replaced += 1
                self.helpers[number] = Helper()

    def wait_ready(self, seconds: float) -> None:
        """Wait until all helpers answer, for measurements; no longer than that."""
        nothing = Preparation(Deployment(0, NATIVE), lambda id: None)
        question = write_question(nothing.at, nothing.find, ()) or b""
        end = time.monotonic() + seconds
        self._man()
        for helper in self.helpers:
            helper.ask(question, _AskedBundle(name_of(question), Shared(nothing, (), ()), 0))
            helper.exchange()
            while helper.asked and (left := end - time.monotonic()) > 0:
                helper.wait(left)

    def close(self) -> None:
        """End all."""
        for helper in self.helpers:
            helper.hang_up()
        for helper in self.helpers:
            helper.wait_ended()


class Shared:
    """The bundles of one block prepared, in order: iterate it once. What others make changes no bit of it."""

    def __init__(self, preparation: Preparation, bundles: Sequence[Sequence[bytes]], helpers: Sequence[Helper]) -> None:
        self._preparation = preparation
        self._bundles = bundles
        self._helpers = helpers
        self._results: list[Bundle | None] = [None] * len(bundles)
        self._unclaimed = deque(range(len(bundles)))
        self._given: list[int] = []
        """To helpers, in order, and not back yet."""
        self._returned: list[int] = []
        """By helpers, not made."""
        self._over = False
        self.again: list[Sequence[bytes]] = []
        """What the owner made though a helper may have, too."""

    def __iter__(self) -> Iterator[Bundle]:
        results = self._results
        try:
            for index in range(len(results)):
                self._exchange()
                while (found := results[index]) is None:
                    self._make_one()
                    self._exchange()
                results[index] = None
                yield found
        finally:
            self._over = True

    def on_answer(self, index: int, answer: bytes) -> None:
        """Take up what a helper made, unless it was made meanwhile. Raise MalformedMessage if it cannot be right."""
        if self._over or index not in self._given:
            return
        if answer:
            self._results[index] = read_answer(answer, self._bundles[index], self._preparation.prepare)
            self._given.remove(index)
        else:
            self.on_lost(index)

    def on_lost(self, index: int) -> None:
        """Make a bundle that a helper could not make, in its turn."""
        if index in self._given:
            self._given.remove(index)
            self._returned.append(index)

    def _exchange(self) -> None:
        for helper in self._helpers:
            helper.exchange()
        asked = True
        while asked:
            asked = False
            for helper in self._helpers:  # one each: what is needed first is begun first
                if self._unclaimed and helper.is_ready and self._ask(helper):
                    asked = True

    def _ask(self, helper: Helper) -> bool:
        """Give the next bundle to a helper; return whether that was possible."""
        index = self._unclaimed[0]
        at, find = self._preparation.at, self._preparation.find
        question = write_question(at, find, self._bundles[index])
        if question is None:
            return False
        self._unclaimed.popleft()
        self._given.append(index)
        helper.ask(question, _AskedBundle(name_of(question), self, index))
        helper.exchange()
        return True

    def _make_one(self) -> None:
        """Make the next bundle that nobody has; if there is none, the last that was given away."""
        if self._returned:
            chosen = self._returned.pop()
        elif self._unclaimed:
            chosen = self._unclaimed.popleft()
        else:
            chosen = self._given.pop()
            self.again.append(self._bundles[chosen])
        self._results[chosen] = self._preparation.prepare(self._bundles[chosen])


@contextmanager
def open_processes(count: int) -> Iterator[ProcessCrew]:
    """Give a crew of so many processes. At the end of the block they are ended."""
    crew = ProcessCrew(count)
    try:
        yield crew
    finally:
        crew.close()
