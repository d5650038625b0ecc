"""Admission: from whom, and to whom, a lock is taken on. What jamming, exposure and unpaid debts leave room for.

    jamming     places and value of each outgoing channel, by reputation (`jamming`)
    exposure    what is too small to be claimed on chain, by peer and direction (`exposure`)
    bars        who was told the secret of its lock and let it expire, while the chain does not show it: nothing is
                forwarded for it for two weeks, and nothing small is accepted from it. Durable; it ends by itself
    doubts      who let it expire and may not have been told in time, as it was away, or we were, or the secret came
                late from those behind us, who may want us to part: nothing small is taken from it for two weeks
    forced      who pays for what it was told in time only once it is on chain, again and again (`forced`)
    debts       who leaves a lock unpaid that the chain shows to be ours: the same, until it has paid

Between a router and its engine; it decides nothing but yes or no. Its moments are for the commit of what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tallystick.channels.limits import LOCKS_MAX
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.session.view import ChannelView
from tallystick.channels.storage.store import Moment
from tallystick.router.forwarding.circuits import PeerBarred, ReputationSaved, load_bars, load_reputations
from tallystick.router.forwarding.exposure import Exposure, LockDirection
from tallystick.router.forwarding.forced_claims import ATTENTION, ForcedClaims
from tallystick.router.forwarding.forwarder import Circuit
from tallystick.router.forwarding.jamming import Bucket, ForwardRequest, Jamming
from tallystick.router.forwarding.policies import RoutingOptions
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.onion.failures import Failure, first_wrap
from tallystick.router.onion.payload import FinalLock

_UNPRICED = b"?"
"""Stands behind a peer's key where locks are counted that are worth nothing, as far as the owner has said."""

TOLD_BEFORE = 60
"""Seconds before a secret is not paid for any more at which its payer has to know it, to be blamed for sure."""


