"""Runs an ASGI application for one call, and gathers its answer instead of sending it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tallystick.paid.selling.sqlite import StoredAnswer

PAYMENT_KEY = "tallystick.payment"
"""In an application's scope: the hash of the call's payment, the same whenever the call is made again for it."""

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class AnswerUnusable(Exception):
    """An answer that cannot be sold: it has too many bytes, or is not whole."""


class BodyTooLarge(Exception):
    """A request has more bytes than a paid call may have."""


async def read_body(receive: Receive, most: int) -> bytes | None:
    """Return the body of a request; None if its client is gone. Raise BodyTooLarge beyond `most` bytes."""
    parts, size = list[bytes](), 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise BodyTooLarge(f"a paid call has at most {most} bytes")
        if not event.get("more_body"):
            return b"".join(parts)


def replay(receive: Receive, body: bytes) -> Receive:
    """Return what an application receives of a request whose body was read."""
    begun = False

    async def receive_again() -> Event:
        nonlocal begun
        if begun:
            return await receive()
        begun = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def run_app(app: App, scope: Event, receive: Receive, body: bytes, most: int, payment: str) -> StoredAnswer:
    """Return an application's answer to a request whose body was read. Raise AnswerUnusable, or what it raises.

    `payment` names what it is paid with, for applications that must not do a thing twice.
    """
    status, headers = 0, list[tuple[bytes, bytes]]()
    parts, size, whole = list[bytes](), 0, False

    async def gather(event: Event) -> None:
        nonlocal status, headers, size, whole
        if event["type"] == "http.response.start":
            status, headers = event["status"], [(bytes(name), bytes(value)) for name, value in event.get("headers", ())]
        elif event["type"] == "http.response.body":
            size += len(event.get("body", b""))
            if size > most:
                raise AnswerUnusable(f"the answer has more than {most} bytes, which is what is kept of one")
            parts.append(event.get("body", b""))
            whole = not event.get("more_body")

    own = {"extensions": {}, PAYMENT_KEY: payment}  # no way of sending that goes past what is gathered
    await app({**scope, **own}, replay(receive, body), gather)
    if size > most or not whole or not status:
        raise AnswerUnusable("the application gave no whole answer")
    return StoredAnswer("", 0, status, tuple(headers), b"".join(parts))
