"""What follows in one channel as chain time passes: offers die, locks expire, secrets show up. Sans-IO."""

from __future__ import annotations

from tallystick.channels.protocol import confirmed
from tallystick.channels.protocol.conditions import worth
from tallystick.channels.protocol.operations import Cancel
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.session import Session

CANCEL_MARGIN = 30
"""Seconds of confirmed chain time after a lock's expiry before its writer cancels it: the peer sees it expired too."""


def let_pass(session: Session, chain: ChainTime) -> None:
    """Let time pass in a channel: dead offers, what was left aside, expired locks, registered secrets."""
    session.chain = chain
    before, after = session.channel, confirmed.expire_offers(session.channel, chain.final)
    if after is not before:
        session.change(after)
        session.changed()
        session.counting.tell()
        session.counting.outlived(before)
    session.resume(before.phase)
    for lock in session.channel.newest.locks:
        secret = chain.registered_in_time(lock)
        if lock.id in session.streams.outgoing:
            session.streams.on_time(lock)
        elif secret is not None and (amount := worth(lock, secret)):
            session.locks.pay(lock, secret, amount)
        elif lock.expiry + CANCEL_MARGIN < chain.final:
            session.locks.end(Cancel(lock.id))
    session.streams.chain_moved()
    session.locks.on_time()
