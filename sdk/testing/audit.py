"""Watches one simulated node from outside, all its lives long, and holds it to the rules at the moment it acts.

I3  no two updates, and no two countersignatures, under one number of one simplex, across all crashes
I4  what leaves is on disk: updates in the journal, countersignatures and offers in the channel's row, transactions
    among the obligations
    A node that signed a cooperative close says nothing more in its channel until that offer is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tallystick.channels.node.peers import EXTENSION_TAGS, number_of
from tallystick.channels.protocol.conditions import kind_of
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.hashchain import StreamProof
from tallystick.channels.protocol.keys import PublicKey, keccak
from tallystick.channels.protocol.messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    Links,
    LinksAck,
    LinksHeld,
    Message,
    Reject,
    Reveal,
    Update,
    WithdrawGrant,
    WithdrawRequest,
    channel_of,
    decode,
)
from tallystick.channels.protocol.objects import Address, ChannelId, SignedProof
from tallystick.channels.storage.schema import ChannelSaved, find_channel, journal_back, load_streams
from tallystick.channels.storage.store import Moment, Store
from tallystick.sdk.testing.gates import Hooks
from tallystick.settlement.sending.moments import read_book


class Violation(AssertionError):
    """An invariant does not hold."""


class Audit(Hooks):
    """The watcher of one node. Its memory survives the node's crashes."""

    def __init__(self, name: str, *, knows: Callable[[PublicKey], bool], now: Callable[[], int]) -> None:
        """`knows` says whether a peer is a node of this world, `now` is the chain's newest block time."""
        self.name = name
        self.store: Store | None = None
        self.chain_id = 0
        self.account = Address(b"")
        self.statements: dict[ChannelId, dict[tuple[int, int], SignedProof]] = {}
        """Every doubly signed proof that this node ever held: by (sender, seq)."""
        self.sides: dict[ChannelId, tuple[Address, Address]] = {}
        """The participants of every channel that this node ever stored."""
        self.claims: dict[tuple[ChannelId, int], int] = {}
        """Every lock of a peer's for which this node ever stored the secret, and when (chain time)."""
        self._knows = knows
        self._now = now
        self._updates: dict[tuple[ChannelId, int], bytes] = {}
        self._acks: dict[tuple[ChannelId, int], bytes] = {}
        self._frozen: dict[ChannelId, int] = {}

    def require(self, condition: bool, text: str) -> None:
        """Raise Violation unless the condition holds."""
        if not condition:
            raise Violation(f"{self.name}: {text}")

    # --- what the gate shows -------------------------------------------------------------------------------------

    def on_stored(self, moments: Sequence[Moment]) -> None:
        """Remember the doubly signed proofs, and what was claimed."""
        for moment in moments:
            if isinstance(moment, ChannelSaved):
                self.sides[moment.channel.id] = moment.channel.terms.participants
                for known in moment.channel.secrets:
                    self.claims.setdefault((moment.channel.id, known.lock), self._now())
                for signed in (moment.channel.ours, moment.channel.theirs):
                    statement = signed.statement
                    if statement is not None and signed.countersignature:
                        held = self.statements.setdefault(moment.channel.id, {})
                        key = (statement.proof.sender, statement.proof.seq)
                        self.require(held.setdefault(key, statement) == statement, f"holds two proofs numbered {key}")

    def on_sending(self, peer: PublicKey, messages: list[bytes]) -> list[bytes]:
        """Check each message against the disk and against all that was said before."""
        if self._knows(peer):
            for frame in messages:
                if number_of(frame) not in EXTENSION_TAGS:
                    self._check(decode(frame), frame)
        return messages

    def on_submitting(self, raw: bytes) -> None:
        """Check that the transaction is among the stored obligations."""
        assert self.store is not None
        book = read_book(self.store, self.chain_id, self.account)
        known = {attempt.hash for obligation in book.obligations.values() for attempt in obligation.attempts}
        self.require(keccak(raw) in known, "submits a transaction that is not stored")

    # --- the rules -----------------------------------------------------------------------------------------------

    def _row(self, channel: ChannelId) -> Channel:
        assert self.store is not None
        row = find_channel(self.store, channel)
        if row is None:
            raise Violation(f"{self.name}: speaks of channel {channel.hex()[:8]}, which it has not stored")
        return row

    def _check(self, message: Message, frame: bytes) -> None:
        channel = channel_of(message)
        if channel is None:
            return
        if isinstance(message, Update):
            self._check_update(message, frame)
        elif isinstance(message, Ack):
            self._check_ack(message)
        elif isinstance(message, (CloseOffer, CloseAccept)):
            offer = self._row(channel).offer
            self.require(offer is not None and offer.close == message.close, "offers a close that it has not stored")
            self.require(offer is not None and offer.signature == message.signature, "sends another signature")
            self._frozen[channel] = max(self._frozen.get(channel, 0), message.close.valid_until)
        elif isinstance(message, (WithdrawRequest, WithdrawGrant)):
            pending = self._row(channel).withdrawals[message.withdrawal.participant]
            self.require(
                pending is not None and pending.withdrawal == message.withdrawal,
                "signs a withdrawal that it has not stored",
            )
        elif isinstance(message, Reveal):
            row = self._row(channel)
            lock = row.theirs.simplex.lock(message.lock)
            shown = lock is not None and kind_of(lock).divisible  # an outcome of others: showing it promises nothing
            stored = shown or any(secret.lock == message.lock for secret in row.secrets)
            self.require(stored, "reveals a secret that it has not stored")
        elif isinstance(message, Reject):
            row = self._row(channel)
            self.require(any(r.lock == message.lock for r in row.rejections), "rejects a lock without storing it")
        elif isinstance(message, (Links, LinksAck, LinksHeld)):
            self._check_links(message)

    def _check_links(self, message: Links | LinksAck | LinksHeld) -> None:
        assert self.store is not None
        side = self._row(message.channel).side
        sender = side if isinstance(message, Links) else 1 - side
        depths = [
            StreamProof.decode(row.proof).depth
            for row in load_streams(self.store, message.channel)
            if (row.sender, row.lock) == (sender, message.lock)
        ]
        gone = not depths and not isinstance(message, Links)  # its lock was unlocked in the same commit
        self.require(gone or depths[:1] >= [message.depth], "speaks of a link that it has not stored")

    def _check_update(self, message: Update, frame: bytes) -> None:
        assert self.store is not None
        self._require_thawed(message.channel, "an update")
        known = self._updates.setdefault((message.channel, message.seq), frame)
        self.require(known == frame, f"signed two different updates numbered {message.seq}")
        rows = journal_back(self.store, message.channel, message.seq, 1, ours=True)
        self.require(
            bool(rows) and (rows[0].seq, rows[0].frame) == (message.seq, frame),
            f"sends update {message.seq} before it is on disk",
        )

    def _check_ack(self, message: Ack) -> None:
        assert self.store is not None
        known = self._acks.setdefault((message.channel, message.seq), message.signature)
        self.require(known == message.signature, f"countersigned two different proofs numbered {message.seq}")
        row = self._row(message.channel)
        self.require(
            row.theirs.seq >= message.seq and bool(row.theirs.countersignature),
            f"acknowledges update {message.seq}, disk has {row.theirs.seq}",
        )
        rows = journal_back(self.store, message.channel, message.seq, 1, ours=False)
        self.require(
            bool(rows) and rows[0].seq == message.seq, f"acknowledges update {message.seq}, which is not in its journal"
        )

    def _require_thawed(self, channel: ChannelId, what: str) -> None:
        until = self._frozen.get(channel, 0)
        self.require(self._now() > until, f"signs {what} although its offer to close is alive until {until}")
