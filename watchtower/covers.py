"""What a tower offers to answer for with its bond, and promises under that: docs/watchtower.md says what it is for.

    AskCover{channel, amount, until} →    the offer is stored, then signed     → CoverOffer; the client reserves it
    AskPromise{cover, proofs}        →    the proofs are stored, then signed   → PromiseGiven

A tower signs no cover beyond what is free of its bond, its other offers counted, and no promise but on proofs that it
has checked as the contract does, and holds durably: from then on it shows them in every dispute of that channel, at up
to the price of the cover. A promise begins after the newest block and by our clock in the future, so that a close
which it is about has its whole window yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from tallystick.channels.errors import InvalidInput, StoreError
from tallystick.channels.ports import Clock
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address, ChannelId, SignedProof, Terms
from tallystick.channels.storage.store import Store
from tallystick.channels.values.arguments import Options
from tallystick.settlement.chain import Header
from tallystick.settlement.contract.state import ChannelStatus
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.modules.covers import (
    BOND_MAX,
    TowerCover,
    TowerPromise,
    digest_cover,
    digest_promise,
    end_of,
)
from tallystick.settlement.port import Chain
from tallystick.settlement.sending.sender import Commit
from tallystick.watchtower.cover_schema import (
    CoverOffered,
    CoversOver,
    OfferedCover,
    ProofsPromised,
    find_offered,
    read_offered,
)
from tallystick.watchtower.disputes import check
from tallystick.watchtower.errors import TowerRefusal
from tallystick.watchtower.messages import AskCover, AskPromise, CoverOffer, Message, PromiseGiven, Refused
from tallystick.watchtower.schema import has_appointments
from tallystick.watchtower.sealing import Appointment

OFFERS_MAX = 64
"""Offers that may wait to be reserved: each binds a part of the bond meanwhile."""

SLACK = 3_600
"""Seconds that a chain's time may be behind our clock: so long an offer that is over counts as one that is not."""


class CoverPolicy(Options, frozen=True, kw_only=True):
    """What a tower offers to answer for. Amounts are in the chain's coin, times in seconds."""

    most: int = 0
    """The largest cover; 0: it offers none."""
    price_bps: int = 100
    """What a cover costs, in ten-thousandths of its amount."""
    response: int = 600
    """The shortest challenge period of a channel that it covers: it trusts the chain to mine a call within that."""
    validity: int = 30 * 86_400
    """How long a cover may be about closes."""
    offer: int = 600
    """How long an offer can be reserved. It binds a part of the bond meanwhile."""


class Registry(Protocol):
    """The registry of towers on a chain, as a tower and its clients look at it."""

    address: Address
    """In whose domain covers and promises are signed."""

    async def free(self, tower: Address) -> int:
        """Return what of a tower's bond no cover holds apart."""

    async def is_held(self, name: bytes) -> bool:
        """Return whether a cover is set apart now."""


def named_by(ask: AskCover | AskPromise) -> bytes:
    """Return what a question is about: a channel's id, or a cover's name."""
    return channel_id(ask.terms) if isinstance(ask, AskCover) else ask.cover


class _No(Exception):
    """Why something is not offered or promised."""

    def __init__(self, why: TowerRefusal, text: str) -> None:
        super().__init__(text)
        self.why = why


