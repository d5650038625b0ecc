"""The operator's desk, as its users and watchers ask it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Annotated, Any, TypeVar, cast

import httpx
import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address, to_address
from tallystick.sdk.errors import CallFailed, NodeUnreachable

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=0)]

AGAIN = 0.5
"""Seconds between two tries to reach an operator that is away."""

TIMEOUT = 15.0
"""Seconds for a whole answer of the operator's desk."""

ANSWER_MAX = 1024 * 1024
"""Bytes of one: the signatures of a full batch take a third of that."""


class DeskTerms(msgspec.Struct, frozen=True):
    """What the operator takes."""

    fee: Count
    """For a step that its user signs under a number."""
    wait: Count = 0
    """Seconds for which a step may wait for others until a batch is posted."""
    token_fees: dict[str, Count] = {}
    """For a step of an account of a token, in that token, by its address."""

    def fee_of(self, asset: Address) -> int:
        """Return what a step of an account of an asset costs, in it; raise InvalidInput if the operator takes none."""
        if asset == NATIVE:
            return self.fee
        named = self.token_fees.get(f"0x{asset.hex()}")
        if named is None and self.fee:
            raise InvalidInput(f"the operator takes a fee for a step, and none in 0x{asset.hex()}: ask it for one")
        return named or 0


class DeskAccount(msgspec.Struct, frozen=True):
    """What the operator says of an account, after all that waits."""

    number: Count
    """In the rollup."""
    balance: Count
    nonce: Count
    """The number that it signs under next."""
    exited: Count
    """What it took out in all."""


class DeskChannel(msgspec.Struct, frozen=True):
    """What the operator says of a channel, after all that waits."""

    first: str
    second: str
    total: Count
    open: bool

    @property
    def sides(self) -> tuple[Address, Address]:
        """Its two accounts. Raise InvalidInput if they are none."""
        return to_address(self.first), to_address(self.second)


class DeskStep(msgspec.Struct, frozen=True):
    """What the operator says became of a step."""

    what: str = msgspec.field(name="is")
    """waiting, refused, posted, final, or unknown."""
    batch: int | None = None
    """The number of the batch that has it."""


class RollupDesk:
    """The operator's desk, from outside. Make it with `open_desk`."""

    def __init__(self, client: httpx.AsyncClient, patience: float = 0.0) -> None:
        self._client = client
        self._patience = patience

    async def ask(self, path: str, body: object = None) -> Any:
        """Return what it answers; raise CallFailed if it refuses, NodeUnreachable if it does not answer.

        An operator that is away is asked again as long as patience lasts: to hand in a step twice does no harm.
        """
        with trio.move_on_after(self._patience):
            while True:
                try:
                    return await self._ask(path, body)
                except NodeUnreachable:
                    await trio.sleep(AGAIN)
        return await self._ask(path, body)

    async def _ask(self, path: str, body: object) -> Any:
        try:
            status, reply = await self._send(path, None if body is None else msgspec.json.encode(body))
            answer = msgspec.json.decode(reply)
        except (
            httpx.HTTPError,
            httpx.StreamError,
            httpx.InvalidURL,
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
            trio.TooSlowError,
        ) as error:
            why = str(error) or type(error).__name__
            raise NodeUnreachable(f"the operator at {self._client.base_url} does not answer: {why}") from error
        if status != 200:
            raise CallFailed(str(answer.get("error", "")) if isinstance(answer, dict) else "it refuses")
        return answer

    async def _send(self, path: str, content: bytes | None) -> tuple[int, bytes]:
        """Return status and answer. An operator may gain by an answer that never ends: it is whole in time, or none."""
        method, headers = "GET" if content is None else "POST", {"accept-encoding": "identity"}
        status, answer = 0, bytearray()
        with trio.move_on_after(TIMEOUT) as patience:
            async with self._client.stream(method, path, content=content, headers=headers, timeout=None) as response:
                status = response.status_code
                response.headers.pop("content-encoding", None)  # an answer is as long as what was sent
                async with aclosing(cast(AsyncGenerator[bytes, None], response.aiter_bytes())) as parts:
                    async for part in parts:
                        answer += part
                        if len(answer) > ANSWER_MAX:
                            patience.cancel()  # an error here would not reach what is open
        if patience.cancelled_caught:
            raise trio.TooSlowError(f"no whole answer of at most {ANSWER_MAX} bytes came within {TIMEOUT:g} seconds")
        return status, bytes(answer)

    async def terms(self) -> DeskTerms:
        """Return what the operator takes."""
        return self._read(await self.ask("/"), DeskTerms)

    async def account(self, owner: Address, asset: Address = NATIVE) -> DeskAccount:
        """Return an account; raise CallFailed if there is none."""
        of_token = f"/0x{asset.hex()}" if asset != NATIVE else ""
        return self._read(await self.ask(f"/accounts/0x{owner.hex()}{of_token}"), DeskAccount)

    async def channel(self, number: int) -> DeskChannel:
        """Return a channel; raise CallFailed if there is none."""
        return self._read(await self.ask(f"/channels/{number}"), DeskChannel)

    async def step(self, word: bytes) -> DeskStep:
        """Return what became of a step."""
        return self._read(await self.ask(f"/steps/0x{word.hex()}"), DeskStep)

    def _read(self, answer: Any, kind: type[T]) -> T:
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise CallFailed(f"the operator at {self._client.base_url} answers nonsense: {error}") from error

    async def signatures(self, number: int) -> tuple[tuple[bytes, ...], ...] | None:
        """Return the signatures of a batch, None if they cannot be had now."""
        try:
            answer = await self.ask(f"/batches/{number}/signatures")
            return tuple(tuple(bytes.fromhex(each[2:]) for each in step) for step in answer["signatures"])
        except (CallFailed, NodeUnreachable, KeyError, TypeError, ValueError):
            return None


@asynccontextmanager
async def open_desk(url: str, patience: float = 0.0) -> AsyncIterator[RollupDesk]:
    """Give the operator's desk at a URL; one that is away is asked again for `patience` seconds."""
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # it has nothing to remember with us
    async with httpx.AsyncClient(base_url=url, trust_env=False, cookies=jar) as client:
        yield RollupDesk(client, patience)
