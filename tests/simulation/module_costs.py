"""What each call of a rule module takes: time, distinct entries read and written. `python -m simulation.module_costs`.

Without decoding the transaction, its signature, nonce and fee: those are the same for every call.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

from simulation.module_ledger import ALICE, BOB, CAROL, EVER, GOLD, SILVER, ModuleLedger, calldata
from tallystick.channels.protocol.objects import NATIVE, ZERO32
from tallystick.settlement.chain import ModuleCall
from tallystick.settlement.modules.exchange import EXCHANGE
from tallystick.settlement.modules.table import MODULES
from tallystick.settlement.simulated.access import RecordingLayer
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.module_calls import run_module
from tallystick.settlement.simulated.world import Layer

ROUNDS = 300

SWAP = ("exchange", "swap", GOLD, SILVER, 0, 1_000, 1, EVER)
CALLS: tuple[tuple[str, ...] | tuple[Any, ...], ...] = (
    ("exchange", "createPool", GOLD, NATIVE, 3_000),
    ("exchange", "addLiquidity", GOLD, SILVER, 0, 10**9, 10**9, 1, EVER),
    ("exchange", "removeLiquidity", GOLD, SILVER, 0, 10**6, 1, 1, EVER),
    SWAP,
    ("exchange", "swapExactOut", GOLD, SILVER, 0, 1_000, 10**6, EVER),
    ("exchange", "swap", GOLD, SILVER, 1, 1_000, 1, EVER),
    ("exchange", "swapPath", [GOLD, SILVER, GOLD], [0, 1], 1_000, 1, EVER),
    ("lending", "supply", 0, 10**6),
    ("lending", "withdraw", 0, 10**6),
    ("lending", "addCollateral", 0, 10**6),
    ("lending", "takeCollateral", 0, 1),
    ("lending", "borrow", 0, 1_000),
    ("lending", "repay", 0, BOB, 1_000),
    ("lending", "flash", 0, 10**6, [EXCHANGE.address] * 2, [calldata(*SWAP)] * 2),
    ("staking", "stake", 0, 1_000),
    ("staking", "unstake", 0, 1_000),
    ("staking", "claim", 0),
    ("treasury", "fund", 0, SILVER, 1_000),
    ("treasury", "lock", 0, 1_000),
    ("treasury", "propose", 0, SILVER, 10, CAROL, ZERO32),
    ("treasury", "vote", 0, 0, True),
)


def populated() -> ModuleLedger:
    """Return a ledger on which Bob can make all of CALLS."""
    ledger = ModuleLedger()
    for by, *call in (
        (ALICE, "exchange", "createPool", GOLD, SILVER, 3_000),
        (BOB, "exchange", "addLiquidity", GOLD, SILVER, 0, 10**15, 10**15, 0, EVER),
        (ALICE, "exchange", "createFallingPool", GOLD, SILVER, 12_000, 1_000),
        (BOB, "exchange", "addLiquidity", GOLD, SILVER, 1, 10**12, 10**12, 0, EVER),
        (ALICE, "lending", "createMarket", GOLD, SILVER, 0, 800_000),
        (BOB, "lending", "supply", 0, 10**12),
        (BOB, "lending", "addCollateral", 0, 10**9),
        (ALICE, "staking", "createPool", GOLD, SILVER),
        (ALICE, "staking", "fund", 0, 10**12, 10**6),
        (BOB, "staking", "stake", 0, 10**9),
        (ALICE, "treasury", "createTreasury", GOLD, 400_000, 10**6),
        (BOB, "treasury", "lock", 0, 10**6),
    ):
        ledger.call(by, *call)
        ledger.time += 700
    ledger.call(BOB, "lending", "borrow", 0, 10**6)
    ledger.call(BOB, "treasury", "propose", 0, SILVER, 10, CAROL, ZERO32)
    ledger.call(BOB, *SWAP)
    ledger.time += 12
    return ledger


def main() -> int:
    """Print a row for each call."""
    ledger = populated()
    sys.stdout.write(f"{'call':<28}{'µs':>6}{'reads':>7}{'writes':>7}{'gas':>9}\n")
    for module, name, *values in CALLS:
        data = calldata(module, name, *values)
        function = MODULES[module].functions[name]
        call, took = ModuleCall(MODULES[module].address, data, 2**100), list[float]()
        for _ in range(ROUNDS):
            attempt = Layer(ledger.state)
            begun = time.perf_counter()
            run_module(attempt, BOB, call, ledger.time, ADJUDICATOR)
            took.append(time.perf_counter() - begun)
        counted = RecordingLayer(ledger.state)
        run_module(counted, BOB, call, ledger.time, ADJUDICATOR)
        access = counted.take()
        figures = (round(statistics.median(took) * 1e6), len(access.reads), len(access.writes))
        gas = function.gas + function.gas_per_byte * len(data)
        sys.stdout.write(f"{module + ' ' + name:<28}{figures[0]:>6}{figures[1]:>7}{figures[2]:>7}{gas:>9}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
