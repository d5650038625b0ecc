"""How a node pays over several hops: with an invoice, without one, to itself, or just to find out.

An order is stored before anything is planned (`router.sending.outgoing`), and paid once, however often it comes.
"""

from __future__ import annotations

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Clock, Entropy
from tallystick.channels.protocol.conditions import SECRET_SIZE, digest_of
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, check_amount
from tallystick.channels.storage.store import Store
from tallystick.channels.values.discretion import Discreet
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.forwarding.ports import ChannelPort
from tallystick.router.invoices.invoice import Invoice, check_payable, decode_invoice
from tallystick.router.network.asset_graphs import AssetGraphs
from tallystick.router.network.invoicing import Invoicing
from tallystick.router.network.options import PaymentOptions
from tallystick.router.objects import NodeKey, Route
from tallystick.router.sending.outgoing import OutgoingPayments
from tallystick.router.sending.payments import Order, PaymentKind, PaymentRecord, find_payment, list_payments
from tallystick.settlement.chain import Chain

REBALANCING = "rebalancing"
"""The memo of payments to ourselves."""


class PaymentReceipt(Discreet, msgspec.Struct, frozen=True):
    """A payment that was made: whoever has `secret` for an invoice proves that it was paid."""

    payment_hash: bytes
    secret: bytes
    amount: int
    fee: int
    asset: Address = NATIVE
    """Of both amounts."""


