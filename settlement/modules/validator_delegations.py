"""Delegations: what an account gave to a validator, from which block on it counts, what it earned and what it lost.

A *delegation* is an amount that one account gave to one validator in one block. It has a number, and is never added to:
so it is known of each coin from which block on it stood behind the validator's votes, and until when. It is paid for
these votes and for no others, and slashed for these and for no others. One that moved to another validator (see
`validator_moves`) keeps both: whom it stands behind, and whom it left and still answers for.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.interface import (
    ModuleState,
    get_address,
    get_wide,
    put_address,
    put_wide,
    refuse,
    rounded_up,
)
from tallystick.settlement.modules.validator_records import (
    BURNT,
    MILLION,
    OFFENCES_LAST,
    PAID_AFTER,
    REWARDS,
    SCALE,
    STAKES,
    VALIDATORS,
    VERSION,
    StakeRules,
    Validator,
    change_stake,
    count_offences,
    validator_of,
)

REWARDED = VALIDATORS.event("StakeRewarded(address owner, uint64 delegation, uint128 amount)")


class Backing(NamedTuple):
    """That something stands behind one validator's votes: from when on, until when, and up to when it was paid."""

    validator: Validator
    since: int
    """The block in which it began; 0: it was there from the beginning; `OFFENCES_LAST`: it paid for an offence."""
    until: int
    """One more than the block in which it ended; 0: it goes on."""
    counts: int
    """The first block that pays for votes which it backs; 0: `mark` says from when on it was not paid."""
    mark: int
    """What a unit had earned when it was last paid."""

    def is_slashed(self, state: ModuleState) -> bool:
        """Whether it stood behind any vote that is proven to contradict another, and has not paid for one yet."""
        if not self.validator.is_convicted(state):
            return False
        before = count_offences(state, self.validator, self.since - 1)
        until = self.until - 2 if self.until else OFFENCES_LAST
        return count_offences(state, self.validator, until) > before

    def earned(self, state: ModuleState, amount: int) -> int:
        """Return what an amount has earned since it was last paid."""
        if 0 < self.until <= state.get(VERSION):
            return 0
        return amount * (self._last(state) - self._first(state)) >> SCALE

    def _first(self, state: ModuleState) -> int:
        return self.validator.earned_before(state, self.counts) if self.counts else self.mark

    def _last(self, state: ModuleState) -> int:
        if not self.until:
            return self.validator.earned(state)
        return self.validator.earned_before(state, self.until - 1 + PAID_AFTER)

    def paid(self, state: ModuleState) -> Backing:
        """Return it as it is once it has got what it earned."""
        if self.counts > state.get(b"H"):
            return self
        return self._replace(counts=0, mark=self._last(state))

    def is_over(self, state: ModuleState, rules: StakeRules) -> bool:
        """Whether it ended so long ago that no evidence can come any more for a vote that it stood behind."""
        time = state.get(b"t" + self.until.to_bytes(8, "big")) if self.until else 0
        return bool(time) and rules.is_over(state, self.until, time)


class Delegation(NamedTuple):
    """One delegation as it is kept."""

    number: int
    owner: Address
    amount: int
    backing: Backing
    left: Backing | None = None
    """Behind whom it stood before it moved, as long as it may have to answer for that."""

    def loss(self, state: ModuleState, rules: StakeRules) -> int:
        """Return what it loses: its share, once for each validator that it stood behind whose votes contradict."""
        rest = self.amount
        for each in self._all():
            if each.is_slashed(state):
                rest -= rounded_up(rest * rules.slash, MILLION)
        return self.amount - rest

    def borne(self, state: ModuleState, lost: int) -> Delegation:
        """Return it as it is once it has lost this, which is all that it has to lose so far."""
        if not lost:
            return self
        kept = self._replace(amount=self.amount - lost)
        if self.backing.is_slashed(state):
            kept = kept._replace(backing=self.backing._replace(since=OFFENCES_LAST))
        if self.left is not None and self.left.is_slashed(state):
            kept = kept._replace(left=None)  # a validator that is convicted earns nothing any more
        return kept

    def earned(self, state: ModuleState) -> int:
        """Return what it has earned since it was last paid."""
        return sum(each.earned(state, self.amount) for each in self._all())

    def paid(self, state: ModuleState) -> Delegation:
        """Return it as it is once it has got what it earned."""
        left = self.left.paid(state) if self.left is not None else None
        return self._replace(backing=self.backing.paid(state), left=left)

    def ended(self, now: int) -> Delegation:
        """Return it as it is once it was undelegated."""
        return self._replace(backing=self.backing._replace(until=now + 1))

    def _all(self) -> tuple[Backing, ...]:
        return (self.backing,) if self.left is None else (self.left, self.backing)


_NOW, _LEFT = (b"v", b"y", b"z", b"n", b"r"), (b"J", b"Y", b"Z", b"W", b"X")
"""Letters of a backing's words: the validator's index (in the second row one more: 0 is none), then its fields."""


