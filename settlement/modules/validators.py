"""Stake decides who agrees on the blocks of a replicated ledger: what accounts can do about it.

Anybody delegates coins to a validator; its voting power is what is delegated to it, in whole units. What is undelegated
waits until no evidence can come any more for a vote that it stood behind, and bears what that evidence costs. Fees of
blocks are earned by who signed them. What blocks do is in `validator_blocks`, how a delegation moves to another
validator in `validator_moves`; on a chain without validators all of this is refused.
"""

from __future__ import annotations

import hashlib

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.interface import ModuleState, get_wide, refuse
from tallystick.settlement.modules.validator_delegations import (
    add_delegation,
    bear,
    begin_delegation,
    check_amount,
    empty_delegation,
    get_delegation,
    own_delegation,
    pay,
    put_delegation,
)
from tallystick.settlement.modules.validator_records import (
    BURNT,
    MILLION,
    REWARDS,
    STAKES,
    VALIDATORS,
    StakeRules,
    add_validator,
    change_stake,
    find_validator,
    get_rules,
    get_validator,
    take_seat,
    validator_of,
)

__all__ = ("VALIDATORS",)

REGISTERED = VALIDATORS.event("ValidatorRegistered(address validator, address operator, uint64 commission)")
DELEGATED = VALIDATORS.event("Delegated(address owner, address validator, uint64 delegation, uint128 amount)")
UNDELEGATED = VALIDATORS.event("Undelegated(address owner, address validator, uint64 delegation, uint128 amount)")
WITHDRAWN = VALIDATORS.event("StakeWithdrawn(address owner, uint64 delegation, uint128 amount, uint128 slashed)")
COMMISSIONED = VALIDATORS.event("CommissionPaid(address operator, address validator, uint128 amount)")
RELEASED = VALIDATORS.event("ValidatorReleased(address validator)")


def possession(chain_id: int, operator: Address, public: bytes) -> bytes:
    """Return what the key of a validator's votes signs, to show that whoever registers it has it.

    It begins with a zero byte, as no vote does: those begin with their length.
    """
    return b"\0tallystick: validator of chain " + chain_id.to_bytes(32, "big") + operator + public


def address_of(public: bytes) -> Address:
    """Return by what the consensus knows the key of a validator's votes."""
    return Address(hashlib.sha256(public).digest()[:20])


def check_proof(proof: bytes, message: bytes, public: bytes) -> None:
    """Refuse a proof of possession that the key did not sign."""
    try:
        VerifyKey(public).verify(message, proof)
    except (CryptoError, ValueError):
        refuse(True, Revert.BAD_SIGNATURE, "the proof is not this key's, for the caller")


@VALIDATORS.function(
    "register(bytes32 key, bytes proof, uint128 amount, uint64 commission)",
    "uint64 delegation",
    gas=350_000,
    gas_per_byte=16,
)
def register(state: ModuleState, public: bytes, proof: bytes, amount: int, commission: int) -> tuple[int]:
    """Be a validator: the key of its votes, the proof that the caller has it, its own stake, its share of rewards.

    The share is in millionths of what its delegations earn; `announceCommission` changes it.
    """
    rules = get_rules(state)
    address = address_of(public)
    refuse(find_validator(state, address) is not None, Revert.ALREADY_REGISTERED, "this key is a validator's already")
    refuse(commission > MILLION, Revert.BAD_TERMS, f"a commission is from 0 to {MILLION} millionths")
    refuse(amount < rules.own_least, Revert.BAD_AMOUNT, f"a validator's own stake is at least {rules.own_least}")
    asked = possession(get_wide(state, b"I"), state.caller, public)
    check_proof(proof, asked, public)
    validator = add_validator(state, address, public, state.caller, commission)
    check_amount(state, rules, validator, amount)
    state.emit(REGISTERED, address, state.caller, commission)
    made = begin_delegation(state, validator, state.caller, amount)
    state.emit(DELEGATED, state.caller, address, made.number, amount)
    return (made.number,)


