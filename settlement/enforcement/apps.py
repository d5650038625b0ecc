"""What a player must do in its chain's court, derived from what it holds of an app's instance and what is there. Pure.

`AppHeld` is all that this side of the chain knows of an instance. Whoever plays hands one over for each instance that
is not over (`EnforcingNode.apps`), and says when one has changed (`OnChain.on_apps_changed`); `OnChain.in_court` tells
what is in court. As for channels, nothing is remembered as an event that could get lost.

| in court                              | held                                           | duty                  |
| ------------------------------------- | ---------------------------------------------- | --------------------- |
| nothing, and it is not past the       | a state that both signed, and the owner wants  | register the state    |
| expiry                                | a dispute, or the expiry is near and that      |                       |
|                                       | brings us more than it costs                   |                       |
| an older state that both signed, and  | a state that both signed                       | register the state    |
| ours is not among those that followed |                                                |                       |
| the state that our move is on         | a move that we signed                          | make the move         |
| anything that is not decided          | an outcome that both signed                    | register the outcome  |
| nothing, and it is not past the       | an outcome that gives us a part of a stake     | register the outcome  |
| expiry                                | that came over a hub                           |                       |
| what is decided                       |                                                | none: redeem the lock |

Without a dispute all stakes go back. So near the expiry it is only begun if what the rules say of the state, our own
move made, brings us something and costs us less. Whoever wants more must say so (`disputed`).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tallystick.channels.apps.instance import OwnMove
from tallystick.channels.apps.interface import Paid
from tallystick.channels.apps.table import APPS
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.apps import (
    APP,
    AppTerms,
    InstanceId,
    OutcomeProof,
    SignedState,
    instance_id,
    stake_condition,
)
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import Call, RegisterProofCall
from tallystick.settlement.enforcement.budgets import DutyPolicy, duty_budget
from tallystick.settlement.following.courts import InCourt
from tallystick.settlement.port import Tariff
from tallystick.settlement.sending.obligations import Duty, Obligation

APP_DUTIES = frozenset({Duty.REGISTER_STATE, Duty.COURT_MOVE, Duty.REGISTER_OUTCOME})
"""What is due for instances, not for channels."""


class AppHeld(msgspec.Struct, frozen=True, kw_only=True):
    """What a player holds of one instance. What is in it is stored."""

    terms: AppTerms
    player: int
    """Which one we are."""
    agreed: SignedState | None = None
    """The newest state of which we hold both signatures, None before there is one."""
    state: bytes = b""
    """Its bytes."""
    move: OwnMove | None = None
    """What we signed on that state, or on one that stands in court, until it is itself agreed."""
    outcome: OutcomeProof | None = None
    """Once both signed it."""
    split: bool = False
    """Whether the outcome gives us a part of a stake that came over a hub: hubs take that from the court alone."""
    disputed: bool = False
    """Whether the owner wants the court to decide now, as the other stalls or stays away."""

    @property
    def instance(self) -> InstanceId:
        """Its id."""
        return instance_id(self.terms)

    @property
    def stake(self) -> bytes:
        """The condition of our stake: one of the two by which the index finds the instance."""
        return stake_condition(self.instance, self.player)


class CourtPrices(msgspec.Struct, frozen=True):
    """What calls of the court cost, and what may be spent."""

    policy: DutyPolicy
    tariff: Tariff
    market: int | None = None
    """What a unit of gas costs, None if that is not known."""


def app_duties(held: AppHeld, court: InCourt | None, now: int, prices: CourtPrices) -> list[Obligation]:
    """Return what should be on its way to the court for this instance in a block of time `now`."""
    short, deadline = held.instance.hex()[:16], held.terms.expiry if court is None else court.until
    asset, stake = _at_stake(held.terms)
    found = []
    for duty, call, detail in _steps(held, court, now, prices.policy):
        fee = None if prices.market is None else prices.tariff.fee(call, prices.market + 1)
        found.append(
            Obligation(
                id=f"{duty}:{short}{detail}",
                duty=duty,
                call=call,
                purpose=f"{duty} app {short[:8]}",
                budget=max(1, duty_budget(asset, stake, fee, prices.policy)),
                deadline=deadline,
            )
        )
    return found


def _steps(held: AppHeld, court: InCourt | None, now: int, policy: DutyPolicy) -> Iterator[tuple[Duty, Call, str]]:
    if now > held.terms.expiry if court is None else court.is_decided(now):
        return
    if held.outcome is not None:
        if court is not None or held.split:  # else the channels see to it, if there is anything to claim
            yield Duty.REGISTER_OUTCOME, RegisterProofCall(APP, held.stake, held.outcome.encode()), ""
        return
    agreed = held.agreed
    if agreed is not None and _should_register(held, agreed, court, now, policy):
        call = RegisterStateCall(held.terms, agreed.state.number, held.state, agreed.signatures)
        yield Duty.REGISTER_STATE, call, f":{agreed.state.number}"
    elif court is not None and held.move is not None and _is_on(held.move, court):
        call_move = CourtMoveCall(held.terms, held.move.before, held.move.move, held.move.signature)
        yield Duty.COURT_MOVE, call_move, f":{held.move.number}"


def _should_register(held: AppHeld, agreed: SignedState, court: InCourt | None, now: int, policy: DutyPolicy) -> bool:
    if court is not None:
        number, state = agreed.state.number, agreed.state.state
        return number > court.agreed and not court.contains(number, state)
    return held.disputed or (now > held.terms.expiry - policy.secret_margin and brings(held))


def _is_on(move: OwnMove, court: InCourt) -> bool:
    """Whether a move is on what stands."""
    stands = court.stands
    return stands is not None and stands.number + 1 == move.number and stands.state == move.before


def brings(held: AppHeld) -> bool:
    """Whether a dispute would bring us more than it costs us, if the other does nothing from now on."""
    app = APPS.find(held.terms.app)
    state = held.move.after if held.move is not None else held.state
    if app is None or held.agreed is None:
        return False
    try:
        turn = app.turn(state)
        if turn == held.player:
            return False  # we would have to move: its owner's to decide
        paid: Paid = app.outcome(state, held.terms.stakes) if turn is None else app.forfeit(state, held.terms.stakes)
    except InvalidInput:
        return False
    gain, loss = paid[1 - held.player], paid[held.player]
    same = held.terms.assets[0] == held.terms.assets[1]
    return gain > 0 and (loss == 0 or (same and gain > loss))


def _at_stake(terms: AppTerms) -> tuple[Address, int]:
    """Return what a dispute is about: both stakes, if they are in the chain's coin, or the token that one is in."""
    for asset, stake in zip(terms.assets, terms.stakes, strict=True):
        if stake and asset != NATIVE:
            return asset, stake
    return NATIVE, sum(terms.stakes)
