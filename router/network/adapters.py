"""A node's channels as the payment network needs them: `ChannelPort`, put to the engine."""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.limits import Policy
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.views import Views
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.inputs import GiveUpLocks, RejectLock, RevealSecret, SubmitLock
from tallystick.channels.session.view import ChannelView
from tallystick.channels.storage.store import Moment


class NodeChannels:
    """The channels of an engine, by `forwarding.ports.ChannelPort`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def chain(self) -> ChainTime:
        return self._engine.chain

    @property
    def fresh(self) -> bool:
        return self._engine.fresh()

    @property
    def policy(self) -> Policy:
        return self._engine.policy

    @property
    def views(self) -> Views:
        return self._engine.views

    @property
    def ready(self) -> bool:
        return all(view.ready for view in self._engine.views if view.payable)

    def view(self, channel: ChannelId) -> ChannelView:
        return self._engine.view(channel)

    def send_lock(
        self, channel: ChannelId, amount: int, expiry: int, condition: bytes, onion: bytes, attach: Moment | None = None
    ) -> int:
        if not self._engine.view(channel).usable:
            raise ChannelNotReady(
                f"the peer of channel {channel.hex()[:8]} is not connected or acknowledges nothing now"
            )
        return self._engine.apply(channel, SubmitLock(amount, expiry, condition, onion, attach=attach))

    def give_up(self, channel: ChannelId, lock: int) -> None:
        if lock >= self._engine.views.channel(channel).newest.next_lock:
            self._engine.apply(channel, GiveUpLocks())

    def give_up_all(self, channel: ChannelId) -> None:
        self._engine.apply(channel, GiveUpLocks(accompanied=False))

    def paid_with(self, channel: ChannelId, lock: int) -> bytes:
        return self._engine.views.secret_in_flight(channel, lock)

    def is_over(self, channel: ChannelId, lock: int) -> bool:
        state = self._engine.views.channel(channel)
        if state.phase is Phase.GONE:
            return True
        if lock >= state.newest.next_lock:
            return False
        if self.paid_with(channel, lock):
            return False  # we may be held to it
        pending = [held.simplex.lock(lock) for held in (state.ours, *state.flight)]
        return all(found is None or found.expiry < self._engine.chain.final for found in pending)

    def reveal(self, channel: ChannelId, lock: int, secret: bytes) -> bool:
        try:
            self._engine.apply(channel, RevealSecret(lock, secret))
        except InvalidInput:
            return False
        return True

    def reject(self, channel: ChannelId, lock: int, reason: bytes) -> bool:
        try:
            self._engine.apply(channel, RejectLock(lock, reason))
        except InvalidInput:
            return False
        return True

    def store(self, moments: Iterable[Moment]) -> None:
        self._engine.store(moments)
