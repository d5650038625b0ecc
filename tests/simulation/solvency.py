"""What must hold of payments over several hops, read from the disks of all nodes of a world. Raises Violation.

    check_circuits    at any moment: one incoming lock pays for one outgoing lock at most, no onion served twice, nobody
                      has paid onwards what it cannot claim, and nobody has lost an incoming lock that it paid for
    check_payments    at rest: payer and payee tell the same of every payment, nobody is paid twice, and every node owns
                      exactly what its own records say, in each asset: what it received, less what it paid, plus what it
                      earned

A payment that was not made must say why in words. `losses` finds the locks that somebody claimed and was not paid for:
who has given a secret away and stays away past the lock's expiry. A world in which that may be says which are excused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from simulation.invariants import histories
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Update, decode
from tallystick.channels.protocol.objects import Address, ChannelId, Lock
from tallystick.channels.protocol.operations import AddLock, Cancel, Unlock
from tallystick.channels.storage.schema import load_channels, received_after
from tallystick.channels.storage.store import Store
from tallystick.router.forwarding.circuits import ForwardRecord, forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import Circuit, ForwardOutcome, Name
from tallystick.router.receiving.issued import InvoiceRecord, list_invoices
from tallystick.router.sending.payments import PaymentRecord, list_payments, load_parts
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import World

EVERYTHING = 10**9


class Ledger(msgspec.Struct, frozen=True):
    """What one node's disk says of payments over several hops."""

    payments: list[PaymentRecord]
    invoices: list[InvoiceRecord]
    circuits: list[Circuit]
    forwards: list[ForwardRecord]
    sent: dict[bytes, tuple[int, int]]
    """By payment hash: what its paid parts took from this node, and what they delivered."""
    assets: dict[ChannelId, Address]
    """What each of the node's channels carries."""

    @property
    def gains(self) -> Counter[Address]:
        """By how much all this has made the node richer, by asset; without those in which it has not."""
        gains: Counter[Address] = Counter()
        for forward in self.forwards:
            if forward.outcome is ForwardOutcome.PAID:
                gains[self.assets[forward.circuit.outgoing]] += forward.circuit.fee
        for invoice in self.invoices:
            gains[invoice.asset] += invoice.received
        for record in self.payments:
            gains[record.order.asset] -= self.sent[record.order.payment_hash][0]
        return _without_zeros(gains)


class Loss(msgspec.Struct, frozen=True):
    """A lock that a node claimed and was not paid for."""

    name: str
    channel: ChannelId
    lock: Lock
    since: int
    """Chain time at which the node had stored the claim."""


def read_ledger(store: Store) -> Ledger:
    """Read a node's ledger."""
    payments = [record for _, record in list_payments(store, EVERYTHING)]
    sent: dict[bytes, tuple[int, int]] = {}
    for record in payments:
        routes = [part.route for part in load_parts(store, record.order.payment_hash) if part.secret]
        sent[record.order.payment_hash] = (
            sum(route.hops[0].amount for route in routes),
            sum(route.delivered for route in routes),
        )
    return Ledger(
        payments,
        list_invoices(store, EVERYTHING, own=True),
        [circuit for circuit, _ in load_circuits(store)],
        forwards_after(store, 0, EVERYTHING),
        sent,
        {channel.id: channel.terms.asset for channel in load_channels(store)},
    )


def ledgers(world: World) -> dict[str, Ledger]:
    """Return the ledgers of all nodes that ever lived."""
    return {name: read_ledger(seat.audit.store) for name, seat in world.seats.items() if seat.audit.store is not None}


def losses(world: World) -> list[Loss]:
    """Return the locks that were claimed and not paid for, neither by the peer nor by the chain. At rest."""
    secrets = histories(world)[1]
    found: list[Loss] = []
    for name, seat in world.seats.items():
        if seat.audit.store is not None and seat.audit.claims:
            added, ended = _incoming(seat.audit.store)
            for lock_name, since in seat.audit.claims.items():
                lock = added[lock_name]
                paid = ended.get(lock_name, secrets.get(lock.condition, lock.expiry + 1) <= lock.expiry)
                if not paid:
                    found.append(Loss(name, lock_name[0], lock, since))
    return found


