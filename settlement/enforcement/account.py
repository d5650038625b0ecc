"""The account of a node on chain: what it holds, whether that is enough, and what the adjudicator may take of it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import trio

from tallystick.channels.errors import InsufficientFunds
from tallystick.channels.node.alarms import OnAlarm
from tallystick.channels.node.views import Views
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.settlement.chain import ApproveCall, Call, Chain
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.fee_needs import fee_need
from tallystick.settlement.enforcement.transactions import Transactions
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.transactions import GAS
from tallystick.settlement.following.market import Market
from tallystick.settlement.sending.fee_account import LOOK_AGAIN, LOOK_EVERY, FeeAccount, FundsAndDuties


class Account:
    """Part of `OnChain`."""

    def __init__(
        self,
        *,
        address: Address,
        chain: Chain,
        views: Views,
        market: Market,
        transactions: Transactions,
        policy: DutyPolicy,
        alarm: OnAlarm,
    ) -> None:
        self._address = address
        self._chain = chain
        self._views = views
        self._market = market
        self._transactions = transactions
        self._policy = policy
        self._alarm = alarm
        self._allowing: Counter[Address] = Counter()
        """What calls that are no obligations yet will take of each token."""

    async def require_balance(self, amount: int, asset: Address, *calls: type[Call]) -> None:
        """Raise InsufficientFunds unless the account holds `amount` on chain, and what these calls cost in fees now."""
        account = f"account 0x{self._address.hex()}"
        held = await self._chain.balance(self._address, asset)
        if amount > held:
            raise InsufficientFunds(f"{account} holds {held} of {_named(asset)}, not {amount}")
        approve = (ApproveCall,) if asset != NATIVE else ()
        price = self._market.price or await self._chain.fee_price()
        fee = sum(GAS[call] for call in (*calls, *approve)) * price
        coins = held - amount if asset == NATIVE else await self._chain.balance(self._address, NATIVE)
        if coins < max(1, fee):
            raise InsufficientFunds(
                f"{account} would have {coins} left for fees, which are about {fee} now: use less, or put coins into it"
            )

    @contextlib.asynccontextmanager
    async def allowance(self, asset: Address, amount: int, channel: ChannelId | None = None) -> AsyncIterator[None]:
        """Allow the adjudicator to take `amount` of a token, for a call that is taken on within the block.

        An approval replaces the one before (EIP-20), so each is for everything that calls of ours are yet to take. What
        is mined in between only leaves some of it over, for the adjudicator alone. The coin needs none. Raise
        TallystickError if the chain refuses.
        """
        self._allowing[asset] += amount
        try:
            if asset != NATIVE:
                await self._transactions.transact(
                    "approve", ApproveCall(asset, self._allowing[asset] + self._transactions.to_take(asset)), channel
                )
            yield
        finally:
            self._allowing[asset] -= amount

    async def watch_fees(self) -> None:
        """Tell, for ever, when the account holds less than what may be due costs; raise nothing."""
        account = FeeAccount(self._address)
        while True:
            need = fee_need(self._views.channels, self._market.price, self._policy)
            with contextlib.suppress(ChainError, ChainUnavailable):  # that has alarms of its own
                held = await self._chain.balance(self._address, NATIVE)
                account, alarm = account.look(FundsAndDuties(held, need))
                if alarm is not None:
                    self._alarm(alarm)
            await trio.sleep(LOOK_AGAIN if account.in_doubt else LOOK_EVERY)


def _named(asset: Address) -> str:
    """Return what an asset is called in a sentence."""
    return "the chain's own coin" if asset == NATIVE else f"the token 0x{asset.hex()}, if there is such a token"