class Admission:
    """Decides whether a lock is taken on, by what jamming, exposure and unpaid debts leave room for: see the module's
    docstring."""

    def __init__(
        self, channels: NodeChannels, options: RoutingOptions, *, fee: Callable[[], int], alarm: OnAlarm
    ) -> None:
        """`fee` says below what worth, in the native coin, no secret is claimed on chain now; 0: all are."""
        self.exposure = Exposure(options.exposure)
        self._channels = channels
        self._named = options.policies
        """The assets that the owner knows, besides the coin. What is below the minimum is not worth a claim."""
        self._fee = fee
        self._alarm = alarm
        self._jamming = Jamming(options.jamming, load_reputations(channels.disk), load_bars(channels.disk))
        self._owing: set[bytes] = set()
        """Peers that leave unpaid what the chain shows to be ours."""
        self._told: set[tuple[ChannelId, int]] = set()
        """Locks whose secret their sender got in time."""
        self._forced = ForcedClaims()
        self._looked = 0
        """Chain time of the last look."""
        self._doubted: dict[bytes, int] = {}
        """Until when nothing small is taken from a peer."""

    def resume(self, circuits: Sequence[Circuit]) -> None:
        """Take over what pends after a restart: circuits, and secrets that were not paid for yet."""
        owed = {circuit.origin for circuit in circuits}
        for circuit in circuits:
            self._leaves(circuit, Bucket.GENERAL)
        for view in self._channels.views:
            channel = view.channel
            owed |= {(channel.id, known.lock) for known in channel.secrets}
            rejected = {rejection.lock for rejection in channel.rejections}
            for lock in channel.theirs.simplex.locks:
                if (channel.id, lock.id) in owed and lock.id not in rejected:
                    self.on_accepted(channel.id, lock)

    # --- forwarded payments --------------------------------------------------------------------------------------

    def admit(self, circuit: Circuit) -> Bucket | None:
        """Return which places a payment may take, None if it has to be refused."""
        incoming = self._channels.views.channel(circuit.incoming)
        outgoing = self._channels.views.channel(circuit.outgoing)
        ends = ((incoming, LockDirection.IN, circuit.amount_in), (outgoing, LockDirection.OUT, circuit.amount_out))
        if incoming.peer_key in self._owing:
            return None
        if self._is_small(incoming, circuit.amount_in) and self._doubts(incoming.peer_key):
            return None
        if not all(self._has_room(channel, course, amount) for channel, course, amount in ends):
            return None
        return self._jamming.admit(self._asked(circuit), circuit.began)

    def began(self, circuit: Circuit, lock: Lock, bucket: Bucket) -> None:
        """A payment is under way: for `lock`, which came in, another one is on its way out."""
        self.on_accepted(circuit.incoming, lock)
        self._leaves(circuit, bucket)

    def _leaves(self, circuit: Circuit, bucket: Bucket) -> None:
        self._jamming.began(circuit.name, self._asked(circuit), bucket, circuit.began)
        account = self._account(self._channels.views.channel(circuit.outgoing), circuit.amount_out)
        self.exposure.began((circuit.outgoing, LockDirection.OUT, circuit.outgoing_lock), account, circuit.amount_out)

    def on_ended(self, circuit: Circuit, *, paid: bool) -> None:
        """Its outgoing lock has ended. The incoming one pends until `on_freed`."""
        self._jamming.on_ended(circuit.name, paid, self._channels.chain.now)
        self.exposure.on_ended((circuit.outgoing, LockDirection.OUT, circuit.outgoing_lock))

    def on_dropped(self, channel: ChannelId, lock: int) -> None:
        """Its outgoing lock was given up before it was signed: it never began."""
        self._jamming.forget((channel, lock))
        self.exposure.on_ended((channel, LockDirection.OUT, lock))

    # --- incoming locks ------------------------------------------------------------------------------------------

    def accepts(self, channel: ChannelId, lock: Lock) -> bool:
        """Whether a lock that ends here may be taken on."""
        state = self._channels.views.channel(channel)
        if not self._is_small(state, lock.amount):
            return True
        peer = state.peer_key
        trusted = peer not in self._owing and not self._jamming.is_barred(peer, self._channels.chain.now)
        return trusted and not self._doubts(peer) and self._has_room(state, LockDirection.IN, lock.amount)

    def on_accepted(self, channel: ChannelId, lock: Lock) -> None:
        """A lock was taken on: forwarded, or kept for the payee."""
        account = self._account(self._channels.views.channel(channel), lock.amount)
        self.exposure.began((channel, LockDirection.IN, lock.id), account, lock.amount)

    def on_claimed(self, view: ChannelView, lock: int) -> None:
        """The secret of an incoming lock is ours: its sender is told at once, if it is there."""
        found, policy = view.channel.theirs.simplex.lock(lock), self._channels.policy
        deadline = self._channels.chain.now + policy.reveal_margin + TOLD_BEFORE
        if found is not None and view.ready and found.expiry >= deadline:
            self._told.add((view.channel.id, lock))

    def on_freed(self, channel: ChannelId, lock: int) -> None:
        """An incoming lock is gone, or was rejected."""
        self._told.discard((channel, lock))
        self._forced.on_freed((channel, lock))
        self.exposure.on_ended((channel, LockDirection.IN, lock))

    # --- time ----------------------------------------------------------------------------------------------------

    def on_chain_moved(self) -> list[Moment]:
        """Look who owes us, and return what changed of bars and reputations."""
        moments: list[Moment] = []
        self._owing.clear()
        for view in self._channels.views:
            moments += self._look_for_debts(view)
        self._looked = self._channels.chain.now
        for channel in self.exposure.channels:
            if self._channels.views.channel(channel).phase is Phase.GONE:
                self.exposure.forget(channel)
                self._told = {name for name in self._told if name[0] != channel}
        return moments + [
            ReputationSaved(peer, *msgspec.structs.astuple(reputation))
            for peer, reputation in self._jamming.take_changed()
        ]

    def _look_for_debts(self, view: ChannelView) -> list[Moment]:
        """Bar whoever let a lock expire unpaid although it got the secret; note who owes what the chain shows."""
        chain, channel = self._channels.chain, view.channel
        moments: list[Moment] = []
        for known in channel.secrets:
            lock = channel.theirs.simplex.lock(known.lock)
            if lock is not None and lock.kind != HASH:
                continue  # whether it is owed, two players or a court decide
            if lock is not None and (channel.id, lock.id) in self._told:
                moments += self._look_for_forced(view, lock)
            if lock is None or lock.expiry >= chain.final:
                self.on_claimed(view, known.lock)
                continue
            if chain.registered_in_time(lock) is not None:
                if channel.phase in (Phase.OPEN, Phase.FROZEN):
                    self._owing.add(channel.peer_key)
                continue
            if (channel.id, known.lock) in self._told:
                why = f"got a secret and did not pay the {lock.amount} for it"
                moments += self._bar(channel, why, self._jamming.limits.banned, "two weeks")
            else:
                self._doubt(channel, lock)
        return moments

    def _look_for_forced(self, view: ChannelView, lock: Lock) -> list[Moment]:
        """Count a lock that its sender had to pay for by now, so that we would not have to go to the chain for it."""
        now, peer = self._channels.chain.now, view.channel.peer_key
        name = (view.channel.id, lock.id)
        if now <= lock.expiry - self._channels.policy.reveal_margin:
            return []
        if now > self._looked + ATTENTION:
            self._forced.excuse(name)
        if not self._forced.on_expired(peer, name, now, away=not view.ready):
            return []
        self._jamming.cost(peer, self._fee(), now)
        seconds = self._forced.bar(peer)
        if seconds is None:
            return []
        why = "pays for secrets only once they are on chain"
        return self._bar(view.channel, why, seconds, f"{seconds // 3_600} hours")

    def _bar(self, channel: Channel, why: str, seconds: int, term: str) -> list[Moment]:
        until = self._jamming.bar(channel.peer_key, self._channels.chain.now, seconds)
        if until is None:
            return []
        text = (
            f"the peer of channel {channel.id.hex()[:8]} {why}: nothing is forwarded for it for {term}; close the "
            "channel if it goes on"
        )
        self._alarm(Alarm(AlarmKind.PEER_BARRED, text))
        return [PeerBarred(channel.peer_key, until)]

    def _doubt(self, channel: Channel, lock: Lock) -> None:
        if not self._doubts(channel.peer_key):
            self._doubted[channel.peer_key] = self._channels.chain.now + self._jamming.limits.banned
            text = (
                f"a lock of {lock.amount} in channel {channel.id.hex()[:8]} expired unpaid after it was claimed; its "
                "peer may not have known the secret in time: nothing small is taken from it for two weeks"
            )
            self._alarm(Alarm(AlarmKind.LOCK_UNPAID, text))

    def _doubts(self, peer: bytes) -> bool:
        return self._channels.chain.now < self._doubted.get(peer, 0)

    # --- what both ask -------------------------------------------------------------------------------------------

    def _is_small(self, channel: Channel, amount: int) -> bool:
        return self.exposure.is_small(amount, self._fee_for(channel.terms.asset, amount))

    def _has_room(self, channel: Channel, course: LockDirection, amount: int) -> bool:
        account = self._account(channel, amount)
        return self.exposure.has_room(account, course, amount, self._fee_for(channel.terms.asset, amount))

    def _fee_for(self, asset: Address, amount: int) -> int | None:
        """Return what a claim of that amount costs, as `Exposure` has it: None if it has no worth that is known."""
        fee = self._fee()
        if asset == NATIVE or not fee:
            return fee
        return 0 if self._is_known(asset, amount) else None

    def _account(self, channel: Channel, amount: int) -> bytes:
        """Return under which name a lock is counted: amounts of several assets have no sum."""
        asset = channel.terms.asset
        if asset == NATIVE:
            return channel.peer_key
        return channel.peer_key + (asset if self._is_known(asset, amount) else _UNPRICED)

    def _is_known(self, asset: Address, amount: int) -> bool:
        """Whether the owner has named the asset, and that much of it is worth carrying."""
        policy = self._named.get(asset)
        return policy is not None and amount >= policy.minimum

    def _asked(self, circuit: Circuit) -> ForwardRequest:
        incoming = self._channels.views.channel(circuit.incoming)
        outgoing = self._channels.views.channel(circuit.outgoing)
        return ForwardRequest(
            incoming=incoming.peer_key,
            outgoing=outgoing.peer_key,
            channel=outgoing.id,
            amount=circuit.amount_out,
            fee=circuit.fee,
            expiry=circuit.expiry,
            slots=LOCKS_MAX,
            value=outgoing.funding(0) + outgoing.funding(1),
            asset=b"" if outgoing.terms.asset == NATIVE else outgoing.terms.asset,
        )