class Paying:
    """See the module's docstring."""

    def __init__(
        self,
        own: NodeKey,
        chain: Chain,
        channels: ChannelPort,
        store: Store,
        options: PaymentOptions,
        *,
        graphs: AssetGraphs,
        outgoing: OutgoingPayments,
        invoicing: Invoicing,
        clock: Clock,
        steady: Clock,
        entropy: Entropy,
    ) -> None:
        """`steady` is for what is counted, whatever becomes of `clock`."""
        self._own = own
        self._chain = chain
        self._channels = channels
        self._store = store
        self._options = options
        self._graphs = graphs
        self._outgoing = outgoing
        self._invoicing = invoicing
        self._clock = clock
        self._steady = steady
        self._entropy = entropy

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
        before = self._before(wanted.payment_hash)
        if before is not None:
            _check_same(before, wanted.payee, amount or wanted.amount, wanted.asset)
        else:
            worth = check_payable(
                wanted,
                chain_id=self._chain.chain_id,
                contract=self._chain.contract,
                assets=self._graphs.usable,
                now=self._channels.chain.now,
                amount=amount,
            )
            self._begin(
                Order(
                    payment_hash=wanted.payment_hash,
                    target=wanted.payee,
                    amount=worth,
                    max_fee=self._max_fee(worth, wanted.asset, max_fee),
                    asset=wanted.asset,
                    payment_secret=wanted.payment_secret,
                    metadata=wanted.metadata,
                    hints=wanted.hints,
                    lock_seconds=max(self._options.lock_seconds, wanted.lock_life + 600),
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
        asset: Address = NATIVE,
    ) -> PaymentReceipt:
        """Pay a node that gave no invoice; return the receipt. Raise InvalidInput or PaymentFailed.

        What a `secret` (32 random bytes) opens is paid once, as with an invoice; left out, it is a new one.
        """
        check_amount(amount, minimum=1)
        if secret:
            if len(secret) != SECRET_SIZE:
                raise InvalidInput(f"the secret of a payment has {SECRET_SIZE} bytes, not {len(secret)}")
            before = self._before(digest_of(secret))
            if before is not None:
                _check_same(before, to, amount, asset)
                return await self.receipt(digest_of(secret))
        secret = secret or self._entropy(SECRET_SIZE)
        order = Order(
            payment_hash=digest_of(secret),
            target=to,
            amount=amount,
            max_fee=self._max_fee(amount, asset, max_fee),
            asset=asset,
            payment_secret=self._entropy(32),
            keysend=secret,
            lock_seconds=self._options.lock_seconds,
            gives_up=self._until(timeout),
            created=self._clock(),
            kind=PaymentKind.KEYSEND,
        )
        self._begin(order)
        return await self.receipt(order.payment_hash)

    async def rebalance(
        self, out: ChannelId, back: ChannelId, amount: int, *, max_fee: int | None = None, timeout: float | None = None
    ) -> PaymentReceipt:
        """Pay ourselves: `amount` goes out over one channel of ours and comes back over another, less the fee."""
        asset, other = (self._channels.views.channel(channel).terms.asset for channel in (out, back))
        if out == back:
            raise InvalidInput("name two channels: one to send from, one to receive in")
        if asset != other:
            raise InvalidInput("these two channels carry different assets: a payment stays in one")
        check_amount(amount, minimum=1)
        self._graphs.of(asset)
        record = await self._invoicing.ask(amount, REBALANCING, asset=asset, own=True)
        order = Order(
            payment_hash=record.payment_hash,
            target=self._own,
            amount=amount,
            max_fee=self._max_fee(amount, asset, max_fee),
            asset=asset,
            payment_secret=record.payment_secret,
            lock_seconds=self._options.lock_seconds,
            gives_up=self._until(timeout),
            memo=REBALANCING,
            created=self._clock(),
            first_channel=out,
            last_channel=back,
            kind=PaymentKind.REBALANCE,
        )
        self._outgoing.begin(order)
        return await self.receipt(order.payment_hash)

    async def probe(self, to: NodeKey, amount: int, *, timeout: float | None = None, asset: Address = NATIVE) -> Route:
        """Find out by trying whether `amount` could be paid now; return the way. Nothing is paid.

        Raise PaymentFailed if it could not.
        """
        check_amount(amount, minimum=1)
        order = Order(
            payment_hash=self._entropy(32),
            target=to,
            amount=amount,
            max_fee=self._max_fee(amount, asset, None),
            asset=asset,
            payment_secret=self._entropy(32),
            lock_seconds=self._options.lock_seconds,
            gives_up=self._until(timeout),
            created=self._clock(),
            kind=PaymentKind.PROBE,
        )
        self._begin(order)
        record = await self._outgoing.wait_ended(order.payment_hash)
        if record.reason is not Unpaid.PAYEE_REFUSES:
            raise _failed(record)
        return self.estimate(to, amount, asset=asset)

    def estimate(self, to: NodeKey, amount: int, *, asset: Address = NATIVE) -> Route:
        """Return the way that a payment would try first; its `fee` is an estimate. Raise NoRoute or InvalidInput."""
        check_amount(amount, minimum=1)
        return self._graphs.of(asset).estimate(to, amount, now=self._steady())

    async def receipt(self, payment_hash: bytes) -> PaymentReceipt:
        """Wait for a payment; return its receipt or raise PaymentFailed; InvalidInput if there is no such payment."""
        record = await self._outgoing.wait_ended(payment_hash)
        if not record.is_paid:
            raise _failed(record)
        return PaymentReceipt(payment_hash, record.secret, record.order.amount, record.fee, record.order.asset)

    def payments(
        self, limit: int = 100, before: int | None = None, *, probes: bool = False
    ) -> list[tuple[int, PaymentRecord]]:
        """Return this node's payments, newest first, each with its position; with its probes, if asked for."""
        return list_payments(self._store, limit, before, probes=probes)

    def _before(self, payment_hash: bytes) -> Order | None:
        """Return the order of a payment that is on its way or was paid; None if it may be (or may again be) begun."""
        begun = self._outgoing.order_of(payment_hash)  # which may not be stored yet
        known = find_payment(self._store, payment_hash)
        if begun is None and known is not None and (known.ended is None or known.is_paid):
            return known.order
        return begun

    def _begin(self, order: Order) -> None:
        if order.target == self._own:
            raise InvalidInput("this invoice is this node's own: paying oneself is `rebalance`")
        self._graphs.of(order.asset)
        self._outgoing.begin(order)

    def _max_fee(self, amount: int, asset: Address, max_fee: int | None) -> int:
        if max_fee is not None:
            return check_amount(max_fee, "max_fee")
        return self._options.max_fee(amount, asset)

    def _until(self, timeout: float | None) -> float:
        return self._clock() + (self._options.timeout if timeout is None else timeout)


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
