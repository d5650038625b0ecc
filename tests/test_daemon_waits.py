"""A daemon without its chain node says so, to the screen and to whoever asks, and goes on once the node is there."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from typer.testing import CliRunner

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.sdk.cli.app import app
from tallystick.sdk.cli.shell import show_alarm
from tallystick.sdk.daemon.configuration import Settings, write_settings
from tallystick.sdk.daemon.daemon import NodeHome, Ready, run_daemon
from tallystick.settlement.errors import WrongChain
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.rpc_server import serve_chain
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.daemon import read_status, run_tower

KEY = PrivateKey(keccak(b"somebody who waits"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def made(directory: Path, port: int, *, chain_id: int = 1337) -> Settings:
    """Write settings for a chain node at that port."""
    contract = "0x" + LocalChain().contract.hex()
    settings = Settings(chain_url=f"http://127.0.0.1:{port}", chain_id=chain_id, contract=contract, listen="")
    write_settings(directory, settings)
    return settings


@asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[str]:
    """Serve a chain that mines; give its URL."""
    chain = LocalChain(settings=ChainSettings(dev=True, interval=0.1))
    async with trio.open_nursery() as nursery:
        urls: list[str] = []
        up = trio.Event()

        def started(url: str) -> None:
            urls.append(url)
            up.set()

        async def serve() -> None:
            await serve_chain(chain, "127.0.0.1", port, started=started)

        nursery.start_soon(chain.run)
        nursery.start_soon(serve)
        await up.wait()
        yield urls[0]
        nursery.cancel_scope.cancel()


async def tally(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run a subcommand in a thread; return its exit code and all that it printed."""
    command = [*arguments, "--data", str(directory)]
    done = await trio.to_thread.run_sync(lambda: CliRunner().invoke(app, command))
    return done.exit_code, done.output


@pytest.mark.processes
@pytest.mark.alarm(AlarmKind.CHAIN_UNREACHABLE)
async def test_a_daemon_says_what_it_waits_for_until_its_chain_node_is_there(tmp_path: Path) -> None:
    port = free_port()
    settings = made(tmp_path, port)
    alarms: list[Alarm] = []
    ready, told = trio.Event(), trio.Event()

    def on_ready(what: Ready) -> None:
        ready.set()

    def on_alarm(alarm: Alarm) -> None:
        alarms.append(alarm)
        told.set()

    async def daemon() -> None:
        await run_daemon(NodeHome(tmp_path, KEY, settings), ready=on_ready, alarm=on_alarm)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon)
            await told.wait()
            assert alarms[0].kind is AlarmKind.CHAIN_UNREACHABLE
            code, text = await tally(tmp_path, "node", "info")
            assert code == 0 and "speaks to no peer yet: it waits for its chain node" in " ".join(text.split())
            assert (await tally(tmp_path, "channel", "list"))[0] == 0
            code, text = await tally(tmp_path, "balance")
            assert code == 1 and "this node waits for its chain node" in " ".join(text.split())
            async with serving(port):
                await ready.wait()
                code, text = await tally(tmp_path, "node", "info")
                assert code == 0 and "speaks to no peer yet" not in text
                assert (await tally(tmp_path, "balance"))[0] == 0
                assert (await tally(tmp_path, "node", "stop"))[0] == 0
            nursery.cancel_scope.cancel()


@pytest.mark.processes
async def test_the_first_answer_of_a_node_that_was_just_started_says_where_peers_reach_it(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with serving() as url, trio.open_nursery() as nursery:
            settings = msgspec.structs.replace(made(tmp_path, int(url.rpartition(":")[2])), listen="127.0.0.1:0")

            async def daemon() -> None:
                await run_daemon(NodeHome(tmp_path, KEY, settings), ready=lambda what: None, alarm=lambda alarm: None)

            nursery.start_soon(daemon)
            code, text = 3, ""
            while code == 3:  # no node runs yet
                code, text = await tally(tmp_path, "node", "info", "--json")
            assert code == 0 and "@127.0.0.1:" in json.loads(text)["peer_address"]
            nursery.cancel_scope.cancel()


@pytest.mark.processes
async def test_a_daemon_refuses_a_chain_node_of_another_chain(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with serving() as url:
            settings = made(tmp_path, int(url.rpartition(":")[2]), chain_id=99)
            with pytest.raises(BaseExceptionGroup) as caught:
                await run_daemon(NodeHome(tmp_path, KEY, settings), ready=lambda what: None, alarm=lambda alarm: None)
            assert caught.group_contains(WrongChain, match="use another node")


def test_an_alarm_is_printed_with_its_time_and_kind(capsys: pytest.CaptureFixture[str]) -> None:
    alarm = Alarm(AlarmKind.CHAIN_BACK, "the chain is followed again, after 5 min")
    show_alarm(alarm, as_json=False)
    show_alarm(alarm, as_json=True)
    plain, line = capsys.readouterr().err.splitlines()
    assert plain[:2] == "20" and plain.endswith("(chain-back)") and "followed again" in plain
    assert '"kind":"chain-back"' in line and '"time":"20' in line


@pytest.mark.alarm(AlarmKind.CHAIN_UNREACHABLE, AlarmKind.CHAIN_BACK)
@pytest.mark.processes
async def test_a_tower_says_that_it_waits_until_its_chain_node_is_there(tmp_path: Path) -> None:
    port = free_port()
    alarms: list[Alarm] = []
    told, ready = trio.Event(), trio.Event()

    def on_alarm(alarm: Alarm) -> None:
        alarms.append(alarm)
        told.set()

    async def tower() -> None:
        await run_tower(
            tmp_path,
            KEY,
            chain_url=f"http://127.0.0.1:{port}",
            host="127.0.0.1",
            port=0,
            ready=lambda status: ready.set(),
            alarm=on_alarm,
        )

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tower)
            await told.wait()
            assert alarms[0].kind is AlarmKind.CHAIN_UNREACHABLE
            status = read_status(tmp_path)
            assert status is not None and "its chain node" in status.waiting_for
            code, text = await tally(tmp_path, "tower", "status")
            assert code == 0 and "waits for" in text
            async with serving(port):
                await ready.wait()
                status = read_status(tmp_path)
                while status is None or status.statistics is None:
                    await trio.sleep(0.01)
                    status = read_status(tmp_path)
                assert AlarmKind.CHAIN_BACK in {alarm.kind for alarm in alarms} and not status.waiting_for
            nursery.cancel_scope.cancel()
