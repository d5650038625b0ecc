#!/usr/bin/env bash
# pyrevm: a test measures what a call of a contract costs, by `message_call` and `result.gas_used`, once it has set the contract
# up by other calls. Is it what a transaction of its own costs?
#
# Guess: yes. Each result includes the 21000 of a transaction, and a transaction begins with all slots and accounts cold
# (EIP-2929), and with what was stored before as its slots' original values (EIP-2200). What happens (0.3.7): for both, all
# calls on one EVM are one transaction. The second call that reads a slot is 2000 cheaper than the first, and a change of a
# stored value costs 100 where it should cost 5000. `set_balance` and `insert_account_storage`, by which a test sets things
# up, leave the account warm too, so even a first call reads too low, while `insert_account_info` does not.
# A new EVM with the same state gives what a transaction costs.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pyrevm==0.3.7
cat > "$folder/program.py" <<'PROGRAM'
from importlib.metadata import version

from pyrevm import EVM, AccountInfo

CALLER, CONTRACT, OTHER = ("0x" + digit * 40 for digit in "123")
READS = bytes.fromhex("6000545000")  # SLOAD of slot 0, POP
STORES = bytes.fromhex("60003560005500")  # SSTORE of the call's first word into slot 0
ASKS = bytes.fromhex("73" + OTHER[2:] + "315000")  # BALANCE of OTHER, POP


def evm_with(code: bytes) -> EVM:
    evm = EVM()
    evm.insert_account_info(CONTRACT, AccountInfo(code=code))
    return evm


def gas(evm: EVM, word: int = 0) -> int:
    evm.message_call(CALLER, CONTRACT, calldata=word.to_bytes(32, "big"))
    return evm.result.gas_used


print("pyrevm", version("pyrevm"))
reading = evm_with(READS)
reads = [gas(reading), gas(reading)]
print("one slot read, in two calls:          ", reads)

storing = evm_with(STORES)
stores = [gas(storing, 1), gas(storing, 2)]
fresh = evm_with(STORES)
fresh.insert_account_storage(CONTRACT, 0, 1)
alone = gas(fresh, 2)
print("0 to 1, 1 to 2; 1 to 2 on a new EVM:  ", stores, alone)

plain, informed, balanced, stored = (evm_with(ASKS) for _ in range(4))
informed.insert_account_info(OTHER, AccountInfo(balance=1))
balanced.set_balance(OTHER, 1)
stored.insert_account_info(OTHER, AccountInfo(balance=1))
stored.insert_account_storage(OTHER, 0, 1)
asks = [gas(each) for each in (plain, informed, balanced, stored)]
print("first call that asks for a balance:   ", asks)
as_before = (
    reads[0] - reads[1] == 2000
    and alone - stores[1] == 4900
    and asks[0] == asks[1] == asks[2] + 2500 == asks[3] + 2500
)
raise SystemExit(0 if as_before else "it behaves otherwise now")
PROGRAM
"$folder/env/bin/python" "$folder/program.py"
