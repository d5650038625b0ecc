"""Virtual channels as a node has them: opened over hubs, ended off chain, or by the court (docs/virtual.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.node.virtual_store import VirtualHolding, VirtualPhase
from tallystick.channels.node.virtuals import Virtuals
from tallystick.channels.protocol.answers import is_answered
from tallystick.channels.protocol.core import CloseInitiator, Phase
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import NATIVE, AnyAddress, ChannelId, Lifetime, Total, to_address
from tallystick.channels.protocol.virtual import HUBS_MOST, VIRTUAL, Amounts, VirtualTerms, conditions_of
from tallystick.channels.session.expected import LockSender
from tallystick.channels.session.inputs import ForceClose, RejectLock
from tallystick.channels.values.arguments import checked
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.options import Config
from tallystick.sdk.node.streams import NodeContext
from tallystick.settlement.enforcement.duties import statements
from tallystick.settlement.enforcement.virtual import VirtualHeld

LIFE = 43_200
"""Seconds of chain time for which a virtual channel is asked for, unless told otherwise: hubs pass none on that binds
them for more than a day."""
PERIOD = 3_600
"""Seconds for which the court takes newer balances, unless told otherwise."""
HELD_MOST = 64
"""Virtual channels that are not over, with whomever: beyond, none that a peer asks for is agreed to."""
OPENING_SECONDS = 60
"""How long a proposal waits for its answer, and the stakes."""
NOTHING: Amounts = (0, 0, 0, 0)


class VirtualDesk:
    """All virtual channels of a node."""

    def __init__(
        self,
        context: NodeContext,
        config: Config,
        hubs: LockSender,
        *,
        changed: Callable[[], None],
        is_passed_on: Callable[[ChannelId, int], bool],
    ) -> None:
        """`hubs` sends our locks; `changed` is called after each commit that changes what is held; `is_passed_on`: of a
        peer's lock."""
        self._is_passed_on = is_passed_on
        self._context, self._config, self._hubs = context, config, hubs
        self._engine = context.engine
        self.virtuals = Virtuals(context.engine, hubs, self._refusal, changed)
        self._stopping: dict[ChannelId, int] = {}
        """Since when each waits for its end."""

    def __iter__(self) -> Iterator[VirtualHolding]:
        """All that are not over."""
        return iter(self.virtuals.held)

    @checked
    async def open(
        self,
        peer: PublicKey | str,
        deposit: Total,
        peer_deposit: Total = 0,
        *,
        over: Sequence[AnyAddress] = (),
        asset: AnyAddress = NATIVE,
        expiry: Lifetime | None = None,
        period: Lifetime = PERIOD,
    ) -> ChannelHandle:
        """Open a virtual channel with a peer that is connected, over hubs.

        `over`: the addresses of the hubs that both deposits go over, from us to the peer; none: each side finds a way.
        Both deposits are locked in the channels on the way until the channel ends, at the latest at `expiry` (chain
        time). Raise InvalidInput, or ChannelNotReady, with the reason, if it came to nothing: then what was locked goes
        back.
        """
        key = peer if isinstance(peer, PublicKey) else PublicKey(bytes.fromhex(str(peer)))
        token, hubs = to_address(asset, "asset"), [to_address(hub, "over") for hub in over]
        if len(hubs) > HUBS_MOST:
            raise InvalidInput(f"a virtual channel goes over {HUBS_MOST} hubs at most, not {len(hubs)}")
        now = self._engine.chain.now
        side = 0 if self._engine.key.address < key.address else 1
        both = (self._engine.key.address, key.address)
        terms = VirtualTerms(
            self._engine.chain_id,
            self._engine.contract,
            both if side == 0 else both[::-1],
            token,
            (deposit, peer_deposit) if side == 0 else (peer_deposit, deposit),
            now + LIFE if expiry is None else expiry,
            period,
            self.virtuals.next_nonce,
        )
        channel = self.virtuals.propose(terms, key, self._hubs.find_hubs(token, hubs))
        with trio.move_on_after(OPENING_SECONDS):
            await self._context.until(lambda: self._is_settled(channel))
        if not self._is_usable(channel):
            self.virtuals.cancel(channel, "it took too long")
            held = self.virtuals.find(channel)
            text = "" if held is None else held.text
            raise ChannelNotReady(f"the virtual channel did not open: {text or 'it was taken back'}")
        return ChannelHandle(self._context, self._engine.view(channel))

    def _is_usable(self, channel: ChannelId) -> bool:
        view = self._engine.views.get(channel)
        return (
            view is not None
            and view.channel.phase is Phase.OPEN
            and view.funding == view.channel.funding(view.channel.side)
        )

    def _is_settled(self, channel: ChannelId) -> bool:
        held = self.virtuals.find(channel)
        ended = held is None or held.phase in (VirtualPhase.CANCELLED, VirtualPhase.OVER)
        return ended or self._is_usable(channel)

    def _refusal(self, terms: VirtualTerms, peer: PublicKey) -> str:
        """Return why a peer's proposal is not agreed to: it would bind more of ours than the settings allow.

        Keys cost nothing, so what counts is what is bound with all peers together.
        """
        held, ours = self.virtuals.held, terms.stakes[terms.side_of(self._engine.key.address)]
        bound = sum(each.terms.stakes[each.side] for each in held if each.terms.asset == terms.asset)
        if ours and bound + ours > self._config.virtual_deposit:
            return f"this node puts at most {self._config.virtual_deposit} into all virtual channels together"
        if len(held) >= HELD_MOST:
            return f"this node has {len(held)} virtual channels, and agrees to no more"
        return ""

    # --- what happens ------------------------------------------------------------------------------------------------

    @property
    def held_for_court(self) -> list[VirtualHeld]:
        """Return what enforcement may know of each."""
        return [self._for_court(holding) for holding in self._begun]

    @property
    def _begun(self) -> list[VirtualHolding]:
        """Those that both agreed on: there is a channel."""
        return [holding for holding in self.virtuals.held if self._engine.views.get(holding.id) is not None]

    def _for_court(self, holding: VirtualHolding) -> VirtualHeld:
        channel = self._engine.views.channel(holding.id)
        paid = NOTHING if holding.outcome is None else holding.outcome.paid
        parts = zip(paid, holding.terms.stakes, strict=False)
        return VirtualHeld(
            terms=holding.terms,
            side=holding.side,
            proofs=statements(channel),
            outcome=holding.outcome,
            shown=any(0 < amount < stake for amount, stake in parts),
            disputed=channel.phase is Phase.CLOSING and holding.outcome is None and not self._is_patient(holding),
        )

    def _is_patient(self, holding: VirtualHolding) -> bool:
        """Whether we have signed the end and the other may still sign it: a block that comes then starts no dispute."""
        now = self._engine.chain.now
        soon = now <= self._stopping.get(holding.id, now) + self._config.app_patience
        return holding.signed is not None and soon and self.virtuals.is_backed(holding)

    def on_block(self) -> None:
        """The chain has moved: see what the court was brought and has decided, and who keeps us waiting."""
        self._reject_strays()
        final = self._engine.chain.final
        for holding in self._begun:
            held = self._for_court(holding)
            court = self._context.onchain.court.virtual_in_court(held)
            sure = self._context.onchain.court.virtual_in_court(held, final=True)
            if court is not None and court.outcome is not None:
                self.virtuals.adopt(holding.id, court.outcome)
            elif court is not None or self._must_dispute(holding, held):
                self._dispute(holding.id)
            decided = sure.is_decided(final) if sure is not None else court is None and final > holding.terms.expiry
            if decided:
                self.virtuals.settle_decided(holding.id, NOTHING if sure is None else sure.record.paid)

    def _reject_strays(self) -> None:
        """Give back locks that came for a virtual channel that is not, or not any more."""
        expected = {each for holding in self.virtuals.held for each in conditions_of(holding.id)}
        for channel in self._engine.views.channels:
            for lock in channel.theirs.simplex.locks:
                stray = lock.kind == VIRTUAL and lock.condition not in expected
                if stray and not is_answered(channel, lock.id) and not self._is_passed_on(channel.id, lock.id):
                    self._engine.apply(channel.id, RejectLock(lock.id, b"no such virtual channel is here"))

    def _dispute(self, channel: ChannelId) -> None:
        if self._engine.views.channel(channel).phase in (Phase.OPEN, Phase.FROZEN):
            self._engine.apply(channel, ForceClose())

    def _must_dispute(self, holding: VirtualHolding, held: VirtualHeld) -> bool:
        """Whether the other stalls the end for too long, or a channel with its stake closes, and we are owed."""
        channel = self._engine.views.channel(holding.id)
        if holding.phase is not VirtualPhase.OPEN or held.gain <= 0:
            return False
        closing = not self.virtuals.is_backed(holding)
        if channel.shutdown is CloseInitiator.NONE:
            self._stopping.pop(holding.id, None)
            return closing
        since = self._stopping.setdefault(holding.id, self._engine.chain.now)
        return closing or self._engine.chain.now > since + self._config.app_patience
