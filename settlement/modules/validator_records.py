"""What the ledger keeps of validators: records, and the words they are in.

What a block changes decides who votes two blocks later, as the consensus has it: the votes on block n are backed by
what was delegated after block n - 2. Block n + 1 carries these votes, and pays for them: so the fees that a block
shares go by the stakes as they were after the block three before it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.interface import (
    Module,
    ModuleState,
    get_address,
    get_wide,
    put_address,
    put_wide,
    refuse,
)

MILLION = 1_000_000

SCALE = 64
"""Bits of the fraction in which the reward of a delegated unit is counted."""

DELAY = 2
"""Blocks from a change of stakes to the first one whose votes it decides."""

PAID_AFTER = DELAY + 1
"""Blocks from a change of stakes to the first one that pays for such votes."""

OFFENCES_LAST = 2**40 - 1
"""The last block that offences are counted for: however many there are, each costs 41 words at most."""

VERSION = b"V"
"""Key of the block from which on stakes are kept as here."""

SEATS = 128
"""Validators that can be chosen from: whoever brings more than the least of them takes its seat."""

SEATS_LOOKED_AT = 16
"""Validators without a seat that a block looks at, in turn, for one that is larger than the least with a seat."""

POWER_TOTAL = 2**60 - 1
"""All voting power together stays below this, which is CometBFT's limit."""

VALIDATORS = Module("validators", "Delegate coins to the validators of this chain, or be one.")

STAKES, REWARDS, BURNT = (VALIDATORS.account_of(name) for name in (b"stakes", b"rewards", b"burnt"))
"""Accounts of what is delegated, of what is to be claimed, and of what was slashed: nothing ever leaves that one."""


