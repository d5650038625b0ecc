"""Delegations: what an account gave to a validator, from which block on it counts, what it earned and what it lost.

A *delegation* is an amount that one account gave to one validator in one block. It has a number, and is never added to:
so it is known of each coin from which block on it stood behind the validator's votes, and until when. It is paid for
these votes and for no others, and slashed for these and for no others.
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
    MILLION,
    OFFENCES_LAST,
    PAID_AFTER,
    SCALE,
    STAKES,
    VERSION,
    StakeRules,
    Validator,
    change_stake,
    count_offences,
    validator_of,
)


class Delegation(NamedTuple):
    """One delegation as it is kept."""

    number: int
    validator: Validator
    owner: Address
    amount: int
    since: int
    """The block in which it was made; 0: it was there from the beginning; `OFFENCES_LAST`: it paid for an offence."""
    until: int
    """One more than the block in which it was undelegated; 0: it is not."""
    counts: int
    """The first block that pays for votes which it backs; 0: `mark` says from when on it was not paid."""
    mark: int
    """What a unit had earned when this delegation was last paid."""

    def loss(self, state: ModuleState, rules: StakeRules) -> int:
        """Return what it loses: its share, once, if it stood behind any vote that is proven to contradict another."""
        if not self.validator.is_convicted(state):
            return 0
        before = count_offences(state, self.validator, self.since - 1)
        until = self.until - 2 if self.until else OFFENCES_LAST
        if count_offences(state, self.validator, until) <= before:
            return 0
        return rounded_up(self.amount * rules.slash, MILLION)

    def earned(self, state: ModuleState) -> int:
        """Return what it has earned since it was last paid."""
        if 0 < self.until <= state.get(VERSION):
            return 0
        return self.amount * (self._last(state) - self._first(state)) >> SCALE

    def _first(self, state: ModuleState) -> int:
        return self.validator.earned_before(state, self.counts) if self.counts else self.mark

    def _last(self, state: ModuleState) -> int:
        if not self.until:
            return self.validator.earned(state)
        return self.validator.earned_before(state, self.until - 1 + PAID_AFTER)

    def paid(self, state: ModuleState) -> Delegation:
        """Return it as it is once it has got what it earned."""
        if self.counts > state.get(b"H"):
            return self
        return self._replace(counts=0, mark=self._last(state))


def get_delegation(state: ModuleState, number: int) -> Delegation:
    """Return a delegation; refuse if there is none, or none any more."""
    row = number.to_bytes(8, "big")
    amount = state.get(b"x" + row)
    refuse(not amount, Revert.UNKNOWN_ENTRY, f"there is no delegation {number}")
    validator, since, until, counts = (state.get(letter + row) for letter in (b"v", b"y", b"z", b"n"))
    owner, mark = get_address(state, b"q" + row), get_wide(state, b"r" + row)
    return Delegation(number, validator_of(validator), owner, amount, since, until, counts, mark)


def put_delegation(state: ModuleState, kept: Delegation) -> None:
    """Keep what may change of a delegation."""
    row = kept.number.to_bytes(8, "big")
    for letter, word in ((b"x", kept.amount), (b"y", kept.since), (b"z", kept.until), (b"n", kept.counts)):
        state.put(letter + row, word)
    put_wide(state, b"r" + row, kept.mark)


def add_delegation(state: ModuleState, made: Delegation) -> Delegation:
    """Keep a new one, under the next number."""
    number = state.get(b"M")
    state.put(b"M", number + 1)
    made = made._replace(number=number)
    row = number.to_bytes(8, "big")
    state.put(b"v" + row, made.validator.ordinal)
    put_address(state, b"q" + row, made.owner)
    put_delegation(state, made)
    held = state.get(b"h" + made.owner)
    state.put(b"h" + made.owner, held + 1)
    state.put(b"g" + made.owner + held.to_bytes(8, "big"), number + 1)
    return made


def begin_delegation(state: ModuleState, validator: Validator, owner: Address, amount: int) -> Delegation:
    """Take an amount from the caller, and let it stand behind a validator from this block on."""
    state.take(NATIVE, amount, STAKES)
    now = state.get(b"H")
    counts = now + PAID_AFTER if now else 0
    made = add_delegation(state, Delegation(0, validator, owner, amount, now, 0, counts, 0))
    change_stake(state, validator, owner, amount)
    return made
