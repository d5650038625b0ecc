"""How a node pays over several hops: with an invoice, without one, to itself, or just to find out.

An order is stored before anything is planned (`router.sending.outgoing`), and paid once, however often it comes.
"""

from __future__ import annotations

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import SECRET_SIZE, digest_of
from tallystick.channels.protocol.objects import (
    NATIVE,
    Address,
    Amount,
    AnyAddress,
    AnyChannel,
    AnyHash,
    Count,
    MaybeHash,
    Seconds,
    Time,
    Total,
    check_amount,
    to_address,
    to_channel,
    to_hash,
)
from tallystick.channels.values.arguments import checked
from tallystick.channels.values.discretion import Discreet
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.invoices.invoice import Invoice, check_payable, decode_invoice
from tallystick.router.network.asset_graphs import AssetGraphs
from tallystick.router.network.invoicing import Invoicing
from tallystick.router.network.node import LocalNode
from tallystick.router.objects import AnyNode, NodeKey, Route, to_node
from tallystick.router.sending.outgoing import OutgoingPayments
from tallystick.router.sending.payments import Order, PaymentKind, PaymentRecord, find_payment, list_payments

REBALANCING = "rebalancing"
"""The memo of payments to ourselves."""

LOCK_SPARE = 600
"""Seconds by which the locks of a payment live longer than its payee asks for: they take a while to get there."""


class PaymentReceipt(Discreet, msgspec.Struct, frozen=True):
    """A payment that was made: whoever has `secret` for an invoice proves that it was paid."""

    payment_hash: bytes
    secret: bytes
    amount: int
    fee: int
    asset: Address = NATIVE
    """Of both amounts."""