def _incoming(store: Store) -> tuple[dict[Name, Lock], dict[Name, bool]]:
    """Return every lock that came in, and of those that are agreed gone, whether they were paid."""
    added: dict[Name, Lock] = {}
    ended: dict[Name, bool] = {}
    for row in received_after(store, 0, EVERYTHING):
        update = decode(row.frame)
        for operation in update.operations if isinstance(update, Update) else ():
            if isinstance(operation, AddLock):
                added[row.channel, operation.lock.id] = operation.lock
            elif isinstance(operation, (Unlock, Cancel)):
                ended[row.channel, operation.id] = isinstance(operation, Unlock)
    return added, ended


# --- at any moment ----------------------------------------------------------------------------------------------


def check_circuits(world: World, dishonest: Iterable[str] = ()) -> None:
    """Raise Violation unless every honest forwarder is covered for what it paid or may have to pay."""
    for name, seat in world.seats.items():
        if seat.audit.store is not None and name not in dishonest:
            _check_forwarder(name, seat.audit.store)


def _check_forwarder(name: str, store: Store) -> None:
    forwards = forwards_after(store, 0, EVERYTHING)
    circuits = [circuit for circuit, _ in load_circuits(store)] + [forward.circuit for forward in forwards]
    for what, count in Counter(circuit.origin for circuit in circuits).items():
        if count > 1:
            raise Violation(f"{name} has {count} outgoing locks for the incoming lock {what}")
    if len({circuit.secret for circuit in circuits}) < len(circuits):
        raise Violation(f"{name} has forwarded one onion twice")
    if any(circuit.fee < 0 for circuit in circuits):
        raise Violation(f"{name} forwards more than it is to receive")
    channels = {channel.id: channel for channel in load_channels(store)}
    if any(channels[c.incoming].terms.asset != channels[c.outgoing].terms.asset for c in circuits):
        raise Violation(f"{name} has forwarded one asset for another")
    for forward in forwards:
        if forward.outcome is ForwardOutcome.LOST:
            raise Violation(f"{name} has paid {forward.circuit.amount_out} onwards and lost what was to pay for it")
        incoming, lock = channels[forward.circuit.incoming], forward.circuit.incoming_lock
        pending = any(waiting.id == lock for waiting in incoming.theirs.simplex.locks)
        claimable = any(known.lock == lock for known in incoming.secrets)
        if forward.outcome is ForwardOutcome.PAID and pending and not claimable and incoming.phase is Phase.OPEN:
            raise Violation(f"{name} has paid onwards, and cannot claim lock {lock} of {incoming.id.hex()[:8]}")


# --- at rest ----------------------------------------------------------------------------------------------------


def check_payments(
    world: World, dishonest: Iterable[str] = (), *, excused: Sequence[Loss] = (), shared: Collection[bytes] = ()
) -> None:
    """Raise Violation unless all records agree, and every honest node owns what its own say, less what is excused.

    `shared`: the payment hashes that more than one payer may pay. Their parts look alike to the payee, and once one is
    taken, whoever holds another one, on the way or there, may be paid for it: then nobody has less than it says.
    """
    check_circuits(world, dishonest)
    known = ledgers(world)
    honest = {name: ledger for name, ledger in known.items() if name not in dishonest}
    claimed = {
        invoice.payment_hash: invoice for ledger in known.values() for invoice in ledger.invoices if invoice.received
    }
    payers = Counter(record.order.payment_hash for book in known.values() for record in book.payments if record.is_paid)
    for digest, count in payers.items():
        if count > 1 and digest not in shared:
            raise Violation(f"payment {digest.hex()[:8]} was paid by {count} payers")
    unsure = {loss.lock.condition for loss in excused}
    mixed = {*unsure, *shared}
    for name, ledger in honest.items():
        if ledger.circuits:
            raise Violation(f"{name} still forwards {len(ledger.circuits)} payments")
        for record in ledger.payments:
            digest = record.order.payment_hash
            _check_record(name, ledger, record, claimed.get(digest), payers, sure=digest not in mixed)
        for invoice in ledger.invoices:
            if invoice.received and invoice.payment_hash not in unsure:
                twice = payers[invoice.payment_hash] > 1
                _check_received(name, invoice, known.values(), twice=twice)
    gains, exact = _gains(world), max(payers.values(), default=0) < 2
    for name, ledger in honest.items():
        due = Counter(ledger.gains)
        for loss in excused:
            if loss.name == name:
                due[ledger.assets[loss.channel]] -= loss.lock.amount
        has = gains.get(name, Counter())
        kept = _kept(ledger, [loss for loss in excused if loss.name != name])
        off = {asset: has[asset] - due[asset] for asset in {*has, *due}}
        if any(gap < 0 or (gap > kept[asset] and exact) for asset, gap in off.items()):
            raise Violation(f"{name} has gained {_told(has)} in its channels, its records say {_told(due)}")


