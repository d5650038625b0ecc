"""Paid calls: not delivered is not paid, one payment buys one stored answer, and no crash or thief changes that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from simulation.till import Crash, Till
from tallystick.channels.errors import InvalidInput, StoreError, StoreInUse, TallystickError
from tallystick.paid.method import read_charge
from tallystick.paid.scheme.challenges import PaymentChallenge, parse_challenges
from tallystick.paid.scheme.credentials import PaymentCredential, parse_receipt
from tallystick.paid.scheme.encoding import write_object
from tallystick.paid.selling.capture import PAYMENT_KEY
from tallystick.paid.selling.middleware import PaidCalls
from tallystick.paid.selling.prices import PaidCall

PRICES = {
    "GET /fortune": 5,
    "POST /echo": 7,
    "GET /items/{item}": 2,
    "GET /broken": 3,
    "GET /missing": 3,
    "GET /long": 1,
}


class Shop:
    """An application that counts what it does, behind the middleware, and its clients."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.till = Till()
        self.folder = folder
        self.options = {"prices": PRICES, "realm": "shop", "store": folder / "sold.db"} | options
        self.made: list[str] = []
        routes = [
            Route("/fortune", self.fortune),
            Route("/echo", self.echo, methods=["POST"]),
            Route("/items/{item}", self.fortune),
            Route("/broken", self.broken),
            Route("/missing", lambda request: JSONResponse({"error": "gone"}, 404)),
            Route("/long", lambda request: StreamingResponse(part for part in [b"x" * 600] * 20)),
            Route(
                "/openapi.json", lambda request: JSONResponse({"openapi": "3.1.0", "paths": {"/fortune": {"get": {}}}})
            ),
        ]
        self.inner = Starlette(routes=routes)
        self.app = PaidCalls(self.inner, self.till, **self.options)

    async def fortune(self, request: Request) -> Response:
        self.made.append(request.scope.get(PAYMENT_KEY, ""))
        self.till.at("made")
        return JSONResponse({"number": len(self.made)}, headers={"x-own": "1", "set-cookie": "a=b"})

    async def echo(self, request: Request) -> Response:
        self.made.append("echo")
        return Response(await request.body())

    async def broken(self, request: Request) -> Response:
        raise ValueError("the application is broken")

    def restart(self) -> None:
        self.app.close()
        self.till.at = lambda point: None
        self.app = PaidCalls(self.inner, self.till, **self.options)

    async def call(self, path: str = "/fortune", method: str = "GET", **given: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
            return await http.request(method, path, **given)

    async def challenge(self, *given: str, **more: Any) -> PaymentChallenge:
        answer = await self.call(*given, **more)
        assert answer.status_code == 402, answer.text
        (challenge,) = parse_challenges(answer.headers.get_list("www-authenticate"))
        return challenge

    async def pay(self, challenge: PaymentChallenge) -> dict[str, str]:
        charge = read_charge(challenge)
        await self.till.pay_invoice(charge.invoice, max_fee=0, wait=False)
        return shown(challenge, {"paymentHash": charge.payment_hash})


def shown(challenge: PaymentChallenge, proof: dict[str, Any]) -> dict[str, str]:
    return {"authorization": PaymentCredential(challenge=challenge, proof=proof).to_header()}


def require_private(folder: Path, name: str) -> None:
    kept = [file for file in folder.iterdir() if file.name.startswith(name)]
    assert kept and all(file.stat().st_mode & 0o077 == 0 for file in kept)


def problem_of(answer: httpx.Response) -> str:
    assert (
        answer.headers["content-type"] == "application/problem+json" and answer.headers["cache-control"] == "no-store"
    )
    assert answer.json()["status"] == answer.status_code
    return str(answer.json()["type"]).removeprefix("https://paymentauth.org/problems/")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def buy_twice(shop: Shop) -> None:
    challenge = await shop.challenge()
    assert read_charge(challenge).amount == 5 and shop.till.paid == 0 and shop.made == []
    credential = await shop.pay(challenge)
    answer = await shop.call(headers=credential)
    assert (answer.status_code, answer.json(), shop.till.paid) == (200, {"number": 1}, 5)
    assert answer.headers["cache-control"] == "private, no-store" and answer.headers["x-own"] == "1"
    receipt = parse_receipt(answer.headers["payment-receipt"])
    assert (receipt.reference, receipt.challenge_id) == (read_charge(challenge).payment_hash, challenge.id)
    assert shop.made == [receipt.reference]
    again = await shop.call(headers=credential)
    assert (again.content, dict(again.headers)) == (answer.content, dict(answer.headers))
    assert len(shop.made) == 1 and [answer.amount for _, answer in await shop.app.sales()] == [5]


async def test_a_call_is_paid_once_and_answered_again_and_again(shop: Shop) -> None:
    await buy_twice(shop)


def test_the_same_under_asyncio(shop: Shop) -> None:
    asyncio.run(buy_twice(shop))


async def test_what_is_not_for_sale_goes_through_as_it_is(shop: Shop) -> None:
    assert (await shop.call("/nowhere")).status_code == 404
    assert (await shop.call("/echo")).status_code == 405 and not shop.till.invoices


async def test_the_secret_shows_the_payment_too_but_never_alone(shop: Shop) -> None:
    challenge = await shop.challenge()
    credential = await shop.pay(challenge)
    first = await shop.call(headers=credential)
    made = shop.till.invoices[read_charge(challenge).payment_hash]
    assert (await shop.call(headers=shown(challenge, {"secret": made.secret}))).content == first.content
    forged = PaymentChallenge(**(challenge.written() | {"id": "x"}))
    other = await shop.challenge()
    for wrong in (forged, other, PaymentChallenge(**(other.written() | {"request": challenge.request}))):
        answer = await shop.call(headers=shown(wrong, {"secret": made.secret}))
        assert answer.status_code == 402 and shop.made == [made.payment_hash]
    assert (await shop.call(headers={"authorization": f"Tally {made.secret}"})).status_code == 402


@pytest.mark.parametrize(
    "proof", [{}, {"secret": 64 * "0"}, {"paymentHash": 64 * "0"}, {"secret": 7}, {"paymentHash": None}]
)
async def test_a_payload_that_is_not_for_the_invoice_buys_nothing(shop: Shop, proof: dict[str, Any]) -> None:
    challenge = await shop.challenge()
    await shop.pay(challenge)
    answer = await shop.call(headers=shown(challenge, proof))
    assert problem_of(answer) == "verification-failed" and shop.made == [] and shop.till.paid == 0


@pytest.mark.parametrize(
    ("path", "method", "content"),
    [("/fortune?x=1", "GET", b""), ("/items/1", "GET", b""), ("/fortune", "HEAD", b""), ("/fortune", "GET", b"body")],
)
async def test_a_payment_for_one_call_buys_no_other_one(shop: Shop, path: str, method: str, content: bytes) -> None:
    credential = await shop.pay(await shop.challenge())
    answer = await shop.call(path, method, headers=credential, content=content)
    assert answer.status_code == 402 and shop.made == [] and shop.till.paid == 0


async def test_a_body_is_bound_to_its_payment(shop: Shop) -> None:
    credential = await shop.pay(await shop.challenge("/echo", "POST", content=b"this"))
    other = await shop.call("/echo", "POST", headers=credential, content=b"that")
    assert problem_of(other) == "invalid-challenge" and shop.made == []
    assert (await shop.call("/echo", "POST", headers=credential, content=b"this")).content == b"this"
    assert (await shop.call("/echo", "POST", headers=credential, content=b"that")).status_code == 402


async def test_another_servers_challenge_is_refused(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    challenge = await other.challenge()
    answer = await shop.call(headers=await other.pay(challenge))
    assert problem_of(answer) == "invalid-challenge" and shop.made == []


@pytest.mark.parametrize("text", ["Payment", "Payment !", "Payment e30", f"Payment {write_object({'challenge': {}})}"])
async def test_what_is_no_credential_gets_a_fresh_challenge(shop: Shop, text: str) -> None:
    answer = await shop.call(headers={"authorization": text})
    assert problem_of(answer) in ("malformed-credential", "payment-required")
    assert parse_challenges(answer.headers.get_list("www-authenticate"))


async def test_an_unpaid_call_is_told_to_come_again_and_asked_for_nothing_more(shop: Shop) -> None:
    challenge = await shop.challenge()
    answer = await shop.call(headers=shown(challenge, {"paymentHash": read_charge(challenge).payment_hash}))
    assert problem_of(answer) == "tallystick/in-progress" and answer.headers["retry-after"] == "1"
    assert "www-authenticate" not in answer.headers and shop.made == [] and len(shop.till.invoices) == 1


async def test_an_invoice_that_lapsed_is_replaced(shop: Shop) -> None:
    challenge = await shop.challenge()
    shop.till.invoices[read_charge(challenge).payment_hash].state = "expired"
    answer = await shop.call(headers=shown(challenge, {"paymentHash": read_charge(challenge).payment_hash}))
    assert problem_of(answer) == "tallystick/invoice-expired" and len(shop.till.invoices) == 2


@pytest.mark.parametrize(("path", "status"), [("/broken", 500), ("/missing", 404)])
async def test_a_failure_costs_nothing_and_has_no_receipt(shop: Shop, path: str, status: int) -> None:
    challenge = await shop.challenge(path)
    credential = await shop.pay(challenge)
    answer = await shop.call(path, headers=credential)
    assert answer.status_code == status and "payment-receipt" not in answer.headers
    assert shop.till.invoices[read_charge(challenge).payment_hash].state == "cancelled" and shop.till.paid == 0
    assert problem_of(await shop.call(path, headers=credential)) == "tallystick/invoice-expired"


async def test_an_answer_that_is_too_long_to_be_kept_is_not_sold(tmp_path: Path) -> None:
    shop = Shop(tmp_path, answer_max=5_000)
    credential = await shop.pay(await shop.challenge("/long"))
    answer = await shop.call("/long", headers=credential)
    assert answer.status_code in (500, 502) and shop.till.paid == 0
    assert [made.state for made in shop.till.invoices.values()] == ["cancelled"]


async def test_a_call_that_is_too_long_is_refused(tmp_path: Path) -> None:
    shop = Shop(tmp_path, body_max=10)
    assert (await shop.call("/echo", "POST", content=b"x" * 11)).status_code == 413 and not shop.till.invoices


async def test_while_the_node_is_away_nobody_is_asked_to_pay(shop: Shop) -> None:
    challenge = await shop.challenge()
    credential = await shop.pay(challenge)
    shop.till.broken = True
    for answer in (await shop.call(), await shop.call(headers=credential)):
        assert problem_of(answer) == "tallystick/node-unreachable" and answer.headers["retry-after"] == "1"
        assert "www-authenticate" not in answer.headers
    shop.till.broken = False
    assert (await shop.call(headers=credential)).json() == {"number": 1}


async def test_a_second_request_while_the_answer_is_made_is_put_off(shop: Shop) -> None:
    credential = await shop.pay(await shop.challenge())
    answers = []

    async def fortune(scope: Any, receive: Any, send: Any) -> None:
        answers.append(await shop.call(headers=credential))
        await shop.inner(scope, receive, send)

    app = shop.app
    shop.app.close()
    shop.app = PaidCalls(fortune, shop.till, **shop.options)
    first = await shop.call(headers=credential)
    assert first.json() == {"number": 1} and problem_of(answers[0]) == "tallystick/in-progress" and app is not shop.app


async def test_who_cannot_pay_this_way_is_made_no_invoice(shop: Shop) -> None:
    answer = await shop.call(headers={"accept-payment": "tempo/charge, tallystick/*;q=0"})
    assert problem_of(answer) == "method-unsupported" and not shop.till.invoices
    assert (await shop.call(headers={"accept-payment": "tempo/charge, */charge;q=0.1"})).headers["www-authenticate"]


async def test_prices_can_be_a_function_of_the_call(tmp_path: Path) -> None:
    def price(call: PaidCall) -> int | None:
        return len(call.body) or None if call.path == "/echo" else None

    shop = Shop(tmp_path, prices=price)
    assert read_charge(await shop.challenge("/echo", "POST", content=b"seven!!")).amount == 7
    assert (await shop.call("/fortune")).json() == {"number": 1}
    assert (await shop.call("/echo", "POST")).content == b""


async def test_the_openapi_document_says_what_calls_cost(shop: Shop) -> None:
    answer = await shop.call("/openapi.json")
    operation = json.loads(answer.content)["paths"]["/fortune"]["get"]
    offer = {"intent": "charge", "method": "tallystick", "amount": "5", "currency": "native"}
    assert operation["x-payment-info"] == {"offers": [offer]} and "402" in operation["responses"]
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("prices", [{"fortune": 5}, {"GET /": 0}, {"GET /": 1.5}, {"GET /": True}, {"get /": 1}])
def test_prices_that_cannot_be_are_refused(tmp_path: Path, prices: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Shop(tmp_path, prices=prices)


@pytest.mark.parametrize("realm", ["", "a|b", "a\nb"])
def test_a_realm_that_no_challenge_can_have_is_refused(tmp_path: Path, realm: str) -> None:
    with pytest.raises(InvalidInput):
        Shop(tmp_path, realm=realm)


def test_two_processes_do_not_sell_from_one_file(shop: Shop) -> None:
    with pytest.raises(StoreInUse):
        PaidCalls(shop.inner, shop.till, **shop.options)


POINTS = ("invoice", "made", "put", "put done", "settle", "settled", "mark", "mark done", "send")


def crash_at(shop: Shop, point: str) -> Callable[[str], None]:
    """Have everything end at a point: of the node's calls, of the file's, or before the answer is sent."""

    def at(reached: str) -> None:
        if reached == point:
            raise Crash(point)

    file = shop.app._file
    for name in ("put", "mark"):
        act = getattr(file, name)

        def wrapped(*given: Any, act: Any = act, name: str = name) -> None:
            at(name)
            act(*given)
            at(f"{name} done")

        setattr(file, name, wrapped)
    return at


@pytest.mark.parametrize("point", POINTS)
async def test_whatever_crash_there_is_one_payment_buys_one_answer(shop: Shop, point: str) -> None:
    challenge = await shop.challenge()
    credential = await shop.pay(challenge)
    charge = read_charge(challenge)
    sent: list[Any] = []
    shop.till.at = crash_at(shop, point)

    async def send(event: Any) -> None:
        shop.till.at("send")
        sent.append(event)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"authorization", credential["authorization"].encode())]
    scope = {"type": "http", "method": "GET", "path": "/fortune", "query_string": b"", "headers": headers}
    with pytest.raises(Crash):
        await shop.app(scope, receive, send)
    assert sent == []
    stored = shop.app._file.find(charge.payment_hash)
    if shop.till.paid:
        assert stored is not None, "it was paid, and there is no answer that could be fetched"
    shop.restart()
    first = await shop.call(headers=credential)
    assert first.status_code == 200 and shop.till.paid == 5
    if stored is not None:
        assert first.content == stored.body
    assert len(shop.made) == (2 if point in ("made", "put") else 1)
    again = await shop.call(headers=credential)
    assert again.content == first.content and shop.till.paid == 5 and len(await shop.app.sales()) == 1


@pytest.mark.parametrize("point", ["invoice", "made", "put", "put done", "settle"])
async def test_a_crash_before_it_is_taken_leaves_the_payment_to_its_payer(shop: Shop, point: str) -> None:
    challenge = await shop.challenge()
    credential = await shop.pay(challenge)
    shop.till.at = crash_at(shop, point)
    with pytest.raises(BaseException):  # noqa: B017 (a crash, or a group with it)
        await shop.call(headers=credential)
    assert shop.till.invoices[read_charge(challenge).payment_hash].state == "held"
    shop.till.invoices[read_charge(challenge).payment_hash].state = "expired"
    shop.restart()
    answer = await shop.call(headers=credential)
    assert problem_of(answer) == "tallystick/invoice-expired" and shop.till.paid == 0 and not await shop.app.sales()


async def test_a_payment_that_cannot_be_taken_any_more_delivers_nothing(shop: Shop) -> None:
    challenge = await shop.challenge()
    credential = await shop.pay(challenge)

    def too_late(point: str) -> None:
        if point == "settle":
            shop.till.invoices[read_charge(challenge).payment_hash].state = "expired"

    shop.till.at = too_late
    assert problem_of(await shop.call(headers=credential)) == "tallystick/node-unreachable"
    assert problem_of(await shop.call(headers=credential)) == "tallystick/invoice-expired"
    assert shop.till.paid == 0 and not await shop.app.sales()


async def test_an_error_of_the_applications_own_is_the_applications(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise TallystickError("of the application's own node")

    shop.app.close()
    shop.app = PaidCalls(app, shop.till, **shop.options)
    credential = await shop.pay(await shop.challenge())
    transport = httpx.ASGITransport(shop.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        with pytest.raises(TallystickError, match="own node"):
            await http.get("/fortune", headers=credential)
    assert [made.state for made in shop.till.invoices.values()] == ["cancelled"]


async def test_what_was_sold_is_for_its_owner_alone(shop: Shop, tmp_path: Path) -> None:
    await buy_twice(shop)
    require_private(tmp_path, "sold.db")


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sold.db").write_bytes(b"something else, and long enough to be looked at" * 99)
    with pytest.raises(StoreError, match="damaged"):
        Shop(tmp_path)
    with pytest.raises(StoreError):
        Shop(tmp_path, store=tmp_path)


async def test_a_payment_that_cannot_be_looked_up_is_not_asked_for_again(shop: Shop) -> None:
    credential = await shop.pay(await shop.challenge())

    def away(point: str) -> None:
        if point == "invoice":
            raise TallystickError("no answer in time")

    shop.till.at = away
    answer = await shop.call(headers=credential)
    assert problem_of(answer) == "tallystick/node-unreachable" and "www-authenticate" not in answer.headers
    assert len(shop.till.invoices) == 1
