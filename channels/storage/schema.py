"""What the channel layer keeps on disk: its moments, its tables (`CHANNELS`), and how they are read back.

    channels   one row each, O(1): the `core.Channel` (without its flight), replaced at every agreement
    sent       journal of our updates, as their frames: the flight until they are agreed, history after that
    received   journal of the peer's updates, in the order of their commits: what `incoming` reads
    keys       idempotency keys of payments that were signed
    streams    one row for each stream whose lock is pending: how far it was released by us, or received by us
    streamed   one row for each direction of a channel: what all its ended streams have paid
    packets    one row for each pending lock of a peer's that came with an onion
    deferred   one row for each channel whose peer's update once waited for towers: the newest such update
    history    how much of its journals each channel keeps, where its owner chose, and what was pruned of `received`

The journals are history: rows that are agreed may be pruned at any time without touching a channel. What was pruned of
`received` is remembered, so that whoever reads on behind it is told instead of missing payments silently.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import asdict, astuple

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import (
    Row,
    Rows,
    above,
    at_most,
    below,
    decode_column,
    equals,
    find,
    last,
    table,
)
from tallystick.channels.values.discretion import Discreet


class ChannelSaved(Moment, frozen=True):
    """A channel's agreed state changed."""

    channel: Channel


class ChannelForgotten(Moment, frozen=True):
    """A channel that was only talked about will not be opened."""

    channel: ChannelId


class UpdateSigned(Discreet, Moment, frozen=True):
    """We signed an update of our simplex: from now on its number is taken."""

    channel: ChannelId
    seq: int
    first: int
    """Id of its first payment."""
    count: int
    """How many payments it carries."""
    frame: bytes
    time: float
    keys: tuple[tuple[str, int], ...] = ()
    """Idempotency keys and the payment ids they stand for."""


class UpdateReceived(Discreet, Moment, frozen=True):
    """The peer's update was verified; its countersignature is in the same commit."""

    channel: ChannelId
    seq: int
    first: int
    count: int
    frame: bytes
    time: float


class UpdateDeferred(Discreet, Moment, frozen=True):
    """The peer's next update was countersigned for watchtowers alone, and is taken in once they have it."""

    channel: ChannelId
    frame: bytes
    countersignature: bytes


class HistoryPruned(Moment, frozen=True):
    """The user wants no history of this channel before these numbers."""

    channel: ChannelId
    sent_before: int
    received_before: int


class HistoryChosen(Moment, frozen=True):
    """The user wants this much of a channel's history from now on."""

    channel: ChannelId
    keep: int | None
    """Agreed updates to keep in each direction; None: all."""


class Pruned(msgspec.Struct, frozen=True, order=True):
    """The newest payment that was pruned: the journal row that it stood in, and how many it was of that row."""

    position: int = 0
    payments: int = 0


class StreamSaved(Discreet, Moment, frozen=True):
    """A stream began, or went on to a deeper link."""

    channel: ChannelId
    sender: int
    """Side whose simplex holds its lock: who pays."""
    lock: int
    proof: bytes
    """The deepest link, as an unlock carries it."""


class StreamEnded(Moment, frozen=True):
    """The lock of a stream is gone, and what it paid is in the channel's balance."""

    channel: ChannelId
    sender: int
    lock: int
    paid: int = 0


class OnionKept(Moment, frozen=True):
    """The peer's pending lock came with this onion."""

    channel: ChannelId
    lock: int
    onion: bytes


class OnionDropped(Moment, frozen=True):
    """That lock is gone."""

    channel: ChannelId
    lock: int


class Journaled(Discreet, msgspec.Struct, frozen=True):
    """One row of a journal."""

    position: int
    channel: ChannelId
    seq: int
    first: int
    count: int
    frame: bytes
    time: float


