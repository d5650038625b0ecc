"""How a node asks for payments: invoices, and what becomes of those that it holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.store import Moment, Store
from tallystick.router.forwarding.ports import ChannelPort
from tallystick.router.invoices.invoice import Invoice
from tallystick.router.network.asset_graphs import AssetGraphs
from tallystick.router.network.hints import choose_hints
from tallystick.router.network.options import PaymentOptions
from tallystick.router.network.private_channels import PrivateChannels
from tallystick.router.objects import Edge, NodeKey
from tallystick.router.receiving.issued import InvoiceRecord, find_invoice, issue, list_invoices
from tallystick.router.receiving.service import Receiving
from tallystick.settlement.chain import Chain

_TWICE = "there is an invoice for this payment hash already: a hash is paid once"


class Invoicing:
    """See the module's docstring."""

    def __init__(
        self,
        key: PrivateKey,
        chain: Chain,
        channels: ChannelPort,
        store: Store,
        options: PaymentOptions,
        *,
        graphs: AssetGraphs,
        private_channels: PrivateChannels,
        receiving: Receiving,
        commit: Callable[[Sequence[Moment]], Awaitable[None]],
        entropy: Entropy,
    ) -> None:
        """`commit(moments)` returns once they, and everything done before, are durable."""
        self._key = key
        self._own = NodeKey(bytes(key.public))
        self._chain = chain
        self._channels = channels
        self._store = store
        self._options = options
        self._graphs = graphs
        self._private_channels = private_channels
        self._receiving = receiving
        self._commit = commit
        self._entropy = entropy

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
        if asset not in self._graphs.usable:
            raise InvalidInput(
                f"this node has no open channel in asset 0x{asset.hex()} that could be paid over: open one first"
            )
        ways = choose_hints(self._private_channels.now(asset), amount) if hints and self._options.hints else ()
        return await self.ask(
            amount, memo, lifetime=lifetime, hold=hold, payment_hash=payment_hash, asset=asset, hints=ways
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
    ) -> InvoiceRecord:
        """Issue an invoice; `own`: for a payment of this node to itself. Raise InvalidInput."""
        secret = b"" if payment_hash else self._entropy(32)
        invoice = Invoice(
            payee=self._own,
            payment_hash=payment_hash or digest_of(secret),
            payment_secret=self._entropy(32),
            chain_id=self._chain.chain_id,
            contract=self._chain.contract,
            asset=asset,
            amount=amount,
            created=self._channels.chain.sure,
            lifetime=lifetime,
            lock_life=self._options.patience.claim,
            memo=memo,
            hints=hints,
        )
        if find_invoice(self._store, invoice.payment_hash) is not None:
            raise InvalidInput(_TWICE)
        issued = issue(invoice, self._key, secret, hold=hold or not secret, own=own)
        await self._commit([issued])
        record = self.invoice(invoice.payment_hash)
        if record.text != issued.text:  # somebody else was faster, since we looked
            raise InvalidInput(_TWICE)
        return record

    def invoice(self, payment_hash: bytes) -> InvoiceRecord:
        """Return one invoice of ours; raise InvalidInput if it is unknown."""
        record = find_invoice(self._store, payment_hash)
        if record is None:
            raise InvalidInput("this node has no invoice of that payment hash; `tally invoice list` shows all")
        return record

    def invoices(self, limit: int = 100, before: int | None = None) -> list[InvoiceRecord]:
        """Return invoices and payments without one, newest first."""
        return list_invoices(self._store, limit, before)

    async def settle_invoice(self, secret: bytes) -> None:
        """Take a held payment, the secret of whose invoice this is; once, however often this is called.

        Raise InvalidInput if none is held, or ChannelNotReady while our view of the chain is old.
        """
        await self._commit_step(self._receiving.settle(secret))

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        """Refuse what has come for an invoice, and take nothing more; once, however often this is called.

        Raise InvalidInput if it was claimed.
        """
        await self._commit_step(self._receiving.cancel(payment_hash))

    async def _commit_step(self, moments: list[Moment]) -> None:
        """Store moments in the very commit of what was just done to locks."""
        self._channels.store(moments)
        await self._commit(())
