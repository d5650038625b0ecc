#!/usr/bin/env bash
# pyrevm: a program asks for the rules of an older fork, with the name that the package's own type stub gives as the default:
# `EVM(spec_id="SHANGHAI")`. Which rules does it get?
#
# Guess: Shanghai's; and a name that it does not know is an error. What happens (0.3.7): it knows names in one spelling alone,
# "Shanghai"; any other text means the latest rules that it has, without a word, so "SHANGHAI", "LONDON" and "no such fork"
# run TLOAD, which came with Cancun. The merge is "Merge", and "Paris", its name in the specification, is the latest rules.
# (The default in the binary is "LATEST", not "SHANGHAI"; that is found in the same way, by being no name of a fork.)
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pyrevm==0.3.7
cat > "$folder/program.py" <<'PROGRAM'
import inspect
from importlib.metadata import files, version

from pyrevm import EVM, AccountInfo

CALLER, CONTRACT = "0x" + "1" * 40, "0x" + "2" * 40
CODES = {"London BASEFEE": "485000", "Shanghai PUSH0": "5f5000", "Cancun TLOAD": "60005c5000"}


def runs(spec: str, code: str) -> bool:
    evm = EVM(spec_id=spec)
    evm.insert_account_info(CONTRACT, AccountInfo(code=bytes.fromhex(code)))
    try:
        evm.message_call(CALLER, CONTRACT)
    except RuntimeError as error:
        assert "OpcodeNotFound" in str(error) or "NotActivated" in str(error), error
        return False
    return True


print("pyrevm", version("pyrevm"), inspect.signature(EVM))
stub = next(each for each in files("pyrevm") if each.name == "__init__.pyi").read_text()
print("the stub:", next(line.strip() for line in stub.splitlines() if "spec_id=" in line))
seen = {}
for spec in ("Berlin", "London", "Merge", "Shanghai", "Cancun", "LONDON", "SHANGHAI", "Paris", "no such fork"):
    seen[spec] = [name for name, code in CODES.items() if runs(spec, code)]
    print(f"  {spec:14}", *seen[spec], sep="  ")
knows = [len(each) for each in seen.values()]
as_before = (
    knows == [0, 1, 1, 2, 3, 3, 3, 3, 3]
    and 'spec_id="SHANGHAI"' in stub
    and inspect.signature(EVM).parameters["spec_id"].default == "LATEST"
)
raise SystemExit(0 if as_before else "it behaves otherwise now")
PROGRAM
"$folder/env/bin/python" "$folder/program.py"
