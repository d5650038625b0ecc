"""Pays for calls that ask for it: a flow for `httpx.AsyncClient`, under trio and asyncio.

    auth = PaidAuth(node, Budget(per_call=10, per_day=1_000), store=Path("bought.db"))
    async with httpx.AsyncClient(auth=auth) as http:
        answer = await http.get("https://fortunes.example/fortune")

A purchase is on disk before it is paid, and ends only when its answer is here. Whatever ends in between, the program or
a connection: the same call (method, address, body) goes on with the same payment, by the same credential, and pays
nothing more. A server that holds payments takes them only once it has the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import httpx

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.ports import Clock, system_clock
from tallystick.paid.buying.budget import Budget, TakenOffer, WantedCall, choose, credential_field
from tallystick.paid.buying.sqlite import ANSWERED, FAILED, Purchase, PurchaseFile
from tallystick.paid.errors import NotDelivered, NotPaid
from tallystick.paid.method import INTENT, METHOD, CallCharge, read_charge
from tallystick.paid.ports import BuyerNode, SentPayment
from tallystick.paid.scheme.challenges import parse_challenges
from tallystick.paid.scheme.credentials import PaymentCredential
from tallystick.paid.scheme.problems import ProblemKind, parse_problem

Result = TypeVar("Result")

TRIES = 5
"""How often a call is asked for again that is told to wait."""
PAUSE_MAX = 5.0
"""Seconds to wait before that at most, whatever the server says."""
REFUSALS = (
    "invalid-input",
    "invalid-invoice",
    "invoice-expired",
    "no-route",
    "not-enough-liquidity",
    "over-the-fee-limit",
    "unknown-hash",
)
"""Codes of the control API: what was asked is not so, and nothing was done."""
END_SECONDS = 2
"""How long the end of a payment is waited for once its answer is here, to know its fee."""


class PaidAuth(httpx.Auth):
    """Pays within a budget, and remembers what it bought in the file `store`."""

    def __init__(self, node: BuyerNode, budget: Budget, *, store: Path, clock: Clock = system_clock) -> None:
        self._node = node
        self._budget = budget
        self._clock = clock
        self._file = PurchaseFile(store)
        self._turn = anyio.CapacityLimiter(1)
        self._busy: set[str] = set()
        """Purchases that a call of this program is at: another call of the same kind is one more."""

    def close(self) -> None:
        """Give up the file of what was bought."""
        self._file.close()

    async def purchases(self, limit: int = 100) -> list[Purchase]:
        """Return what was bought, newest first."""
        return await self._on_disk(partial(self._file.purchases, limit))

    async def credential(self, purchase: Purchase) -> tuple[str, str]:
        """Return the field and the value that get the answer of a purchase, as often as its seller keeps it."""
        return credential_field(purchase.challenge), await self._credential(purchase, read_charge(purchase.challenge))

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Refuse: paying waits."""
        raise InvalidInput("calls are paid for by httpx.AsyncClient alone")

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send a call, and pay for it if that is asked and allowed."""
        await request.aread()
        call = _digest(request)
        purchase = await self._find(call)
        if purchase is None:
            request.headers.setdefault("accept-payment", f"{METHOD}/{INTENT}")
            response = yield request
            offer = self._choose(request, response)
            if offer is None:
                return
            purchase = await self._begin(request, call, offer)
        try:
            await self._pay(purchase)
            field, value = await self.credential(purchase)
            request.headers[field] = value
            for attempt in range(TRIES):
                response = yield request
                await response.aread()  # what is not here to the last byte is not done: the same call gets it again
                pause = _pause(response)
                if pause is None:
                    await self._end(purchase, response)
                    return
                if attempt < TRIES - 1:
                    await anyio.sleep(pause)
            raise NotDelivered(f"{purchase.host} has no answer yet: make the same call again, it pays nothing more")
        finally:
            self._busy.discard(purchase.payment_hash)

    async def _find(self, call: str) -> Purchase | None:
        """Return a purchase of this very call that has no answer yet, and that nobody is at."""
        for purchase in await self._on_disk(partial(self._file.unfinished, call)):
            if purchase.payment_hash in self._busy:
                continue
            self._busy.add(purchase.payment_hash)
            sent = await self._look(purchase.payment_hash)
            if sent is None or sent.state != "failed":
                return purchase
            await self._on_disk(partial(self._file.end, purchase.payment_hash, FAILED))
            self._busy.discard(purchase.payment_hash)
        return None

    def _choose(self, request: httpx.Request, response: httpx.Response) -> TakenOffer | None:
        if response.status_code != httpx.codes.PAYMENT_REQUIRED or response.request.url != request.url:
            return None  # what a redirect led to is not what was asked for: ask there, and it is paid
        url = request.url
        wanted = WantedCall(url.scheme, url.host, request.content, "authorization" in request.headers)
        found = parse_challenges(response.headers.get_list("www-authenticate"))
        return choose(found, wanted, self._budget, self._clock())

    async def _begin(self, request: httpx.Request, call: str, offer: TakenOffer) -> Purchase:
        charge = offer.charge
        purchase = Purchase(
            payment_hash=charge.payment_hash,
            call=call,
            url=str(request.url),
            host=request.url.host,
            amount=charge.amount,
            cost=min(charge.amount + self._budget.max_fee, self._budget.per_call),
            currency=charge.currency,
            challenge=offer.challenge,
            began=self._clock(),
        )
        self._busy.add(purchase.payment_hash)
        try:
            await self._on_disk(partial(self._file.begin, purchase, self._budget))
        except BaseException:
            self._busy.discard(purchase.payment_hash)
            raise
        return purchase

    async def _pay(self, purchase: Purchase) -> None:
        """Pay, once however often this is called; end the purchase if the node says that nothing was paid."""
        charge = read_charge(purchase.challenge)
        most = purchase.cost - purchase.amount
        try:
            await self._node.pay_invoice(charge.invoice, max_fee=most, wait=not charge.is_held)
        except TallystickError as error:
            sent = await self._look(purchase.payment_hash)
            unknown = _is_refusal(error) and await self._is_unknown(purchase.payment_hash)
            if unknown or (sent is not None and sent.state == "failed"):
                await self._on_disk(partial(self._file.end, purchase.payment_hash, FAILED))
                raise NotPaid(f"{purchase.host} was not paid: {error}") from error
            if sent is None or sent.state == "pending":
                text = f"{purchase.host} may yet be paid ({error}): make the same call again, it pays nothing more"
                raise NotDelivered(text) from error

    async def _credential(self, purchase: Purchase, charge: CallCharge) -> str:
        proof = {"paymentHash": purchase.payment_hash}
        if not charge.is_held:
            sent = await self._node.payment(purchase.payment_hash)
            if sent.secret is None:
                raise NotDelivered("the payment is still on its way: make the same call again, it pays nothing more")
            proof = {"secret": sent.secret}
        return PaymentCredential(challenge=purchase.challenge, proof=proof).to_header()

    async def _end(self, purchase: Purchase, response: httpx.Response) -> None:
        """Note that the answer is here, or that nothing was paid; raise NotDelivered if it was paid for a refusal."""
        sent = await self._look(purchase.payment_hash, wait=END_SECONDS)
        if sent is not None and sent.state == "failed":
            await self._on_disk(partial(self._file.end, purchase.payment_hash, FAILED))
        elif response.status_code < 400:
            cost = purchase.amount + sent.fee if sent is not None and sent.state == "paid" else None
            await self._on_disk(partial(self._file.end, purchase.payment_hash, ANSWERED, cost))
        else:
            state = "was paid" if sent is not None and sent.state == "paid" else "may yet be paid"
            raise NotDelivered(
                f"{purchase.host} {state} {purchase.amount} and answered {response.status_code}: make the same call "
                "again, it pays nothing more; the payment's secret proves it to the seller"
            )

    async def _look(self, payment_hash: str, *, wait: int = 0) -> SentPayment | None:
        """Return what the node knows of a payment; None if it cannot say."""
        try:
            return await self._node.payment(payment_hash, wait=wait)
        except TallystickError:
            return None

    async def _is_unknown(self, payment_hash: str) -> bool:
        """Whether the node says for certain that it has never begun this payment."""
        try:
            await self._node.payment(payment_hash)
        except TallystickError as error:
            return _is_refusal(error)
        return False

    async def _on_disk(self, act: Callable[[], Result]) -> Result:
        """Do something with the file, in a thread, one at a time."""
        return await anyio.to_thread.run_sync(act, limiter=self._turn)


def _digest(request: httpx.Request) -> str:
    """Return what names a call: method, address and body."""
    parts = (request.method.encode(), str(request.url).encode(), request.content)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


def _is_refusal(error: TallystickError) -> bool:
    """Whether a node refused what it was asked, which it then has not begun."""
    return isinstance(error, InvalidInput) or getattr(error, "code", "") in REFUSALS


def _pause(response: httpx.Response) -> float | None:
    """Return how long to wait before the same is asked again; None if this is the answer."""
    told = parse_problem(response.content) if response.status_code in (409, 503) else None
    if told is None or not (told.is_kind(ProblemKind.IN_PROGRESS) or told.is_kind(ProblemKind.UNREACHABLE)):
        return None
    said = response.headers.get("retry-after", "")
    return min(float(said), PAUSE_MAX) if said.isascii() and said.isdigit() else 1.0
