"""A maker: a node of one owner on each of several chains, which carries payments across at its rates, without risk.

    maker = Maker([on_one_chain, on_another], store)
    maker.set_rate(Rate(source=…, target=…, take=3, give=2))
    text = await maker.cross(invoice)    # of a payee on the target; who pays the text on the source has it paid there
    await maker.run()                    # until cancelled; after a crash, it goes on from what is on the disks

What is paid on the source is held there until the payee on the target has been paid, under the same hash: the secret
that this brings opens what is held (`carrying`). So it is made on both or on neither. Nothing is kept of a crossing
besides what the nodes keep, and the word that was given (`crossings`), so that it may be begun anew after any crash.

Source and target may be two assets of one chain, or of two; any node serves as either. The times that this takes follow
from what each chain may do (`margins`); a node that gives itself less is refused as a source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Entropy, system_entropy
from tallystick.channels.protocol.objects import Address, Amount
from tallystick.channels.storage.store import Store
from tallystick.channels.values.arguments import checked
from tallystick.router.gossip.markets import OFFERS_MAX, MarketOffer
from tallystick.router.invoices.invoice import LOCK_LIFE_MAX, Invoice, decode_invoice
from tallystick.router.network.paying import LOCK_SPARE
from tallystick.router.receiving.issued import InvoiceState
from tallystick.router.sending.payments import find_payment
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.carrying import PAY_SECONDS, Carrier
from tallystick.sdk.chains.crossings import (
    AgreedCrossing,
    CrossingAgreed,
    CrossingEnd,
    CrossingEnded,
    QuoteMade,
    RateSet,
    count_ends,
    find_crossing,
    load_rates,
    open_crossings,
    open_quotes,
)
from tallystick.sdk.chains.margins import ChainRisk, MakerRisk, check_source, claim_seconds, margin, risk_of
from tallystick.sdk.chains.markets import offer_of, told_most
from tallystick.sdk.chains.quotes import Quote, best_amount, sign_quote
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.chains.talks import CrossingGiven, Question, QuoteAsked, QuoteGiven, Reply, Talks
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.standings import Role, WordNoted, find_standing

Registry = tuple[int, Address]

QUOTE_SECONDS = 60
"""How long a quote stands, in the source's chain time: as long as its taker has an option on it for nothing."""

TELL_SECONDS = 30.0
"""How often a maker looks at whether what the network knows of it is still so."""

TAKE_SECONDS = 1_200
"""How long a peer has to pay for what was agreed on, however long the payee's invoice lives: until then it has an
option on the rate, and what it may take is kept free. So long, as makers in a row leave less and less to the next."""

QUOTES_MAX = 4
"""Quotes that one peer may have at a time."""


def source_config(config: Config, chain: ChainRisk) -> Config:
    """Return a node's configuration with as much time as a source on that chain needs: no less than it has already."""
    claim = max(config.payments.patience.claim, 2 * claim_seconds(chain))
    margin = max(config.duties.secret_margin, claim_seconds(chain) + math.ceil(chain.stall))
    replace = msgspec.structs.replace
    payments = replace(config.payments, patience=replace(config.payments.patience, claim=claim))
    return replace(config, payments=payments, duties=replace(config.duties, secret_margin=margin))


def _most_spent(quote: Quote) -> int:
    return quote.most + quote.rate.route_fee(quote.most)


