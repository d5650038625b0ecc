"""What every node can do in the payment network: thin, over `routing` and the store. `Node` has all of it, too.

invoice = await node.create_invoice(250, "a tin of tea")     # invoice.text is for the payer
receipt = await node.pay(text, max_fee=10, timeout=30)       # receipt.secret proves it
async for invoice in node.paid_invoices(after=position): ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import (
    NATIVE,
    Amount,
    AnyAddress,
    AnyChannel,
    AnyHash,
    AnyMemo,
    Count,
    Lifetime,
    MaybeHash,
    Seconds,
    Total,
    to_address,
    to_channel,
    to_hash,
    to_text,
)
from tallystick.channels.storage.store import Store
from tallystick.channels.values.arguments import checked
from tallystick.router.forwarding.circuits import ForwardRecord, forwards_after, forwards_before
from tallystick.router.invoices.invoice import Invoice
from tallystick.router.network.paid import PaidInvoices, PaidJournal
from tallystick.router.network.routing import PaymentReceipt, Routing
from tallystick.router.objects import AnyNode, ForwardingPolicy, Route, to_node
from tallystick.router.receiving.issued import InvoiceRecord
from tallystick.router.receiving.service import PartRefused
from tallystick.router.sending.payments import PaymentRecord, find_payment

P = ParamSpec("P")
R = TypeVar("R")


class Wallet:
    """The part of a node that pays and is paid over several hops."""

    def __init__(self, routing: Routing, store: Store, paid: PaidJournal) -> None:
        self._routing = routing
        self._store = store
        self._paid = paid

    # --- being paid ----------------------------------------------------------------------------------------------

    @checked
    async def create_invoice(
        self,
        amount: Amount | None = None,
        memo: AnyMemo = "",
        *,
        lifetime: Lifetime = 3_600,
        hold: bool = False,
        payment_hash: MaybeHash = b"",
        asset: AnyAddress = NATIVE,
        hints: bool = True,
    ) -> InvoiceRecord:
        """Ask for a payment; return the invoice: its `text` is for the payer. `lifetime` in seconds of chain time.

        `memo` is text (or its bytes in UTF-8), for the payer. No amount: the payer chooses. `hold`: once paid, it waits
        for `settle_invoice` or `cancel_invoice`. With a `payment_hash`, whoever gave it knows the secret, and it
        is held in any case. An `asset` other than the chain's coin needs an open channel in it. `hints`: it may name
        channels of ours that gossip does not know; without, it tells nobody of them. Raise InvalidInput.
        """
        return await self._routing.invoicing.create_invoice(
            amount,
            to_text(memo),
            lifetime=lifetime,
            hold=hold,
            payment_hash=to_hash(payment_hash, "payment_hash") if payment_hash else b"",
            asset=to_address(asset, "asset"),
            hints=hints,
        )

    @checked
    def invoice(self, payment_hash: AnyHash) -> InvoiceRecord:
        """Return one invoice of ours; raise InvalidInput if it is unknown."""
        return self._routing.invoicing.invoice(to_hash(payment_hash))

    @checked
    def invoices(self, limit: Count = 100, before: Count | None = None) -> list[InvoiceRecord]:
        """Return invoices and payments without one, newest first; `before` goes on from a `position`."""
        return self._routing.invoicing.invoices(limit, before)

    @checked
    def refusal(self, payment_hash: AnyHash) -> PartRefused | None:
        """Return what was given back last of what came for an invoice of ours, and why; None if nothing was.

        For a merchant whose customer says that it was refused. Kept in memory, of the newest invoices.
        """
        return self._routing.receiving.refusal(to_hash(payment_hash))

    @checked
    def paid_invoices(self, after: Count = 0) -> PaidInvoices:
        """Iterate over paid invoices and keysends for ever, each after its commit, in the order of the claims.

        Each has a count, `paid`; store that of the last one that you handled and pass it as `after` when you start
        again: then none is missed and none comes twice, across any crash. Raise InvalidInput.
        """
        return self._paid.after(after)

    @checked
    async def settle_invoice(self, secret: AnyHash) -> None:
        """Take a held payment, the secret of whose invoice this is; once, however often this is called.

        Raise InvalidInput if none is held, or ChannelNotReady while this node's view of the chain is old.
        """
        await self._routing.invoicing.settle_invoice(to_hash(secret, "secret"))

    @checked
    async def cancel_invoice(self, payment_hash: AnyHash) -> None:
        """Refuse what has come for an invoice, and take nothing more; once, however often this is called.

        Raise InvalidInput if it was claimed.
        """
        digest = to_hash(payment_hash)
        await self._routing.invoicing.cancel_invoice(digest)
        self._paid.notify(digest)

    # --- paying --------------------------------------------------------------------------------------------------

    @checked
    async def pay(
        self,
        invoice: str | Invoice,
        *,
        amount: Amount | None = None,
        max_fee: Total | None = None,
        timeout: Seconds | None = None,
    ) -> PaymentReceipt:
        """Pay an invoice once, however often this is called; return the receipt, whose `secret` proves the payment.

        `amount` is needed if the invoice names none. `timeout`: seconds after which nothing more is tried. While
        all ways fail for a moment only (a forwarder starts, our peer is away), it waits for them that long. Raise
        InvalidInvoice, InvalidInput, or PaymentFailed, which says why; nothing is under way then. If this is
        cancelled, the payment goes on: call it again to wait for it.
        """
        return await self._routing.paying.pay(invoice, amount=amount, max_fee=max_fee, timeout=timeout)

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
        return await self._routing.paying.keysend(
            to_node(to),
            amount,
            max_fee=max_fee,
            timeout=timeout,
            secret=to_hash(secret, "secret") if secret else b"",
            asset=to_address(asset, "asset"),
        )

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
        return await self._routing.paying.rebalance(
            to_channel(out), to_channel(back), amount, max_fee=max_fee, timeout=timeout
        )

    @checked
    async def probe(
        self, to: AnyNode, amount: Amount, *, timeout: Seconds | None = None, asset: AnyAddress = NATIVE
    ) -> Route:
        """Find out by trying whether `amount` could be paid now; return the way, or raise PaymentFailed."""
        return await self._routing.paying.probe(to_node(to), amount, timeout=timeout, asset=to_address(asset, "asset"))

    @checked
    def estimate(self, to: AnyNode, amount: Amount, *, asset: AnyAddress = NATIVE) -> Route:
        """Return the way that a payment would try first; its `fee` is an estimate. Raise NoRoute or InvalidInput."""
        return self._routing.paying.estimate(to_node(to), amount, asset=to_address(asset, "asset"))

    @checked
    def payment(self, payment_hash: AnyHash) -> PaymentRecord:
        """Return one payment of ours; raise InvalidInput if it is unknown."""
        found = find_payment(self._store, to_hash(payment_hash))
        if found is None:
            raise InvalidInput("this node made no payment of that hash; `tally payments` shows all")
        return found

    @checked
    def payments(
        self, limit: Count = 100, before: Count | None = None, *, probes: bool = False
    ) -> list[tuple[int, PaymentRecord]]:
        """Return this node's payments, newest first, each with its position; `before` goes on from one.

        `order.kind` says what each was for. `probes`: with those that only found out something.
        """
        return self._routing.paying.payments(limit, before, probes=probes)

    # --- forwarding ----------------------------------------------------------------------------------------------

    @checked
    def forwards(self, limit: Count = 100, before: Count = 0) -> list[ForwardRecord]:
        """Return payments of others that ended, newest first; `before` goes on from a position."""
        return forwards_before(self._store, before, limit)

    @checked
    def forwards_after(self, position: Count = 0, limit: Count = 100) -> list[ForwardRecord]:
        """Return payments of others that ended, oldest first, behind a position."""
        return forwards_after(self._store, position, limit)

    @checked
    def policy(self, channel: AnyChannel) -> ForwardingPolicy:
        """Return what this node asks for carrying payments out over one of its channels."""
        return self._routing.policies.policy_of(to_channel(channel))

    @checked
    async def set_policy(self, channel: AnyChannel, policy: ForwardingPolicy) -> None:
        """Ask something else from now on, and tell the network. Raise InvalidInput."""
        await self._routing.set_policy(to_channel(channel), policy)


class HasWallet(Protocol):
    """A node, as far as its wallet goes."""

    wallet: Wallet


def by_wallet(method: Callable[Concatenate[Wallet, P], R]) -> Callable[Concatenate[HasWallet, P], R]:
    """Return the method of a node that has its wallet do it: same name, same arguments, same words about it."""

    def by_its_wallet(node: HasWallet, /, *arguments: P.args, **named: P.kwargs) -> R:
        return method(node.wallet, *arguments, **named)

    functools.update_wrapper(by_its_wallet, method)
    return by_its_wallet
