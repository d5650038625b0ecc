"""The account of a node on chain: what it holds, whether that is enough, and what it sends beside its duties.

Whatever its user asks for is an obligation until it is done.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence

import trio

from tallystick.channels.errors import InsufficientFunds, InvalidInput, TallystickError
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.store import Moment
from tallystick.settlement.chain import AccountEvent, ApproveCall, Call, ClaimCall, DepositCall, OpenCall, moved_by
from tallystick.settlement.enforcement.budgets import duty_budget, fee_need
from tallystick.settlement.enforcement.following import EnforcingNode
from tallystick.settlement.enforcement.owed_claims import CLAIM_EVERY, claim_owed, claim_under_way
from tallystick.settlement.enforcement.owings import Owings
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.following.checked import Market
from tallystick.settlement.following.follower import BlockAdded, Step
from tallystick.settlement.sending.fee_account import LOOK_EVERY, FeeAccount, FundsAndDuties
from tallystick.settlement.sending.obligations import Obligation, ObligationStatus
from tallystick.settlement.sending.sender import Sender


class Account:
    """Part of `OnChain`."""

    def __init__(self, node: EnforcingNode, market: Market, sender: Sender) -> None:
        self._node = node
        self._address = sender.account
        self._market = market
        self._sender = sender
        self._allowing: Counter[Address] = Counter()
        """What calls that are no obligations yet will take of each token, by an approval."""
        self._permitting: set[Address] = set()
        """Tokens that were seen to take permits."""
        self._turns: dict[Address, trio.Lock] = {}
        self._owing = trio.Event()

    async def require_balance(self, amount: int, asset: Address, *calls: type[Call]) -> None:
        """Raise InsufficientFunds unless the account holds `amount` on chain, and what these calls cost in fees now."""
        account = f"account 0x{self._address.hex()}"
        held = await self._node.chain.balance(self._address, asset)
        if amount > held:
            raise InsufficientFunds(f"{account} holds {held} of {_named(asset)}, not {amount}")
        approve = (ApproveCall,) if asset != NATIVE else ()
        price = self._market.price or await self._node.chain.fee_price()
        fee = sum(self._market.tariff.fee_of(call, price) for call in (*calls, *approve))
        coins = held - amount if asset == NATIVE else await self._node.chain.balance(self._address, NATIVE)
        if coins < max(1, fee):
            raise InsufficientFunds(
                f"{account} would have {coins} left for fees, which are about {fee} now: use less, or put coins into it"
            )

    async def takes_permits(self, asset: Address) -> bool:
        """Return whether a token is told by a signature, in the call itself, what a deposit may take of it (EIP-2612).

        Raise ChainUnavailable or ChainError if the chain does not say.
        """
        if asset != NATIVE and asset not in self._permitting:
            if not await self._node.chain.takes_permits(asset, self._node.engine.key):
                return False
            self._permitting.add(asset)
        return asset != NATIVE

    @contextlib.asynccontextmanager
    async def allowance(self, asset: Address, amount: int, channel: ChannelId | None = None) -> AsyncIterator[bool]:
        """Let the adjudicator take `amount` of a token, for a call that is taken on within the block.

        Yield whether that call has to bring a permit. The coin needs neither that nor an approval. Permits are
        numbered, and one replaces what was allowed before: so a call with one waits for the one before, and none is
        made while a call relies on an approval. Raise TallystickError if the chain refuses, ChainUnavailable if it
        does not tell what is left over.
        """
        if asset == NATIVE or not amount:
            yield False
        elif await self.takes_permits(asset) and not self._relies_on_approval(asset):
            async with self._turns.setdefault(asset, trio.Lock()):
                await self._await_permits(asset)
                yield True
        else:
            self._allowing[asset] += amount
            try:
                await self._await_permits(asset)
                await self._approve(asset, channel)
                yield False
            finally:
                self._allowing[asset] -= amount

    def _spending(self, asset: Address) -> list[Obligation]:
        """Return what is on its way to the chain and takes of a token, or lets it be taken."""
        waiting = [one for one in self._sender.obligations() if not one.is_final]
        kinds = OpenCall | DepositCall | ApproveCall
        return [one for one in waiting if isinstance(one.call, kinds) and moved_by(one.call)[0] == asset]

    def _relies_on_approval(self, asset: Address) -> bool:
        approved = (not getattr(one.call, "permit", False) for one in self._spending(asset))
        return self._allowing[asset] > 0 or any(approved)

    async def _await_permits(self, asset: Address) -> None:
        """Wait for the calls that bring a permit of a token to be over."""
        for one in self._spending(asset):
            if getattr(one.call, "permit", False):
                await self._sender.wait(one.id)

    async def _approve(self, asset: Address, channel: ChannelId | None) -> None:
        """Allow what is to be taken of a token, and wait until that is confirmed.

        An approval replaces the one before (EIP-20), so each is for everything that calls of ours are yet to take. What
        is mined in between only leaves some of it over, for the adjudicator alone.
        Some tokens (USDT) change no allowance that is not 0. So one that may be left over is taken back to 0 before.
        Both are taken on at once, with nonces that follow each other: no call of ours comes in between.
        """
        left = await self._node.chain.allowance(asset, self._address)
        waiting = [one.call for one in self._sender.obligations() if not one.is_final]
        takes = [moved_by(call) for call in waiting if isinstance(call, OpenCall | DepositCall)]
        allowed = self._allowing[asset] + sum(taken for token, taken in takes if token == asset)
        approving = any(isinstance(call, ApproveCall) and call.asset == asset for call in waiting)
        amounts = (0, allowed) if left or approving else (allowed,)
        prepared = [self.prepare("approve", ApproveCall(asset, each), channel) for each in amounts]
        await self._node.engine.writer.commit([moment for _, moments in prepared for moment in moments])
        for identifier, _ in prepared[:-1]:
            await self._sender.wait(identifier)  # some tokens refuse 0: what counts is that the last one is taken
        await self.outcome(prepared[-1][0])

    async def transact(self, name: str, call: Call, channel: ChannelId | None = None) -> None:
        """Get a call onto the chain and wait until it is confirmed; raise TallystickError if it fails."""
        await self.outcome(await self.take_on(name, call, channel))

    async def take_on(self, name: str, call: Call, channel: ChannelId | None = None) -> str:
        """Store that a call has to get onto the chain; return the obligation's id, for `outcome`."""
        identifier, moments = self.prepare(name, call, channel)
        await self._node.engine.writer.commit(moments)
        return identifier

    def prepare(
        self, name: str, call: Call, channel: ChannelId | None = None, brings: int = 0
    ) -> tuple[str, Sequence[Moment]]:
        """Take a call on as an obligation; return its id and what to commit. `brings`: what it brings in."""
        identifier = f"{name}:{self._node.rng.getrandbits(64):016x}"
        asset, moved = moved_by(call)
        price = self._market.price
        fee = None if price is None else self._market.tariff.fee(call, price + 1)
        budget = duty_budget(asset, max(moved, brings), fee, self._node.policy)
        obligation = Obligation(id=identifier, call=call, purpose=name, budget=budget, channel=channel)
        return identifier, self._sender.require(obligation)

    async def outcome(self, identifier: str) -> None:
        """Wait for an obligation; raise TallystickError with the reason if it was not done."""
        done = await self._sender.wait(identifier)
        if done.status is not ObligationStatus.DONE:
            raise TallystickError(f"the chain refused the {done.purpose}: {done.reason or done.trouble}")

    async def owed(self) -> dict[Address, int]:
        """Return what the contract owes the account, of the coin and of each asset of its channels that it owes.

        Of others' tokens anybody could make it owe any account something, so that they are not asked for.
        """
        assets = sorted({NATIVE, *(channel.terms.asset for channel in self._node.views.channels)})
        found = {asset: await self._node.chain.owed(asset, self._address) for asset in assets}
        return {asset: amount for asset, amount in found.items() if amount}

    async def claim(self, asset: Address, to: Address) -> int:
        """Get all that the contract owes the account of an asset to `to`; return how much, once it is confirmed.

        Raise as `take_on_claim`, or TallystickError if the chain, the token or `to` refuses: it is owed as before then.
        """
        identifier, owed = await self.take_on_claim(asset, to)
        await self.outcome(identifier)
        return owed

    async def take_on_claim(self, asset: Address, to: Address) -> tuple[str, int]:
        """Store that all that is owed of an asset has to be claimed; return the obligation's id, and how much it is.

        What the account claims by itself just now is waited for, or is what is returned if it goes to `to`, too. Raise
        InvalidInput, InsufficientFunds (nothing is owed, or the fee is not there) or ChainUnavailable.
        """
        if to in (NATIVE, self._node.chain.contract, asset):
            raise InvalidInput(f"at 0x{to.hex()} it would be lost: claim it to an account that somebody has")
        while True:
            before = claim_under_way(self._sender.obligations(), asset)  # it may end while the chain is asked
            owed = await self._node.chain.owed(asset, self._address)
            if not owed:
                raise InsufficientFunds(f"the contract owes account 0x{self._address.hex()} nothing of {_named(asset)}")
            await self.require_balance(0, NATIVE, ClaimCall)
            under_way = before or claim_under_way(self._sender.obligations(), asset)
            if under_way is None:
                break
            if under_way.duty is None:
                raise InvalidInput("a claim of that is under way: wait for it")
            if under_way.call == ClaimCall(asset, to):
                return under_way.id, owed
            await self._sender.wait(under_way.id)
        identifier, moments = self.prepare("claim", ClaimCall(asset, to), brings=owed)
        await self._node.engine.writer.commit(moments)
        return identifier, owed

    def on_step(self, step: Step) -> None:
        """Take note of a block in which the contract came to owe the account something, or paid it."""
        if isinstance(step, BlockAdded) and any(
            isinstance(event, AccountEvent) and event.account == self._address for event in step.block.events
        ):
            self._owing.set()

    async def watch_owed(self) -> None:
        """Tell, for ever, when the contract owes the account something; raise nothing."""
        owings, pause = Owings(), 0.0
        while True:
            self._owing = trio.Event()
            try:
                owings, alarms = owings.look(await self.owed() if self._node.views.channels else {})
            except (ChainError, ChainUnavailable):  # that has alarms of its own
                pause = LOOK_EVERY
            else:
                pause = min(owings.pause, CLAIM_EVERY if owings.told else math.inf)
                for alarm in alarms:
                    self._node.alarm(alarm)
                with contextlib.suppress(ChainError, ChainUnavailable, InvalidInput):
                    await self._claim_owed(owings.told)
            with trio.move_on_after(pause):
                await self._owing.wait()

    async def _claim_owed(self, owed: Mapping[Address, int]) -> None:
        """Take on to claim what was told twice to be owed, where that is due (`owed_claims`)."""
        price = self._market.price
        for asset, amount in owed.items():
            if claim_under_way(self._sender.obligations(), asset) is not None:
                continue
            call, head = ClaimCall(asset, self._address), (await self._node.chain.head()).number
            fee = None if price is None else self._market.tariff.fee(call, price + 1)
            due = claim_owed(
                self._sender.find,
                asset,
                amount,
                self._address,
                head=head,
                pace=self._sender.policy.pace,
                fee=fee,
                policy=self._node.policy,
            )
            if due is None or (await self._node.chain.charge(self._address, call)).fails:
                continue
            if claim_under_way(self._sender.obligations(), asset) is None:  # its user may have asked for it meanwhile
                await self._node.engine.writer.commit(self._sender.require(due))

    def is_opening(self, channel: ChannelId) -> bool:
        """Whether this node is on its way to the chain with that very channel."""
        return any(not opening.is_final for opening in self._openings(channel))

    def opening_failed(self, channel: ChannelId) -> bool | None:
        """Whether all that this node did to open that channel has come to nothing; None if it did nothing of late."""
        tried = self._openings(channel)
        if not tried:
            return None
        given_up = (ObligationStatus.SUPERSEDED, ObligationStatus.QUARANTINED)
        return all(
            one.status in given_up and (one.receipt is not None or one.nonce is None or one.resting) for one in tried
        )

    def _openings(self, channel: ChannelId) -> list[Obligation]:
        found = self._sender.obligations()
        return [one for one in found if one.channel == channel and isinstance(one.call, OpenCall)]

    async def watch_fees(self) -> None:
        """Tell, for ever, when the account holds less than what may be due costs; raise nothing."""
        account = FeeAccount(self._address)
        while True:
            market = self._market
            need = fee_need(self._node.views.channels, market.price, market.tariff, self._node.policy)
            with contextlib.suppress(ChainError, ChainUnavailable):  # that has alarms of its own
                held = await self._node.chain.balance(self._address, NATIVE)
                account, alarm = account.look(FundsAndDuties(held, need))
                if alarm is not None:
                    self._node.alarm(alarm)
            await trio.sleep(account.pause)


def _named(asset: Address) -> str:
    """Return what an asset is called in a sentence."""
    return "the chain's own coin" if asset == NATIVE else f"the token 0x{asset.hex()}, if there is such a token"
