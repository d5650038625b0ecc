"""Buying calls: never paid twice, never beyond the budget, and nothing that was paid for is lost, whatever crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from test_paid_selling import Shop, require_private

from simulation.till import NOW, Crash, Till
from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.paid.buying.auth import PaidAuth
from tallystick.paid.buying.budget import Budget
from tallystick.paid.errors import NotDelivered, NotPaid
from tallystick.paid.scheme.credentials import parse_receipt

BUDGET = Budget(per_call=10, per_day=30, max_fee=2)


class Customer:
    """A client of a shop, with its file of what it bought."""

    def __init__(self, shop: Any, folder: Path, budget: Budget = BUDGET) -> None:
        self.shop, self.folder, self.budget, self.now = shop, folder, budget, float(NOW)
        self.auth = self.open()

    def open(self) -> PaidAuth:
        return PaidAuth(self.shop.till, self.budget, store=self.folder / "bought.db", clock=lambda: self.now)

    def restart(self) -> None:
        self.auth.close()
        self.shop.till.at = lambda point: None
        self.auth = self.open()

    async def get(self, path: str = "/fortune", method: str = "GET", host: str = "https://shop", **given: Any) -> Any:
        transport = httpx.ASGITransport(self.shop.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=host, auth=self.auth) as http:
            return await http.request(method, path, **given)


@pytest.fixture
def customer(tmp_path: Path) -> Customer:
    return Customer(Shop(tmp_path / "shop"), tmp_path)


async def buy(customer: Customer) -> None:
    answer = await customer.get()
    assert answer.json() == {"number": 1} and parse_receipt(answer.headers["payment-receipt"])
    assert (await customer.get("/echo", "POST", content=b"hello")).content == b"hello"
    assert (await customer.get("/nowhere")).status_code == 404
    assert (
        customer.shop.till.paid == 12
        and [bought.state for bought in await customer.auth.purchases()] == ["answered"] * 2
    )
    assert sorted(bought.cost for bought in await customer.auth.purchases()) == [6, 8]  # with the fee as it was


async def test_calls_are_paid_for(customer: Customer) -> None:
    await buy(customer)


def test_the_same_under_asyncio(customer: Customer) -> None:
    asyncio.run(buy(customer))


async def test_two_calls_are_bought_twice_and_each_answer_can_be_fetched_again(customer: Customer) -> None:
    first, second = await customer.get(), await customer.get()
    assert (first.json(), second.json()) == ({"number": 1}, {"number": 2})
    for bought, answer in zip(
        await customer.auth.purchases(), sorted([first, second], key=lambda a: a.text), strict=True
    ):
        field, value = await customer.auth.credential(bought)
        again = await customer.shop.call(headers={field: value})
        assert again.content in (first.content, second.content) and answer
    assert customer.shop.till.paid == 10


async def test_a_failure_costs_nothing_and_frees_the_budget(customer: Customer) -> None:
    assert (await customer.get("/missing")).status_code == 404
    assert [(bought.state) for bought in await customer.auth.purchases()] == ["failed"]
    for _ in range(4):
        await customer.get()
    assert customer.shop.till.paid == 20


async def test_the_budget_of_a_day_is_hard_and_new_on_the_next(customer: Customer) -> None:
    customer.shop.till.fee = 2
    for _ in range(4):
        await customer.get()
    with pytest.raises(NotPaid, match="may be spent a day"):
        await customer.get()
    assert customer.shop.till.paid == 20 and len(customer.shop.till.sent) == 4
    customer.now += 86_400
    customer.shop.till.at = lambda point: None
    with pytest.raises(NotPaid, match="expired"):  # the till's invoices are of the day before
        await customer.get()


async def test_the_budget_counts_what_is_on_its_way_across_restarts(customer: Customer, tmp_path: Path) -> None:
    customer.budget = Budget(per_call=10, per_day=9, max_fee=2)
    customer.restart()
    customer.shop.till.at = crash_at("payed")
    with pytest.raises(Crash):
        await customer.get("/items/1")
    customer.restart()
    with pytest.raises(NotPaid, match="of the 9"):
        await customer.get()
    assert (await customer.get("/items/1")).status_code == 200


@pytest.mark.parametrize(
    ("budget", "host", "why"),
    [
        (Budget(per_call=4, per_day=99, max_fee=2), "https://shop", "4 may be spent on a call"),
        (Budget(per_call=9, per_day=99, hosts=("api",)), "https://shop", "not among those"),
        (Budget(per_call=9, per_day=99), "http://shop", "without TLS"),
        (Budget(per_call=9, per_day=99, currency="0x" + 40 * "1"), "https://shop", "asks for native"),
        (Budget(per_call=9, per_day=99, per_host=6, max_fee=2), "https://shop", "at shop"),
        (Budget(per_call=9, per_day=6, max_fee=2), "https://shop", "in all"),
    ],
)
async def test_what_is_not_allowed_is_not_paid(tmp_path: Path, budget: Budget, host: str, why: str) -> None:
    customer = Customer(Shop(tmp_path / "shop"), tmp_path, budget)
    customer.budget = budget
    with pytest.raises(NotPaid, match=why):
        await customer.get(host=host)
    assert not customer.shop.till.sent and not await customer.auth.purchases()


@pytest.mark.parametrize("host", ["http://127.0.0.1", "http://localhost", "http://[::1]"])
async def test_this_machine_needs_no_tls(customer: Customer, host: str) -> None:
    assert (await customer.get(host=host)).status_code == 200


async def test_other_credentials_are_never_replaced(customer: Customer) -> None:
    with pytest.raises(NotPaid, match="another kind"):
        await customer.get(headers={"authorization": "Bearer mine"})
    assert not customer.shop.till.sent


@pytest.mark.parametrize("limits", [{"per_call": -1}, {"per_day": 1.5}, {"per_host": True}, {"max_fee": "1"}])
def test_limits_that_cannot_be_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Budget(**({"per_call": 1, "per_day": 1} | limits))


def test_a_client_that_cannot_wait_is_told_so(customer: Customer) -> None:
    with httpx.Client(auth=customer.auth) as http, pytest.raises(InvalidInput, match="AsyncClient"):
        http.get("https://shop/fortune")


def crash_at(*points: str) -> Callable[[str], None]:
    def at(reached: str) -> None:
        if reached in points:
            raise Crash(reached)

    return at


BUYERS = (
    "create",
    "pay",
    "payed",
    "invoice",
    "made",
    "settle",
    "settled",
    "payment",
    "begin",
    "begin done",
    "end",
    "end done",
)


def crash_in_file(customer: Customer, at: Callable[[str], None]) -> None:
    file = customer.auth._file
    for name in ("begin", "end"):
        act = getattr(file, name)

        def wrapped(*given: Any, act: Any = act, name: str = name) -> None:
            at(name)
            act(*given)
            at(f"{name} done")

        setattr(file, name, wrapped)


@pytest.mark.parametrize("both", [False, True], ids=["the buyer", "buyer and seller"])
@pytest.mark.parametrize("point", BUYERS)
async def test_whatever_crash_there_is_the_same_call_is_paid_once_and_answered(
    customer: Customer, point: str, both: bool
) -> None:
    at = crash_at(point)
    customer.shop.till.at = at
    crash_in_file(customer, at)
    with pytest.raises(BaseException):  # noqa: B017 (a crash, or a group with it)
        await customer.get()
    before = customer.shop.till.paid
    assert before <= 5
    customer.restart()
    if both:
        customer.shop.restart()
    answer = await customer.get()
    assert answer.status_code == 200
    if point != "end done":  # the answer was here: the same call is another one
        assert customer.shop.till.paid == 5 and len(customer.shop.till.sent) == 1
        assert answer.json() == {"number": len(customer.shop.made)}


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_a_lost_answer_is_fetched_by_the_same_call(customer: Customer, lost: int) -> None:
    app, asked = customer.shop.app, 0

    async def losing(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await app(scope, receive, send if asked == 1 or asked > 1 + lost else forget)
        if 1 < asked <= 1 + lost:
            raise httpx.ReadError("the connection broke")

    async def forget(event: Any) -> None:
        pass

    customer.shop.app = losing
    for _ in range(lost):
        with pytest.raises(httpx.ReadError):
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(customer.shop.app), base_url="https://shop", auth=customer.auth
            ) as http:
                await http.get("/fortune")
    assert (await customer.get()).json() == {"number": 1} and customer.shop.till.paid == 5


async def test_a_call_that_is_made_twice_at_once_is_bought_twice(customer: Customer) -> None:
    inside: list[Any] = []

    async def fortune(request: Request) -> Response:
        if not inside:
            inside.append(None)
            inside.append((await customer.get("/items/7")).json())
        return JSONResponse({"depth": len(inside)})

    customer.shop.inner.router.routes.insert(0, Route("/items/{item}", fortune))
    assert (await customer.get("/items/7")).json() == {"depth": 2} and inside[1] == {"depth": 1}
    assert customer.shop.till.paid == 4


async def test_a_node_that_cannot_be_reached_pays_once_it_can(customer: Customer) -> None:
    def away(point: str) -> None:
        if point in ("pay", "payment"):
            raise TallystickError("no node answers")

    customer.shop.till.at = away
    with pytest.raises(NotDelivered, match="may yet be paid"):
        await customer.get()
    assert [bought.state for bought in await customer.auth.purchases()] == ["begun"]
    customer.shop.till.at = lambda point: None
    assert (await customer.get()).json() == {"number": 1} and len(customer.shop.till.invoices) == 1


async def test_an_invoice_that_lapsed_before_it_was_paid_is_left_and_the_next_one_is_paid(customer: Customer) -> None:
    customer.shop.till.at = crash_at("pay")
    with pytest.raises(Crash):
        await customer.get()
    customer.restart()
    next(iter(customer.shop.till.invoices.values())).state = "expired"
    with pytest.raises(NotPaid, match="has expired"):
        await customer.get()
    assert [bought.state for bought in await customer.auth.purchases()] == ["failed"]
    assert (await customer.get()).json() == {"number": 1} and customer.shop.till.paid == 5


async def test_a_seller_that_is_not_done_yet_is_asked_again(customer: Customer, autojump_clock: Any) -> None:
    """Its node sees the payment later than the credential comes."""
    late = 2

    def at(point: str) -> None:
        nonlocal late
        if point == "invoice" and late:
            late -= 1
            raise TallystickError("not now")

    customer.shop.till.at = at
    assert (await customer.get()).json() == {"number": 1} and customer.shop.till.paid == 5


async def test_a_seller_that_is_never_done_leaves_the_purchase_for_later(
    customer: Customer, autojump_clock: Any
) -> None:
    def at(point: str) -> None:
        if point == "invoice":
            raise TallystickError("not now")

    customer.shop.till.at = at
    with pytest.raises(NotDelivered, match="no answer yet"):
        await customer.get()
    customer.shop.till.at = lambda point: None
    assert (await customer.get()).json() == {"number": 1} and len(customer.shop.till.sent) == 1


async def test_a_body_that_comes_in_parts_is_bound_and_sent_whole(customer: Customer) -> None:
    async def parts() -> Any:
        yield b"one "
        yield b"two"

    assert (await customer.get("/echo", "POST", content=parts())).content == b"one two"


async def test_a_body_that_breaks_off_is_fetched_again_by_the_same_call(customer: Customer) -> None:
    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b"half"
            raise httpx.ReadError("the connection broke")

    class Breaking(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await super().handle_async_request(request)
            return answer if answer.status_code == 402 else httpx.Response(200, stream=Broken())

    async with httpx.AsyncClient(transport=Breaking(customer.shop.app), auth=customer.auth) as http:
        with pytest.raises(httpx.ReadError):
            await http.get("https://shop/fortune")
    assert (await customer.get()).json() == {"number": 1} and customer.shop.till.paid == 5


async def test_fees_are_part_of_what_a_call_may_cost(tmp_path: Path) -> None:
    customer = Customer(Shop(tmp_path / "shop"), tmp_path, Budget(per_call=6, per_day=99, max_fee=2))
    most = []

    async def pay(invoice: str, *, max_fee: int, wait: bool) -> Any:
        most.append(max_fee)
        return await Till.pay_invoice(customer.shop.till, invoice, max_fee=max_fee, wait=wait)

    customer.shop.till.pay_invoice = pay
    await customer.get()
    await customer.get("/items/1")
    assert most == [1, 2]


async def test_what_was_bought_is_for_its_owner_alone(customer: Customer, tmp_path: Path) -> None:
    await customer.get()
    require_private(tmp_path, "bought.db")
