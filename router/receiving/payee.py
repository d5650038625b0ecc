"""What a payee does with the locks that end at it: gather the parts of a payment, then take all of them or none.

Sans-IO. The parts of a payment share its hash, the invoice's payment secret and the total that they add up to. Once
they do, the payment is complete: it is claimed at once, or held if the invoice is one to hold, until `settle` or
`cancel`. What does not belong is refused alone; parts that the rest does not follow within `PayeeOptions.parts`
seconds, or whose locks come near their expiry, are let go. Nobody learns more from a refusal than that the payment is
not wanted (BOLT 4, incorrect_or_unknown_payment_details).

After a restart whatever lock is pending is presented again (`FinalLock.again`): it was taken before, so it came
in time, and what is gathered here need not be stored. That an invoice was claimed must be, in the commit of its first
`ClaimPayment` (`router.receiving.issued`).
"""

from __future__ import annotations

import enum
import hmac

import msgspec

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.values.arguments import Options
from tallystick.channels.values.discretion import Discreet
from tallystick.router.onion.payload import FinalLock


class PayeeOptions(Options, frozen=True, kw_only=True):
    """How long a payee waits. Seconds of chain time."""

    parts: int = 60
    """For the rest of a payment after its first part."""
    claim: int = 360
    """Left before a lock's expiry at which it is not taken any more; half of that, and it is let go, held or not. The
    half is above the channels' `reveal_margin` by as much as the clocks of those who pay may be ahead of ours."""


class Claimable(Discreet, msgspec.Struct, frozen=True):
    """What a payee knows of a payment that may come: from its invoice, or from a keysend's own words."""

    secret: bytes
    """32 bytes; empty if only whoever settles it knows the secret (a hold invoice for somebody else's hash)."""
    payment_secret: bytes
    """32 bytes that the invoice told the payer; empty for keysend."""
    amount: int = 0
    """Asked for; 0: any."""
    hold: bool = False
    expires: int = 0
    """When no new payment may begin; 0: never."""
    asset: Address = NATIVE
    """All parts must be in this one."""


class PartRefusal(enum.Enum):
    """Why a part is refused, in its owner's words. The payer learns nothing that tells the first six apart."""

    UNWANTED = "it is not wanted any more"
    """Nothing is known of such a payment; or it was paid, or cancelled."""
    EXPIRED = "the invoice had expired"
    WRONG_SECRET = "it came without the payment secret of the invoice"
    WRONG_AMOUNT = "it was to be a payment of {total}, and the invoice asks for {asked}, or up to twice as much"
    SUPERFLUOUS = "the payment is complete without it, or its parts do not agree on one amount"
    """Or they come to more than can be counted."""
    TOO_MANY = "too many payments are being gathered"
    TAMPERED = "the payer sent {told} or a longer lock: the node before us did not pass that on"
    TOO_SOON = "too little time was left to claim it safely"
    INCOMPLETE = "the other parts of a payment of {total} did not come in time"
    WRONG_ASSET = "it was in another asset than the invoice asks for"


class RefusePart(msgspec.Struct, frozen=True):
    """Let this lock go."""

    part: FinalLock
    verdict: PartRefusal


class ClaimPayment(Discreet, msgspec.Struct, frozen=True):
    """Reveal the secret for all these locks: store first that the payment is claimed."""

    payment_hash: bytes
    secret: bytes
    parts: tuple[FinalLock, ...]


class HoldPayment(msgspec.Struct, frozen=True):
    """All parts are there; they wait for `settle` or `cancel`."""

    payment_hash: bytes
    parts: tuple[FinalLock, ...]


Answer = RefusePart | ClaimPayment | HoldPayment


class _Gathering(msgspec.Struct):
    wanted: Claimable
    total: int
    deadline: int
    parts: list[FinalLock]
    held: bool = False

    @property
    def sum(self) -> int:
        return sum(part.lock.amount for part in self.parts)


