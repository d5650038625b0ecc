"""What is allowed in a channel. Pure: frozen state in, new state out; every fault is an error that says what to answer.

A channel is two simplices with a single writer each, so the sides never take turns. Per simplex there are three slots:
*agreed* (both signatures; enforceable; one row on disk), *in flight* (signed and stored by the writer, not yet
countersigned) and, above this module, what still waits to be signed.

| phase      | meaning                                       | leaves to                                   |
| ---------- | --------------------------------------------- | ------------------------------------------- |
| OPENING    | proposed or being mined                       | OPEN (confirmed), CLOSED, RECOVERING, GONE  |
| OPEN       | confirmed on chain: everything may be signed  | FROZEN, CLOSING, CLOSED, RECOVERING, GONE   |
| FROZEN     | we signed a cooperative close                 | OPEN (it expired), or as from OPEN          |
| CLOSING    | we decided, durably, to close alone           | CLOSED, GONE                                |
| CLOSED     | a unilateral close is on chain                | SETTLED, GONE                               |
| SETTLED    | paid out; pots wait for pending locks         | GONE                                        |
| RECOVERING | the peer or a tower proved that we lost data  | CLOSED (its close is settled), GONE         |
| GONE       | nothing of it is left on chain                |                                             |

Only in OPEN is anything signed or countersigned.

Capacity of writer s: funding_s + transferred_other - transferred_s - locked_s. The writer counts what it has
countersigned of the other's, and funding that both sides count; the receiver counts what it has itself signed. The
first is never above the second, so a valid update never bounces. For the same reason an update is refused only for what
can never become right; policy (a lock's expiry, say) is enforced by rejecting the lock afterwards (docs/protocol.md,
section 4).

The reserve is a share of all funding: the writer takes it of all that it counts of the other's, the receiver only of
what the writer had said to count when it signed (`counted`, see `counting`). So it, too, is never higher for the
receiver.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from tallystick.channels.errors import ChannelNotReady, Fault, InsufficientFunds, InvalidInput, InvalidUpdate
from tallystick.channels.limits import AMOUNT_MAX, WINDOW_MAX, check_reserve_ppm
from tallystick.channels.protocol.conditions import BY_COURT
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import (
    ChannelId,
    CooperativeClose,
    SignedProof,
    Terms,
    Withdrawal,
    check_amount,
)
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Unlock
from tallystick.channels.protocol.simplex import Simplex, extend, genesis
from tallystick.channels.protocol.virtual import VirtualTerms, virtual_id
from tallystick.channels.values.discretion import Discreet


class Phase(enum.IntEnum):
    """Where a channel is in its life. See the table above."""

    OPENING = 0
    OPEN = 1
    FROZEN = 2
    CLOSING = 3
    CLOSED = 4
    SETTLED = 5
    GONE = 6
    RECOVERING = 7


LEAVES: dict[Phase, frozenset[Phase]] = {
    Phase.OPENING: frozenset({Phase.OPEN, Phase.CLOSED, Phase.RECOVERING, Phase.GONE}),
    Phase.OPEN: frozenset({Phase.FROZEN, Phase.CLOSING, Phase.CLOSED, Phase.RECOVERING, Phase.GONE}),
    Phase.FROZEN: frozenset({Phase.OPEN, Phase.CLOSING, Phase.CLOSED, Phase.RECOVERING, Phase.GONE}),
    Phase.CLOSING: frozenset({Phase.CLOSED, Phase.GONE}),
    Phase.CLOSED: frozenset({Phase.SETTLED, Phase.GONE}),
    Phase.SETTLED: frozenset({Phase.GONE}),
    Phase.RECOVERING: frozenset({Phase.CLOSED, Phase.GONE}),
    Phase.GONE: frozenset(),
}
"""The arrows of the table: `move` refuses any other."""


class CloseInitiator(enum.IntEnum):
    """Who asked for a cooperative close; whoever did submits it and pays its fee."""

    NONE = 0
    PEER = 1
    OWN = 2


class SignedSimplex(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A state of one simplex with its writer's signature and, once agreed, its receiver's."""

    simplex: Simplex
    signature: bytes = b""
    countersignature: bytes = b""

    @property
    def seq(self) -> int:
        """The balance proof's number."""
        return self.simplex.proof.seq

    @property
    def statement(self) -> SignedProof | None:
        """What a chain or a tower takes: None for genesis, which needs no signatures."""
        if self.seq == 0:
            return None
        return SignedProof(self.simplex.proof, self.signature, self.countersignature)


