"""An HTTP API that is paid by the call: 402, an invoice, a payment that is held until the answer is stored.

It talks to a node that runs already; `hub.py` says how to get one (net/shop) and a customer (net/alice). Then:

    python examples/paid_api.py serve --node net/shop --store net/sold.db --port 8402 &
    python examples/paid_api.py call http://127.0.0.1:8402/fortune --node net/alice --store net/bought.db --budget 10

    GET /fortune                                ◀── 402, WWW-Authenticate: Payment …, with an invoice
    (the client pays, and the server's node holds the payment)
    GET /fortune, Authorization: Payment …      ◀── 200, what was bought, and a receipt: now the payment is taken

One payment buys one answer, which is stored before it is sent, and never a new one. What is not delivered is not paid:
if the server dies before it has the answer, the payment goes back. A client that crashed, or whose connection broke,
runs the same command again: it goes on with the payment that it began. `--again HASH` shows once more what was bought.
This is the "Payment" scheme of HTTP, which others speak, too (docs/paid.md); `tally fetch` does the same as `call`.
"""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tallystick import Budget, InvalidInput, PaidAuth, PaidCalls, TallystickError, connect_control
from tallystick.channels.transport.webserver import WebServer

FORTUNES = (
    "Two halves of one stick agree.",
    "Count what you sign, sign what you count.",
    "What is on disk is true.",
    "A promise with an expiry is still a promise.",
    "The longest way round pays the most tolls.",
)


async def fortune(request: Request) -> Response:
    """Answer a call that is paid for: this knows of no money, only of a name for the payment."""
    payment: str = request.scope["tallystick.payment"]
    return JSONResponse({"fortune": FORTUNES[int(payment, 16) % len(FORTUNES)], "payment": payment})


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    listener = socket.create_server(("127.0.0.1", arguments.port))
    host, port = listener.getsockname()
    config = Config()
    config.loglevel = "WARNING"
    inner = Starlette(routes=[Route("/fortune", fortune)])
    async with connect_control(arguments.node) as node, trio.open_nursery() as nursery:
        prices = {"GET /fortune": arguments.price}
        app: Any = PaidCalls(inner, node, prices=prices, realm="fortunes", store=arguments.store)
        await nursery.start(lambda task_status: WebServer(app, config).serve(listener, task_status=task_status))
        print(f"a call costs {arguments.price}: http://{host}:{port}/fortune", flush=True)


async def call(arguments: argparse.Namespace) -> None:
    """Call once, and pay for it if it costs at most the budget; or get what was bought before."""
    budget = Budget(per_call=arguments.budget, per_day=arguments.per_day)
    patient = httpx.AsyncHTTPTransport(retries=5)  # the server may have been started just now
    async with connect_control(arguments.node) as node:
        auth = PaidAuth(node, budget, store=arguments.store)
        if arguments.again:
            bought = [each for each in await auth.purchases() if each.payment_hash == arguments.again]
            if not bought:
                raise InvalidInput(f"nothing was bought with a payment of hash {arguments.again}")
            field, value = await auth.credential(bought[0])
            async with httpx.AsyncClient(trust_env=False, timeout=60, transport=patient) as http:
                answer = await http.get(arguments.url, headers={field: value})
        else:
            async with httpx.AsyncClient(auth=auth, trust_env=False, timeout=60, transport=patient) as http:
                answer = await http.get(arguments.url)
    print(msgspec.json.encode({"status": answer.status_code, "answer": answer.json()}).decode())


def main() -> None:
    """Read the command line; serve, or call."""
    parser = argparse.ArgumentParser(description="An HTTP API that is paid by the call, and its client.")
    commands = parser.add_subparsers(required=True)
    server = commands.add_parser("serve", help="sell fortunes")
    server.add_argument("--node", type=Path, required=True, help="data directory of the running node")
    server.add_argument("--store", type=Path, required=True, help="file that remembers what was sold")
    server.add_argument("--port", type=int, default=0, help="0 takes any free one")
    server.add_argument("--price", type=int, default=5, help="of a call, in the coin's smallest unit")
    server.set_defaults(act=serve)
    client = commands.add_parser("call", help="buy something")
    client.add_argument("url")
    client.add_argument("--node", type=Path, required=True, help="data directory of the running node")
    client.add_argument("--store", type=Path, required=True, help="file that remembers what was bought")
    client.add_argument("--budget", type=int, default=10, help="the most that it may cost, fees included")
    client.add_argument("--per-day", type=int, default=1_000, help="the most that all calls of a day may cost")
    client.add_argument("--again", default="", help="hash of a payment that was made: gives its answer once more")
    client.set_defaults(act=call)
    arguments = parser.parse_args()
    try:
        trio.run(arguments.act, arguments)
    except* KeyboardInterrupt:
        pass
    except* httpx.HTTPError as failed:
        sys.exit(f"paid_api: no whole answer came, the same command goes on: {failed.exceptions[0]!r}")
    except* (TallystickError, OSError) as group:
        sys.exit(f"paid_api: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
