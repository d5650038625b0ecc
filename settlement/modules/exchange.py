"""An exchange: pools of two assets, whose reserves' product a swap never lowers.

A pair may have any number of pools (SAMM, arXiv 2406.05568): each is an account of its own with words of its own, so
that swaps in two of them run in parallel, where those in one have to wait for each other. A pool's fee is a fixed one,
or one that falls with a trade's share of the pool (`curves`). Nobody can keep others from making more pools; which of
them are looked through for the best one is in `exchange_routes`.

Whoever adds liquidity gets shares of the pool, worth no more than was added; the first `LOCKED` of them are nobody's,
so that a share stays cheap. Everybody says the least that they want for what they give, and until when.

Each pool keeps the sum of its price over time (Uniswap v2's cumulative prices), and two marks of it. `average` says the
mean price since a mark that is at least `PERIOD` old: to move it, one has to hold the pool off its price for as long.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from tallystick.channels.limits import UINT64_MAX
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.curves import FEE_MAX, SPREAD_MAX, PoolFee
from tallystick.settlement.modules.interface import (
    Module,
    ModuleState,
    get_address,
    get_wide,
    put_address,
    put_wide,
    refuse,
    rounded_up,
)

LISTED_MAX = 64
"""Pools of one pair that are looked through for the best one."""

RESERVE_MAX = 2**112 - 1
"""Of each asset in a pool."""

LOCKED = 1_000
"""Shares of each pool that nobody has."""

PERIOD = 600
"""Seconds over which a price is averaged at least."""

PRICE_BITS = 112
"""A price is a fraction of so many bits."""

_WIDE = 2**256

EXCHANGE = Module("exchange", "Swap one asset for another one, and earn fees for lending a pool what it swaps.")

POOL_CREATED = EXCHANGE.event(
    "PoolCreated(address pool, address asset0, address asset1, uint64 number, uint64 fee, uint64 feeLeast)"
)
LIQUIDITY_ADDED = EXCHANGE.event(
    "LiquidityAdded(address account, address pool, uint128 amount0, uint128 amount1, uint128 shares)"
)
LIQUIDITY_REMOVED = EXCHANGE.event(
    "LiquidityRemoved(address account, address pool, uint128 amount0, uint128 amount1, uint128 shares)"
)
SWAPPED = EXCHANGE.event("Swapped(address account, address pool, address assetIn, uint128 amountIn, uint128 amountOut)")


class PairPool(NamedTuple):
    """One pool. Asset 0 is the one of the lower address; the native coin's is the lowest."""

    id: Address
    """Its account, too."""
    assets: tuple[Address, Address]
    reserves: tuple[int, int]
    fee: PoolFee

    def key(self, letter: bytes, more: bytes = b"") -> bytes:
        return letter + self.id + more

    def sides(self, asset_in: Address) -> tuple[int, int]:
        """Return the reserves of what goes in and of what comes out."""
        return self.reserves if asset_in == self.assets[0] else (self.reserves[1], self.reserves[0])

    def amount_out(self, asset_in: Address, given: int) -> int:
        """Return what comes out for `given`; the pool is not empty."""
        return self.fee.amount_out(given, *self.sides(asset_in))

    def swapped(self, asset_in: Address, given: int, out: int) -> PairPool:
        """Return the pool after a swap."""
        first, second = self.reserves
        after = (first + given, second - out) if asset_in == self.assets[0] else (first - out, second + given)
        return self._replace(reserves=after)


def sort_assets(first: Address, second: Address) -> tuple[Address, Address]:
    """Return a pair's assets in their order; refuse one asset twice."""
    refuse(first == second, Revert.BAD_TERMS, "a pool is of two different assets")
    return (first, second) if first < second else (second, first)


def pool_account(first: Address, second: Address, number: int) -> Address:
    """Return the account of a pair's pool, the assets in either order."""
    pair = (first + second) if first < second else (second + first)
    return EXCHANGE.account_of(b"pool" + pair + number.to_bytes(8, "big"))


def find_pool(state: ModuleState, first: Address, second: Address, number: int) -> PairPool:
    """Return a pool, the assets in either order; refuse what there is none of."""
    assets = sort_assets(first, second)
    id = pool_account(*assets, number)
    fee = state.get(b"f" + id)
    refuse(not fee, Revert.UNKNOWN_ENTRY, f"this pair has no pool {number}")
    most, least = fee >> 64, (fee & UINT64_MAX) - 1
    return PairPool(id, assets, (state.get(b"0" + id), state.get(b"1" + id)), PoolFee(most, least))


def filled(pool: PairPool) -> PairPool:
    """Return the pool; refuse an empty one."""
    refuse(0 in pool.reserves, Revert.NO_LIQUIDITY, "the pool is empty")
    return pool


