"""Payments to this node: the thin layer between `payee.Payee`, the invoices on disk and the locks that end here.

All that it decides is part of the commit of what made it decide: the claim of an invoice and the reveals of all parts
are one transaction, so that after a crash either all of them are claimed or none. An owner's `settle` and `cancel` are
such steps, too. What was claimed is told (`Paid`) once it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec

from tallystick.channels.conditions import digest_of
from tallystick.channels.errors import InvalidInput
from tallystick.channels.objects import NATIVE, ChannelId, Lock
from tallystick.channels.store import Moment, Store
from tallystick.router.codes import Code
from tallystick.router.failures import Failure
from tallystick.router.invoices import InvoiceCancelled, InvoiceClaimed, KeysendClaimed, find_invoice, wanted
from tallystick.router.payee import Answer, Claim, Held, IncomingPart, Patience, Payee, Refuse, Verdict
from tallystick.router.service import FinalLock

_Name = tuple[ChannelId, int]


class Paid(msgspec.Struct, frozen=True):
    """An invoice was paid, or a payment came without one; all of it is ours."""

    payment_hash: bytes
    amount: int
    secret: bytes
    keysend: bool


class PaymentHeld(msgspec.Struct, frozen=True):
    """All parts of a payment for a hold invoice are there: settle or cancel it."""

    payment_hash: bytes
    amount: int


class Door(Protocol):
    """What a payee needs of the router."""

    @property
    def now(self) -> int:
        """Chain time."""
        ...

    def registered(self, lock: Lock) -> bytes:
        """Return the secret of a lock if the chain shows it, in time; else nothing."""
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
        keysend: bool,
        later: Callable[[Callable[[], None]], None],
        tell: Callable[[Paid | PaymentHeld], None],
    ) -> None:
        """`later(then)` calls `then` after the commit that covers everything done so far."""
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
        """A lock ends here. What invoices ask for is the native coin: any other asset is worth nothing here."""
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
        )
        claimable = None
        if digest not in self._closed and final.asset == NATIVE:
            claimable = wanted(self._store, digest, payload, keysend=self._keysend)
        self._finals[final.channel, lock.id] = final
        return self._perform(self._payee.arrived(digest, part, claimable, self._door.now))

    def gone(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """A lock that ended here is no more. If it was paid for a secret that we did not reveal, all parts are ours."""
        if self._finals.pop((channel, lock.id), None) is None:
            return ()
        self._payee.gone(lock.condition, channel, lock.id)
        return self._claim(self._payee.opened(lock.condition, secret), lock.amount) if secret else ()

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
        for answer in self._instead(answers):
            if isinstance(answer, Claim):
                moments += self._claim(answer)
            elif isinstance(answer, Held):
                held = PaymentHeld(answer.payment_hash, sum(part.amount for part in answer.parts))
                self._later(partial(self._tell, held))
            else:
                self._refuse(answer.part, answer.verdict)
        return moments

    def _instead(self, answers: list[Answer]) -> list[Answer]:
        """Claim what would be let go for want of parts or time, if the chain shows its secret: its payer is to pay."""
        kept: list[Answer] = []
        claims: dict[bytes, Claim] = {}
        for answer in answers:
            secret = b""
            if isinstance(answer, Refuse) and answer.verdict in (Verdict.INCOMPLETE, Verdict.TOO_SOON):
                lock = self._finals[answer.part.channel, answer.part.lock].lock
                secret = self._door.registered(lock)
            if not secret or not isinstance(answer, Refuse):
                kept.append(answer)
                continue
            parts = claims[lock.condition].parts if lock.condition in claims else ()
            claims[lock.condition] = Claim(lock.condition, secret, (*parts, answer.part))
        return [*kept, *claims.values()]

    def _claim(self, claim: Claim, received: int = 0) -> list[Moment]:
        """Reveal for all parts of a claim; `received` was paid before."""
        digest, now = claim.payment_hash, self._door.now
        for part in claim.parts:
            self._finals.pop((part.channel, part.lock), None)
            if self._door.reveal(part.channel, part.lock, claim.secret):
                received += part.amount
        if not received:
            return []
        self._close(digest)
        keysend = find_invoice(self._store, digest) is None
        self._later(lambda: self._tell(Paid(digest, received, claim.secret, keysend)))
        if keysend:
            return [KeysendClaimed(digest, claim.secret, received, now)]
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
