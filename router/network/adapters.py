"""The two ends of payments over several hops, put to a node's channels, as `OutgoingPayments` and `Receiving` need."""

from __future__ import annotations

from collections.abc import Callable

from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.session.inputs import GiveUpLocks
from tallystick.channels.storage.store import Moment
from tallystick.router.forwarding.service import Router


class PayerEnd:
    """Our own locks: `outgoing.PayerPort`."""

    def __init__(self, engine: Engine, router: Router) -> None:
        self._engine = engine
        self._router = router

    @property
    def now(self) -> int:
        return self._engine.chain.sure

    @property
    def ready(self) -> bool:
        return all(view.ready for view in self._engine.views if view.payable)

    def add(
        self,
        channel: ChannelId,
        amount: int,
        expiry: int,
        condition: bytes,
        onion: bytes,
        part: Callable[[int], Moment],
    ) -> int:
        attach = part(self._router.next_lock(channel))
        return self._router.send_lock(channel, amount, expiry, condition, onion, attach)

    def give_up(self, channel: ChannelId, lock: int) -> None:
        session = self._engine.session(channel)
        if lock >= session.channel.newest.next_lock:
            self._engine.apply(channel, GiveUpLocks())

    def paid_with(self, channel: ChannelId, lock: int) -> bytes:
        return self._engine.views.secret_in_flight(channel, lock)

    def is_over(self, channel: ChannelId, lock: int) -> bool:
        state = self._engine.view(channel).channel
        if state.phase is Phase.GONE:
            return True
        if lock >= state.newest.next_lock:
            return False
        if self.paid_with(channel, lock):
            return False  # we may be held to it
        pending = [held.simplex.lock(lock) for held in (state.ours, *state.flight)]
        return all(found is None or found.expiry < self._engine.chain.final for found in pending)


class PayeeEnd:
    """Locks that end here: `receiving.PayeePort`."""

    def __init__(self, engine: Engine, router: Router) -> None:
        self._engine = engine
        self._router = router
        self.reveal = router.reveal
        self.refuse = router.refuse

    @property
    def now(self) -> int:
        return self._engine.chain.now

    def registered(self, lock: Lock) -> bytes:
        return self._engine.chain.registered_in_time(lock) or b""

    @property
    def fresh(self) -> bool:
        return self._router.fresh
