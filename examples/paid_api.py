"""An HTTP API that is paid by the call: 402 Payment Required, an invoice, and the receipt as proof.

It talks to a node that runs already; `hub.py` says how to get one (net/shop) and a customer (net/alice). Then:

    python examples/paid_api.py serve --node net/shop --store net/answers.db --port 8402 &
    python examples/paid_api.py call http://127.0.0.1:8402/fortune --node net/alice --budget 10

    GET /fortune                                   ◀── 402, WWW-Authenticate: Tally invoice="tally1…"
    (the client pays, and has the secret then)
    GET /fortune, Authorization: Tally <secret>    ◀── 200 and what was bought

The secret proves the payment: only the server's node could open the invoice's payment hash, and does so only when it is
paid. One secret buys one answer, which is stored before it is sent: shown again, by the client whose connection broke
or by somebody who overheard it, it gives the very same answer and never a new one. An invoice names in its memo what it
is for, so that a cheap call does not pay for a dear one. Speak TLS in earnest: the secret is worth an answer. A client
that crashed after it paid finds the secret with `tally payments`, and calls with `--proof "Tally <secret>"`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import socket
import sqlite3
import sys
from pathlib import Path

import httpx
import msgspec
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tallystick import ControlClient, ControlError, InvalidInput, TallystickError, connect_control, decode_invoice
from tallystick.channels.transport.webserver import WebServer

FORTUNES = (
    "Two halves of one stick agree.",
    "Count what you sign, sign what you count.",
    "What is on disk is true.",
    "A promise with an expiry is still a promise.",
    "The longest way round pays the most tolls.",
)

LIFETIME = 600
"""Seconds in which an invoice can be paid."""


class Answers:
    """What was sold: one answer for each secret, for ever."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE IF NOT EXISTS answers (number INTEGER PRIMARY KEY, hash TEXT UNIQUE)")
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def number(self, payment_hash: str) -> int:
        """Return the number of the answer that this payment bought: a new one at the first time."""
        return await trio.to_thread.run_sync(self._number, payment_hash, limiter=self._one_at_a_time)

    def _number(self, payment_hash: str) -> int:
        with self._database:
            self._database.execute("INSERT OR IGNORE INTO answers (hash) VALUES (?)", (payment_hash,))
        found = self._database.execute("SELECT number FROM answers WHERE hash = ?", (payment_hash,))
        return int(found.fetchone()[0])


class PaidApi:
    """The server: what it sells, and how it knows that it was paid."""

    def __init__(self, node: ControlClient, answers: Answers, price: int) -> None:
        self._node = node
        self._answers = answers
        self._price = price

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(routes=[Route("/fortune", self._fortune)])

    async def _fortune(self, request: Request) -> Response:
        what = f"{request.method} {request.url.path}"
        payment_hash = await self._paid(request.headers.get("authorization", ""), what)
        if payment_hash is None:
            return await self._ask(what)
        number = await self._answers.number(payment_hash)
        return JSONResponse({"number": number, "fortune": FORTUNES[number % len(FORTUNES)]})

    async def _paid(self, proof: str, what: str) -> str | None:
        """Return the hash of the payment that a request proves; None if it proves none for this."""
        shown = re.fullmatch("Tally ([0-9a-f]{64})", proof)
        if shown is None:
            return None
        payment_hash = hashlib.sha256(bytes.fromhex(shown[1])).hexdigest()
        try:
            invoice = await self._node.invoice(payment_hash)
        except ControlError:
            return None
        bought = invoice.state == "claimed" and invoice.memo == what and invoice.received >= self._price
        return payment_hash if bought else None

    async def _ask(self, what: str) -> Response:
        made = await self._node.create_invoice(self._price, what, lifetime=LIFETIME)
        return JSONResponse(
            {"invoice": made.invoice, "price": self._price, "for": what},
            402,
            {"www-authenticate": f'Tally invoice="{made.invoice}"'},
        )


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    listener = socket.create_server(("127.0.0.1", arguments.port))
    host, port = listener.getsockname()
    config = Config()
    config.loglevel = "WARNING"
    async with connect_control(arguments.node) as node, trio.open_nursery() as nursery:
        app = PaidApi(node, Answers(arguments.store), arguments.price).app()
        await nursery.start(lambda task_status: WebServer(app, config).serve(listener, task_status=task_status))
        print(f"a call costs {arguments.price}: http://{host}:{port}/fortune", flush=True)


async def fetch(node: ControlClient, url: str, budget: int) -> tuple[httpx.Response, str]:
    """Get what is at `url`, and pay for it if it costs at most `budget`; return the answer and the proof of payment."""
    patient = httpx.AsyncHTTPTransport(retries=5)  # the server may have been started just now
    async with httpx.AsyncClient(trust_env=False, timeout=60, transport=patient) as http:
        first = await http.get(url)
        challenge = re.fullmatch('Tally invoice="(tally[0-9a-z]+)"', first.headers.get("www-authenticate", ""))
        if first.status_code != httpx.codes.PAYMENT_REQUIRED or challenge is None:
            return first, ""
        price = decode_invoice(challenge[1]).amount
        if price is None or price > budget:
            raise InvalidInput(f"{url} costs {price or 'what you like'}, and {budget} is the budget")
        paid = await node.pay_invoice(challenge[1], max_fee=budget - price)
        if paid is None or paid.secret is None:
            raise InvalidInput("the payment is still on its way; ask again with its secret when it is made")
        proof = f"Tally {paid.secret}"
        try:
            return await http.get(url, headers={"authorization": proof}), proof
        except httpx.HTTPError as error:
            raise InvalidInput(f"paid, but no answer came ({error}): call again with --proof '{proof}'") from error


async def call(arguments: argparse.Namespace) -> None:
    """Call once, with a proof of before if there is one."""
    async with connect_control(arguments.node) as node:
        if arguments.proof:
            async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
                answer = await http.get(arguments.url, headers={"authorization": arguments.proof})
            proof = arguments.proof
        else:
            answer, proof = await fetch(node, arguments.url, arguments.budget)
    print(msgspec.json.encode({"status": answer.status_code, "answer": answer.json(), "proof": proof}).decode())


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
    client.add_argument("--budget", type=int, default=10, help="the most that it may cost, fees included")
    client.add_argument("--proof", default="", help="of a call that was paid before: gives the same answer again")
    client.set_defaults(act=call)
    arguments = parser.parse_args()
    try:
        trio.run(arguments.act, arguments)
    except* KeyboardInterrupt:
        pass
    except* httpx.HTTPError as failed:
        sys.exit(f"paid_api: the server cannot be reached: {failed.exceptions[0]}")
    except* (TallystickError, OSError) as group:
        sys.exit(f"paid_api: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
