#!/usr/bin/env bash
# web3: a program passes an amount as text, "1000", as it came out of JSON or of a form, in a transaction's `value`. What is asked of
# the node?
#
# Guess: it is refused, as a float is, or it is a thousand. What happens (7.14.0 and 8.0.0): text counts as hex digits, with 0x or
# without, so `value` becomes 0x1000, which is 4096; `gas` "21000" becomes 135168, and `get_storage_at(account, "10")` asks for slot
# 16. No error, no warning; only text that is no hex, "1.0", is refused. The same transaction, signed here by eth-account 0.14.0,
# is refused for "1000": so who signs decides what is paid.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/program.py" <<'PROGRAM'
from importlib.metadata import version

from eth_account import Account
from web3 import Web3
from web3.providers.base import BaseProvider

ANSWERS = {"eth_chainId": "0x1", "eth_getBlockByNumber": {"baseFeePerGas": "0x1"}}


class Recorder(BaseProvider):
    def __init__(self) -> None:
        super().__init__()
        self.asked = {}

    def make_request(self, method, params):
        self.asked[method] = params
        return {"jsonrpc": "2.0", "id": 1, "result": ANSWERS.get(method, "0x" + "00" * 32)}


print("web3", version("web3"), "eth-account", version("eth-account"))
recorder = Recorder()
eth = Web3(recorder).eth
signer = Account.from_key(b"\x01" * 32)
plain = {"to": signer.address, "value": 1, "gas": 21000, "nonce": 0, "chainId": 1}
plain |= {"maxFeePerGas": 2, "maxPriorityFeePerGas": 1}


def sent(**changed) -> list[int]:
    eth.send_transaction({"from": signer.address, **plain, **changed})
    (transaction,) = recorder.asked["eth_sendTransaction"]
    return [int(transaction[name], 16) for name in ("value", "gas")]


def attempt(name, act):
    try:
        result = act()
    except (TypeError, ValueError) as error:
        result = "refused"
        print(f"  {name:34} refused: {error}"[:100])
    else:
        print(f"  {name:34} {result}")
    return result


seen = [
    attempt("value and gas, numbers", lambda: sent(value=1000)),
    attempt('value "1000", gas "21000"', lambda: sent(value="1000", gas="21000")),
    attempt('value "1.0"', lambda: sent(value="1.0")),
    attempt("value 1000.0", lambda: sent(value=1000.0)),
    attempt('value "1000", signed here', lambda: signer.sign_transaction({**plain, "value": "1000"})),
]
eth.get_storage_at(signer.address, "10")
slot = recorder.asked["eth_getStorageAt"][1]
print(f"  {'get_storage_at, slot as text':34} {slot}")
as_before = seen == [[1000, 21000], [4096, 135168], "refused", "refused", "refused"] and slot == "0x10"
raise SystemExit(0 if as_before else "it behaves otherwise now")
PROGRAM
for each in 7.14.0 8.0.0; do
    "${PYTHON:-python3}" -m venv --clear "$folder/env"
    "$folder/env/bin/pip" install --quiet "web3==$each" eth-account==0.14.0
    "$folder/env/bin/python" "$folder/program.py"
done
