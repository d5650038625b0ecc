"""Opening channels: asking a peer, being asked by one, and getting the opening onto the chain.

Nothing is signed between the two: the peer's yes says that it will use the channel once it is confirmed. The opener
stores the channel and its intent in one commit before anything is sent to the chain. Two openings between the same
two, in the same asset, would be the same channel: only one is under way at a time.

An opening that came to nothing ends by itself. Ours does once the chain has refused it; a peer's does after
OPENING_SECONDS. To ask costs a stranger nothing, so all that strangers have asked for is bounded: the oldest makes room
for the newest, once it has had the time that an opening takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import trio

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.limits import CHALLENGE_PERIOD_MAX, RESERVE_PPM_MAX
from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol import core
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PublicKey, close_key, keccak
from tallystick.channels.protocol.messages import OpenProposal
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.channels.session.effects import OpenRequested
from tallystick.channels.session.inputs import PhaseReached
from tallystick.sdk.errors import OpeningFailed
from tallystick.sdk.node.options import Config
from tallystick.settlement.chain import OPEN, OpenCall
from tallystick.settlement.enforcement.onchain import OnChain
from tallystick.settlement.port import Chain

ANSWER_SECONDS = 30.0
"""How long a peer may take to answer an opening."""

OPENINGS_PER_PEER = 8
"""Channels with one peer that may wait for the chain: asking costs it nothing, and each is kept on disk here."""

STRANGERS_OPENINGS = 100
"""Channels that may wait for the chain with peers that never had one with us, all together."""

CONSIDERED_AT_ONCE = 16
"""Requests of strangers that may be looked at, which asks the chain node, at one time."""

OPENING_GRACE = 600
"""Seconds of chain time for which a stranger's opening that is not on chain yet makes room for nobody."""

OPENING_SECONDS = 4 * 3_600
"""Seconds of chain time after which a peer's opening that is not on chain is forgotten."""


