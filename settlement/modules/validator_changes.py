"""What an operator changes of its validator: its commission, announced ahead, and the key of its votes.

A commission rises by small steps, each announced as long ahead as what is undelegated waits: who does not like it can
leave first. It falls at once. A key is replaced two blocks later, as all is that the consensus is told; what the old
one signed, its validator answers for as long as evidence can come.
"""

from __future__ import annotations

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.interface import ModuleState, get_wide, put_wide, refuse
from tallystick.settlement.modules.validator_moves import VALIDATORS
from tallystick.settlement.modules.validator_records import (
    MILLION,
    Validator,
    find_validator,
    get_rules,
    get_validator,
    put_key,
)
from tallystick.settlement.modules.validators import address_of, check_proof, possession

__all__ = ("VALIDATORS",)

COMMISSION_STEP = 10_000
"""Millionths by which a commission rises at once, at most."""

ANNOUNCED = VALIDATORS.event("CommissionAnnounced(address validator, uint64 commission, uint64 block)")
CHANGED = VALIDATORS.event("CommissionLowered(address validator, uint64 commission)")
REPLACED = VALIDATORS.event("ValidatorKeyReplaced(address validator, address left)")


def _operated(state: ModuleState, address: Address) -> Validator:
    found = get_validator(state, address)
    operator = found.operator(state)
    refuse(state.caller != operator, Revert.NOT_ALLOWED, f"only its operator 0x{operator.hex()} may")
    return found


@VALIDATORS.function("announceCommission(address validator, uint64 commission)", gas=150_000)
def announce_commission(state: ModuleState, address: Address, commission: int) -> tuple[()]:
    """Change a validator's commission, in millionths: a lower one counts at once, a higher one after a time.

    That is the time that undelegated stakes wait. It rises by 1 % of all at once, and the newest announcement counts.
    """
    rules, found = get_rules(state), _operated(state, address)
    now = found.commission(state, rules)
    most = min(now + COMMISSION_STEP, MILLION)
    refuse(commission > most, Revert.BAD_TERMS, f"it is {now} millionths now, and {most} at most after one step")
    is_raised = commission > now
    found.put(state, b"c", now if is_raised else commission)
    ahead = (commission + 1, state.get(b"H"), state.get(b"T")) if is_raised else (0, 0, 0)
    for letter, word in zip((b"f", b"u", b"A"), ahead, strict=True):
        found.put(state, letter, word)
    if is_raised:
        state.emit(ANNOUNCED, found.address(state), commission, state.get(b"H"))
    else:
        state.emit(CHANGED, found.address(state), commission)
    return ()


@VALIDATORS.function("replaceKey(address validator, bytes32 key, bytes proof)", gas=350_000, gas_per_byte=16)
def replace_key(state: ModuleState, address: Address, public: bytes, proof: bytes) -> tuple[()]:
    """Let a validator vote by another key, from the third block on; `proof` shows that its operator has it.

    The old one is never anybody's again, and what it signs is the validator's to answer for.
    """
    get_rules(state)
    found, new = _operated(state, address), address_of(public)
    refuse(found.is_convicted(state), Revert.NOT_ALLOWED, "it signed twice, and never votes again")
    refuse(find_validator(state, new) is not None, Revert.ALREADY_REGISTERED, "this key is, or was, a validator's")
    check_proof(proof, possession(get_wide(state, b"I"), state.caller, public), public)
    left, known = found.address(state), found.public(state)
    if found.number(state, b"p") and not found.told(state):
        put_wide(state, found.key(b"K"), int.from_bytes(known, "big"))
    put_key(state, found, new, public)
    found.put(state, b"g", state.get(b"H"))
    state.put(b"D", 1)
    state.emit(REPLACED, new, left)
    return ()


def told_in(state: ModuleState, public: bytes) -> int | None:
    """Return in which block the consensus was told that a validator votes by this key; None: it was not, so far.

    `DELAY` blocks later it does. 0: it has from the beginning, or since it registered.
    """
    found = find_validator(state, address_of(public))
    if found is None or found.public(state) != public or found.told(state):
        return None
    return found.number(state, b"g")


@VALIDATORS.view("commission(address validator)", "uint64 commission, uint64 ahead, uint64 announcedIn, uint64 blocks")
def commission(state: ModuleState, address: Address) -> tuple[int, ...]:
    """Say a validator's commission, which one is announced, in which block, and for how many blocks it waits at least.

    Where none is announced, the first two are one.
    """
    rules, found = get_rules(state), get_validator(state, address)
    now, ahead = found.commission(state, rules), found.number(state, b"f")
    if not ahead or ahead - 1 == now:
        return now, now, 0, 0
    return now, ahead - 1, found.number(state, b"u"), rules.evidence_blocks


@VALIDATORS.view("key(address validator)", "bytes32 key, address validator")
def key(state: ModuleState, address: Address) -> tuple[bytes | Address, ...]:
    """Say by which key a validator votes, or will in two blocks, and its address; it may be asked by an older one."""
    found = get_validator(state, address)
    return found.public(state), found.address(state)
