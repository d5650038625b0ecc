"""Agreeing on statements outside the stream: the cooperative close and the withdrawal. Sans-IO, on top of `session`.

close       OWN wish → (quiet) Shutdown →            ← Shutdown (quiet) ← PEER's wish
            side 0, when both simplices have ended:  CloseOffer → store, freeze → CloseAccept → either submits
withdrawal  store, WithdrawRequest →                 check, store → WithdrawGrant → store → submit
"""

from __future__ import annotations

import msgspec

from tallystick.channels.errors import ChannelNotReady, Fault, InvalidUpdate
from tallystick.channels.protocol import core, offers
from tallystick.channels.protocol.core import CloseInitiator, Phase
from tallystick.channels.protocol.eip712 import digest_cooperative_close, digest_withdrawal
from tallystick.channels.protocol.messages import (
    CloseAccept,
    CloseOffer,
    Error,
    Shutdown,
    WithdrawGrant,
    WithdrawRequest,
)
from tallystick.channels.protocol.objects import Withdrawal
from tallystick.channels.session.session import Session

# --- cooperative close ------------------------------------------------------------------------------------------


def request_close(session: Session) -> None:
    """Start a cooperative close; raise ChannelNotReady. Waiting payments go first, new ones are refused."""
    core.require_open(session.channel)
    session.change(msgspec.structs.replace(session.channel, shutdown=CloseInitiator.OWN))
    session.tell_changed()


def on_shutdown(session: Session, message: Shutdown) -> None:
    """The peer wants to close, or agrees to."""
    session.learn(peer_final=message.final_seq)
    if session.channel.shutdown is CloseInitiator.NONE:
        session.change(msgspec.structs.replace(session.channel, shutdown=CloseInitiator.PEER))
        session.locks.drop()
        session.outbox.fail_payments(ChannelNotReady("the peer is closing this channel: this payment was not made"))
        session.tell_changed()


def advance_close(session: Session) -> None:
    """Do the next step of a cooperative close, if one is due. Called once per round."""
    channel = session.channel
    if (
        channel.shutdown is CloseInitiator.NONE
        or channel.phase is not Phase.OPEN
        or not session.link.ready
        or len(session.outbox)
        or channel.flight
        or channel.ours.simplex.locks
        or not session.counting.is_agreed  # else the offer is refused, and its maker frozen
    ):
        return
    if not session.link.shutdown_said:
        session.learn(shutdown_said=True)
        session.send(Shutdown(channel.id, channel.ours.seq))
    if channel.side == 0 and has_ended(session) and not channel.is_virtual:
        close = offers.closing_statement(channel, session.chain.sure + session.policy.offer_lifetime)
        signature = session.key.sign(digest_cooperative_close(session.domain, close))
        session.change(offers.with_close_offer(channel, close, signature))
        session.tell_changed()
        session.send(CloseOffer(close, signature))


def has_ended(session: Session) -> bool:
    """Whether both have said Shutdown on this link and nothing is pending: what both sides own stays as it is."""
    quiet = session.link.shutdown_said and offers.is_quiet(session.channel)
    return quiet and session.link.peer_final == session.channel.theirs.seq


def on_close_offer(session: Session, message: CloseOffer) -> None:
    """Countersign the peer's offer if it is what we would offer, else say why not; raise InvalidSignature."""
    session.seal()
    channel, close = session.channel, message.close
    if channel.offer is not None and channel.offer.close == close:
        session.send(CloseAccept(close, channel.offer.signature))
        return
    digest = digest_cooperative_close(session.domain, close)
    session.peer.verify(digest, message.signature)
    try:
        if len(session.outbox):
            raise InvalidUpdate("payments are still waiting here: offer again later", Fault.WRONG_PHASE)
        offers.check_offer(channel, close, session.chain.sure, session.policy)
    except InvalidUpdate as fault:  # our views of the chain may differ: no reason to part
        session.send(Error(channel.id, fault.code, str(fault)))
        return
    signature = session.key.sign(digest)
    session.change(offers.with_close_offer(channel, close, signature, message.signature))
    session.tell_changed()
    session.send(CloseAccept(close, signature))


def on_close_accept(session: Session, message: CloseAccept) -> None:
    """The peer countersigned our offer: it can be submitted; raise InvalidSignature."""
    offer = session.channel.offer
    if offer is None or offer.close != message.close or offer.peer_signature:
        return
    session.peer.verify(digest_cooperative_close(session.domain, offer.close), message.signature)
    session.change(
        msgspec.structs.replace(session.channel, offer=msgspec.structs.replace(offer, peer_signature=message.signature))
    )
    session.tell_changed()


# --- withdrawal -------------------------------------------------------------------------------------------------


def request_withdrawal(session: Session, amount: int) -> Withdrawal:
    """Sign and ask for a withdrawal of our own; raise InvalidInput, InsufficientFunds or ChannelNotReady.

    What waits to be signed was promised: it can be signed yet, beside the reserve.
    """
    session.require_payable()
    free = session.signable - session.outbox.total
    valid_until = session.chain.sure + session.policy.offer_lifetime
    withdrawal = offers.withdrawal_statement(session.channel, amount, free, valid_until)
    signature = session.key.sign(digest_withdrawal(session.domain, withdrawal))
    session.change(offers.withdrawing(session.channel, withdrawal, signature))
    session.send(WithdrawRequest(withdrawal, signature))
    return withdrawal


def on_withdrawal(session: Session, message: WithdrawRequest) -> None:
    """Countersign the peer's withdrawal if the channel is open and its amount free, else say why not.

    Raise InvalidSignature, whatever the phase: so the phase is looked at here, after the signature.
    """
    withdrawal = message.withdrawal
    digest = digest_withdrawal(session.domain, withdrawal)
    session.peer.verify(digest, message.signature)
    try:
        offers.check_withdrawal(session.channel, withdrawal, session.chain.sure, session.policy)
    except InvalidUpdate as fault:  # our views of the chain may differ: no reason to part
        session.send(Error(session.channel.id, fault.code, str(fault)))
        return
    signature = session.key.sign(digest)
    session.change(offers.withdrawing(session.channel, withdrawal, signature, message.signature))
    session.send(WithdrawGrant(withdrawal, signature))
    session.counting.tell()


def on_withdraw_grant(session: Session, message: WithdrawGrant) -> None:
    """The peer countersigned our withdrawal: it can be submitted; raise InvalidSignature."""
    channel = session.channel
    pending = channel.withdrawals[channel.side]
    if pending is None or pending.withdrawal != message.withdrawal or pending.peer_signature:
        return
    session.peer.verify(digest_withdrawal(session.domain, pending.withdrawal), message.signature)
    session.change(offers.withdrawing(channel, pending.withdrawal, pending.signature, message.signature))
    session.tell_changed()
