"""One crossing, from the moment at which all of it is held on the source: pay on the target, then settle, or give back.

    held on the source ──▶ begun: a payment on the target, none of whose locks outlives `until − margin`
                             │
        the secret is known ─┤  by the payee's reveal, or as soon as any block of the target shows it (the newest, too)
                             │      ──▶ settled on the source
        the payment failed ──┘  nothing of it is under way any more
                                    ──▶ given back on the source

All of it may be begun anew at any time: a payment there is one, however often it is asked for, its bound is stored with
it, and settling or giving back twice is once. While the source's chain stands still nothing is given away there: the
secret waits for a fresh view, for which there is time (`margins`).
"""

from __future__ import annotations

import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.conditions import HASH
from tallystick.router.errors import InvalidInvoice, PaymentFailed, Unpaid
from tallystick.router.receiving.issued import InvoiceState
from tallystick.router.sending.payments import find_payment
from tallystick.sdk.chains.crossings import AgreedCrossing, CrossingEnd
from tallystick.sdk.node.node import Node

PAY_SECONDS = 300
"""How long a payment is tried on the target."""

_BY_THE_PAYEE = (Unpaid.PAYEE_REFUSES, Unpaid.TIMEOUT, Unpaid.EXPIRED)


class Carrier:
    """Carries one crossing from `here`, its source, to `there`: see the module's docstring."""

    def __init__(self, here: Node, there: Node, crossing: AgreedCrossing) -> None:
        self._here, self._there, self._crossing = here, there, crossing
        self._hash = crossing.payment_hash
        self.refused = False
        """Whether the payment on the target ended by the payee's word, or for want of it: it may have walked away."""

    async def carry(self, *, margin: int, skew: int) -> CrossingEnd:
        """Bring it to its end, which is returned."""
        expires_by = 0
        if not self._is_begun():
            await self._there.until(lambda: self._there.onchain.fresh)
            await self._here.until(lambda: self._here.onchain.fresh)
            until = self._here.routing.receiving.held_until(self._hash)
            ahead = self._here.engine.chain.now - self._there.engine.chain.now
            one_clock = self._here is self._there
            if until is None or (ahead > skew and not one_clock):
                return await self._give_back()
            expires_by = until - margin
        secret = await self._pay(expires_by)
        return await self._settle(secret) if secret else await self._give_back()

    def _is_begun(self) -> bool:
        """Whether the payment there is on its way, or made: then its end is what counts."""
        known = find_payment(self._there.store, self._hash)
        return known is not None and (known.ended is None or known.is_paid)

    async def _pay(self, expires_by: int) -> bytes:
        """Return the secret, as soon as it is known; empty if the payment there failed, and nothing is under way."""
        found = b""
        async with trio.open_nursery() as nursery:

            async def pay() -> None:
                nonlocal found
                crossing = self._crossing
                try:
                    receipt = await self._there.pay(
                        crossing.text, max_fee=crossing.fee, timeout=PAY_SECONDS, expires_by=max(1, expires_by)
                    )
                    found = receipt.secret
                except PaymentFailed as error:
                    self.refused = error.reason in _BY_THE_PAYEE
                except (InvalidInvoice, InvalidInput):
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(pay)
            await self._there.until(lambda: bool(self._shown()))
            found = found or self._shown()
            nursery.cancel_scope.cancel()
        return found

    def _shown(self) -> bytes:
        """Return the secret if a block of the target shows it, however new: who knows it may settle at once."""
        index, puzzle = self._there.onchain.index, (HASH, self._hash)
        found = index.proofs([puzzle], index.head_number).get(puzzle)
        return found[1] if found is not None else b""

    async def _settle(self, secret: bytes) -> CrossingEnd:
        while True:
            await self._here.until(lambda: self._here.onchain.fresh)
            try:
                await self._here.settle_invoice(secret)
            except ChannelNotReady:
                continue
            except InvalidInput as error:
                text = (
                    f"{self._crossing.amount} was paid on {self._crossing.target}, and what was to pay for it is gone"
                )
                self._here.news.alarm(Alarm(AlarmKind.FORWARD_UNPAID, f"{text}: {error}"))
                return CrossingEnd.LOST
            return CrossingEnd.PAID

    async def _give_back(self) -> CrossingEnd:
        if self._here.invoice(self._hash).state(self._here.engine.chain.now) is InvoiceState.CLAIMED:
            return CrossingEnd.PAID
        await self._here.cancel_invoice(self._hash)
        return CrossingEnd.GIVEN_BACK
