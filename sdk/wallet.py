"""What every node can do in the payment network, as methods of `Node`: thin, over `routing` and the store.

invoice = await node.create_invoice(250, "a tin of tea")     # invoice.text is for the payer
receipt = await node.pay(text, max_fee=10, timeout=30)       # receipt.secret proves it
async for invoice in node.paid_invoices(after=position): ...
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.keys import PublicKey
from tallystick.channels.objects import NATIVE, Address, ChannelId
from tallystick.channels.store import Store
from tallystick.router.circuits import Forward, forwards_after, forwards_before
from tallystick.router.invoice import Invoice
from tallystick.router.invoices import InvoiceRecord
from tallystick.router.objects import ForwardingPolicy, NodeKey, Route
from tallystick.router.payments import PaymentRecord, find_payment
from tallystick.router.receiving import Refusal
from tallystick.sdk.paid import PaidInvoices, PaidJournal
from tallystick.sdk.routing import PaymentReceipt, Routing


class Wallet:
    """The part of a node that pays and is paid over several hops. `Node` is one."""

    routing: Routing
    store: Store
    paid: PaidJournal

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
        """Ask for a payment; return the invoice: its `text` is for the payer. `lifetime` in seconds of chain time.

        No amount: the payer chooses. `hold`: once paid, it waits for `settle_invoice` or `cancel_invoice`. With a
        `payment_hash`, whoever gave it knows the secret, and it is held in any case. An `asset` other than the chain's
        coin needs an open channel in it. `hints`: it may name channels of ours that gossip does not know; without, it
        tells nobody of them. Raise InvalidInput.
        """
        return await self.routing.create_invoice(
            amount, memo, lifetime=lifetime, hold=hold, payment_hash=payment_hash, asset=asset, hints=hints
        )

    def invoice(self, payment_hash: bytes) -> InvoiceRecord:
        """Return one invoice of ours; raise InvalidInput if it is unknown."""
        return self.routing.invoice(payment_hash)

    def invoices(self, limit: int = 100, before: int | None = None) -> list[InvoiceRecord]:
        """Return invoices and payments without one, newest first; `before` goes on from a `position`."""
        return self.routing.invoices(limit, before)

    def refusal(self, payment_hash: bytes) -> Refusal | None:
        """Return what was given back last of what came for an invoice of ours, and why; None if nothing was.

        For a merchant whose customer says that it was refused. Kept in memory, of the newest invoices.
        """
        return self.routing.receiving.refusal(payment_hash)

    def paid_invoices(self, after: int = 0) -> PaidInvoices:
        """Iterate over paid invoices and keysends for ever, each after its commit, in the order of the claims.

        Each has a count, `paid`; store that of the last one that you handled and pass it as `after` when you start
        again: then none is missed and none comes twice, across any crash. Raise InvalidInput.
        """
        return self.paid.after(after)

    async def settle_invoice(self, secret: bytes) -> None:
        """Take a held payment, the secret of whose invoice this is; once, however often this is called.

        Raise InvalidInput if none is held, or ChannelNotReady while this node's view of the chain is old.
        """
        await self.routing.settle_invoice(secret)

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        """Refuse what has come for an invoice, and take nothing more; once, however often this is called.

        Raise InvalidInput if it was claimed.
        """
        await self.routing.cancel_invoice(payment_hash)
        self.paid.notify(payment_hash)

    # --- paying --------------------------------------------------------------------------------------------------

    async def pay(
        self,
        invoice: str | Invoice,
        *,
        amount: int | None = None,
        max_fee: int | None = None,
        timeout: float | None = None,
    ) -> PaymentReceipt:
        """Pay an invoice once, however often this is called; return the receipt, whose `secret` proves the payment.

        `amount` is needed if the invoice names none. `timeout`: seconds after which nothing more is tried. While
        all ways fail for a moment only (a forwarder starts, our peer is away), it waits for them that long. Raise
        InvalidInvoice, InvalidInput, or PaymentFailed, which says why; nothing is under way then. If this is
        cancelled, the payment goes on: call it again to wait for it.
        """
        return await self.routing.pay(invoice, amount=amount, max_fee=max_fee, timeout=timeout)

    async def keysend(
        self,
        to: NodeKey | PublicKey,
        amount: int,
        *,
        max_fee: int | None = None,
        timeout: float | None = None,
        secret: bytes = b"",
        asset: Address = NATIVE,
    ) -> PaymentReceipt:
        """Pay a node that gave no invoice; return the receipt. It takes assets that its owner named.

        A `secret` of yours (32 random bytes) makes it safe to ask again: what it opens is paid once. Raise InvalidInput
        or PaymentFailed.
        """
        target = NodeKey(bytes(to)) if isinstance(to, PublicKey) else to
        return await self.routing.keysend(target, amount, max_fee=max_fee, timeout=timeout, secret=secret, asset=asset)

    async def rebalance(
        self, out: ChannelId, back: ChannelId, amount: int, *, max_fee: int | None = None, timeout: float | None = None
    ) -> PaymentReceipt:
        """Pay ourselves: `amount` comes back over one channel of ours, having gone out over another with the fee."""
        return await self.routing.rebalance(out, back, amount, max_fee=max_fee, timeout=timeout)

    async def probe(self, to: NodeKey, amount: int, *, timeout: float | None = None, asset: Address = NATIVE) -> Route:
        """Find out by trying whether `amount` could be paid now; return the way, or raise PaymentFailed."""
        return await self.routing.probe(to, amount, timeout=timeout, asset=asset)

    def estimate(self, to: NodeKey, amount: int, *, asset: Address = NATIVE) -> Route:
        """Return the way that a payment would try first; its `fee` is an estimate. Raise NoRoute or InvalidInput."""
        return self.routing.estimate(to, amount, asset=asset)

    def payment(self, payment_hash: bytes) -> PaymentRecord:
        """Return one payment of ours; raise InvalidInput if it is unknown."""
        found = find_payment(self.store, payment_hash)
        if found is None:
            raise InvalidInput("this node made no payment of that hash; `tally payments` shows all")
        return found

    def payments(
        self, limit: int = 100, before: int | None = None, *, probes: bool = False
    ) -> list[tuple[int, PaymentRecord]]:
        """Return this node's payments, newest first, each with its position; `before` goes on from one.

        `order.kind` says what each was for. `probes`: with those that only found out something.
        """
        return self.routing.payments(limit, before, probes=probes)

    # --- forwarding ----------------------------------------------------------------------------------------------

    def forwards(self, limit: int = 100, before: int = 0) -> list[Forward]:
        """Return payments of others that ended, newest first; `before` goes on from a position."""
        return forwards_before(self.store, before, limit)

    def forwards_after(self, position: int = 0, limit: int = 100) -> list[Forward]:
        """Return payments of others that ended, oldest first, behind a position."""
        return forwards_after(self.store, position, limit)

    def policy(self, channel: ChannelId) -> ForwardingPolicy:
        """Return what this node asks for carrying payments out over one of its channels."""
        return self.routing.router.policy_of(channel)

    async def set_policy(self, channel: ChannelId, policy: ForwardingPolicy) -> None:
        """Ask something else from now on, and tell the network. Raise InvalidInput."""
        await self.routing.set_policy(channel, policy)
