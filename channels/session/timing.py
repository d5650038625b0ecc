"""What follows in one channel as chain time passes: offers die, locks expire, secrets show up. Sans-IO."""

from __future__ import annotations

from tallystick.channels.protocol import confirmed
from tallystick.channels.protocol.conditions import worth
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.operations import Cancel
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.session import Session

CANCEL_MARGIN = 30
"""Seconds of confirmed chain time after a lock's expiry before its writer cancels it: the peer sees it expired too."""


def on_chain_moved(session: Session, chain: ChainTime) -> bool:
    """Let chain time pass in a channel; return whether anything in it waits for that."""
    session.chain = chain
    waits = session.channel.phase is not Phase.GONE and (session.link.missed or not confirmed.timeless(session.channel))
    if waits:
        let_pass(session, chain)
    session.locks.on_time()
    return waits


def let_pass(session: Session, chain: ChainTime) -> None:
    """Let time pass: dead offers, what was left aside, expired locks, registered secrets, links that wait."""
    before, after = session.channel, confirmed.expire_offers(session.channel, chain.final)
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
        elif lock.expiry + CANCEL_MARGIN < chain.final:
            session.locks.end(Cancel(lock.id))
    session.streams.on_chain_moved()
