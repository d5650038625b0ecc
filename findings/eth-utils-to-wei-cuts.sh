#!/usr/bin/env bash
# eth-utils: an amount in ether that somebody typed, with more decimals than there are in a wei, goes through `to_wei`, or through
# `to_wei_decimals` for a token of six decimals. What becomes of the rest?
#
# Guess: an error, as for every value that is no whole number of wei; ethers has one. What happens (6.0.0): the rest is cut off without
# a word: "0.0000000000000000019" is 1 and "1e-19" is 0; 0.9999999 of a token of six decimals is 999999. viem 2.57.20 rounds, so
# that the first is 2, and "0.9999999999999999999" is a whole ether there. Three libraries, three answers for one text. eth-utils
# also takes what `Decimal` takes: "1_000", " 1 " and "1e3", which both others refuse.
#
# Exits with 0 if it is still so, and fails if not. Needs python3, PyPI, node, npm; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet eth-utils==6.0.0
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund ethers@6.17.0 viem@2.57.20
cat > program.js <<'PROGRAM'
const { parseEther } = require("ethers");
const viem = require("viem");
const attempt = (parse, text) => {
  try {
    return String(parse(text));
  } catch {
    return "refused";
  }
};
const texts = JSON.parse(process.argv[2]);
console.log(JSON.stringify(texts.map((text) => [attempt(parseEther, text), attempt(viem.parseEther, text)])));
PROGRAM
cat > program.py <<'PROGRAM'
import json
import subprocess
from importlib.metadata import version

from eth_utils import to_wei, to_wei_decimals

ETHER = str(10**18)
EXPECTED = {  # text: eth-utils, ethers, viem
    "1.000000000000000001": ("1000000000000000001",) * 3,
    "0.0000000000000000019": ("1", "refused", "2"),
    "0.9999999999999999999": (str(10**18 - 1), "refused", ETHER),
    "1e-19": ("0", "refused", "refused"),
    "1e3": (ETHER + "000", "refused", "refused"),
    "1_000": (ETHER + "000", "refused", "refused"),
    " 1 ": (ETHER, "refused", "refused"),
}
print("eth-utils", version("eth-utils"), "ethers 6.17.0 viem 2.57.20")
others = json.loads(subprocess.check_output(["node", "program.js", json.dumps(list(EXPECTED))]))
seen = {text: (str(to_wei(text, "ether")), *other) for text, other in zip(EXPECTED, others, strict=True)}
for text, answers in seen.items():
    print(f"  {text!r:24}", *(f"{each:24}" for each in answers))
token = to_wei_decimals("0.9999999", 6)
print("  to_wei_decimals('0.9999999', 6):", token)
raise SystemExit(0 if seen == EXPECTED and token == 999999 else "it behaves otherwise now")
PROGRAM
env/bin/python program.py
