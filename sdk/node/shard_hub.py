"""A hub between two shards: what is paid to its node on one is passed on by its node on the other, under one hash.

    hub = ShardHub(here, there, store, fee=lambda amount: 1 + amount // 1_000)
    text = await hub.mirror(invoice)     # of a payee there; whoever pays the text here has it paid there
    await hub.run()                      # until cancelled; after a crash, it goes on from what is on the three disks

A payment is held here until the payee there has been paid, and the secret that this brings opens what is held. So it
is made on both shards or on neither. Nothing is kept of a payment besides what both nodes keep, and the promise itself
(`mirrors`), so that it may be begun anew after any crash: a payment there is one, however often it is asked for.

Two clocks matter. What is held here is given back some time before its locks end (`Receiving.held_until`), so a
payment there is begun only if all its locks will have ended before, with `SPARE` seconds to learn of it: `lock_max`
bounds how long these live. A payment that was begun is waited for, whatever the time. Both shards' chains must keep one
time, as they do with a second or more between blocks; and as any hub, this one must look at both chains in time.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.store import Store
from tallystick.channels.values.arguments import checked
from tallystick.router.errors import InvalidInvoice, PaymentFailed
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.router.receiving.issued import InvoiceState
from tallystick.router.sending.payments import find_payment
from tallystick.sdk.node.mirrors import InvoiceMirrored, Mirror, find_mirror
from tallystick.sdk.node.node import Node

PAY_SECONDS = 300
"""How long a payment is tried on the second shard."""

SPARE = 1_800
"""Seconds between the end of the last lock there and the moment at which what is held here is given back."""


class ShardHub:
    """Passes payments on from one node of ours to another, on another shard: see the module's docstring."""

    @checked
    def __init__(self, here: Node, there: Node, store: Store, *, fee: Callable[[int], int]) -> None:
        """`store` is of `MIRRORS_SCHEMA`; `fee` says what to take for an amount.

        Raise InvalidInput if locks here are too short (`payments.patience.claim`) for how long those there may live
        (`payments.limits.lock_max`).
        """
        if there.chain.chain_id == here.chain.chain_id:
            raise InvalidInput("both nodes are on one chain: payments between them need no such hub")
        self._here, self._there, self._store, self._fee = here, there, store, fee
        self._lock_max = there.routing.options.limits.lock_max
        needed = 2 * (self._lock_max + PAY_SECONDS + SPARE)
        claim = here.routing.options.patience.claim
        if claim < needed:
            raise InvalidInput(
                f"locks there may live {self._lock_max} seconds (payments.limits.lock_max), so invoices here must ask "
                f"for {needed} (payments.patience.claim), not {claim}"
            )
        self._under_way = set[bytes]()

    @checked
    async def mirror(self, text: str) -> str:
        """Return an invoice of ours here; whoever pays it has the payee's invoice there paid. The same text, the same.

        Raise InvalidInvoice or InvalidInput if it cannot be passed on.
        """
        wanted = decode_invoice(text)
        there = self._there
        if (wanted.chain_id, wanted.contract) != (there.chain.chain_id, there.chain.contract):
            raise InvalidInput(f"this invoice is for chain {wanted.chain_id}; this hub pays on {there.chain.chain_id}")
        if not wanted.amount or wanted.asset != NATIVE:
            raise InvalidInput("this hub passes on amounts of the chain's coin, named by the invoice")
        if wanted.lock_life + 600 > self._lock_max:
            raise InvalidInput(
                f"the payee asks for locks of {wanted.lock_life} seconds, which is too long for this hub"
            )
        lifetime = wanted.expiry - there.engine.chain.now - PAY_SECONDS
        if lifetime <= 0:
            raise InvalidInput("this invoice ends too soon: ask the payee for a new one")
        known = find_mirror(self._store, wanted.payment_hash)
        fee = known.fee if known is not None else self._fee(wanted.amount)
        if known is None:
            self._store.commit([InvoiceMirrored(wanted.payment_hash, text, fee)])
            known = find_mirror(self._store, wanted.payment_hash)
        if known is None or known.text != text:
            raise InvalidInput("another invoice of this payment hash is passed on already: a hash is paid once")
        try:
            return self._here.invoice(wanted.payment_hash).text
        except InvalidInput:
            asked = await self._here.create_invoice(
                wanted.amount + fee, wanted.memo, lifetime=lifetime, payment_hash=wanted.payment_hash, hold=True
            )
            return asked.text

    async def run(self) -> None:
        """Pass on what comes, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._here.until(lambda: bool(self._new()))
                for payment_hash, mirror in self._new().items():
                    self._under_way.add(payment_hash)
                    nursery.start_soon(self._keep_passing_on, payment_hash, mirror)

    def _new(self) -> dict[bytes, Mirror]:
        held = [each for each in self._here.routing.receiving.held_payments if each not in self._under_way]
        return {each: mirror for each in held if (mirror := find_mirror(self._store, each)) is not None}

    async def _keep_passing_on(self, payment_hash: bytes, mirror: Mirror) -> None:
        try:
            await self._pass_on(payment_hash, mirror)
        finally:
            self._under_way.discard(payment_hash)

    async def _pass_on(self, payment_hash: bytes, mirror: Mirror) -> None:
        """Pay there, and take what is held here for the secret; or give it back."""
        if not self._is_begun(payment_hash):
            await self._wait_fresh()
            if not self._is_time(payment_hash):
                return await self._give_back(payment_hash)
        try:
            receipt = await self._there.pay(mirror.text, max_fee=mirror.fee, timeout=PAY_SECONDS)
        except (PaymentFailed, InvalidInvoice, InvalidInput):  # nothing is under way there for it, and nothing was paid
            return await self._give_back(payment_hash)
        while True:
            await self._wait_fresh()
            try:
                return await self._here.settle_invoice(receipt.secret)
            except ChannelNotReady:
                continue

    def _is_begun(self, payment_hash: bytes) -> bool:
        """Whether the payment there is on its way, or made: then its end is what counts."""
        known = find_payment(self._there.store, payment_hash)
        return known is not None and (known.ended is None or known.is_paid)

    def _is_time(self, payment_hash: bytes) -> bool:
        """Whether all locks there will have ended long before what is held here is given back."""
        until = self._here.routing.receiving.held_until(payment_hash)
        return until is not None and self._here.engine.chain.now + PAY_SECONDS + self._lock_max + SPARE <= until

    async def _wait_fresh(self) -> None:
        await self._here.until(lambda: self._here.onchain.fresh)

    async def _give_back(self, payment_hash: bytes) -> None:
        if self._here.invoice(payment_hash).state(self._here.engine.chain.now) is not InvoiceState.CLAIMED:
            await self._here.cancel_invoice(payment_hash)
