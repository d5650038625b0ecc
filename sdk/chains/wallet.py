"""A payer with a node on each of several chains: it pays invoices of one with what it has on another, and swaps.

    wallet = Wallet([on_one_chain, on_another], makers=[address_on_one_chain, …])
    await wallet.pay(invoice, give=coin_here, most=1_500)         # the payee gets what it asked for
    await wallet.swap(1_000, give=coin_here, get=coin_there, least=600)

Makers are asked for quotes over the links of our node on the chain on which we give (`talks`). The cheapest one that is
within `most` gets the payee's invoice, and its own, for the same hash, is checked against its quote before it is paid.
Two makers in a row are a way, too: the invoice that the second one gives is an invoice like any other, which the first
one carries. A swap pays invoices of our own; over several makers it is as many payments, each of them made or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction

import msgspec
import trio

from tallystick.channels.errors import InvalidInput, MalformedMessage, TallystickError
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.objects import Amount, Total
from tallystick.channels.values.arguments import checked
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.invoices.invoice import Invoice, check_payable, decode_invoice
from tallystick.router.network.paying import PaymentReceipt
from tallystick.router.sending.payments import find_payment
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.quotes import Quote, best_amount, verify_quote
from tallystick.sdk.chains.talks import CrossingAsked, CrossingGiven, QuoteAsked, QuoteGiven, Talks
from tallystick.sdk.node.node import Node

SWAP_PARTS_MAX = 8
"""Payments of which one swap is made at most."""


class MakerOffer(msgspec.Struct, frozen=True):
    """A maker's quote, checked."""

    maker: bytes
    quote: Quote

    def price(self, amount: int) -> int:
        """Return what that much costs; raise InvalidInput."""
        return self.quote.rate.price(amount)


class SwapPart(msgspec.Struct, frozen=True):
    """What one maker was to change of a swap: made as it says, or not at all."""

    maker: bytes
    price: int
    """In what is given."""
    amount: int
    """Of what is got."""
    receipt: PaymentReceipt | None
    """None: it was not made."""
    why: str = ""
    """Why it was not."""


class Swapped(msgspec.Struct, frozen=True):
    """What became of a swap."""

    parts: tuple[SwapPart, ...]

    @property
    def receipts(self) -> tuple[PaymentReceipt, ...]:
        """Of the parts that were made."""
        return tuple(part.receipt for part in self.parts if part.receipt is not None)

    @property
    def given(self) -> int:
        """In all, fees of the way included."""
        return sum(receipt.amount + receipt.fee for receipt in self.receipts)

    @property
    def got(self) -> int:
        """In all."""
        return sum(part.amount for part in self.parts if part.receipt is not None)


