"""What each block does to validators and their stakes, before its transactions and after them. Pure.

Before: who signed twice is convicted, who was away too long is jailed, and the fees of the blocks before are shared
among those who signed. After: what changed of voting powers is told to the consensus, for two blocks later. All of it
is in the ledger's state, and comes out the same wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.modules.interface import ModuleState, put_wide
from tallystick.settlement.modules.validator_delegations import begin_delegation
from tallystick.settlement.modules.validator_records import (
    MILLION,
    REWARDS,
    SCALE,
    SEATS,
    VERSION,
    StakeRules,
    Validator,
    add_validator,
    apply_changes,
    find_validator,
    get_rules,
    note_offence,
    offer_seats,
    put_rules,
    validator_of,
)
from tallystick.settlement.modules.validators import address_of


class GenesisStake(msgspec.Struct, frozen=True, array_like=True):
    """A validator that is there from the beginning; its operator has the amount at genesis."""

    operator: Address
    public: bytes
    """The key of its votes (32 bytes)."""
    amount: int
    commission: int = 0


class StakeFounding(msgspec.Struct, frozen=True):
    """With what stakes a chain begins."""

    chain_id: int
    rules: StakeRules
    stakes: tuple[GenesisStake, ...]


class BlockVote(msgspec.Struct, frozen=True, array_like=True):
    """How a validator voted on the block before."""

    address: bytes
    power: int
    signed: bool
    """Whether it voted for the block."""
    absent: bool
    """Whether there is no vote of it at all."""


class Offence(msgspec.Struct, frozen=True, array_like=True):
    """A validator signed two blocks of one height: the consensus has its signatures."""

    address: bytes
    block: int
    time: int
    """Of that block, by the consensus, in whole seconds."""


class PowerUpdate(NamedTuple):
    """What the consensus is told."""

    public: bytes
    power: int
    """0: it is no validator any more."""


RunFor: TypeAlias = Callable[[Address], ModuleState]
"""How the module's rules are run for an account."""


