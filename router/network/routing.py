"""The payment network, as one node takes part in it: pay, be paid, forward, and know the graph.

    router       decides about every lock that comes with an onion (`router.forwarding.service`)
    outgoing     this node's own payments (`router/network/paying.py`)
    receiving    the invoices that others pay
    gossip       tells and hears what channels there are, and what they ask for
    maps         a graph for each asset, drawn by gossip, on which payments find their ways (`asset_graphs`)

Everything is stored before it has consequences, as everywhere; after a restart payments go on by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.alarms import OnAlarm
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.peers import Peers, number_of
from tallystick.channels.ports import Clock, Entropy
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.session.effects import ChannelChanged, Event, PeerConnected
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.writer import Writer
from tallystick.channels.transport.guests import Rank
from tallystick.router.forwarding.admission import Admission
from tallystick.router.forwarding.incoming import IncomingLocks
from tallystick.router.forwarding.policies import Policies
from tallystick.router.forwarding.service import Router, RoutingOptions
from tallystick.router.gossip.core import Gossip
from tallystick.router.gossip.own_announcements import Description
from tallystick.router.gossip.service import GossipService
from tallystick.router.gossip.store import GraphEvent
from tallystick.router.invoices.invoice import Invoice
from tallystick.router.network.adapters import NodeChannels
from tallystick.router.network.asset_graphs import AssetGraphs
from tallystick.router.network.hints import TOLD_TAG, choose_hints
from tallystick.router.network.options import AssetOptions, PaymentOptions
from tallystick.router.network.paying import Paying, PaymentReceipt
from tallystick.router.network.private_channels import PrivateChannels
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.receiving.issued import InvoiceRecord, find_invoice, issue, list_invoices
from tallystick.router.receiving.service import Paid, PaymentHeld, Receiving
from tallystick.router.sending.outgoing import OutgoingPayments
from tallystick.settlement.chain import Chain
from tallystick.settlement.following.follower import BlockAdded, Step

__all__ = ["AssetOptions", "PaymentOptions", "PaymentReceipt", "Routing"]

TICK = 1.0
"""Seconds by which a payment may be given up too late."""

SAVE_SECONDS = 30.0
"""How often what was learned of others' channels is written down."""


_TWICE = "there is an invoice for this payment hash already: a hash is paid once"


