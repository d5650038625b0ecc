"""Catching up with a long history: the synthetic chain is one, and what follows it misses nothing and holds little."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from simulation.evm_nodes import FakeInternet, SyntheticHost
from simulation.processes import TALLY, run
from tallystick.channels.protocol.objects import ChannelId
from tallystick.sdk.bench.follow import FollowResult, FollowRow, broken_bounds
from tallystick.sdk.bench.follow_driver import OWN, open_following_node, open_following_tower
from tallystick.sdk.bench.synthetic_chain import AT, FIRST, HistoryOptions, SyntheticChain, time_of
from tallystick.settlement.chain import ContractChannel, Header
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.ethereum.evm import blocks as blocks_module
from tallystick.settlement.ethereum.evm import ranges
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.headers import read_seen
from tallystick.settlement.following import follower as following
from tallystick.settlement.following.follower import HOLD_SECONDS, BlockRemoved, Follower, for_a_while

Opened = Callable[..., AbstractAsyncContextManager[tuple[Follower, Callable[[], list[Any]]]]]
SMALL = HistoryOptions(blocks=12_000, channels=60, seed=3)


def chain_of(history: HistoryOptions) -> SyntheticChain:
    return SyntheticChain(history, [history.drawer().lasting(OWN, 7)])


@pytest.fixture(scope="module")
def small() -> SyntheticChain:
    """A chain on which some windows run at the head."""
    chain = chain_of(SMALL)
    assert chain.contested()
    return chain


@asynccontextmanager
async def asked(chain: SyntheticChain) -> AsyncIterator[EvmChain]:
    net = FakeInternet(one=SyntheticHost(chain))
    async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, start=FIRST, transport=net) as client:
        yield client


def there(chain: SyntheticChain, opened: Opened) -> list[Any]:
    """What whoever has followed the chain has to have found."""
    if opened is open_following_node:
        return [chain.deposits(OWN)]
    return sorted(each.channel.hex() for each in chain.contested())


MANY = 200
EITHER = pytest.mark.parametrize("opened", [open_following_node, open_following_tower], ids=["node", "tower"])


def test_the_headers_chain_and_their_fields_make_their_hashes(small: SyntheticChain) -> None:
    again = chain_of(SMALL)
    other = chain_of(msgspec.structs.replace(SMALL, seed=4))
    assert again.hash(again.head) == small.hash(small.head) != other.hash(other.head)
    for number in (0, 1, 127, 128, 300, *small.holding, small.head):
        seen = read_seen(msgspec.json.decode(small.block(number)))
        assert seen.proven and seen.header.hash == small.hash(number) and seen.header.time == time_of(number)
        assert seen.header.parent == small.hash(number - 1)
        assert seen.may_hold(AT.contract) is (number in small.holding)


@EITHER
async def test_all_that_is_on_the_chain_is_found_also_by_who_is_broken_off_halfway(
    opened: Opened, small: SyntheticChain, tmp_path: Path
) -> None:
    positions = []
    for number in (FIRST, FIRST + SMALL.blocks // 3, small.head, small.head):
        async with asked(small) as chain, opened(tmp_path, chain, lambda: 0.5) as (follower, found):
            positions.append(follower.followed.next)
            await follower.wait_reached(number)
            done = found()
    assert positions == sorted(positions) and positions[-1] == small.head + 1
    assert done == there(small, opened)


@EITHER
async def test_a_history_takes_few_commits_and_one_for_each_block_if_each_takes_long(
    opened: Opened, small: SyntheticChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[list[int]] = []
    for hold in (HOLD_SECONDS, -1.0):
        monkeypatch.setattr(following, "HOLD_SECONDS", hold)
        async with asked(small) as chain, opened(tmp_path / str(hold), chain, lambda: 0.5) as (follower, found):
            sizes, honest = list[int](), follower.on_steps

            async def on_steps(steps: Any, sizes: list[int] = sizes, honest: Any = honest) -> int:
                sizes.append(taken := await honest(steps))
                return int(taken)

            follower.on_steps = on_steps
            await follower.wait_reached(small.head)
            assert found() == there(small, opened)
            groups.append(sizes)
    assert len(groups[0]) < len(small.holding) / 2
    assert set(groups[1]) == {1}


async def test_what_takes_long_is_not_taken_in_at_once() -> None:
    clock, steps = trio.testing.MockClock(), [BlockRemoved(Header(1, bytes(32), bytes(32), 0))] * 9

    async def count(each: float) -> int:
        taken = 0
        for _ in for_a_while(steps):
            clock.jump(each)
            taken += 1
        return taken

    for each, expected in ((0.0, 9), (HOLD_SECONDS, 2), (2 * HOLD_SECONDS, 1)):
        assert await trio.to_thread.run_sync(lambda each=each: trio.run(count, each, clock=clock)) == expected


async def test_a_tower_goes_on_up_to_the_close_of_which_the_chain_tells_nothing(
    small: SyntheticChain, tmp_path: Path
) -> None:
    closes = sorted(
        (number, each.channel)
        for each in small.channels.values()
        for number, what in each.happenings
        if type(what).__name__ == "Closed"
    )
    number, silent = closes[len(closes) // 2]
    async with asked(small) as chain:
        honest, told, refused = chain.channels, False, trio.Event()

        async def channels(which: Any) -> tuple[ContractChannel | None, ...]:
            if silent in which and not told:
                if follower.fault is not None:
                    refused.set()
                raise ChainUnavailable("not now")
            return await honest(which)

        chain.channels = channels  # type: ignore[method-assign]
        async with open_following_tower(tmp_path, chain, lambda: 0.5) as (follower, found):
            before = max((at for at in small.holding if at < number), default=FIRST)
            await refused.wait()
            assert follower.followed.next - 1 == before, "what was before it is durable, and it is not passed over"
            told = True
            await follower.wait_reached(small.head)
            assert found() == there(small, open_following_tower)


async def test_what_is_held_of_a_history_does_not_grow_with_how_busy_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ranges, blocks_module):
        monkeypatch.setattr(module, "LOGS_MANY", MANY)
    busy = chain_of(HistoryOptions(blocks=2_000, channels=300))
    assert busy.logs_count > 5 * MANY
    async with asked(busy) as chain:
        first, blocks, held = FIRST, 0, 0
        while (piece := await chain.history(first)) is not None:
            assert piece.last.number >= first
            first, blocks = piece.last.number + 1, blocks + len(piece.blocks)
            held = max(held, sum(len(block.events) for block in piece.blocks))
        assert first == busy.finalized + 1
        assert blocks == sum(number <= busy.finalized for number in busy.holding)
        assert held <= MANY + 10, "the last block may hold some more"


def row(**changes: Any) -> FollowRow:
    calm = FollowRow(
        who="node",
        start="new",
        first=FIRST,
        blocks=1_000_000,
        seconds=20.0,
        cpu_seconds=10.0,
        blocks_per_second=50_000.0,
        requests=900,
        memory=[70_000_000, 90_000_000],
        growth=30_000_000,
        disk=20_000_000,
    )
    return msgspec.structs.replace(calm, **changes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, ""),
        ({"seconds": 61.0}, "61.0 s"),
        ({"start": "again", "seconds": 5.5}, "5.5 s"),
        ({"growth": 101_000_000}, "memory"),
        ({"start": "killed", "first": FIRST}, "again"),
        ({"start": "killed", "first": FIRST + 500_001}, ""),
    ],
)
def test_what_takes_too_long_or_too_much_is_told(changes: dict[str, Any], word: str) -> None:
    result = FollowResult(
        control=2.0,
        blocks=1_000_000,
        channels=1,
        logs=1,
        holding=1,
        unsettled=64,
        range_limit=10_000,
        seed=1,
        rows=[row(**changes)],
    )
    assert all(word in bound for bound in broken_bounds(result))
    assert len(list(broken_bounds(result))) == bool(word)


@pytest.mark.processes
@pytest.mark.soak
async def test_a_small_run_tells_of_all_three_starts(tmp_path: Path) -> None:
    options = ("--blocks", "1000", "--channels", "5", "--who", "tower", "--directory", str(tmp_path), "--json")
    code, output, errors = await run([*TALLY, "bench", "follow", *options])
    result = msgspec.json.decode(output, type=FollowResult)
    assert code == (1 if result.broken else 0), errors
    assert [found.start for found in result.rows] == ["new", "again", "killed"]
    assert result.rows[0].blocks == 1_000 and result.rows[1].blocks == 0


async def test_many_channels_are_asked_for_at_once_by_who_has_heard_of_none(small: SyntheticChain) -> None:
    host, unknown = SyntheticHost(small), ChannelId(bytes(32))
    known = [each.channel for each in small.channels.values()]
    net = FakeInternet(one=host)
    found: list[tuple[ContractChannel | None, ...]] = []
    asked_for = [*known[::-1], unknown, known[0]]
    for at_once in (True, False):
        async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, start=FIRST, transport=net) as chain:
            before = host.node.requests
            if at_once:
                found.append(await chain.channels(asked_for))
                assert host.node.requests - before < 10
            else:
                found.append(tuple([await chain.channel(each) for each in asked_for]))
                assert host.node.requests - before > len(known)
    assert found[0] == found[1] and found[0].index(None) == len(known)