@VALIDATORS.function("delegate(address validator, uint128 amount)", "uint64 delegation", gas=250_000)
def delegate(state: ModuleState, address: Address, amount: int) -> tuple[int]:
    """Delegate an amount to a validator, named by its address in the consensus; it counts two blocks later.

    It earns of the fees that pay for votes which it backs: from the third block on.
    """
    rules, validator = get_rules(state), get_validator(state, address)
    refuse(validator.is_convicted(state), Revert.NOT_ALLOWED, "this validator signed twice, and never votes again")
    check_amount(state, rules, validator, amount)
    made = begin_delegation(state, validator, state.caller, amount)
    state.emit(DELEGATED, state.caller, address, made.number, amount)
    return (made.number,)


@VALIDATORS.function("claim(uint64 delegation)", "uint128 amount", gas=150_000)
def claim(state: ModuleState, number: int) -> tuple[int]:
    """Take what a delegation of the caller's has earned."""
    get_rules(state)
    found, amount = pay(state, own_delegation(state, number))
    refuse(not amount, Revert.NOTHING_OWED, "nothing was earned")
    put_delegation(state, found)
    return (amount,)


@VALIDATORS.function("claimCommission(address validator)", "uint128 amount", gas=120_000)
def claim_commission(state: ModuleState, address: Address) -> tuple[int]:
    """Take what a validator has earned by its commission; its operator may."""
    get_rules(state)
    validator = get_validator(state, address)
    operator, amount = validator.operator(state), validator.number(state, b"e")
    refuse(state.caller != operator, Revert.NOT_ALLOWED, f"only 0x{operator.hex()} may")
    refuse(not amount, Revert.NOTHING_OWED, "nothing was earned")
    validator.put(state, b"e", 0)
    state.give(NATIVE, amount, REWARDS, operator)
    state.emit(COMMISSIONED, operator, address, amount)
    return (amount,)


@VALIDATORS.function("undelegate(uint64 delegation, uint128 amount)", "uint64 delegation", gas=300_000)
def undelegate(state: ModuleState, number: int, amount: int) -> tuple[int]:
    """Take back a delegation or a part, which gets a number of its own; it waits, and is then withdrawn."""
    rules, found = get_rules(state), own_delegation(state, number)
    refuse(bool(found.backing.until), Revert.NOT_ALLOWED, f"delegation {number} is undelegated already")
    found, _ = pay(state, found)
    found, _ = bear(state, rules, found)
    refuse(not 0 < amount <= found.amount, Revert.BAD_AMOUNT, f"delegation {number} is of {found.amount}")
    validator, now = found.backing.validator, state.get(b"H")
    change_stake(state, validator, found.owner, -amount)
    state.put(b"U", now)
    if amount == found.amount:
        put_delegation(state, found.ended(now))
    else:
        put_delegation(state, found._replace(amount=found.amount - amount))
        number = add_delegation(state, found._replace(amount=amount).ended(now)).number
    state.emit(UNDELEGATED, state.caller, validator.address(state), number, amount)
    return (number,)


@VALIDATORS.function("withdraw(uint64 delegation)", "uint128 amount", gas=150_000)
def withdraw(state: ModuleState, number: int) -> tuple[int]:
    """Take what was undelegated, once no vote that it stood behind can cost anything any more."""
    rules, found = get_rules(state), own_delegation(state, number)
    last = found.backing.until  # the last block whose votes it stood behind
    refuse(not last, Revert.NOT_ALLOWED, f"delegation {number} was not undelegated")
    refuse(
        not found.backing.is_over(state, rules),
        Revert.WINDOW_OPEN,
        f"it waits for {rules.evidence_blocks} blocks and {rules.evidence_seconds} seconds from block {last} on",
    )
    pay(state, found)
    lost = found.loss(state, rules)
    empty_delegation(state, number)
    if lost:
        state.give(NATIVE, lost, STAKES, BURNT)
    state.give(NATIVE, found.amount - lost, STAKES, found.owner)
    state.emit(WITHDRAWN, found.owner, number, found.amount - lost, lost)
    return (found.amount - lost,)