class IncomingLocks:
    """Answers to incoming locks: each is claimed, or given back for a reason that nobody but the payer can read.

    Who decides is above it: relay, forwarder and payee.
    """

    def __init__(self, channels: NodeChannels, admission: Admission, update_of: Callable[[ChannelId], bytes]) -> None:
        """`update_of` gives the newest policy of a channel of ours, as gossip carries it, for failures."""
        self._channels = channels
        self._admission = admission
        self._update_of = update_of

    def reveal(self, channel: ChannelId, lock: int, secret: bytes) -> bool:
        """Claim a lock; return whether it is there (still) to be claimed."""
        if not self._channels.reveal(channel, lock, secret):
            return False
        self._admission.on_claimed(self._channels.view(channel), lock)
        return True

    def release(self, channel: ChannelId, lock: int, reason: bytes) -> None:
        """Give a lock back. One that is gone, or was claimed, stays as it is."""
        if self._channels.reject(channel, lock, reason):
            self._admission.on_freed(channel, lock)

    def refuse(self, final: FinalLock, failure: Failure) -> None:
        """Let a lock that ends here go."""
        self.release(final.channel, final.lock.id, self.hide(final.secret, failure))

    def hide(self, secret: bytes, failure: Failure) -> bytes:
        """Return the reason that tells the payer of a failure of ours, with the newest policy of what it is about."""
        if failure.code.of_policy and failure.channel and not failure.update:
            failure = msgspec.structs.replace(failure, update=self._update_of(ChannelId(failure.channel)))
        return first_wrap(secret, failure)
