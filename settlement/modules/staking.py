"""Staking: pools that share rewards out over time, by what each account has staked and for how long.

Whoever made a pool funds it: an amount over a number of seconds. Each second's reward goes to those who have staked
then, in proportion; while nobody has, the stream waits. Nothing is paid but what was funded: sums are rounded down, and
what is left over by that stays in the pool for good. A pool is of one asset, and its rewards are in the same or another
one. This is no stake of validators: it secures nothing.
"""

from __future__ import annotations

from typing import NamedTuple

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

SCALE = 64
"""Bits of the fraction in which the reward of a staked unit is counted."""

SECONDS_MAX = 10 * 31_536_000
"""How long a reward may be shared out at most: ten years."""

STAKING = Module("staking", "Stake an asset, and earn a share of the rewards that a pool was funded with.")

POOL_MADE = STAKING.event("StakingPoolCreated(address funder, address asset, address reward, uint64 pool)")
FUNDED = STAKING.event("RewardsFunded(address funder, uint64 pool, uint128 amount, uint64 until)")
STAKED = STAKING.event("Staked(address account, uint64 pool, uint128 amount)")
UNSTAKED = STAKING.event("Unstaked(address account, uint64 pool, uint128 amount)")
REWARDED = STAKING.event("Rewarded(address account, uint64 pool, uint128 amount)")


class StakingPool(NamedTuple):
    """One pool now: all rewards until this moment are shared out."""

    row: bytes
    staked: int
    """By all."""
    left: int
    """Of the rewards, to be shared out until `until`."""
    until: int
    per_unit: int
    """What a unit that was staked from the beginning has earned, times 2**SCALE."""

    def key(self, letter: bytes, account: bytes = b"") -> bytes:
        return letter + self.row + account

    @property
    def stakes(self) -> Address:
        """The account that holds what is staked."""
        return STAKING.account_of(b"stakes" + self.row)

    @property
    def rewards(self) -> Address:
        """The account that holds what is to be paid."""
        return STAKING.account_of(b"rewards" + self.row)


