"""`tally node wait`, `channel wait`, `chain wait`, `chain mint`: they return when it is so, or say what is lacking."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from typer.testing import CliRunner

import tallystick
from tallystick.sdk.cli import chain as chain_command
from tallystick.sdk.cli.app import app
from tallystick.sdk.control import waiting
from tallystick.sdk.control.views import ChannelInfo, NodeInfo
from tallystick.sdk.errors import ControlError, NodeUnreachable

ALICE = "0x" + "a1" * 20


def channel(**changes: Any) -> ChannelInfo:
    usual = ChannelInfo(
        id="ab" * 32,
        peer="02" * 33,
        peer_address=ALICE,
        asset="0x" + "00" * 20,
        phase="open",
        connected=True,
        balance=900,
        peer_balance=100,
        spendable=800,
        receivable=90,
        reserve=100,
        deposits=(1_000, 0),
        withdrawn=(0, 0),
        payments_sent=1,
        payments_received=0,
        challenge_period=600,
    )
    return msgspec.structs.replace(usual, **changes)


class Node:
    """A control client whose node changes with time: (from second, answer or error)."""

    def __init__(self, *story: tuple[float, Any]) -> None:
        self._story = story
        self._began = trio.current_time()

    def _now(self) -> Any:
        found = [answer for since, answer in self._story if trio.current_time() - self._began >= since][-1]
        if isinstance(found, Exception):
            raise found
        return found

    async def channels(self) -> Any:
        return self._now()

    async def info(self) -> Any:
        return self._now()


async def wait_for(node: Node, name: str = "", *, spendable: int = 0, receivable: int = 0) -> tuple[ChannelInfo, int]:
    """Wait for a channel at most 60 s; return it, and after how many seconds it came."""
    began = trio.current_time()
    asked: Any = node
    found = await waiting.wait_for_channel(asked, name, spendable=spendable, receivable=receivable, timeout=60)
    return found, round(trio.current_time() - began)


async def test_a_channel_is_waited_for_until_it_can_do_what_was_asked(autojump_clock: trio.testing.MockClock) -> None:
    story = (
        *((0, []), (1, [channel(phase="opening")]), (2, [channel(connected=False)])),
        *((3, [channel(phase="gone"), channel(id="cd" * 32)]), (9, [channel(id="cd" * 32, receivable=250)])),
    )
    assert await wait_for(Node(*story)) == (channel(id="cd" * 32), 3)
    assert (await wait_for(Node(*story), "0xCDCD", spendable=800, receivable=90))[1] == 3
    assert (await wait_for(Node(*story), "cdcd", receivable=250))[1] == 9


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ([], "there is no such channel after 60 s"),
        ([channel(phase="gone")], "there is no such channel"),
        ([channel(phase="closing")], "abababab is closing"),
        ([channel(connected=False)], "abababab has a peer that is not connected"),
        ([channel(spendable=799)], "abababab can send 799"),
        ([channel(receivable=89)], "abababab can receive 89"),
    ],
)
async def test_a_wait_that_is_over_says_what_was_lacking(
    state: list[ChannelInfo], words: str, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(ControlError, match=words):
        await wait_for(Node((0, state)), spendable=800, receivable=90)


class ClosingNode(Node):
    """A node that is asked to close channels."""

    def __init__(self, *story: tuple[float, Any]) -> None:
        super().__init__(*story)
        self.closing: set[str] = set()

    async def close(self, name: str, *, wait: bool) -> None:
        assert not wait, "they are asked for together"
        self.closing.add(name)


async def test_all_open_channels_are_closed_together(autojump_clock: trio.testing.MockClock) -> None:
    ids = ["aa" * 32, "bb" * 32, "cc" * 32]
    others = [channel(id="dd" * 32, closing=True), channel(id="ee" * 32, phase="gone")]
    opened, gone = ([channel(id=id, phase=phase) for id in ids] for phase in ("open", "gone"))
    node = ClosingNode((0, [*opened, *others]), (3, [*gone[:2], opened[2], *others]), (5, [*gone, *others]))
    asked: Any = node
    assert await waiting.close_all(asked, wait=True, timeout=60) == gone
    assert node.closing == set(ids)
    late: Any = ClosingNode((0, [*opened[:2], channel(id=ids[2], connected=False)]))
    assert len(await waiting.close_all(late, wait=False, timeout=60)) == 3
    with pytest.raises(ControlError, match=r"3 of 3 channels are not closed after 60 s.*: 1 peers are away"):
        await waiting.close_all(late, wait=True, timeout=60)


def info(ready: bool) -> NodeInfo:
    return NodeInfo(ALICE, "02" * 33, None, 1337, ALICE, 7, 7, 0, 0, (), ready=ready)


async def test_a_node_is_waited_for_until_it_knows_the_chain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Control files of a node that was killed are still there, so errors are waited out as well."""
    node = Node(
        *((0, NodeUnreachable("no node answers")), (2, ControlError("an old token", "unauthorized"))),
        *((3, info(ready=False)), (5, info(ready=True))),
    )

    @contextlib.asynccontextmanager
    async def connect(directory: Path) -> AsyncIterator[Node]:
        assert directory == tmp_path
        yield node

    monkeypatch.setattr(waiting, "connect_control", connect)
    for seconds, error, words in (
        (1, NodeUnreachable, r"no node answers \(waited 1 s\)"),
        (1.5, ControlError, "an old token"),
        (1, ControlError, "does not know the chain as it is now"),
    ):
        with pytest.raises(error, match=words):
            await waiting.wait_for_node(tmp_path, seconds)
    assert await waiting.wait_for_node(tmp_path, 60) == info(ready=True)
    assert trio.current_time() == pytest.approx(5, abs=0.2)


def test_a_node_that_never_comes_has_the_exit_code_of_one_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["node", "wait", "--timeout", "0.01", "--data", str(tmp_path)])
    assert done.exit_code == 3
    assert done.stderr == f"tally: no node runs in {tmp_path}: start it with `tally node run` (waited 0.01 s)\n"


@contextlib.contextmanager
def chain_node(folder: Path) -> Iterator[str]:
    """A chain with ten blocks a second, in a process; give its URL."""
    arguments = ["run", "--data", str(folder), "--port", "0", "--json", "--dev", "--interval", "0.1"]
    program = "from tallystick.sdk.cli.chain import app; app()"
    with subprocess.Popen([sys.executable, "-Ic", program, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


@pytest.mark.processes
def test_a_chain_is_waited_for_and_what_is_minted_is_there_when_the_command_returns(tmp_path: Path) -> None:
    def ask(*arguments: str) -> Any:
        done = CliRunner().invoke(chain_command.app, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    with chain_node(tmp_path) as url:
        assert ask("wait", "--chain", url)["chain_id"] == 1337
        before = ask("status", "--chain", url)["number"]
        assert ask("mint", ALICE, "5", "--chain", url) == {"account": ALICE, "amount": 5}
        assert ask("status", "--chain", url)["number"] > before
    gone = CliRunner().invoke(chain_command.app, ["wait", "--chain", url, "--timeout", "0.1"])
    assert gone.exit_code == 3 and "does not answer" in gone.stderr


def test_the_version_is_told() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"tally {tallystick.__version__}\n")
