"""The control API is asked for nonsense: each request is refused with a sentence, and none harms the node.

Every route is asked, found through the application itself, with wrong values for each field of its body, its query and
its path: a new route without a row here fails. And a fault of the program is the fault of one request.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode

import pytest
import trio
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.control.http import TokenCheck
from tallystick.sdk.control.openapi import faults_of
from tallystick.sdk.control.operations import operations
from tallystick.sdk.control.server import ControlServer
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import open_world

TOKEN = "a token"
SECRET = "5ec3e7" * 10 + "cafe"

WRONG: list[Any] = [
    *(None, True, 0, -1, 1.5, 5.0, 2**31, 2**63, 2**64, 2**128, 10**400, [], [1], {}, {"a": 1}),
    *("", " ", "x", "5", "0x", "é", "\0", "\x1b[2J", "a" * 3_000, "02" + "00" * 32, "77" * 20, "0x" + "zz" * 20),
    *("00" * 32, "@:", "02@host:1", "zz" * 33 + "@127.0.0.1:9" * 5),
]
RAW = [
    *(b"[]", b"null", b"5", b'"x"', b"{", b"\xff", b'{"amount": ' + b"9" * 5_000 + b"}", b"[" * 9_000, b"{}{}"),
    *(b'{"amount":1e400}', b'{"wait": false, "wait": false}', b'{"memo": "\\ud800", "to": "00"}', b'{"nothing": 1}'),
    b"\x00" * 20_000,
]
QUERIES = ("limit", "before", "after", "wait", "probes", "channel", "asset", "over", "ended")
WORDS = [
    "",
    "-1",
    "1.5",
    "1e9",
    "9" * 30,
    "9" * 5_000,
    "x",
    "\0",
    "é",
    "²",
    "0x",
    "zzzz",
    "77" * 20,
    "1.99999999999999999999",
    ".",
]
POLICY = {"base_fee": 1, "fee_ppm": 1, "minimum": 1, "maximum": 1, "margin": 1, "enabled": True}
NAMES = ["zzzz", "0", "0x", "abcd" * 40, "00" * 32, "%00", "%C3%A9", "..%2F", "-1", "9" * 400, "%ED%A0%80"]


class Asked(NamedTuple):
    node: Node
    control: ControlServer
    app: ASGIApp
    channel: str
    peer: str
    game: str

    async def ask(self, method: str, url: str, content: bytes = b"") -> tuple[int, str]:
        """Send one request to the application itself; return status and body."""
        path, _, query = url.partition("?")
        scope = {"type": "http", "method": method, "path": unquote(path), "query_string": query.encode()}
        headers = {"headers": [(b"authorization", b"Bearer " + TOKEN.encode())]}
        told: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Message) -> None:
            told.append(message)

        await self.app(scope | headers, receive, send)
        return told[0]["status"], b"".join(message.get("body", b"") for message in told[1:]).decode()


@asynccontextmanager
async def asking() -> AsyncIterator[Asked]:
    """Give the control API of a node with a channel, without sockets."""
    async with open_world(1) as world, trio.open_nursery() as nursery:
        alice, bob = await world.start("alice"), await world.start("bob")
        channel = await alice.open_channel(world.address("bob"), 10_000_000)
        control = ControlServer(alice, nursery)
        game = alice.apps.propose(channel.id, "tictactoe", (5, 0), parameters={})
        assert await world.until(lambda: bool(bob.apps.proposed))
        bob.apps.proposed[0].agree()
        await game.wait_begun()
        app, names = TokenCheck(control.app(), TOKEN), (channel.id, bob.key.public, game.instance)
        yield Asked(alice, control, app, *(bytes(name).hex() for name in names))
        assert (await channel.pay(5)).amount == 5 or channel.phase.name != "OPEN"
        nursery.cancel_scope.cancel()


def bodies(asked: Asked) -> dict[str, dict[str, Any]]:
    """Return for each path of a POST a body that could be right."""
    to, channel = asked.peer, asked.channel
    return {
        "/channels": {"peer": to, "deposit": 10, "asset": "0x" + "00" * 20, "challenge_period": 600, "wait": False},
        "/virtual": {"peer": to, "way": channel, "deposit": 5, "peer_deposit": 5, "seconds": 40_000},
        "/channels/{channel}/deposit": {"amount": 5, "wait": False},
        "/channels/{channel}/withdraw": {"amount": 5, "wait": False},
        "/channels/{channel}/policy": POLICY,
        "/channels/{channel}/record": {"on": True},
        "/channels/{channel}/streams": {"unit": 1, "length": 10, "lifetime": 3_600},
        "/channels/{channel}/streams/{lock}/pay": {"units": 1},
        "/channels/{channel}/streams/{lock}/close": {},
        "/apps": {
            "channel": channel, "app": "tictactoe", "stake": 5, "peer_stake": 0, "parameters": {}, "expiry": None,
            "period": 60, "wait": False,
        },
        "/apps/{app}/accept": {"channel": channel, "wait": False},
        "/apps/{app}/refuse": {"why": "no"},
        "/apps/{app}/move": {"move": {"cell": 4}, "number": 1, "wait": False},
        "/apps/{app}/offer": {"gets": 0, "pays": 1},
        "/apps/{app}/take": {"gets": 0, "pays": 0},
        "/apps/{app}/resign": {},
        "/apps/{app}/dispute": {},
        "/payments": {"to": channel, "amount": 5, "memo": "m", "memo_hex": "", "key": "", "asset": "0x" + "00" * 20},
        "/peers": {"address": f"{to}@127.0.0.1:9"},
        "/invoices": {
            "amount": 5, "memo": "m", "lifetime": 60, "hold": False, "payment_hash": "", "hints": True,
            "asset": "0x" + "00" * 20,
        },
        "/invoices/{payment_hash}/settle": {"secret": ""},
        "/invoices/{payment_hash}/cancel": {},
        "/pay": {"invoice": "tally", "amount": 5, "max_fee": 5, "timeout": 1.0, "wait": False},
        "/pay/across": {
            "invoice": "tally", "most": 5, "makers": [f"{to}@127.0.0.1:9"], "asset": "0x" + "00" * 20, "wait": False,
        },
        "/keysend": {
            "to": to, "amount": 5, "max_fee": 5, "timeout": 1.0, "secret": "", "wait": False, "asset": "0x" + "00" * 20,
        },
        "/estimate": {"to": to, "amount": 5, "timeout": 1.0, "asset": "0x" + "00" * 20},
        "/probe": {"to": to, "amount": 5, "timeout": 1.0, "asset": "0x" + "00" * 20},
        "/swap": {
            "amount": 5, "give": "coin@7000", "get": "coin@7001", "makers": [asked.peer + "@127.0.0.1:1"],
            "least": 1, "wait": False,
        },
        "/rates": {"source": "coin@7000", "target": "coin@7001", "take": 3, "give": 2, "base": 1, "least": 1},
        "/rates/remove": {"source": "coin@7000", "target": "coin@7001"},
        "/rebalance": {"out": channel, "back": channel, "amount": 5, "max_fee": 1, "timeout": 1.0, "wait": False},
        "/claim": {"asset": "0x" + "00" * 20, "to": "0x" + "11" * 20, "wait": False},
        "/stop": {},
        "/channels/{channel}/close": {"wait": False},
        "/channels/{channel}/force-close": {"wait": False},
    }  # fmt: skip


def fill(path: str, channel: str, lock: str, payment_hash: str) -> str:
    """Put names into a path of the table."""
    return path.format(channel=channel, lock=lock, payment_hash=payment_hash)


def is_documented(method: str, path: str, status: int, code: str) -> bool:
    """Whether an operation that a path could be of says in the document that it may be refused so."""
    if (status, code) == (404, "not-found"):
        return True
    for one in operations():
        if one.method == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one.path), unquote(path)):
            return code in faults_of(one).get(status, ())
    return False


async def check(asked: Asked, method: str, url: str, content: bytes = b"") -> None:
    with trio.move_on_after(100):
        status, answer = await asked.ask(method, url, content)
        said = f"{method} {url} {content[:200]!r}: {status} {answer[:200]}"
        assert status < 500 or status in (502, 503), said
        if status >= 400:
            error = json.loads(answer)["error"]
            assert error["code"] != "program-fault" and error["text"], said
            assert is_documented(method, url.partition("?")[0], status, error["code"]), said
        else:
            assert status in (200, 202), said


def test_no_wrong_request_to_any_route_meets_a_fault_of_the_program() -> None:
    async def main() -> None:
        async with asking() as asked:
            table = bodies(asked)
            routes = [route for route in asked.control.app().routes if isinstance(route, Route)]
            posts = {route.path for route in routes if "POST" in (route.methods or ())}
            assert posts == table.keys(), "a new route needs a row in `bodies`"
            for route in routes:
                path = (
                    route.path.replace("{channel}", asked.channel)
                    .replace("{lock}", "0")
                    .replace("{payment_hash}", "00" * 32)
                    .replace("{app}", asked.game)
                )
                if "GET" in (route.methods or ()):
                    for query in QUERIES:
                        for word in WORDS:
                            await check(asked, "GET", f"{path}?{urlencode({query: word})}")
                for name in NAMES:
                    if "{" in route.path:
                        method = "GET" if "GET" in (route.methods or ()) else "POST"
                        wrong = (
                            route.path.replace("{channel}", name)
                            .replace("{lock}", name)
                            .replace("{payment_hash}", name)
                            .replace("{app}", name)
                        )
                        await check(asked, method, wrong, b"{}")
            for template, body in table.items():
                path = (
                    template.replace("{channel}", asked.channel)
                    .replace("{lock}", "0")
                    .replace("{payment_hash}", "00" * 32)
                    .replace("{app}", asked.game)
                )
                for raw in RAW:
                    await check(asked, "POST", path, raw)
                for field in body:
                    for value in WRONG:
                        if field == "wait" and value is True:
                            continue
                        content = json.dumps(body | {field: value}).encode()
                        await check(asked, "POST", path, content)
            assert "program-fault" not in (await asked.ask("GET", "/info"))[1]

    simulate(main, 1)


@pytest.mark.alarm("program-fault")
@pytest.mark.parametrize("wait", [True, False])
def test_a_fault_of_the_program_is_its_requests_alone(wait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with asking() as asked:

            async def broken(*arguments: object, **more: object) -> None:
                await trio.sleep(1)  # longer than an operation that is not waited for is watched
                raise OverflowError(SECRET)

            monkeypatch.setattr(asked.node, "keysend", broken)
            body = json.dumps({"to": asked.peer, "amount": 5, "wait": wait}).encode()
            status, answer = await asked.ask("POST", "/keysend", body)
            if wait:
                assert status == 500 and json.loads(answer)["error"]["code"] == "program-fault"
                assert "OverflowError at tests/test_control_faults.py:" in answer
            else:
                assert status == 202
            await trio.sleep(2)
            _, info = await asked.ask("GET", "/info")
            assert [alarm["kind"] for alarm in json.loads(info)["alarms"]] == [AlarmKind.PROGRAM_FAULT]
            assert SECRET not in info and SECRET not in answer
            monkeypatch.setattr(asked.node, "statistics", lambda: 1 // 0)
            status, answer = await asked.ask("GET", "/statistics")
            assert status == 500 and "ZeroDivisionError" in answer

    simulate(main, 1)


def test_what_is_said_twice_is_refused() -> None:
    async def main() -> None:
        async with asking() as asked:
            twice = b'{"to": "%s", "amount": 1, "amount": 1000}' % asked.channel.encode()
            status, answer = await asked.ask("POST", "/payments", twice)
            assert (status, json.loads(answer)["error"]["code"]) == (400, "malformed")

    simulate(main, 1)
