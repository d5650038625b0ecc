"""Sells calls of an application: ASGI middleware, for Starlette, FastAPI and any other, under trio and asyncio.

    app = PaidCalls(app, node, prices={"GET /fortune": 5}, realm="fortunes.example", store=Path("sold.db"))

A call without a credential gets 402 and an invoice of its own. With one, its payment is *held* by our node until the
answer is made and stored; only then it is taken, and only then the answer leaves. So nothing is paid that is not
delivered, and what was paid for is on disk: the same credential gets it again, for ever, and never another one. What
may have happened and what follows, crash by crash, is told in docs/paid.md.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.paid.errors import MalformedPayment
from tallystick.paid.method import INTENT, METHOD, CallCharge, charge_for, read_charge, shows_payment
from tallystick.paid.ports import AskedPayment, SellerNode
from tallystick.paid.scheme.challenges import PaymentChallenge, write_time
from tallystick.paid.scheme.credentials import CallReceipt, parse_credential
from tallystick.paid.scheme.encoding import body_digest, is_digest_of, write_object
from tallystick.paid.scheme.preferences import parse_preferences, rank
from tallystick.paid.scheme.problems import MEDIA_TYPE, PaymentProblem, ProblemKind, problem
from tallystick.paid.selling.capture import (
    AnswerUnusable,
    App,
    BodyTooLarge,
    Event,
    Receive,
    Send,
    read_body,
    replay,
    run_app,
)
from tallystick.paid.selling.prices import TARGET_MAX, PaidCall, PriceList, PriceRule, with_offers
from tallystick.paid.selling.sqlite import AnswerFile, StoredAnswer

Run = Callable[[str], Awaitable[StoredAnswer]]
"""Has the application answer, and is told what it is paid with."""
Result = TypeVar("Result")

NATIVE_ASSET = "0x" + 40 * "0"
OPENAPI = "/openapi.json"


class _NotServed(Exception):
    """Why a call is not served now, and whether its caller is asked to pay."""

    def __init__(self, kind: ProblemKind, detail: str, *, asks: bool = True) -> None:
        super().__init__(detail)
        self.problem = problem(kind, detail)
        self.asks = asks


class _Failed(Exception):
    """The application raised this while it answered; its payment was given back."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class PaidCalls:
    """The middleware. `prices` says what is sold, by route or by a function; all else goes through as it is."""

    def __init__(
        self,
        app: App,
        node: SellerNode,
        *,
        prices: Mapping[str, int] | PriceRule,
        realm: str,
        store: Path,
        asset: str = NATIVE_ASSET,
        lifetime: int = 600,
        patience: int = 10,
        body_max: int = 1 << 20,
        answer_max: int = 8 << 20,
    ) -> None:
        """`realm` names the service, the same after each start; `store` is a file that this process has for itself.

        `asset` is the coin, or a token's address; `lifetime`: seconds in which an invoice can be paid; `patience`: how
        many a call waits for a payment that is on its way; the rest are bytes of a paid call and of its answer.
        """
        if not realm or "|" in realm or not realm.isprintable():
            raise InvalidInput("a realm is the name of the service, without '|' and control characters")
        self._app = app
        self._node = node
        self._price_of = PriceList(prices) if isinstance(prices, Mapping) else prices
        self._listed = dict(prices) if isinstance(prices, Mapping) else {}
        self._realm, self._asset, self._lifetime, self._patience = realm, asset, lifetime, patience
        self._body_max, self._answer_max = body_max, answer_max
        self._file = AnswerFile(store)
        self._turn = anyio.CapacityLimiter(1)
        self._busy: set[str] = set()

    def close(self) -> None:
        """Give up the file of what was sold."""
        self._file.close()

    async def sales(self, limit: int = 100) -> list[tuple[str, StoredAnswer]]:
        """Return what was sold, newest first, each by the hash of its payment."""
        return await self._on_disk(partial(self._file.sales, limit))

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Serve one connection of the server's."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == OPENAPI and scope["method"] == "GET" and self._listed:
            await self._describe(scope, receive, send)
            return
        call = PaidCall(
            scope["method"],
            scope["path"],
            scope.get("query_string", b"").decode("latin-1"),
            tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]),
            b"",
        )
        if isinstance(self._price_of, PriceList) and self._price_of(call) is None:
            await self._app(scope, receive, send)  # as it comes: a free upload is not gathered
            return
        try:
            body = await read_body(receive, self._body_max)
        except BodyTooLarge as error:
            title = "Content Too Large"
            await _tell(send, PaymentProblem(type="about:blank", title=title, status=413, detail=str(error)))
            return
        if body is None:
            return
        call = PaidCall(call.method, call.path, call.query, call.headers, body)
        price = self._price_of(call)
        run = partial(run_app, self._app, scope, receive, body, self._answer_max)
        if price is None:
            await self._app(scope, replay(receive, body), send)
            return
        try:
            answer = await self._serve(call, run)
        except _NotServed as refused:
            await self._refuse(send, refused, call, price)
            return
        except _Failed as failed:
            raise failed.error from None
        await _send_answer(send, answer)

    async def _serve(self, call: PaidCall, run: Run) -> StoredAnswer:
        """Return what a call bought, with its receipt; or what the application says against it, which costs nothing."""
        challenge, charge = self._read_credential(call)
        if charge.payment_hash in self._busy:
            raise _NotServed(ProblemKind.IN_PROGRESS, "the answer is being made: ask for it again", asks=False)
        self._busy.add(charge.payment_hash)
        try:
            return await self._sell(call, challenge, charge, run)
        except TallystickError as error:
            detail = f"it cannot be told now whether this is paid: ask again with the same credential ({error})"
            raise _NotServed(ProblemKind.UNREACHABLE, detail, asks=False) from error
        finally:
            self._busy.discard(charge.payment_hash)

    def _read_credential(self, call: PaidCall) -> tuple[PaymentChallenge, CallCharge]:
        """Return the challenge of ours that a call answers, and what it asked for."""
        try:
            credential = parse_credential(call.values("authorization"))
            if credential is None:
                raise _NotServed(ProblemKind.REQUIRED, "this call is paid: pay the invoice, and send the credential")
            challenge = credential.challenge
            named = (challenge.realm, challenge.method, challenge.intent)
            if not challenge.is_bound(self._file.key) or named != (self._realm, METHOD, INTENT):
                raise _NotServed(ProblemKind.CHALLENGE, "this challenge is none of this server's")
            charge = read_charge(challenge)
            own = challenge.own()
        except MalformedPayment as error:
            raise _NotServed(ProblemKind.MALFORMED, str(error)) from error
        fits = is_digest_of(challenge.digest, call.body) if challenge.digest else not call.body
        if own.get("for") != _target(call) or not fits:
            raise _NotServed(
                ProblemKind.CHALLENGE, "this challenge was for another call: method, address or body differ"
            )
        if not shows_payment(credential.proof, charge):
            raise _NotServed(ProblemKind.VERIFICATION, "the payload is not for this invoice")
        return challenge, charge

    async def _sell(self, call: PaidCall, challenge: PaymentChallenge, charge: CallCharge, run: Run) -> StoredAnswer:
        stored = await self._on_disk(partial(self._file.find, charge.payment_hash))
        if stored is not None and stored.sold is not None:
            return _with_receipt(stored, challenge, charge, stored.sold)
        invoice = await self._node.invoice(charge.payment_hash, wait=self._patience)
        _require_payment(invoice, charge)
        if stored is None:
            made = await self._make(call, charge, run)
            if made.status >= 400:
                return made
            stored = made
            await self._on_disk(partial(self._file.put, charge.payment_hash, stored))
        if invoice.state == "held":
            invoice = await self._node.settle_invoice(charge.payment_hash)
        sold = invoice.ended or 0
        await self._on_disk(partial(self._file.mark, charge.payment_hash, sold))
        return _with_receipt(stored, challenge, charge, sold)

    async def _make(self, call: PaidCall, charge: CallCharge, run: Run) -> StoredAnswer:
        """Have the application answer; give the payment back at once if it fails."""
        try:
            made = await run(charge.payment_hash)
        except AnswerUnusable as error:
            await self._give_back(charge)
            raise _NotServed(ProblemKind.NOT_DELIVERED, f"{error}; nothing was paid", asks=False) from error
        except Exception as error:
            await self._give_back(charge)
            raise _Failed(error) from error
        if made.status >= 400:
            await self._give_back(charge)
        return StoredAnswer(call.target, charge.amount, made.status, made.headers, made.body)

    async def _give_back(self, charge: CallCharge) -> None:
        """Let go of a held payment. If the node cannot be asked, it lets go by itself, as soon as the time is over."""
        try:
            await self._node.cancel_invoice(charge.payment_hash)
        except TallystickError:
            return

    async def _refuse(self, send: Send, refused: _NotServed, call: PaidCall, price: int) -> None:
        """Say why a call is not served, with a fresh challenge unless it must not be paid (again)."""
        told, headers = refused.problem, [(b"cache-control", b"no-store")]
        accepted = parse_preferences(call.values("accept-payment"))
        if refused.asks and not rank([(METHOD, INTENT, None)], accepted):
            told = problem(ProblemKind.UNSUPPORTED, f"this server is paid by {METHOD}/{INTENT}")
        elif refused.asks:
            try:
                challenge = await self._challenge(call, price)
            except TallystickError as error:
                told = problem(ProblemKind.UNREACHABLE, f"no payment can be asked for now: {error}")
            else:
                headers.append((b"www-authenticate", challenge.to_header().encode("latin-1")))
                told = PaymentProblem(
                    type=told.type,
                    title=told.title,
                    status=told.status,
                    detail=told.detail,
                    more={"challengeId": challenge.id},
                )
        if told.status in (409, 503):
            headers.append((b"retry-after", b"1"))
        await _tell(send, told, headers)

    async def _challenge(self, call: PaidCall, price: int) -> PaymentChallenge:
        target = _target(call)
        made = await self._node.create_invoice(price, target, lifetime=self._lifetime, hold=True, asset=self._asset)
        charge = charge_for(made.invoice, is_held=True)
        digest = body_digest(call.body) if call.body else ""
        asked = self._ask_challenge(write_object(charge.to_request()), digest, write_object({"for": target}))
        return PaymentChallenge(**(asked.written() | {"expires": write_time(made.expires)})).bind(self._file.key)

    def _ask_challenge(self, request: str, digest: str, opaque: str) -> PaymentChallenge:
        return PaymentChallenge(
            realm=self._realm, method=METHOD, intent=INTENT, request=request, digest=digest, opaque=opaque
        )

    async def _describe(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer with the application's own OpenAPI document, and in it what calls cost."""
        answer = await run_app(self._app, scope, receive, b"", self._answer_max, "")
        try:
            document = json.loads(answer.body) if answer.status == 200 else None
        except ValueError:
            document = None
        if isinstance(document, dict):
            currency = "native" if self._asset == NATIVE_ASSET else self._asset.lower()
            body = json.dumps(with_offers(document, self._listed, currency)).encode()
            kept = [pair for pair in answer.headers if pair[0].lower() not in (b"content-length", b"etag")]
            headers = (*kept, (b"content-length", str(len(body)).encode()))
            answer = StoredAnswer(answer.call, 0, answer.status, headers, body)
        await _send_answer(send, answer)

    async def _on_disk(self, act: Callable[[], Result]) -> Result:
        """Do something with the file, in a thread, one at a time; it is finished even if nobody waits any more."""
        return await anyio.to_thread.run_sync(act, limiter=self._turn)


def _target(call: PaidCall) -> str:
    """Return what a payment is for, in a few characters."""
    target = call.target
    if len(target.encode("utf-8", "replace")) <= TARGET_MAX and target.isprintable():
        return target
    return f"{call.method} {body_digest(target.encode('utf-8', 'surrogatepass'))}"


def _require_payment(invoice: AskedPayment, charge: CallCharge) -> None:
    if invoice.invoice != charge.invoice:
        raise _NotServed(ProblemKind.VERIFICATION, "this is no invoice of this server's")
    if invoice.state == "open":
        raise _NotServed(ProblemKind.IN_PROGRESS, "the payment has not come yet: ask again", asks=False)
    if invoice.state not in ("held", "claimed"):
        raise _NotServed(ProblemKind.INVOICE_EXPIRED, f"the invoice is {invoice.state}, and nothing was paid for it")


def _with_receipt(stored: StoredAnswer, challenge: PaymentChallenge, charge: CallCharge, sold: int) -> StoredAnswer:
    """Return an answer as it is sent to who paid: with a receipt if it is a success, and for no cache."""
    private = any(name.lower() == b"cache-control" and b"no-store" in value for name, value in stored.headers)
    kept = [
        (name, value)
        for name, value in stored.headers
        if name.lower() != b"payment-receipt" and (private or name.lower() != b"cache-control")
    ]
    if not private:
        kept.append((b"cache-control", b"private, no-store"))
    if stored.status < 300:
        receipt = CallReceipt(
            method=METHOD,
            intent=INTENT,
            reference=charge.payment_hash,
            timestamp=write_time(sold),
            challenge_id=challenge.id,
        )
        kept.append((b"payment-receipt", receipt.to_header().encode("ascii")))
    return StoredAnswer(stored.call, stored.amount, stored.status, tuple(kept), stored.body, sold)


async def _tell(send: Send, told: PaymentProblem, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = told.to_json()
    own = ((b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode()))
    await _send_answer(send, StoredAnswer("", 0, told.status, (*(headers or []), *own), body))


async def _send_answer(send: Send, answer: StoredAnswer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    await send({"type": "http.response.body", "body": answer.body})
