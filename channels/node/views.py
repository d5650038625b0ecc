"""All channels of a node, to be looked at: for whoever decides by what they are, and changes none of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.hashchain import StreamProof
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.session.session import Session
from tallystick.channels.session.streamed import IncomingStreamState, OutgoingStreamState
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.session.view import ChannelView, view_of


class Sessions(dict[ChannelId, Session]):
    """The sessions of a node by the ids of their channels: an id that none has is refused as an argument."""

    def __missing__(self, channel: ChannelId) -> Session:
        raise InvalidInput(f"this node has no channel {channel.hex()}; `tally channel list` shows all")


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


class Views:
    """The channels that an engine knows, gone ones included. Each is seen as it is when it is asked for."""

    def __init__(
        self, sessions: Mapping[ChannelId, Session], by_peer: Mapping[bytes, Mapping[ChannelId, Session]]
    ) -> None:
        self._sessions = sessions
        self._by_peer = by_peer

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[ChannelView]:
        return iter([view_of(session) for session in self._sessions.values()])

    @property
    def ids(self) -> list[ChannelId]:
        """The ids of all channels."""
        return list(self._sessions)

    @property
    def channels(self) -> list[Channel]:
        """What is signed, confirmed and wanted in each: for whoever asks of all of them, and needs no more."""
        return [session.channel for session in self._sessions.values()]

    def channel(self, channel: ChannelId) -> Channel:
        """Return the same of one channel; raise InvalidInput if there is none of that id."""
        return self._sessions[channel].channel

    def get(self, channel: ChannelId) -> ChannelView | None:
        """Return one channel, None if there is none of that id."""
        session = self._sessions.get(channel)
        return None if session is None else view_of(session)

    def of(self, channel: ChannelId) -> ChannelView:
        """Return one channel; raise InvalidInput if there is none of that id."""
        return view_of(self._sessions[channel])

    def with_peer(self, peer: bytes) -> list[ChannelView]:
        """Return all channels with that peer, gone ones included."""
        return [view_of(session) for session in self._by_peer.get(peer, {}).values()]

    def beside(self, channel: ChannelId) -> list[ChannelView]:
        """Return all channels with the peer of that one, itself included; none if it is unknown."""
        session = self._sessions.get(channel)
        return [] if session is None else self.with_peer(session.channel.peer_key)

    # --- what belongs to single locks and payments, and stands in no view ----------------------------------------

    def undecided_locks(self, channel: ChannelId) -> list[AddLock]:
        """Return the peer's pending hash locks that were neither revealed nor rejected, with their onions."""
        return self._sessions[channel].locks.undecided_locks()

    def onion(self, channel: ChannelId, lock: int) -> bytes:
        """Return the onion of a pending lock of the peer's that nobody answered yet; empty if there is none."""
        return self._sessions[channel].locks.onions.get(lock, b"")

    def secret_in_flight(self, channel: ChannelId, lock: int) -> bytes:
        """Return the secret by which an unlock of ours pays that the peer has not countersigned; empty if none does."""
        ends = [end for sent in self._sessions[channel].sent for end in sent.ended if end.lock.id == lock]
        return ends[0].secret if ends else b""

    def claims(self, channel: ChannelId) -> dict[int, StreamProof]:
        """Return what the peer's pending locks owe us by the links of their streams that we hold."""
        return self._sessions[channel].streams.claims()

    def streamed(self, channel: ChannelId) -> int:
        """Return what all our streams have paid over the channel's whole life. Only grows."""
        return self._sessions[channel].streams.streamed

    def streams(self, channel: ChannelId) -> tuple[list[OutgoingStreamState], list[IncomingStreamState]]:
        """Return the streams whose locks are pending: (ours, the peer's). As tickets do, each shows how far it is."""
        streams = self._sessions[channel].streams
        return list(streams.outgoing.values()), list(streams.incoming.values())

    def ticket(self, channel: ChannelId, key: str) -> Ticket | None:
        """Return the ticket with this idempotency key that is waiting or in flight in this process."""
        return self._sessions[channel].find_ticket(key)


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
