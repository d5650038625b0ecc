"""Every kind of alarm is raised in a test, which carries the mark `alarm` with that kind; some are raised here."""

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import trio

from simulation.tower_house import Pair, TowerHouse
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.chain import SETTLED, ContractChannel
from tallystick.settlement.sending import sender
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.sealing import Appointment, seal
from tallystick.watchtower.tower import TowerPolicy

TESTS = Path(__file__).resolve().parent


def marked() -> Iterator[tuple[str, str, AlarmKind]]:
    """Yield each mark `alarm` of a test: where it is, the text of the test without its marks, and the kind."""
    for file in sorted(TESTS.glob("test_*.py")):
        text = file.read_text("utf-8")
        if "mark.alarm" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = "\n".join(ast.unparse(statement) for statement in node.body)
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.alarm":
                        for kind in mark.args:
                            yield f"{file.name}::{node.name}", body, kind_of(kind)


def kind_of(argument: ast.expr) -> AlarmKind:
    if isinstance(argument, ast.Attribute):
        return AlarmKind[argument.attr]
    assert isinstance(argument, ast.Constant)
    return AlarmKind(argument.value)


def test_every_kind_of_alarm_is_raised_in_some_test() -> None:
    assert {kind for _, _, kind in marked()} == set(AlarmKind)


def test_a_test_that_is_marked_looks_at_alarms() -> None:
    blind = [where for where, body, _ in marked() if "alarm" not in body.lower() and "told" not in body]
    assert not blind


@pytest.mark.parametrize("text", ["pytest.mark.alarm(AlarmKind.DISK)", 'pytest.mark.alarm("disk")'])
def test_a_kind_may_be_named_either_way(text: str) -> None:
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call) and kind_of(call.args[0]) is AlarmKind.DISK


# --- kinds that no other test raises ------------------------------------------------------------------------------


