"""Lending against collateral, in markets that share nothing, and loans for the length of a transaction.

A market lends one asset against another one (after Morpho Blue): who supplies to it bears the risk of that pair alone,
and of the pool of the exchange by which the collateral is priced. Its books are two totals, what was supplied and what
is borrowed, and shares of each; interest is added to both. What it holds of the asset is their difference.

The price is the exchange's mean over ten minutes and more, as a price of one moment is whatever somebody with a loan
for a moment wants. To borrow, or to take collateral out, the worse of the mean and the price of the moment counts:
neither an old mean nor a pool that was pushed helps. A loan is liquidated by the mean alone: a push liquidates nobody.

What is borrowed may be worth `MARGIN` less than the market's limit; above the limit anybody may pay for the debtor, and
takes collateral for it, worth `BONUS` more. What then is left without collateral is written off, from all suppliers.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.curves import MILLION
from tallystick.settlement.modules.exchange import EXCHANGE, PRICE_BITS
from tallystick.settlement.modules.interface import Module, ModuleState, get_address, put_address, refuse, rounded_up

LIMIT_MAX = 900_000
"""Of what a debt may be worth in its collateral, in millionths."""

MARGIN = 50_000
"""How far below the market's limit one may borrow, in millionths of the collateral."""

BONUS = 50_000
"""What a liquidator gets above what was paid, in millionths."""

FLASH_FEE = 900
"""Of a loan within one transaction, in millionths."""

YEAR = 31_536_000
KINK = 800_000
"""Up to this part of what was supplied, interest rises slowly to `RATE_KINK`; from there fast, to `RATE_MAX`."""
RATE_KINK, RATE_MAX = 40_000, 750_000
"""Interest of a year, in millionths."""

VIRTUAL_SHARES = 1_000_000
"""Shares of each total that nobody has, of one unit: a share stays cheap, and nobody can make it dear."""

LENDING = Module("lending", "Supply an asset for interest, or borrow it against another one.")

MARKET_CREATED = LENDING.event(
    "MarketCreated(address collateral, address asset, uint64 market, uint64 pool, uint64 limit)"
)
SUPPLIED = LENDING.event("Supplied(address account, uint64 market, uint128 amount, uint128 shares)")
WITHDRAWN = LENDING.event("SupplyWithdrawn(address account, uint64 market, uint128 amount, uint128 shares)")
PLEDGED = LENDING.event("CollateralAdded(address account, uint64 market, uint128 amount)")
RELEASED = LENDING.event("CollateralTaken(address account, uint64 market, uint128 amount)")
BORROWED = LENDING.event("Borrowed(address account, uint64 market, uint128 amount)")
REPAID = LENDING.event("Repaid(address account, uint64 market, address by, uint128 amount)")
LIQUIDATED = LENDING.event(
    "Liquidated(address account, uint64 market, address by, uint128 paid, uint128 seized, uint128 writtenOff)"
)
FLASHED = LENDING.event("Flashed(address account, uint64 market, uint128 amount, uint128 fee)")


class LendingMarket(NamedTuple):
    """One market now: interest until this moment is in the totals."""

    row: bytes
    account: Address
    collateral: Address
    asset: Address
    pool: int
    limit: int
    supplied: int
    supply_shares: int
    borrowed: int
    debt_shares: int

    @property
    def cash(self) -> int:
        """What can be lent out or withdrawn."""
        return self.supplied - self.borrowed

    @property
    def rate(self) -> int:
        """Interest of a year, in millionths."""
        if not self.supplied:
            return 0
        used = self.borrowed * MILLION // self.supplied
        if used <= KINK:
            return used * RATE_KINK // KINK
        return RATE_KINK + (used - KINK) * (RATE_MAX - RATE_KINK) // (MILLION - KINK)

    def key(self, letter: bytes, account: bytes = b"") -> bytes:
        return letter + self.row + account

    def debt(self, shares: int) -> int:
        """What is owed for shares of the debt."""
        return rounded_up(shares * (self.borrowed + 1), self.debt_shares + VIRTUAL_SHARES)


