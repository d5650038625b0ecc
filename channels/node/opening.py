"""The handshake before a channel: one side asks on which terms, the other says yes or why not. Nothing is signed.

Part of an `Engine`. A yes is stored before it is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tallystick.channels.errors import ChannelNotReady, Fault, InvalidUpdate
from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.protocol import core, messages
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.channels.session.effects import OpenRequested

OLD_RESERVE = (
    "this node opens only channels whose reserve follows their funding: install a release later than 0.1 and ask again"
)

Answer = Callable[[str | None], None]
"""Gets None for yes, else the reason why not."""


class OpeningPort(Protocol):
    """What the handshake asks of the engine that it is part of."""

    key: PrivateKey
    chain_id: int
    contract: Address

    def is_connected(self, peer: bytes) -> bool:
        """Whether the peer is connected now."""

    def send(self, peer: bytes, message: messages.Message) -> None:
        """Send to a peer, after the next commit."""

    def emit(self, event: OpenRequested) -> None:
        """Tell an event, after the next commit."""

    def add_channel(self, channel: core.Channel) -> object:
        """Take in a channel that is being opened; it is durable after the next commit."""


class Opening:
    """Requests to open a channel, ours and the peers'."""

    def __init__(self, engine: OpeningPort) -> None:
        self._engine = engine
        self._asked: dict[tuple[bytes, ChannelId], tuple[messages.OpenProposal, Answer]] = {}

    def request(self, peer: bytes, request: messages.OpenProposal, answer: Answer) -> None:
        """Ask a peer to use a channel that we want to open; raise ChannelNotReady if it is not connected."""
        if not self._engine.is_connected(peer):
            raise ChannelNotReady("the peer is not connected: connect to it before opening a channel")
        self._asked[peer, channel_id(request.terms)] = request, answer
        self._engine.send(peer, request)

    def repeat(self, peer: bytes) -> None:
        """Ask again, on a new connection, what the peer has not answered yet."""
        for asked, (request, _) in self._asked.items():
            if asked[0] == peer:
                self._engine.send(peer, request)

    def forget(self, channel: ChannelId) -> None:
        """Stop waiting for the answer."""
        for asked in [asked for asked in self._asked if asked[1] == channel]:
            del self._asked[asked]

    def on_answered(self, peer: bytes, channel: ChannelId, refusal: str | None) -> None:
        """The peer said yes (None), or why not."""
        asked = self._asked.pop((peer, channel), None)
        if asked is not None:
            asked[1](refusal)

    def on_error(self, peer: bytes, error: messages.Error) -> None:
        """The peer finds fault with a channel; that it does not know it (any more) answers a greeting, no proposal."""
        if error.code not in (Fault.UNKNOWN_CHANNEL, Fault.WRONG_PHASE):
            self.on_answered(peer, ChannelId(error.channel), error.text)

    def on_message(self, peer: bytes, message: messages.OpeningMessage) -> None:
        """Take a request or an answer in; raise InvalidUpdate if it can be nothing that we would agree to."""
        if isinstance(message, messages.OpenRequest):
            self._engine.send(peer, messages.OpenRefuse(channel_id(message.terms), OLD_RESERVE))
        elif isinstance(message, messages.OpenProposal):
            self._check_terms(peer, message.terms)
            self._engine.emit(OpenRequested(peer, message))
        else:
            self.on_answered(peer, message.channel, message.text if isinstance(message, messages.OpenRefuse) else None)

    def _check_terms(self, peer: bytes, terms: Terms) -> None:
        if (terms.chain_id, terms.contract) != (self._engine.chain_id, self._engine.contract):
            raise InvalidUpdate("the channel would be on another chain or contract than this node's", Fault.WRONG_CHAIN)
        if {PublicKey(peer).address, self._engine.key.address} != set(terms.participants):
            raise InvalidUpdate("a channel can be opened only between the two that speak here", Fault.REFUSED)

    def answer(self, peer: bytes, request: messages.OpenProposal, refusal: str | None) -> None:
        """Answer a peer's request. On a yes (None) the channel is stored before the answer leaves."""
        identity = channel_id(request.terms)
        if refusal is not None:
            self._engine.send(peer, messages.OpenRefuse(identity, refusal[:ERROR_TEXT_MAX]))
            return
        side = request.terms.side_of(self._engine.key.address)
        self._engine.send(peer, messages.OpenAccept(identity))
        self._engine.add_channel(core.new_channel(request.terms, side, peer, reserve_ppm=request.reserve_ppm))
