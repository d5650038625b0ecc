"""What an engine says of its work."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from tallystick.channels.session.session import Session


class EngineStatistics(msgspec.Struct, frozen=True):
    """Counters since the start."""

    channels: int
    peers: int
    rounds: int
    commits: int
    payments_received: int
    payments_accepted: int
    """Payments of ours that got a place."""
    payments_secured: int
    """Payments of ours that were countersigned, and are durable."""
    unsecured: int
    """Amount that was accepted and is not secured yet, in all channels."""
    waiting: int
    in_flight: int
    signatures: int
    """Balance proofs signed and countersigned."""


def statistics_of(sessions: Collection[Session], peers: int, rounds: int, commits: int) -> EngineStatistics:
    """Add up what these channels have done."""
    return EngineStatistics(
        channels=len(sessions),
        peers=peers,
        rounds=rounds,
        commits=commits,
        payments_received=sum(session.received_payments for session in sessions),
        payments_accepted=sum(session.accepted_payments for session in sessions),
        unsecured=sum(session.unsecured for session in sessions),
        payments_secured=sum(session.secured_payments for session in sessions),
        waiting=sum(len(session.outbox) for session in sessions),
        in_flight=sum(len(session.channel.flight) for session in sessions),
        signatures=sum(session.signatures for session in sessions),
    )