class Paying:
    """The payments that one node makes over several hops: see the module's docstring."""

    def __init__(self, node: LocalNode, graphs: AssetGraphs, outgoing: OutgoingPayments, invoicing: Invoicing) -> None:
        self._node = node
        self._graphs = graphs
        self._outgoing = outgoing
        self._invoicing = invoicing

    @checked
    async def pay(
        self,
        invoice: str | Invoice,
        *,
        amount: Amount | None = None,
        max_fee: Total | None = None,
        timeout: Seconds | None = None,
        expires_by: Time = 0,
    ) -> PaymentReceipt:
        """Pay an invoice once, however often this is called; return the receipt, whose `secret` proves the payment.

        `amount` is needed if the invoice names none. `timeout`: seconds after which nothing more is tried. While
        all ways fail for a moment only (a forwarder starts, our peer is away), it waits for them that long.
        `expires_by`: a chain time that no lock of it outlives; they live no longer than the payee asks for, then. Raise
        InvalidInvoice, InvalidInput, or PaymentFailed, which says why; nothing is under way then. If this is
        cancelled, the payment goes on: call it again to wait for it.
        """
        wanted = decode_invoice(invoice) if isinstance(invoice, str) else invoice
        before = self._before(wanted.payment_hash)
        if before is not None:
            _check_same(before, wanted.payee, amount or wanted.amount, wanted.asset)
        else:
            chain, now, assets = self._node.chain, self._node.channels.chain.now, self._graphs.usable
            worth = check_payable(
                wanted, chain_id=chain.chain_id, contract=chain.contract, assets=assets, now=now, amount=amount
            )
            names = wanted.payment_hash, wanted.payment_secret
            order = self._order(*names, wanted.payee, worth, wanted.asset, max_fee, timeout)
            self._begin(
                msgspec.structs.replace(
                    order,
                    metadata=wanted.metadata,
                    hints=wanted.hints,
                    lock_seconds=max(0 if expires_by else order.lock_seconds, wanted.lock_life + LOCK_SPARE),
                    expires_by=expires_by,
                    invoice=invoice if isinstance(invoice, str) else "",
                    memo=wanted.memo,
                    parts=wanted.takes_parts,
                )
            )
        return await self.receipt(wanted.payment_hash)

    @checked
    async def keysend(
        self,
        to: AnyNode,
        amount: Amount,
        *,
        max_fee: Total | None = None,
        timeout: Seconds | None = None,
        secret: MaybeHash = b"",
        asset: AnyAddress = NATIVE,
    ) -> PaymentReceipt:
        """Pay a node that gave no invoice; return the receipt. It takes assets that its owner named.

        A `secret` of yours (32 random bytes) makes it safe to ask again: what it opens is paid once. Raise InvalidInput
        or PaymentFailed.
        """
        target, token = to_node(to), to_address(asset, "asset")
        if secret:
            before = self._before(digest_of(to_hash(secret, "secret")))
            if before is not None:
                _check_same(before, target, amount, token)
                return await self.receipt(before.payment_hash)
        opens = to_hash(secret, "secret") if secret else self._node.entropy(SECRET_SIZE)
        order = self._order(digest_of(opens), self._node.entropy(32), target, amount, token, max_fee, timeout)
        self._begin(msgspec.structs.replace(order, keysend=opens, kind=PaymentKind.KEYSEND))
        return await self.receipt(order.payment_hash)

    @checked
    async def rebalance(
        self,
        out: AnyChannel,
        back: AnyChannel,
        amount: Amount,
        *,
        max_fee: Total | None = None,
        timeout: Seconds | None = None,
    ) -> PaymentReceipt:
        """Pay ourselves: `amount` comes back over one channel of ours, having gone out over another with the fee."""
        first, last = to_channel(out), to_channel(back)
        asset, other = (self._node.channels.views.channel(channel).terms.asset for channel in (first, last))
        if first == last:
            raise InvalidInput("name two channels: one to send from, one to receive in")
        if asset != other:
            raise InvalidInput("these two channels carry different assets: a payment stays in one")
        self._graphs.of(asset)
        record = await self._invoicing.ask(amount, REBALANCING, asset=asset, own=True)
        names = record.payment_hash, record.payment_secret
        order = self._order(*names, self._node.own, amount, asset, max_fee, timeout)
        way = {"first_channel": first, "last_channel": last}
        self._outgoing.begin(msgspec.structs.replace(order, memo=REBALANCING, kind=PaymentKind.REBALANCE, **way))
        return await self.receipt(order.payment_hash)

    @checked
    async def probe(
        self, to: AnyNode, amount: Amount, *, timeout: Seconds | None = None, asset: AnyAddress = NATIVE
    ) -> Route:
        """Find out by trying whether `amount` could be paid now; return the way, or raise PaymentFailed."""
        target, token = to_node(to), to_address(asset, "asset")
        order = self._order(self._node.entropy(32), self._node.entropy(32), target, amount, token, None, timeout)
        self._begin(msgspec.structs.replace(order, kind=PaymentKind.PROBE))
        record = await self._outgoing.wait_ended(order.payment_hash)
        if record.reason is not Unpaid.PAYEE_REFUSES:
            raise _failed(record)
        return self.estimate(target, amount, asset=token)

    @checked
    def estimate(self, to: AnyNode, amount: Amount, *, asset: AnyAddress = NATIVE) -> Route:
        """Return the way that a payment would try first; its `fee` is an estimate. Raise NoRoute or InvalidInput."""
        graph = self._graphs.of(to_address(asset, "asset"))
        return graph.estimate(to_node(to), amount, now=self._node.steady())

    async def receipt(self, payment_hash: bytes) -> PaymentReceipt:
        """Wait for a payment; return its receipt or raise PaymentFailed; InvalidInput if there is no such payment."""
        record = await self._outgoing.wait_ended(payment_hash)
        if not record.is_paid:
            raise _failed(record)
        return PaymentReceipt(payment_hash, record.secret, record.order.amount, record.fee, record.order.asset)

    @checked
    def payments(
        self, limit: Count = 100, before: Count | None = None, *, probes: bool = False
    ) -> list[tuple[int, PaymentRecord]]:
        """Return this node's payments, newest first, each with its position; `before` goes on from one.

        `order.kind` says what each was for. `probes`: with those that only found out something.
        """
        return list_payments(self._node.channels.disk, limit, before, probes=probes)

    @checked
    def payment(self, payment_hash: AnyHash) -> PaymentRecord:
        """Return one payment of ours; raise InvalidInput if it is unknown."""
        found = find_payment(self._node.channels.disk, to_hash(payment_hash))
        if found is None:
            raise InvalidInput("this node made no payment of that hash; `tally payments` shows all")
        return found

    def _before(self, payment_hash: bytes) -> Order | None:
        """Return the order of a payment that is on its way or was paid; None if it may be (or may again be) begun."""
        begun = self._outgoing.order_of(payment_hash)  # which may not be stored yet
        known = find_payment(self._node.channels.disk, payment_hash)
        if begun is None and known is not None and (known.ended is None or known.is_paid):
            return known.order
        return begun

    def _begin(self, order: Order) -> None:
        if order.target == self._node.own:
            raise InvalidInput("this invoice is this node's own: paying oneself is `rebalance`")
        self._graphs.of(order.asset)
        self._outgoing.begin(order)

    def _order(
        self,
        payment_hash: bytes,
        payment_secret: bytes,
        target: NodeKey,
        amount: int,
        asset: Address,
        max_fee: int | None,
        timeout: float | None,
    ) -> Order:
        """Return what all orders have, by our options where whoever orders says nothing."""
        options, now = self._node.options, self._node.clock()
        return Order(
            payment_hash=payment_hash,
            payment_secret=payment_secret,
            target=target,
            amount=amount,
            max_fee=options.max_fee(amount, asset) if max_fee is None else check_amount(max_fee, "max_fee"),
            asset=asset,
            lock_seconds=options.lock_seconds,
            gives_up=now + (options.timeout if timeout is None else timeout),
            created=now,
        )


def _check_same(order: Order, payee: NodeKey, amount: int | None, asset: Address) -> None:
    """Raise InvalidInput if a payment that was ordered before is not the one that is wanted now."""
    if order.target != payee:
        raise InvalidInput(
            "the payment hash of this has paid somebody else, or is about to: nothing would come to this payee. Ask it "
            "for an invoice with a hash (or take a secret) of its own"
        )
    if order.asset != asset or (amount is not None and order.amount != amount):
        wanted = "" if amount is None else f"{amount} of "
        raise InvalidInput(
            f"a hash is paid once, and this one is or was ordered to be paid with {order.amount} of "
            f"0x{order.asset.hex()}: another amount or asset ({wanted}0x{asset.hex()}) needs another invoice, or secret"
        )


def _failed(record: PaymentRecord) -> PaymentFailed:
    return PaymentFailed(record.text, record.reason or Unpaid.NO_ROUTE)
