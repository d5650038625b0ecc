"""Payments to this node: the thin layer between `payee.Payee`, the invoices on disk and the locks that end here.

All that it decides is part of the commit of what made it decide: the claim of an invoice and the reveals of all parts
are one transaction, so that after a crash either all of them are claimed or none. An owner's `settle` and `cancel` are
such steps, too. What was claimed is told (`Paid`) once it is durable.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import msgspec

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet
from tallystick.router.codes import Code
from tallystick.router.forwarding.admission import IncomingLocks
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.onion.failures import Failure
from tallystick.router.onion.payload import FinalLock
from tallystick.router.receiving.issued import (
    InvoiceCancelled,
    InvoiceClaimed,
    InvoiceRecord,
    InvoiceState,
    KeysendClaimed,
    claimable_of,
    find_invoice,
)
from tallystick.router.receiving.payee import (
    Answer,
    ClaimPayment,
    HoldPayment,
    PartRefusal,
    Payee,
    PayeeOptions,
    RefusePart,
)

REMEMBERED_MAX = 1_000
"""Invoices of which it is remembered what was refused last, or that they were held and given back for want of time."""

_ENDED = {InvoiceState.CLAIMED: "the invoice was paid already", InvoiceState.CANCELLED: "the invoice was cancelled"}


class Paid(Discreet, msgspec.Struct, frozen=True):
    """An invoice was paid, or a payment came without one; all of it is ours."""

    payment_hash: bytes
    amount: int
    secret: bytes
    keysend: bool
    asset: Address = NATIVE


class PaymentHeld(msgspec.Struct, frozen=True):
    """All parts of a payment for a hold invoice are there: settle or cancel it."""

    payment_hash: bytes
    amount: int
    asset: Address = NATIVE


class PartRefused(msgspec.Struct, frozen=True):
    """A lock for an invoice of ours that was given back."""

    payment_hash: bytes
    amount: int
    time: int
    text: str
    """Why, for the owner; the payer is told less."""

    def __str__(self) -> str:
        return f"{self.amount} came and was given back: {self.text}"


class Receiving:
    """The router's payee. `tell` gets `Paid` and `PaymentHeld` after the commit."""

    def __init__(
        self,
        channels: NodeChannels,
        incoming: IncomingLocks,
        *,
        patience: PayeeOptions,
        keysend: Collection[Address],
        tell: Callable[[Paid | PaymentHeld], None],
    ) -> None:
        """`keysend`: the assets in which payments without an invoice are taken."""
        self._channels = channels
        self._incoming = incoming
        self._keysend = keysend
        self._tell = tell
        self._payee = Payee(patience)
        self._closed: dict[bytes, InvoiceState] = {}
        """Claimed or cancelled in steps that are not durable yet: the store does not know of them."""
        self._lapsed: OrderedDict[bytes, None] = OrderedDict()
        """What was held and given back for want of time, so that whoever settles it too late is told: the newest."""
        self._refusals: OrderedDict[bytes, PartRefused] = OrderedDict()
        """The last one of each invoice: the newest."""

    @property
    def held_payments(self) -> dict[bytes, int]:
        """Complete payments that wait for `settle` or `cancel`: hash to amount."""
        return self._payee.held_payments

    def held_until(self, payment_hash: bytes) -> int | None:
        """Return the chain time up to which a held payment can be settled, None if it is not held."""
        return self._payee.held_until(payment_hash)

    def refusal(self, payment_hash: bytes) -> PartRefused | None:
        """Return what was given back last of what came for an invoice since we started, None if there was nothing."""
        return self._refusals.get(payment_hash)

    # --- what the router tells ----------------------------------------------------------------------------------

    def on_arrived(self, final: FinalLock) -> Sequence[Moment]:
        """A lock ends here. In another asset than its invoice asks for, it is worth nothing."""
        digest, claimable = final.lock.condition, None
        known: dict[bytes, InvoiceRecord | None] = {}
        if digest not in self._closed:
            record = known[digest] = find_invoice(self._channels.disk, digest)
            claimable = claimable_of(
                record, digest, final.payload, keysend=final.asset in self._keysend, asset=final.asset
            )
        return self._perform(self._payee.on_arrived(final, claimable, self._channels.chain.now), known)

    def on_gone(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """A lock that ended here is no more. If it was paid for a secret that we did not reveal, all parts are ours."""
        final = self._payee.on_gone(channel, lock)
        if final is None or not secret:
            return ()
        return self._claim(self._payee.on_secret_opened(lock.condition, secret), final.asset, lock.amount)

    def on_time_passed(self) -> Sequence[Moment]:
        """Chain time has passed."""
        held = self._payee.held_payments
        answers = self._payee.on_time(self._channels.chain.now)
        left = self._payee.held_payments
        self._lapsed.update(dict.fromkeys(digest for digest in held if digest not in left))
        while len(self._lapsed) > REMEMBERED_MAX:
            self._lapsed.popitem(last=False)
        return self._perform(answers)

    # --- what the owner wants -----------------------------------------------------------------------------------

    def settle(self, secret: bytes) -> list[Moment]:
        """Claim the held payment that `secret` opens; return what must be in the same commit. Claiming twice is once.

        Raise ChannelNotReady while our view of the chain is old, InvalidInput if nothing is held (any more).
        """
        digest = digest_of(secret)
        if self._state(digest) is InvoiceState.CLAIMED:
            return []
        if digest in self._payee.held_payments and not self._channels.fresh:
            raise ChannelNotReady(
                "this node's view of the chain is old, as its chain node does not answer or stands still: a secret "
                "that is given away now might not be paid for. Nothing was done; settle again once it is followed"
            )
        claim = self._payee.settle(digest, secret, self._channels.chain.now)
        if claim is None:
            raise InvalidInput(self._why_not_held(digest))
        moments = self._perform([claim])
        if not moments:
            raise InvalidInput("the locks of this payment are gone: their channels were closed, or they expired")
        return moments

    def _why_not_held(self, digest: bytes) -> str:
        state = self._state(digest)
        if state is None:
            return "this node has no invoice that this secret opens"
        if state is InvoiceState.CANCELLED:
            return "this invoice was cancelled, and what came for it was given back"
        if digest in self._lapsed or digest in self._payee.held_payments:
            return (
                "this payment was held until its locks came too near to their expiry, and is given back: let the payer "
                "pay again, and settle earlier"
            )
        return "nobody has paid all of this invoice, or it was given back: `tally invoice list` shows what is held"

    def cancel(self, payment_hash: bytes) -> list[Moment]:
        """Let go what has come for an invoice, and take nothing more; return what must be in the same commit.

        That is nothing if it was cancelled. Raise InvalidInput if it is unknown or was claimed.
        """
        state = self._state(payment_hash)
        if state is None:
            raise InvalidInput("this node has no invoice of that payment hash; `tally invoice list` shows all")
        if state is InvoiceState.CLAIMED:
            raise InvalidInput("this invoice was paid, which cannot be undone: pay the money back instead")
        if state is InvoiceState.CANCELLED:
            return []
        self._close(payment_hash, InvoiceState.CANCELLED)
        moments: list[Moment] = [InvoiceCancelled(payment_hash, self._channels.chain.now)]
        return moments + self._perform(self._payee.cancel(payment_hash))

    def _state(self, payment_hash: bytes) -> InvoiceState | None:
        """Return what became of an invoice, with what is not durable yet; None if it is unknown."""
        record = find_invoice(self._channels.disk, payment_hash)
        return self._closed.get(payment_hash) or (None if record is None else record.state(self._channels.chain.now))

    # --- doing it -----------------------------------------------------------------------------------------------

    def _perform(self, answers: list[Answer], known: Mapping[bytes, InvoiceRecord | None] = {}) -> list[Moment]:
        """Do what the payee says; return what to store. `known`: invoices that were read in this very step."""
        moments: list[Moment] = []
        for answer in self._instead(answers):
            if isinstance(answer, ClaimPayment):
                moments += self._claim(answer, answer.parts[0].asset, known=known)
            elif isinstance(answer, HoldPayment):
                amount, asset = sum(part.lock.amount for part in answer.parts), answer.parts[0].asset
                self._channels.record((), partial(self._tell, PaymentHeld(answer.payment_hash, amount, asset)))
            else:
                self._note(answer.part, answer.verdict)
                self._incoming.refuse(answer.part, _failure(answer.part, answer.verdict, self._channels.chain.now))
        return moments

    def _instead(self, answers: list[Answer]) -> list[Answer]:
        """Claim what would be let go for want of parts or time, if the chain shows its secret: its payer is to pay."""
        kept: list[Answer] = []
        claims: dict[bytes, ClaimPayment] = {}
        for answer in answers:
            secret = b""
            if isinstance(answer, RefusePart) and answer.verdict in (PartRefusal.INCOMPLETE, PartRefusal.TOO_SOON):
                lock = answer.part.lock
                secret = self._channels.chain.registered_in_time(lock) or b""
            if not secret or not isinstance(answer, RefusePart):
                kept.append(answer)
                continue
            parts = claims[lock.condition].parts if lock.condition in claims else ()
            claims[lock.condition] = ClaimPayment(lock.condition, secret, (*parts, answer.part))
        return [*kept, *claims.values()]

    def _claim(
        self,
        claim: ClaimPayment,
        asset: Address,
        received: int = 0,
        known: Mapping[bytes, InvoiceRecord | None] = {},
    ) -> list[Moment]:
        """Reveal for all parts of a claim, which are in one asset; `received` was paid before; `known`: see above."""
        digest, now = claim.payment_hash, self._channels.chain.now
        for part in claim.parts:
            if self._incoming.reveal(*part.name, claim.secret):
                received += part.lock.amount
        if not received:
            return []
        self._close(digest, InvoiceState.CLAIMED)
        record = known[digest] if digest in known else find_invoice(self._channels.disk, digest)
        if record is None or not record.own:
            self._channels.record((), partial(self._tell, Paid(digest, received, claim.secret, record is None, asset)))
        if record is None:
            return [KeysendClaimed(digest, claim.secret, received, now, asset)]
        return [InvoiceClaimed(digest, claim.secret, received, now)]

    def _close(self, digest: bytes, state: InvoiceState) -> None:
        """Take nothing more under this hash, from now on."""
        self._closed[digest] = state
        self._channels.record((), partial(self._forget, digest))

    def _forget(self, digest: bytes) -> None:
        """What was closed is in the store now."""
        self._closed.pop(digest, None)

    def _note(self, part: FinalLock, verdict: PartRefusal) -> None:
        """Remember for the owner why something was refused, if it was for an invoice."""
        digest = part.lock.condition
        record, state = find_invoice(self._channels.disk, digest), self._state(digest)
        if record is None or state is None or not record.text:
            return
        why = verdict.value.format(total=part.payload.total, asked=record.amount, told=part.payload.amount)
        if verdict is PartRefusal.UNWANTED:
            why = _ENDED.get(state, why)
        self._refusals[digest] = PartRefused(digest, part.lock.amount, self._channels.chain.now, why)
        self._refusals.move_to_end(digest)
        while len(self._refusals) > REMEMBERED_MAX:
            self._refusals.popitem(last=False)


def _failure(part: FinalLock, verdict: PartRefusal, now: int) -> Failure:
    """Return what the payer is told. Whoever probes learns the same from every refusal that is not about the lock."""
    if verdict is PartRefusal.INCOMPLETE:
        return Failure(Code.MPP_TIMEOUT)
    if verdict is PartRefusal.TAMPERED and part.lock.amount < part.payload.amount:
        return Failure(Code.FINAL_INCORRECT_AMOUNT, amount=part.lock.amount)
    if verdict is PartRefusal.TAMPERED:
        return Failure(Code.FINAL_INCORRECT_EXPIRY, time=part.lock.expiry)
    return Failure(Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS, amount=part.lock.amount, time=now)