class StakeRules(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed for all validators of a chain, from its genesis on."""

    unit: int = 10**12
    """Coins of one unit of voting power."""
    own_least: int = 10**15
    """Coins of its own that a validator must have staked to vote."""
    validators_max: int = 64
    """That vote at once: those with most stake."""
    evidence_blocks: int = 100_000
    evidence_seconds: int = 172_800
    """What is older by both than this is no evidence any more; what was undelegated waits longer."""
    slash: int = 50_000
    """What double signing costs, in millionths of each stake."""
    absences_max: int = 500
    """Blocks without its vote, less those with it, after which a validator is jailed."""
    jail_seconds: int = 600
    """How long at least."""

    @property
    def power_max(self) -> int:
        """Of one validator."""
        return POWER_TOTAL // (2 * self.validators_max)

    def is_over(self, state: ModuleState, block: int, time: int) -> bool:
        """Whether what was signed in a block of that time is too old to be evidence in the next block."""
        now, clock = state.get(b"H"), state.get(b"T")
        return now - block > self.evidence_blocks and clock - time > self.evidence_seconds


_RULES = tuple(StakeRules.__struct_fields__)


def put_rules(state: ModuleState, rules: StakeRules, chain_id: int) -> None:
    """Keep the rules, once, at the beginning of a chain."""
    for index, name in enumerate(_RULES):
        state.put(b"R" + bytes([index]), getattr(rules, name))
    put_wide(state, b"I", chain_id)


def get_rules(state: ModuleState) -> StakeRules:
    """Return the rules; refuse whatever is asked on a chain that has none."""
    words = {name: state.get(b"R" + bytes([index])) for index, name in enumerate(_RULES)}
    refuse(not words["unit"], Revert.NOT_ALLOWED, "no stake decides on this chain: it has no validators")
    return StakeRules(**words)


class Validator(NamedTuple):
    """The words of one validator, by its index."""

    ordinal: int
    row: bytes

    def key(self, letter: bytes) -> bytes:
        return letter + self.row

    def number(self, state: ModuleState, letter: bytes) -> int:
        """Return a word: `s` stake, `b` what of it is paid for, `w` own stake, `e` what its commission earned.

        Also `a` absences, `j` jailed until, `o` one more than the block in which it signed twice, `S` seat, `p` power;
        `c` commission, `f` one more than the next one, which was announced in block `u` at the time `A`; `g` the
        block whose end told the consensus of its key, if that was replaced.
        """
        return state.get(letter + self.row)

    def put(self, state: ModuleState, letter: bytes, word: int) -> None:
        state.put(letter + self.row, word)

    def public(self, state: ModuleState) -> bytes:
        """The public key of its votes."""
        return get_wide(state, self.key(b"k")).to_bytes(32, "big")

    def told(self, state: ModuleState) -> bytes:
        """The key that the consensus knows, if it is to be told of another one: 32 bytes, or none."""
        known = get_wide(state, self.key(b"K"))
        return known.to_bytes(32, "big") if known else b""

    def commission(self, state: ModuleState, rules: StakeRules) -> int:
        """What its operator gets of what its delegations earn, in millionths."""
        ahead = self.number(state, b"f")
        if ahead and rules.is_over(state, self.number(state, b"u"), self.number(state, b"A")):
            return ahead - 1
        return self.number(state, b"c")

    def address(self, state: ModuleState) -> Address:
        """By what the consensus knows it."""
        return get_address(state, self.key(b"d"))

    def operator(self, state: ModuleState) -> Address:
        """Whose own stake stands behind it, and who earns its commission."""
        return get_address(state, self.key(b"O"))

    def earned(self, state: ModuleState) -> int:
        """What a unit that was there from the beginning has earned, in fractions of `SCALE` bits."""
        return get_wide(state, self.key(b"P"))

    def earned_before(self, state: ModuleState, block: int) -> int:
        """What it had before a block from which on other stakes count; what it has now, if that is to come."""
        if state.get(b"H") < block:
            return self.earned(state)
        return get_wide(state, self.key(b"Q") + block.to_bytes(8, "big"))

    def is_convicted(self, state: ModuleState) -> bool:
        """Whether it signed twice: it never votes again."""
        return bool(self.number(state, b"o"))

    def power(self, state: ModuleState, rules: StakeRules) -> int:
        """Return the voting power that its stake gives it now; 0: it may not vote."""
        if self.is_convicted(state) or self.number(state, b"j") or self.number(state, b"w") < rules.own_least:
            return 0
        return self.number(state, b"s") // rules.unit


def validator_of(index: int) -> Validator:
    """Return the validator of an index: they have those from 0 on."""
    return Validator(index, index.to_bytes(8, "big"))


def find_validator(state: ModuleState, address: Address) -> Validator | None:
    """Return the validator that the consensus knows by this address, or knew; None if it is none."""
    found = state.get(b"i" + address)
    return validator_of(found - 1) if found else None


def get_validator(state: ModuleState, address: Address) -> Validator:
    """Return it; refuse if there is none."""
    found = find_validator(state, address)
    if found is None:
        refuse(True, Revert.UNKNOWN_ENTRY, f"no validator has the address 0x{address.hex()}")
        raise AssertionError
    return found


def add_validator(state: ModuleState, address: Address, public: bytes, operator: Address, commission: int) -> Validator:
    """Make the words of a new one."""
    made = validator_of(state.get(b"N"))
    state.put(b"N", made.ordinal + 1)
    put_key(state, made, address, public)
    put_address(state, made.key(b"O"), operator)
    made.put(state, b"c", commission)
    return made


def put_key(state: ModuleState, validator: Validator, address: Address, public: bytes) -> None:
    """Keep the key of a validator's votes. By the address of one that it had before, it is found for ever."""
    state.put(b"i" + address, validator.ordinal + 1)
    put_wide(state, validator.key(b"k"), int.from_bytes(public, "big"))
    put_address(state, validator.key(b"d"), address)


def change_stake(state: ModuleState, validator: Validator, owner: Address, change: int) -> None:
    """Add to what is staked with a validator, or take from it, from this block on."""
    letters = (b"s", b"w") if owner == validator.operator(state) else (b"s",)
    for letter in letters:
        validator.put(state, letter, validator.number(state, letter) + change)
    _note_change(state, validator)
    state.put(b"D", 1)
    take_seat(state, validator)


def _note_change(state: ModuleState, validator: Validator) -> None:
    """Keep what is staked after this block, and that it changed, until votes are paid for that it backs."""
    block, staked = state.get(b"H").to_bytes(8, "big"), validator.number(state, b"s")
    key = validator.key(b"B") + block
    if not state.get(key):
        at = 0
        while state.get(b"L" + block + at.to_bytes(8, "big")):
            at += 1
        state.put(b"L" + block + at.to_bytes(8, "big"), validator.ordinal + 1)
    state.put(key, staked + 1)


def apply_changes(state: ModuleState, height: int) -> None:
    """Let a block's fees be shared by the stakes that were behind the votes which it pays for.

    What a unit of a validator had earned before is kept where these are others than in the block before: for the
    delegations that count from this block on, or no more.
    """
    changed = max(height - PAID_AFTER, 0).to_bytes(8, "big")
    at = 0
    while listed := state.get(b"L" + changed + at.to_bytes(8, "big")):
        validator = validator_of(listed - 1)
        key = validator.key(b"B") + changed
        validator.put(state, b"b", state.get(key) - 1)
        put_wide(state, validator.key(b"Q") + height.to_bytes(8, "big"), validator.earned(state))
        state.put(key, 0)
        state.put(b"L" + changed + at.to_bytes(8, "big"), 0)
        at += 1


def note_offence(state: ModuleState, validator: Validator, block: int) -> None:
    """Keep that votes of a block contradict each other, in a Fenwick tree over what blocks decided them."""
    node = max(block - DELAY, 0) + 1
    while node <= OFFENCES_LAST + 1:
        key = validator.key(b"F") + node.to_bytes(8, "big")
        state.put(key, state.get(key) + 1)
        node += node & -node


def count_offences(state: ModuleState, validator: Validator, last: int) -> int:
    """Return how many offences are proven in votes that blocks up to this one decided."""
    node, count = last + 1, 0
    while node > 0:
        count += state.get(validator.key(b"F") + node.to_bytes(8, "big"))
        node -= node & -node
    return count


def take_seat(state: ModuleState, validator: Validator) -> None:
    """Let a validator be chosen from now on, if it has none of the seats and there is one for it."""
    if validator.number(state, b"S"):
        return
    rules = get_rules(state)
    power = validator.power(state, rules)
    if not power:
        return
    seats = [state.get(b"C" + bytes([seat])) for seat in range(SEATS)]
    powers = [validator_of(taken - 1).power(state, rules) if taken else -1 for taken in seats]
    least = min(powers)
    if power <= least:
        return
    seat = powers.index(least)
    if seats[seat]:
        validator_of(seats[seat] - 1).put(state, b"S", 0)
    state.put(b"C" + bytes([seat]), validator.ordinal + 1)
    validator.put(state, b"S", seat + 1)
    state.put(b"D", 1)


def offer_seats(state: ModuleState) -> None:
    """Let the largest of the next few validators without a seat have one, if it is larger than the least with one.

    Each block looks at some, one after the other: so whoever should have a seat has it before long, and no block has to
    look at all of them, however many there are.
    """
    total = state.get(b"N")
    if total <= SEATS:
        return
    rules, at = get_rules(state), state.get(b"G")
    looked_at = [validator_of((at + step) % total) for step in range(min(SEATS_LOOKED_AT, total))]
    state.put(b"G", (at + len(looked_at)) % total)
    waiting = [each for each in looked_at if not each.number(state, b"S")]
    if waiting:
        take_seat(state, max(waiting, key=lambda each: each.power(state, rules)))
