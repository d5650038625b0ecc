"""What the receiver says of the peer's locks, outside the numbered stream: it reveals or rejects them. Pure."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import REASON_MAX, Policy
from tallystick.channels.protocol.conditions import kind_of
from tallystick.channels.protocol.core import Channel, KnownSecret, Rejection
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.simplex import Simplex

_lock_of = attrgetter("lock")


def is_answered(channel: Channel, lock_id: int) -> bool:
    """Whether we have revealed or rejected the peer's lock of that number."""
    return _says(channel.secrets, lock_id) or _says(channel.rejections, lock_id)


def _their_lock(channel: Channel, lock_id: int) -> Lock:
    lock = channel.theirs.simplex.lock(lock_id)
    if lock is None:
        raise InvalidInput(f"there is no pending lock {lock_id} from the peer in this channel")
    return lock


def _place(said: tuple[KnownSecret, ...] | tuple[Rejection, ...], lock_id: int) -> int:
    """Return where what was said of that lock is, or belongs: `said` is in order of lock."""
    return bisect_left(said, lock_id, key=_lock_of)


def _says(said: tuple[KnownSecret, ...] | tuple[Rejection, ...], lock_id: int) -> bool:
    at = _place(said, lock_id)
    return at < len(said) and said[at].lock == lock_id


def reveal(channel: Channel, lock_id: int, secret: bytes) -> Channel:
    """Return the channel with the secret of the peer's lock recorded; raise InvalidInput or InvalidUpdate."""
    lock = _their_lock(channel, lock_id)
    kind = kind_of(lock)
    if not kind.revealed:
        raise InvalidInput(f"lock {lock_id} is of kind {kind.name}: there is no secret to reveal")
    kind.amount_paid(lock, secret)
    if _says(channel.rejections, lock_id):
        raise InvalidInput(f"lock {lock_id} was rejected before: its sender may take it back")
    if _says(channel.secrets, lock_id):
        return channel
    at = _place(channel.secrets, lock_id)
    secrets = (*channel.secrets[:at], KnownSecret(lock_id, secret), *channel.secrets[at:])
    return msgspec.structs.replace(channel, secrets=secrets)


def reject(channel: Channel, lock_id: int, reason: bytes) -> Channel:
    """Return the channel with our consent to the cancellation of the peer's lock; raise InvalidInput."""
    _their_lock(channel, lock_id)
    if len(reason) > REASON_MAX:
        raise InvalidInput(f"a reason has at most {REASON_MAX} bytes")
    if _says(channel.secrets, lock_id):
        raise InvalidInput(f"lock {lock_id} cannot be rejected: its secret was revealed")
    if _says(channel.rejections, lock_id):
        return channel
    at = _place(channel.rejections, lock_id)
    rejections = (*channel.rejections[:at], Rejection(lock_id, reason), *channel.rejections[at:])
    return msgspec.structs.replace(channel, rejections=rejections)


def policy_objection(lock: Lock, simplex: Simplex, policy: Policy, now: int) -> str | None:
    """Return why our policy wants the peer's new lock rejected, None if it does not. `now` is chain time."""
    if policy.kinds is not None and lock.kind not in policy.kinds:
        return f"on this chain nobody could claim a lock of kind {lock.kind}: it would go back to its sender"
    if lock.expiry < now + policy.lock_expiry_min:
        return f"the lock expires too soon: at least {policy.lock_expiry_min} s are needed"
    if lock.expiry > now + policy.lock_expiry_max:
        return f"the lock expires too late: at most {policy.lock_expiry_max} s are allowed"
    if len(simplex.locks) > policy.locks:
        return f"too many locks are pending: at most {policy.locks}"
    if simplex.proof.locked > policy.locked_value:
        return f"too much is locked: at most {policy.locked_value}"
    return None
