"""The part of the control API's client that asks across chains: pay, swap, be a maker. Assets are ASSET@CHAIN there."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import Amount, Count, Total
from tallystick.channels.values.arguments import checked
from tallystick.sdk.control import chain_views as chains
from tallystick.sdk.control import network_views as network
from tallystick.sdk.control import operations as api
from tallystick.sdk.control.caller import Caller, written
from tallystick.sdk.control.kinds import NATIVE_ASSET


class ChainsClient:
    """See `ControlClient`."""

    def __init__(self, caller: Caller) -> None:
        self._ask, self._ask_late = caller.ask, caller.ask_late

    @checked
    async def pay_across(
        self,
        invoice: str,
        *,
        most: Amount,
        makers: Sequence[str] = (),
        asset: str = NATIVE_ASSET,
        wait: bool = True,
    ) -> network.PaymentInfo | None:
        """Pay an invoice of any chain with at most so much of an asset; None if it was not waited for.

        `asset`: one of the node's, or as ASSET@CHAIN. `makers`: whom to ask; none: those of which gossip tells.
        """
        body = network.PayAcross(invoice, most, tuple(makers), asset if "@" in asset else written(asset), wait)
        return await self._ask_late(api.OfNetwork.pay_across, body)

    @checked
    async def swap(
        self, amount: Amount, *, give: str, get: str, least: Total = 0, makers: Sequence[str] = (), wait: bool = True
    ) -> chains.SwapInfo | None:
        """Give so much of one asset for at least `least` of another; None if it was not waited for.

        `makers`: whom to ask; none: those of which gossip tells. Nothing is given if makers do not agree to `least`;
        a part that fails then is in the answer. Asked again, it is another swap.
        """
        body = chains.Swap(amount, give, get, tuple(makers), least, wait)
        return await self._ask_late(api.OfChains.swap, body)

    @checked
    async def markets(self, give: str = "", get: str = "", *, limit: Count = 10) -> list[chains.MarketInfo]:
        """Return what makers ask for between assets, or for these alone: of each pair the cheapest first."""
        return await self._ask(api.OfChains.markets, chains.MarketsAsked(give, get, limit))

    async def rates(self) -> list[chains.RateInfo]:
        """Return what the node asks for as a maker."""
        return await self._ask(api.OfChains.rates)

    @checked
    async def set_rate(
        self,
        source: str,
        target: str,
        *,
        take: Amount,
        give: Amount,
        base: Total = 0,
        least: Amount = 1,
        most: Amount = AMOUNT_MAX,
        route_base: Total = 0,
        route_ppm: Total = 0,
    ) -> chains.RateInfo:
        """Take `take` units of the source for `give` of the target from now on, as `Rate` says; return the rate."""
        body = chains.RateInfo(source, target, take, give, base, least, most, route_base, route_ppm)
        return await self._ask(api.OfChains.set_rate, body)

    @checked
    async def remove_rate(self, source: str, target: str) -> chains.RatePair:
        """Trade the source for the target no more; what was agreed is carried still."""
        return await self._ask(api.OfChains.remove_rate, chains.RatePair(source, target))

    async def maker(self) -> chains.MakerInfo:
        """Return how the node stands as a maker."""
        return await self._ask(api.OfChains.maker)
