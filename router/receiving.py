"""Payments to this node: the thin layer between `payee.Payee`, the invoices on disk and the locks that end here.

All that it decides is part of the commit of what made it decide: the claim of an invoice and the reveals of all parts
are one transaction, so that after a crash either all of them are claimed or none. An owner's `settle` and `cancel` are
such steps, too. What was claimed is told (`Paid`) once it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Protocol

import msgspec

from tallystick.channels.conditions import digest_of
from tallystick.channels.errors import InvalidInput
from tallystick.channels.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.store import Moment, Store
from tallystick.router.codes import Code
from tallystick.router.failures import Failure
from tallystick.router.invoices import InvoiceCancelled, InvoiceClaimed, KeysendClaimed, find_invoice, wanted
from tallystick.router.payee import Answer, Claim, Held, IncomingPart, Patience, Payee, Verdict
from tallystick.router.service import FinalLock

_Name = tuple[ChannelId, int]


class Paid(msgspec.Struct, frozen=True):
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


class Door(Protocol):
    """What a payee needs of the router."""

    @property
    def now(self) -> int:
        """Chain time."""
        ...

    def reveal(self, channel: ChannelId, lock: int, secret: bytes) -> bool:
        """Claim a lock."""
        ...

    def refuse(self, final: FinalLock, failure: Failure) -> None:
        """Let a lock go."""
        ...


class Receiving:
    """The router's payee. `tell` gets `Paid` and `PaymentHeld` after the commit."""

    def __init__(
        self,
        door: Door,
        store: Store,
        *,
        patience: Patience,
        keysend: Collection[Address],
        later: Callable[[Callable[[], None]], None],
        tell: Callable[[Paid | PaymentHeld], None],
    ) -> None:
        """`keysend`: the assets in which payments without an invoice are taken.

        `later(then)` calls `then` after the commit that covers everything done so far.
        """
        self._door = door
        self._store = store
        self._keysend = keysend
        self._later = later
        self._tell = tell
        self._payee = Payee(patience)
        self._finals: dict[_Name, FinalLock] = {}
        self._closed: set[bytes] = set()
        """Claimed or cancelled in steps that are not durable yet: the store does not know of them."""

    @property
    def held(self) -> dict[bytes, int]:
        """Complete payments that wait for `settle` or `cancel`: hash to amount."""
        return self._payee.held

    # --- what the router tells ----------------------------------------------------------------------------------

    def arrived(self, final: FinalLock) -> Sequence[Moment]:
        """A lock ends here. In another asset than its invoice asks for, it is worth nothing."""
        lock, payload = final.lock, final.payload
        digest = lock.condition
        part = IncomingPart(
            final.channel,
            lock.id,
            lock.amount,
            lock.expiry,
            payload.payment_secret,
            payload.total,
            payload.amount,
            payload.expiry,
            final.asset,
        )
        claimable = None
        if digest not in self._closed:
            keysend = final.asset in self._keysend
            claimable = wanted(self._store, digest, payload, keysend=keysend, asset=final.asset)
        self._finals[final.channel, lock.id] = final
        return self._perform(self._payee.arrived(digest, part, claimable, self._door.now))

    def gone(self, channel: ChannelId, lock: Lock, paid: int) -> Sequence[Moment]:
        """A lock that ended here is no more."""
        if self._finals.pop((channel, lock.id), None) is not None:
            self._payee.gone(lock.condition, channel, lock.id)
        return ()

    def time_passed(self) -> Sequence[Moment]:
        """Chain time has passed."""
        return self._perform(self._payee.on_time(self._door.now))

    # --- what the owner wants -----------------------------------------------------------------------------------

    def settle(self, secret: bytes) -> list[Moment]:
        """Claim the held payment that `secret` opens; return what must be in the same commit. Raise InvalidInput."""
        digest = digest_of(secret)
        claim = self._payee.settle(digest, secret)
        if claim is None:
            raise InvalidInput(
                "no payment with the hash of this secret is held; `tally invoice list` shows those that are"
            )
        return self._perform([claim])

    def cancel(self, payment_hash: bytes) -> list[Moment]:
        """Let go what has come for an invoice, and take nothing more; return what must be in the same commit.

        Raise InvalidInput if it is unknown or was claimed.
        """
        record = find_invoice(self._store, payment_hash)
        if record is None or record.claimable is None or payment_hash in self._closed:
            raise InvalidInput("there is no invoice of that hash that could be cancelled")
        self._close(payment_hash)
        moments: list[Moment] = [InvoiceCancelled(payment_hash, self._door.now)]
        return moments + self._perform(self._payee.cancel(payment_hash))

    # --- doing it -----------------------------------------------------------------------------------------------

    def _perform(self, answers: list[Answer]) -> list[Moment]:
        moments: list[Moment] = []
        for answer in answers:
            if isinstance(answer, Claim):
                moments += self._claim(answer)
            elif isinstance(answer, Held):
                held = PaymentHeld(
                    answer.payment_hash, sum(part.amount for part in answer.parts), answer.parts[0].asset
                )
                self._later(partial(self._tell, held))
            else:
                self._refuse(answer.part, answer.verdict)
        return moments

    def _claim(self, claim: Claim) -> list[Moment]:
        digest, now, asset = claim.payment_hash, self._door.now, claim.parts[0].asset
        received = 0
        for part in claim.parts:
            self._finals.pop((part.channel, part.lock), None)
            if self._door.reveal(part.channel, part.lock, claim.secret):
                received += part.amount
        if not received:
            return []
        self._close(digest)
        keysend = find_invoice(self._store, digest) is None
        self._later(lambda: self._tell(Paid(digest, received, claim.secret, keysend, asset)))
        if keysend:
            return [KeysendClaimed(digest, claim.secret, received, now, asset)]
        return [InvoiceClaimed(digest, claim.secret, received, now)]

    def _close(self, digest: bytes) -> None:
        """Take nothing more under this hash, from now on."""
        self._closed.add(digest)
        self._later(lambda: self._closed.discard(digest))

    def _refuse(self, part: IncomingPart, verdict: Verdict) -> None:
        final = self._finals.pop((part.channel, part.lock), None)
        if final is not None:
            self._door.refuse(final, _failure(part, verdict, self._door.now))


def _failure(part: IncomingPart, verdict: Verdict, now: int) -> Failure:
    """Return what the payer is told. Whoever probes learns the same from every refusal that is not about the lock."""
    if verdict is Verdict.INCOMPLETE:
        return Failure(Code.MPP_TIMEOUT)
    if verdict is Verdict.TAMPERED and part.amount < part.told:
        return Failure(Code.FINAL_INCORRECT_AMOUNT, amount=part.amount)
    if verdict is Verdict.TAMPERED:
        return Failure(Code.FINAL_INCORRECT_EXPIRY, time=part.expiry)
    return Failure(Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS, amount=part.amount, time=now)
