#!/usr/bin/env bash
# py-evm: an account holds exactly what a transaction's gas may cost at most (gas limit times `maxFeePerGas`), and sends that
# transaction with a value of almost as much. EIP-1559 wants the account to hold both together ("the signer must be able to
# afford the transaction", after the value was taken off), and no block of Ethereum's may hold the transaction otherwise.
#
# Guess: it is refused. What happens (0.12.1b1, Prague): it is mined, and the account ends with almost nothing. The cap is
# compared with the balance without the value, and the value with what the gas really costs. (One coin less than the cap is
# refused, with the words "insufficient funds for blob fee", though it carries no blob.) Who tests with it that a wallet keeps
# enough for its cap sees a green test, and on a real chain every node refuses the transaction.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet py-evm==0.12.1b1 eth-account==0.14.0
"$folder/env/bin/python" - <<'PROGRAM'
from importlib.metadata import version

from eth.chains.base import MiningChain
from eth.db import get_db_backend
from eth.vm.forks.prague import PragueVM
from eth_account import Account
from eth_utils import ValidationError

KEY = b"\1" * 32
SENDER = bytes.fromhex(Account.from_key(KEY).address[2:])
GAS, CAP, TIP = 21_000, 100 * 10**9, 10**9


class Chain(MiningChain):
    chain_id = 1
    vm_configuration = ((0, PragueVM),)


def mined(coins: int, value: int) -> bool:
    genesis = {"difficulty": 0, "gas_limit": 30_000_000, "timestamp": 1_700_000_000, "extra_data": b"", "coinbase": bytes(20)}
    state = {SENDER: {"balance": coins, "nonce": 0, "code": b"", "storage": {}}}
    chain = Chain.from_genesis(get_db_backend(), genesis, state)
    fields = {"type": 2, "chainId": 1, "nonce": 0, "to": "0x" + "22" * 20, "value": value, "data": b""}
    fees = {"gas": GAS, "maxFeePerGas": CAP, "maxPriorityFeePerGas": TIP}
    raw = Account.sign_transaction({**fields, **fees}, KEY).raw_transaction
    try:
        chain.apply_transaction(chain.get_vm().get_transaction_builder().decode(raw))
    except ValidationError as error:
        print(f"  holds {coins}, sends {value}: refused: {error}")
        return False
    block = chain.mine_block()
    left = chain.get_vm(block.header).state.get_balance(SENDER)
    print(f"  holds {coins}, sends {value}: mined in block {block.number}, {left} left")
    return True


print("py-evm", version("py-evm"))
most = GAS * CAP
seen = [mined(2 * most, most), mined(most, most * 97 // 100), mined(most - 1, 1)]
raise SystemExit(0 if seen == [True, True, False] else "it behaves otherwise now")
PROGRAM
