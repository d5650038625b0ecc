"""The payment network through the `tally` command: three nodes in a line, and what people read when it fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from typer.testing import CliRunner, Result

from simulation.neighbours import a_line
from tallystick.sdk.cli.app import app
from tallystick.sdk.cli.invoice import too_little_to_come
from tallystick.sdk.control.files import announce
from tallystick.sdk.control.server import serve_control
from tallystick.sdk.control.views import ChannelInfo

Do = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def three_people(directory: Path) -> AsyncIterator[tuple[Do, str]]:
    """Give a function that runs a command as somebody, and Carol's key."""
    async with a_line(directory) as nodes, AsyncExitStack() as stack:
        for name, node in zip(("alice", "bob", "carol"), nodes, strict=True):
            control = await stack.enter_async_context(serve_control(node, "a token"))
            stack.enter_context(announce(directory / name, control.url, "a token"))

        async def do(who: str, *arguments: str, fails: int = 0, words: bool = False) -> Any:
            command = [*arguments, "--data", str(directory / who), *([] if words or fails else ["--json"])]
            done: Result = await trio.to_thread.run_sync(
                lambda: CliRunner().invoke(app, command, env={"COLUMNS": "200", "TERM": "dumb"})
            )
            assert done.exit_code == fails, done.output
            return done.stderr if fails else done.stdout if words else json.loads(done.stdout)

        yield do, bytes(nodes[2].key.public).hex()


async def test_people_ask_pay_carry_and_look_with_the_command_alone(tmp_path: Path) -> None:
    async with three_people(tmp_path) as (do, carol):
        await check_invoices(do, tmp_path)
        await check_without_invoices(do, carol)
        await check_what_people_read(do, carol)
        await check_the_forwarder(do)


def channel(peers: int, phase: str = "open") -> ChannelInfo:
    nothing = (0, 0)
    return ChannelInfo("ab", "02", "", "0x", phase, True, 500, peers, 400, 10, nothing, nothing, 0, 0, 600)


def test_who_asks_for_more_than_can_come_is_told_so() -> None:
    assert too_little_to_come(90, [channel(100)]) == too_little_to_come(180, [channel(100), channel(100)]) == ""
    for channels, there in (([], 0), ([channel(100)], 90), ([channel(5), channel(100), channel(900, "closing")], 90)):
        assert f"hold {there} that could come" in too_little_to_come(91, channels)


async def check_invoices(do: Do, directory: Path) -> None:
    png = directory / "tea.png"
    asked = await do("carol", "invoice", "create", "50_000", "--memo", "a tin of tea", "--png", str(png))
    assert png.read_bytes().startswith(b"\x89PNG") and asked["state"] == "open"
    assert "exists already" in await do("carol", "invoice", "create", "5", "--png", str(png), fails=1)
    paid = await do("alice", "pay", asked["invoice"], "--max-fee", "50", "--timeout", "20")
    assert (paid["state"], paid["amount"], paid["fee"]) == ("paid", 50_000, 50)
    assert "Paid 50000 for a fee of 50, in one part.\nreceipt  " + paid["secret"] in await do(
        "alice", "pay", asked["invoice"].upper(), words=True
    )
    shown = await do("carol", "invoice", "show", asked["payment_hash"][:8], words=True)
    assert "claimed" in shown and paid["secret"] in shown and "a tin of tea" in shown
    meant = CliRunner().invoke(app, ["invoice", "decode", asked["invoice"], "--json"])
    assert json.loads(meant.stdout)["payment_hash"] == asked["payment_hash"]
    read = CliRunner().invoke(app, ["invoice", "decode", asked["invoice"]], env={"COLUMNS": "200"}).stdout
    assert "50000" in read and "a tin of tea" in read and str(asked["expires"]) not in read
    any_amount = await do("carol", "invoice", "create", "--qr", words=True)
    text, _, code = any_amount.partition("\n")
    assert text.startswith("tally1337") and "█" in code
    assert "names no amount" in await do("alice", "pay", text, fails=1)
    assert (await do("alice", "pay", text, "700"))["amount"] == 700
    assert [one["received"] for one in await do("carol", "invoice", "list", "--paid-after", "1")] == [700]
    held = await do("carol", "invoice", "create", "10", "--hold")
    assert await do("alice", "pay", held["invoice"], "--no-wait") == {"accepted": True}
    assert (await do("carol", "invoice", "show", held["payment_hash"], "--wait", "20"))["state"] == "held"
    assert (await do("carol", "invoice", "settle", held["payment_hash"]))["state"] == "claimed"
    unwanted = await do("carol", "invoice", "create", "10")
    assert "cancelled" in await do("carol", "invoice", "cancel", unwanted["payment_hash"], words=True)


