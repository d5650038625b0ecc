"""What a node sends to the chain beside its duties: what its user asks for, each an obligation until it is done."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.writer import Writer
from tallystick.settlement.chain import Call, DepositCall, OpenCall
from tallystick.settlement.enforcement.budgets import DutyPolicy, duty_budget, moved_by
from tallystick.settlement.ethereum.transactions import gas_of
from tallystick.settlement.following.market import Market
from tallystick.settlement.sending.obligations import UNMINED, Obligation, ObligationStatus
from tallystick.settlement.sending.sender import Sender


class Transactions:
    """Part of `OnChain`."""

    def __init__(
        self, *, sender: Sender, writer: Writer, market: Market, policy: DutyPolicy, rng: random.Random
    ) -> None:
        self._sender = sender
        self._writer = writer
        self._market = market
        self._policy = policy
        self._rng = rng

    async def transact(self, name: str, call: Call, channel: ChannelId | None = None) -> None:
        """Get a call onto the chain and wait until it is confirmed; raise TallystickError if it fails."""
        await self.outcome(await self.take_on(name, call, channel))

    async def take_on(self, name: str, call: Call, channel: ChannelId | None = None) -> str:
        """Store that a call has to get onto the chain; return the obligation's id, for `outcome`."""
        identifier, moments = self.prepare(name, call, channel)
        await self._writer.commit(moments)
        return identifier

    def to_take(self, asset: Address) -> int:
        """Return what calls of ours that are not mined yet will take of a token."""
        taken = 0
        for obligation in self._sender.obligations():
            call = obligation.call
            if obligation.status not in UNMINED:
                continue
            if isinstance(call, OpenCall) and call.terms.asset == asset:
                taken += call.deposit
            elif isinstance(call, DepositCall) and call.asset == asset:
                taken += call.amount
        return taken

    def prepare(self, name: str, call: Call, channel: ChannelId | None = None) -> tuple[str, Sequence[Moment]]:
        """Take a call on as an obligation; return its id and what to commit."""
        identifier = f"{name}:{self._rng.getrandbits(64):016x}"
        asset, moved = moved_by(call)
        budget = duty_budget(asset, moved, gas_of(call), self._market.price, self._policy)
        obligation = Obligation(id=identifier, call=call, purpose=name, budget=budget, channel=channel)
        return identifier, self._sender.require(obligation)

    async def outcome(self, identifier: str) -> None:
        """Wait for an obligation; raise TallystickError with the reason if it was not done."""
        done = await self._sender.wait(identifier)
        if done.status is not ObligationStatus.DONE:
            raise TallystickError(f"the chain refused the {done.purpose}: {done.reason or done.trouble}")

    def is_opening(self, channel: ChannelId) -> bool:
        """Whether this node is on its way to the chain with that very channel."""
        return any(
            obligation.channel == channel and isinstance(obligation.call, OpenCall) and obligation.status in UNMINED
            for obligation in self._sender.obligations()
        )

    def opening_failed(self, channel: ChannelId) -> bool | None:
        """Whether all that this node did to open that channel has come to nothing; None if it did nothing of late."""
        tried = [
            obligation
            for obligation in self._sender.obligations()
            if obligation.channel == channel and isinstance(obligation.call, OpenCall)
        ]
        if not tried:
            return None
        given_up = (ObligationStatus.SUPERSEDED, ObligationStatus.QUARANTINED)
        return all(
            one.status in given_up and (one.receipt is not None or one.nonce is None or one.resting) for one in tried
        )