def _pool(state: ModuleState, number: int) -> StakingPool:
    refuse(number >= state.get(b"N"), Revert.UNKNOWN_ENTRY, f"there is no staking pool {number}")
    row = number.to_bytes(8, "big")
    staked, left, until = (state.get(letter + row) for letter in (b"S", b"L", b"u"))
    since, per_unit = state.get(b"t" + row), get_wide(state, b"P" + row)
    if not left or until <= since:
        return StakingPool(row, staked, left, until, per_unit)
    if not staked:
        return StakingPool(row, staked, left, until + state.time - since, per_unit)
    shared = left * (min(state.time, until) - since) // (until - since)
    return StakingPool(row, staked, left - shared, until, per_unit + (shared << SCALE) // staked)


def _save(state: ModuleState, pool: StakingPool) -> None:
    for letter, word in ((b"S", pool.staked), (b"L", pool.left), (b"u", pool.until), (b"t", state.time)):
        state.put(pool.key(letter), word)
    put_wide(state, pool.key(b"P"), pool.per_unit)


def _earned(state: ModuleState, pool: StakingPool, account: Address) -> int:
    grown = pool.per_unit - get_wide(state, pool.key(b"q", account))
    return state.get(pool.key(b"e", account)) + (state.get(pool.key(b"s", account)) * grown >> SCALE)


def _settle(state: ModuleState, pool: StakingPool, account: Address) -> None:
    """Note what an account has earned until now, before its stake changes."""
    state.put(pool.key(b"e", account), _earned(state, pool, account))
    put_wide(state, pool.key(b"q", account), pool.per_unit)


@STAKING.function("createPool(address asset, address reward)", "uint64 pool", gas=120_000)
def create_pool(state: ModuleState, asset: Address, reward: Address) -> tuple[int]:
    """Make a pool where an asset is staked for rewards in the same or another one; only its maker can fund it."""
    number = state.get(b"N")
    state.put(b"N", number + 1)
    row = number.to_bytes(8, "big")
    for letter, address in ((b"A", asset), (b"R", reward), (b"F", state.caller)):
        put_address(state, letter + row, address)
    state.put(b"t" + row, state.time)
    state.emit(POOL_MADE, state.caller, asset, reward, number)
    return (number,)


@STAKING.function("fund(uint64 pool, uint128 amount, uint64 seconds)", gas=100_000)
def fund(state: ModuleState, number: int, amount: int, seconds: int) -> tuple[()]:
    """Add rewards, and share out all that is left over so many seconds from now on; never slower than before."""
    pool = _pool(state, number)
    funder = get_address(state, pool.key(b"F"))
    refuse(state.caller != funder, Revert.NOT_ALLOWED, f"only 0x{funder.hex()}, who made the pool, funds it")
    refuse(not 0 < seconds <= SECONDS_MAX, Revert.BAD_TERMS, f"rewards are shared out over 1 to {SECONDS_MAX} seconds")
    ahead = max(0, pool.until - state.time)
    slower = ahead and (pool.left + amount) * ahead < pool.left * seconds
    refuse(bool(slower), Revert.BAD_TERMS, "this would slow down what was promised; add more, or over less time")
    state.take(get_address(state, pool.key(b"R")), amount, pool.rewards)
    _save(state, pool._replace(left=pool.left + amount, until=state.time + seconds))
    state.emit(FUNDED, state.caller, number, amount, state.time + seconds)
    return ()


@STAKING.function("stake(uint64 pool, uint128 amount)", gas=110_000)
def stake(state: ModuleState, number: int, amount: int) -> tuple[()]:
    """Stake an amount; it can be taken out at any time."""
    pool = _pool(state, number)
    refuse(not amount, Revert.BAD_AMOUNT, "nothing would be staked")
    _settle(state, pool, state.caller)
    state.take(get_address(state, pool.key(b"A")), amount, pool.stakes)
    state.put(pool.key(b"s", state.caller), state.get(pool.key(b"s", state.caller)) + amount)
    _save(state, pool._replace(staked=pool.staked + amount))
    state.emit(STAKED, state.caller, number, amount)
    return ()


@STAKING.function("unstake(uint64 pool, uint128 amount)", gas=110_000)
def unstake(state: ModuleState, number: int, amount: int) -> tuple[()]:
    """Take out what was staked; what it earned stays to be claimed."""
    pool = _pool(state, number)
    held = state.get(pool.key(b"s", state.caller))
    refuse(not 0 < amount <= held, Revert.BAD_AMOUNT, f"the caller has staked {held} here")
    _settle(state, pool, state.caller)
    state.put(pool.key(b"s", state.caller), held - amount)
    _save(state, pool._replace(staked=pool.staked - amount))
    state.give(get_address(state, pool.key(b"A")), amount, pool.stakes, state.caller)
    state.emit(UNSTAKED, state.caller, number, amount)
    return ()


@STAKING.function("claim(uint64 pool)", "uint128 amount", gas=90_000)
def claim(state: ModuleState, number: int) -> tuple[int]:
    """Be paid what was earned until now."""
    pool = _pool(state, number)
    _settle(state, pool, state.caller)
    amount = state.get(pool.key(b"e", state.caller))
    refuse(not amount, Revert.NOTHING_OWED, "nothing was earned since the last time")
    state.put(pool.key(b"e", state.caller), 0)
    _save(state, pool)
    state.give(get_address(state, pool.key(b"R")), amount, pool.rewards, state.caller)
    state.emit(REWARDED, state.caller, number, amount)
    return (amount,)


@STAKING.view("pools()", "uint64 total")
def pools(state: ModuleState) -> tuple[int]:
    """Say how many pools there are: they have the numbers from 0 on."""
    return (state.get(b"N"),)


@STAKING.view(
    "pool(uint64 pool)",
    "address asset, address reward, address funder, uint128 staked, uint128 left, uint64 until",
)
def pool(state: ModuleState, number: int) -> tuple[Address, Address, Address, int, int, int]:
    """Say what a pool is of, how much is staked, and what is left of its rewards until when."""
    found = _pool(state, number)
    asset, reward, funder = (get_address(state, found.key(letter)) for letter in (b"A", b"R", b"F"))
    return asset, reward, funder, found.staked, found.left, min(found.until, 2**64 - 1)


@STAKING.view("stakeOf(uint64 pool, address account)", "uint128 staked, uint128 earned")
def stake_of(state: ModuleState, number: int, account: Address) -> tuple[int, int]:
    """Say what an account has staked, and could claim now."""
    found = _pool(state, number)
    return state.get(found.key(b"s", account)), _earned(state, found, account)
