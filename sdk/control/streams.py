"""The control API's streams: open one, pay units of it, end it, see what is pending. Routes of the `server`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Lifetime
from tallystick.channels.values.arguments import rule_of
from tallystick.sdk.control import views
from tallystick.sdk.control.http import answer, make_route, read_body
from tallystick.sdk.control.lookup import find_channel
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.streams import IncomingStream, OutgoingStream

if TYPE_CHECKING:
    from tallystick.sdk.control.server import ControlServer


def describe_stream(handle: ChannelHandle, stream: OutgoingStream | IncomingStream) -> views.StreamInfo:
    """Describe a stream that is pending, or has just ended."""
    ours = isinstance(stream, OutgoingStream)
    return views.StreamInfo(
        channel=handle.id.hex(),
        lock=stream.lock,
        direction="out" if ours else "in",
        unit=stream.unit,
        length=stream.length,
        units=stream.secured if isinstance(stream, OutgoingStream) else stream.received,
        expiry=stream.expiry,
        ended=stream.ended,
    )


class StreamRoutes:
    """What the control API does with streams."""

    def __init__(self, control: ControlServer) -> None:
        self._control = control

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            make_route("GET", "/streams", self._list),
            make_route("POST", "/channels/{id}/streams", self._open),
            make_route("POST", "/channels/{id}/streams/{lock}/pay", self._pay),
            make_route("POST", "/channels/{id}/streams/{lock}/close", self._close),
        ]

    async def _list(self, request: Request) -> Response:
        return answer(
            [
                describe_stream(handle, stream)
                for handle in self._control.node.channels
                for side in handle.streams
                for stream in side
            ]
        )

    async def _open(self, request: Request) -> Response:
        body = await read_body(request, views.OpenStream)
        handle = find_channel(self._control.node, request.path_params["id"])
        lifetime: int = rule_of(Lifetime).take(body.lifetime, "lifetime")
        expiry = self._control.node.engine.chain.sure + lifetime

        async def operation() -> views.StreamInfo:
            return describe_stream(handle, await handle.open_stream(body.unit, body.length, expiry=expiry))

        return await self._control.perform("open a stream", operation, wait=True)

    async def _pay(self, request: Request) -> Response:
        body = await read_body(request, views.PayUnits)
        handle, stream = self._find(request)
        await stream.pay(body.units)
        return answer(describe_stream(handle, stream))

    async def _close(self, request: Request) -> Response:
        handle, stream = self._find(request)

        async def operation() -> views.StreamInfo:
            await stream.close()
            return describe_stream(handle, stream)

        return await self._control.perform("end a stream", operation, wait=True)

    def _find(self, request: Request) -> tuple[ChannelHandle, OutgoingStream]:
        """Return the stream of ours that a path names; raise InvalidInput if none is pending."""
        handle = find_channel(self._control.node, request.path_params["id"])
        for stream in handle.streams[0]:
            if str(stream.lock) == request.path_params["lock"]:
                return handle, stream
        raise InvalidInput("this node pays no such stream in that channel; `tally stream list` shows all")
