"""Mutants of rule modules. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

EXCHANGE = "settlement/modules/exchange.py"
EXCHANGE_TESTS = ("test_modules_exchange.py",)

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
        "take back more shares than somebody has",
        EXCHANGE,
        "refuse(not 0 < shares <= held,",
        "refuse(not 0 < shares,",
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
)