def get_delegation(state: ModuleState, number: int) -> Delegation:
    """Return a delegation; refuse if there is none, or none any more."""
    row = number.to_bytes(8, "big")
    amount = state.get(b"x" + row)
    refuse(not amount, Revert.UNKNOWN_ENTRY, f"there is no delegation {number}")
    left = state.get(_LEFT[0] + row)
    return Delegation(
        number,
        get_address(state, b"q" + row),
        amount,
        _get_backing(state, _NOW, row, state.get(_NOW[0] + row)),
        _get_backing(state, _LEFT, row, left - 1) if left else None,
    )


def _get_backing(state: ModuleState, letters: tuple[bytes, ...], row: bytes, validator: int) -> Backing:
    since, until, counts = (state.get(letter + row) for letter in letters[1:4])
    return Backing(validator_of(validator), since, until, counts, get_wide(state, letters[4] + row))


def put_delegation(state: ModuleState, kept: Delegation) -> None:
    """Keep what may change of a delegation."""
    row = kept.number.to_bytes(8, "big")
    state.put(b"x" + row, kept.amount)
    _put_backing(state, _NOW, row, kept.backing.validator.ordinal, kept.backing)
    if kept.left is not None:
        _put_backing(state, _LEFT, row, kept.left.validator.ordinal + 1, kept.left)
    elif state.get(_LEFT[0] + row):
        _put_backing(state, _LEFT, row, 0, _NONE)


def _put_backing(state: ModuleState, letters: tuple[bytes, ...], row: bytes, validator: int, kept: Backing) -> None:
    for letter, word in zip(letters, (validator, kept.since, kept.until, kept.counts), strict=False):
        state.put(letter + row, word)
    put_wide(state, letters[4] + row, kept.mark)


def empty_delegation(state: ModuleState, number: int) -> None:
    """Keep no more of a delegation than that it was there, and whose."""
    row = number.to_bytes(8, "big")
    ordinal = state.get(_NOW[0] + row)
    put_delegation(state, Delegation(number, NATIVE, 0, _NONE._replace(validator=validator_of(ordinal))))


_NONE = Backing(validator_of(0), 0, 0, 0, 0)


def add_delegation(state: ModuleState, made: Delegation) -> Delegation:
    """Keep a new one, under the next number."""
    number = state.get(b"M")
    state.put(b"M", number + 1)
    made = made._replace(number=number)
    put_address(state, b"q" + number.to_bytes(8, "big"), made.owner)
    put_delegation(state, made)
    held = state.get(b"h" + made.owner)
    state.put(b"h" + made.owner, held + 1)
    state.put(b"g" + made.owner + held.to_bytes(8, "big"), number + 1)
    return made


def begin_delegation(state: ModuleState, validator: Validator, owner: Address, amount: int) -> Delegation:
    """Take an amount from the caller, and let it stand behind a validator from this block on."""
    state.take(NATIVE, amount, STAKES)
    made = add_delegation(state, Delegation(0, owner, amount, begin_backing(state, validator)))
    change_stake(state, validator, owner, amount)
    return made


def begin_backing(state: ModuleState, validator: Validator) -> Backing:
    """Return that something stands behind a validator from this block on."""
    now = state.get(b"H")
    return Backing(validator, now, 0, now + PAID_AFTER if now else 0, 0)


def own_delegation(state: ModuleState, number: int) -> Delegation:
    """Return a delegation of the caller's; refuse any other."""
    found = get_delegation(state, number)
    refuse(found.owner != state.caller, Revert.NOT_ALLOWED, f"delegation {number} is 0x{found.owner.hex()}'s")
    return found


def pay(state: ModuleState, found: Delegation) -> tuple[Delegation, int]:
    """Pay what a delegation has earned."""
    amount = found.earned(state)
    if amount:
        state.give(NATIVE, amount, REWARDS, found.owner)
        state.emit(REWARDED, found.owner, found.number, amount)
    return found.paid(state), amount


def bear(state: ModuleState, rules: StakeRules, found: Delegation) -> tuple[Delegation, int]:
    """Burn what a delegation loses by the offences that are proven so far."""
    lost = found.loss(state, rules)
    if lost:
        state.give(NATIVE, lost, STAKES, BURNT)
        if not found.backing.until:
            change_stake(state, found.backing.validator, found.owner, -lost)
    return found.borne(state, lost), lost


def check_amount(state: ModuleState, rules: StakeRules, validator: Validator, amount: int) -> None:
    """Refuse to add nothing to what is staked with a validator, or more than it may have."""
    refuse(not amount, Revert.BAD_AMOUNT, "nothing would be delegated")
    whole = (validator.number(state, b"s") + amount) // rules.unit
    refuse(whole > rules.power_max, Revert.BAD_AMOUNT, f"a validator has {rules.power_max} of voting power at most")
