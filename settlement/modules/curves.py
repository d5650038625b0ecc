"""What a swap takes and gives, in numbers alone, of two kinds of pool. Pure.

Both keep the product of their reserves, and add a fee to it. The *fixed* one's is that of Uniswap v2: a part of what is
given, the same for every trade. A trader then pays less by splitting a trade over several pools, as the price moves
less in each; and each trade that is split loads every pool.

The *falling* one's is that of SAMM (arXiv 2406.05568, the bounded-ratio polynomial): a part of what comes out, by the
price before the trade, that falls as the trade's share of the pool grows, from `most` to `least`:

    fee = reserve_in / reserve_out * out * max(least, most - SLOPE * out / reserve_out)

As long as the fee falls, that is up to a share of `(most - least) / SLOPE` (about 1 % of the pool with 1.2 % and
0.1 %), what a trade takes is concave in it: parts of it cost no less than the whole, whatever pools they are spread
over, and of two pools with one price the smaller is the cheaper. What is larger than that share is a trade for several.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.settlement.modules.interface import rounded_up

MILLION = 1_000_000
"""Fees are in millionths."""

FEE_MAX = 100_000
"""The highest fee of a pool: a tenth."""

SLOPE = 1_050_000
"""How fast a falling fee falls, in millionths: by 1.05 times the trade's share of what the pool holds."""

SPREAD_MAX = 16_900
"""How far a falling fee may fall, in millionths: with more, the price would move faster than the fee falls.

What a trade takes is concave up to the share s if SLOPE * (1 - s)**3 is 1 or more."""


class PoolFee(NamedTuple):
    """A pool's fee, in millionths, which makes its curve: it falls if the least is below the most."""

    most: int
    least: int

    def amount_out(self, given: int, reserve_in: int, reserve_out: int) -> int:
        """Return what comes out for `given`."""
        if self.least == self.most:
            return amount_out(given, reserve_in, reserve_out, self.most)
        return falling_out(given, reserve_in, reserve_out, self)

    def amount_in(self, wanted: int, reserve_in: int, reserve_out: int) -> int:
        """Return what must be given so that `wanted`, less than the reserve, comes out."""
        if self.least == self.most:
            return amount_in(wanted, reserve_in, reserve_out, self.most)
        return falling_in(wanted, reserve_in, reserve_out, self)


def amount_out(given: int, reserve_in: int, reserve_out: int, fee: int) -> int:
    """Return what comes out of a pool with a fixed fee: the fee, in millionths, stays in the pool."""
    paid = given * (MILLION - fee)
    return paid * reserve_out // (reserve_in * MILLION + paid)


def amount_in(wanted: int, reserve_in: int, reserve_out: int, fee: int) -> int:
    """Return what must be given so that `wanted`, less than the reserve, comes out of a pool with a fixed fee."""
    return reserve_in * wanted * MILLION // ((reserve_out - wanted) * (MILLION - fee)) + 1


def _falling_rate(wanted: int, reserve_out: int, fee: PoolFee) -> int:
    """Return the fee's part of what comes out, times a million and `reserve_out`."""
    return max(fee.least * reserve_out, fee.most * reserve_out - SLOPE * wanted)


def falling_in(wanted: int, reserve_in: int, reserve_out: int, fee: PoolFee) -> int:
    """Return what must be given so that `wanted`, less than the reserve, comes out of a pool with a falling fee."""
    rest, scale = reserve_out - wanted, MILLION * reserve_out * reserve_out
    part = _falling_rate(wanted, reserve_out, fee)
    return rounded_up(reserve_in * wanted * (scale + part * rest), scale * rest)


def falling_out(given: int, reserve_in: int, reserve_out: int, fee: PoolFee) -> int:
    """Return the most that comes out of a pool with a falling fee for `given`: `falling_in` of it is no more.

    The fee of a guess makes the next one, which is ten times closer at least, as no more of a unit that comes out goes
    into the fee; in the end, units are counted.
    """
    out, step, scale = 0, 2, MILLION * reserve_out * reserve_out
    while abs(step) > 1:
        net = given * scale - reserve_in * out * _falling_rate(out, reserve_out, fee)
        step = net * reserve_out // (reserve_in * scale + net) - out
        out += step
    while falling_in(out, reserve_in, reserve_out, fee) > given:
        out -= 1
    while out + 1 < reserve_out and falling_in(out + 1, reserve_in, reserve_out, fee) <= given:
        out += 1
    return out
