"""The payment network, as one node takes part in it: pay, be paid, forward, and know the map.

    router       decides about every lock that comes with an onion (`router.service`)
    outgoing     this node's own payments; `atlas` finds their ways over the graph that gossip draws
    receiving    the invoices that others pay
    gossiper     tells and hears what channels there are, and what they ask for

Everything is stored before it has consequences, as everywhere; after a restart payments go on by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import msgspec
import trio

from tallystick.channels.conditions import SECRET_SIZE, digest_of
from tallystick.channels.core import Phase
from tallystick.channels.effects import ChannelChanged, Event, PeerConnected
from tallystick.channels.eip712 import domain_separator
from tallystick.channels.engine import Engine
from tallystick.channels.errors import InvalidInput
from tallystick.channels.keys import PrivateKey
from tallystick.channels.objects import NATIVE, Address, ChannelId, Lock, check_amount
from tallystick.channels.peers import Peers, number_of
from tallystick.channels.ports import Clock, Entropy
from tallystick.channels.store import Moment
from tallystick.channels.writer import Writer
from tallystick.router.atlas import Atlas, OwnChannel
from tallystick.router.book import EdgeKnown, GraphEvent
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.gossip import Gossip
from tallystick.router.gossiper import Gossiper
from tallystick.router.graph import Graph
from tallystick.router.hints import TOLD_TAG, HintLessons, choose_hints
from tallystick.router.invoice import Invoice, check_payable, decode_invoice
from tallystick.router.invoices import InvoiceRecord, find_invoice, issue, list_invoices
from tallystick.router.liquidity import Knowledge
from tallystick.router.liquidity_schema import load_beliefs, moments_of
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey, Route
from tallystick.router.outgoing import Outgoing
from tallystick.router.payee import Patience
from tallystick.router.payer import Limits
from tallystick.router.payments import Kind, Order, PaymentRecord, find_payment, list_payments
from tallystick.router.planner import Planner
from tallystick.router.receiving import Paid, PaymentHeld, Receiving
from tallystick.router.service import Router
from tallystick.router.voice import Description
from tallystick.sdk.inlets import Inlets, capacity_of
from tallystick.settlement.chain import Chain
from tallystick.settlement.follower import BlockAdded, Step

TICK = 1.0
"""Seconds by which a payment may be given up too late."""

SAVE_SECONDS = 30.0
"""How often what was learned of others' channels is written down."""


REBALANCING = "rebalancing"
"""The memo of payments to ourselves."""

_TWICE = "there is an invoice for this payment hash already: a hash is paid once"


class PaymentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a node pays and is paid. Times in seconds."""

    keysend: bool = True
    """Whether to take payments that have no invoice."""
    announce: bool = True
    """Whether to tell the network of our channels, so that it can pay through us and to us."""
    hints: bool = True
    """Whether invoices name channels that gossip does not know (and thus our peers there): without, only who knows of
    them otherwise can pay."""
    alias: str = ""
    patience: Patience = Patience()
    limits: Limits = Limits()
    lock_seconds: int = 3_600
    """How long the locks of a payment live."""
    fee_percent: int = 5
    """The most that a payment may cost, where its payer says nothing else (and a few units, for small ones)."""
    timeout: float = 60.0
    """How long a payment is tried, where its payer says nothing else."""
    compiled: bool = False
    """Whether to search paths with numba (`tallystick[fast]`)."""


class PaymentReceipt(msgspec.Struct, frozen=True):
    """A payment that was made: whoever has `secret` for an invoice proves that it was paid."""

    payment_hash: bytes
    secret: bytes
    amount: int
    fee: int


class Routing:
    """See the module's docstring. Made by `Node`."""

    def __init__(
        self,
        *,
        key: PrivateKey,
        engine: Engine,
        writer: Writer,
        chain: Chain,
        router: Router,
        peers: Peers,
        options: PaymentOptions,
        clock: Clock,
        entropy: Entropy,
        jitter: Callable[[], float],
        tell: Callable[[Paid | PaymentHeld], None],
    ) -> None:
        self.options = options
        self.router = router
        self._key = key
        self._own = NodeKey(bytes(key.public))
        self._engine = engine
        self._writer = writer
        self._chain = chain
        self._peers = peers
        self._clock = clock
        self._entropy = entropy
        self._domain = domain_separator(chain.chain_id, chain.contract)
        self.graph = Graph(compiled=options.compiled)
        self.knowledge = Knowledge(self.graph)
        self.atlas = Atlas(
            self._own, Planner(self.graph, self.knowledge), engine.take_stirred, self._own_channel, self._learn
        )
        self.gossiper = Gossiper(
            Gossip(key, self._domain),
            chain,
            writer,
            clock=clock,
            say=peers.say,
            punish=peers.end,
            tell=self._draw,
            jitter=jitter,
        )
        self.outgoing = Outgoing(
            _Locks(engine, router),
            self.atlas.map_for,
            store=writer.store,
            record=writer.add,
            clock=clock,
            entropy=entropy,
            limits=options.limits,
            inline=False,
        )
        self.receiving = Receiving(
            _Door(engine, router),
            writer.store,
            patience=options.patience,
            keysend=options.keysend,
            later=self._later,
            tell=tell,
        )
        router.payer, router.payee = self.outgoing, self.receiving
        self._lessons = HintLessons(self.graph, self._domain)
        self.inlets = Inlets(
            key,
            self._domain,
            engine,
            router,
            is_known=lambda channel: self.graph.get(channel, self._own) is not None,
            announced=self.gossiper.update_of,
            say=peers.say,
            clock=clock,
        )
        router.update_of = self.inlets.update_of
        router.on_ready = self.inlets.tell
        peers.extend(self._receive)

    # --- life ----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take in what is on disk. Before the chain is followed."""
        self.knowledge.restore(load_beliefs(self._writer.store))
        self.gossiper.load()
        self.outgoing.load()

    def start(self) -> None:
        """Go on with payments. Once the chain was caught up with."""
        for channel in self._engine.sessions:
            self._announce(channel)
        self.outgoing.resume()

    def describe(self, addresses: tuple[str, ...]) -> None:
        """Let the network know where we are."""
        if self.options.announce:
            with suppress(InvalidInput):  # an address that cannot be announced is of no use to others
                self.gossiper.describe(Description(self.options.alias, addresses))

    async def run(self) -> None:
        """Gossip, watch over payments and write down what they teach, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.gossiper.run)
            nursery.start_soon(self.outgoing.run)
            nursery.start_soon(self._save_forever)
            while True:
                begun, due = self.outgoing.begun, self.outgoing.on_time()
                with trio.move_on_after(math.inf if due is None else max(TICK, due - self._clock())):
                    await begun.wait()

    async def _save_forever(self) -> None:
        while True:
            await trio.sleep(SAVE_SECONDS)
            moments = moments_of(self.knowledge.changes())
            if moments:
                await self._writer.commit(moments)

    def on_event(self, event: Event) -> None:
        """Take in what the engine and the peers tell."""
        if isinstance(event, PeerConnected):
            (self.gossiper.connected if event.up else self.gossiper.disconnected)(event.peer)
        elif isinstance(event, ChannelChanged):
            self._announce(event.channel)
        else:
            self.outgoing.on_event(event)

    def on_step(self, step: Step) -> None:
        """Take in a block that came or went."""
        if isinstance(step, BlockAdded):
            self.gossiper.on_block(step.block.events)
        else:
            self.gossiper.on_undone()

    def _receive(self, peer: bytes, frame: bytes) -> None:
        """Take a frame of the router's; raise PeerError for what no honest peer sends."""
        (self.inlets.receive if number_of(frame) == TOLD_TAG else self.gossiper.receive)(peer, frame)

    # --- the map -------------------------------------------------------------------------------------------------

    def _draw(self, event: GraphEvent) -> None:
        if isinstance(event, EdgeKnown):
            self.graph.put(event.edge)
        else:
            self.graph.drop(event.channel)

    def _learn(self, update: bytes) -> bool:
        """Take in the channel update of a failure, for the very next plan already."""
        found = self.gossiper.learn(update)
        if found is None:
            return self._lessons.learn(update, self._clock())
        for slot in self.graph.slots_of(found.channel):
            edge = self.graph.edge(slot)
            if edge.source == found.key:
                self.graph.revise(msgspec.structs.replace(edge, policy=found.policy))
        return True

    def _own_channel(self, channel: ChannelId) -> OwnChannel | None:
        session = self._engine.sessions.get(channel)
        if session is None or session.channel.phase is not Phase.OPEN or session.channel.terms.asset != NATIVE:
            return None
        return OwnChannel(
            channel,
            NodeKey(session.channel.peer_key),
            session.channel.terms.asset,
            capacity_of(session.channel),
            session.spendable if session.usable and session.payable and session.lock_slots > 0 else 0,
            self.inlets.asked(channel),
        )

    def _announce(self, channel: ChannelId) -> None:
        session = self._engine.sessions.get(channel)
        if self.options.announce and session is not None and session.channel.phase is Phase.OPEN:
            self.gossiper.announce(channel, self.router.policy_of(channel))

    async def set_policy(self, channel: ChannelId, policy: ForwardingPolicy) -> None:
        """Ask something else for payments over a channel from now on, and tell the network. Raise InvalidInput."""
        self.inlets.check(channel, policy)  # before it is stored, as a node that starts says again what is stored
        await self._writer.commit(list(self.router.set_policy(channel, policy)))
        self._announce(channel)
        self.inlets.tell(channel)

    def _later(self, then: Callable[[], None]) -> None:
        self._writer.add((), then)

    # --- being paid ----------------------------------------------------------------------------------------------

    async def create_invoice(
        self,
        amount: int | None = None,
        memo: str = "",
        *,
        lifetime: int = 3_600,
        hold: bool = False,
        payment_hash: bytes = b"",
        asset: Address = NATIVE,
        hints: bool = True,
    ) -> InvoiceRecord:
        """Ask for a payment; return the invoice, its `text` being for the payer. Times are chain time.

        `hold`: when it is paid, it waits for `settle_invoice` or `cancel_invoice`. With a `payment_hash`, whoever gave
        it knows the secret, and it is held in any case. `hints`: whether it may name channels of ours that gossip does
        not know, as far as payers need them. Raise InvalidInput.
        """
        if asset != NATIVE:
            raise InvalidInput("the payment network carries the native asset only; pay in other ones over a channel")
        ways = choose_hints(self.inlets.now(), amount) if hints and self.options.hints else ()
        return await self._ask(amount, memo, lifetime=lifetime, hold=hold, payment_hash=payment_hash, hints=ways)

    async def _ask(
        self,
        amount: int | None,
        memo: str,
        *,
        lifetime: int = 3_600,
        hold: bool = False,
        payment_hash: bytes = b"",
        hints: tuple[Edge, ...] = (),
        own: bool = False,
    ) -> InvoiceRecord:
        secret = b"" if payment_hash else self._entropy(32)
        invoice = Invoice(
            payee=self._own,
            payment_hash=payment_hash or digest_of(secret),
            payment_secret=self._entropy(32),
            chain_id=self._chain.chain_id,
            contract=self._chain.contract,
            amount=amount,
            created=self._engine.chain.now,
            lifetime=lifetime,
            lock_life=self.options.patience.claim,
            memo=memo,
            hints=hints,
        )
        if find_invoice(self._writer.store, invoice.payment_hash) is not None:
            raise InvalidInput(_TWICE)
        issued = issue(invoice, self._key, secret, hold=hold or not secret, own=own)
        await self._writer.commit([issued])
        record = self.invoice(invoice.payment_hash)
        if record.text != issued.text:  # somebody else was faster, since we looked
            raise InvalidInput(_TWICE)
        return record

    def invoice(self, payment_hash: bytes) -> InvoiceRecord:
        """Return one invoice of ours; raise InvalidInput if it is unknown."""
        record = find_invoice(self._writer.store, payment_hash)
        if record is None:
            raise InvalidInput("this node has no invoice of that payment hash; `tally invoice list` shows all")
        return record

    def invoices(self, limit: int = 100, before: int | None = None) -> list[InvoiceRecord]:
        """Return invoices and payments without one, newest first."""
        return list_invoices(self._writer.store, limit, before)

    async def settle_invoice(self, secret: bytes) -> None:
        """Take a held payment, the secret of whose invoice this is; once, however often this is called.

        Raise InvalidInput if none is held, or ChannelNotReady while our view of the chain is old.
        """
        await self._commit(self.receiving.settle(secret))

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        """Refuse what has come for an invoice, and take nothing more; once, however often this is called.

        Raise InvalidInput if it was claimed.
        """
        await self._commit(self.receiving.cancel(payment_hash))

    async def _commit(self, moments: list[Moment]) -> None:
        """Store moments in the very commit of what was just done to locks."""
        self._engine.store(moments)
        await self._engine.durable()

    # --- paying --------------------------------------------------------------------------------------------------

    async def pay(
        self,
        invoice: str | Invoice,
        *,
        amount: int | None = None,
        max_fee: int | None = None,
        timeout: float | None = None,
    ) -> PaymentReceipt:
        """Pay an invoice and return the receipt, trying ways and parts until it is paid, impossible or too dear.

        An invoice is paid once, however often this is called and whatever crashes in between: a further call waits for
        the payment that is on its way, or returns its receipt. Raise InvalidInvoice, InvalidInput, or PaymentFailed,
        which says why; nothing is under way then. If it is cancelled, the payment goes on.
        """
        wanted = decode_invoice(invoice) if isinstance(invoice, str) else invoice
        known = find_payment(self._writer.store, wanted.payment_hash)
        begun = self.outgoing.order_of(wanted.payment_hash) is not None  # which may not be stored yet
        if not begun and (known is None or (known.ended is not None and not known.paid)):
            worth = check_payable(
                wanted,
                chain_id=self._chain.chain_id,
                contract=self._chain.contract,
                assets=(NATIVE,),
                now=self._engine.chain.now,
                amount=amount,
            )
            self._begin(
                Order(
                    payment_hash=wanted.payment_hash,
                    target=wanted.payee,
                    amount=worth,
                    max_fee=self._max_fee(worth, max_fee),
                    payment_secret=wanted.payment_secret,
                    metadata=wanted.metadata,
                    hints=wanted.hints,
                    lock_seconds=max(self.options.lock_seconds, wanted.lock_life + 600),
                    gives_up=self._until(timeout),
                    invoice=invoice if isinstance(invoice, str) else "",
                    memo=wanted.memo,
                    created=self._clock(),
                    parts=wanted.takes_parts,
                )
            )
        return await self.receipt(wanted.payment_hash)

    async def keysend(
        self,
        to: NodeKey,
        amount: int,
        *,
        max_fee: int | None = None,
        timeout: float | None = None,
        secret: bytes = b"",
    ) -> PaymentReceipt:
        """Pay a node that gave no invoice; return the receipt. Raise InvalidInput or PaymentFailed.

        What a `secret` (32 random bytes) opens is paid once, as with an invoice; left out, it is a new one.
        """
        check_amount(amount, minimum=1)
        if secret:
            if len(secret) != SECRET_SIZE:
                raise InvalidInput(f"the secret of a payment has {SECRET_SIZE} bytes, not {len(secret)}")
            known = find_payment(self._writer.store, digest_of(secret))
            begun = self.outgoing.order_of(digest_of(secret))
            before = begun or (known.order if known is not None else None)
            if before is not None and (before.target, before.amount) != (to, amount):
                raise InvalidInput("this secret has paid somebody else, or another amount: take a new one")
            if begun is not None or (known is not None and (known.ended is None or known.paid)):
                return await self.receipt(digest_of(secret))
        secret = secret or self._entropy(SECRET_SIZE)
        order = Order(
            payment_hash=digest_of(secret),
            target=to,
            amount=amount,
            max_fee=self._max_fee(amount, max_fee),
            payment_secret=self._entropy(32),
            keysend=secret,
            lock_seconds=self.options.lock_seconds,
            gives_up=self._until(timeout),
            created=self._clock(),
            kind=Kind.KEYSEND,
        )
        self._begin(order)
        return await self.receipt(order.payment_hash)

    async def rebalance(
        self, out: ChannelId, back: ChannelId, amount: int, *, max_fee: int | None = None, timeout: float | None = None
    ) -> PaymentReceipt:
        """Pay ourselves: `amount` goes out over one channel of ours and comes back over another, less the fee."""
        for channel in (out, back):
            self._engine.session(channel)
        if out == back:
            raise InvalidInput("name two channels: one to send from, one to receive in")
        check_amount(amount, minimum=1)
        record = await self._ask(amount, REBALANCING, own=True)
        order = Order(
            payment_hash=record.payment_hash,
            target=self._own,
            amount=amount,
            max_fee=self._max_fee(amount, max_fee),
            payment_secret=record.payment_secret,
            lock_seconds=self.options.lock_seconds,
            gives_up=self._until(timeout),
            memo=REBALANCING,
            created=self._clock(),
            first_channel=out,
            last_channel=back,
            kind=Kind.REBALANCE,
        )
        self.outgoing.begin(order)
        return await self.receipt(order.payment_hash)

    async def probe(self, to: NodeKey, amount: int, *, timeout: float | None = None) -> Route:
        """Find out by trying whether `amount` could be paid now; return the way. Nothing is paid.

        Raise PaymentFailed if it could not.
        """
        order = Order(
            payment_hash=self._entropy(32),
            target=to,
            amount=amount,
            max_fee=self._max_fee(amount, None),
            payment_secret=self._entropy(32),
            lock_seconds=self.options.lock_seconds,
            gives_up=self._until(timeout),
            created=self._clock(),
            kind=Kind.PROBE,
        )
        self._begin(order)
        record = await self.outgoing.ended(order.payment_hash)
        if record.reason is not Unpaid.PAYEE_REFUSES:
            raise _failed(record)
        return self.estimate(to, amount)

    def estimate(self, to: NodeKey, amount: int) -> Route:
        """Return the way that a payment would try first; its `fee` is an estimate. Raise NoRoute."""
        check_amount(amount, minimum=1)
        return self.atlas.estimate(to, amount, now=self._clock())

    async def receipt(self, payment_hash: bytes) -> PaymentReceipt:
        """Wait for a payment; return its receipt or raise PaymentFailed; InvalidInput if there is no such payment."""
        record = await self.outgoing.ended(payment_hash)
        if not record.paid:
            raise _failed(record)
        return PaymentReceipt(payment_hash, record.secret, record.order.amount, record.fee)

    def payments(
        self, limit: int = 100, before: int | None = None, *, probes: bool = False
    ) -> list[tuple[int, PaymentRecord]]:
        """Return this node's payments, newest first, each with its position; with its probes, if asked for."""
        return list_payments(self._writer.store, limit, before, probes=probes)

    def _begin(self, order: Order) -> None:
        if order.target == self._own:
            raise InvalidInput("this invoice is this node's own: paying oneself is `rebalance`")
        self.outgoing.begin(order)

    def _max_fee(self, amount: int, max_fee: int | None) -> int:
        if max_fee is not None:
            return check_amount(max_fee, "max_fee")
        return amount * self.options.fee_percent // 100 + 5

    def _until(self, timeout: float | None) -> float:
        return self._clock() + (self.options.timeout if timeout is None else timeout)


