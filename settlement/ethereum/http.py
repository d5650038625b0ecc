"""One request to a node over HTTP, and its answer: whole, in time, and of bounded length, or an error.

Nothing is compressed, no cookie is kept, no proxy of the environment is used. A stranger's server may send for ever,
or a byte a minute: what is not there in time is ChainUnavailable, what is too long ChainError.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NamedTuple, cast

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


def make_client(url: str, timeout: float, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """Return what speaks to one server; raise InvalidInput if the URL is none. `transport` None: TCP."""
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # a node has nothing to remember with us
    return httpx.AsyncClient(
        base_url=parse_url(url), timeout=timeout, trust_env=False, transport=transport, cookies=jar
    )


def parse_url(url: str) -> httpx.URL:
    """Return the URL of a chain node; raise InvalidInput."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{url!r} is no URL of a chain node: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput(f"the URL of a chain node begins with http:// or https:// and a host, unlike {url!r}")
    return parsed


async def post(client: httpx.AsyncClient, body: bytes, timeout: float, most: int) -> Reply:
    """Send a request and return the answer, which has to be there as a whole within `timeout` seconds.

    What comes with HTTP status 429 or 5xx is left out. Raise ChainUnavailable if it is not there in time, ChainError if
    it has more than `most` bytes, or what httpx raises.
    """
    answer = bytearray()
    status, headers = 0, {}
    with trio.move_on_after(timeout) as patience:
        async with client.stream("POST", "", content=body, headers=_HEADERS, timeout=None) as response:
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
        raise ChainError(f"the chain node at {client.base_url} sent more than {most} bytes")
    if patience.cancelled_caught:
        raise ChainUnavailable(f"no whole answer came within {timeout:g} seconds")
    return Reply(status, headers, bytes(answer))
