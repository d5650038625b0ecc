"""Ways through the exchange: several pools in one call, and the best pool of a pair.

A path is what is given, what it becomes pool by pool, and what comes out in the end; all of it is done, or nothing.

A pair may have more pools than anybody would look through, as anybody may make some: `best` looks at the `LISTED_MAX`
that have a place in the pair's list. The first pools of a pair have one from the beginning; whoever has a deeper pool,
by the product of its reserves, puts it in the place of one that is less deep (`listPool`), also of an empty one. So
places cost what lies in the pools, and no number of pools, nor their fees, keeps others out. Swaps and deposits leave
the list alone: it would be one thing that all of them write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.exchange import (
    EXCHANGE,
    LISTED_MAX,
    PairPool,
    count_pools,
    exchange,
    filled,
    find_pool,
    in_time,
    listing_key,
    sort_assets,
)
from tallystick.settlement.modules.interface import ModuleState, refuse

__all__ = ("EXCHANGE",)

HOPS_MAX = 8
"""Pools on one path."""

LISTED = EXCHANGE.event("PoolListed(address pool, address asset0, address asset1, uint64 number, uint64 place)")


class _Hop(NamedTuple):
    pool: PairPool
    asset_in: Address
    given: int
    out: int


def _hops(state: ModuleState, path: tuple[Address, ...], numbers: tuple[int, ...], given: int) -> Iterator[_Hop]:
    """Yield what becomes of an amount, pool by pool; a pool that comes twice is what the first time made of it."""
    refuse(
        not 1 <= len(numbers) <= HOPS_MAX or len(path) != len(numbers) + 1,
        Revert.BAD_TERMS,
        f"a path is of 1 to {HOPS_MAX} pools' numbers, and one asset more",
    )
    swapped: dict[Address, PairPool] = {}
    for at, number in enumerate(numbers):
        found = find_pool(state, path[at], path[at + 1], number)
        pool = filled(swapped.get(found.id, found))
        out = pool.amount_out(path[at], given)
        refuse(not out, Revert.LIMIT_MISSED, f"pool {number} gives nothing for {given}")
        swapped[found.id] = pool.swapped(path[at], given, out)
        yield _Hop(pool, path[at], given, out)
        given = out


@EXCHANGE.function(
    "swapPath(address[] path, uint64[] numbers, uint128 amountIn, uint128 leastOut, uint64 deadline)",
    "uint128 amountOut",
    gas=20_000,
    gas_per_byte=900,
)
def swap_path(
    state: ModuleState, path: tuple[Address, ...], numbers: tuple[int, ...], given: int, least: int, deadline: int
) -> tuple[int]:
    """Give an amount of the path's first asset for its last one, by one pool between each two assets."""
    in_time(state, deadline)
    hops = list(_hops(state, path, numbers, given))
    out = hops[-1].out
    refuse(out < least, Revert.LIMIT_MISSED, f"this gives {out}, less than {least}")
    for hop in hops:
        exchange(state, *hop)
    return (out,)


@EXCHANGE.view("quotePath(address[] path, uint64[] numbers, uint128 amountIn)", "uint128 amountOut")
def quote_path(state: ModuleState, path: tuple[Address, ...], numbers: tuple[int, ...], given: int) -> tuple[int]:
    """Say what a swap over several pools would give now."""
    return ([hop.out for hop in _hops(state, path, numbers, given)][-1],)


# --- which pools are looked through -----------------------------------------------------------------------------


def _listed(state: ModuleState, assets: tuple[Address, Address]) -> list[int]:
    return [state.get(listing_key(assets, place)) for place in range(min(count_pools(state, assets), LISTED_MAX))]


def _depth(pool: PairPool) -> int:
    return pool.reserves[0] * pool.reserves[1]


@EXCHANGE.function("listPool(address assetA, address assetB, uint64 number, uint64 place)", gas=80_000)
def list_pool(state: ModuleState, first: Address, second: Address, number: int, place: int) -> tuple[()]:
    """Put a pool into the place of one that is less deep, among those that are looked through; anybody may."""
    pool, listed = find_pool(state, first, second, number), _listed(state, sort_assets(first, second))
    refuse(place >= len(listed), Revert.UNKNOWN_ENTRY, f"the places of this pair are from 0 to {len(listed) - 1}")
    refuse(number in listed, Revert.NOT_ALLOWED, f"pool {number} has a place already")
    other = find_pool(state, first, second, listed[place])
    refuse(_depth(pool) <= _depth(other), Revert.NOT_ALLOWED, f"pool {listed[place]} is as deep, or deeper")
    state.put(listing_key(pool.assets, place), number)
    state.emit(LISTED, pool.id, *pool.assets, number, place)
    return ()


@EXCHANGE.view("listed(address assetA, address assetB)", "uint64 total, uint64[] numbers")
def listed(state: ModuleState, first: Address, second: Address) -> tuple[int, tuple[int, ...]]:
    """Say how many pools a pair has, and the numbers of those that are looked through, by their places."""
    assets = sort_assets(first, second)
    return count_pools(state, assets), tuple(_listed(state, assets))


@EXCHANGE.view(
    "best(address assetIn, address assetOut, uint128 amountIn, uint64 draw)", "uint64 number, uint128 amountOut"
)
def best(state: ModuleState, asset_in: Address, asset_out: Address, given: int, draw: int) -> tuple[int, int]:
    """Say which of a pair's listed pools gives the most, and how much; of several, the one that `draw` comes upon.

    `draw` is any number: with one at random, traders spread over pools that are alike.
    """
    outs: dict[int, int] = {}
    for number in _listed(state, sort_assets(asset_in, asset_out)):
        pool = find_pool(state, asset_in, asset_out, number)
        if 0 not in pool.reserves:
            outs[number] = pool.amount_out(asset_in, given)
    most = max(outs.values(), default=0)
    refuse(not most, Revert.NO_LIQUIDITY, f"no listed pool of this pair gives anything for {given}")
    found = [number for number, out in outs.items() if out == most]
    return found[draw % len(found)], most
