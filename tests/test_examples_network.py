"""The shop, the paid API and the hub of `examples/`, as processes, among nodes that pay over several hops."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import trio
from typer.testing import CliRunner

from simulation.neighbours import a_line
from simulation.processes import TALLY, run, started
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.sdk.cli.app import app
from tallystick.sdk.control.files import announce
from tallystick.sdk.control.server import serve_control
from tallystick.sdk.node.node import Node

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PASSWORD = {"TALLY_PASSWORD": "example"}
PATIENCE = 240  # for machines that have much else to do


def example(name: str, *arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, "-I", str(EXAMPLES / name), *map(str, arguments))


class Shop(NamedTuple):
    customer: Node
    shop: Node


@asynccontextmanager
async def a_customer_and_a_shop(directory: Path) -> AsyncIterator[Shop]:
    """Alice and Carol of a line, as nodes that run in `directory`."""
    async with a_line(directory) as (alice, _, carol), AsyncExitStack() as stack:
        for name, node in (("alice", alice), ("carol", carol)):
            control = await stack.enter_async_context(serve_control(node, "a token"))
            stack.enter_context(announce(directory / name, control.url, "a token"))
        yield Shop(alice, carol)


async def order(directory: Path, number: str) -> str:
    code, output, errors = await run(example("shop.py", "--node", directory / "carol", "order", number, "a tin of tea"))
    assert code == 0 and "█" in output, errors
    return output.split()[-1]


def shipped(directory: Path) -> list[tuple[str, str]]:
    lines = (directory / "shipped.jsonl").read_text().splitlines()
    return [(line["action"], line["order"]) for line in map(json.loads, lines)]


@pytest.mark.processes
async def test_a_shop_killed_between_payment_and_shipping_ships_each_order_once(tmp_path: Path) -> None:
    async with a_customer_and_a_shop(tmp_path) as people:
        warehouse = example("shop.py", "--node", tmp_path / "carol", "--shop", tmp_path, "ship")
        first, twice = await order(tmp_path, "17"), await order(tmp_path, "17")
        async with started((*warehouse, "--packing", "1000")) as shop:
            await people.customer.pay(first)
            await shop.line_with("paid: order 17")
            await shop.kill()
        assert shipped(tmp_path) == []
        (tmp_path / "shipped.jsonl").write_text('{"action": "sh')  # the crash might have come in mid-line as well
        async with started(warehouse) as shop:
            await shop.line_with("ship: order 17")
            await people.customer.pay(twice)
            await shop.line_with("refund: shipped before: order 17")
            await people.customer.keysend(people.shop.key.public, 5)
            await shop.line_with("keep: no order of ours")
        assert shipped(tmp_path) == [("ship", "17"), ("refund: shipped before", "17"), ("keep: no order of ours", "")]


@pytest.mark.processes
async def test_a_call_of_the_paid_api_is_paid_once_and_can_be_fetched_again(tmp_path: Path) -> None:
    async def call(*options: str, fails: int = 0) -> Any:
        client = ("--node", tmp_path / "alice", "--store", tmp_path / "bought.db")
        code, output, errors = await run(example("paid_api.py", "call", url, *client, *options))
        assert code == fails, errors
        return errors if fails else json.loads(output)

    async with a_customer_and_a_shop(tmp_path) as people:
        store = tmp_path / "answers.db"
        serve = example("paid_api.py", "serve", "--node", tmp_path / "carol", "--store", store, "--price", "5")
        async with started(serve) as server:
            url = (await server.line_with("a call costs 5")).split()[-1]
            bought = await call()
            assert bought["status"] == 200
            assert "costs 5, and 4 may be spent" in await call("--budget", "4", fails=1)
            assert "may be spent a day" in await call("--per-day", "6", fails=1)
            payment = bought["answer"]["payment"]
            secret = people.customer.payment(bytes.fromhex(payment)).secret
            async with httpx.AsyncClient() as http:  # whoever passed the payment on knows as much
                for proof in (f"Tally {secret.hex()}", f"Payment {secret.hex()}", "nonsense"):
                    assert (await http.get(url, headers={"authorization": proof})).status_code == 402
            await server.kill()
        async with started(serve) as server:
            url = (await server.line_with("a call costs 5")).split()[-1]
            assert await call("--again", payment) == bought
            assert (await call())["answer"]["payment"] != payment
        paid = people.shop.paid_invoices().take(10)
        assert [(invoice.memo, invoice.received) for invoice in paid] == 2 * [("GET /fortune", 5)]


@pytest.mark.processes
async def test_a_client_whose_answer_is_lost_gets_it_by_the_same_command_for_the_same_payment(tmp_path: Path) -> None:
    async with a_customer_and_a_shop(tmp_path) as people:
        hung_up = trio.Event()

        async def carry(source: trio.SocketStream, target: trio.SocketStream, *, back: bool) -> None:
            """Pass on what is said, but hang up, once, on who has shown a payment, when its answer comes."""
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for data in source:
                    if back and data.startswith(b"HTTP/1.1 200") and not hung_up.is_set():
                        hung_up.set()
                        break
                    await target.send_all(data)
            await source.aclose()
            await target.aclose()

        async def between(stream: trio.SocketStream) -> None:
            host, port = url.removeprefix("http://").removesuffix("/fortune").split(":")
            server = await trio.open_tcp_stream(host, int(port))
            async with trio.open_nursery() as both:
                both.start_soon(partial(carry, stream, server, back=False))
                both.start_soon(partial(carry, server, stream, back=True))

        serve = ("serve", "--node", tmp_path / "carol", "--store", tmp_path / "answers.db")
        async with started(example("paid_api.py", *serve)) as server, trio.open_nursery() as nursery:
            url = (await server.line_with("a call costs 5")).split()[-1]
            serving = partial(trio.serve_tcp, host="127.0.0.1")
            (listener,) = await nursery.start(serving, between, 0)
            asked = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/fortune"
            client = ("call", asked, "--node", tmp_path / "alice", "--store", tmp_path / "bought.db")
            code, _, errors = await run(example("paid_api.py", *client))
            assert code == 1 and "no whole answer came" in errors and hung_up.is_set()
            code, output, errors = await run(example("paid_api.py", *client))
            assert code == 0 and json.loads(output)["status"] == 200, errors
            nursery.cancel_scope.cancel()
        (paid,) = people.shop.paid_invoices().take(10)
        assert json.loads(output)["answer"]["payment"] == paid.payment_hash.hex()


async def tally(directory: Path, *arguments: str) -> Any:
    """Run a command as somebody, in a thread: starting Python for each would take most of the time."""
    command = [*arguments, "--json", "--data", str(directory)]
    done = await trio.to_thread.run_sync(lambda: CliRunner().invoke(app, command, env=PASSWORD))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.processes
async def test_two_who_open_a_channel_to_the_hub_can_pay_each_other_and_the_hub_earns(tmp_path: Path) -> None:
    """The shop announces nothing: its invoice names its channel with the hub."""
    alice, shop = people = tmp_path / "alice", tmp_path / "shop"
    coins = []
    for person in people:
        made = await tally(person, "init", "--light", "--listen", "")
        coins.append(f"--mint={made['address']}={10**18}")
    settings = shop / "config.toml"
    settings.write_text(settings.read_text().replace("announce = true", "announce = false"))
    chain_node = (*TALLY, "chain", "run", "--data", str(tmp_path / "chain"), "--port", "0", "--dev", "--interval")
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            process = await stack.enter_async_context(started((*chain_node, "0.05", "--json", *coins)))
            url = (await process.json())["url"]
            options = ("--data", tmp_path / "hub", "--chain", url, "--base-fee", "7", "--ppm", "0")
            hub = await stack.enter_async_context(started(example("hub.py", *options), PASSWORD))
            address = (await hub.line_with("open a channel to")).split()[-1]
            for person in people:
                command = (*TALLY, "node", "run", "--json", "--data", str(person), "--chain", url)
                await (await stack.enter_async_context(started(command, PASSWORD))).json()
                await tally(person, "channel", "open", address, "--deposit", "100000")
                await hub.line_with("put 100000 in")
            while (await tally(alice, "graph", "show"))["directions"] < 2:
                pass  # each question takes a while
            invoice = await tally(shop, "invoice", "create", "5000")
            assert decode_invoice(invoice["invoice"]).hints[0].policy.base_fee == 7
            assert (await tally(alice, "pay", invoice["invoice"]))["fee"] == 7
            assert (await hub.line_with("paid")).split()[-4:] == ["5000", "7", "paid", "7"]
