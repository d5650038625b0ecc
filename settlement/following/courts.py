"""What the chain's court knows of an app's instance, as a fold of what was told of it (docs/apps.md, "In court")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from tallystick.channels.protocol.app_court import AppStands
from tallystick.channels.protocol.apps import InstanceId, OutcomeProof, instance_id, stake_condition
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.session.chaintime import StakeInCourt
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.chain import ProofRegistered

CourtEvent: TypeAlias = AppStands | ProofRegistered
"""A state that stands, or an outcome of an app."""


class InCourt(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """An instance that the court heard of."""

    instance: InstanceId
    expiry: int
    """Of its terms: it counts for no lock that expires before."""
    until: int
    """The last block time at which it takes anything; 0 if an outcome decided."""
    paid: tuple[int, int]
    """What goes of each player's stake to the other, if nothing follows."""
    line: tuple[AppStands, ...] = ()
    """The newest state that both signed and that was registered, and those that moves in court led to since; the last
    one stands. Empty if an outcome decided."""
    outcome: OutcomeProof | None = None
    """What decided, if that was an outcome that both signed."""
    decided_at: int = 0
    """Block time of that."""

    @property
    def stands(self) -> AppStands | None:
        """The state that stands, None if an outcome decided."""
        return self.line[-1] if self.line else None

    @property
    def agreed(self) -> int:
        """The newest number that both signed, as far as the court knows."""
        return self.line[0].number if self.line else 0

    def is_decided(self, time: int) -> bool:
        """Whether it is decided in a block of that time."""
        return time >= self.decides

    @property
    def decides(self) -> int:
        """The block time from which on it is decided, if nothing follows."""
        return self.decided_at if self.outcome is not None else self.until + 1

    def contains(self, number: int, state: bytes) -> bool:
        """Whether that numbered state is among those that lead to what stands; `state`: its hash."""
        return any(each.number == number and keccak(each.state) == state for each in self.line)

    def stake(self, condition: bytes) -> StakeInCourt:
        """Return what that means for the stake with that condition, which is one of its two."""
        return StakeInCourt(self.expiry, self.decides, self.paid[stakes_of(self.instance).index(condition)])


def fold(events: Iterable[CourtEvent]) -> InCourt | None:
    """Return what comes of all that was told of an instance, in order; None if nothing was."""
    court: InCourt | None = None
    for event in events:
        if isinstance(event, ProofRegistered):
            proof = OutcomeProof.decode(event.proof)
            court = InCourt(
                instance=instance_of(event),
                expiry=proof.terms.expiry,
                until=0,
                paid=proof.paid,
                outcome=proof,
                decided_at=event.time,
            )
        else:
            line = () if event.is_agreed or court is None else court.line
            paid = (event.paid0, event.paid1)
            court = InCourt(
                instance=instance_of(event), expiry=event.expiry, until=event.until, paid=paid, line=(*line, event)
            )
    return court


def instance_of(event: CourtEvent) -> InstanceId:
    """Return which instance was told of; raise InvalidInput if an outcome cannot be read."""
    if isinstance(event, AppStands):
        return InstanceId(event.instance)
    return instance_id(OutcomeProof.decode(event.proof).terms)


def stakes_of(instance: bytes) -> tuple[bytes, bytes]:
    """Return the conditions of both players' stakes."""
    return stake_condition(instance, 0), stake_condition(instance, 1)
