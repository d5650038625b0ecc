"""Several Ethereum nodes as one: who is asked, who is left alone for a while, and whose word counts.

Rules:
- One that fails, is busy, lags or serves another chain rests, and the next one is asked: for one question, and for
  those that belong together, always the same one. If all rest, they are asked all the same, but for who asked to be
  left alone.
- Before it is asked anything, and after each fault but a lone lost answer, a node shows that it serves the chain, and
  the contract on it.
- The newest head is the highest that is told, but for one that is far ahead of all others that move: a single node
  cannot send us after blocks that nobody else knows, nor hold us back. Who is behind it by more than some blocks is
  asked nothing that has to be new.
- If all fail, that is ChainUnavailable, and says what each of them said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

import msgspec
import trio

from tallystick.channels.transport.retries import Jitter, Pauses
from tallystick.settlement.chain import Header
from tallystick.settlement.errors import ChainError, ChainUnavailable, RpcError, WrongChain
from tallystick.settlement.ethereum.evm.endpoint import Busy, Endpoint, NodeQuestion

T = TypeVar("T")

REST = Pauses("a chain node that failed", 1.0, 60.0)

LONE_PAUSE = 4.0
"""Seconds for which the only node is left alone at most, however long it asks for: what has a deadline cannot wait."""

LAG_MAX = 3
"""Blocks by which a node may be behind the newest head, and still be asked for what has to be new."""

AHEAD_MAX = 64
"""Blocks by which a node may be ahead of all others that move."""

AHEAD_SECONDS = 300.0
"""The same in time, where blocks are fast."""

FROZEN_SECONDS = 30.0
"""After which a node whose newest block is the same still does not move."""

IDENTIFIED_SECONDS = 300.0
"""After which a node has to show again which chain it serves."""


class NodeState(msgspec.Struct):
    """What is known of one node."""

    endpoint: Endpoint
    rests_until: float = 0.0
    failures: int = 0
    busy_until: float = 0.0
    """It asked to be left alone until then: nobody asks it anything."""
    fault: str = ""
    """What it did wrong last; empty if its last answer was right."""
    identified: float | None = None
    """When it last showed which chain it serves."""
    head: int | None = None
    """The newest block that it told of."""
    head_hash: bytes = b""
    moved: float = 0.0
    """When that was another one than before."""
    client: str = ""
    """Which program it is: a name of `refusals.CLIENTS`, or empty."""
    proven: bool = False
    """Whether it has told headers whose fields make their hashes."""


Identify = Callable[[NodeState], Awaitable[None]]
"""Raises unless a node serves the right chain; notes what it is."""


class NodeFigures(msgspec.Struct, frozen=True):
    """How one node does, for people."""

    url: str
    head: int | None
    failures: int
    fault: str


def newest(heads: Sequence[Header], frozen: Collection[Header] = (), ahead: int = AHEAD_MAX) -> Header:
    """Return the head that counts of those that several nodes tell, of which there is one at least.

    Those of nodes that do not move (`frozen`) make no other one seem too far ahead.
    """
    ranked = sorted(heads, key=lambda head: head.number, reverse=True)
    while len(ranked) > 1:
        others = [head for head in ranked[1:] if head not in frozen]
        if not others or ranked[0].number <= others[0].number + ahead:
            break
        ranked.pop(0)
    return ranked[0]


class ChainNodes:
    """The nodes of one chain, in the order in which they are asked."""

    def __init__(self, endpoints: Sequence[Endpoint], identify: Identify, jitter: Jitter) -> None:
        self._states = [NodeState(endpoint) for endpoint in endpoints]
        self._identify = identify
        self._jitter = jitter

    def __len__(self) -> int:
        return len(self._states)

    def __repr__(self) -> str:
        return f"<ChainNodes {', '.join(state.endpoint.url for state in self._states)}>"

    def figures(self) -> tuple[NodeFigures, ...]:
        """Return how each does."""
        return tuple(NodeFigures(s.endpoint.url, s.head, s.failures, s.fault) for s in self._states)

    async def ask(self, *questions: NodeQuestion, at_least: int | None = None) -> list[Any]:
        """Return what one node answers to all of these. Raise ChainUnavailable, or ChainError if all make no sense.

        `at_least`: who has not told of a block of that number is asked last.
        """
        return (await self.ask_one(*questions, at_least=at_least))[1]

    async def ask_one(
        self, *questions: NodeQuestion, at_least: int | None = None, but: NodeState | None = None
    ) -> tuple[NodeState, list[Any]]:
        """Do the same, and tell who it was; `but` is asked last."""
        faults: list[Exception] = []
        for state in self._order(at_least, but):
            try:
                return state, await self.ask_this(state, *questions)
            except (ChainUnavailable, ChainError) as error:
                faults.append(error)
        raise _all(faults)

    async def read(
        self, read: Callable[[NodeState, list[Any]], T], *questions: NodeQuestion, at_least: int | None = None
    ) -> tuple[NodeState, T]:
        """Return what `read` makes of one node's answers, and who it was.

        One of whose answers it makes nothing (ChainError) is passed over; if they make no sense, it rests, too. Raise
        as `ask`.
        """
        faults: list[Exception] = []
        for state in self._order(at_least, None):
            try:
                return state, read(state, await self.ask_this(state, *questions))
            except RpcError as error:
                faults.append(error)
            except ChainUnavailable as error:
                faults.append(error)
            except ChainError as error:
                self.blame(state, error)
                faults.append(error)
        raise _all(faults)

    async def read_several(
        self,
        is_enough: Callable[[list[tuple[NodeState, T]]], bool],
        read: Callable[[NodeState, list[Any]], T],
        *questions: NodeQuestion,
        at_least: int | None,
    ) -> list[tuple[NodeState, T]]:
        """Return what `read` makes of the answers of two nodes, or of as many as it takes for them to be enough.

        That they never are is no error; raise ChainUnavailable if fewer than two answer.
        """
        found: list[tuple[NodeState, T]] = []
        faults: list[Exception] = []
        for state in self._order(at_least, None):
            try:
                found.append((state, read(state, await self.ask_this(state, *questions))))
            except (ChainUnavailable, ChainError) as error:
                faults.append(error)
            if len(found) > 1 and is_enough(found):
                break
        if len(found) < 2:
            raise ChainUnavailable(f"{len(found)} of 2 chain nodes say it; {_all(faults)}")
        return found

    async def ask_this(self, state: NodeState, *questions: NodeQuestion) -> list[Any]:
        """Return what this node answers; let it rest if it does not. Who asked to be left alone is not asked."""
        if (left := state.busy_until - trio.current_time()) > 0:
            raise ChainUnavailable(f"the chain node at {state.endpoint.url} asks to be left alone for {left:.0f} s")
        try:
            await self._identified(state)
            answers = await state.endpoint.ask(questions)
        except (ChainUnavailable, ChainError) as error:
            self.blame(state, error)
            raise
        state.failures, state.fault, state.rests_until = 0, "", 0.0
        return answers

    async def ask_all(self, *questions: NodeQuestion) -> list[tuple[NodeState, list[Any]]]:
        """Return what each that does not rest answers, at once. Raise as `ask` if none does."""
        found: list[tuple[NodeState, list[Any]]] = []
        faults: list[Exception] = []
        now = trio.current_time()
        awake = [state for state in self._states if state.rests_until <= now] or self._order(None, None)[:1]

        async def ask(state: NodeState) -> None:
            try:
                found.append((state, await self.ask_this(state, *questions)))
            except (ChainUnavailable, ChainError) as error:
                faults.append(error)

        async with trio.open_nursery() as nursery:
            for state in awake:
                nursery.start_soon(ask, state)
        if not found:
            raise _all(faults)
        return sorted(found, key=lambda pair: self._states.index(pair[0]))

    def blame(self, state: NodeState, error: Exception) -> None:
        """Let a node rest for what it did."""
        pause = error.seconds if isinstance(error, Busy) else 0.0
        if len(self._states) == 1:
            pause = min(pause, LONE_PAUSE)
        state.busy_until = trio.current_time() + pause
        pause = max(pause, REST.after(state.failures, self._jitter))
        state.failures += 1
        state.fault = str(error)
        if state.failures > 1 or not isinstance(error, ChainUnavailable):  # one lost answer is no other node
            state.identified = None
        state.rests_until = trio.current_time() + pause

    async def _identified(self, state: NodeState) -> None:
        now = trio.current_time()
        if state.identified is None or now > state.identified + IDENTIFIED_SECONDS:
            await self._identify(state)
            state.identified = now

    def _order(self, at_least: int | None, but: NodeState | None) -> list[NodeState]:
        """Return all nodes, those first that should know."""
        now = trio.current_time()
        best = max((state.head or 0 for state in self._states if state.rests_until <= now), default=0)
        wanted = best - LAG_MAX if at_least is None else at_least

        def rank(state: NodeState) -> tuple[bool, bool, bool, float]:
            resting = state.rests_until > now
            return state is but, resting, (state.head or 0) < wanted, state.rests_until if resting else 0.0

        return sorted(self._states, key=rank)


def _all(faults: Sequence[Exception]) -> Exception:
    """Return the one error that several make."""
    if len(faults) == 1:
        return faults[0]
    text = "; ".join(str(fault) for fault in faults)
    if all(isinstance(fault, WrongChain) for fault in faults):
        return WrongChain(text)
    if all(isinstance(fault, RpcError) for fault in faults):
        return faults[0]
    if all(isinstance(fault, ChainError) for fault in faults):
        return ChainError(text)
    return ChainUnavailable(text)
