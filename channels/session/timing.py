"""What follows in one channel as time passes, and at its end. Sans-IO.

of the chain    offers die, locks expire, secrets show up
of rounds       what is due is signed; whoever owes an acknowledgement is looked at
"""

from __future__ import annotations

from tallystick.channels.errors import EngineStopped
from tallystick.channels.protocol import offers
from tallystick.channels.protocol.conditions import BY_COURT, worth
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.operations import Cancel, Unlock
from tallystick.channels.session import negotiation, resync
from tallystick.channels.session.chaintime import MARGIN, ChainTime
from tallystick.channels.session.session import Session


def on_chain_moved(session: Session, chain: ChainTime) -> bool:
    """Let chain time pass in a channel; return whether anything in it waits for that."""
    session.chain = chain
    waits = session.channel.phase is not Phase.GONE and (session.link.missed or not offers.timeless(session.channel))
    if waits:
        let_pass(session, chain)
    session.locks.on_time()
    return waits


def let_pass(session: Session, chain: ChainTime) -> None:
    """Let time pass: dead offers, what was left aside, expired locks, registered secrets, links that wait."""
    before, after = session.channel, offers.expire_offers(session.channel, chain.final)
    if after is not before:
        session.change(after)
        session.tell_changed()
        session.counting.tell()
        session.counting.on_withdrawal_died(before)
    session.resume(before.phase)
    for lock in session.channel.newest.locks:
        secret = chain.registered_in_time(lock)
        if lock.id in session.streams.outgoing:
            session.streams.on_time(lock)
        elif secret is not None and (amount := worth(lock, secret)):
            session.locks.pay(lock, secret, amount)
        elif given := chain.given_in_court(lock, MARGIN):
            session.locks.end(Unlock(lock.id, BY_COURT, given))
        elif chain.went_back(lock, MARGIN):
            session.locks.end(Cancel(lock.id))
    session.streams.on_chain_moved()


def sign_due(session: Session, now: float) -> None:
    """Say again what the peer asked for, sign what is due, and do the next step of a close."""
    resync.repeat(session)
    session.flush(now)
    negotiation.advance_close(session)


def look(session: Session, rounds: tuple[int, int], now: float, *, queued: bool) -> bool:
    """Return whether the peer owes an acknowledgement; raise InvalidUpdate if it has for too long.

    Only of what it could acknowledge now: in step, and open.
    """
    waits = session.link.ready and session.channel.phase is Phase.OPEN
    oldest = session.sent[0].seq if session.sent and waits else 0
    if session.patience.look(oldest, rounds, now, queued=queued, excused=session.link.excused):
        raise session.patience.cut(session.channel.id)
    return oldest > 0


def stop(session: Session) -> None:
    """End what waits unsigned: what was signed is resumed at the next start."""
    session.abandon(EngineStopped("the node is stopping: this payment was not made"))
