"""What stands around a router: the channels below it, and the payer and the payee of its own node above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.inputs import GiveUpLocks, PayLock, RejectLock, RevealSecret, ShowProof, SubmitLock
from tallystick.channels.storage.store import Moment
from tallystick.router.onion.payload import FinalLock


class NodeChannels:
    """A node's channels, as the payment network needs them.

    What is asked for is done at once; it is durable, and the peer learns of it, with the next commit.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.key = engine.key
        self.disk = engine.writer.store
        """What the node has stored."""
        self.record = engine.writer.add
        """`record(moments, then)` makes moments durable, then calls `then`."""
        self.expected = engine.expected
        """Who expects locks that end here, of kinds that not everybody takes."""
        self.policy = engine.policy
        """What this node asks of the locks in its channels."""
        self.views = engine.views
        """All channels, to be looked at."""
        self.view = engine.view
        """`view(channel)` returns a channel as it is now, or raises InvalidInput if there is no such channel."""
        self.store = engine.store
        """`store(moments)` writes them in the very commit of what was done to channels in this step."""

    @property
    def chain(self) -> ChainTime:
        """The chain's times, and the secrets that it shows."""
        return self._engine.chain

    @property
    def fresh(self) -> bool:
        """Whether our view of the chain is up to date: on the word of an old one, no secret is given away."""
        return self._engine.fresh()

    @property
    def ready(self) -> bool:
        """Whether all channels that may carry payments are in step with their peers."""
        return all(view.ready for view in self.views if view.payable)

    def send_lock(
        self,
        channel: ChannelId,
        amount: int,
        expiry: int,
        condition: bytes,
        onion: bytes,
        attach: Moment | None = None,
        kind: int = HASH,
    ) -> int:
        """Queue a lock of ours and return its number (before: `next_lock` of the view).

        `attach` is stored with its signature. Raise ChannelNotReady unless the channel is `usable`, else as
        `SubmitLock` is refused; nothing was done then.
        """
        if not self.view(channel).usable:
            raise ChannelNotReady(
                f"the peer of channel {channel.hex()[:8]} is not connected or acknowledges nothing now"
            )
        return self._engine.apply(channel, SubmitLock(amount, expiry, condition, onion, kind, attach))

    def pay(self, channel: ChannelId, lock: int, proof: bytes) -> None:
        """Unlock a lock of ours by a proof, if it is signed and its channel open."""
        self._engine.apply(channel, PayLock(lock, proof))

    def show(self, channel: ChannelId, lock: int, proof: bytes) -> None:
        """Show the peer a proof by which it may unlock its lock, if it is there and in step."""
        self._engine.apply(channel, ShowProof(lock, proof))

    def give_up(self, channel: ChannelId, lock: int) -> None:
        """Give up a lock of ours that is not signed yet: `LockKeeper.on_lock_dropped` hears of it."""
        if lock >= self.views.channel(channel).newest.next_lock:
            self._engine.apply(channel, GiveUpLocks())

    def give_up_all(self, channel: ChannelId) -> None:
        """Give up all locks of ours that are not signed yet."""
        self._engine.apply(channel, GiveUpLocks(accompanied=False))

    def paid_with(self, channel: ChannelId, lock: int) -> bytes:
        """Return the secret for which we have signed that a lock is paid, as long as nobody agreed to that."""
        return self.views.secret_in_flight(channel, lock)

    def is_over(self, channel: ChannelId, lock: int) -> bool:
        """Whether our lock's fate is known whatever its peer says: confirmed time is past it, or its channel is gone.

        If its secret is registered, `LockKeeper.on_secret_learned` heard of that before.
        """
        state = self.views.channel(channel)
        if state.phase is Phase.GONE:
            return True
        if lock >= state.newest.next_lock:
            return False
        if self.paid_with(channel, lock):
            return False  # we may be held to it
        pending = [held.simplex.lock(lock) for held in (state.ours, *state.flight)]
        return all(found is None or found.expiry < self.chain.final for found in pending)

    def reveal(self, channel: ChannelId, lock: int, secret: bytes) -> bool:
        """Claim a lock of the peer's; return whether it is there (still) to be claimed."""
        return self._answer(channel, RevealSecret(lock, secret))

    def reject(self, channel: ChannelId, lock: int, reason: bytes) -> bool:
        """Give a lock of the peer's back; return whether it was there, and not claimed."""
        return self._answer(channel, RejectLock(lock, reason))

    def _answer(self, channel: ChannelId, answer: RevealSecret | RejectLock) -> bool:
        try:
            self._engine.apply(channel, answer)
        except InvalidInput:
            return False
        return True


class PayeePort(Protocol):
    """Who takes payments in. Called within the commit of what happened: must neither wait nor raise."""

    def on_arrived(self, final: FinalLock) -> Sequence[Moment]:
        """A lock ends here: reveal or refuse it (`IncomingLocks`), now or later. Told again after a restart."""

    def on_gone(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """An incoming lock that is no forwarded one has ended, paid for its secret or (empty) taken back."""

    def on_time_passed(self) -> Sequence[Moment]:
        """Chain time has passed."""


class PayerPort(Protocol):
    """Who sends payments. Told of all locks of ours that are not forwarded ones, as `LockKeeper` says."""

    def on_secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """The lock will be paid."""

    def on_lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> Sequence[Moment]:
        """The peer gives it back; it is not ours again yet."""

    def on_lock_ended(self, channel: ChannelId, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        """It is agreed gone."""

    def on_lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        """It was given up unsigned."""

    def on_channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        """A channel can carry locks (again)."""

    def on_time_passed(self) -> Sequence[Moment]:
        """Chain time has passed."""
