"""Whole nodes play apps with each other: locks, moves, ends; crashes; a player that vanishes, and the court."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from tallystick.channels.apps.inputs import MakeMove
from tallystick.channels.errors import ChannelNotReady, InvalidInput, TallystickError
from tallystick.channels.protocol.apps import APP
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.apps import AppHandle
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.enforcement.budgets import DutyPolicy

DEPOSIT, STAKE = 10**9, 10**8
CONFIG = Config(challenge_period=600, duties=DutyPolicy(worth_percent=0, unlock_patience=60), app_patience=120)
WINS = {"alice": (0, 3, 1, 4, 2), "bob": (0, 3, 1, 4, 8, 5), "nobody": (0, 1, 2, 4, 3, 5, 7, 6, 8)}


@contextlib.asynccontextmanager
async def table(seed: int) -> AsyncIterator[World]:
    """Two nodes with a channel, in which both have coins."""
    async with open_world(seed, config=CONFIG, names=("alice", "bob")) as world:
        alice, bob = await world.start("alice"), await world.start("bob")
        channel = await alice.open_channel(world.address("bob"), DEPOSIT)
        await bob.channel(channel.id).deposit(DEPOSIT)
        assert await world.until(lambda: bob.channel(channel.id).spendable > STAKE)
        yield world


async def accept_all(node: Node) -> None:
    """Say yes to whatever is proposed."""
    async for proposal in node.apps.proposals():
        async with proposal.accept():
            pass


@contextlib.asynccontextmanager
async def accepting(node: Node) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_all, node)
        yield
        nursery.cancel_scope.cancel()


async def begin(world: World, **terms: int) -> None:
    """Let Alice propose a game, and Bob agree to it."""
    alice, bob = world.node("alice"), world.node("bob")
    async with accepting(bob), alice.channels[0].open_app("tictactoe", stake=STAKE, **terms):
        assert await world.until(lambda: len(list(bob.apps)) == 1 and begun(bob))


def begun(node: Node) -> bool:
    return all(game.held.agreed is not None for game in node.apps)


def game_of(world: World, name: str) -> AppHandle:
    node = world.node(name)
    return [*node.apps, *node.apps.history()][0]


async def play(world: World, cells: tuple[int, ...]) -> None:
    """Make these moves in turn."""
    for count, cell in enumerate(cells):
        name = ("alice", "bob")[count % 2]
        assert await game_of(world, name).wait_turn()
        await game_of(world, name).move(cell=cell)


def balances(world: World) -> tuple[int, int]:
    """What Alice and Bob own in their channel."""
    return world.node("alice").channels[0].balances


def no_locks(world: World) -> bool:
    return not any(
        lock.kind == APP
        for name in ("alice", "bob")
        for view in world.node(name).engine.views
        for locks in (view.channel.newest.locks, view.channel.theirs.simplex.locks)
        for lock in locks
    )


@pytest.mark.parametrize(("winner", "gain"), [("alice", STAKE), ("bob", -STAKE), ("nobody", 0)])
def test_a_game_is_locked_played_and_paid_and_leaves_memory(winner: str, gain: int) -> None:
    async def main() -> None:
        async with table(1) as world:
            before = balances(world)
            await begin(world)
            await play(world, WINS[winner])
            for name in ("alice", "bob"):
                await game_of(world, name).wait_ended()
            assert await world.until(lambda: no_locks(world) and not world.node("alice").apps.apps.playing)
            assert await world.until(lambda: not world.node("bob").apps.apps.playing)
            assert balances(world) == (before[0] + gain, before[1] - gain)
            assert len(world.node("alice").apps.history()) == 1

    simulate(main, 1)


def test_a_refusal_comes_to_nothing_and_says_why() -> None:
    async def main() -> None:
        async with table(2) as world:
            bob = world.node("bob")
            async with trio.open_nursery() as nursery:

                async def refuse() -> None:
                    async for proposal in bob.apps.proposals():
                        proposal.refuse("not today")
                        break

                nursery.start_soon(refuse)
                with pytest.raises(ChannelNotReady, match="not today"):
                    async with world.node("alice").channels[0].open_app("tictactoe", stake=STAKE):
                        raise AssertionError
            assert no_locks(world)

    simulate(main, 2)


def test_what_is_proposed_in_one_step_is_told_apart() -> None:
    async def main() -> None:
        async with table(8) as world:
            desk, channel = world.node("alice").apps, world.node("alice").channels[0].id
            games = {desk.propose(channel, "tictactoe", (5, 5), parameters={}).instance for _ in range(3)}
            assert await world.until(lambda: {each.instance for each in world.node("bob").apps.proposed} == games)
            desk.find(min(games)).withdraw("no")
            assert desk.find(min(games)).phase.name == "ENDED"
            assert await world.until(lambda: len(world.node("bob").apps.proposed) == 2)

    simulate(main, 8)


def test_a_stake_that_no_app_expects_is_rejected_at_once() -> None:
    async def main() -> None:
        async with table(3) as world:
            channel = world.node("alice").channels[0]
            await channel.lock(STAKE, world.chain.newest.header.time + 5_000, bytes(32), kind=APP)
            assert await world.until(lambda: bool(channel.view.channel.newest.next_lock))
            assert await world.until(lambda: no_locks(world), 60)
            assert balances(world) == (DEPOSIT, DEPOSIT)

    simulate(main, 3)


def test_a_stake_that_does_not_fit_is_not_proposed() -> None:
    async def main() -> None:
        async with table(4) as world:
            for stake, expiry in ((2 * DEPOSIT, None), (STAKE, world.chain.newest.header.time + 100)):
                with pytest.raises(InvalidInput):
                    async with world.node("alice").channels[0].open_app("tictactoe", stake=stake, expiry=expiry):
                        raise AssertionError

    simulate(main, 4)


@pytest.mark.parametrize("gone", ["alice", "bob"])
@pytest.mark.parametrize("moves", [0, 1, 4, 5])
def test_who_vanishes_loses_by_the_rules_and_the_other_is_paid_on_chain(gone: str, moves: int) -> None:
    """After each number of moves: the other goes to court, closes, redeems, and has what the rules give."""
    stays = {"alice": "bob", "bob": "alice"}[gone]

    async def main() -> None:
        async with table(5) as world:
            wins = moves < 5 or stays == "alice"
            await begin(world, expiry=world.chain.newest.header.time + (20_000 if moves < 5 else 2_000), period=60)
            await play(world, WINS["alice"][:moves])
            await world.crash(gone)
            game, node = game_of(world, stays), world.node(stays)
            if game.held.is_ours:  # its own move is never acknowledged
                node.apps.apps.apply(game.instance, MakeMove(game.held.app.move(cell=WINS["alice"][moves])))
            coins = await node.balance()
            async with world.brisk(10.0):
                assert await world.until(lambda: game.paid is not None, 1_000 if moves < 5 else 4_000, every=20)
                assert game.paid in ([((0, STAKE), (STAKE, 0))[game.player]] if wins else [(0, 0), (0, STAKE)])
                if wins:
                    assert await world.until(lambda: node.channels[0].phase.name == "GONE", 6_000, every=20)
                    assert await node.balance() > coins + DEPOSIT + STAKE * 9 // 10

    simulate(main, 5)


@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_effect_changes_nothing_of_the_end(name: str, after: bool) -> None:
    """From the proposal to the last move: whatever is not told yet is told again."""

    async def main(index: int) -> bool:
        """Play with a crash at that effect; return whether there were so many."""
        async with table(6) as world:
            before = balances(world)
            await begin(world)
            life = world.seats[name].life
            assert life is not None
            life.gate.aim(index, after=after)
            last = len(life.gate.effects) + index
            for count, cell in enumerate(WINS["bob"]):
                mover = ("alice", "bob")[count % 2]
                for _ in range(2):
                    if not world.is_up(name):
                        await world.start(name)
                    with contextlib.suppress(InvalidInput):
                        move_soon(world, mover, cell)
                    await world.until(lambda count=count: moved(world, count + 1), 40)  # type: ignore[misc]
            if not world.is_up(name):
                await world.start(name)
            assert await world.until(lambda: no_locks(world) and not world.node("alice").apps.apps.playing)
            assert balances(world) == (before[0] - STAKE, before[1] + STAKE)
            return len(life.gate.effects) > last

    index = 0
    while simulate(main, 6, index):
        index += 2  # before one of them is after the one before it
    assert index > 10


def move_soon(world: World, name: str, cell: int) -> None:
    """Sign a move, and wait for nothing."""
    if world.is_up(name) and world.node(name).apps.apps.playing:
        game = game_of(world, name)
        world.node(name).apps.apps.apply(game.instance, MakeMove(game.held.app.move(cell=cell)))


def moved(world: World, number: int) -> bool:
    """Whether both nodes are up, and both have signed that state."""
    for name in ("alice", "bob"):
        if not world.is_up(name):
            return True
        held = game_of(world, name).held
        if held.agreed is None or held.agreed.state.number < number:
            return False
    return True


async def quietly(ask: Callable[[], Awaitable[None]]) -> None:
    """Do something on a node that may crash meanwhile."""
    with contextlib.suppress(TallystickError):
        await ask()


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_a_crash_while_it_begins_leaves_it_to_begin_or_nothing(name: str) -> None:
    """From the proposal to the first state: no stake is left behind."""

    def rests(world: World) -> bool:
        if not all(world.is_up(each) for each in ("alice", "bob")):
            return False
        played = [list(world.node(each).apps) for each in ("alice", "bob")]
        return all(len(each) == 1 and each[0].held.agreed is not None for each in played) or (
            not any(played) and no_locks(world)
        )

    async def main(index: int) -> bool:
        async with table(7) as world, trio.open_nursery() as nursery:
            life = world.seats[name].life
            assert life is not None
            life.gate.aim(index, after=False)
            last = len(life.gate.effects) + index
            alice, bob = world.node("alice"), world.node("bob")

            async def propose() -> None:
                async with alice.channels[0].open_app("tictactoe", stake=STAKE):
                    pass

            nursery.start_soon(quietly, lambda: accept_all(bob))
            nursery.start_soon(quietly, propose)
            await world.until(lambda: not world.is_up(name), 30)
            if not world.is_up(name):
                node = await world.start(name)
                if name == "bob":
                    nursery.start_soon(quietly, lambda: accept_all(node))
            assert await world.until(lambda: rests(world), 300)
            nursery.cancel_scope.cancel()
            return len(life.gate.effects) > last
        return False

    index = 0
    while simulate(main, 7, index):
        index += 1
        if index > 24:
            break
    assert index > 10