@dataclass
class Openings:
    """The openings of one node, both ways."""

    _chain: Chain
    _engine: Engine
    _onchain: OnChain
    _config: Config
    _asking: set[ChannelId] = field(default_factory=set, init=False)
    """Channels that we are talking about with a peer, to open them."""
    _considering: dict[bytes, OpenProposal] = field(default_factory=dict, init=False)
    """Peers' requests that are being checked: one each at a time."""
    _asked: dict[ChannelId, int] = field(default_factory=dict, init=False)
    """Peers' channels that wait for the chain: since when, by chain time; not before our start."""
    _nursery: trio.Nursery | None = field(default=None, init=False)

    async def run(self) -> None:
        """Answer peers that ask, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # the writer may yet tell of who asked

    # --- ours ----------------------------------------------------------------------------------------------------

    def check_period(self, challenge_period: int | None) -> int:
        """Return the challenge period of an opening of ours (None: as configured); raise InvalidInput."""
        period = self._config.challenge_period if challenge_period is None else challenge_period
        least, most = self._config.channels.challenge_period_min, CHALLENGE_PERIOD_MAX  # how long is ours to choose
        if type(period) is not int or not least <= period <= most:
            raise InvalidInput(
                f"a challenge period is a whole number of seconds from {least} to {most}, not {period!r}"
            )
        return period

    async def begin(
        self, peer: PublicKey, deposit: int, asset: Address, challenge_period: int
    ) -> tuple[ChannelId, str]:
        """Agree with the peer, store, and return the channel and the id of the obligation that opens it.

        Raise OpeningFailed or InsufficientFunds; nothing is locked then.
        """
        await self._onchain.account.require_balance(deposit, asset, OpenCall)
        terms = await self._terms(peer, asset, challenge_period)
        identity = channel_id(terms)
        known = self._engine.views.get(identity)
        if known is not None and not core.is_unused(known.channel):
            raise OpeningFailed(
                f"this chain knows nothing of channel {identity.hex()[:8]}, which this node has with that peer: it is "
                "another chain, or it was begun anew. A data directory belongs to one chain: use a new one here"
            )
        if identity in self._asking or self._onchain.account.is_opening(identity):
            raise OpeningFailed("a channel with this peer is being opened already: wait until it is confirmed")
        self._asking.add(identity)
        try:
            reserve_ppm = self._config.channels.reserve_ppm
            await self._ask(peer, OpenProposal(terms, reserve_ppm))
            async with self._onchain.account.allowance(asset, deposit) as permit:
                side = terms.side_of(self._engine.key.address)
                self._engine.add_channel(core.new_channel(terms, side, bytes(peer), reserve_ppm=reserve_ppm))
                identifier, moments = self._onchain.account.prepare("open", OpenCall(terms, deposit, permit), identity)
                await self._engine.writer.commit(moments)  # the channel and the intent to open it, in one commit
        finally:
            self._asking.discard(identity)
        return identity, identifier

    async def finish(self, channel: ChannelId, identifier: str) -> None:
        """Wait until the opening is confirmed; raise OpeningFailed, with nothing locked, if it fails."""
        try:
            await self._onchain.account.outcome(identifier)
        except TallystickError as error:
            self._end_if_failed(channel)
            raise OpeningFailed(f"the channel was not opened, nothing is locked: {error}") from error

    def remind(self, channel: ChannelId, says: bytes | None = None) -> None:
        """Propose an open channel again that its peer does not use: mined so late that the peer had forgotten it.

        `says`: who says not to know it, if somebody does.
        """
        view = self._engine.views.get(channel)
        if view is None or says not in (None, view.channel.peer_key):
            return
        if view.ready or view.channel.phase is not Phase.OPEN:
            return
        state = view.channel
        if state.reserve_ppm and state.newest.proof.seq == state.theirs.seq == 0:
            self._engine.send(state.peer_key, OpenProposal(state.terms, state.reserve_ppm))

    def _is_open(self, identity: ChannelId, terms: Terms) -> bool:
        """Whether the chain shows that very channel already."""
        view = self._onchain.index.view(identity, self._onchain.index.head_number)
        return view is not None and view.terms == terms and view.status == OPEN

    def tidy(self) -> None:
        """End the openings that have come to nothing. Called after each block."""
        now = self._engine.chain.sure
        waiting = [channel.id for channel in self._engine.views.channels if self._waits(channel)]
        for identity in waiting:
            if self._onchain.account.opening_failed(identity) is not None:
                self._end_if_failed(identity)
            elif self._asked.setdefault(identity, now) + OPENING_SECONDS < now and identity not in self._asking:
                self._engine.forget_channel(identity)
        for identity in self._asked.keys() - set(waiting):
            del self._asked[identity]

    def _waits(self, channel: Channel) -> bool:
        """Whether a channel has only been talked about as yet, and the chain shows nothing of it."""
        index = self._onchain.index
        return (
            channel.phase is Phase.OPENING
            and not channel.is_virtual
            and core.is_unused(channel)
            and index.view(channel.id, index.head_number) is None
        )

    def _end_if_failed(self, channel: ChannelId) -> None:
        view = self._engine.views.get(channel)
        if view is not None and self._waits(view.channel) and self._onchain.account.opening_failed(channel):
            self._engine.apply(channel, PhaseReached(Phase.GONE))

    async def _terms(self, peer: PublicKey, asset: Address, challenge_period: int) -> Terms:
        first, second = sorted((self._engine.key.address, peer.address))
        number = await self._chain.channel_count(first, second, asset)
        chain_id, contract = self._chain.chain_id, self._chain.contract
        blank = Terms(chain_id, contract, (first, second), asset, number, challenge_period, bytes(32))
        return msgspec.structs.replace(blank, close_hash=self._close_hash(peer, blank))

    def _close_hash(self, peer: PublicKey, terms: Terms) -> bytes:
        return keccak(close_key(self._engine.key, peer, channel_id(terms)))

    async def _ask(self, peer: PublicKey, request: OpenProposal) -> None:
        answers, answered = trio.open_memory_channel[str | None](1)
        self._engine.opening.request(bytes(peer), request, answers.send_nowait)
        try:
            with trio.fail_after(ANSWER_SECONDS):
                refusal = await answered.receive()
        except trio.TooSlowError:
            raise OpeningFailed("the peer did not answer; nothing is locked, try again later") from None
        finally:
            self._engine.opening.forget(channel_id(request.terms))
        if refusal is not None:
            raise OpeningFailed(f"the peer refused: {refusal}")

    # --- the peers' ----------------------------------------------------------------------------------------------

    def consider_soon(self, event: OpenRequested) -> None:
        """Answer a peer that wants to open a channel with us, in a task of its own. Not before `run`."""
        if self._nursery is not None:
            self._nursery.start_soon(self.consider, event)

    async def consider(self, event: OpenRequested) -> None:
        """Answer a peer that wants to open a channel with us."""
        considered = self._considering.get(event.peer)
        if considered == event.request:
            return  # asked again on a new connection: one answer will do
        if considered is not None:
            self._engine.opening.answer(event.peer, event.request, "one request at a time: wait for the last answer")
            return
        if self._is_stranger(event.peer) and len(self._considering) >= CONSIDERED_AT_ONCE:
            self._engine.opening.answer(event.peer, event.request, "this node is busy: try again in a moment")
            return
        self._considering[event.peer] = event.request
        try:
            refusal = await self._objection(PublicKey(event.peer), event.request)
        except TallystickError as error:
            refusal = f"this node cannot check that now: {error}"
        finally:
            del self._considering[event.peer]
        if not self._engine.is_connected(event.peer):
            return  # it would not hear the answer
        if refusal is None:
            self._asked[channel_id(event.request.terms)] = self._engine.chain.sure
        self._engine.opening.answer(event.peer, event.request, refusal)

    def _is_stranger(self, peer: bytes) -> bool:
        """Whether a peer has never had a channel with us."""
        return all(core.is_unused(view.channel) for view in self._engine.views.with_peer(peer))

    def _make_room(self, identity: ChannelId) -> bool:
        """Find a stranger's opening a place, that of the oldest if it has had its time; return whether there is one."""
        waiting = [
            view.channel
            for asked in self._asked
            if asked != identity and (view := self._engine.views.get(asked)) is not None
            if self._waits(view.channel) and self._is_stranger(view.channel.peer_key)
        ]
        if len(waiting) < STRANGERS_OPENINGS:
            return True
        oldest = min(waiting, key=lambda channel: self._asked[channel.id])
        if self._asked.get(oldest.id, 0) + OPENING_GRACE > self._engine.chain.sure:
            return False
        del self._asked[oldest.id]
        self._engine.forget_channel(oldest.id)
        return True

    async def _objection(self, peer: PublicKey, request: OpenProposal) -> str | None:
        """Return why we would not use such a channel, None if we would."""
        terms, policy = request.terms, self._config.channels
        if terms.challenge_period < policy.challenge_period_min:
            return f"its challenge period must be at least {policy.challenge_period_min} s"
        if terms.challenge_period > policy.challenge_period_max:
            return (
                f"its challenge period must be at most {policy.challenge_period_max} s: what this node has in the "
                "channel would be bound as long"
            )
        if terms.close_hash != self._close_hash(peer, terms):
            return "its close_hash is not the one that both of us derive"
        if not policy.reserve_ppm <= request.reserve_ppm <= RESERVE_PPM_MAX:
            return f"its reserve must be from {policy.reserve_ppm} to {RESERVE_PPM_MAX} millionths of all that is in it"
        number = await self._chain.channel_count(*terms.participants, terms.asset)
        identity = channel_id(terms)
        if terms.number != number and not self._is_open(identity, terms):
            return f"its number must be {number}"
        others = [view.channel for view in self._engine.views.with_peer(bytes(peer))]
        if sum(channel.phase is Phase.OPENING and channel.id != identity for channel in others) >= OPENINGS_PER_PEER:
            return f"{OPENINGS_PER_PEER} channels with this node wait to be opened already: open those first"
        if self._onchain.account.is_opening(identity) or (
            identity in self._asking and self._engine.key.address < peer.address
        ):
            return "this node is opening that very channel itself: use it once it is confirmed"
        if self._is_stranger(bytes(peer)) and not self._make_room(identity):
            return "too many openings of peers without a channel wait for the chain: try again in some minutes"
        return None
