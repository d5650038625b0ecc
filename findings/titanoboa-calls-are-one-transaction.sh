#!/usr/bin/env bash
# titanoboa, with which contracts in Vyper are tested, runs each call of a contract on an EVM in process. Is each a transaction?
#
# Guess: yes, as its calls look like transactions: transient storage is empty at the beginning of each, a slot that an earlier call
# wrote costs 2,900 gas and more to change, and the gas price is at least the block's base fee.
# What happens (0.2.8, Vyper 0.4.3): transient storage (EIP-1153) is kept from one call to the next, so a contract that relies on
# its being gone passes, or fails, for the wrong reason. To change a slot that any call before wrote costs 100 gas: what counts as
# its value "before the transaction" is that before the first call, so 0 -> 1 -> 2 -> 0 takes 22,217, 217, 217 and earns a refund of
# 19,900. And tx.gasprice is 0 while block.basefee is 10**9: a pair that no block has had since London (EIP-1559).
#
# Exits with 0 if it is still so, and fails if not. Needs python3 (3.11 or later) and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "titanoboa==0.2.8" "vyper==0.4.3"
"$folder/env/bin/python" - <<'PROGRAM'
from importlib.metadata import version

import boa

SOURCE = """
# pragma version 0.4.3
kept: uint256
passing: transient(uint256)

@external
def put(number: uint256):
    self.kept = number

@external
def mark():
    self.passing += 1

@external
@view
def marks() -> uint256:
    return self.passing

@external
@view
def prices() -> (uint256, uint256):
    return tx.gasprice, block.basefee
"""
contract = boa.loads(SOURCE)
gas = []
for number in (1, 2, 3, 0):
    contract.put(number)
    gas.append((contract._computation.get_gas_used(), contract._computation.get_gas_refund()))
marks = [contract.marks()]
for _ in range(2):
    contract.mark()
    marks.append(contract.marks())
prices = contract.prices()
print("titanoboa", version("titanoboa"))
print("gas and refund of 1, 2, 3 and 0, written one after the other by calls of their own:", gas)
print("transient storage before, after one call and after two:", marks)
print("gas price and base fee:", prices)
seen = (gas, marks, tuple(prices))
EXPECTED = ([(22217, 0), (217, 0), (217, 0), (217, 19900)], [0, 1, 2], (0, 10**9))
raise SystemExit(0 if seen == EXPECTED else "it behaves otherwise now")
PROGRAM