def found_stakes(run: RunFor, founding: StakeFounding) -> None:
    """Take the genesis stakes from their operators, in the first block, before all else."""
    put_rules(run(NATIVE), founding.rules, founding.chain_id)
    run(NATIVE).put(VERSION, 1)
    for index, each in enumerate(founding.stakes):
        state = run(each.operator)
        validator = add_validator(state, address_of(each.public), each.public, each.operator, each.commission)
        begin_delegation(state, validator, each.operator, each.amount)
        validator.put(state, b"p", each.amount // founding.rules.unit)
        state.put(b"m" + index.to_bytes(8, "big"), index + 1)


def begin_block(
    state: ModuleState, height: int, time: int, votes: Sequence[BlockVote], offences: Sequence[Offence]
) -> None:
    """Begin a block of the consensus's time. The caller is the account that fees are paid into."""
    rules = get_rules(state)
    for offence in offences:
        _convict(state, rules, offence)
    if state.get(b"U") and state.get(b"U") == state.get(b"H"):
        state.put(b"t" + height.to_bytes(8, "big"), max(time, state.get(b"T")))
    state.put(b"H", height)
    state.put(b"T", max(time, state.get(b"T")))
    _take_over(state, height)
    apply_changes(state, height)
    _share_fees(state, rules, votes)
    for vote in votes:
        _note_vote(state, rules, vote)


def _take_over(state: ModuleState, height: int) -> None:
    """Go on with stakes that an unreleased build kept, which shared fees by the stake of the moment.

    All that is delegated now counts from here on, and what was undelegated has earned nothing since, as it was then.
    """
    if state.get(VERSION):
        return
    for ordinal in range(state.get(b"N")):
        validator = validator_of(ordinal)
        validator.put(state, b"b", validator.number(state, b"s"))
    state.put(VERSION, height)


def _convict(state: ModuleState, rules: StakeRules, offence: Offence) -> None:
    """Convict who signed twice: it never votes again. All that stood behind the vote loses a share, and nothing else.

    Each delegation loses it once, for whichever offences are proven, in whatever order: when it is next touched.
    """
    validator = find_validator(state, Address(offence.address))
    if validator is None or rules.is_over(state, offence.block, offence.time):
        return
    note_offence(state, validator, offence.block)
    if not validator.is_convicted(state):
        validator.put(state, b"o", offence.block + 1)
        state.put(b"D", 1)


def _share_fees(state: ModuleState, rules: StakeRules, votes: Sequence[BlockVote]) -> None:
    """Share the fees among who signed the block before, by power; what is left over by rounding waits.

    Behind each it goes to the stakes that backed this vote, whatever has come or gone since.
    """
    fees, power = state.balance(NATIVE), sum(vote.power for vote in votes if vote.signed)
    if not fees or not power:
        return
    for vote in votes:
        validator = find_validator(state, Address(vote.address)) if vote.signed else None
        if validator is None or validator.is_convicted(state) or validator.number(state, b"j"):
            continue
        staked, share = validator.number(state, b"b"), fees * vote.power // power
        if not staked or not share:
            continue
        state.take(NATIVE, share, REWARDS)
        commission = share * validator.commission(state, rules) // MILLION
        validator.put(state, b"e", validator.number(state, b"e") + commission)
        put_wide(state, validator.key(b"P"), validator.earned(state) + (share - commission << SCALE) // staked)


def _note_vote(state: ModuleState, rules: StakeRules, vote: BlockVote) -> None:
    """Count who is away, against who is there; jail whom nobody has seen for long."""
    validator = find_validator(state, Address(vote.address))
    if validator is None or validator.number(state, b"j") or validator.is_convicted(state):
        return
    before = validator.number(state, b"a")
    absences = before + 1 if vote.absent else max(0, before - 1)
    if absences >= rules.absences_max:
        absences = 0
        validator.put(state, b"j", state.get(b"T") + rules.jail_seconds)
        state.put(b"D", 1)
    if absences != before:
        validator.put(state, b"a", absences)


def end_block(state: ModuleState) -> tuple[PowerUpdate, ...]:
    """Return what the consensus must be told of after a block, by the validators' addresses in order.

    If nobody may vote any more, those who vote go on, as a chain without validators could never have any again.
    """
    offer_seats(state)
    if not state.get(b"D"):
        return ()
    state.put(b"D", 0)
    wanted = _powers(state, get_rules(state))
    if not wanted:
        return ()
    voting = [validator_of(state.get(b"m" + at.to_bytes(8, "big")) - 1) for at in range(_count_voting(state))]
    updates = [update for each in voting for update in _forget_key(state, each)]
    changed = {each.ordinal: (each, 0) for each in voting if each.ordinal not in wanted and each.number(state, b"p")}
    for index, (each, power) in wanted.items():
        if each.number(state, b"p") != power:
            changed[index] = (each, power)
    for each, power in changed.values():
        each.put(state, b"p", power)
    for at, index in enumerate((*wanted, *[-1] * max(0, len(voting) - len(wanted)))):
        state.put(b"m" + at.to_bytes(8, "big"), index + 1)
    updates += [PowerUpdate(each.public(state), power) for each, power in changed.values()]
    return tuple(sorted(updates, key=lambda update: address_of(update.public)))


def _forget_key(state: ModuleState, validator: Validator) -> tuple[PowerUpdate, ...]:
    """Take a key out of the consensus that was replaced: the new one has no power there so far."""
    known = validator.told(state)
    if not known:
        return ()
    put_wide(state, validator.key(b"K"), 0)
    validator.put(state, b"g", state.get(b"H"))
    validator.put(state, b"p", 0)
    return (PowerUpdate(known, 0),)


def _count_voting(state: ModuleState) -> int:
    count = 0
    while state.get(b"m" + count.to_bytes(8, "big")):
        count += 1
    return count


def _powers(state: ModuleState, rules: StakeRules) -> dict[int, tuple[Validator, int]]:
    """Return who votes and with what power: those with most stake, and of equals those who came first."""
    seated = (state.get(b"C" + bytes([seat])) for seat in range(SEATS))
    found = [validator_of(taken - 1) for taken in seated if taken]
    powers = sorted((-each.power(state, rules), each.ordinal, each) for each in found)
    return {index: (each, -power) for power, index, each in powers[: rules.validators_max] if power}