def _kept(ledger: Ledger, losses: Iterable[Loss]) -> Counter[Address]:
    """Return what a node has still, at most, as its peers lost it: by its records it may have paid that."""
    kept: Counter[Address] = Counter()
    for loss in losses:
        if loss.channel in ledger.assets:
            kept[ledger.assets[loss.channel]] += loss.lock.amount
    return kept


def _check_received(name: str, invoice: InvoiceRecord, ledgers: Iterable[Ledger], *, twice: bool) -> None:
    """`twice`: two have paid, so some of it may have come too late, and have been paid as the chain had the secret."""
    delivered = sum(ledger.sent.get(invoice.payment_hash, (0, 0))[1] for ledger in ledgers)
    if delivered < invoice.received or (delivered > invoice.received and not twice):
        label = f"payment {invoice.payment_hash.hex()[:8]}"
        raise Violation(f"{name} received {invoice.received} in {label}, its payers say {delivered}")


def _check_record(
    name: str,
    ledger: Ledger,
    record: PaymentRecord,
    invoice: InvoiceRecord | None,
    payers: Counter[bytes],
    *,
    sure: bool,
) -> None:
    """`sure`: all parts that the payee took are this payer's, and nobody on the way was excused a loss."""
    order, label = record.order, f"{name}'s payment {record.order.payment_hash.hex()[:8]}"
    out, delivered = ledger.sent[order.payment_hash]
    if record.ended is None:
        raise Violation(f"{label} has not ended")
    if not record.is_paid:
        if out or (sure and invoice is not None and not payers[order.payment_hash]):
            raise Violation(f"{label} is said to be unpaid, and {out} was paid for it: {record.text}")
        if not record.text or record.reason is None:
            raise Violation(f"{label} failed without a word")
        return
    if digest_of(record.secret) != order.payment_hash:
        raise Violation(f"{label} has a receipt that proves nothing")
    if invoice is None or invoice.secret != record.secret:
        raise Violation(f"{label} has a receipt, and its payee has not claimed it")
    if invoice.asset != order.asset:
        raise Violation(f"{label} was made in one asset and received in another")
    if sure and not order.amount <= invoice.received:
        raise Violation(f"{label} of {order.amount} is paid, its payee received {invoice.received}")
    if (sure and out - delivered != record.fee) or max(out - delivered, record.fee) > order.max_fee:
        raise Violation(f"{label} cost {out - delivered}, its record says {record.fee} of at most {order.max_fee}")


def _gains(world: World) -> dict[str, Counter[Address]]:
    """Return what every node has in its channels, or got out of them, beyond what it put in: by its own disk."""
    past, _ = histories(world)
    gains: dict[str, Counter[Address]] = {}
    for name, seat in world.seats.items():
        own: Counter[Address] = Counter()
        for channel in load_channels(seat.audit.store) if seat.audit.store is not None else ():
            history, side = past.get(channel.id), channel.side
            if history is None:
                continue
            put_in = history.deposits[side] - history.withdrawn[side]
            now = history.paid[side] if channel.phase is Phase.GONE else channel.balances()[side]
            own[channel.terms.asset] += now - put_in
        gains[name] = _without_zeros(own)
    return gains


def _without_zeros(gains: Counter[Address]) -> Counter[Address]:
    return Counter({asset: gain for asset, gain in gains.items() if gain})


def _told(gains: Mapping[Address, int]) -> str:
    return " and ".join(f"{gain} of 0x{asset.hex()}" for asset, gain in sorted(gains.items())) or "nothing"