class Routing(Paying):
    """See the module's docstring. Made by `Node`."""

    def __init__(
        self,
        *,
        key: PrivateKey,
        engine: Engine,
        writer: Writer,
        chain: Chain,
        peers: Peers,
        options: PaymentOptions,
        forwarding: RoutingOptions,
        clock: Clock,
        steady: Clock,
        entropy: Entropy,
        jitter: Callable[[], float],
        tell: Callable[[Paid | PaymentHeld], None],
        alarm: OnAlarm,
        claim_fee: Callable[[], int],
    ) -> None:
        """`steady` shows at the start what `clock` does; `tell` is told of payments to us after their commits.

        `claim_fee` says below what worth in the native coin a secret is not claimed on chain now; 0: all are claimed.
        """
        self.options = options
        self.channels = NodeChannels(engine)
        self.policies = Policies(self.channels, writer.store, forwarding.policy_in)
        self._key = key
        self._own = NodeKey(bytes(key.public))
        self._engine = engine
        self._writer = writer
        self._chain = chain
        self._peers = peers
        self._clock = clock
        self._steady = steady
        self._entropy = entropy
        self._domain = domain_separator(chain.chain_id, chain.contract)
        self.gossip = GossipService(
            Gossip(key, self._domain, partner=lambda peer: engine.rank(peer) is Rank.PARTNER),
            chain,
            writer,
            clock=clock,
            steady=steady,
            say=peers.say,
            punish=peers.end,
            tell=self._draw,
            jitter=jitter,
        )
        self.private_channels = PrivateChannels(
            key,
            self._domain,
            engine,
            self.policies,
            is_known=self._is_known,
            announced=self.gossip.update_of,
            say=peers.say,
            clock=clock,
            announces=options.announce,
        )
        self.maps = AssetGraphs(
            self._own, engine, writer, self.gossip, self.private_channels, self._domain, options, clock, steady
        )
        admission = Admission(
            self.channels,
            writer.store,
            forwarding.jamming,
            forwarding.exposure,
            named=forwarding.policies,
            fee=claim_fee,
            alarm=alarm,
        )
        self.incoming = IncomingLocks(self.channels, admission, self.private_channels.update_of)
        self.outgoing = OutgoingPayments(
            self.channels,
            self.maps.routes_for,
            store=writer.store,
            record=writer.add,
            clock=clock,
            steady=steady,
            entropy=entropy,
            limits=options.limits_in,
            alarm=alarm,
            inline=False,
        )
        self.receiving = Receiving(
            self.channels,
            self.incoming,
            writer.store,
            patience=options.patience,
            keysend=(NATIVE, *options.assets) if options.keysend else (),
            later=self._later,
            tell=tell,
        )
        self.router = Router(
            key,
            self.channels,
            writer.store,
            forwarding.limits,
            policies=self.policies,
            admission=admission,
            incoming=self.incoming,
            payer=self.outgoing,
            payee=self.receiving,
            alarm=alarm,
            on_ready=self.private_channels.tell,
        )
        engine.keep_locks(self.router)
        peers.extend(self._receive)

    # --- life ----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take in what is on disk. Before the chain is followed."""
        self.maps.load()
        self.gossip.load()
        self.outgoing.load()

    def start(self) -> None:
        """Look again at what was pending, and go on with payments. Once the chain was caught up with."""
        self.router.start()
        for channel in self._engine.views.ids:
            self._announce(channel)
        self.outgoing.resume()

    def describe(self, addresses: tuple[str, ...]) -> None:
        """Let the network know where we are."""
        if self.options.announce:
            with suppress(InvalidInput):  # an address that cannot be announced is of no use to others
                self.gossip.describe(Description(self.options.alias, addresses))

    async def run(self) -> None:
        """Gossip, watch over payments and write down what they teach, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.gossip.run)
            nursery.start_soon(self.outgoing.run)
            nursery.start_soon(self._save_forever)
            while True:
                begun, due = self.outgoing.begun, self.outgoing.on_time()
                with trio.move_on_after(math.inf if due is None else max(TICK, due)):
                    await begun.wait()

    async def _save_forever(self) -> None:
        while True:
            await trio.sleep(SAVE_SECONDS)
            moments = self.maps.news()
            if moments:
                await self._writer.commit(moments)

    def on_event(self, event: Event) -> None:
        """Take in what the engine and the peers tell."""
        if isinstance(event, PeerConnected):
            (self.gossip.on_connected if event.up else self.gossip.on_disconnected)(event.peer)
        elif isinstance(event, ChannelChanged):
            self.maps.on_channel_changed(event.channel)
            self._announce(event.channel)
        else:
            self.outgoing.on_event(event)

    def on_step(self, step: Step) -> None:
        """Take in a block that came or went."""
        if isinstance(step, BlockAdded):
            self.gossip.on_block(step.block.events)
        else:
            self.gossip.on_undone()

    def _receive(self, peer: bytes, frame: bytes) -> Iterator[None] | None:
        """Take a frame of the router's; raise PeerError for what no honest peer sends."""
        if number_of(frame) != TOLD_TAG:
            return self.gossip.receiving(peer, frame)
        channel = self.private_channels.receive(peer, frame)
        if channel is not None:
            self._announce(channel)
        return None

    # --- our own channels ----------------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The graph of the channels in the chain's coin; of other assets: `maps.graph`."""
        return self.maps.graph()

    def _draw(self, event: GraphEvent) -> None:
        self.maps.draw(event)
        self.outgoing.on_graph_changed()

    def _is_known(self, channel: ChannelId, asset: Address) -> bool:
        """Whether the network knows a channel of ours as a way to us."""
        return asset in self.maps and self.maps.graph(asset).get(channel, self._own) is not None

    def _announce(self, channel: ChannelId) -> None:
        view = self._engine.views.get(channel)
        if view is not None and view.channel.phase is Phase.OPEN and self.private_channels.may_announce(channel):
            self.gossip.announce(channel, self.policies.policy_of(channel))

    async def set_policy(self, channel: ChannelId, policy: ForwardingPolicy) -> None:
        """Ask something else for payments over a channel from now on, and tell the network. Raise InvalidInput."""
        self.private_channels.check(channel, policy)  # first: a node that starts says again what is stored
        await self._writer.commit(list(self.policies.set_policy(channel, policy)))
        self._announce(channel)
        self.private_channels.tell(channel)

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
        not know, as far as payers need them. Raise InvalidInput, also if this node has no open channel in the `asset`,
        in which case nobody could pay.
        """
        if asset not in self.maps.usable:
            raise InvalidInput(
                f"this node has no open channel in asset 0x{asset.hex()} that could be paid over: open one first"
            )
        ways = choose_hints(self.private_channels.now(asset), amount) if hints and self.options.hints else ()
        return await self._ask(
            amount, memo, lifetime=lifetime, hold=hold, payment_hash=payment_hash, asset=asset, hints=ways
        )

    async def _ask(
        self,
        amount: int | None,
        memo: str,
        *,
        lifetime: int = 3_600,
        hold: bool = False,
        payment_hash: bytes = b"",
        asset: Address = NATIVE,
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
            asset=asset,
            amount=amount,
            created=self._engine.chain.sure,
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