_CHANNELS = table("channels", "id state", hot=True)
_JOURNAL = "position channel seq first count frame time"
_SENT = table("sent", _JOURNAL, unique=(("channel", "seq"),), numbered=True, history="position", hot=True)
_RECEIVED = table("received", _JOURNAL, unique=(("channel", "seq"),), numbered=True, history="position", hot=True)
_KEYS = table("keys", "key channel payment", hot=True)
_STREAMS = table("streams", "channel sender lock proof", keys=3, hot=True)
_STREAMED = table("streamed", "channel sender amount", keys=2)
_PACKETS = table("packets", "channel lock onion", keys=2, hot=True)
_HISTORY = table("history", "channel chosen keep position payments")

_DEFERRED = table("deferred", "channel frame countersignature")

_CHANNEL: Codec[Channel] = Codec(Channel, canonical=False)


def _forgotten(rows: Rows, moment: ChannelForgotten) -> None:
    rows.delete(_CHANNELS, id=moment.channel)
    rows.delete(_HISTORY, channel=moment.channel)


def _signed(rows: Rows, moment: UpdateSigned) -> None:
    rows.add(_SENT, moment.channel, moment.seq, moment.first, moment.count, moment.frame, float(moment.time))
    for key, payment in moment.keys:
        rows.add(_KEYS, key, moment.channel, payment)


def _received(rows: Rows, moment: UpdateReceived) -> None:
    rows.add(_RECEIVED, moment.channel, moment.seq, moment.first, moment.count, moment.frame, float(moment.time))


def _pruned(rows: Rows, moment: HistoryPruned) -> None:
    channel = moment.channel
    row = find(rows, _CHANNELS, channel)
    agreed = _CHANNEL.decode(row[1]).ours.seq if row else 0  # above is the flight: signed, and never to be forgotten
    rows.delete(_SENT, below("seq", min(moment.sent_before, agreed + 1)), channel=channel)
    newest = last(rows, _RECEIVED, "position")  # the last row stays: cursors count on positions that only grow
    doomed = (below("seq", moment.received_before), below("position", newest))
    query = _RECEIVED.rows(
        *doomed, above("count", 0), columns="position count", channel=channel, order=("-seq",), limit=1
    )
    for position, count in rows.read(query):
        _, chosen, keep, *_ = find(rows, _HISTORY, channel) or (channel, 0, None)
        rows.put(_HISTORY, channel, chosen, keep, position, count)
    rows.delete(_RECEIVED, *doomed, channel=channel)


def _chosen(rows: Rows, moment: HistoryChosen) -> None:
    *_, position, payments = find(rows, _HISTORY, moment.channel) or (0, 0)
    rows.put(_HISTORY, moment.channel, 1, moment.keep, position, payments)


def _stream_ended(rows: Rows, moment: StreamEnded) -> None:
    rows.delete(_STREAMS, channel=moment.channel, sender=moment.sender, lock=moment.lock)
    if moment.paid:
        amount = _streamed(find(rows, _STREAMED, moment.channel, moment.sender)) + moment.paid
        rows.put(_STREAMED, moment.channel, moment.sender, amount.to_bytes(16, "big"))


CHANNELS = Subject(
    "channels",
    (_CHANNELS, _SENT, _RECEIVED, _KEYS, _STREAMS, _PACKETS, _STREAMED, _HISTORY, _DEFERRED),
    {
        ChannelSaved: lambda rows, moment: rows.put(_CHANNELS, moment.channel.id, _CHANNEL.encode(moment.channel)),
        ChannelForgotten: _forgotten,
        UpdateSigned: _signed,
        UpdateReceived: _received,
        UpdateDeferred: lambda rows, moment: rows.put(_DEFERRED, *astuple(moment)),
        HistoryPruned: _pruned,
        HistoryChosen: _chosen,
        StreamSaved: lambda rows, moment: rows.put(_STREAMS, *astuple(moment)),
        StreamEnded: _stream_ended,
        OnionKept: lambda rows, moment: rows.put(_PACKETS, *astuple(moment)),
        OnionDropped: lambda rows, moment: rows.delete(_PACKETS, **asdict(moment)),
    },
)


def load_channels(store: Store) -> list[Channel]:
    """Return all channels, as last agreed."""
    return [decode_column(_CHANNEL, state, "channels", name) for name, state in store.read(_CHANNELS.rows())]