@VALIDATORS.function("release(address validator)", gas=150_000)
def release(state: ModuleState, address: Address) -> tuple[()]:
    """Let a validator vote again that was jailed for being away, after its time; its operator may."""
    get_rules(state)
    validator = get_validator(state, address)
    until = validator.number(state, b"j")
    refuse(state.caller != validator.operator(state), Revert.NOT_ALLOWED, "only its operator may")
    refuse(validator.is_convicted(state), Revert.NOT_ALLOWED, "it signed twice, and never votes again")
    refuse(not until, Revert.NOT_ALLOWED, "it is not jailed")
    refuse(state.get(b"T") < until, Revert.WINDOW_OPEN, f"it is jailed until {until}")
    validator.put(state, b"j", 0)
    state.put(b"D", 1)
    take_seat(state, validator)
    state.emit(RELEASED, address)
    return ()


# --- looking ----------------------------------------------------------------------------------------------------


@VALIDATORS.view(
    "rules()",
    "uint128 unit, uint128 ownLeast, uint64 validatorsMax, uint64 evidenceBlocks, uint64 evidenceSeconds, "
    "uint64 slash, uint64 absencesMax, uint64 jailSeconds",
)
def rules(state: ModuleState) -> tuple[int, ...]:
    """Say what is fixed: coins of a unit of power, a validator's least own stake, and what double signing costs."""
    found = get_rules(state)
    return tuple(getattr(found, name) for name in StakeRules.__struct_fields__)


@VALIDATORS.view("validators()", "uint64 total")
def validators(state: ModuleState) -> tuple[int]:
    """Say how many validators ever registered: they have the indices from 0 on."""
    return (state.get(b"N"),)


@VALIDATORS.view("validatorAt(uint64 index)", "address validator")
def validator_at(state: ModuleState, index: int) -> tuple[Address]:
    """Say by what address the consensus knows a validator."""
    refuse(index >= state.get(b"N"), Revert.UNKNOWN_ENTRY, f"there is no validator {index}")
    return (validator_of(index).address(state),)


_WORDS = (b"s", b"w", b"p", b"e", b"a", b"j")


@VALIDATORS.view(
    "validator(address validator)",
    "address operator, uint128 stake, uint128 ownStake, uint64 power, uint64 commission, uint128 commissionEarned, "
    "uint64 absences, uint64 jailedUntil, uint64 signedTwiceIn",
)
def validator(state: ModuleState, address: Address) -> tuple[Address | int, ...]:
    """Say what is staked with a validator, the power of its votes, and whether it is jailed or signed a block twice."""
    rules, found = get_rules(state), get_validator(state, address)
    offence = found.number(state, b"o")
    stake, own, power, earned, absences, jailed = (found.number(state, letter) for letter in _WORDS)
    commission = found.commission(state, rules)
    after = (earned, absences, jailed, offence - 1 if offence else 0)
    return (found.operator(state), stake, own, power, commission, *after)


@VALIDATORS.view("delegations(address owner)", "uint64 total")
def delegations(state: ModuleState, owner: Address) -> tuple[int]:
    """Say how many delegations an account ever made."""
    return (state.get(b"h" + owner),)


@VALIDATORS.view("delegationAt(address owner, uint64 index)", "uint64 delegation")
def delegation_at(state: ModuleState, owner: Address, index: int) -> tuple[int]:
    """Say which number a delegation of an account's has."""
    number = state.get(b"g" + owner + index.to_bytes(8, "big"))
    refuse(not number, Revert.UNKNOWN_ENTRY, "the account has fewer")
    return (number - 1,)


@VALIDATORS.view(
    "delegation(uint64 delegation)",
    "address owner, address validator, uint128 amount, uint128 earned, uint64 since, uint64 undelegatedIn, "
    "bool withdrawable",
)
def delegation(state: ModuleState, number: int) -> tuple[Address | int | bool, ...]:
    """Say what a delegation is worth, less what it was slashed, what it earned, and whether it can be withdrawn."""
    rules, found = get_rules(state), get_delegation(state, number)
    return (
        found.owner,
        found.backing.validator.address(state),
        found.amount - found.loss(state, rules),
        found.earned(state),
        found.backing.since,
        found.backing.until - 1 if found.backing.until else 0,
        found.backing.is_over(state, rules),
    )
