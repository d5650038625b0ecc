"""The shop, the paid API and the hub of `examples/`, as processes, among nodes that pay over several hops."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from tallystick.channels.keys import PrivateKey
from tallystick.sdk.control.files import announced
from tallystick.sdk.control.server import serve_control
from tallystick.sdk.node import Config, Node, open_node
from tallystick.sdk.testing.neighbours import a_line
from tallystick.sdk.testing.processes import TALLY, run, started
from tallystick.settlement.rpc_client import open_rpc_chain

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PATIENCE = 60


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
            stack.enter_context(announced(directory / name, control.url, "a token"))
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
async def test_a_call_of_the_paid_api_is_paid_once_and_a_replay_gives_the_same_answer(tmp_path: Path) -> None:
    async def call(*options: str, fails: int = 0) -> Any:
        command = example("paid_api.py", "call", url, "--node", tmp_path / "alice", *options)
        code, output, errors = await run(command)
        assert code == fails, errors
        return errors if fails else json.loads(output)

    async with a_customer_and_a_shop(tmp_path) as people:
        store = tmp_path / "answers.db"
        serve = example("paid_api.py", "serve", "--node", tmp_path / "carol", "--store", store, "--price", "5")
        async with started(serve) as server:
            url = (await server.line_with("a call costs 5")).split()[-1]
            bought = await call("--budget", "10")
            assert bought["status"] == 200 and bought["answer"]["number"] == 1
            assert "costs 5, and 4 is the budget" in await call("--budget", "4", fails=1)
            other = await people.shop.create_invoice(5, "GET /something/else")
            receipt = await people.customer.pay(other.text)
            for proof in (f"Tally {receipt.secret.hex()}", "Tally " + 64 * "0", "nonsense"):
                assert (await call("--proof", proof))["status"] == 402
            await server.kill()
        async with started(serve) as server:
            url = (await server.line_with("a call costs 5")).split()[-1]
            assert await call("--proof", bought["proof"]) == bought
            assert (await call())["answer"]["number"] == 2
        paid = people.shop.paid_invoices().take(10)
        assert [(invoice.memo, invoice.received) for invoice in paid if invoice.memo == "GET /fortune"] == [
            ("GET /fortune", 5),
            ("GET /fortune", 5),
        ]


@pytest.mark.processes
async def test_two_who_open_a_channel_to_the_hub_can_pay_each_other_and_the_hub_earns(tmp_path: Path) -> None:
    chain_node = (*TALLY, "chain", "run", "--data", str(tmp_path / "chain"), "--port", "0", "--dev", "--interval")
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            process = await stack.enter_async_context(started((*chain_node, "0.05", "--json")))
            url = (await process.json())["url"]
            options = ("--data", tmp_path / "hub", "--chain", url, "--base-fee", "7", "--ppm", "0")
            hub = await stack.enter_async_context(started(example("hub.py", *options), {"TALLY_PASSWORD": "example"}))
            address = (await hub.line_with("open a channel to")).split()[-1]
            people = []
            for number in (1, 2):
                chain = await stack.enter_async_context(open_rpc_chain(url, jitter=random.Random(number).random))
                key = PrivateKey(bytes([number]) * 32)
                await chain.mint(key.address, 10**18)
                place = tmp_path / str(number)
                node = await stack.enter_async_context(
                    open_node(place, key=key, chain=chain, config=Config(listen=None))
                )
                while not await node.balance():
                    await chain.wait((await chain.head()).hash)
                await node.open_channel(address, 100_000)
                await hub.line_with("put 100000 in")
                people.append(node)
            one, other = people
            await one.until(lambda: len(one.routing.graph) == 4)
            invoice = await other.create_invoice(5_000)
            assert (await one.pay(invoice.text)).fee == 7
            assert (await hub.line_with("paid")).split()[-4:] == ["5000", "7", "paid", "7"]