def _row(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _market(state: ModuleState, number: int) -> LendingMarket:
    refuse(number >= state.get(b"N"), Revert.UNKNOWN_ENTRY, f"there is no market {number}")
    row = _row(number)
    collateral, asset = get_address(state, b"C" + row), get_address(state, b"A" + row)
    fixed = (row, LENDING.account_of(b"market" + row), collateral, asset, state.get(b"p" + row), state.get(b"l" + row))
    market = LendingMarket(*fixed, *(state.get(letter + row) for letter in (b"S", b"s", b"B", b"b")))
    elapsed = state.time - state.get(b"t" + row)
    interest = rounded_up(market.borrowed * market.rate * elapsed, MILLION * YEAR)
    return market._replace(supplied=market.supplied + interest, borrowed=market.borrowed + interest)


def _save(state: ModuleState, market: LendingMarket) -> None:
    for letter, total in (
        (b"S", market.supplied),
        (b"s", market.supply_shares),
        (b"B", market.borrowed),
        (b"b", market.debt_shares),
        (b"t", state.time),
    ):
        state.put(market.key(letter), total)


def _add(state: ModuleState, key: bytes, amount: int) -> None:
    state.put(key, state.get(key) + amount)


def _prices(state: ModuleState, market: LendingMarket) -> tuple[int, int]:
    """Return what a unit of collateral is worth, times 2**112: the mean, and that of this moment."""
    mean, _, now = state.ask(EXCHANGE, "average", market.collateral, market.asset, market.pool)
    refuse(not mean or not now, Revert.NO_LIQUIDITY, "the collateral has no price")
    return mean, now


def _check_covered(state: ModuleState, market: LendingMarket, account: Address) -> None:
    """Refuse a call that would leave the account's debt above what may be borrowed."""
    debt = market.debt(state.get(market.key(b"d", account)))
    if not debt:
        return
    worth = state.get(market.key(b"c", account)) * min(_prices(state, market))
    most = worth * (market.limit - MARGIN) // (MILLION << PRICE_BITS)
    refuse(debt > most, Revert.NOT_COVERED, f"this leaves a debt of {debt}, and the collateral is good for {most}")


def _is_exceeded(debt: int, collateral: int, price: int, limit: int) -> bool:
    return debt * MILLION << PRICE_BITS > collateral * price * limit


@LENDING.function(
    "createMarket(address collateral, address asset, uint64 pool, uint64 limit)", "uint64 market", gas=150_000
)
def create_market(state: ModuleState, collateral: Address, asset: Address, pool: int, limit: int) -> tuple[int]:
    """Make a market that lends an asset against another one, priced by that pool of the exchange; anybody may.

    `limit` is how much of the collateral's worth a debt may reach, in millionths.
    """
    refuse(not MARGIN < limit <= LIMIT_MAX, Revert.BAD_TERMS, f"the limit is above {MARGIN}, up to {LIMIT_MAX}")
    state.ask(EXCHANGE, "pool", collateral, asset, pool)
    number = state.get(b"N")
    state.put(b"N", number + 1)
    row = _row(number)
    put_address(state, b"C" + row, collateral)
    put_address(state, b"A" + row, asset)
    for letter, word in ((b"p", pool), (b"l", limit), (b"t", state.time)):
        state.put(letter + row, word)
    state.emit(MARKET_CREATED, collateral, asset, number, pool, limit)
    return (number,)


@LENDING.function("supply(uint64 market, uint128 amount)", "uint128 shares", gas=110_000)
def supply(state: ModuleState, number: int, amount: int) -> tuple[int]:
    """Supply the market's asset, for interest, and get shares of all that was supplied."""
    market = _market(state, number)
    shares = amount * (market.supply_shares + VIRTUAL_SHARES) // (market.supplied + 1)
    refuse(shares == 0, Revert.BAD_AMOUNT, "this is worth less than one share")
    state.take(market.asset, amount, market.account)
    _add(state, market.key(b"h", state.caller), shares)
    _save(state, market._replace(supplied=market.supplied + amount, supply_shares=market.supply_shares + shares))
    state.emit(SUPPLIED, state.caller, number, amount, shares)
    return (shares,)


@LENDING.function("withdraw(uint64 market, uint128 shares)", "uint128 amount", gas=110_000)
def withdraw(state: ModuleState, number: int, shares: int) -> tuple[int]:
    """Give shares back for what they are worth, as far as it is not lent out."""
    market = _market(state, number)
    held = state.get(market.key(b"h", state.caller))
    refuse(not 0 < shares <= held, Revert.BAD_AMOUNT, f"the caller has {held} shares of this market")
    amount = shares * (market.supplied + 1) // (market.supply_shares + VIRTUAL_SHARES)
    _check_cash(market, amount)
    state.put(market.key(b"h", state.caller), held - shares)
    _save(state, market._replace(supplied=market.supplied - amount, supply_shares=market.supply_shares - shares))
    state.give(market.asset, amount, market.account, state.caller)
    state.emit(WITHDRAWN, state.caller, number, amount, shares)
    return (amount,)


def _check_cash(market: LendingMarket, amount: int) -> None:
    refuse(amount > market.cash, Revert.NO_LIQUIDITY, f"the market has {market.cash} that is not lent out")


@LENDING.function("addCollateral(uint64 market, uint128 amount)", gas=90_000)
def add_collateral(state: ModuleState, number: int, amount: int) -> tuple[()]:
    """Put collateral into a market, to borrow against it. It earns nothing."""
    market = _market(state, number)
    state.take(market.collateral, amount, market.account)
    _add(state, market.key(b"c", state.caller), amount)
    state.emit(PLEDGED, state.caller, number, amount)
    return ()


@LENDING.function("takeCollateral(uint64 market, uint128 amount)", gas=120_000)
def take_collateral(state: ModuleState, number: int, amount: int) -> tuple[()]:
    """Take collateral out again, as far as the debt is covered without it."""
    market = _market(state, number)
    held = state.get(market.key(b"c", state.caller))
    refuse(amount > held, Revert.BAD_AMOUNT, f"the caller's collateral here is {held}")
    state.put(market.key(b"c", state.caller), held - amount)
    _check_covered(state, market, state.caller)
    state.give(market.collateral, amount, market.account, state.caller)
    state.emit(RELEASED, state.caller, number, amount)
    return ()


@LENDING.function("borrow(uint64 market, uint128 amount)", gas=150_000)
def borrow(state: ModuleState, number: int, amount: int) -> tuple[()]:
    """Borrow against the collateral that the caller has in the market."""
    market = _market(state, number)
    _check_cash(market, amount)
    shares = rounded_up(amount * (market.debt_shares + VIRTUAL_SHARES), market.borrowed + 1)
    market = market._replace(borrowed=market.borrowed + amount, debt_shares=market.debt_shares + shares)
    _add(state, market.key(b"d", state.caller), shares)
    _check_covered(state, market, state.caller)
    _save(state, market)
    state.give(market.asset, amount, market.account, state.caller)
    state.emit(BORROWED, state.caller, number, amount)
    return ()


@LENDING.function("repay(uint64 market, address account, uint128 most)", "uint128 amount", gas=110_000)
def repay(state: ModuleState, number: int, account: Address, most: int) -> tuple[int]:
    """Pay an account's debt back, up to an amount, all of it if that is enough; anybody may."""
    market = _market(state, number)
    owed = state.get(market.key(b"d", account))
    refuse(not owed, Revert.NOTHING_OWED, "the account owes nothing in this market")
    amount = min(most, market.debt(owed))
    refuse(not amount, Revert.BAD_AMOUNT, "nothing would be paid back")
    state.take(market.asset, amount, market.account)
    _save(state, _paid_back(state, market, account, amount))
    state.emit(REPAID, account, number, state.caller, amount)
    return (amount,)


def _paid_back(state: ModuleState, market: LendingMarket, account: Address, amount: int) -> LendingMarket:
    """Return the market once an amount of an account's debt, all of it at most, is paid back."""
    owed = state.get(market.key(b"d", account))
    shares = amount * (market.debt_shares + VIRTUAL_SHARES) // (market.borrowed + 1)
    shares = owed if amount == market.debt(owed) else min(shares, owed)
    state.put(market.key(b"d", account), owed - shares)
    # rounding may have added up to more than all that is borrowed: the rest is the suppliers'
    surplus = max(0, amount - market.borrowed)
    return market._replace(
        supplied=market.supplied + surplus,
        borrowed=market.borrowed - (amount - surplus),
        debt_shares=market.debt_shares - shares,
    )


@LENDING.function(
    "liquidate(uint64 market, address account, uint128 most, uint128 leastSeized)",
    "uint128 paid, uint128 seized",
    gas=220_000,
)
def liquidate(state: ModuleState, number: int, account: Address, most: int, least: int) -> tuple[int, int]:
    """Pay for an account whose debt is above the limit, up to an amount, and get collateral worth a bonus more."""
    market = _market(state, number)
    debt, pledged = market.debt(state.get(market.key(b"d", account))), state.get(market.key(b"c", account))
    mean, _ = _prices(state, market)
    exceeded = _is_exceeded(debt, pledged, mean, market.limit)
    refuse(not exceeded, Revert.NOT_ALLOWED, "the account's debt is covered")
    paid = min(most, debt)
    seized = (paid * (MILLION + BONUS) << PRICE_BITS) // (mean * MILLION)
    if seized >= pledged:
        seized, paid = pledged, min(paid, rounded_up(pledged * mean * MILLION, (MILLION + BONUS) << PRICE_BITS))
    refuse(not seized or seized < least, Revert.LIMIT_MISSED, f"this gives {seized} of the collateral, not {least}")
    state.take(market.asset, paid, market.account)
    market = _paid_back(state, market, account, paid)
    state.put(market.key(b"c", account), pledged - seized)
    lost = 0
    if seized == pledged:
        market, lost = _written_off(state, market, account)
    _save(state, market)
    state.give(market.collateral, seized, market.account, state.caller)
    state.emit(LIQUIDATED, account, number, state.caller, paid, seized, lost)
    return paid, seized


def _written_off(state: ModuleState, market: LendingMarket, account: Address) -> tuple[LendingMarket, int]:
    """Return the market without what an account owes that has no collateral left, and how much that was."""
    shares = state.get(market.key(b"d", account))
    lost = min(market.debt(shares), market.borrowed)
    state.put(market.key(b"d", account), 0)
    _add(state, market.key(b"w"), lost)
    supplied, borrowed = market.supplied - lost, market.borrowed - lost
    return market._replace(supplied=supplied, borrowed=borrowed, debt_shares=market.debt_shares - shares), lost


@LENDING.function(
    "flash(uint64 market, uint128 amount, address[] modules, bytes[] calls)",
    "uint128 fee",
    gas=120_000,
    gas_per_byte=600,
)
def flash(
    state: ModuleState, number: int, amount: int, modules: tuple[Address, ...], calls: tuple[bytes, ...]
) -> tuple[int]:
    """Borrow without collateral, make calls of modules, and pay back with a fee: all of it, or nothing is done.

    The calls are the caller's own, in order, with what was borrowed among its coins.
    """
    market = _market(state, number)
    refuse(len(modules) != len(calls), Revert.BAD_TERMS, "each of the calls needs the address of its module")
    _check_cash(market, amount)
    fee = rounded_up(amount * FLASH_FEE, MILLION)
    state.give(market.asset, amount, market.account, state.caller)
    for module, data in zip(modules, calls, strict=True):
        state.call(module, data)
    missing = amount + fee - state.balance(market.asset)
    refuse(missing > 0, Revert.NOT_REPAID, f"after the calls {missing} is missing of the loan and its fee")
    state.take(market.asset, amount + fee, market.account)
    market = _market(state, number)  # the calls may have been about it
    _save(state, market._replace(supplied=market.supplied + fee))
    state.emit(FLASHED, state.caller, number, amount, fee)
    return (fee,)


# --- looking ----------------------------------------------------------------------------------------------------


@LENDING.view(
    "market(uint64 market)",
    "address collateral, address asset, uint64 pool, uint64 limit, uint128 supplied, uint128 borrowed, uint64 rate, "
    "uint128 writtenOff",
)
def market(state: ModuleState, number: int) -> tuple[Address, Address, int, int, int, int, int, int]:
    """Say what a market is, what was supplied to it and is borrowed, the interest of a year, and what was ever lost."""
    found = _market(state, number)
    fixed = (found.collateral, found.asset, found.pool, found.limit)
    return (*fixed, found.supplied, found.borrowed, found.rate, state.get(found.key(b"w")))


@LENDING.view("markets()", "uint64 total")
def markets(state: ModuleState) -> tuple[int]:
    """Say how many markets there are: they have the numbers from 0 on."""
    return (state.get(b"N"),)


@LENDING.view(
    "position(uint64 market, address account)",
    "uint128 shares, uint128 supplied, uint128 collateral, uint128 debt, uint64 used, bool liquidatable",
)
def position(state: ModuleState, number: int, account: Address) -> tuple[int, int, int, int, int, bool]:
    """Say what an account has in a market, and how much of its collateral's worth the debt is, in millionths."""
    found = _market(state, number)
    shares, pledged = state.get(found.key(b"h", account)), state.get(found.key(b"c", account))
    supplied = shares * (found.supplied + 1) // (found.supply_shares + VIRTUAL_SHARES)
    debt = found.debt(state.get(found.key(b"d", account)))
    if not debt:
        return shares, supplied, pledged, 0, 0, False
    mean, _ = _prices(state, found)
    used = min((debt * MILLION << PRICE_BITS) // (pledged * mean), 2**64 - 1) if pledged * mean else 2**64 - 1
    return shares, supplied, pledged, debt, used, _is_exceeded(debt, pledged, mean, found.limit)
