"""Paid calls between real nodes, over a hub: held, taken once the answer is stored, given back if there is none."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulation.neighbours import a_line
from simulation.processes import TALLY, run, started
from tallystick.channels.transport.webserver import WebServer
from tallystick.paid.buying.auth import PaidAuth
from tallystick.paid.buying.budget import Budget
from tallystick.paid.scheme.credentials import parse_receipt
from tallystick.paid.selling.middleware import PaidCalls
from tallystick.sdk.control.client import ControlClient, control_at
from tallystick.sdk.control.files import announce
from tallystick.sdk.control.server import serve_control
from tallystick.sdk.node.node import Node

BUDGET = Budget(per_call=2_000, per_day=9_000, max_fee=1_000)


@asynccontextmanager
async def asked(node: Node) -> AsyncIterator[ControlClient]:
    async with serve_control(node, "a token") as control, control_at(control.url, "a token") as client:
        yield client


async def fortune(request: Request) -> Response:
    return JSONResponse({"fortune": "Two halves of one stick agree."})


async def broken(request: Request) -> Response:
    return JSONResponse({"error": "not today"}, 503)


@pytest.mark.processes
async def test_a_call_is_held_answered_taken_and_fetched_again(tmp_path: Path) -> None:
    async with a_line(tmp_path / "nodes") as (alice, _, carol), asked(carol) as seller, asked(alice) as buyer:
        inner = Starlette(routes=[Route("/fortune", fortune), Route("/broken", broken)])
        prices = {"GET /fortune": 500, "GET /broken": 600}
        app: Any = PaidCalls(inner, seller, prices=prices, realm="fortunes", store=tmp_path / "sold.db")
        auth = PaidAuth(buyer, BUDGET, store=tmp_path / "bought.db")
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://fortunes", auth=auth) as http:
            answer = await http.get("/fortune")
            assert answer.json() == {"fortune": "Two halves of one stick agree."}
            receipt = parse_receipt(answer.headers["payment-receipt"])
            paid = await buyer.payment(receipt.reference)
            assert (paid.state, paid.amount) == ("paid", 500)
            (bought,) = await auth.purchases()
            assert (bought.state, bought.cost) == ("answered", 500 + paid.fee)
            assert (await http.get("/broken")).status_code == 503
            (given_back, _) = await auth.purchases()
            assert given_back.state == "failed"
            assert (await buyer.payment(given_back.payment_hash, wait=9)).state == "failed"
        field, value = await auth.credential(bought)
        async with httpx.AsyncClient(transport=transport, base_url="https://fortunes") as http:
            again = await http.get("/fortune", headers={field: value})
        assert again.content == answer.content and len(await app.sales()) == 1
        assert [invoice.received for invoice in await seller.invoices() if invoice.state == "claimed"] == [500]
        app.close()
        auth.close()


@pytest.mark.processes
async def test_the_command_fetches_within_its_budget(tmp_path: Path) -> None:
    async with (
        a_line(tmp_path) as (alice, _, carol),
        asked(carol) as seller,
        serve_control(alice, "a token") as control,
        trio.open_nursery() as nursery,
    ):
        app: Any = PaidCalls(
            Starlette(routes=[Route("/fortune", fortune)]),
            seller,
            prices={"GET /fortune": 500},
            realm="fortunes",
            store=tmp_path / "sold.db",
        )
        listener = socket.create_server(("127.0.0.1", 0))
        await nursery.start(lambda task_status: WebServer(app, Config()).serve(listener, task_status=task_status))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/fortune"
        with announce(tmp_path / "alice", control.url, "a token"):
            command = (*TALLY, "fetch", url, "--data", tmp_path / "alice", "--json", "--budget")
            code, output, errors = await run((*command, "499"))
            assert code == 1 and "it costs 500, and 499 may be spent" in errors and not await seller.paid_invoices()
            code, output, errors = await run((*command, "1500"))
            assert code == 0, errors
            told = json.loads(output)
            assert (told["status"], told["cost"]) == (200, 500) and "Two halves" in told["body"]
            code, output, errors = await run((*command, "1500", "--per-day", "1000"))
            assert code == 1 and "may be spent a day" in errors
            assert [paid.payment_hash for paid in await seller.paid_invoices()] == [told["payment_hash"]]
        app.close()
        nursery.cancel_scope.cancel()


def readme_blocks() -> tuple[str, str]:
    """Return the seller and the buyer that the README shows."""
    page = (Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8")
    section = page.split("## For builders: a paid API")[1].split("\n## ")[0]
    seller, buyer = re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    assert len(buyer.splitlines()) == 5
    assert len([line for line in seller.splitlines() if line.strip()]) <= 15
    return seller, buyer


@pytest.mark.processes
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
async def test_the_readmes_seller_and_buyer_do_what_it_says(tmp_path: Path, loop: str) -> None:
    """As two processes; of what it shows, the nodes' directories, the port and once the event loop are others."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    seller, buyer = readme_blocks()
    names = "from pathlib import Path\nimport anyio, httpx\nfrom tallystick import Budget, PaidAuth, connect_control\n"
    body = "".join(f"    {line}\n" for line in buyer.splitlines())
    buyer = f"{names}async def main():\n{body}anyio.run(main, backend='trio')\n"
    for name, code in (("seller", seller), ("buyer", buyer)):
        code = code.replace("net/shop", f"{tmp_path}/carol").replace('"net/', f'"{tmp_path}/')
        code = code.replace(":8000", f":{port}").replace("hypercorn.trio", f"hypercorn.{loop}")
        code = re.sub("backend=.trio.", f"backend='{loop}'", code)
        code = code.replace("Config()", f"Config.from_mapping(bind='127.0.0.1:{port}')")
        (tmp_path / f"{name}.py").write_text(code)
    async with a_line(tmp_path) as (alice, _, carol), AsyncExitStack() as stack:
        for name, node in (("alice", alice), ("carol", carol)):
            control = await stack.enter_async_context(serve_control(node, "a token"))
            stack.enter_context(announce(tmp_path / name, control.url, "a token"))
        async with started((sys.executable, "-I", str(tmp_path / "seller.py"))):
            patient = httpx.AsyncHTTPTransport(retries=9)  # the server was started just now
            async with httpx.AsyncClient(transport=patient) as http:
                assert (await http.get(f"http://127.0.0.1:{port}/nowhere")).status_code == 404
            code, output, errors = await run((sys.executable, "-I", str(tmp_path / "buyer.py")))
            assert (code, output) == (0, "Two halves of one stick agree.\n"), errors
        assert [paid.received for paid in carol.paid_invoices().take(9)] == [5]