class Maker:
    """Carries payments from node to node of one owner: see the module's docstring."""

    @checked
    def __init__(
        self,
        nodes: Sequence[Node],
        store: Store,
        *,
        risk: MakerRisk | None = None,
        chains: Mapping[Registry, ChainRisk] | None = None,
        entropy: Entropy = system_entropy,
    ) -> None:
        """`store` is of `MAKER_SCHEMA`. `chains` says more of some chains than their figures do, by `registry`.

        Raise InvalidInput if two nodes are on one chain and contract, or the store has rates that these nodes cannot
        serve.
        """
        self._nodes = {(node.chain.chain_id, node.chain.contract): node for node in nodes}
        if len(self._nodes) < len(nodes):
            raise InvalidInput("two of these nodes are on one chain and contract: one of them carries all its assets")
        self._store = store
        self._risk = risk or MakerRisk()
        self._entropy = entropy
        told = dict(chains or {})
        self._chains = {
            registry: told.get(registry) or risk_of(node.chain.figures, node.config.confirmations)
            for registry, node in self._nodes.items()
        }
        self.talks: Mapping[Node, Talks] = {node: Talks(node, partial(self._answer, node)) for node in nodes}
        """By which each node is asked, and asks."""
        self._changed = trio.Event()
        self._rates = {(rate.source, rate.target): rate for rate in load_rates(store)}
        for rate in self._rates.values():
            self._check(rate)

    # --- rates ---------------------------------------------------------------------------------------------------

    @property
    def rates(self) -> list[Rate]:
        """What it asks for now."""
        return [self._rates[pair] for pair in sorted(self._rates)]

    @checked
    def set_rate(self, rate: Rate) -> None:
        """Ask that from now on, durably; what was agreed stays as it is. Raise InvalidInput if no node can serve it."""
        self._check(rate)
        self._store.commit([RateSet(rate.source, rate.target, rate)])
        self._rates[rate.source, rate.target] = rate
        self._changed.set()

    @checked
    def drop_rate(self, source: ChainAsset, target: ChainAsset) -> None:
        """Trade that no more; what was agreed is carried still. Raise InvalidInput if there is no such rate."""
        self._rate(source, target)
        self._store.commit([RateSet(source, target, None)])
        del self._rates[source, target]
        self._changed.set()

    def _check(self, rate: Rate) -> None:
        source, _ = self.node(rate.source), self.node(rate.target)
        config = source.config
        check_source(
            self._chains[rate.source.registry],
            settles_before=config.payments.patience.claim // 2,
            registers_before=config.duties.secret_margin,
        )

    def _rate(self, source: ChainAsset, target: ChainAsset) -> Rate:
        rate = self._rates.get((source, target))
        if rate is None:
            raise InvalidInput(f"this maker takes no {source} for {target}: its owner has set no such rate")
        return rate

    def node(self, place: ChainAsset) -> Node:
        """Return the node that serves an asset; raise InvalidInput if none does."""
        node = self._nodes.get(place.registry)
        if node is None:
            raise InvalidInput(
                f"this maker has no node on chain {place.chain_id} with contract 0x{place.contract.hex()}"
            )
        return node

    def margin(self, source: ChainAsset, target: ChainAsset) -> int:
        """Return by how many seconds the time to settle on the source ends after the locks on the target expire."""
        one = source.registry == target.registry
        chains = self._chains[source.registry], self._chains[target.registry]
        return margin(*chains, self._risk, one_registry=one)

    # --- what it has to give -------------------------------------------------------------------------------------

    def free(self, target: ChainAsset) -> int:
        """Return how much of an asset could be agreed on now: what its channels can send, less what is agreed on."""
        node = self.node(target)
        views = [view for view in node.engine.views if view.payable and view.channel.terms.asset == target.asset]
        agreed = [each for each in open_crossings(self._store) if each.target == target and self._waits(each)]
        quoted = [quote for _, quote in self._quotes() if quote.target == target]
        kept = sum(each.amount + each.fee for each in agreed)
        return sum(view.spendable for view in views) - kept - sum(map(_most_spent, quoted))

    def _quotes(self) -> list[tuple[bytes, Quote]]:
        """Return (peer, quote) of what may yet be taken up."""
        return [
            (peer, quote)
            for peer, quote in open_quotes(self._store)
            if quote.source.registry in self._nodes and self.node(quote.source).engine.chain.now <= quote.until
        ]

    def counts(self) -> tuple[dict[CrossingEnd, int], int, int]:
        """Return how many crossings ended how, and how many crossings and quotes are open."""
        return count_ends(self._store), len(open_crossings(self._store)), len(self._quotes())

    def _waits(self, crossing: AgreedCrossing) -> bool:
        """Whether a crossing may yet be begun: then what it takes is still in the channels."""
        here, there = self.node(crossing.source), self.node(crossing.target)
        begun = find_payment(there.store, crossing.payment_hash)
        if begun is not None:
            return begun.ended is not None and not begun.is_paid
        held = crossing.payment_hash in here.routing.receiving.held_payments
        return held or here.engine.chain.now <= crossing.until + here.config.payments.patience.parts

    # --- quoting -------------------------------------------------------------------------------------------------

    @checked
    def quote(
        self, source: ChainAsset, target: ChainAsset, amount: Amount, *, by_price: bool = False, peer: bytes = b""
    ) -> Quote:
        """Return a signed quote for `amount` of the target (or as much as that `by_price` buys), or what there is.

        What it is for is kept free for QUOTE_SECONDS; each peer may have QUOTES_MAX. Raise InvalidInput.
        """
        rate = self._rate(source, target)
        node = self.node(source)
        if peer and find_standing(node.store, Role.TAKER, peer).is_refused(node.engine.chain.now):
            raise InvalidInput("you let too much lapse of what you agreed to: half of that is forgotten after a day")
        if sum(each == peer for each, _ in self._quotes()) >= QUOTES_MAX:
            raise InvalidInput(f"you have {QUOTES_MAX} quotes already: take one up, or let them lapse")
        wanted = best_amount(rate, amount) if by_price else min(amount, rate.most)
        free = self.free(target)
        most = min(wanted, max(0, free - rate.route_fee(free))) if free > 0 else 0
        if most < rate.least:
            raise InvalidInput(f"no {amount}: from {rate.least} to {min(rate.most, max(0, free))} of {target} now")
        until = node.engine.chain.sure + QUOTE_SECONDS
        quote = sign_quote(rate, node.key, most=most, until=until, nonce=self._entropy(32))
        self._store.commit([QuoteMade(peer, quote, node.engine.chain.sure - QUOTE_SECONDS)])
        return quote

    def _quoted(self, nonce: bytes, source: ChainAsset | None, target: ChainAsset, peer: bytes | None) -> Quote:
        for whose, quote in self._quotes():
            if quote.nonce == nonce and quote.target == target and source in (None, quote.source):
                if peer is not None and whose != peer:
                    raise InvalidInput("this quote was given to somebody else")
                return quote
        raise InvalidInput("there is no such quote (any more): ask for another one")

    async def _answer(self, node: Node, peer: bytes, question: Question) -> Reply:
        """Answer a peer of one of our nodes; raise InvalidInput or InvalidInvoice."""
        if isinstance(question, QuoteAsked):
            source = ChainAsset(node.chain.chain_id, node.chain.contract, question.asset)
            quote = self.quote(source, question.target, question.amount, by_price=question.by_price, peer=peer)
            return QuoteGiven(question.number, (quote,))
        return CrossingGiven(question.number, await self.cross(question.invoice, nonce=question.nonce, peer=peer))

    # --- agreeing ------------------------------------------------------------------------------------------------

    @checked
    async def cross(
        self, text: str, source: ChainAsset | None = None, *, nonce: bytes = b"", peer: bytes | None = None
    ) -> str:
        """Return an invoice of ours on `source`; whoever pays it has the payee's invoice paid. The same text, the same.

        Without `source`, the only asset that a rate takes for what the invoice asks for. `nonce`: of the quote, given
        to `peer`, that it takes up, once. Raise InvalidInvoice or InvalidInput if it cannot be carried.
        """
        wanted = decode_invoice(text)
        target = ChainAsset(wanted.chain_id, wanted.contract, wanted.asset)
        known = find_crossing(self._store, wanted.payment_hash)
        if known is None:
            if nonce:
                quote = self._quoted(nonce, source, target, peer)
                crossing = self._propose(wanted, text, quote.rate, nonce, peer or b"")
            else:
                rate = self._rate(self._only_source(target) if source is None else source, target)
                crossing = self._propose(wanted, text, rate, b"", peer or b"")
            self._store.commit([CrossingAgreed(crossing)])
            known = find_crossing(self._store, wanted.payment_hash)
        if known is None or known.crossing.text != text or source not in (None, known.crossing.source):
            raise InvalidInput("another payment of this hash is carried across already: a hash is paid once")
        return await self._mirror(known.crossing, wanted)

    def _only_source(self, target: ChainAsset) -> ChainAsset:
        sources = [rate.source for rate in self._rates.values() if rate.target == target]
        if len(sources) != 1:
            raise InvalidInput(f"this maker takes {len(sources)} assets for {target}: say which one")
        return sources[0]

    def _propose(self, wanted: Invoice, text: str, rate: Rate, nonce: bytes, peer: bytes) -> AgreedCrossing:
        source, target = rate.source, rate.target
        here, there = self.node(source), self.node(target)
        if not wanted.amount:
            raise InvalidInput("a maker carries amounts that the invoice names: ask the payee for one with an amount")
        if wanted.payee in (bytes(here.key.public), bytes(there.key.public)):
            raise InvalidInput("this invoice is the maker's own")
        price, fee = rate.price(wanted.amount), rate.route_fee(wanted.amount)
        if not nonce and wanted.amount + fee > self.free(target):  # for a quote, it is kept free
            raise InvalidInput(f"this maker has too little of {target} now: try a smaller amount, or later")
        lifetime = wanted.expiry - there.engine.chain.now - PAY_SECONDS
        if lifetime <= 0:
            raise InvalidInput("this invoice ends too soon: ask the payee for a new one")
        if self._lock_life(source, target, wanted) > LOCK_LIFE_MAX:
            raise InvalidInput(f"the payee asks for locks of {wanted.lock_life} seconds, which is too long for a maker")
        now = here.engine.chain.sure
        if peer:
            lifetime = min(lifetime, TAKE_SECONDS)
        return AgreedCrossing(
            payment_hash=wanted.payment_hash,
            source=source,
            target=target,
            text=text,
            amount=wanted.amount,
            price=price,
            fee=fee,
            agreed=now,
            until=now + lifetime,
            nonce=nonce,
            peer=peer,
        )

    def _lock_life(self, source: ChainAsset, target: ChainAsset, wanted: Invoice) -> int:
        """Return how long locks on the source must live for those on the target to end by `margin` before."""
        settles = self.node(source).config.payments.patience.claim // 2
        return settles + self.margin(source, target) + wanted.lock_life + LOCK_SPARE + PAY_SECONDS

    async def _mirror(self, crossing: AgreedCrossing, wanted: Invoice) -> str:
        here, source, target = self.node(crossing.source), crossing.source, crossing.target
        try:
            return here.invoice(crossing.payment_hash).text
        except InvalidInput:
            asked = await here.create_invoice(
                crossing.price,
                wanted.memo,
                lifetime=max(1, crossing.until - here.engine.chain.sure),
                payment_hash=crossing.payment_hash,
                hold=True,
                asset=source.asset,
                lock_life=self._lock_life(source, target, wanted),
            )
            return asked.text

    # --- carrying ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry across what comes, and tell the network at which rates, until cancelled."""
        self._note_ended()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_forever)
            for node in self._nodes.values():
                nursery.start_soon(self._serve, node, nursery)
                nursery.start_soon(self.talks[node].run)

    def offers(self, node: Node) -> tuple[MarketOffer, ...]:
        """Return what the network is told that this maker takes on one of its chains, OFFERS_MAX pairs at most."""
        found = list[MarketOffer]()
        for rate in self.rates:
            if self._nodes[rate.source.registry] is node and (most := told_most(rate, self.free(rate.target))):
                found.append(offer_of(rate, most, self.margin(rate.source, rate.target)))
        return tuple(found[:OFFERS_MAX])

    async def _tell_forever(self) -> None:
        while True:
            self._changed = trio.Event()
            await self._end_lapsed()
            for node in self._nodes.values():
                if node.config.payments.announce:
                    node.routing.gossip.offer(self.offers(node))
            with trio.move_on_after(TELL_SECONDS):
                await self._changed.wait()

    def _note_ended(self) -> None:
        """Note what ended before a crash, of whatever was not noted."""
        ends = {InvoiceState.CLAIMED: CrossingEnd.PAID, InvoiceState.CANCELLED: CrossingEnd.GIVEN_BACK}
        moments = []
        for crossing in open_crossings(self._store):
            here = self._nodes.get(crossing.source.registry)
            known = None if here is None else self._state(here, crossing)
            if known in ends:
                moments.append(CrossingEnded(crossing.payment_hash, ends[known]))
        if moments:
            self._store.commit(moments)

    async def _end_lapsed(self) -> None:
        """End what nobody paid for in time, and note who had agreed to it."""
        for crossing in open_crossings(self._store):
            here, there = self._nodes.get(crossing.source.registry), self._nodes.get(crossing.target.registry)
            if here is None or there is None or self._waits(crossing):
                continue
            if find_payment(there.store, crossing.payment_hash) is None:
                self._store.commit([CrossingEnded(crossing.payment_hash, CrossingEnd.LAPSED)])
                await self._note(here, crossing, kept=False)

    async def _note(self, here: Node, crossing: AgreedCrossing, *, kept: bool) -> None:
        """Note whether who asked for a crossing kept its word."""
        if crossing.peer:
            noted = WordNoted(peer=crossing.peer, role=Role.TAKER, kept=kept, now=here.engine.chain.now)
            await here.engine.writer.commit([noted])

    def _state(self, here: Node, crossing: AgreedCrossing) -> InvoiceState | None:
        try:
            return here.invoice(crossing.payment_hash).state(here.engine.chain.now)
        except InvalidInput:
            return None

    async def _serve(self, here: Node, nursery: trio.Nursery) -> None:
        under_way = set[bytes]()

        def arrived() -> list[bytes]:
            return [each for each in here.routing.receiving.held_payments if each not in under_way]

        async def carry(crossing: AgreedCrossing) -> None:
            carrier = Carrier(here, self.node(crossing.target), crossing)
            try:
                end = await carrier.carry(margin=self.margin(crossing.source, crossing.target), skew=self._risk.skew)
                self._store.commit([CrossingEnded(crossing.payment_hash, end)])
                if end is CrossingEnd.PAID or (end is CrossingEnd.GIVEN_BACK and carrier.refused):
                    await self._note(here, crossing, kept=end is CrossingEnd.PAID)
            finally:
                under_way.discard(crossing.payment_hash)

        strangers = set[bytes]()
        while True:
            await here.until(lambda: bool(set(arrived()) - strangers))
            for digest in arrived():
                known = find_crossing(self._store, digest)
                if known is None or self._nodes.get(known.crossing.source.registry) is not here:
                    strangers.add(digest)
                else:
                    under_way.add(digest)
                    nursery.start_soon(carry, known.crossing)
