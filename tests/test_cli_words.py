"""Words of a user that cannot be right, Ctrl-C, a machine that refuses, a peer that is away: a sentence each time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import httpx
import pytest
import trio
from typer.core import TyperGroup
from typer.testing import CliRunner, Result

from simulation.processes import INSTALLED
from tallystick.channels.errors import ChannelNotReady, InvalidInput, StillPending
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.tickets import Ticket
from tallystick.sdk.cli.app import app
from tallystick.sdk.cli.shell import run_guarded, waiting_aloud
from tallystick.sdk.control.client import ControlClient
from tallystick.sdk.errors import ControlError
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.running import open_node
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.testing.local import LocalChain

PASSWORD = {"TALLY_PASSWORD": "example"}


def tally(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env=PASSWORD)


def flat(text: str) -> str:
    """Return what a box of rich says, without the box."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    "words",
    [
        ("pay", "abcd", "7", "--memo", "caf\udce9"),
        ("pay", "abcd", "7", "--key", "caf\udce9"),
        ("invoice", "create", "7", "--memo", "caf\udce9"),
        ("chain", "mint", "caf\udce9", "5"),
    ],
    ids=" ".join,
)
def test_a_word_that_is_no_utf_8_is_wrong_usage(words: tuple[str, ...]) -> None:
    done = tally(*words)
    assert done.exit_code == 2 and r"caf\udce9 is not in UTF-8" in flat(done.stderr)


@pytest.mark.parametrize(
    "words", [("invoice", "create", "-5"), ("pay", "abcd", "-500"), ("channel", "deposit", "abcd", "-1")], ids=" ".join
)
def test_a_negative_amount_is_called_an_amount(words: tuple[str, ...]) -> None:
    done = tally(*words)
    assert done.exit_code == 2 and "whole numbers from 1 on" in flat(done.stderr)


def test_an_unknown_option_is_still_named() -> None:
    assert "--bogus" in tally("pay", "abcd", "5", "--bogus").stderr


