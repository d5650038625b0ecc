"""A payer with a node on each of several chains: it pays invoices of one with what it has on another, and swaps.

    wallet = Wallet([on_one_chain, on_another])                   # or makers=[(coin_here, address_on_one_chain), …]
    await wallet.pay(invoice, give=coin_here, most=1_500)         # the payee gets what it asked for
    await wallet.swap(1_000, give=coin_here, get=coin_there, least=600)

Makers are asked for quotes over the links of our node on the chain on which we give (`talks`): those that were named,
or the cheapest of those of which gossip tells (`markets`). The cheapest one that is within `most` gets the payee's
invoice, and its own, for the same hash, is checked against its quote before it is paid. Makers in a row are a way, too:
the invoice that the second one gives is an invoice like any other, which the first one carries. A swap pays invoices of
our own; over several makers it is as many payments, each of them made or not; what was not made is made up by others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction

import msgspec
import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput, MalformedMessage, TallystickError
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.objects import Amount, Total
from tallystick.channels.values.arguments import checked
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.invoices.invoice import Invoice, check_payable, decode_invoice
from tallystick.router.network.paying import PaymentReceipt
from tallystick.router.objects import NodeKey
from tallystick.router.sending.payments import find_payment
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.markets import BookEntry, OrderBook, entries_of
from tallystick.sdk.chains.quotes import Quote, best_amount, verify_quote
from tallystick.sdk.chains.talks import CrossingAsked, CrossingGiven, QuoteAsked, QuoteGiven, Talks
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.standings import Role, TradeStanding, WordNoted, find_standing

SWAP_PARTS_MAX = 8
"""Payments of which one swap is made at most, each time that makers are asked."""

SWAP_ROUNDS = 3
"""How often makers are asked for one swap, the first time included, if some did not keep to their word."""

ASKED_MAX = 8
"""Makers that are asked of all those of which gossip tells: the cheapest."""


_BY_THE_MAKER = (Unpaid.PAYEE_REFUSES, Unpaid.TIMEOUT, Unpaid.EXPIRED)
"""How a payment to a maker ends that does not keep to its word; in a swap, who is paid across are we."""


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
        makers: Sequence[tuple[ChainAsset, PeerAddress]] = (),
        *,
        talks: Mapping[Node, Talks] | None = None,
    ) -> None:
        """`makers`: where each is found, on the chain of an asset that it takes (which one matters not); nobody else is
        asked then. None: those of which gossip tells.

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

    def book(self) -> OrderBook:
        """Return what other makers ask for, by what gossip told our nodes."""
        ours = {bytes(node.key.public) for node in self._nodes.values()}
        return OrderBook(entry for entry in _known_entries(self._nodes.values()) if entry.maker not in ours)

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

        async def ask(key: bytes, addresses: Sequence[PeerAddress]) -> None:
            with suppress(TallystickError):
                await _reach(node, key, addresses)
                offer = await self._ask(node, key, give, get, amount, by_price)
                most, standing = offer.quote.most, self.standing(node, key)
                found.append((standing.factor(node.engine.chain.now) * Fraction(offer.price(most), most), offer))

        async with trio.open_nursery() as nursery:
            for key, addresses in self._whom(node, give, get):
                nursery.start_soon(ask, key, addresses)
        return [offer for _, offer in sorted(found, key=lambda each: (each[0], each[1].maker))]

    def _whom(self, node: Node, give: ChainAsset, get: ChainAsset) -> list[tuple[bytes, list[PeerAddress]]]:
        """Return the keys and addresses of the makers to ask."""
        if self._makers:
            return [(address.key, [address]) for theirs, address in self._makers if theirs is node]
        now, ranked = node.engine.chain.now, list[tuple[Fraction, bytes]]()
        for entry in self.book().entries(give, get):
            standing = self.standing(node, entry.maker)
            if not standing.is_refused(now):
                ranked.append((standing.factor(now) * entry.cost, entry.maker))
        return [(key, _addresses(node, key)) for _, key in sorted(ranked)[:ASKED_MAX]]

    def standing(self, node: Node, maker: bytes) -> TradeStanding:
        """Return how a maker kept its word to that node of ours."""
        return find_standing(node.store, Role.MAKER, maker)

    async def _note(self, node: Node, maker: bytes, *, kept: bool) -> None:
        noted = WordNoted(peer=maker, role=Role.MAKER, kept=kept, now=node.engine.chain.now)
        await node.engine.writer.commit([noted])

    async def _ask(
        self, node: Node, maker: bytes, give: ChainAsset, get: ChainAsset, amount: int, by_price: bool
    ) -> MakerOffer:
        talks = self._talks[node]
        reply = await talks.ask(maker, QuoteAsked(talks.number(), give.asset, get, amount, by_price))
        if not isinstance(reply, QuoteGiven) or len(reply.quotes) != 1:
            raise MalformedMessage("this maker answers without a quote")
        [quote] = reply.quotes
        verify_quote(quote)
        if (quote.key, quote.source, quote.target) != (maker, give, get):
            raise MalformedMessage("this maker quotes something else than it was asked for")
        return MakerOffer(maker, quote)

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
    async def pay(
        self, text: str, *, give: ChainAsset, most: Total, via: Sequence[ChainAsset] | None = None
    ) -> PaymentReceipt:
        """Pay an invoice with what we have of `give`, at most `most` of it with all fees; once, however often called.

        The receipt's amounts are of `give`. `via`: over makers in a row, who pay each other in these assets, on whose
        chains we have nodes, too; empty: over one. None: over one, or as gossip tells that it is cheapest. Raise
        InvalidInvoice, InvalidInput, or PaymentFailed; nothing is under way then.
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
        ways = self._ways(give, get, wanted.amount) if via is None else [tuple(via)]
        why = list[PaymentFailed]()
        for between in ways:
            try:
                return (await self._pay_along(between, give, get, text, most))[1]
            except PaymentFailed as error:  # nothing of it is under way: another way may do
                why.append(error)
        raise why[0]  # of the cheapest way

    def _ways(self, give: ChainAsset, get: ChainAsset, amount: int) -> list[tuple[ChainAsset, ...]]:
        """Return the assets between of the ways to try, the cheapest first; over one maker is always among them."""
        ways = [] if self._makers else [way.between for way in self.book().ways_to(give, get, amount)]
        return ways if () in ways else [*ways, ()]

    async def _pay_along(
        self, between: Sequence[ChainAsset], give: ChainAsset, get: ChainAsset, text: str, most: int
    ) -> tuple[bytes, PaymentReceipt]:
        """Pay over as many makers as that takes; return who was paid, and the receipt."""
        wanted = decode_invoice(text)
        for place in reversed(between):
            text = await self._cheapest(place, get, text, wanted)
            wanted, get = decode_invoice(text), place
        return await self._pay_over(self.node(give), give, get, text, wanted, most)

    async def _cheapest(self, give: ChainAsset, get: ChainAsset, text: str, wanted: Invoice) -> str:
        """Return the invoice of the cheapest maker that takes this on."""
        node, amount = self.node(give), wanted.amount or 0
        why = _none(give, get, amount)
        for offer in await self._offers_of(give, get, amount):
            try:
                return await self._take(node, offer, text, wanted, offer.price(amount))
            except TallystickError as error:
                why = PaymentFailed(f"a maker did not take it on: {error}", Unpaid.NO_ROUTE)
        raise why

    async def _offers_of(self, give: ChainAsset, get: ChainAsset, amount: int) -> list[MakerOffer]:
        return [offer for offer in await self.offers(give, get, amount) if offer.quote.most >= amount]

    async def _pay_over(
        self, node: Node, give: ChainAsset, get: ChainAsset, text: str, wanted: Invoice, most: int
    ) -> tuple[bytes, PaymentReceipt]:
        amount = wanted.amount or 0
        why = _none(give, get, amount)
        for offer in await self._offers_of(give, get, amount):
            try:
                price = offer.price(amount)
                if price > most:
                    raise PaymentFailed(f"the best offer is {price} of {give}, not {most}", Unpaid.FEE_LIMIT)
                mirrored = await self._take(node, offer, text, wanted, price)
                receipt = await node.pay(mirrored, max_fee=most - price)
            except PaymentFailed as error:  # nothing of it is under way: the next maker may do better
                why = error
            except TallystickError as error:
                why = PaymentFailed(f"a maker took it on and did not keep to it: {error}", Unpaid.NO_ROUTE)
            else:  # outside of the above: what is paid is not paid again, even if the note cannot be stored
                await self._note(node, offer.maker, kept=True)
                return offer.maker, receipt
        raise why

    # --- swapping ------------------------------------------------------------------------------------------------

    @checked
    async def swap(self, amount: Amount, *, give: ChainAsset, get: ChainAsset, least: Total = 0) -> Swapped:
        """Give at most `amount` of one asset for another, at least `least` of it by what makers agreed to.

        Over the best makers, as many as it takes, or makers in a row if gossip tells that this brings more; all have
        agreed before any is paid, and each part is made or not. What a maker did not keep to is made up by others, as
        long as all together still come to `least`. Raise InvalidInput if makers offer less than `least`: nothing was
        given then. What was got may be less if makers did not keep to their word.
        """
        ended, unkept, budget = list[SwapPart](), set[bytes](), amount
        for _ in range(SWAP_ROUNDS):
            made = Swapped(tuple(ended))
            try:
                parts = await self._swap_once(budget, give, get, max(0, least - made.got), unkept)
            except InvalidInput:
                if ended:
                    break
                raise
            ended += parts
            failed = [part for part in parts if part.receipt is None]
            unkept |= {part.maker for part in failed}
            budget = min(sum(part.price for part in failed), amount - Swapped(tuple(ended)).given)
            if budget <= 0:
                break
        return Swapped(tuple(ended))

    async def _swap_once(
        self, amount: int, give: ChainAsset, get: ChainAsset, least: int, unkept: Collection[bytes]
    ) -> list[SwapPart]:
        """Let makers but those agree to at least so much, and pay them; raise InvalidInput if nothing was given."""
        payer, offered, left = self.node(give), list[tuple[MakerOffer, int]](), amount
        offers = [one for one in await self.offers(give, get, amount, by_price=True) if one.maker not in unkept]
        for offer in offers[:SWAP_PARTS_MAX]:
            fee = _fee_to(payer, offer.maker, left, give)
            bought = best_amount(offer.quote.rate, left - fee)
            if bought:
                offered.append((offer, bought))
                left -= offer.price(bought) + fee
        over = await self._swap_along(amount, give, get, max(least, 1 + sum(bought for _, bought in offered)), unkept)
        if over is not None:
            return [over]
        _check_enough(offered, least, f"for {amount} of {give} makers offer {{}} of {get} now, and you want {least}")
        return await self._swap_over(offered, amount, give, get, least)

    async def _swap_along(
        self, amount: int, give: ChainAsset, get: ChainAsset, least: int, unkept: Collection[bytes]
    ) -> SwapPart | None:
        """Swap over makers in a row, if that brings at least so much; None if not: nothing was given then."""
        payer, mine = self.node(give), self.node(get)
        for way in [] if self._makers or unkept else self.book().ways_for(give, get, amount):
            first = way.entries[0].maker
            afforded = [
                one
                for one in self.book().ways_for(give, get, amount - _fee_to(payer, first, amount, give))
                if one.between == way.between and one.amount >= least
            ]
            if not way.between or not afforded:
                continue
            bought = afforded[0].amount
            asked = await mine.create_invoice(bought, "swap", asset=get.asset)
            with suppress(PaymentFailed):
                maker, receipt = await self._pay_along(way.between, give, get, asked.text, amount)
                return SwapPart(maker, receipt.amount, bought, receipt)
        return None

    async def _swap_over(
        self, offered: Sequence[tuple[MakerOffer, int]], amount: int, give: ChainAsset, get: ChainAsset, least: int
    ) -> list[SwapPart]:
        """Let makers agree to what they offered, and pay each of them."""
        mine, payer = self.node(get), self.node(give)
        agreed, ended = list[tuple[MakerOffer, int, str]](), list[SwapPart]()
        for offer, bought in offered:
            price = offer.price(bought)
            asked = await mine.create_invoice(bought, "swap", asset=get.asset)
            try:
                text = await self._take(payer, offer, asked.text, decode_invoice(asked.text), price)
            except TallystickError as error:
                ended.append(SwapPart(offer.maker, price, bought, None, str(error)))
                await self._note(payer, offer.maker, kept=False)
            else:
                agreed.append((offer, bought, text))
        parts = [(offer, bought) for offer, bought, _ in agreed]
        _check_enough(parts, least, f"makers agreed to {{}} of {get}, and you want {least}: nothing was given")
        left = amount - sum(offer.price(bought) for offer, bought in parts)  # what ways may cost
        for offer, bought, text in agreed:
            paid, why = None, ""
            try:
                paid = await payer.pay(text, max_fee=left)
                left -= paid.fee
            except TallystickError as error:
                why = str(error)
                if isinstance(error, PaymentFailed) and error.reason in _BY_THE_MAKER:
                    await self._note(payer, offer.maker, kept=False)
            else:
                await self._note(payer, offer.maker, kept=True)
            ended.append(SwapPart(offer.maker, offer.price(bought), bought, paid, why))
        return ended


def _known_entries(nodes: Iterable[Node]) -> Iterator[BookEntry]:
    """Return what the makers that these nodes heard of ask for now."""
    for node in nodes:
        yield from entries_of(node.chain.chain_id, node.chain.contract, node.routing.gossip.markets())


async def _reach(node: Node, key: bytes, addresses: Sequence[PeerAddress]) -> None:
    """Be connected to a maker; raise ChannelNotReady if it is not there, or nobody says where it is."""
    why: TallystickError = ChannelNotReady("nobody says where this maker is to be found")
    for address in addresses:
        if node.engine.is_connected(key):
            return
        try:
            await node.connect(address)
        except TallystickError as error:
            why = error
    if not node.engine.is_connected(key):
        raise why


def _addresses(node: Node, key: bytes) -> list[PeerAddress]:
    """Return where a node says that it is; nothing if it said nothing."""
    found = list[PeerAddress]()
    for place in node.routing.gossip.addresses_of(key):
        with suppress(InvalidInput):
            found.append(PeerAddress.parse(f"{key.hex()}@{place}"))
    return found


def _fee_to(node: Node, maker: bytes, amount: int, asset: ChainAsset) -> int:
    """Return what the way to a maker may cost, of an amount: 0 if there is none, or it is a partner of ours."""
    try:
        return node.routing.paying.estimate(NodeKey(maker), amount, asset=asset.asset).fee
    except TallystickError:
        return 0


def _check_enough(parts: Sequence[tuple[MakerOffer, int]], least: int, text: str) -> None:
    """Raise InvalidInput if that is less than is wanted, or nothing."""
    found = sum(bought for _, bought in parts)
    if found < max(1, least):
        raise InvalidInput(text.format(found))


def _none(give: ChainAsset, get: ChainAsset, amount: int) -> PaymentFailed:
    return PaymentFailed(f"no maker takes {give} for {amount} of {get} now", Unpaid.NO_ROUTE)
