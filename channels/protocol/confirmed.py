"""What the confirmed chain and its time do to a channel: deposits, withdrawals, dead offers. Pure, beside `core`."""

from __future__ import annotations

import msgspec

from tallystick.channels.protocol.core import Channel, CloseInitiator, Phase, move


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
