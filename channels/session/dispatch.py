"""Which part of a channel takes which message. Nothing but greetings is taken before both have greeted. Sans-IO."""

from __future__ import annotations

from tallystick.channels.errors import Fault
from tallystick.channels.protocol.messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Counts,
    Error,
    Funding,
    Links,
    LinksAck,
    LinksHeld,
    Message,
    Reestablish,
    Reject,
    Reveal,
    Shutdown,
    Update,
    WithdrawGrant,
    WithdrawRequest,
)
from tallystick.channels.session import negotiation, receiver, resync
from tallystick.channels.session.session import Session


def dispatch(session: Session, message: Message, frame: bytes, now: float) -> None:
    """Hand a peer's message on to what takes it; raise PeerError, with no channel harmed."""
    if isinstance(message, Reestablish):
        resync.on_reestablish(session, message)
        return
    if isinstance(message, CloseRequest):
        resync.on_close_request(session)
        return
    if isinstance(message, Counts) and not session.ready:
        return  # it came behind a greeting that was answered
    if not session.ready:
        session.send(Error(session.channel.id, Fault.WRONG_PHASE, "this channel was not resumed: greet first"))
        return
    if isinstance(message, Update):
        receiver.on_update(session, message, frame, now)
    elif isinstance(message, Ack):
        session.on_ack(message, now)
    elif isinstance(message, Reveal):
        session.locks.on_reveal(message)
    elif isinstance(message, Reject):
        session.locks.on_reject(message)
    elif isinstance(message, Links):
        session.streams.on_links(message)
    elif isinstance(message, LinksAck):
        session.streams.on_ack(message)
    elif isinstance(message, LinksHeld):
        session.streams.on_held(message)
    else:
        _negotiate(session, message)


def _negotiate(session: Session, message: Message) -> None:
    if isinstance(message, Funding):
        session.counting.on_funding(message)
    elif isinstance(message, Counts):
        session.counting.on_counts(message)
    elif isinstance(message, Shutdown):
        negotiation.on_shutdown(session, message)
    elif isinstance(message, CloseOffer):
        negotiation.on_close_offer(session, message)
    elif isinstance(message, CloseAccept):
        negotiation.on_close_accept(session, message)
    elif isinstance(message, WithdrawRequest):
        negotiation.on_withdraw_request(session, message)
    elif isinstance(message, WithdrawGrant):
        negotiation.on_withdraw_grant(session, message)
