#!/usr/bin/env bash
# pyrevm: a program calls `EVM.commit()`, which takes no argument, once it has set up what later calls shall find. No snapshot is open.
#
# Guess: it makes the changes last, or does nothing, or says that there is no snapshot, as `revert` does for one that it does
# not know. What happens (0.3.7): it returns, and `journal_depth` is 2**64 - 1 from then on; every later call ends with
# CallTooDeep, plain transfers too. One more `snapshot()`, never closed, sets it right.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pyrevm==0.3.7
cat > "$folder/program.py" <<'PROGRAM'
from importlib.metadata import version

from pyrevm import EVM

ALICE, BOB = "0x" + "1" * 40, "0x" + "2" * 40


def pay(evm: EVM) -> str:
    try:
        evm.message_call(ALICE, BOB, value=1)
    except RuntimeError as error:
        return str(error)
    return "paid"


print("pyrevm", version("pyrevm"))
evm = EVM()
evm.set_balance(ALICE, 10)
seen = []
for name, step in {"new": None, "snapshot": evm.snapshot, "commit": evm.commit, "commit again": evm.commit}.items():
    if step is not None:
        step()
    seen.append((evm.journal_depth, pay(evm)))
    print(f"  {name:14}", *seen[-1])
evm.snapshot()
seen.append((evm.journal_depth, pay(evm)))
print(f"  {'snapshot':14}", *seen[-1])
paid = [result == "paid" for _, result in seen]
as_before = (
    [depth for depth, _ in seen] == [0, 1, 0, 2**64 - 1, 0]
    and paid == [True, True, True, False, True]
    and "CallTooDeep" in seen[3][1]
)
raise SystemExit(0 if as_before else "it behaves otherwise now")
PROGRAM
"$folder/env/bin/python" "$folder/program.py"