class Wallet:
    """Pays and swaps across chains: see the module's docstring."""

    @checked
    def __init__(
        self,
        nodes: Sequence[Node],
        makers: Sequence[tuple[ChainAsset, PeerAddress]],
        *,
        talks: Mapping[Node, Talks] | None = None,
    ) -> None:
        """`makers`: where each is found, on the chain of an asset that it takes (which one matters not).

        `talks`: of these nodes, if a maker or another wallet of the same program asks and answers by them, too.

        Raise InvalidInput if two nodes are on one chain and contract, or a maker is on none of theirs.
        """
        self._nodes = {(node.chain.chain_id, node.chain.contract): node for node in nodes}
        if len(self._nodes) < len(nodes):
            raise InvalidInput("two of these nodes are on one chain and contract: one of them carries all its assets")
        self._talks = talks or {node: Talks(node) for node in nodes}
        self._makers = [(self.node(place), address) for place, address in makers]

    def node(self, place: ChainAsset) -> Node:
        """Return our node where an asset lives; raise InvalidInput if there is none."""
        node = self._nodes.get(place.registry)
        if node is None:
            raise InvalidInput(f"this wallet has no node on chain {place.chain_id} with its contract")
        return node

    # --- offers --------------------------------------------------------------------------------------------------

    @checked
    def learn(self, place: ChainAsset, address: PeerAddress) -> None:
        """Ask that maker, too, from now on: it is found there, on the chain of `place`. Raise InvalidInput."""
        known = (self.node(place), address)
        if known not in self._makers:
            self._makers.append(known)

    @checked
    async def offers(
        self, give: ChainAsset, get: ChainAsset, amount: Amount, *, by_price: bool = False
    ) -> list[MakerOffer]:
        """Ask all makers on the chain of `give` what `amount` of `get` costs; return their offers, the best first.

        `by_price`: `amount` is what may be given. A maker may offer less than was asked for (`MakerOffer.quote.most`).
        Whoever does not answer, or not with what could be right, is left out.
        """
        node, found = self.node(give), list[tuple[Fraction, MakerOffer]]()

        async def ask(address: PeerAddress) -> None:
            with suppress(TallystickError):
                offer = await self._ask(node, address, give, get, amount, by_price)
                most = offer.quote.most
                found.append((Fraction(offer.price(most), most), offer))

        async with trio.open_nursery() as nursery:
            for theirs, address in self._makers:
                if theirs is node:
                    nursery.start_soon(ask, address)
        return [offer for _, offer in sorted(found, key=lambda each: (each[0], each[1].maker))]

    async def _ask(
        self, node: Node, address: PeerAddress, give: ChainAsset, get: ChainAsset, amount: int, by_price: bool
    ) -> MakerOffer:
        if not node.engine.is_connected(address.key):
            await node.connect(address)
        talks = self._talks[node]
        reply = await talks.ask(address.key, QuoteAsked(talks.number(), give.asset, get, amount, by_price))
        if not isinstance(reply, QuoteGiven) or len(reply.quotes) != 1:
            raise MalformedMessage("this maker answers without a quote")
        [quote] = reply.quotes
        verify_quote(quote)
        if (quote.key, quote.source, quote.target) != (address.key, give, get):
            raise MalformedMessage("this maker quotes something else than it was asked for")
        return MakerOffer(address.key, quote)

    async def _take(self, node: Node, offer: MakerOffer, text: str, wanted: Invoice, price: int) -> str:
        """Return the maker's invoice for the payee's, checked against its quote."""
        talks = self._talks[node]
        reply = await talks.ask(offer.maker, CrossingAsked(talks.number(), offer.quote.nonce, text))
        if not isinstance(reply, CrossingGiven):
            raise MalformedMessage("this maker answers without an invoice")
        given = decode_invoice(reply.invoice)
        source = offer.quote.source
        check_payable(
            given,
            chain_id=source.chain_id,
            contract=source.contract,
            assets=(source.asset,),
            now=node.engine.chain.now,
        )
        if (given.payment_hash, given.payee, given.amount) != (wanted.payment_hash, offer.maker, price):
            raise MalformedMessage("this maker asks for another payment than it quoted")
        return reply.invoice

    # --- paying --------------------------------------------------------------------------------------------------

    @checked
    async def pay(self, text: str, *, give: ChainAsset, most: Total, via: ChainAsset | None = None) -> PaymentReceipt:
        """Pay an invoice with what we have of `give`, at most `most` of it with all fees; once, however often called.

        The receipt's amounts are of `give`. `via`: over two makers, the first of which pays in that asset, on whose
        chain we have a node, too. Raise InvalidInvoice, InvalidInput, or PaymentFailed; nothing is under way then.
        """
        wanted = decode_invoice(text)
        node, get = self.node(give), ChainAsset(wanted.chain_id, wanted.contract, wanted.asset)
        known = find_payment(node.store, wanted.payment_hash)
        if known is not None and (known.ended is None or known.is_paid):
            return await node.routing.paying.receipt(wanted.payment_hash)
        if not wanted.amount:
            raise InvalidInput("makers carry amounts that the invoice names: ask the payee for one with an amount")
        if get == give:
            if most < wanted.amount:
                raise InvalidInput(f"the invoice asks for {wanted.amount}, and you give {most} at most")
            return await node.pay(text, max_fee=most - wanted.amount)
        if via is not None:
            between = await self._cheapest(via, get, text, wanted)
            text, wanted, get = between, decode_invoice(between), via
        return await self._pay_over(node, give, get, text, wanted, most)

    async def _cheapest(self, give: ChainAsset, get: ChainAsset, text: str, wanted: Invoice) -> str:
        """Return the invoice of the cheapest maker that takes this on."""
        node, amount = self.node(give), wanted.amount or 0
        why: TallystickError = _none(give, get, amount)
        for offer in await self._offers_of(give, get, amount):
            try:
                return await self._take(node, offer, text, wanted, offer.price(amount))
            except TallystickError as error:
                why = error
        raise why

    async def _offers_of(self, give: ChainAsset, get: ChainAsset, amount: int) -> list[MakerOffer]:
        return [offer for offer in await self.offers(give, get, amount) if offer.quote.most >= amount]

    async def _pay_over(
        self, node: Node, give: ChainAsset, get: ChainAsset, text: str, wanted: Invoice, most: int
    ) -> PaymentReceipt:
        amount = wanted.amount or 0
        why: TallystickError = _none(give, get, amount)
        for offer in await self._offers_of(give, get, amount):
            try:
                price = offer.price(amount)
                if price > most:
                    raise PaymentFailed(f"the best offer is {price} of {give}, not {most}", Unpaid.FEE_LIMIT)
                mirrored = await self._take(node, offer, text, wanted, price)
                return await node.pay(mirrored, max_fee=most - price)
            except PaymentFailed as error:  # nothing of it is under way: the next maker may do better
                why = error
            except TallystickError as error:
                why = PaymentFailed(f"a maker took it on and did not keep to it: {error}", Unpaid.NO_ROUTE)
        raise why

    # --- swapping ------------------------------------------------------------------------------------------------

    @checked
    async def swap(self, amount: Amount, *, give: ChainAsset, get: ChainAsset, least: Total = 0) -> Swapped:
        """Give at most `amount` of one asset for another, at least `least` of it by what makers agreed to.

        Over the best makers, as many as it takes; all have agreed before any is paid, and each part is made or not.
        Raise InvalidInput if that comes to less than `least`: nothing was given then. What was got may be less if a
        maker did not keep to its word.
        """
        mine, payer = self.node(get), self.node(give)
        offered, left = list[tuple[MakerOffer, int]](), amount
        for offer in (await self.offers(give, get, amount, by_price=True))[:SWAP_PARTS_MAX]:
            bought = best_amount(offer.quote.rate, left)
            if bought:
                offered.append((offer, bought))
                left -= offer.price(bought)
        _check_enough(offered, least, f"for {amount} of {give} makers offer {{}} of {get} now, and you want {least}")
        agreed, ended = list[tuple[MakerOffer, int, str]](), list[SwapPart]()
        for offer, bought in offered:
            price = offer.price(bought)
            asked = await mine.create_invoice(bought, "swap", asset=get.asset)
            try:
                text = await self._take(payer, offer, asked.text, decode_invoice(asked.text), price)
            except TallystickError as error:
                ended.append(SwapPart(offer.maker, price, bought, None, str(error)))
            else:
                agreed.append((offer, bought, text))
        parts = [(offer, bought) for offer, bought, _ in agreed]
        _check_enough(parts, least, f"makers agreed to {{}} of {get}, and you want {least}: nothing was given")
        for offer, bought, text in agreed:
            paid, why = None, ""
            try:
                paid = await payer.pay(text, max_fee=left)  # `left` is what ways may cost
                left -= paid.fee
            except TallystickError as error:
                why = str(error)
            ended.append(SwapPart(offer.maker, offer.price(bought), bought, paid, why))
        return Swapped(tuple(ended))


def _check_enough(parts: Sequence[tuple[MakerOffer, int]], least: int, text: str) -> None:
    """Raise InvalidInput if that is less than is wanted, or nothing."""
    found = sum(bought for _, bought in parts)
    if found < max(1, least):
        raise InvalidInput(text.format(found))


def _none(give: ChainAsset, get: ChainAsset, amount: int) -> PaymentFailed:
    return PaymentFailed(f"no maker takes {give} for {amount} of {get} now", Unpaid.NO_ROUTE)