class Payee:
    """All payments on their way to this node. At most `limit` are gathered at once; more are refused."""

    def __init__(self, patience: PayeeOptions, *, limit: int = 10_000) -> None:
        self._patience = patience
        self._limit = limit
        self._gathering: dict[bytes, _Gathering] = {}

    def __len__(self) -> int:
        return len(self._gathering)

    @property
    def held_payments(self) -> dict[bytes, int]:
        """The held payments: hash to amount."""
        return {digest: group.sum for digest, group in self._gathering.items() if group.held}

    def held_until(self, payment_hash: bytes) -> int | None:
        """Return the chain time up to which a held payment can be settled, None if it is not held."""
        group = self._gathering.get(payment_hash)
        if group is None or not group.held:
            return None
        return min(part.lock.expiry for part in group.parts) - self._last_moment

    def on_arrived(self, part: FinalLock, wanted: Claimable | None, now: int) -> list[Answer]:
        """A lock ends here. `wanted` is None if nothing is known of its hash (or if it was paid or cancelled)."""
        payment_hash = part.lock.condition
        group = self._gathering.get(payment_hash)
        if group is not None and any(part.name == other.name for other in group.parts):
            return []
        objection = self._objection(part, wanted, group, now)
        if objection is not None or wanted is None:
            return [RefusePart(part, objection or PartRefusal.UNWANTED)]
        if group is None:
            group = _Gathering(wanted, part.payload.total, now + self._patience.parts, [])
            self._gathering[payment_hash] = group
        group.parts.append(part)
        return self._complete(payment_hash, group)

    def _objection(
        self, part: FinalLock, wanted: Claimable | None, group: _Gathering | None, now: int
    ) -> PartRefusal | None:
        if wanted is None:
            return PartRefusal.UNWANTED
        lock, said = part.lock, part.payload
        if part.asset != (wanted if group is None else group.wanted).asset:
            return PartRefusal.WRONG_ASSET
        if not hmac.compare_digest(said.payment_secret, wanted.payment_secret):
            return PartRefusal.WRONG_SECRET
        if lock.amount < said.amount or lock.expiry < said.expiry:
            return PartRefusal.TAMPERED
        if lock.expiry < now + (self._last_moment if part.again else self._patience.claim):
            return PartRefusal.TOO_SOON
        if group is not None:
            more = group.held or group.sum >= group.total or group.sum + lock.amount > AMOUNT_MAX
            return PartRefusal.SUPERFLUOUS if more or said.total != group.total else None
        if 0 < wanted.expires < now and not part.again:
            return PartRefusal.EXPIRED
        if said.total < max(1, wanted.amount) or (wanted.amount and said.total > 2 * wanted.amount):
            return PartRefusal.WRONG_AMOUNT
        return PartRefusal.TOO_MANY if len(self._gathering) >= self._limit else None

    def _complete(self, payment_hash: bytes, group: _Gathering) -> list[Answer]:
        if group.sum < group.total:
            return []
        if group.wanted.hold:
            group.held = True
            return [HoldPayment(payment_hash, tuple(group.parts))]
        return [self._claim(payment_hash, group.wanted.secret)]

    def _claim(self, payment_hash: bytes, secret: bytes) -> ClaimPayment:
        return ClaimPayment(payment_hash, secret, tuple(self._gathering.pop(payment_hash).parts))

    @property
    def _last_moment(self) -> int:
        """Seconds before its expiry up to which a lock is claimed."""
        return self._patience.claim // 2

    def settle(self, payment_hash: bytes, secret: bytes, now: int) -> ClaimPayment | None:
        """Claim a held payment with its secret; None if no such payment is held, or too little time is left for it."""
        group = self._gathering.get(payment_hash)
        if group is None or not group.held or self._is_late(group, now):
            return None
        return self._claim(payment_hash, secret)

    def _is_late(self, group: _Gathering, now: int) -> bool:
        return min(part.lock.expiry for part in group.parts) < now + self._last_moment

    def cancel(self, payment_hash: bytes) -> list[Answer]:
        """Let go whatever has come of a payment."""
        return self._let_go(payment_hash, PartRefusal.UNWANTED)

    def on_secret_opened(self, payment_hash: bytes, secret: bytes) -> ClaimPayment:
        """The secret is out, by no act of ours: claim whatever has come (perhaps nothing), complete or not."""
        if payment_hash not in self._gathering:
            return ClaimPayment(payment_hash, secret, ())
        return self._claim(payment_hash, secret)

    def on_gone(self, channel: ChannelId, lock: Lock) -> FinalLock | None:
        """A lock has ended without us: its channel closed, or its payer took it back. Return it if it was gathered."""
        group = self._gathering.get(lock.condition)
        gone = [part for part in group.parts if part.name == (channel, lock.id)] if group is not None else []
        if group is None or not gone:
            return None
        group.parts.remove(gone[0])
        if not group.parts:
            del self._gathering[lock.condition]
        elif group.held:
            group.held = group.sum >= group.total
        return gone[0]

    def on_time(self, now: int) -> list[Answer]:
        """Let go what was incomplete for too long, and what comes too near to its expiry, held or not."""
        answers: list[Answer] = []
        for payment_hash, group in list(self._gathering.items()):
            late = self._is_late(group, now)
            if not group.held and (late or now > group.deadline):
                answers += self._let_go(payment_hash, PartRefusal.INCOMPLETE)
            elif late:
                answers += self._let_go(payment_hash, PartRefusal.TOO_SOON)
        return answers

    def _let_go(self, payment_hash: bytes, verdict: PartRefusal) -> list[Answer]:
        group = self._gathering.pop(payment_hash, None)
        return [RefusePart(part, verdict) for part in group.parts] if group is not None else []