@dataclass(kw_only=True, eq=False, repr=False)
class CoverService:
    """Answers what clients ask about covers."""

    key: PrivateKey
    store: Store
    commit: Commit
    clock: Clock
    chain: Chain
    registry: Registry
    policy: CoverPolicy
    troubles: Callable[[], Sequence[str]]
    position: Callable[[], Header | None]
    """Returns the newest block that the tower has followed."""
    promised: Callable[[ChannelId], None]
    """Is told of a channel whose dispute, if there is one, has to be looked at again."""
    offers: int = field(default=0, init=False)
    """Covers signed since the start."""
    promises: int = field(default=0, init=False)
    """Promises signed since the start."""

    def __post_init__(self) -> None:
        self._alone = trio.Lock()
        self._held: set[bytes] = set()
        """Covers that the chain has said to be set apart: they bind no part of what is free any more."""

    async def answer(self, client: Address, ask: AskCover | AskPromise) -> Message:
        """Return the offer, the promise, or why there is none."""
        named = named_by(ask)
        try:
            if troubles := self.troubles():
                raise _No(TowerRefusal.TROUBLE, f"the tower promises nothing now: {troubles[0]}")
            async with self._alone:
                return await (self._offer(client, ask) if isinstance(ask, AskCover) else self._promise(client, ask))
        except _No as no:
            return Refused(named, no.why, 0, str(no)[:512])
        except (ChainUnavailable, ChainError, StoreError) as error:
            return Refused(named, TowerRefusal.TROUBLE, 0, f"the tower promises nothing now: {error}"[:512])

    def _now(self) -> int:
        """Return a time that no block which the tower knows is beyond."""
        position = self.position()
        return max(int(self.clock()), 0 if position is None else position.time)

    async def _offer(self, client: Address, ask: AskCover) -> CoverOffer:
        now, channel, policy = self._now(), ChannelId(named_by(ask)), self.policy
        await self._check_channel(client, ask.terms, channel)
        if not has_appointments(self.store, client):
            raise _No(TowerRefusal.NO_COVER, "covers are for clients: upload an appointment first")
        if not 1 <= ask.amount <= min(policy.most, BOND_MAX):
            raise _No(TowerRefusal.NO_COVER, f"this tower's covers are of 1 to {policy.most}, not of {ask.amount}")
        if not now + policy.offer <= ask.until <= now + policy.validity:
            text = (
                f"a cover lasts for {policy.offer} to {policy.validity} seconds from now, until {now + policy.validity}"
            )
            raise _No(TowerRefusal.NO_COVER, text)
        known = read_offered(self.store)
        waiting = [each for each in known if each.cover.offered + SLACK >= now and not await self._is_held(each)]
        for each in waiting:
            if (each.cover.channel, each.cover.client) == (channel, client):
                if (each.cover.amount, each.cover.until) == (ask.amount, ask.until) and each.cover.offered >= now:
                    return self._signed(each.cover)
                text = f"another offer for this channel binds a part of the bond up to {each.cover.offered + SLACK}"
                raise _No(TowerRefusal.QUOTA, text)
        free = await self.registry.free(self.key.address) - sum(each.cover.amount for each in waiting)
        if len(waiting) >= OFFERS_MAX or ask.amount > free:
            raise _No(TowerRefusal.QUOTA, f"of the tower's bond {max(0, free)} is free now, less than {ask.amount}")
        price = -(-ask.amount * policy.price_bps // 10_000)
        until, response = ask.until, min(policy.response, ask.terms.challenge_period)
        cover = TowerCover(channel, self.key.address, client, ask.amount, until, response, price, now + policy.offer)
        gone = [each.name for each in known if await self._is_over(each, now)]
        await self.commit(
            [
                CoversOver(tuple(gone)),
                CoverOffered(self._name(cover), ask.terms, cover),
            ]
        )
        self.offers += 1
        return self._signed(cover)

    async def _promise(self, client: Address, ask: AskPromise) -> PromiseGiven:
        known = find_offered(self.store, ask.cover)
        if known is None or known.cover.client != client:
            raise _No(TowerRefusal.NO_COVER, "the tower has offered this client no such cover; ask for one")
        if not await self.registry.is_held(known.name):
            raise _No(TowerRefusal.NO_COVER, "this cover is not set apart on the chain: reserve it first")
        channel = known.cover.channel
        await self._check_channel(client, known.terms, channel)
        proofs = self._checked(known.terms, client, (ask.proof0, ask.proof1))
        await self.commit([ProofsPromised(ask.cover, channel, client, proofs)])
        self.promised(channel)
        since = self._now() + 1
        if since > known.cover.until:
            raise _No(TowerRefusal.NO_COVER, "the time of this cover is over; ask for another one")
        seq0, seq1 = (0 if signed is None else signed.proof.seq for signed in proofs)
        promise = TowerPromise(ask.cover, since, seq0, seq1)
        digest = digest_promise(self.chain.chain_id, self.registry.address, promise)
        self.promises += 1
        return PromiseGiven(promise, self.key.sign(digest))

    def _checked(
        self, terms: Terms, client: Address, shown: tuple[SignedProof | None, SignedProof | None]
    ) -> tuple[SignedProof | None, SignedProof | None]:
        """Return the proofs, which the contract would take; raise _No if it would not."""
        try:
            proofs = check(Appointment(terms, *shown, b""), terms, client, self.key.address).proofs
        except InvalidInput as error:
            raise _No(TowerRefusal.NO_COVER, f"these are no proofs of the channel: {error}") from error
        if proofs != shown or proofs == (None, None):
            raise _No(TowerRefusal.NO_COVER, "these are no proofs of the channel that both have signed")
        return proofs

    async def _check_channel(self, client: Address, terms: Terms, channel: ChannelId) -> None:
        """Raise _No unless the channel is open, one of this chain, of the client, and gives time to answer."""
        if (terms.chain_id, terms.contract) != (self.chain.chain_id, self.chain.contract):
            raise _No(TowerRefusal.NO_COVER, "this tower answers for channels of its own chain and contract")
        if client not in terms.participants:
            raise _No(TowerRefusal.NO_COVER, "a cover is for a participant of the channel")
        if terms.challenge_period < self.policy.response:
            raise _No(TowerRefusal.NO_COVER, f"the channel's windows are shorter than {self.policy.response} seconds")
        self.chain.learn(terms)
        (view,) = await self.chain.channels([channel])
        if view is None or view.terms != terms or view.status != ChannelStatus.OPEN:
            raise _No(TowerRefusal.NO_COVER, "there is no such channel on the chain that is open")

    async def _is_over(self, offered: OfferedCover, now: int) -> bool:
        """Whether nobody can accuse by a cover any more, nor give it back."""
        cover, period = offered.cover, offered.terms.challenge_period
        if now <= (end_of(cover, period) if offered.promised else cover.offered) + SLACK:
            return False
        return not await self.registry.is_held(offered.name)

    async def _is_held(self, offered: OfferedCover) -> bool:
        if offered.promised or offered.name in self._held:
            return True
        if await self.registry.is_held(offered.name):
            self._held.add(offered.name)
            return True
        return False

    def _name(self, cover: TowerCover) -> bytes:
        return digest_cover(self.chain.chain_id, self.registry.address, cover)

    def _signed(self, cover: TowerCover) -> CoverOffer:
        return CoverOffer(cover, self.key.sign(self._name(cover)))
