"""The merchant and the customer of `examples/`, as real processes with a real chain node."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from simulation.processes import TALLY, Running, run, started

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PASSWORD = {"TALLY_PASSWORD": "example"}
PATIENCE = 240  # for machines that have much else to do


@asynccontextmanager
async def a_chain(directory: Path) -> AsyncIterator[str]:
    command = (*TALLY, "chain", "run", "--data", str(directory), "--port", "0", "--dev", "--interval", "0.05", "--json")
    async with started(command) as chain:
        yield (await chain.json())["url"]


@asynccontextmanager
async def a_merchant(directory: Path, chain: str, *options: str) -> AsyncIterator[tuple[Running, str]]:
    command = (
        sys.executable,
        "-I",
        str(EXAMPLES / "merchant.py"),
        "--data",
        str(directory),
        "--chain",
        chain,
        *options,
    )
    async with started(command, PASSWORD) as merchant:
        yield merchant, (await merchant.line_with("customers connect to")).rpartition(" ")[2]


async def buy(directory: Path, chain: str, merchant: str, order: str, price: int = 250) -> str:
    command = (sys.executable, "-I", str(EXAMPLES / "customer.py"), "--data", str(directory), "--chain", chain)
    code, output, errors = await run(
        (*command, "--merchant", merchant, "--order", order, "--price", str(price)), PASSWORD
    )
    assert code == 0, errors
    return output


def shipped(directory: Path) -> list[tuple[str, str]]:
    lines = (directory / "shipped.jsonl").read_text().splitlines()
    return [(line["action"], line["order"]) for line in map(json.loads, lines)]


@pytest.mark.processes
async def test_a_merchant_killed_between_payment_and_shipping_ships_exactly_once(tmp_path: Path) -> None:
    shop, customer = tmp_path / "merchant", tmp_path / "customer"
    with trio.fail_after(PATIENCE):
        async with a_chain(tmp_path / "chain") as chain:
            async with a_merchant(shop, chain, "--packing", "1000") as (merchant, address):
                assert "opening a channel" in await buy(customer, chain, address, "tea-1")
                await merchant.line_with("paid: order tea-1")
                await merchant.kill()
            assert shipped(shop) == []
            (shop / "shipped.jsonl").write_text('{"action": "sh')  # the crash might have come in mid-line as well
            async with a_merchant(shop, chain) as (merchant, address):
                await merchant.line_with("ship: order tea-1")
                await merchant.kill()
            async with a_merchant(shop, chain) as (merchant, address):
                again = await buy(customer, chain, address, "tea-1")
                second = await buy(customer, chain, address, "tea-2")
                await merchant.line_with("ship: order tea-2")
            assert "payment 0 of" in again and "payment 1 of" in second
            assert "opening" not in again
            assert shipped(shop) == [("ship", "tea-1"), ("ship", "tea-2")]


@pytest.mark.processes
async def test_a_payment_of_another_amount_is_noted_for_a_refund_and_not_shipped(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with a_chain(tmp_path / "chain") as chain:
            async with a_merchant(tmp_path / "merchant", chain) as (merchant, address):
                await buy(tmp_path / "customer", chain, address, "tea-1", price=249)
                await merchant.line_with("refund")
            assert shipped(tmp_path / "merchant") == [("refund: wrong amount", "tea-1")]
