"""Serves paid calls on a till in memory, for clients of the SDKs: `python serve.py`, with tests/ in PYTHONPATH.

It prints its address. POST /pay takes an invoice as its body and pays it; GET /paid tells what was paid in all.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulation.till import Till
from tallystick.channels.transport.webserver import WebServer
from tallystick.paid.selling.middleware import PaidCalls

till = Till()
made: list[str] = []


async def fortune(request: Request) -> Response:
    made.append(request.url.path)
    return JSONResponse({"number": len(made)})


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def broken(request: Request) -> Response:
    return Response(status_code=500)


async def pay(request: Request) -> Response:
    await till.pay_invoice((await request.body()).decode(), max_fee=0, wait=False)
    return Response()


async def paid(request: Request) -> Response:
    return JSONResponse({"paid": till.paid, "made": len(made)})


async def main() -> None:
    routes = [
        Route("/fortune", fortune),
        Route("/echo", echo, methods=["POST"]),
        Route("/broken", broken),
        Route("/pay", pay, methods=["POST"]),
        Route("/paid", paid),
    ]
    prices = {"GET /fortune": 5, "POST /echo": 7, "GET /broken": 9}
    listener = socket.create_server(("127.0.0.1", 0))
    with tempfile.TemporaryDirectory() as folder:
        app: Any = PaidCalls(
            Starlette(routes=routes), till, prices=prices, realm="peers", store=Path(folder) / "sold.db"
        )
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        await WebServer(app, Config()).serve(listener)


trio.run(main)
