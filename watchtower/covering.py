"""A node's side of covers: asks a tower for one, checks what it signs, keeps it, and finds what it broke.

Nothing that a tower says is kept before its signature was checked, and that it is for just what was asked. A cover is
worth something once it is reserved on the chain; a promise once it is on our disk. A promise goes when another one
that has begun for sure says as much: so there is one for a close at any time, and what was promised once stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from tallystick.channels.errors import InvalidSignature, MalformedMessage
from tallystick.channels.ports import Clock, Network, PeerAddress
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import Address, ChannelId, SignedProof, Terms
from tallystick.channels.storage.store import Store
from tallystick.settlement.chain import ContractChannel
from tallystick.settlement.contract.state import ChannelStatus
from tallystick.settlement.errors import Reverted
from tallystick.settlement.modules.covers import (
    TowerPromise,
    check_guilt,
    digest_cover,
    digest_promise,
)
from tallystick.settlement.modules.interface import KeptChannel
from tallystick.settlement.sending.sender import Commit
from tallystick.watchtower.cover_schema import (
    CoverTaken,
    PromiseTaken,
    SignedCover,
    SignedPromise,
    read_promises,
    read_taken,
)
from tallystick.watchtower.errors import BadReceipt, CoverRefused
from tallystick.watchtower.fetching import ask
from tallystick.watchtower.messages import VERSION, AskCover, AskPromise, CoverOffer, Message, PromiseGiven, Refused

AHEAD = 600
"""Seconds by which a tower's promise may begin after our own clock: what it is not about is not covered."""

SURELY = 3_600
"""Seconds after which a promise has begun by any chain's time, reorganisations included."""

PROMISES_MAX = 256
"""Promises that are kept of one cover: ask less often than one in `SURELY / PROMISES_MAX` seconds."""


class Accusation(NamedTuple):
    """A promise that a tower broke, as the adjudicator's words about the channel show."""

    cover: SignedCover
    promise: SignedPromise


@dataclass(kw_only=True, eq=False, repr=False)
class CoverClient:
    """What one node asks of one tower about covers, each time over a connection of its own."""

    party: Address
    tower: PeerAddress
    network: Network
    store: Store
    commit: Commit
    clock: Clock
    chain_id: int
    registry: Address
    within: float = 30.0
    """Seconds for an answer."""

    def __post_init__(self) -> None:
        self._tower = PublicKey(self.tower.key)

    async def ask_cover(self, terms: Terms, amount: int, until: int, *, price_max: int) -> SignedCover:
        """Return a cover that the tower offers, durable: reserve it on the chain before its offer is over.

        Raise CoverRefused if the tower offers none, or asks more; LinkClosed or PeerError if it cannot be reached or
        answers wrongly.
        """
        answer = await self._ask(AskCover(VERSION, terms, amount, until))
        if not isinstance(answer, CoverOffer):
            raise MalformedMessage(f"the tower answered a question for a cover with {type(answer).__name__}")
        cover, now = answer.cover, self.clock()
        wanted = msgspec.structs.replace(
            cover, channel=channel_id(terms), tower=self._tower.address, client=self.party, amount=amount, until=until
        )
        if cover != wanted or not 0 <= cover.response <= terms.challenge_period:
            raise BadReceipt("the tower offers another cover than the one asked for; do not rely on it")
        if not now < cover.offered <= until:
            raise BadReceipt("the tower's offer is over already; compare the clocks")
        if not 0 <= cover.price <= price_max:
            raise CoverRefused(f"the tower asks {cover.price} for the cover, more than {price_max}")
        name = digest_cover(self.chain_id, self.registry, cover)
        self._verify(name, answer.signature)
        await self.commit([CoverTaken(name, cover, answer.signature)])
        return SignedCover(name, cover, answer.signature)

    async def ask_promise(
        self, held: SignedCover, proof0: SignedProof | None, proof1: SignedProof | None
    ) -> SignedPromise:
        """Return the tower's promise that no close settles with less than these proofs, durable.

        Raise as `ask_cover` does.
        """
        answer = await self._ask(AskPromise(VERSION, held.name, proof0, proof1))
        if not isinstance(answer, PromiseGiven):
            raise MalformedMessage(f"the tower answered a question for a promise with {type(answer).__name__}")
        promise, now = answer.promise, self.clock()
        seq0, seq1 = (0 if signed is None else signed.proof.seq for signed in (proof0, proof1))
        if (promise.cover, promise.seq0, promise.seq1) != (held.name, seq0, seq1):
            raise BadReceipt("the tower promises something else than what was asked; do not rely on it")
        if not 0 <= promise.since <= now + AHEAD:
            raise BadReceipt(f"the tower's promise begins at {promise.since}, long after now; compare the clocks")
        self._verify(digest_promise(self.chain_id, self.registry, promise), answer.signature)
        needless = _needless([each.promise for each in read_promises(self.store, held.name)], promise, now)
        await self.commit([PromiseTaken(promise, answer.signature, needless)])
        return SignedPromise(promise, answer.signature)

    async def _ask(self, message: AskCover | AskPromise) -> Message:
        link = await self.network.dial(self.tower)
        try:
            (answer,) = await ask(link, [message], self.within)
        finally:
            await link.aclose()
        if isinstance(answer, Refused):
            raise CoverRefused(f"the tower refused: {answer.text}")
        return answer

    def _verify(self, digest: bytes, signature: bytes) -> None:
        try:
            self._tower.verify(digest, signature)
        except InvalidSignature as error:
            raise BadReceipt("this is not signed by the tower; do not rely on it") from error


def _needless(held: Sequence[TowerPromise], new: TowerPromise, now: float) -> tuple[TowerPromise, ...]:
    """Return which promises of a cover need not be kept beside a newer one.

    One that begins no later than another that has surely begun, with no higher number; and the oldest beyond the limit.
    """
    begun = [each for each in (*held, new) if each.since + SURELY <= now]
    old = [each for each in held if any(_is_less(each, other) for other in begun)]
    rest = sorted((each for each in held if each not in old and each != new), key=lambda each: each.since)
    return (*old, *rest[: max(0, len(rest) + 1 - PROMISES_MAX)])


def _is_less(one: TowerPromise, other: TowerPromise) -> bool:
    """Whether a promise says nothing of any close to come that another one, which has begun, does not say."""
    return one != other and one.seq0 <= other.seq0 and one.seq1 <= other.seq1


def find_broken(store: Store, view: ContractChannel, channel: ChannelId, time: int) -> list[Accusation]:
    """Return, for each cover of a channel, a promise that what the adjudicator says at that time shows to be broken.

    Whether the cover is still set apart is the registry's to say.
    """
    if view.status == ChannelStatus.OPEN or view.closer is None or view.deadline is None:
        return []
    kept = KeptChannel(view.terms, False, view.closer, view.deadline, view.seqs)
    found = []
    for cover in read_taken(store, channel):
        for promise in reversed(read_promises(store, cover.name)):
            try:
                check_guilt(cover.cover, promise.promise, kept, time)
            except Reverted:
                continue
            found.append(Accusation(cover, promise))
            break
    return found