def _failed(record: PaymentRecord) -> PaymentFailed:
    return PaymentFailed(record.text, record.reason or Unpaid.NO_ROUTE)


class _Locks:
    """Our own locks, for `Outgoing`."""

    def __init__(self, engine: Engine, router: Router) -> None:
        self._engine = engine
        self._router = router

    @property
    def now(self) -> int:
        return self._engine.chain.now

    @property
    def ready(self) -> bool:
        return all(session.ready for session in self._engine.sessions.values() if session.payable)

    def add(
        self,
        channel: ChannelId,
        amount: int,
        expiry: int,
        condition: bytes,
        onion: bytes,
        part: Callable[[int], Moment],
    ) -> int:
        attach = part(self._router.next_lock(channel))
        return self._router.send_lock(channel, amount, expiry, condition, onion, attach)

    def give_up(self, channel: ChannelId, lock: int) -> None:
        session = self._engine.session(channel)
        if lock >= session.channel.newest.next_lock:
            session.locks.drop_accompanied()
            self._engine.touch(session)

    def is_over(self, channel: ChannelId, lock: int) -> bool:
        session = self._engine.session(channel)
        state = session.channel
        if state.phase is Phase.GONE:
            return True
        if lock >= state.newest.next_lock:
            return False
        if any(end.lock.id == lock and end.secret for sent in session.sent for end in sent.ended):
            return False  # we signed that it is paid, and may be held to that
        pending = [held.simplex.lock(lock) for held in (state.ours, *state.flight)]
        return all(found is None or found.expiry < self._engine.chain.final for found in pending)


class _Door:
    """Locks that end here, for `Receiving`."""

    def __init__(self, engine: Engine, router: Router) -> None:
        self._engine = engine
        self._router = router
        self.reveal = router.reveal
        self.refuse = router.refuse

    @property
    def now(self) -> int:
        return self._engine.chain.now

    def registered(self, lock: Lock) -> bytes:
        return self._engine.chain.registered_in_time(lock) or b""

    @property
    def fresh(self) -> bool:
        return self._router.fresh
