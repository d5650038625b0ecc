"""One request to a node over HTTP, and its answer: whole, in time, and of bounded length, or an error.

Nothing is compressed, no cookie is kept, no proxy of the environment is used. A stranger's server may send for ever,
or a byte a minute: what is not there in time is ChainUnavailable, what is too long ChainError.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple, cast

import httpx
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.errors import ChainError, ChainUnavailable

_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NodeClient(httpx.AsyncClient):
    """What speaks to one server, at one URL exactly as it was given."""

    def __init__(self, url: httpx.URL, **options: Any) -> None:
        super().__init__(**options)
        self.url = url
        self.shown = shown(url)
        """The URL for people."""


def make_client(url: str, timeout: float, transport: httpx.AsyncBaseTransport | None = None) -> NodeClient:
    """Return what speaks to one server; raise InvalidInput if the URL is none. `transport` None: TCP."""
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # a node has nothing to remember with us
    at = parse_url(url)
    secured = at.scheme == "https"  # otherwise no certificates are loaded: that takes longer than a request
    return NodeClient(at, timeout=timeout, trust_env=False, verify=secured, transport=transport, cookies=jar)


def shown(url: httpx.URL) -> str:
    """Return a URL fit to be shown: providers' keys are in paths, queries and passwords, which are left out."""
    rest = "" if url.raw_path in (b"", b"/") else "/…"
    return f"{url.scheme}://{url.netloc.decode('ascii')}{rest}"


def parse_url(url: str) -> httpx.URL:
    """Return the URL of a chain node; raise InvalidInput."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"this is no URL of a chain node: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput(
            "the URL of a chain node begins with http:// or https:// and a host"
            + (f", unlike {shown(parsed)!r}" if parsed.host else ", and here is no host")
        )
    return parsed


async def post(client: NodeClient, body: bytes, timeout: float, most: int) -> Reply:
    """Send a request and return the answer, which has to be there as a whole within `timeout` seconds.

    What comes with HTTP status 429 or 5xx is left out. Raise ChainUnavailable if it is not there in time, ChainError if
    it has more than `most` bytes, or what httpx raises.
    """
    answer = bytearray()
    status, headers = 0, {}
    with trio.move_on_after(timeout) as patience:
        async with client.stream("POST", client.url, content=body, headers=_HEADERS, timeout=None) as response:
            status, headers = response.status_code, dict(response.headers)
            if status == 429 or status >= 500:
                return Reply(status, headers, b"")
            response.headers.pop("content-encoding", None)  # an answer is as long as what was sent
            async with aclosing(cast(AsyncGenerator[bytes, None], response.aiter_bytes())) as parts:
                async for part in parts:
                    answer += part
                    if len(answer) > most:
                        patience.cancel()  # the next part does not come; an error here would not reach what is open
    if len(answer) > most:
        raise ChainError(f"the chain node at {client.shown} sent more than {most} bytes")
    if patience.cancelled_caught:
        raise ChainUnavailable(f"no whole answer came within {timeout:g} seconds")
    return Reply(status, headers, bytes(answer))
