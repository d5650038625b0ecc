"""The blocks of a real chain, as several nodes tell them: heads, headers that chain, and the logs of their blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, NamedTuple

import trio

from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.settlement.chain import Block, Header, History
from tallystick.settlement.errors import ChainError, ChainUnavailable, RpcError
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.evm.channels import ChannelsHeard
from tallystick.settlement.ethereum.evm.endpoint import NodeQuestion
from tallystick.settlement.ethereum.evm.headers import RecentHeaders, SeenHeader, check_chain, read_seen
from tallystick.settlement.ethereum.evm.logs import PlacedLog, blocks_of, is_forged, read_logs, silent_blocks
from tallystick.settlement.ethereum.evm.nodes import (
    AHEAD_MAX,
    AHEAD_SECONDS,
    FROZEN_SECONDS,
    ChainNodes,
    NodeState,
    newest,
)
from tallystick.settlement.ethereum.evm.profiles import ChainProfile
from tallystick.settlement.ethereum.evm.questions import LATEST, block_question, read_answer
from tallystick.settlement.ethereum.evm.ranges import LOGS_MANY, RangePlan, begin, next_range
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex

SUSPECTED = 16
"""Blocks that are silent, though their filters are not, up to which each is looked into by itself; the newest, if there
are more and there is no other node."""


PIECES = 8
"""Ranges of logs in one piece of history."""

SECOND_SECONDS = 15.0
"""How long a second node may take for a piece of history that the first has told."""

SEARCHES = 64
"""Searches that are remembered as far as they got."""

UNSETTLED = 128
"""The newest blocks of those searched, which are asked for again, as the branch may have been left."""


class Searched(NamedTuple):
    """How far a search got: the blocks `first` to `last`, and the logs in them."""

    first: int
    last: int
    logs: tuple[PlacedLog, ...]


class BlockReader:
    """Part of `EvmChain`. Its methods raise ChainUnavailable and ChainError."""

    def __init__(
        self,
        nodes: ChainNodes,
        at: Deployment,
        profile: ChainProfile,
        heard: ChannelsHeard,
        start: int,
        tellers: Sequence[Address],
    ) -> None:
        """`heard` is told every log of the `tellers` that passes; nothing before block `start` is asked for."""
        self._nodes = nodes
        self._at = at
        self._tellers = tellers
        self._profile = profile
        self._heard = heard
        self._start = start
        self._plan: RangePlan = begin(profile.range_max)
        self._head: tuple[float, Header] | None = None
        self._recent = RecentHeaders()
        self._asking = trio.Lock()
        self._searches: dict[str, Searched] = {}

    async def head(self) -> Header:
        """Return the newest block's header: of all nodes' heads the one that counts."""
        async with self._asking:
            now = trio.current_time()
            if self._head is not None and now < self._head[0] + self._profile.poll_seconds / 2:
                return self._head[1]
            heads: list[Header] = []
            frozen: list[Header] = []
            faults: list[ChainError] = []
            for state, (answer,) in await self._nodes.ask_all(LATEST):
                try:
                    seen = self._seen(state, answer)
                    if seen is None:
                        raise ChainError("the chain node has no newest block")
                except ChainError as error:
                    self._nodes.blame(state, error)
                    faults.append(error)
                else:
                    if state.head_hash != seen.header.hash:
                        state.head_hash, state.moved = seen.header.hash, now
                    state.head = seen.header.number
                    heads.append(seen.header)
                    if now > state.moved + max(FROZEN_SECONDS, 8 * self._profile.block_seconds):
                        frozen.append(seen.header)
            if not heads:
                raise faults[0]
            self._head = now, newest(heads, frozen, max(AHEAD_MAX, round(AHEAD_SECONDS / self._profile.block_seconds)))
            return self._head[1]

    async def header(self, number: int) -> Header | None:
        """Return the header of that number on the best branch, None above the head."""

        def read(state: NodeState, answers: list[Any]) -> Header | None:
            seen = self._seen(state, answers[0])
            if seen is not None and seen.header.number != number:
                raise ChainError(f"the chain node was asked for block {number} and sent {seen.header.number}")
            return None if seen is None else seen.header

        return (await self._nodes.read(read, block_question(number), at_least=number))[1]

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        """Return up to `limit` consecutive blocks of one branch from number `first` on; empty above the head."""
        first = max(first, 0)
        last = min(first + limit - 1, (await self.head()).number)
        if last < first:
            return ()
        state, told = await self._told(self._recent.first_to_ask(first, last), last)
        headers = self._recent.joined(first, told)
        proven = state.proven and self._profile.header_hash
        if headers is None or (proven and not all(seen.proven for seen in headers)):
            # another branch, or what is known is of a node that tells less of a header: all from the first on
            state, headers = await self._told(first, last)
        try:
            check_chain(headers, first, state.proven and self._profile.header_hash)
            logs = await self._logs(state, first, headers[-1].header.number) if headers else ()
            logs = await self._complete(state, headers, logs)
        except ChainError as error:
            self._nodes.blame(state, error)
            raise
        blocks = blocks_of(headers, logs, self._at)
        self._recent.keep(headers)
        self._heard.hear(logs)
        return blocks

    async def _told(self, first: int, last: int) -> tuple[NodeState, list[SeenHeader]]:
        """Return the headers of a range as one node tells them, as far as it knows them."""

        def read(state: NodeState, answers: list[Any]) -> list[SeenHeader]:
            seen = [self._seen(state, answer) for answer in answers]
            found = [each for each in takewhile(lambda each: each is not None, seen) if each is not None]
            if not found:
                raise RpcError(0, f"it knows no block {first}")
            return found

        questions = [block_question(number) for number in range(first, last + 1)]
        try:
            return await self._nodes.read(read, *questions, at_least=last)
        except RpcError:  # of all nodes
            state, answers = await self._nodes.ask_one(*questions, at_least=last)
            return state, [] if answers[0] is None else read(state, answers)

    async def history(self, first: int) -> History | None:
        """Return the blocks with events of a piece of the chain that stays, None if there is none from `first` on.

        With several nodes, two are asked for the logs of the piece, and what either tells is taken: nodes forget logs
        rather than make them up, and each log's block is looked at.
        """
        final = await self.final_number()
        if final < first:
            return None
        last = min(final, first + PIECES * self._plan.size - 1)

        def read(state: NodeState, answers: list[Any]) -> SeenHeader:
            seen = self._seen(state, answers[0])
            if seen is None or seen.header.number != last:
                raise ChainError(f"the chain node at {state.endpoint.url} does not know its own history")
            return seen

        state, end = await self._nodes.read(read, block_question(last), at_least=last)
        own, reached = await self._logs_until(state, first, last, LOGS_MANY)
        if reached < last:
            last = reached
            end = read(state, await self._nodes.ask_this(state, block_question(last)))
        other, others = await self._second(state, first, last)
        placed = sorted({*own, *others}, key=lambda each: (each.number, each.index))
        numbers = sorted({each.number for each in placed})
        answers = await self._nodes.ask_this(state, *(block_question(number) for number in numbers))
        headers = [self._seen(state, answer) for answer in answers]
        known = [seen for seen in headers if seen is not None]
        places = {seen.header.hash: seen for seen in known}
        for teller, told in ((state, own), (other, others)):
            lies = {each for each in told if not _may_be(each, places.get(each.hash))}
            if lies:
                error = ChainError("the chain node shows logs of a block that holds none; use another node")
                self._nodes.blame(teller, error)
                if teller is state:
                    raise error
                placed = [each for each in placed if each not in lies]
        blocks = blocks_of(known, placed, self._at)
        self._heard.hear(placed)
        return History(tuple(block for block in blocks if block.events), end.header)

    async def _second(self, state: NodeState, first: int, last: int) -> tuple[NodeState, tuple[PlacedLog, ...]]:
        """Return another node than this one, and the logs that it tells; none if there is none, or it cannot."""
        with trio.move_on_after(SECOND_SECONDS), suppress(ChainUnavailable, ChainError):
            other, _ = await self._nodes.ask_one(block_question(last), at_least=last, but=state)
            return other, await self._logs(other, first, last) if other is not state else ()
        return state, ()

    async def events(self, channel: ChannelId, first: int, last: int) -> tuple[Block, ...]:
        """Return the blocks of a short range that hold events of a channel, as any of all nodes tells them."""
        where = {"fromBlock": quantity(first), "toBlock": quantity(last)}
        answers = await self._nodes.ask_all(self._log_question(where, [None, to_hex(channel)]))
        told = {placed for _, (answer,) in answers for placed in self._read_logs(answer) or ()}
        numbers = sorted({placed.number for placed in told})
        state, headers = await self._nodes.ask_one(*map(block_question, numbers), at_least=last)
        known = [seen for seen in (self._seen(state, answer) for answer in headers) if seen is not None]
        places = {(seen.header.number, seen.header.hash) for seen in known}
        fitting = (each for each in told if (each.number, each.hash) in places)
        placed = sorted(fitting, key=lambda each: (each.index, each.log.data))
        return blocks_of(known, placed, self._at)

    async def wait(self, known: bytes) -> None:
        """Return once the head's hash differs from `known`."""
        while (await self.head()).hash == known:  # noqa: ASYNC110 (it is asked for anew each time)
            await trio.sleep(self._profile.poll_seconds)

    async def tagged(self, tag: str) -> Header | None:
        """Return the block that the chain calls `safe` or `finalized`, None if a node knows no such tag."""

        def read(state: NodeState, answers: list[Any]) -> Header | None:
            seen = None if isinstance(answers[0], RpcError) else self._seen(state, answers[0])
            return None if seen is None else seen.header

        return (await self._nodes.read(read, NodeQuestion("eth_getBlockByNumber", (tag, False))))[1]

    async def final_number(self) -> int:
        """Return the newest block that no reorganisation reaches: as the chain says, or by depth if it does not."""
        head, said = await self.head(), await self.tagged("finalized")
        by_depth = max(0, head.number - self._profile.final_blocks)
        if said is None:
            return by_depth
        at_most = max(0, head.number - self._profile.final_blocks // 2)  # some nodes call their newest block final
        return min(said.number, at_most)

    async def _logs(self, state: NodeState, first: int, last: int, topics: Sequence[Any] = ()) -> tuple[PlacedLog, ...]:
        """Return the contract's logs of a range as this node tells them, in as many questions as it takes."""
        return (await self._logs_until(state, first, last, None, topics))[0]

    async def _logs_until(
        self, state: NodeState, first: int, last: int, enough: int | None, topics: Sequence[Any] = ()
    ) -> tuple[tuple[PlacedLog, ...], int]:
        """Do the same until there are so many of them, and the others of the last block; return which that is, too."""
        found: list[PlacedLog] = []
        while (piece := next_range(self._plan, first, last)) is not None and (enough is None or len(found) < enough):
            where = {"fromBlock": quantity(piece[0]), "toBlock": quantity(piece[1])}
            refused = RangePlan(piece[1] - piece[0] + 1, self._plan.most).refused()
            try:
                (answer,) = await self._nodes.ask_this(state, self._log_question(where, topics))
            except BaseException:  # also where our patience ends: a range that is too long may be answered by silence
                self._plan = refused
                raise
            if isinstance(answer, RpcError):
                if piece[0] == piece[1]:
                    error = ChainUnavailable(
                        f"the chain node at {state.endpoint.url} has no logs of {piece[0]}: {answer}"
                    )
                    self._nodes.blame(state, error)
                    raise error
                self._plan = refused
                continue
            logs = read_answer(lambda value: read_logs(value, self._tellers), answer)
            if any(not piece[0] <= placed.number <= piece[1] for placed in logs):
                raise ChainError("the chain node sent logs of other blocks than those asked for; use another node")
            found += logs
            self._plan = self._plan.taken(len(logs))
            first = piece[1] + 1
        if enough is None or len(found) <= enough:
            return tuple(found), first - 1
        last = found[enough - 1].number
        return tuple(placed for placed in found if placed.number <= last), last

    async def _logs_of_any(self, first: int, last: int, topics: Sequence[Any]) -> tuple[PlacedLog, ...]:
        """Return the contract's logs of a range as one node tells them, or else a second."""
        state, _ = await self._nodes.ask_one(block_question(last), at_least=last)
        try:
            return await self._logs(state, first, last, topics)
        except (ChainUnavailable, ChainError):
            other, _ = await self._nodes.ask_one(block_question(last), at_least=last, but=state)
            if other is state:
                raise
            return await self._logs(other, first, last, topics)

    async def _complete(
        self, state: NodeState, headers: Sequence[SeenHeader], logs: tuple[PlacedLog, ...]
    ) -> tuple[PlacedLog, ...]:
        """Return the logs with those that this node left out, if another one tells them, or it by the block's hash."""
        if is_forged(headers, logs):
            raise ChainError("the chain node shows logs of a block that holds none; use another node")
        silent = silent_blocks(headers, logs, self._tellers)
        if not silent:
            return logs
        more, unsaid = set[PlacedLog](), silent
        if len(silent) > SUSPECTED:
            told, known = await self._of_another(state, headers)
            more, unsaid = set(told), tuple(seen for seen in silent if seen.header.number > known)
        more |= set(await self._of_blocks(state, unsaid[-SUSPECTED:]))
        hashes = {seen.header.hash for seen in silent}
        more = {placed for placed in more if placed.hash in hashes}.difference(logs)
        if more:
            self._nodes.blame(state, ChainError("the chain node left out logs of the contract"))
        return tuple(sorted((*logs, *more), key=lambda placed: (placed.number, placed.index)))

    async def _of_another(self, state: NodeState, headers: Sequence[SeenHeader]) -> tuple[tuple[PlacedLog, ...], int]:
        """Return the logs that another node tells of these blocks, and up to which block; up to -1 if none does."""
        try:
            other, (answer,) = await self._nodes.ask_one(LATEST, but=state)
            seen = self._seen(other, answer)
            if other is state or seen is None:
                return (), -1
            last = min(seen.header.number, headers[-1].header.number)
            return await self._logs(other, headers[0].header.number, last), last
        except (ChainUnavailable, ChainError):
            return (), -1

    async def _of_blocks(self, state: NodeState, silent: Sequence[SeenHeader]) -> list[PlacedLog]:
        """Return the logs of blocks by their hashes, as another node tells them, or this one where that cannot.

        Raise ChainUnavailable if none can: that there are none must be said.
        """
        if not silent:
            return []
        questions = [self._log_question({"blockHash": to_hex(seen.header.hash)}) for seen in silent]
        other, answers = await self._nodes.ask_one(*questions, but=state)
        told = [self._read_logs(answer) for answer in answers]
        unsaid = [at for at, logs in enumerate(told) if logs is None]
        if unsaid and other is not state:
            for at, answer in zip(
                unsaid, await self._nodes.ask_this(state, *(questions[at] for at in unsaid)), strict=True
            ):
                told[at] = self._read_logs(answer)
        found: list[PlacedLog] = []
        for seen, logs in zip(silent, told, strict=True):
            if logs is None:
                raise ChainUnavailable(f"no chain node tells the logs of block {seen.header.number}")
            found += logs
        return found

    def _read_logs(self, answer: Any) -> tuple[PlacedLog, ...] | None:
        """Return the logs in an answer, None if it is an error, or makes no sense."""
        try:
            return read_answer(lambda value: read_logs(value, self._tellers), answer)
        except ChainError:
            return None

    def _log_question(self, where: dict[str, str], topics: Sequence[Any] = ()) -> NodeQuestion:
        told = [to_hex(teller) for teller in self._tellers]
        address = told if len(told) > 1 else told[0]
        return NodeQuestion("eth_getLogs", ({"address": address, "topics": list(topics), **where},))

    def _seen(self, state: NodeState, answer: Any) -> SeenHeader | None:
        """Return the header in an answer of this node; None if it knows no such block. Raise ChainError."""
        if answer is None:
            return None
        seen = read_answer(read_seen, answer)
        state.proven = state.proven or seen.proven
        return seen

    async def search(self, topics: Sequence[Any], is_found: Callable[[], bool]) -> None:
        """Hear the contract's logs with these topics, the newest first, until what is looked for was heard.

        It may take longer than who asks has patience: who asks again goes on where it was broken off.
        """
        name = repr(topics)
        head = (await self.head()).number
        searched = self._searches.pop(name, None) or Searched(head + 1, head, ())
        newer = max(searched.first, searched.last + 1 - UNSETTLED)
        if newer <= head:
            logs = await self._logs_of_any(newer, head, topics)
            older = (each for each in searched.logs if each.number < newer)
            searched = Searched(searched.first, head, (*older, *logs))
            self._heard.hear(searched.logs)
        while not is_found() and searched.first > self._start:
            first = max(self._start, searched.first - self._plan.size)
            self._searches[name] = searched
            logs = await self._logs_of_any(first, searched.first - 1, topics)
            searched = Searched(first, searched.last, (*logs, *searched.logs))
            self._heard.hear(searched.logs)
            if len(self._searches) > SEARCHES:
                del self._searches[next(iter(self._searches))]
        self._searches.pop(name, None)


def _may_be(placed: PlacedLog, seen: SeenHeader | None) -> bool:
    """Whether a log can be of this block, which its hash names."""
    return seen is not None and seen.header.number == placed.number and (not seen.proven or seen.may_hold(placed.by))