async def check_without_invoices(do: Do, carol: str) -> None:
    believed = await do("alice", "probe", carol, "1000", "--estimate")
    assert believed == await do("alice", "probe", carol, "1000") and believed["fee"] == 1
    assert (await do("alice", "keysend", carol, "1000"))["state"] == "paid"
    listed = await do("carol", "invoice", "list", words=True)
    assert "(keysend)" in listed and "any" in listed and "cancelled" in listed
    known = await do("alice", "graph", "show")
    assert (known["nodes"], known["channels"]) == (3, 2)
    assert "4 directions that payments may take" in await do("alice", "graph", "show", words=True)


async def check_what_people_read(do: Do, carol: str) -> None:
    asked = await do("carol", "invoice", "create", "1000000")
    for arguments, said in (
        (("pay", asked["invoice"], "--max-fee", "10"), "more than the limit of 10"),
        (("pay", asked["invoice"][:-1]), "copied wrongly"),
        (("keysend", carol, str(10**12)), "the channels that lead from the payer can carry"),
        (("invoice", "show", "abcd"), "no invoice of hash abcd"),
        (("payments", "abcd"), "no payment of hash abcd"),
    ):
        said_now = await do("alice", *arguments, fails=1)
        assert said_now.startswith("tally: ") and said in said_now and said_now.count("\n") == 1, said_now
    listed = await do("alice", "payments", words=True)
    assert "over-the-fee-limit" in listed and "probe" not in listed
    listed = await do("alice", "payments", "--probes", words=True)
    assert "over-the-fee-limit" in listed and "probe" in listed and "payee-refuses" in listed
    newest = (await do("alice", "payments", "--limit", "1"))[0]
    one = await do("alice", "payments", newest["payment_hash"], words=True)
    assert newest["text"] in one and "why" in one


async def check_the_forwarder(do: Do) -> None:
    carried = await do("bob", "forwards")
    paid = [forward["fee"] for forward in carried if forward["outcome"] == "paid"]
    assert sum(paid) == 51 and f"{len(paid)} of {len(carried)} were paid, and earned 51." in await do(
        "bob", "forwards", words=True
    )
    channel = carried[0]["outgoing"][:8]
    changed = await do("bob", "channel", "policy", channel, "--base-fee", "3", "--ppm", "0", "--max", "9000")
    assert (changed["base_fee"], changed["fee_ppm"], changed["maximum"], changed["enabled"]) == (3, 0, 9_000, True)
    assert "9000" in await do("bob", "channel", "policy", channel, words=True)
    assert "name two channels" in await do("bob", "rebalance", channel, channel, "5", fails=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pay", "abcd"), "say how much to pay"),
        (("pay", "abcd", "5", "--amount", "6"), "say the amount once"),
        (("pay", "abcd", "5", "--max-fee", "6"), "are for invoices"),
        (("pay", "tally1337xyz", "--memo", "x"), "this is an invoice"),
        (("keysend", "nobody", "5"), "is no peer"),
        (("invoice", "show", "zz"), "names no payment"),
        (("invoice", "create", "5", "--hash", "abcd"), "64 hex digits"),
        (("invoice", "create", "0"), "is no amount"),
        (("channel", "close"), "name one channel, or say --all"),
        (("channel", "close", "abcd", "--all"), "name one channel, or say --all"),
        (("channel", "policy", "abcd", "--ppm", "-1"), "--ppm"),
        (("channel", "policy", "abcd", "--min", "5.0"), "is no limit"),
        (("channel", "policy", "abcd", "--max", "1e3"), "is no limit"),
        (("channel", "policy", "abcd", "--base-fee", "2.0"), "is no limit"),
        (("stream", "open", "abcd", "--unit", "10.0", "--length", "5"), "is no amount"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_meant_is_wrong_usage_and_nothing_is_asked_of_a_node(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        app, [*arguments, "--data", str(tmp_path)], env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    )
    assert done.exit_code == 2 and said in done.stderr, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("tower", "run", "--budget", "10.0"),
        ("tower", "run", "--fee-reserve", "7.0"),
        ("graph", "route", "graph.json", "a", "b", "5.0"),
        ("graph", "route", "graph.json", "a", "b", "5", "--max-fee", "1.0"),
    ],
    ids=" ".join,
)
def test_whoever_writes_an_amount_as_a_fraction_is_asked_what_is_meant(arguments: tuple[str, ...]) -> None:
    """The library that reads options takes "5.0" for the integer 5; in units of which a coin has 10**18, it is not."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    assert done.exit_code == 2 and "give a whole number" in done.stderr, done.stderr