def with_a_channel(act: Callable[[World, Node, ChannelHandle], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_world(1, names=("alice", "bob")) as world:
            alice, _ = await world.start("alice"), await world.start("bob")
            await act(world, alice, await alice.open_channel(world.address("bob"), 10_000_000))

    simulate(main, 1)


def kinds(alarms: Sequence[Alarm]) -> set[AlarmKind]:
    return {alarm.kind for alarm in alarms}


@pytest.mark.alarm(AlarmKind.DUTY_WAITS)
def test_a_duty_that_finds_no_room_waits_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(world: World, alice: Node, channel: ChannelHandle) -> None:
        monkeypatch.setattr(sender, "OBLIGATIONS_MAX", 0)
        await channel.force_close()
        await world.blocks(1)
        assert kinds(alice.alarms) == {AlarmKind.DUTY_WAITS}

    with_a_channel(act)


@pytest.mark.alarm(AlarmKind.OTHER_TERMS)
def test_a_channel_on_other_terms_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(world: World, alice: Node, channel: ChannelHandle) -> None:
        seen = alice.onchain.index.view(channel.id, alice.onchain.index.head_number)
        assert seen is not None
        terms = msgspec.structs.replace(seen.terms, challenge_period=seen.terms.challenge_period + 1)
        other = msgspec.structs.replace(seen, terms=terms)
        monkeypatch.setattr(alice.onchain.index, "view", lambda identity, up_to: other)
        alice.onchain.enforcer._confirmed.clear()
        for _ in range(2):
            alice.onchain.enforcer.react()
        assert [alarm.kind for alarm in alice.alarms] == [AlarmKind.OTHER_TERMS]

    with_a_channel(act)


@pytest.mark.alarm(AlarmKind.LOCKS_UNKNOWN)
def test_what_waits_for_locks_that_nothing_here_tells_of_is_told() -> None:
    async def act(world: World, alice: Node, channel: ChannelHandle) -> None:
        terms = channel.view.channel.terms
        view = ContractChannel(
            terms=terms, status=SETTLED, deposits=(5, 5), withdrawn=(0, 0), seqs=(99, 99), pots=(3, 0)
        )
        alice.onchain.enforcer._older(channel.view.channel, view)
        assert kinds(alice.alarms) == {AlarmKind.LOCKS_UNKNOWN}

    with_a_channel(act)


TOWER, ALICE, MALLORY = (PrivateKey(keccak(name)) for name in (b"a tower", b"alice", b"mallory"))


def house(directory: Path, chain: LocalChain) -> TowerHouse:
    network = MemoryNetwork(1).endpoint(TOWER)
    return TowerHouse(key=TOWER, directory=directory, network=network, chain=chain, policy=TowerPolicy(), alarms=[])


@pytest.mark.alarm(AlarmKind.FEE_ACCOUNT)
async def test_a_tower_without_coins_says_so(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    network = house(tmp_path, LocalChain())
    async with network.open() as (tower, _):
        await trio.sleep(100)
        assert AlarmKind.FEE_ACCOUNT in kinds(network.alarms)
        assert any("its fee account" in trouble for trouble in tower.troubles())


@pytest.mark.alarm(AlarmKind.APPOINTMENT_USELESS, AlarmKind.APPOINTMENT_UNREWARDED)
async def test_a_tower_tells_of_appointments_that_are_no_good(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    network = house(tmp_path, LocalChain(funds={TOWER.address: 10**18}))
    pair = Pair(ALICE, MALLORY, chain_id=network.chain.chain_id, contract=network.chain.contract)
    bare = Appointment(pair.terms, pair.proof(0, 3, 5), None, b"v" * 64)
    blob = seal(bare, pair.close_key, TOWER.address, ALICE.address, seeded_entropy(1))
    async with network.open() as (tower, _):
        await trio.sleep(1)
        assert not network.alarms
        for what, kind in ((b"junk", AlarmKind.APPOINTMENT_USELESS), (blob, AlarmKind.APPOINTMENT_UNREWARDED)):
            tower.watch._open(what, pair.close_key, pair.terms, ALICE.address)
            assert network.alarms[-1].kind is kind


@pytest.mark.alarm(AlarmKind.CHAIN_STANDS_STILL, AlarmKind.CHAIN_BACK)
async def test_a_tower_whose_chain_stands_still_takes_nothing_new_and_says_so(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    chain = LocalChain(funds={TOWER.address: 10**18}, settings=ChainSettings(dev=True, interval=10.0))
    network = house(tmp_path, chain)
    async with network.open() as (tower, _), trio.open_nursery() as nursery:
        with trio.move_on_after(60):
            await chain.run()
        assert tower.troubles() == () and not network.alarms
        await trio.sleep(300)  # nobody mines
        assert any("stands still" in trouble for trouble in tower.troubles())
        assert kinds(network.alarms) == {AlarmKind.CHAIN_STANDS_STILL}
        nursery.start_soon(chain.run)
        await trio.sleep(60)
        assert tower.troubles() == () and network.alarms[-1].kind is AlarmKind.CHAIN_BACK
        nursery.cancel_scope.cancel()


@pytest.mark.alarm(AlarmKind.TOWER_UNREACHABLE, AlarmKind.TOWER_BACK)
def test_a_tower_that_was_never_reached_is_told_while_something_depends_on_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(1, interval=20.0, names=("alice", "bob")) as world:
            at = PeerAddress(bytes(TOWER.public), "tower", 9911)
            alice = await world.start("alice")
            bob = await world.start("bob", msgspec.structs.replace(world.config, towers=(at,)))
            channel = await alice.open_channel(world.address("bob"), 10**6)
            await trio.sleep(3_600)
            assert not bob.alarms, "nothing depends on it yet"
            await channel.pay(500_000)
            await trio.sleep(3_600)
            assert [alarm.kind for alarm in bob.alarms] == 3 * [AlarmKind.TOWER_UNREACHABLE]
            world.chain.fund(TOWER.address, 10**18)
            network = TowerHouse(
                key=TOWER,
                directory=tmp_path,
                network=world.network.endpoint(TOWER),
                chain=world.chain,
                policy=TowerPolicy(),
                alarms=[],
            )
            async with network.open():
                await trio.sleep(200)
                assert bob.alarms[-1].kind is AlarmKind.TOWER_BACK

    simulate(main, 1)
