#!/usr/bin/env bash
# msgspec: with `strict=False`, what text counts as an integer? That mode is for query parameters, forms and environment
# variables, where everything is text, amounts of money among them.
#
# Guess: digits, perhaps a minus; "1e3" and "5.0" are refused, as strict JSON refuses the numbers 1e3 and 5.0 for an int.
# What happens (0.22.0): text of a float is read as a float and then made an int, if that is a whole number: "1e3" is 1000,
# "100e-2" is 1, and "9007199254740993.0" is silently 9007199254740992, one unit less, as the way leads through a double.
# Beyond 2**53 (about 0.009 ether, counted in wei) an amount that ends in ".0" is another amount.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet msgspec==0.22.0
"$folder/env/bin/python" - <<'PROGRAM'
import msgspec

print("msgspec", msgspec.__version__)
EXPECTED = {
    "9007199254740993": 9007199254740993,
    "9007199254740993.0": 9007199254740992,
    "1e3": 1000,
    "100e-2": 1,
    "1e23": None,
    "0.5": None,
    "+5": None,
    "1_000": None,
}
seen = {}
for text in EXPECTED:
    try:
        seen[text] = msgspec.convert(text, int, strict=False)
    except msgspec.ValidationError:
        seen[text] = None
    print(f"convert({text!r}, int, strict=False)".ljust(52), "refused" if seen[text] is None else seen[text])
try:
    strict = msgspec.json.decode(b"5.0", type=int)
except msgspec.ValidationError as error:
    strict = str(error)
print("json.decode(b'5.0', type=int)".ljust(52), strict)
raise SystemExit(0 if seen == EXPECTED and "Expected `int`" in str(strict) else "it behaves otherwise now")
PROGRAM
