"""Mutants of rule modules. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

EXCHANGE = "settlement/modules/exchange.py"
EXCHANGE_TESTS = ("test_modules_exchange.py",)
LENDING = "settlement/modules/lending.py"
LENDING_TESTS = ("test_modules_lending.py",)
STAKING = "settlement/modules/staking.py"
STAKING_TESTS = ("test_modules_staking.py",)
TREASURY = "settlement/modules/treasury.py"
TREASURY_TESTS = ("test_modules_treasury.py",)
CALLS = "settlement/simulated/module_calls.py"
CALLS_TESTS = ("test_modules_garbage.py",)

MUTANTS = (
    Mutant(
        "round what a swap costs for the trader",
        EXCHANGE,
        "((reserve_out - wanted) * (MILLION - fee)) + 1",
        "((reserve_out - wanted) * (MILLION - fee))",
        EXCHANGE_TESTS,
    ),
    Mutant(
        "take no fee of a swap",
        EXCHANGE,
        "    paid = given * (MILLION - fee)\n",
        "    paid = given * MILLION\n",
        EXCHANGE_TESTS,
    ),
    Mutant(
        "round what shares cost for who adds liquidity",
        EXCHANGE,
        "added = (rounded_up(shares * pool.reserves[0], supply), rounded_up(shares * pool.reserves[1], supply))",
        "added = (shares * pool.reserves[0] // supply, shares * pool.reserves[1] // supply)",
        EXCHANGE_TESTS,
    ),
    Mutant(
        "give back shares that stay",
        EXCHANGE,
        '    state.put(pool.key(b"h", state.caller), held - shares)\n',
        "",
        EXCHANGE_TESTS,
    ),
    Mutant(
        "swap for less than the least that was asked for",
        EXCHANGE,
        "refuse(out < max(least, 1),",
        "refuse(out < 1,",
        EXCHANGE_TESTS,
    ),
    Mutant(
        "swap after the deadline",
        EXCHANGE,
        "refuse(state.time > deadline,",
        "refuse(False,",
        EXCHANGE_TESTS,
    ),
    Mutant(
        "count the new price for the time that the old one stood",
        EXCHANGE,
        "        _count(state, pool, since)\n",
        "        _count(state, pool._replace(reserves=after), since)\n",
        EXCHANGE_TESTS,
    ),
    Mutant(
        "average a price over less than its period",
        EXCHANGE,
        'mark = b"n" if state.time - state.get(pool.key(b"n")) >= PERIOD else b"o"',
        'mark = b"n"',
        EXCHANGE_TESTS,
    ),
    Mutant(
        "let all pools of a pair share one account",
        EXCHANGE,
        'b"pool" + pair + number.to_bytes(8, "big")',
        'b"pool" + pair + bytes(8)',
        EXCHANGE_TESTS,
    ),
    Mutant(
        "let a call take more of the native coin than it carries",
        "settlement/simulated/module_calls.py",
        "    if taken > call.value:\n",
        "    if False:\n",
        EXCHANGE_TESTS,
    ),
    Mutant(
        "let a transaction call a view",
        "settlement/simulated/module_calls.py",
        " or (function.is_view and not look):",
        ":",
        EXCHANGE_TESTS,
    ),
    Mutant(
        "let coins be sent to a module, where they are nobody's",
        "settlement/simulated/ledger.py",
        "if to == rules.contract or to in MODULES_AT:",
        "if to == rules.contract:",
        ("test_modules_rpc.py",),
    ),
    Mutant(
        "lend by the price of one moment",
        LENDING,
        "* min(_prices(state, market))",
        "* _prices(state, market)[1]",
        LENDING_TESTS,
    ),
    Mutant(
        "lend by an old mean alone",
        LENDING,
        "* min(_prices(state, market))",
        "* _prices(state, market)[0]",
        LENDING_TESTS,
    ),
    Mutant(
        "liquidate by the price of one moment",
        LENDING,
        "    mean, _ = _prices(state, market)\n",
        "    _, mean = _prices(state, market)\n",
        LENDING_TESTS,
    ),
    Mutant(
        "liquidate who is covered",
        LENDING,
        "    refuse(not exceeded, Revert.NOT_ALLOWED,",
        "    refuse(False, Revert.NOT_ALLOWED,",
        LENDING_TESTS,
    ),
    Mutant(
        "lend up to the limit, where one price more liquidates",
        LENDING,
        "(market.limit - MARGIN) // (MILLION",
        "market.limit // (MILLION",
        LENDING_TESTS,
    ),
    Mutant(
        "round a debt for the debtor",
        LENDING,
        "        return rounded_up(shares * (self.borrowed + 1), self.debt_shares + VIRTUAL_SHARES)",
        "        return shares * (self.borrowed + 1) // (self.debt_shares + VIRTUAL_SHARES)",
        LENDING_TESTS,
    ),
    Mutant(
        "let collateral go without a look at the debt",
        LENDING,
        "    _check_covered(state, market, state.caller)\n    state.give(market.collateral",
        "    state.give(market.collateral",
        LENDING_TESTS,
    ),
    Mutant(
        "take no fee for a flash loan",
        LENDING,
        "    missing = amount + fee -",
        "    fee = 0\n    missing = amount -",
        LENDING_TESTS,
    ),
    Mutant(
        "forget what was lost when collateral ran out",
        LENDING,
        "    if seized == pledged:\n",
        "    if False:\n",
        LENDING_TESTS,
    ),
    Mutant(
        "give a liquidator twice the bonus",
        LENDING,
        "    seized = (paid * (MILLION + BONUS)",
        "    seized = (paid * (MILLION + 2 * BONUS)",
        LENDING_TESTS,
    ),
    Mutant(
        "earn from before a stake was there",
        STAKING,
        '    put_wide(state, pool.key(b"q", account), pool.per_unit)\n',
        "",
        STAKING_TESTS,
    ),
    Mutant(
        "share rewards out though nobody has staked",
        STAKING,
        "    if not staked:\n        return StakingPool(row, staked, left, until + state.time - since, per_unit)",
        "    if not staked:\n        return StakingPool(row, staked, left, until, per_unit)",
        STAKING_TESTS,
    ),
    Mutant(
        "pay rewards twice",
        STAKING,
        '    state.put(pool.key(b"e", state.caller), 0)\n',
        "",
        STAKING_TESTS,
    ),
    Mutant(
        "share out more seconds than were funded",
        STAKING,
        "(min(state.time, until) - since)",
        "(state.time - since)",
        STAKING_TESTS,
    ),
    Mutant(
        "let anybody slow rewards down",
        STAKING,
        "    refuse(state.caller != funder,",
        "    refuse(False,",
        STAKING_TESTS,
    ),
    Mutant(
        "pay a proposal again",
        TREASURY,
        '    state.put(found.key(b"pp"), 1)\n',
        "",
        TREASURY_TESTS,
    ),
    Mutant(
        "let one vote count again",
        TREASURY,
        '    state.put(found.key(b"pv", state.caller), 1)\n',
        "",
        TREASURY_TESTS,
    ),
    Mutant(
        "let units vote that came after the proposal",
        TREASURY,
        "    refuse(since >= before, Revert.NOT_ALLOWED",
        "    refuse(since > before, Revert.NOT_ALLOWED",
        TREASURY_TESTS,
    ),
    Mutant(
        "let units be taken out that have voted",
        TREASURY,
        "    refuse(state.time <= until, Revert.NOT_ALLOWED",
        "    refuse(False, Revert.NOT_ALLOWED",
        TREASURY_TESTS,
    ),
    Mutant(
        "pay without a quorum",
        TREASURY,
        "approving <= opposed or (approving + opposed) * MILLION < needed * all_votes",
        "approving <= opposed",
        TREASURY_TESTS,
    ),
    Mutant(
        "count what was locked when it was proposed alone",
        TREASURY,
        'least = min(state.get(found.key(b"pT")), state.get(treasury.key(b"T")))',
        'least = state.get(found.key(b"pT"))',
        TREASURY_TESTS,
    ),
    Mutant(
        "count what was locked after the proposal",
        TREASURY,
        'least = min(state.get(found.key(b"pT")), state.get(treasury.key(b"T")))',
        'least = state.get(treasury.key(b"T"))',
        TREASURY_TESTS,
    ),
    Mutant(
        "count again after the vote, when its votes are unlocked",
        TREASURY,
        '    refuse(state.time > found.end, Revert.EXPIRED, f"the vote ended at {found.end}")\n    return (_count',
        "    return (_count",
        TREASURY_TESTS,
    ),
    Mutant(
        "count nothing again when somebody votes",
        TREASURY,
        "    _count(state, treasury, found)\n    state.put",
        "    state.put",
        TREASURY_TESTS,
    ),
    Mutant(
        "pay on a tie",
        TREASURY,
        "approving <= opposed or",
        "approving < opposed or",
        TREASURY_TESTS,
    ),
    Mutant(
        "pay before the vote has ended",
        TREASURY,
        "refuse(state.time <= found.end, Revert.WINDOW_OPEN",
        "refuse(False, Revert.WINDOW_OPEN",
        TREASURY_TESTS,
    ),
    Mutant(
        "let a module pay the adjudicator",
        CALLS,
        "        if to == self._contract or to in MODULES_AT:\n",
        "        if to in MODULES_AT:\n",
        CALLS_TESTS,
    ),
    Mutant(
        "let an event of a module stop the chain",
        CALLS,
        "        except InvalidInput as error:\n",
        "        except RecursionError as error:\n",
        CALLS_TESTS,
    ),
)
