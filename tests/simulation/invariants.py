"""What must hold in a world, whatever happened in it. Each function raises Violation with a sentence, or returns.

    check_always    at any moment: coins are conserved, no honest closer is convicted, every receipt is in the payee's
                    journal, no payment is there twice or was never made, and what a payee acknowledged of a stream is
                    on its disk until the lock is gone
    check_settled   once faults have stopped and things have come to rest: nothing pends, both sides agree, every open
                    channel can pay, and whoever settled got no less than its newest statements say

What one node says is held against its disk as it says it (`audit`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from tallystick.channels.protocol.app_court import AppStands
from tallystick.channels.protocol.conditions import STREAM
from tallystick.channels.protocol.core import Channel, CloseInitiator, Phase
from tallystick.channels.protocol.hashchain import StreamProof
from tallystick.channels.protocol.messages import Update, decode
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.operations import Pay
from tallystick.channels.session.tickets import Receipt, Ticket
from tallystick.channels.storage.schema import load_streams, received_after
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import Seat, World
from tallystick.settlement.chain import (
    AccountEvent,
    Challenged,
    Closed,
    CooperativelyClosed,
    Deposited,
    Event,
    LinkRegistered,
    ProofRegistered,
    Redeemed,
    SecretRegistered,
    Settled,
    Withdrawn,
)

EVERYTHING = 10**9


class Promise(msgspec.Struct):
    """One payment that the world asked a node for. Its memo is unique in the world."""

    payer: str
    payee: str
    channel: ChannelId
    amount: int
    memo: bytes
    ticket: Ticket | None = None
    """Once it was accepted."""
    receipt: Receipt | None = None
    refused: bool = False
    """It was not accepted."""

    @property
    def never_made(self) -> bool:
        """Whether its node said that it was not made: refused, or ended before it was signed."""
        failed = self.ticket is not None and self.ticket.error is not None and self.ticket.payment is None
        return self.refused or failed


class Received(msgspec.Struct, frozen=True):
    """A payment in a payee's journal."""

    channel: ChannelId
    payment: int
    amount: int
    memo: bytes


def journal(seat: Seat) -> list[Received]:
    """Return every payment that is durable at a node, in order."""
    store = seat.audit.store
    if store is None:
        return []
    found = []
    for row in received_after(store, 0, EVERYTHING):
        update = decode(row.frame)
        for run in update.operations if isinstance(update, Update) else ():
            if isinstance(run, Pay):
                memos = run.memos or (b"",) * len(run.amounts)
                for offset, (amount, memo) in enumerate(zip(run.amounts, memos, strict=True)):
                    found.append(Received(row.channel, run.first + offset, amount, memo))
    return found


class History(msgspec.Struct):
    """What the best branch says of one channel."""

    deposits: list[int]
    withdrawn: list[int]
    paid: list[int]
    """What each side was paid when the channel ended."""
    closer: int | None = None
    closed_at: int | None = None
    settled_at: int | None = None
    convicted: bool = False
    cooperative: bool = False


def _events(world: World) -> Iterator[tuple[int, Event]]:
    first = 0
    while records := world.chain.slice(first, 1_000):
        for record in records:
            for event in record.block.events:
                yield record.header.time, event
        first += len(records)


def stream_worths(world: World) -> dict[bytes, int]:
    """Return what the deepest registered link of each stream is worth, by condition."""
    links = [event for _, event in _events(world) if isinstance(event, LinkRegistered)]
    worths: dict[bytes, int] = {}
    for link in links:
        worths[link.condition] = max(worths.get(link.condition, 0), link.depth * link.unit)
    return worths


def histories(world: World) -> tuple[dict[ChannelId, History], dict[bytes, int]]:
    """Return each channel's history, and when each secret was registered."""
    found: dict[ChannelId, History] = {}
    secrets: dict[bytes, int] = {}
    for time, event in _events(world):
        if isinstance(event, SecretRegistered):
            secrets.setdefault(event.digest, time)
            continue
        if isinstance(event, LinkRegistered | ProofRegistered | AppStands | AccountEvent):
            continue
        history = found.setdefault(event.channel, History([0, 0], [0, 0], [0, 0]))
        match event:
            case Deposited(_, side, total):
                history.deposits[side] = total
            case Withdrawn(_, side, total):
                history.withdrawn[side] = total
            case CooperativelyClosed(_, balance0, balance1):
                history.paid, history.cooperative = [balance0, balance1], True
            case Closed(_, closer):
                history.closer, history.closed_at = closer, time
            case Challenged(_, _, _, _, convicts):
                history.convicted = history.convicted or convicts
            case Settled(_, net0, net1):
                history.paid, history.settled_at = [net0, net1], time
            case Redeemed(_, sender, paid, refunded):
                history.paid[sender] += refunded
                history.paid[1 - sender] += paid
            case _:
                pass
    return found, secrets


