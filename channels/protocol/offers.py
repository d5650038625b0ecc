"""Statements outside the numbered stream, and what the confirmed chain and its time do to a channel. Pure, like `core`.

close       both say Shutdown and stop; once nothing is in flight or locked, side 0 signs an offer, and is FROZEN until
            it is mined or `valid_until` has passed; the other countersigns, and is FROZEN too; whoever asked submits
withdrawal  the writer counts the amount as gone, stores and signs; the peer counts it as gone, stores and
            countersigns; if it is not mined by `valid_until`, both take it back
recovery    at each reconnect both show their newest doubly signed proofs. A valid one above what this node knows
            proves that this node lost data: RECOVERING, it never signs again and asks the peer to close
the chain   confirms deposits and withdrawals, and outlives offers: a dead one is undone
"""

from __future__ import annotations

import msgspec

from tallystick.channels.errors import ChannelNotReady, Fault, InsufficientFunds, InvalidUpdate
from tallystick.channels.limits import Policy
from tallystick.channels.protocol.core import (
    Channel,
    CloseInitiator,
    ClosingOffer,
    PendingWithdrawal,
    Phase,
    move,
    require_open,
    require_real,
)
from tallystick.channels.protocol.objects import CooperativeClose, Withdrawal, check_amount

# --- cooperative close ------------------------------------------------------------------------------------------


def is_quiet(channel: Channel) -> bool:
    """Whether nothing is pending, so that the final balances are what both agreed states say."""
    return not (
        channel.flight
        or channel.ours.simplex.locks
        or channel.theirs.simplex.locks
        or channel.withdrawals != (None, None)
        or min(channel.balances()) < 0  # the chain has yet to confirm a deposit that the peer counts
    )


def closing_statement(channel: Channel, valid_until: int) -> CooperativeClose:
    """Return the unsigned close with the balances as agreed; raise ChannelNotReady if something is still pending."""
    require_open(channel)
    if not is_quiet(channel):
        raise ChannelNotReady("payments, locks, a withdrawal or a deposit are still pending in this channel")
    balance0, balance1 = channel.balances()
    return CooperativeClose(channel.id, balance0, balance1, valid_until)


def with_close_offer(
    channel: Channel, close: CooperativeClose, signature: bytes, peer_signature: bytes = b""
) -> Channel:
    """Return the channel frozen by our signature under `close`. Store it before the signature leaves."""
    channel = msgspec.structs.replace(channel, offer=ClosingOffer(close, signature, peer_signature))
    return move(channel, Phase.FROZEN)


def check_offer(channel: Channel, close: CooperativeClose, now: int, policy: Policy) -> None:
    """Raise InvalidUpdate unless the peer's offer is what we would have offered ourselves."""
    if channel.is_virtual:
        raise InvalidUpdate("a virtual channel ends by an outcome, not by a close on chain", Fault.BAD_OFFER)
    if close.channel != channel.id or not now <= close.valid_until <= now + policy.offer_lifetime_max:
        raise InvalidUpdate(f"a closing offer may be valid for {policy.offer_lifetime_max} s at most", Fault.BAD_OFFER)
    try:
        mine = closing_statement(channel, close.valid_until)
    except ChannelNotReady as error:
        raise InvalidUpdate(str(error), Fault.WRONG_PHASE) from error
    if mine != close:
        raise InvalidUpdate(
            f"the balances are {mine.balance0} and {mine.balance1}, not {close.balance0} and {close.balance1}",
            Fault.BAD_OFFER,
        )


# --- withdrawal -------------------------------------------------------------------------------------------------


def withdrawal_statement(channel: Channel, amount: int, free: int, valid_until: int) -> Withdrawal:
    """Return our unsigned withdrawal of `amount`; raise InvalidInput, ChannelNotReady or InsufficientFunds.

    `free` is what payments and the reserve leave: below 0 when the reserve has grown.
    """
    check_amount(amount, minimum=1)
    require_real(channel, "a withdrawal")
    require_open(channel)
    if channel.withdrawals[channel.side] is not None:
        raise ChannelNotReady("a withdrawal is pending already: wait until it is mined or has expired")
    if amount > free:
        raise InsufficientFunds(
            f"at most {max(0, free)} can be withdrawn now (a reserve of {channel.coming_reserve} stays), "
            f"{amount} was asked"
        )
    return Withdrawal(channel.id, channel.side, channel.withdrawn[channel.side] + amount, valid_until)


