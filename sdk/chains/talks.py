"""Questions to makers and their answers, over the links that nodes have anyway: typed, numbered, bounded.

    QuoteAsked{number, source asset, target, amount} →   ← QuoteGiven{number, quotes, refusal}
    CrossingAsked{number, nonce, invoice} →              ← CrossingGiven{number, invoice, refusal}

Numbers of these messages are 39 to 42. Who asks numbers its questions; an answer counts if it comes from who was asked.
A question or an answer may be lost; whoever waits gives up after a while, and may ask again: a quote binds only whoever
gave it, and a crossing of one hash is one, however often it is asked for. A peer asks `PER_MINUTE` times a minute; what
is more, or finds too many waiting, is refused. A node that is no maker answers nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, TypeAlias

import msgspec
import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput, MalformedMessage, StoreError, TallystickError
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Bytes32
from tallystick.channels.transport.rates import Paces
from tallystick.router.invoices.invoice import TEXT_MAX
from tallystick.sdk.chains.assets import Address20, ChainAsset
from tallystick.sdk.chains.quotes import Quote
from tallystick.sdk.node.node import Node

PER_MINUTE = 60
BURST = 20
"""Questions that a peer may ask at once."""
WAITING_MAX = 64
"""Questions of all peers that wait for their answers."""
ANSWER_SECONDS = 20.0
"""How long an answer is waited for."""
REFUSAL_MAX = 500
"""Characters of a refusal."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Refusal = Annotated[str, msgspec.Meta(max_length=REFUSAL_MAX)]
InvoiceText = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]


class QuoteAsked(msgspec.Struct, frozen=True, array_like=True, tag=39, forbid_unknown_fields=True):
    """What does so much of `target` cost, in an asset of the chain on which this is asked?"""

    number: Number
    asset: Address20
    target: ChainAsset
    amount: Annotated[int, msgspec.Meta(ge=1)]
    by_price: bool
    """Whether the amount is what may be given, not what is to be got."""


class QuoteGiven(msgspec.Struct, frozen=True, array_like=True, tag=40, forbid_unknown_fields=True):
    """A quote, or why there is none."""

    number: Number
    quotes: Annotated[tuple[Quote, ...], msgspec.Meta(max_length=1)]
    refusal: Refusal = ""


class CrossingAsked(msgspec.Struct, frozen=True, array_like=True, tag=41, forbid_unknown_fields=True):
    """Carry the payment of this invoice across, by that quote."""

    number: Number
    nonce: Bytes32
    invoice: InvoiceText


class CrossingGiven(msgspec.Struct, frozen=True, array_like=True, tag=42, forbid_unknown_fields=True):
    """The invoice to pay for it, or (empty) why there is none."""

    number: Number
    invoice: InvoiceText
    refusal: Refusal = ""


Question: TypeAlias = QuoteAsked | CrossingAsked
Reply: TypeAlias = QuoteGiven | CrossingGiven
_CODEC: Codec[Question | Reply] = Codec(Question | Reply)


class Talks:
    """The questions that one node asks, and those that it answers. A maker's has to `run`."""

    def __init__(self, node: Node, serve: Callable[[bytes, Question], Awaitable[Reply]] | None = None) -> None:
        """`serve` returns the answer to a peer's question, or raises TallystickError; None: this is no maker."""
        self._node = node
        self._serve = serve
        self._number = 0
        self._uses = 0
        self._asked: dict[int, tuple[bytes, trio.Event]] = {}
        self._replies: dict[int, Reply] = {}
        self._paces = Paces(60 / PER_MINUTE, BURST)
        self._waiting_in, self._waiting_out = trio.open_memory_channel[tuple[bytes, Question]](WAITING_MAX)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        if not self._uses:
            self._node.routing.talk(self._receive)
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1
            if not self._uses:
                self._node.routing.talk(None)

    async def run(self) -> None:
        """Answer questions one after the other, until cancelled. Raise InvalidInput if another one does."""
        with self._listening():
            async for peer, question in self._waiting_out:
                self._node.peers.say(peer, _CODEC.encode(await self._reply(peer, question)))

    async def _reply(self, peer: bytes, question: Question) -> Reply:
        if self._serve is None:
            return _refused(question, "this is no maker")
        try:
            return await self._serve(peer, question)
        except StoreError:
            raise
        except TallystickError as error:
            return _refused(question, str(error))

    def _receive(self, peer: bytes, frame: bytes) -> None:
        """Take in a message; raise MalformedMessage for what is none."""
        message = _CODEC.decode(frame)
        if isinstance(message, QuoteGiven | CrossingGiven):
            asked = self._asked.get(message.number)
            if asked is not None and asked[0] == peer and not asked[1].is_set():
                self._replies[message.number] = message
                asked[1].set()
        elif self._serve is not None:
            now = trio.current_time()
            self._paces.sweep(now)
            try:
                if not self._paces.take(peer, now):
                    raise trio.WouldBlock
                self._waiting_in.send_nowait((peer, message))
            except trio.WouldBlock:
                self._node.peers.say(peer, _CODEC.encode(_refused(message, "too many questions: ask again later")))

    def number(self) -> int:
        """Return the number of the next question."""
        self._number += 1
        return self._number

    async def ask(self, peer: bytes, question: Question) -> Reply:
        """Ask a connected peer, and return what it answers.

        Raise ChannelNotReady if it does not, MalformedMessage if that is something else, InvalidInput if it refuses.
        """
        event = trio.Event()
        with self._listening():
            self._asked[question.number] = (peer, event)
            try:
                if not self._node.peers.say(peer, _CODEC.encode(question)):
                    raise ChannelNotReady("this maker is not connected now")
                with trio.move_on_after(ANSWER_SECONDS):
                    await event.wait()
            finally:
                del self._asked[question.number]
                reply = self._replies.pop(question.number, None)
        if reply is None:
            raise ChannelNotReady("this maker gives no answer: it may be none, or be busy")
        if isinstance(reply, QuoteGiven) is not isinstance(question, QuoteAsked):
            raise MalformedMessage("this maker answers something else than it was asked")
        if reply.refusal:
            raise InvalidInput(f"the maker refuses: {reply.refusal}")
        return reply


def _refused(question: Question, why: str) -> Reply:
    text = why.encode()[:REFUSAL_MAX].decode(errors="ignore")
    if isinstance(question, QuoteAsked):
        return QuoteGiven(question.number, (), text)
    return CrossingGiven(question.number, "", text)