# --- at any moment ----------------------------------------------------------------------------------------------


def check_always(world: World, promises: list[Promise] | None = None, dishonest: frozenset[str] = frozenset()) -> None:
    """Raise Violation unless everything holds that must hold at any moment. `promises`: all payments, if known."""
    world.chain.check_conservation()
    _check_convictions(world, dishonest)
    _check_streams(world)
    if promises is None:
        return
    journals = {name: journal(seat) for name, seat in world.seats.items()}
    for name, payments in journals.items():
        _check_journal(name, payments, [promise for promise in promises if promise.payee == name])


def _check_convictions(world: World, dishonest: frozenset[str]) -> None:
    for channel, history in histories(world)[0].items():
        if history.convicted and history.closer is not None:
            closer = _roles(world, channel)[history.closer]
            if closer not in dishonest:
                raise Violation(f"{closer}, an honest closer, was convicted in channel {channel.hex()[:8]}")


def _roles(world: World, channel: ChannelId) -> tuple[str, str]:
    """Return the roles of a channel's two sides."""
    for seat in world.seats.values():
        sides = seat.audit.sides.get(channel)
        if sides is not None:
            names = {other.key.address: other.name for other in world.seats.values()}
            return names[sides[0]], names[sides[1]]
    raise Violation(f"nobody has stored channel {channel.hex()[:8]}, which is on chain")


def _check_streams(world: World) -> None:
    """What a running payer was acknowledged of a stream is on its payee's disk, as long as the payee has the lock."""
    seats = {bytes(seat.key.public): seat for seat in world.seats.values()}
    for seat in world.seats.values():
        sessions = world.node(seat.name).engine.sessions.values() if world.is_up(seat.name) else ()
        for session in sessions:
            payee = seats.get(session.channel.peer_key)
            if payee is None:  # a stranger's opening
                continue
            for stream in session.streams.outgoing.values():
                stored = _stored_depth(payee, session.channel, stream.lock)
                if stored is not None and stored < stream.acked:
                    raise Violation(
                        f"{payee.name} has acknowledged {stream.acked} units of {seat.name}'s stream {stream.lock}, "
                        f"and holds {stored}"
                    )


def _stored_depth(payee: Seat, channel: Channel, lock: int) -> int | None:
    """Return how deep a payee's disk is in the peer's stream, None if the stream is over there."""
    store = payee.audit.store
    rows = load_streams(store, channel.id) if store is not None else []
    depths = [StreamProof.decode(row.proof).depth for row in rows if (row.sender, row.lock) == (channel.side, lock)]
    return depths[0] if depths else None


def _check_journal(name: str, payments: list[Received], promises: list[Promise]) -> None:
    names = Counter((payment.channel, payment.payment) for payment in payments)
    for doubled in (key for key, count in names.items() if count > 1):
        raise Violation(f"{name} has payment {doubled[1]} of channel {doubled[0].hex()[:8]} twice")
    by_memo: dict[bytes, list[Received]] = {}
    for payment in payments:
        by_memo.setdefault(payment.memo, []).append(payment)
    for promise in promises:
        found = by_memo.pop(promise.memo, [])
        what = f"{promise.payer}'s payment {promise.memo!r} of {promise.amount} to {name}"
        if len(found) > 1:
            raise Violation(f"{what} was made {len(found)} times")
        if found and (found[0].amount, found[0].channel) != (promise.amount, promise.channel):
            raise Violation(f"{what} arrived as {found[0]}")
        if found and promise.never_made:
            raise Violation(f"{what} was said not to be made, and arrived")
        if promise.receipt is not None and (not found or found[0].payment != promise.receipt.payment):
            raise Violation(f"{what} has a receipt, and is not in the payee's journal")
    if by_memo:
        raise Violation(f"{name} received what nobody paid: {sorted(by_memo)}")


