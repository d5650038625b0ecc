"""How a node asks for payments: invoices, and what becomes of those that it holds."""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.objects import (
    NATIVE,
    Address,
    Amount,
    AnyAddress,
    AnyHash,
    AnyMemo,
    Count,
    Lifetime,
    MaybeHash,
    to_address,
    to_hash,
    to_text,
)
from tallystick.channels.values.arguments import checked
from tallystick.router.invoices.invoice import LOCK_LIFE_MAX, Invoice
from tallystick.router.network.asset_graphs import AssetGraphs
from tallystick.router.network.node import LocalNode
from tallystick.router.network.paid import PaidInvoices, PaidJournal
from tallystick.router.network.private_channels import PrivateChannels, choose_hints
from tallystick.router.objects import Edge
from tallystick.router.receiving.issued import InvoiceRecord, find_invoice, issue, list_invoices
from tallystick.router.receiving.service import PartRefused, Receiving

_TWICE = "there is an invoice for this payment hash already: a hash is paid once"


class Invoicing:
    """The invoices of one node, from issuing to what becomes of them: see the module's docstring."""

    def __init__(
        self, node: LocalNode, graphs: AssetGraphs, private_channels: PrivateChannels, receiving: Receiving
    ) -> None:
        self.paid = PaidJournal(node.channels.disk)
        """What was paid to us, to be read and waited for."""
        self._node = node
        self._graphs = graphs
        self._private_channels = private_channels
        self._receiving = receiving

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
        lock_life: Lifetime = 0,
    ) -> InvoiceRecord:
        """Ask for a payment; return the invoice: its `text` is for the payer. `lifetime` in seconds of chain time.

        `memo` is text (or its bytes in UTF-8), for the payer. No amount: the payer chooses. `hold`: once paid, it waits
        for `settle_invoice` or `cancel_invoice`. With a `payment_hash`, whoever gave it knows the secret, and it
        is held in any case. An `asset` other than the chain's coin needs an open channel in it. `hints`: it may name
        channels of ours that gossip does not know; without, it tells nobody of them. `lock_life`: seconds that locks
        should have left when they come, if that is more than `PayeeOptions.claim`. Raise InvalidInput.
        """
        if lock_life > LOCK_LIFE_MAX:
            raise InvalidInput(f"payers let their locks live {LOCK_LIFE_MAX} seconds for an invoice, not {lock_life}")
        token = to_address(asset, "asset")
        if token not in self._graphs.usable:
            raise InvalidInput(
                f"this node has no open channel in asset 0x{token.hex()} that could be paid over: open one first"
            )
        digest = to_hash(payment_hash, "payment_hash") if payment_hash else b""
        ways = choose_hints(self._private_channels.now(token), amount) if hints and self._node.options.hints else ()
        return await self.ask(
            amount,
            to_text(memo),
            lifetime=lifetime,
            hold=hold,
            payment_hash=digest,
            asset=token,
            hints=ways,
            lock_life=lock_life,
        )

    async def ask(
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
        lock_life: int = 0,
    ) -> InvoiceRecord:
        """Issue an invoice; `own`: for a payment of this node to itself. Raise InvalidInput."""
        secret = b"" if payment_hash else self._node.entropy(32)
        invoice = Invoice(
            payee=self._node.own,
            payment_hash=payment_hash or digest_of(secret),
            payment_secret=self._node.entropy(32),
            chain_id=self._node.chain.chain_id,
            contract=self._node.chain.contract,
            asset=asset,
            amount=amount,
            created=self._node.channels.chain.sure,
            lifetime=lifetime,
            lock_life=max(lock_life, self._node.options.patience.claim),
            memo=memo,
            hints=hints,
        )
        if find_invoice(self._node.channels.disk, invoice.payment_hash) is not None:
            raise InvalidInput(_TWICE)
        issued = issue(invoice, self._node.engine.key, secret, hold=hold or not secret, own=own)
        await self._node.engine.writer.commit([issued])
        record = self.invoice(invoice.payment_hash)
        if record.text != issued.text:  # somebody else was faster, since we looked
            raise InvalidInput(_TWICE)
        return record

    @checked
    def invoice(self, payment_hash: AnyHash) -> InvoiceRecord:
        """Return one invoice of ours; raise InvalidInput if it is unknown."""
        record = find_invoice(self._node.channels.disk, to_hash(payment_hash))
        if record is None:
            raise InvalidInput("this node has no invoice of that payment hash; `tally invoice list` shows all")
        return record

    @checked
    def invoices(self, limit: Count = 100, before: Count | None = None) -> list[InvoiceRecord]:
        """Return invoices and payments without one, newest first; `before` goes on from a `position`."""
        return list_invoices(self._node.channels.disk, limit, before)

    @checked
    async def settle_invoice(self, secret: AnyHash) -> None:
        """Take a held payment, the secret of whose invoice this is; once, however often this is called.

        Raise InvalidInput if none is held, or ChannelNotReady while this node's view of the chain is old.
        """
        self._node.channels.store(self._receiving.settle(to_hash(secret, "secret")))
        await self._node.engine.durable()

    @checked
    async def cancel_invoice(self, payment_hash: AnyHash) -> None:
        """Refuse what has come for an invoice, and take nothing more; once, however often this is called.

        Raise InvalidInput if it was claimed.
        """
        digest = to_hash(payment_hash)
        self._node.channels.store(self._receiving.cancel(digest))
        await self._node.engine.durable()
        self.paid.notify(digest)

    @checked
    def refusal(self, payment_hash: AnyHash) -> PartRefused | None:
        """Return what was given back last of what came for an invoice of ours, and why; None if nothing was.

        For a merchant whose customer says that it was refused. Kept in memory, of the newest invoices.
        """
        return self._receiving.refusal(to_hash(payment_hash))

    @checked
    def paid_invoices(self, after: Count = 0) -> PaidInvoices:
        """Iterate over paid invoices and keysends for ever, each after its commit, in the order of the claims.

        Each has a count, `paid`; store that of the last one that you handled and pass it as `after` when you start
        again: then none is missed and none comes twice, across any crash. Raise InvalidInput.
        """
        return self.paid.after(after)