class ClosingOffer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A cooperative close that this side signed. Until `close.valid_until` passes, the channel is frozen."""

    close: CooperativeClose
    signature: bytes
    peer_signature: bytes = b""


class PendingWithdrawal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A withdrawal that this side signed. Until it is mined or dead, its amount counts as gone."""

    withdrawal: Withdrawal
    signature: bytes
    peer_signature: bytes = b""


class Rejection(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """We consented to the cancellation of the peer's lock. Repeated after each reconnect until the lock is gone."""

    lock: int
    reason: bytes


class KnownSecret(Discreet, msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """We know what satisfies the peer's lock, and asked to be paid. Repeated after each reconnect."""

    lock: int
    secret: bytes


class Channel(Discreet, msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything that one participant must remember of a channel. O(1): it does not grow with payments."""

    id: ChannelId
    terms: Terms
    side: int
    peer_key: bytes
    """Compressed public key of the peer (33 bytes)."""
    reserve: int
    """What each side keeps at least, whatever the funding, once it holds it."""
    ours: SignedSimplex
    """The newest state of our simplex that the peer countersigned."""
    theirs: SignedSimplex
    """The newest state of the peer's simplex that we countersigned."""
    phase: Phase = Phase.OPENING
    deposits: tuple[int, int] = (0, 0)
    """Confirmed on chain, by side."""
    withdrawn: tuple[int, int] = (0, 0)
    withdrawals: tuple[PendingWithdrawal | None, PendingWithdrawal | None] = (None, None)
    offer: ClosingOffer | None = None
    shutdown: CloseInitiator = CloseInitiator.NONE
    """A cooperative close is wanted: no new payments are taken."""
    rejections: tuple[Rejection, ...] = ()
    """In order of lock."""
    secrets: tuple[KnownSecret, ...] = ()
    """In order of lock."""
    flight: tuple[SignedSimplex, ...] = ()
    """Ours, signed and stored, not yet countersigned. Not in this row on disk: rebuilt from the journal."""
    reserve_ppm: int = 0
    """Millionths of the channel's funding that each side keeps, once it holds them. 0: the reserve does not follow the
    funding, as in channels that were opened by version 0.1."""
    counted: int = 0
    """Of our deposits, what every update that the peer has yet to send us was signed in knowledge of. Only grows."""
    heeded: int = 0
    """Of the peer's deposits, what our reserve is taken of: all that are confirmed, or fewer while payments that were
    accepted before wait to be signed."""

    @property
    def newest(self) -> Simplex:
        """Our simplex as we last signed it."""
        return self.flight[-1].simplex if self.flight else self.ours.simplex

    @property
    def is_virtual(self) -> bool:
        """Whether its id is not that of its terms on chain: no chain knows it, its stakes are locks elsewhere."""
        return self.id != channel_id(self.terms)

    @property
    def peer_side(self) -> int:
        """0 or 1."""
        return 1 - self.side

    def funding(self, side: int) -> int:
        """What `side` has put in and not taken out, pending withdrawals counted as taken."""
        return self.deposits[side] - self.taken(side)

    def taken(self, side: int) -> int:
        """What `side` has taken out, a pending withdrawal counted as taken."""
        pending = self.withdrawals[side]
        return max(self.withdrawn[side], pending.withdrawal.total if pending else 0)

    def own_reserve(self, funding: int, deposits: int | None = None) -> int:
        """What our next update has to leave us, when both sides count at least `funding` of ours.

        `deposits`: of the peer's, to be counted; what is heeded, unless told otherwise.
        """
        # A withdrawal of the peer's may die yet: it is not left out before it is mined.
        counted = self.heeded if deposits is None else deposits
        return self._reserve(funding + counted - self.withdrawn[self.peer_side])

    @property
    def coming_reserve(self) -> int:
        """What we have to keep of all that is confirmed: what new payments have to leave."""
        return self.own_reserve(self.funding(self.side), self.deposits[self.peer_side])

    def peer_reserve(self) -> int:
        """What the peer's next update has to leave it."""
        return self._reserve(self.funding(self.peer_side) + self.counted - self.taken(self.side))

    def _reserve(self, funding: int) -> int:
        return max(self.reserve, funding * self.reserve_ppm // 1_000_000)

    def balances(self) -> tuple[int, int]:
        """What each side (0, 1) owns by the agreed states, with the sender's locks counted as still its own."""
        t_ours, t_theirs = self.ours.simplex.proof.transferred, self.theirs.simplex.proof.transferred
        mine = self.funding(self.side) + t_theirs - t_ours
        peers = self.funding(self.peer_side) + t_ours - t_theirs
        return (mine, peers) if self.side == 0 else (peers, mine)


def new_channel(terms: Terms, side: int, peer_key: bytes, reserve: int = 0, reserve_ppm: int = 0) -> Channel:
    """Return a channel that is being opened; raise InvalidInput if that key is not the other participant's."""
    check_amount(reserve, "reserve")
    check_reserve_ppm(reserve_ppm)
    if PublicKey(peer_key).address != terms.participants[1 - side]:
        raise InvalidInput("the peer's key does not belong to the other participant of this channel")
    identity = channel_id(terms)
    ours, theirs = (SignedSimplex(genesis(identity, writer)) for writer in (side, 1 - side))
    return Channel(identity, terms, side, peer_key, reserve, ours, theirs, reserve_ppm=reserve_ppm)


def new_virtual_channel(terms: VirtualTerms, side: int, peer_key: bytes) -> Channel:
    """Return a virtual channel that opens once both stakes are locked; raise InvalidInput if that key is another's."""
    blank = new_channel(terms.channel_terms, side, peer_key)
    identity = virtual_id(terms)
    ours, theirs = (SignedSimplex(genesis(identity, writer)) for writer in (side, 1 - side))
    return msgspec.structs.replace(blank, id=identity, ours=ours, theirs=theirs)


def move(channel: Channel, phase: Phase) -> Channel:
    """Return the channel in `phase`; raise ChannelNotReady if the table has no such arrow."""
    if phase not in LEAVES[channel.phase]:
        raise ChannelNotReady(f"a channel that is {channel.phase.name} cannot become {phase.name}")
    return msgspec.structs.replace(channel, phase=phase)


def is_unused(channel: Channel) -> bool:
    """Whether the channel was only ever talked about: nothing funded, nothing signed.

    What a virtual channel was funded with is locked elsewhere, and given back once it is GONE.
    """
    return (
        channel.phase in (Phase.OPENING, Phase.GONE)
        and (channel.deposits == (0, 0) or channel.is_virtual)
        and channel.newest.proof.seq == channel.theirs.seq == 0
    )


def require_open(channel: Channel) -> None:
    """Raise ChannelNotReady unless new statements may be signed in this channel."""
    if channel.phase is not Phase.OPEN:
        raise ChannelNotReady(f"channel {channel.id.hex()[:8]} is {channel.phase.name.lower()}, not open")


def require_real(channel: Channel, what: str) -> None:
    """Raise InvalidInput if the channel is virtual, and so has no `what`."""
    if channel.is_virtual:
        raise InvalidInput(
            f"channel {channel.id.hex()[:8]} is virtual: payments go over it, but {what} does not (docs/virtual.md)"
        )


# --- the numbered stream ----------------------------------------------------------------------------------------


def capacity(channel: Channel, funding: int) -> int:
    """What we can still commit, before the reserve, when both sides count at least `funding` of ours.

    Totals are cumulative and must fit into their fields, so a simplex that has carried 2**128 - 1 is used up.
    """
    bearable = min(funding + channel.theirs.simplex.proof.transferred, AMOUNT_MAX)
    return bearable - channel.newest.committed


def propose(channel: Channel, operations: Iterable[Operation], funding: int) -> Simplex:
    """Return the next state of our simplex, unsigned.

    Raise ChannelNotReady, InsufficientFunds, or InvalidUpdate if the operations break a rule.
    """
    require_open(channel)
    before = channel.newest
    after = extend(before, operations, channel.ours.seq)
    if after.committed > before.committed:
        reserve = channel.own_reserve(funding)
        spendable = capacity(channel, funding) - reserve
        if after.committed - before.committed > spendable:
            raise InsufficientFunds(
                f"this channel can send {max(0, spendable)} now (a reserve of {reserve} stays), "
                f"{after.committed - before.committed} was asked"
            )
    return after


def with_proposal(channel: Channel, simplex: Simplex, signature: bytes) -> Channel:
    """Return the channel with a signed proposal in flight. Store it before it is sent."""
    return msgspec.structs.replace(channel, flight=(*channel.flight, SignedSimplex(simplex, signature)))


NOTHING_GIVEN: Mapping[int, int | None] = MappingProxyType({})


def accept(
    channel: Channel,
    seq: int,
    seen: int,
    operations: Iterable[Operation],
    consent: frozenset[int] = frozenset(),
    given: Mapping[int, int | None] = NOTHING_GIVEN,
) -> Simplex:
    """Return the state that the peer's update leads to, or raise InvalidUpdate with what to answer.

    `consent` names pending locks that may be cancelled because they expired unsatisfied, by our own confirmed view of
    the chain; `given` says how much of pending locks the court gave by that view. The caller verifies the signature
    over the state's proof.
    """
    if channel.phase is not Phase.OPEN:
        raise InvalidUpdate(
            f"this channel is {channel.phase.name.lower()} here: nothing is countersigned any more", Fault.WRONG_PHASE
        )
    before = channel.theirs.simplex
    if seq != before.proof.seq + 1:
        raise InvalidUpdate(f"the next update is number {before.proof.seq + 1}, not {seq}", Fault.WRONG_SEQ)
    if not before.proof.seen <= seen < seq or seq - seen > WINDOW_MAX:
        raise InvalidUpdate(
            f"`seen` of update {seq} must be from {max(before.proof.seen, seq - WINDOW_MAX)} to {seq - 1}, not {seen}",
            Fault.WINDOW_EXCEEDED,
        )
    operations = tuple(operations)
    if any(type(operation) is AddLock for operation in operations) and channel.is_virtual:
        raise InvalidUpdate("a virtual channel carries payments alone: no court decides a lock in it", Fault.BAD_LOCK)
    rejected = {rejection.lock for rejection in channel.rejections}
    for operation in operations:
        if type(operation) is Cancel and operation.id not in rejected and operation.id not in consent:
            raise InvalidUpdate(
                f"lock {operation.id} cannot be cancelled: it was not rejected, and is not known to have expired "
                "unsatisfied",
                Fault.CANCEL_REFUSED,
            )
        if type(operation) is Unlock and operation.proof == BY_COURT and given.get(operation.id) != operation.amount:
            raise InvalidUpdate(
                f"the court is not known to give {operation.amount} of lock {operation.id}", Fault.UNLOCK_REFUSED
            )
    after = extend(before, operations, seen)
    if after.committed > before.committed:
        spendable = channel.funding(channel.peer_side) + channel.newest.proof.transferred - channel.peer_reserve()
        if after.committed > spendable:
            raise InvalidUpdate(
                f"update {seq} commits {after.committed}, the channel can bear {spendable}", Fault.OVER_CAPACITY
            )
    return after


def with_peer_update(channel: Channel, simplex: Simplex, signature: bytes) -> Channel:
    """Return the channel with the peer's update in it, its signature verified, our countersignature still to come."""
    pending = {lock.id for lock in simplex.locks}
    return msgspec.structs.replace(
        channel,
        theirs=SignedSimplex(simplex, signature),
        rejections=tuple(r for r in channel.rejections if r.lock in pending),
        secrets=tuple(s for s in channel.secrets if s.lock in pending),
    )


def with_countersignature(channel: Channel, countersignature: bytes) -> Channel:
    """Return the channel with our countersignature under the peer's newest state. Store it before it is sent."""
    return msgspec.structs.replace(
        channel, theirs=SignedSimplex(channel.theirs.simplex, channel.theirs.signature, countersignature)
    )


def in_flight(channel: Channel, seq: int) -> SignedSimplex | None:
    """Return what an ack for `seq` acknowledges, None if it was acknowledged before; raise InvalidUpdate."""
    if seq <= channel.ours.seq:
        return None
    index = seq - channel.ours.seq - 1
    if index >= len(channel.flight):
        raise InvalidUpdate(f"nothing with number {seq} was ever signed here", Fault.WRONG_SEQ)
    return channel.flight[index]


def with_ack(channel: Channel, seq: int, countersignature: bytes) -> Channel:
    """Return the channel with everything up to `seq` agreed; the countersignature was verified."""
    index = seq - channel.ours.seq - 1
    agreed = channel.flight[index]
    return msgspec.structs.replace(
        channel,
        ours=SignedSimplex(agreed.simplex, agreed.signature, countersignature),
        flight=channel.flight[index + 1 :],
    )


def without_flight(channel: Channel) -> Channel:
    """Return what goes into the channel's row on disk: without the flight, which the journal holds."""
    return msgspec.structs.replace(channel, flight=()) if channel.flight else channel