# --- at rest ----------------------------------------------------------------------------------------------------


def unsettled(world: World, names: list[str]) -> list[str]:
    """Return what still pends at these running nodes, one phrase each; empty once they are at rest."""
    found = []
    for name in names:
        node = world.node(name)
        for session in node.engine.sessions.values():
            channel, label = session.channel, f"{name}'s channel {session.channel.id.hex()[:8]}"
            on_chain = node.onchain.index.view(channel.id, node.onchain.index.head_number) is not None
            if channel.phase not in (Phase.OPEN, Phase.GONE) and (on_chain or channel.phase is not Phase.OPENING):
                found.append(f"{label} is {channel.phase.name}")
            if channel.phase is Phase.OPEN:
                if not session.ready:
                    found.append(f"{label} is not in step")
                if channel.flight or len(session.outbox) or channel.ours.simplex.locks or channel.theirs.simplex.locks:
                    found.append(f"{label} has something in flight, waiting or locked: {session!r}")
                if channel.withdrawals != (None, None) or channel.offer is not None:
                    found.append(f"{label} has a live offer")
                if channel.shutdown is not CloseInitiator.NONE:
                    found.append(f"{label} is about to close")
                if session.funding != channel.funding(channel.side):
                    found.append(f"{label} is not counted alike")
        statistics = node.onchain.sender.statistics()
        if statistics.waiting or statistics.sent:
            found.append(f"{name} has transactions to send: {[o.id for o in node.onchain.sender.obligations()]}")
    return found


def check_settled(world: World, names: list[str]) -> None:
    """Raise Violation unless these running nodes are at rest, agree, and got what they were due."""
    pending = unsettled(world, names)
    if pending:
        raise Violation("; ".join(pending))
    found, secrets = histories(world)
    for name in names:
        node = world.node(name)
        for session in node.engine.sessions.values():
            history = found.get(session.channel.id)
            if session.channel.phase is Phase.GONE and history is not None:
                _check_payout(name, session.channel, history, secrets, stream_worths(world))
    _check_agreement(world, names)


def _check_payout(
    name: str, channel: Channel, history: History, secrets: dict[bytes, int], worths: dict[bytes, int]
) -> None:
    """What a side got is no less than its newest statements say, locks decided by the registry."""

    def pays(lock: Lock) -> int:
        if lock.kind == STREAM:
            return min(worths.get(lock.condition, 0), lock.amount)
        return lock.amount if secrets.get(lock.condition, lock.expiry + 1) <= lock.expiry else 0

    side = channel.side
    due = history.deposits[side] - history.withdrawn[side]
    due += channel.theirs.simplex.proof.transferred - channel.newest.proof.transferred
    due += sum(pays(lock) for lock in channel.theirs.simplex.locks)
    due -= sum(pays(lock) for lock in channel.newest.locks)
    if history.paid[side] < due:
        raise Violation(f"{name} was due {due} from channel {channel.id.hex()[:8]} and got {history.paid[side]}")
    if history.cooperative and history.paid[side] != due:
        raise Violation(f"{name} was due {due} from a cooperative close and got {history.paid[side]}")


def _check_agreement(world: World, names: list[str]) -> None:
    """Both sides of an open channel hold the same two statements, and the chain's funds are in them."""
    channels: dict[ChannelId, list[tuple[str, Channel]]] = {}
    for name in names:
        for session in world.node(name).engine.sessions.values():
            if session.channel.phase is Phase.OPEN:
                channels.setdefault(session.channel.id, []).append((name, session.channel))
    for identity, sides in channels.items():
        label = f"channel {identity.hex()[:8]}"
        if len(sides) != 2:
            raise Violation(f"{label} is open at {sides[0][0]} only")
        (one, mine), (other, yours) = sides
        if mine.ours != yours.theirs or mine.theirs != yours.ours:
            raise Violation(f"{one} and {other} hold different statements of {label}")
        if mine.balances() != yours.balances() or min(mine.balances()) < 0:
            raise Violation(f"{one} and {other} count {mine.balances()} and {yours.balances()} in {label}")
