"""Sellers that say one thing and do another: what they offer is not paid, or paid once, and never again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_paid_buying import Customer, crash_at

from simulation.till import NOW, Crash, Till
from tallystick.paid.errors import NotDelivered, NotPaid
from tallystick.paid.method import charge_for
from tallystick.paid.scheme.challenges import PaymentChallenge, write_time
from tallystick.paid.scheme.credentials import parse_credential
from tallystick.paid.scheme.encoding import body_digest, write_object


class Cheat:
    """A seller of its own kind, on a till: `serve` answers a credential, with what the till knows."""

    def __init__(self, challenges: Callable[[str, Any], list[PaymentChallenge]], serve: Any) -> None:
        self.till = Till()
        self._challenges, self._serve = challenges, serve
        self.asked = 0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        credential = parse_credential(value for name, value in headers if name in ("authorization", "x-payment"))
        if credential is None:
            made = await self.till.create_invoice(5, "x", lifetime=600, hold=True)
            self.asked += 1
            told = [
                (b"www-authenticate", challenge.to_header().encode("latin-1"))
                for challenge in self._challenges(made.invoice, self.till)
            ]
            status, body = 402, b""
        else:
            status, body, told = *await self._serve(self.till, credential), []
        await send({"type": "http.response.start", "status": status, "headers": told})
        await send({"type": "http.response.body", "body": body})


def offer(invoice: str, **changes: Any) -> PaymentChallenge:
    """Return an honest challenge, but for some changes."""
    request = charge_for(invoice, is_held=True).to_request() | changes.pop("request", {})
    parts = {"id": "1", "realm": "r", "method": "tallystick", "intent": "charge", "request": write_object(request)}
    return PaymentChallenge(**(parts | changes))


def offer_before(invoice: str) -> PaymentChallenge:
    """Return the challenge of a seller that is paid before it delivers, as those of other makes are."""
    request = charge_for(invoice, is_held=False).to_request()
    return PaymentChallenge(id="3", realm="r", method="tallystick", intent="charge", request=write_object(request))


async def look(till: Till, credential: Any) -> tuple[int, bytes]:
    """Serve who shows the secret of an invoice that is paid."""
    found = [made for made in till.invoices.values() if made.secret == credential.proof.get("secret")]
    return (200, b"bought") if found and found[0].state == "claimed" else (402, b"")


async def take(till: Till, credential: Any) -> tuple[int, bytes]:
    (made,) = [made for made in till.invoices.values() if made.payment_hash in credential.proof.values()]
    await till.settle_invoice(made.payment_hash)
    return 200, b"bought"


async def take_and_refuse(till: Till, credential: Any) -> tuple[int, bytes]:
    await take(till, credential)
    return 402, b""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"request": {"amount": "4"}}, "something else than its invoice"),
        ({"request": {"currency": "0x" + 40 * "2"}}, "something else than its invoice"),
        ({"request": {"amount": 5}}, "texts"),
        ({"request": {"amount": "5e0"}}, "digits"),
        ({"request": {"methodDetails": {}}}, "invoice"),
        ({"request": {"methodDetails": {"invoice": "tally1", "chainId": "1"}}}, "cannot be paid"),
        ({"request": "e30"}, None),
        ({"expires": write_time(NOW - 1)}, "expired"),
        ({"digest": body_digest(b"another")}, "another body"),
        ({"header": "Cookie"}, "something else"),
    ],
)
async def test_offers_that_are_not_what_they_say_are_not_paid(
    tmp_path: Path, changes: dict[str, Any], why: str | None
) -> None:
    request = changes.get("request")
    if request == "e30":
        cheat = Cheat(lambda invoice, till: [bare(), offer(invoice)], take)
        assert (await Customer(cheat, tmp_path).get()).content == b"bought"  # one bad offer hides no good one
        return
    cheat = Cheat(lambda invoice, till: [offer(invoice, **changes)], take)
    with pytest.raises(NotPaid, match=why):
        await Customer(cheat, tmp_path).get()
    assert not cheat.till.sent


def bare() -> PaymentChallenge:
    return PaymentChallenge(id="2", realm="r", method="tallystick", intent="charge", request="e30")


async def test_an_offer_of_another_method_is_the_callers_to_answer(tmp_path: Path) -> None:
    cheat = Cheat(lambda invoice, till: [offer(invoice, method="tempo")], take)
    assert (await Customer(cheat, tmp_path).get()).status_code == 402 and not cheat.till.sent


async def test_the_field_that_a_challenge_names_is_used(tmp_path: Path) -> None:
    cheat = Cheat(lambda invoice, till: [offer(invoice, header="X-Payment")], take)
    assert (await Customer(cheat, tmp_path).get(headers={"authorization": "Bearer mine"})).content == b"bought"


async def test_a_seller_that_takes_and_refuses_is_paid_once(tmp_path: Path) -> None:
    cheat = Cheat(lambda invoice, till: [offer(invoice)], take_and_refuse)
    customer = Customer(cheat, tmp_path)
    for _ in range(3):
        with pytest.raises(NotDelivered, match="was paid 5 and answered 402"):
            await customer.get()
    assert cheat.till.paid == 5 and cheat.asked == 1 and len(cheat.till.sent) == 1
    assert [bought.state for bought in await customer.auth.purchases()] == ["begun"]


async def test_an_invoice_that_was_paid_for_one_call_is_not_paid_for_another(tmp_path: Path) -> None:
    cheat = Cheat(lambda invoice, till: [offer(next(iter(till.invoices.values())).invoice)], take)
    customer = Customer(cheat, tmp_path)
    assert (await customer.get("/a")).content == b"bought"
    with pytest.raises(NotPaid, match="paid before"):
        await customer.get("/b")
    assert cheat.till.paid == 5


async def test_what_a_redirect_leads_to_is_not_paid(tmp_path: Path) -> None:
    cheat = Cheat(lambda invoice, till: [offer(invoice)], take)
    customer = Customer(cheat, tmp_path)

    async def away(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/other":
            await cheat.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 302, "headers": [(b"location", b"/other")]})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(away)
    async with httpx.AsyncClient(transport=transport, auth=customer.auth, follow_redirects=True) as http:
        assert (await http.get("https://shop/here")).status_code == 402 and not cheat.till.sent
        assert (await http.get("https://shop/other")).content == b"bought"


async def test_a_seller_that_is_paid_first_is_shown_the_secret(tmp_path: Path) -> None:
    cheat = Cheat(lambda invoice, till: [offer_before(invoice)], look)
    customer = Customer(cheat, tmp_path)
    assert (await customer.get()).content == b"bought" and cheat.till.paid == 5
    assert [(bought.state, bought.cost) for bought in await customer.auth.purchases()] == [("answered", 6)]


@pytest.mark.parametrize("point", ["pay", "payed", "payment"])
async def test_whatever_crash_there_is_a_seller_that_is_paid_first_is_paid_once(tmp_path: Path, point: str) -> None:
    cheat = Cheat(lambda invoice, till: [offer_before(invoice)], look)
    customer = Customer(cheat, tmp_path)
    cheat.till.at = crash_at(point)
    with pytest.raises(Crash):
        await customer.get()
    customer.restart()
    assert (await customer.get()).content == b"bought" and cheat.till.paid == 5 and cheat.asked == 1


async def test_of_two_offers_the_one_that_is_paid_on_delivery_is_taken(tmp_path: Path) -> None:
    cheat = Cheat(lambda invoice, till: [offer_before(invoice), offer(invoice)], take)
    assert (await Customer(cheat, tmp_path).get()).content == b"bought"
    assert list(cheat.till.sent.values()) == [1]


async def test_a_seller_that_is_paid_first_and_refuses_is_not_paid_again(tmp_path: Path) -> None:
    cheat = Cheat(lambda invoice, till: [offer_before(invoice)], refuse)
    customer = Customer(cheat, tmp_path)
    for _ in range(2):
        with pytest.raises(NotDelivered, match="was paid 5 and answered 402"):
            await customer.get()
    assert cheat.till.paid == 5 and cheat.asked == 1


async def refuse(till: Till, credential: Any) -> tuple[int, bytes]:
    return 402, b""
