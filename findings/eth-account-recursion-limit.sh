#!/usr/bin/env bash
# eth-account: what does importing it change for the rest of the program? Python gives up a recursion at depth 1,000, so that a
# fault in a program, or what a stranger sends, ends in a RecursionError that can be caught, and not in a crash.
#
# Guess: nothing. What happens (0.14.0): `import eth_account` sets that limit to 100,000 for the whole process, for good. It is
# py_ecc that does it, on its import, which comes with eth-keyfile; py-evm does it, too, to 12,000. From then on, code anywhere
# in the program that relies on the limit, a parser of nested messages for example, no longer has one that the stack holds.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet eth-account==0.14.0 eth-abi==6.0.0 py-ecc==8.0.0
"$folder/env/bin/python" - <<'PROGRAM'
import subprocess
import sys

seen = {}
for module in ("eth_abi", "eth_keys", "eth_keyfile", "eth_account"):
    program = f"import sys, {module}; print(sys.getrecursionlimit())"
    seen[module] = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    print(f"after `import {module}`:", seen[module])
as_before = list(seen.values()) == [1_000, 1_000, 100_000, 100_000]
raise SystemExit(0 if as_before else "it behaves otherwise now")
PROGRAM