def test_after_init_the_hint_names_the_directory(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    done = tally("init", "--light", "--data", str(place))
    assert f"tally node run --data '{place}'" in done.stdout
    assert (place / "config.toml").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_in_init_leaves_a_sentence_and_no_half_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = tally("init", "--light", "--data", str(tmp_path))
    assert done.exit_code == 1 and "No space left on device" in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_the_machine_refuses_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", "/root/of/somebody")

    def grouped() -> NoReturn:
        raise BaseExceptionGroup("", [ExceptionGroup("", [OSError(errno.EROFS, "Read-only file system")])])

    for work in (refused, grouped):
        with pytest.raises(BaseException) as ended:
            run_guarded(work)
        assert getattr(ended.value, "exit_code", None) == 1
    told = capsys.readouterr().err
    assert "/root/of/somebody cannot be used: Permission denied" in told and "Read-only file system" in told


@pytest.mark.processes
def test_ctrl_c_in_the_middle_of_a_command_is_a_sentence_and_exit_code_130(tmp_path: Path) -> None:
    (tmp_path / "control.url").write_text("http://127.0.0.1:1\n")
    os.mkfifo(tmp_path / "control.token")  # reading it waits for ever
    command = [*INSTALLED, "balance", "--data", str(tmp_path)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if these tests run in the background
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    with open(tmp_path / "control.token", "w"):  # returns once the command has begun to read
        process.send_signal(signal.SIGINT)
    # A signal just before the system call interrupts nothing: the end of what is read lets Python look at it then.
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("tally: interrupted") and err.count("\n") == 1


def test_ctrl_c_within_trio_counts_too() -> None:
    def work() -> NoReturn:
        raise BaseExceptionGroup("", [BaseExceptionGroup("", [KeyboardInterrupt()])])

    with pytest.raises(KeyboardInterrupt):
        run_guarded(work)


# --- a peer that is away ------------------------------------------------------------------------------------------


def away(connected: bool) -> Any:
    """Return a node's client with one channel."""
    channel = SimpleNamespace(id="3f9a" * 16, peer="02" * 33, peer_address="0x" + "11" * 20, phase="open")
    channel.connected, channel.closing = connected, False

    async def channels() -> list[Any]:
        return [channel]

    return SimpleNamespace(channels=channels)


@pytest.mark.parametrize("name", ["3f9a", "02" * 33, "02" * 33 + "@127.0.0.1:7735", "0x" + "11" * 20])
@pytest.mark.parametrize(("connected", "seconds", "told"), [(False, 5, True), (True, 5, False), (False, 1, False)])
async def test_a_command_says_that_it_waits_for_a_peer_that_is_away(
    autojump_clock: trio.testing.MockClock,
    capsys: pytest.CaptureFixture[str],
    name: str,
    connected: bool,
    seconds: float,
    told: bool,
) -> None:
    async def work() -> str:
        await trio.sleep(seconds)
        return "done"

    assert await waiting_aloud(away(connected), name, "It goes on.", work) == "done"
    assert (capsys.readouterr().err == f"tally: the peer {'02' * 33} is away; waiting for it. It goes on.\n") is told


def handle_with(ticket: Ticket) -> ChannelHandle:
    """Return a channel whose engine takes every payment as this ticket."""

    async def room(channel: ChannelId) -> None:
        pass

    engine = SimpleNamespace(room=room, pay=lambda *arguments: ticket)
    session = SimpleNamespace(channel=SimpleNamespace(id=ticket.channel))
    return ChannelHandle(SimpleNamespace(engine=engine), session)  # type: ignore[arg-type]  # all that paying needs


async def test_a_payment_that_was_not_signed_in_time_is_taken_back(autojump_clock: trio.testing.MockClock) -> None:
    ticket = Ticket(ChannelId(bytes(32)), (5,), b"", "", 0.0)
    with pytest.raises(ChannelNotReady, match="within 30 s, and it was not made"):
        await handle_with(ticket).pay(5, timeout=30)
    assert ticket.withdrawn and trio.current_time() >= 30


async def test_a_payment_that_was_signed_may_still_be_made(autojump_clock: trio.testing.MockClock) -> None:
    ticket = Ticket(ChannelId(bytes(32)), (5,), b"", "k", 0.0)
    ticket.payment = 7
    handle = handle_with(ticket)
    handle._known = lambda *arguments: ticket  # type: ignore[method-assign]
    with pytest.raises(StillPending, match="ask again under its key 'k'"):
        await handle.pay(5, key="k", timeout=30)
    assert not ticket.withdrawn
    for wrong in (-1, float("nan"), float("inf"), "5", True):
        with pytest.raises(InvalidInput, match="timeout"):
            await handle.pay(5, timeout=wrong)  # type: ignore[arg-type]


async def test_pay_and_close_end_in_time_when_the_peer_is_gone(tmp_path: Path) -> None:
    keys = [PrivateKey(bytes([number]) * 32) for number in (1, 2)]
    settings = ChainSettings(dev=True, interval=0.02)
    chain = LocalChain(funds={key.address: 10**18 for key in keys}, settings=settings)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chain.run)
            async with open_node(tmp_path / "alice", key=keys[0], chain=chain) as alice:
                async with open_node(tmp_path / "bob", key=keys[1], chain=chain) as bob:
                    channel = await alice.open_channel(str(bob.listening), deposit=1_000_000)
                    await channel.pay(5, timeout=20)
                await alice.until(lambda: not channel.connected)
                with pytest.raises(ChannelNotReady, match="it was not made"):
                    await channel.pay(6, timeout=0.05)
                assert channel.balances[1] == 5
                with pytest.raises(StillPending, match="force_close"):
                    await channel.close(timeout=0.05)
            nursery.cancel_scope.cancel()


# --- answers that make no sense -----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"<html>", b'"\xff"', b'{"a', b"[]", b'{"id": 5}', b'{"error": {"code": 5}}', b""])
@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_that_is_no_json_of_ours_is_an_error_in_words(content: bytes, status: int) -> None:
    def strange(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=content)

    async with httpx.AsyncClient(transport=httpx.MockTransport(strange), base_url="http://node") as http:
        node = ControlClient(http)
        for ask in (node.info, lambda: node.close("abcd"), lambda: node.pay("abcd", 5)):
            with pytest.raises(ControlError):
                await ask()


@pytest.mark.parametrize("where", ["make_context", "invoke"])
@pytest.mark.parametrize(
    "how", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])], ids=["bare", "group"]
)
def test_ctrl_c_wherever_it_comes_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, where: str, how: BaseException
) -> None:
    def interrupted(*arguments: object, **more: object) -> NoReturn:
        raise how

    monkeypatch.setattr(TyperGroup, where, interrupted)
    done = tally("balance")
    assert done.exit_code == 130 and done.stderr.startswith("tally: interrupted")
