#!/usr/bin/env bash
# rlp: a program that reads transactions or blocks from a buffer passes a `memoryview` of some of its bytes to `rlp.encode`,
# to hash them. What is it taken for?
#
# Guess: for bytes, as bytearray is, or it is refused, as a dict is. What happens (4.1.0 and 5.0.0): it counts as a list of numbers,
# so `memoryview(b"\x80\xff")` becomes c4818081ff, a list of two strings, and not 8280ff, a string of two bytes; no
# error, another hash. Only with the type named, `rlp.encode(view, rlp.sedes.binary)`, it is refused.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/program.py" <<'PROGRAM'
from importlib.metadata import version

import rlp
from rlp.sedes import binary


def attempt(name, encode):
    try:
        result = encode().hex()
    except rlp.exceptions.SerializationError as error:
        result = f"refused: {error}"
    print(f"  {name:38} {result}")
    return result.partition(":")[0]


print("rlp", version("rlp"))
data = b"\x80\xff"
seen = [
    attempt("encode(bytes)", lambda: rlp.encode(data)),
    attempt("encode(bytearray)", lambda: rlp.encode(bytearray(data))),
    attempt("encode(memoryview)", lambda: rlp.encode(memoryview(data))),
    attempt("encode([bytes, memoryview])", lambda: rlp.encode([data, memoryview(data)])),
    attempt("encode(memoryview, binary)", lambda: rlp.encode(memoryview(data), binary)),
]
print("  read back:", rlp.decode(rlp.encode(memoryview(data))))
as_before = seen == ["8280ff", "8280ff", "c4818081ff", "c88280ffc4818081ff", "refused"]
raise SystemExit(0 if as_before else "it behaves otherwise now")
PROGRAM
for each in 4.1.0 5.0.0; do
    "${PYTHON:-python3}" -m venv --clear "$folder/env"
    "$folder/env/bin/pip" install --quiet "rlp==$each"
    "$folder/env/bin/python" "$folder/program.py"
done