def find_channel(store: Store, channel: ChannelId) -> Channel | None:
    """Return one channel, as last agreed; None if it is unknown."""
    row = find(store, _CHANNELS, channel)
    return decode_column(_CHANNEL, row[1], "channels", channel) if row else None


def load_flight(store: Store, channel: Channel) -> list[Journaled]:
    """Return our updates that were signed but not agreed, in order."""
    return sent_after(store, channel.id, channel.ours.seq)


def sent_after(store: Store, channel: ChannelId, seq: int) -> list[Journaled]:
    """Return our updates behind a number, in order."""
    return [Journaled(*row) for row in store.read(_SENT.rows(above("seq", seq), channel=channel, order=("seq",)))]


def journal_back(store: Store, channel: ChannelId, seq: int, limit: int, *, ours: bool) -> list[Journaled]:
    """Return up to `limit` updates, ours or the peer's, from `seq` on downwards."""
    journal = _SENT if ours else _RECEIVED
    rows = store.read(journal.rows(at_most("seq", seq), channel=channel, order=("-seq",), limit=limit))
    return [Journaled(*row) for row in rows]


def load_streams(store: Store, channel: ChannelId) -> list[StreamSaved]:
    """Return how far each stream of a channel has come."""
    return [StreamSaved(*row) for row in store.read(_STREAMS.rows(channel=channel))]


def load_streamed(store: Store, channel: ChannelId, sender: int) -> int:
    """Return what the ended streams of one direction of a channel have paid."""
    return _streamed(find(store, _STREAMED, channel, sender))


def _streamed(row: Row | None) -> int:
    return int.from_bytes(row[2], "big") if row else 0


def load_onions(store: Store, channel: ChannelId) -> list[OnionKept]:
    """Return the onions of a channel's pending incoming locks."""
    return [OnionKept(*row) for row in store.read(_PACKETS.rows(channel=channel))]


def load_deferred(store: Store) -> list[UpdateDeferred]:
    """Return the newest update of each channel that ever waited for towers, whether or not it was taken in."""
    return [UpdateDeferred(*row) for row in store.read(_DEFERRED.rows())]


def received_after(store: Store, position: int, limit: int, channel: ChannelId | None = None) -> list[Journaled]:
    """Return up to `limit` of the peers' updates, committed after `position` (0: from the beginning)."""
    where = [] if channel is None else [equals("channel", channel)]
    rows = store.read(_RECEIVED.rows(*where, above("position", position), limit=limit))
    return [Journaled(*row) for row in rows]


def last_received(store: Store) -> int:
    """Return the position of the newest update of a peer's, 0 if there is none."""
    return last(store, _RECEIVED, "position")


def pruned_of(store: Store, channel: ChannelId | None = None) -> Pruned:
    """Return the newest received payment that was pruned, of one channel or of all."""
    where = [] if channel is None else [equals("channel", channel)]
    rows = store.read(_HISTORY.rows(*where, columns="position payments", order=("-position",), limit=1))
    return Pruned(*rows[0]) if rows else Pruned()


def load_choices(store: Store) -> dict[ChannelId, int | None]:
    """Return how much history is kept of the channels whose owner chose."""
    return {ChannelId(channel): keep for channel, keep in store.read(_HISTORY.rows(columns="channel keep", chosen=1))}


def sent_with(store: Store, channel: ChannelId, payment: int) -> Journaled | None:
    """Return our update that carries payment number `payment`, None if it is unknown or pruned."""
    query = _SENT.rows(at_most("first", payment), above("count", 0), channel=channel, order=("-seq",), limit=1)
    found = [Journaled(*row) for row in store.read(query)]
    return found[0] if found and payment < found[0].first + found[0].count else None


def payment_of(store: Store, key: str) -> tuple[ChannelId, int] | None:
    """Return the channel and the payment id that an idempotency key stands for, None if it was never signed."""
    row = find(store, _KEYS, key)
    return (ChannelId(row[1]), row[2]) if row else None
