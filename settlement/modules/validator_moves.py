"""A delegation moves to another validator without waiting, and answers for the one that it left as if it waited there.

It stands behind the new one's votes from the block that the move is in, and behind the old one's no more: so no coin
ever stands behind two. What it answers for beside is one validator, never more: it moves on only when no evidence can
come any more for the one that it left, or once it has paid. So no chain of moves leaves a vote behind that it stood
behind, and a delegation keeps two validators at most, however often it moves.
"""

from __future__ import annotations

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.interface import ModuleState, refuse
from tallystick.settlement.modules.validator_delegations import (
    add_delegation,
    bear,
    begin_backing,
    check_amount,
    get_delegation,
    own_delegation,
    pay,
    put_delegation,
)
from tallystick.settlement.modules.validator_records import change_stake, get_rules, get_validator
from tallystick.settlement.modules.validators import VALIDATORS

__all__ = ("VALIDATORS",)

REDELEGATED = VALIDATORS.event(
    "Redelegated(address owner, address left, address validator, uint64 delegation, uint128 amount)"
)
SLASHED = VALIDATORS.event("StakeSlashed(address owner, uint64 delegation, uint128 amount)")


@VALIDATORS.function(
    "redelegate(uint64 delegation, address validator, uint128 amount)", "uint64 delegation", gas=400_000
)
def redelegate(state: ModuleState, number: int, address: Address, amount: int) -> tuple[int]:
    """Move a delegation, or a part that gets a number of its own, to another validator; it answers for both.

    For the one that it left as long as evidence of its votes can come. Until then it does not move on, but can be
    undelegated.
    """
    rules, found = get_rules(state), own_delegation(state, number)
    validator = get_validator(state, address)
    old = found.backing.validator
    refuse(bool(found.backing.until), Revert.NOT_ALLOWED, f"delegation {number} is undelegated already")
    refuse(validator == old, Revert.NOT_ALLOWED, "it is this validator's already")
    refuse(validator.is_convicted(state), Revert.NOT_ALLOWED, "this validator signed twice, and never votes again")
    found, _ = pay(state, found)
    found, _ = bear(state, rules, found)
    refuse(
        found.left is not None and not found.left.is_over(state, rules),
        Revert.WINDOW_OPEN,
        f"delegation {number} has moved, and answers for the validator that it left for {rules.evidence_blocks} "
        f"blocks and {rules.evidence_seconds} seconds; until then it can only be undelegated",
    )
    refuse(not 0 < amount <= found.amount, Revert.BAD_AMOUNT, f"delegation {number} is of {found.amount}")
    check_amount(state, rules, validator, amount)
    now = state.get(b"H")
    change_stake(state, old, found.owner, -amount)
    change_stake(state, validator, found.owner, amount)
    state.put(b"U", now)
    left = found.backing._replace(until=now + 1)
    moved = found._replace(amount=amount, backing=begin_backing(state, validator), left=left)
    if amount == found.amount:
        put_delegation(state, moved)
    else:
        put_delegation(state, found._replace(amount=found.amount - amount))
        number = add_delegation(state, moved).number
    state.emit(REDELEGATED, state.caller, old.address(state), address, number, amount)
    return (number,)


@VALIDATORS.function("settle(uint64 delegation)", "uint128 lost", gas=250_000)
def settle(state: ModuleState, number: int) -> tuple[int]:
    """Burn what a delegation loses, so that it stands behind no vote any more; anybody may, for anybody's."""
    rules = get_rules(state)
    found, _ = pay(state, get_delegation(state, number))
    found, lost = bear(state, rules, found)
    refuse(not lost, Revert.NOTHING_OWED, f"delegation {number} has nothing to answer for that is proven")
    put_delegation(state, found)
    state.emit(SLASHED, found.owner, number, lost)
    return (lost,)


@VALIDATORS.view("moved(uint64 delegation)", "address left, uint64 movedIn, bool answers")
def moved(state: ModuleState, number: int) -> tuple[Address | int | bool, ...]:
    """Say which validator a delegation left, in which block, and whether it still answers for it."""
    rules, found = get_rules(state), get_delegation(state, number)
    if found.left is None:
        return NATIVE, 0, False
    return found.left.validator.address(state), found.left.until - 1, not found.left.is_over(state, rules)