def withdrawing(channel: Channel, withdrawal: Withdrawal, signature: bytes, peer_signature: bytes = b"") -> Channel:
    """Return the channel with a withdrawal (anyone's) that we signed. Store it before the signature leaves."""
    pending = PendingWithdrawal(withdrawal, signature, peer_signature)
    first, second = channel.withdrawals
    both = (pending, second) if withdrawal.participant == 0 else (first, pending)
    return msgspec.structs.replace(channel, withdrawals=both)


def check_withdrawal(channel: Channel, withdrawal: Withdrawal, now: int, policy: Policy) -> None:
    """Raise InvalidUpdate unless the peer may withdraw this: the amount is its own and free."""
    if channel.phase is not Phase.OPEN:
        raise InvalidUpdate(f"this channel is {channel.phase.name.lower()} here", Fault.WRONG_PHASE)
    side = channel.peer_side
    if channel.is_virtual:
        raise InvalidUpdate("nothing of a virtual channel is on chain to be withdrawn", Fault.BAD_OFFER)
    if withdrawal.channel != channel.id or withdrawal.participant != side:
        raise InvalidUpdate("a withdrawal must name this channel and its own participant", Fault.BAD_OFFER)
    pending = channel.withdrawals[side]
    if pending is not None:
        if pending.withdrawal == withdrawal:
            return  # asked again after a reconnect: the same signature answers it
        raise InvalidUpdate("another withdrawal of this participant is pending", Fault.BAD_OFFER)
    if not now <= withdrawal.valid_until <= now + policy.offer_lifetime_max:
        raise InvalidUpdate(f"a withdrawal may be valid for {policy.offer_lifetime_max} s at most", Fault.BAD_OFFER)
    amount = withdrawal.total - channel.withdrawn[side]
    free = channel.funding(side) + channel.newest.proof.transferred - channel.theirs.simplex.committed
    free -= channel.peer_reserve()
    if not 0 < amount <= free:
        raise InvalidUpdate(f"{amount} cannot be withdrawn: {max(0, free)} is free", Fault.OVER_CAPACITY)


# --- what the chain does ----------------------------------------------------------------------------------------


def with_confirmed_funding(channel: Channel, deposits: tuple[int, int], withdrawn: tuple[int, int]) -> Channel:
    """Return the channel with what the chain confirmed; a withdrawal that it includes is no longer pending."""
    first, second = (
        None if pending and withdrawn[side] >= pending.withdrawal.total else pending
        for side, pending in enumerate(channel.withdrawals)
    )
    return msgspec.structs.replace(channel, deposits=deposits, withdrawn=withdrawn, withdrawals=(first, second))


def with_counted_deposits(channel: Channel, deposits: int) -> Channel:
    """Return the channel when the peer counts that much as deposited by us in all that it will send from now on."""
    counted = min(channel.deposits[channel.side], deposits)
    return msgspec.structs.replace(channel, counted=counted) if counted > channel.counted else channel


def heeding(channel: Channel) -> Channel:
    """Return the channel with all confirmed deposits of the peer counted for our reserve."""
    return msgspec.structs.replace(channel, heeded=channel.deposits[channel.peer_side])


def expire_offers(channel: Channel, final_time: int) -> Channel:
    """Return the channel without offers that confirmed chain time has outlived: dead, so their effects are undone."""
    first, second = (
        None if pending and pending.withdrawal.valid_until < final_time else pending for pending in channel.withdrawals
    )
    if (first, second) != channel.withdrawals:
        channel = msgspec.structs.replace(channel, withdrawals=(first, second))
    if channel.offer is not None and channel.offer.close.valid_until < final_time:
        channel = msgspec.structs.replace(channel, offer=None, shutdown=CloseInitiator.NONE)
        if channel.phase is Phase.FROZEN:
            channel = move(channel, Phase.OPEN)
    return channel


def timeless(channel: Channel) -> bool:
    """Whether nothing in the channel waits for the chain or its time: no lock, no offer, no end that has begun."""
    if channel.phase is Phase.GONE:
        return True
    return (
        channel.phase in (Phase.OPENING, Phase.OPEN)
        and channel.offer is None
        and channel.withdrawals == (None, None)
        and not channel.theirs.simplex.locks
        and not channel.ours.simplex.locks
        and not any(state.simplex.locks for state in channel.flight)
    )