def _set_reserves(state: ModuleState, pool: PairPool, after: tuple[int, int]) -> None:
    """Replace the reserves; what they were until now counts into the average price first."""
    refuse(max(after) > RESERVE_MAX, Revert.BAD_AMOUNT, "a pool holds less than 2**112 of each asset")
    since = state.get(pool.key(b"t"))
    if state.time > since:
        _count(state, pool, since)
    state.put(b"0" + pool.id, after[0])
    state.put(b"1" + pool.id, after[1])


def _count(state: ModuleState, pool: PairPool, since: int) -> None:
    sums = _sums(state, pool, since)
    for side, total in enumerate(sums):
        put_wide(state, pool.key(b"c%d" % side), total)
    state.put(pool.key(b"t"), state.time)
    newer = state.get(pool.key(b"n"))
    if state.time - newer < PERIOD:
        return
    state.put(pool.key(b"o"), newer)
    state.put(pool.key(b"n"), state.time)
    for side, total in enumerate(sums):
        put_wide(state, pool.key(b"o%d" % side), get_wide(state, pool.key(b"n%d" % side)))
        put_wide(state, pool.key(b"n%d" % side), total)


def _sums(state: ModuleState, pool: PairPool, since: int) -> tuple[int, int]:
    """Return the price of asset 0 in asset 1, and the other way round, summed up over the seconds until now."""
    kept = [get_wide(state, pool.key(b"c%d" % side)) for side in (0, 1)]
    if 0 in pool.reserves:
        return kept[0], kept[1]
    price0, price1 = ((pool.reserves[1 - side] << PRICE_BITS) // pool.reserves[side] for side in (0, 1))
    elapsed = state.time - since
    return (kept[0] + price0 * elapsed) % _WIDE, (kept[1] + price1 * elapsed) % _WIDE


def in_time(state: ModuleState, deadline: int) -> None:
    """Refuse a call whose deadline is over."""
    refuse(state.time > deadline, Revert.EXPIRED, f"the call was good until {deadline}; this block is of {state.time}")


@EXCHANGE.function("createPool(address assetA, address assetB, uint64 fee)", "uint64 number", gas=100_000)
def create_pool(state: ModuleState, first: Address, second: Address, fee: int) -> tuple[int]:
    """Make one more pool of a pair, with a fee in millionths of what is given; anybody may."""
    return (_create(state, first, second, PoolFee(fee, fee)),)


@EXCHANGE.function(
    "createFallingPool(address assetA, address assetB, uint64 feeMost, uint64 feeLeast)", "uint64 number", gas=100_000
)
def create_falling_pool(state: ModuleState, first: Address, second: Address, most: int, least: int) -> tuple[int]:
    """Make one more pool of a pair whose fee falls with a trade's share of it, so that to split a trade does not pay.

    It falls from `feeMost` millionths to `feeLeast`, which are at most `SPREAD_MAX` lower.
    """
    refuse(not least < most <= least + SPREAD_MAX, Revert.BAD_TERMS, f"the fee falls by 1 to {SPREAD_MAX} millionths")
    return (_create(state, first, second, PoolFee(most, least)),)


def _create(state: ModuleState, first: Address, second: Address, fee: PoolFee) -> int:
    assets = sort_assets(first, second)
    refuse(fee.most > FEE_MAX, Revert.BAD_TERMS, f"a pool's fee is at most {FEE_MAX} millionths")
    number = count_pools(state, assets)
    id = pool_account(*assets, number)
    state.put(b"p" + assets[0] + assets[1], number + 1)
    state.put(b"f" + id, fee.most << 64 | fee.least + 1)
    state.put(b"t" + id, state.time)
    if number < LISTED_MAX:
        state.put(listing_key(assets, number), number)
    _list(state, assets, number)
    state.emit(POOL_CREATED, id, *assets, number, *fee)
    return number


def listing_key(assets: tuple[Address, Address], place: int) -> bytes:
    """Return where the number of a pair's pool is kept that has a place among those that are looked through."""
    return b"l" + assets[0] + assets[1] + place.to_bytes(8, "big")


def count_pools(state: ModuleState, assets: tuple[Address, Address]) -> int:
    """Return how many pools a pair has: they have the numbers from 0 on."""
    return state.get(b"p" + assets[0] + assets[1])


def _list(state: ModuleState, assets: tuple[Address, Address], number: int) -> None:
    index = state.get(b"a")
    state.put(b"a", index + 1)
    row = b"a" + index.to_bytes(8, "big")
    for side, asset in enumerate(assets):
        put_address(state, row + b"%d" % side, asset)
    state.put(row + b"n", number)


@EXCHANGE.function(
    "addLiquidity(address assetA, address assetB, uint64 number, uint128 mostA, uint128 mostB, uint128 leastShares, "
    "uint64 deadline)",
    "uint128 amountA, uint128 amountB, uint128 shares",
    gas=150_000,
)
def add_liquidity(
    state: ModuleState,
    first: Address,
    second: Address,
    number: int,
    most_first: int,
    most_second: int,
    least: int,
    deadline: int,
) -> tuple[int, int, int]:
    """Add both assets to a pool in the proportion that it has, and get shares of it; the first one sets the price."""
    in_time(state, deadline)
    pool = find_pool(state, first, second, number)
    turned = first != pool.assets[0]
    most = (most_second, most_first) if turned else (most_first, most_second)
    supply = state.get(pool.key(b"s"))
    if supply == 0:
        shares, added = isqrt(most[0] * most[1]) - LOCKED, most
        refuse(shares <= 0, Revert.BAD_AMOUNT, f"a pool begins with more: {LOCKED} of its shares are nobody's")
        state.put(pool.key(b"s"), shares + LOCKED)
    else:
        shares = min(most[side] * supply // pool.reserves[side] for side in (0, 1))
        refuse(shares == 0, Revert.BAD_AMOUNT, "this is worth less than one share")
        added = (rounded_up(shares * pool.reserves[0], supply), rounded_up(shares * pool.reserves[1], supply))
        state.put(pool.key(b"s"), supply + shares)
    refuse(shares < least, Revert.LIMIT_MISSED, f"this gives {shares} shares, less than {least}")
    for asset, amount in zip(pool.assets, added, strict=True):
        state.take(asset, amount, pool.id)
    _set_reserves(state, pool, (pool.reserves[0] + added[0], pool.reserves[1] + added[1]))
    held = pool.key(b"h", state.caller)
    state.put(held, state.get(held) + shares)
    state.emit(LIQUIDITY_ADDED, state.caller, pool.id, *added, shares)
    return (*(added[::-1] if turned else added), shares)


@EXCHANGE.function(
    "removeLiquidity(address assetA, address assetB, uint64 number, uint128 shares, uint128 leastA, uint128 leastB, "
    "uint64 deadline)",
    "uint128 amountA, uint128 amountB",
    gas=140_000,
)
def remove_liquidity(
    state: ModuleState,
    first: Address,
    second: Address,
    number: int,
    shares: int,
    least_first: int,
    least_second: int,
    deadline: int,
) -> tuple[int, int]:
    """Give shares of a pool back for what they are worth of both assets."""
    in_time(state, deadline)
    pool = find_pool(state, first, second, number)
    held, supply = state.get(pool.key(b"h", state.caller)), state.get(pool.key(b"s"))
    refuse(not 0 < shares <= held, Revert.BAD_AMOUNT, f"the caller has {held} shares of this pool")
    out = (shares * pool.reserves[0] // supply, shares * pool.reserves[1] // supply)
    paid = out[::-1] if first != pool.assets[0] else out
    refuse(
        paid[0] < least_first or paid[1] < least_second,
        Revert.LIMIT_MISSED,
        f"these shares are worth {paid[0]} and {paid[1]}, less than {least_first} and {least_second}",
    )
    state.put(pool.key(b"h", state.caller), held - shares)
    state.put(pool.key(b"s"), supply - shares)
    _set_reserves(state, pool, (pool.reserves[0] - out[0], pool.reserves[1] - out[1]))
    for asset, amount in zip(pool.assets, out, strict=True):
        state.give(asset, amount, pool.id, state.caller)
    state.emit(LIQUIDITY_REMOVED, state.caller, pool.id, *out, shares)
    return paid[0], paid[1]


@EXCHANGE.function(
    "swap(address assetIn, address assetOut, uint64 number, uint128 amountIn, uint128 leastOut, uint64 deadline)",
    "uint128 amountOut",
    gas=110_000,
)
def swap(
    state: ModuleState, asset_in: Address, asset_out: Address, number: int, given: int, least: int, deadline: int
) -> tuple[int]:
    """Give an amount of one asset for the other one of a pool."""
    in_time(state, deadline)
    pool = filled(find_pool(state, asset_in, asset_out, number))
    out = pool.amount_out(asset_in, given)
    refuse(out < max(least, 1), Revert.LIMIT_MISSED, f"this gives {out}, less than {max(least, 1)}")
    exchange(state, pool, asset_in, given, out)
    return (out,)


@EXCHANGE.function(
    "swapExactOut(address assetIn, address assetOut, uint64 number, uint128 amountOut, uint128 mostIn, "
    "uint64 deadline)",
    "uint128 amountIn",
    gas=110_000,
)
def swap_exact_out(
    state: ModuleState, asset_in: Address, asset_out: Address, number: int, wanted: int, most: int, deadline: int
) -> tuple[int]:
    """Give as much of one asset as takes a certain amount of the other one out of a pool."""
    in_time(state, deadline)
    pool = filled(find_pool(state, asset_in, asset_out, number))
    given = _needed(pool, asset_in, wanted)
    refuse(given > most, Revert.LIMIT_MISSED, f"this takes {given}, more than {most}")
    exchange(state, pool, asset_in, given, wanted)
    return (given,)


def _needed(pool: PairPool, asset_in: Address, wanted: int) -> int:
    reserve_in, reserve_out = pool.sides(asset_in)
    refuse(not 0 < wanted < reserve_out, Revert.NO_LIQUIDITY, "the pool does not hold so much")
    return pool.fee.amount_in(wanted, reserve_in, reserve_out)


def exchange(state: ModuleState, pool: PairPool, asset_in: Address, given: int, out: int) -> PairPool:
    """Take what the caller gives, pay out what it gets, and return the pool as it is then."""
    after = pool.swapped(asset_in, given, out)
    state.take(asset_in, given, pool.id)
    state.give(pool.assets[asset_in == pool.assets[0]], out, pool.id, state.caller)
    _set_reserves(state, pool, after.reserves)
    state.emit(SWAPPED, state.caller, pool.id, asset_in, given, out)
    return after


# --- looking ----------------------------------------------------------------------------------------------------


@EXCHANGE.view("quote(address assetIn, address assetOut, uint64 number, uint128 amountIn)", "uint128 amountOut")
def quote(state: ModuleState, asset_in: Address, asset_out: Address, number: int, given: int) -> tuple[int]:
    """Say what a swap would give now."""
    return (filled(find_pool(state, asset_in, asset_out, number)).amount_out(asset_in, given),)


@EXCHANGE.view("quoteExactOut(address assetIn, address assetOut, uint64 number, uint128 amountOut)", "uint128 amountIn")
def quote_exact_out(state: ModuleState, asset_in: Address, asset_out: Address, number: int, wanted: int) -> tuple[int]:
    """Say what must be given now so that an amount comes out."""
    return (_needed(filled(find_pool(state, asset_in, asset_out, number)), asset_in, wanted),)


@EXCHANGE.view(
    "pool(address assetA, address assetB, uint64 number)",
    "address account, uint128 reserveA, uint128 reserveB, uint128 shares, uint64 fee, uint64 feeLeast",
)
def pool(state: ModuleState, first: Address, second: Address, number: int) -> tuple[Address, int, int, int, int, int]:
    """Say what a pool holds, how many shares of it there are, and its fee in millionths, and to what it falls."""
    found = find_pool(state, first, second, number)
    return found.id, *found.sides(first), state.get(found.key(b"s")), *found.fee


@EXCHANGE.view("sharesOf(address assetA, address assetB, uint64 number, address account)", "uint128 shares")
def shares_of(state: ModuleState, first: Address, second: Address, number: int, account: Address) -> tuple[int]:
    """Say how many shares of a pool an account has."""
    return (state.get(find_pool(state, first, second, number).key(b"h", account)),)


@EXCHANGE.view(
    "pools(uint64 first, uint64 limit)", "uint64 total, address[] assets0, address[] assets1, uint64[] numbers"
)
def pools(
    state: ModuleState, first: int, limit: int
) -> tuple[int, tuple[Address, ...], tuple[Address, ...], tuple[int, ...]]:
    """List pools in the order in which they came to be, up to 100 at a time, and say how many there are."""
    total = state.get(b"a")
    rows = [b"a" + at.to_bytes(8, "big") for at in range(first, min(first + min(limit, 100), total))]
    assets = [tuple(get_address(state, row + side) for row in rows) for side in (b"0", b"1")]
    return total, assets[0], assets[1], tuple(state.get(row + b"n") for row in rows)


@EXCHANGE.view("average(address assetA, address assetB, uint64 number)", "uint256 price, uint64 seconds, uint256 now")
def average(state: ModuleState, first: Address, second: Address, number: int) -> tuple[int, int, int]:
    """Say what a unit of A costs in units of B, times 2**112: its mean price over so many seconds, and that of now.

    The mean is over `PERIOD` seconds at least; a pool that is younger has none, and the call fails.
    """
    pool = filled(find_pool(state, first, second, number))
    side = 0 if first == pool.assets[0] else 1
    since = state.get(pool.key(b"t"))
    mark = b"n" if state.time - state.get(pool.key(b"n")) >= PERIOD else b"o"
    begun = state.get(pool.key(mark))
    refuse(not begun, Revert.NO_LIQUIDITY, f"the pool has no price yet that is {PERIOD} seconds old")
    sums = _sums(state, pool, since)
    mean = (sums[side] - get_wide(state, pool.key(b"%b%d" % (mark, side)))) % _WIDE // (state.time - begun)
    return mean, state.time - begun, (pool.reserves[1 - side] << PRICE_BITS) // pool.reserves[side]
