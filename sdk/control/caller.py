"""Asks a running node for an operation of the table, over httpx, and reads its answer, or says what failed."""

from __future__ import annotations

import httpx
import msgspec

from tallystick.channels.protocol.objects import Address, to_address
from tallystick.sdk.control.operations import GET, Answer, Asked, Operation
from tallystick.sdk.control.views import ErrorAnswer
from tallystick.sdk.errors import ControlError, NodeUnreachable

ACCEPTED = 202
"""The status of what is on its way, and not waited for."""


class Caller:
    """Speaks to one node through an httpx client with its address and token."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def ask(self, operation: Operation[Asked, Answer], asked: Asked | None = None, **names: str | int) -> Answer:
        """Ask for an operation, with the names in its path; raise NodeUnreachable or ControlError."""
        return _read(await self._send(operation, asked, names), operation.answer)

    async def ask_late(self, operation: Operation[Asked, Answer], asked: Asked, **names: str | int) -> Answer | None:
        """Ask for what need not be waited for: None if it is on its way."""
        response = await self._send(operation, asked, names)
        return None if response.status_code == ACCEPTED else _read(response, operation.answer)

    async def _send(
        self, operation: Operation[Asked, Answer], asked: Asked | None, names: dict[str, str | int]
    ) -> httpx.Response:
        path = operation.path.format(**{name: _segment(str(value)) for name, value in names.items()})
        if operation.method == GET:
            request = self.http.build_request(GET, path, params=None if asked is None else _query(asked))
        else:
            content = b"{}" if asked is None else msgspec.json.encode(asked)
            headers = {"content-type": "application/json"}
            request = self.http.build_request(operation.method, path, content=content, headers=headers)
        try:
            response = await self._sent(request)
        except httpx.TransportError as error:
            raise _unreachable(self.http, error) from error
        except httpx.DecodingError as error:
            raise _strange(error) from error
        if not response.is_success:
            raise _refusal(response)
        return response

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        """Send a request. A question is asked once more if its connection ended: it may have been an idle one."""
        try:
            return await self.http.send(request)
        except (httpx.RemoteProtocolError, httpx.NetworkError) as error:
            if request.method != "GET" or isinstance(error, httpx.ConnectError):
                raise
        return await self.http.send(request)


def _query(asked: msgspec.Struct) -> dict[str, str]:
    """Return what of a query is not as it is by itself."""
    given = {field.name: (getattr(asked, field.name), field.default) for field in msgspec.structs.fields(asked)}
    told = {name: value for name, (value, default) in given.items() if value != default}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in told.items()}


def written(asset: Address | str) -> str:
    """Return an asset as the API takes it."""
    return "0x" + to_address(asset, "asset").hex()


def _segment(name: str) -> str:
    """Make sure that a name is one segment of a path."""
    if not name.isalnum() or not name.isascii():
        raise ControlError(f"channels and payments are named by hex digits, not {name!r}", "invalid-input")
    return name


def _read(response: httpx.Response, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _strange(error) from error


def _strange(error: Exception) -> ControlError:
    return ControlError(f"the node's answer is not understood, is it of another version? ({error})")


def _refusal(response: httpx.Response) -> ControlError:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return ControlError(
            "the node that runs there does not know this token: each start writes a new control.token into its data "
            "directory; read it again, or name the right directory",
            "unauthorized",
        )
    try:
        error = msgspec.json.decode(response.content, type=ErrorAnswer).error
        return ControlError(error.text, error.code)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ControlError(f"the node answered with HTTP status {response.status_code}: see its log")


def _unreachable(http: httpx.AsyncClient, error: httpx.TransportError) -> NodeUnreachable:
    if isinstance(error, httpx.UnsupportedProtocol):
        return NodeUnreachable(f"{str(http.base_url)!r} is no address of a node: `tally node run` writes it anew")
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return NodeUnreachable(f"no node answers at {http.base_url}: start it with `tally node run`")
    return NodeUnreachable("the node stopped before it answered; what was asked for may or may not have been done")
