#!/usr/bin/env bash
# crytic-compile (what slither reads contracts with): a contract in Vyper 0.4.3 shall be checked by slither.
#
# Guess: it is read; slither says that it reads Vyper. What happens (crytic-compile 0.4.2 and slither-analyzer 0.11.6, vyper 0.4.3):
# AttributeError, 'dict' object has no attribute 'split'. In the compiler's standard JSON, `sourceMap` is an object since 0.4.0, and
# it is still read as the text that it was before (and that solc gives). With vyper 0.3.10, whose map is text, the same contract
# is read, after a warning that only 0.3.7 is supported well.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > box.vy <<'VYPER'
count: public(uint256)

@external
def put(number: uint256):
    self.count = number
VYPER
cat > program.py <<'PROGRAM'
import json
import subprocess
from importlib.metadata import version

print(*(f"{name} {version(name)}" for name in ("slither-analyzer", "crytic-compile", "vyper")))
request = {
    "language": "Vyper",
    "sources": {"box.vy": {"content": open("box.vy").read()}},
    "settings": {"outputSelection": {"*": ["evm.deployedBytecode"]}},
}
answer = subprocess.run(["env/bin/vyper-json"], input=json.dumps(request), capture_output=True, text=True, check=True)
source_map = next(iter(json.loads(answer.stdout)["contracts"]["box.vy"].values()))["evm"]["deployedBytecode"]["sourceMap"]
print("  vyper-json's sourceMap:", type(source_map).__name__)
as_before = isinstance(source_map, str if version("vyper").startswith("0.3.") else dict)
for tool in ("crytic-compile", "slither"):
    command = [f"env/bin/{tool}", "box.vy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"  {tool}:", (done.stderr.strip().splitlines() or ["no error"])[-1][:100])
    as_before &= ("'dict' object has no attribute 'split'" in done.stderr) == isinstance(source_map, dict)
raise SystemExit(0 if as_before else "it behaves otherwise now")
PROGRAM
for each in 0.3.10 0.4.3; do
    "${PYTHON:-python3}" -m venv --clear env
    env/bin/pip install --quiet slither-analyzer==0.11.6 crytic-compile==0.4.2 "vyper==$each"
    PATH="$folder/env/bin:$PATH" env/bin/python program.py
done
