#!/usr/bin/env bash
# eth-account 0.14.0 (PyPI), `encode_typed_data`: a field that the message lacks is an error for numbers, addresses, booleans,
# fixed bytes and arrays ("Missing value for field …"), but not for `string` and `bytes`: these are hashed as 32 zero bytes, which is
# not the hash of an empty text. So a slip in a field's name is signed without a word, as a digest that no contract makes from any
# message. We guessed that every missing field is refused, as in MetaMask's own library.
# Exit 0: as described. Exit 1: it has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet eth-account==0.14.0
"$place/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

from eth_account.messages import encode_typed_data
from eth_utils import keccak

print("eth-account", version("eth-account"))


def digest(kind, message):
    types = {"EIP712Domain": [{"name": "name", "type": "string"}], "Order": [{"name": "memo", "type": kind}]}
    whole = {"types": types, "primaryType": "Order", "domain": {"name": "shop"}, "message": message}
    return encode_typed_data(full_message=whole).body


as_described = True
for kind in ("string", "bytes"):
    zeros = keccak(keccak(text=f"Order({kind} memo)") + bytes(32))
    found, empty = digest(kind, {"mmeo": "a slip in the name"}), digest(kind, {"memo": "" if kind == "string" else b""})
    print(f"{kind:8} missing: {found.hex()[:16]}  32 zero bytes: {zeros.hex()[:16]}  empty: {empty.hex()[:16]}")
    as_described &= found == zeros and found != empty
for kind in ("uint256", "address", "bool", "bytes32", "uint256[]"):
    try:
        digest(kind, {})
        print(f"{kind:8} missing: taken")
        as_described = False
    except ValueError as error:
        print(f"{kind:8} missing: {error}")
sys.exit(not as_described)
PY
