"""What the node answers over JSON-RPC: one function per method, over a `PythonChain`, in Ethereum's encodings.

What our client asks, what others need to read and to send, and two methods that development nodes have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_address, read_bytes, read_quantity, to_hex
from tallystick.settlement.testing.pyevm import shapes
from tallystick.settlement.testing.pyevm.chain import RICH, Block, CallQuestion, Mined, PythonChain, tip_of

HISTORY_MAX = 1_024
"""Blocks of one fee history."""

LOGS_MAX = 10_000
"""Blocks of which logs are told at once."""

SLOTS_MAX = 1_024
"""Slots of storage of which proofs are told at once."""


class DevelopmentNode:
    """A chain, and what its methods may change besides: how late the next block is, and whether it is due now."""

    def __init__(self, chain: PythonChain, version: str) -> None:
        self.chain = chain
        self.version = version
        self.later = 0
        """Seconds by which the next block is later than it would be."""
        self.due: Callable[[], None] = lambda: None
        """Is told that a block is wanted now, whether or not one waits for something."""
        self.sent: Callable[[], None] = lambda: None
        """Is told that a transaction waits."""


Method = Callable[[DevelopmentNode, list[Any]], Any]


def _at(params: list[Any], index: int) -> Any:
    return params[index] if index < len(params) else None


def _number(chain: PythonChain, value: Any) -> int | None:
    """Return the number that a block parameter means; None if there is no such block. Raise InvalidInput."""
    if value is None or value in ("latest", "pending", "safe", "finalized"):
        return int(chain.head.block_number)
    if value == "earliest":
        return 0
    if isinstance(value, dict):  # EIP-1898
        if "blockHash" in value:
            return chain.number_of(read_bytes(value["blockHash"], "blockHash", 32))
        value = value.get("blockNumber")
    number = read_quantity(value, "block number")
    return number if chain.block(number) is not None else None


def _state_number(chain: PythonChain, value: Any) -> int:
    number = _number(chain, value)
    if number is None:
        raise InvalidInput("header not found")
    return number


def _block(chain: PythonChain, number: int | None, full: Any) -> Any:
    found = None if number is None else chain.block(number)
    return None if found is None else shapes.write_block(*found, full=full is True)


def _transaction(node: DevelopmentNode, params: list[Any]) -> Any:
    hash = read_bytes(_at(params, 0), "hash", 32)
    found = node.chain.find(hash)
    return None if found is None else shapes.write_transaction(found, node.chain.mined.get(hash))


def _receipt(node: DevelopmentNode, params: list[Any]) -> Any:
    mined = node.chain.mined.get(read_bytes(_at(params, 0), "hash", 32))
    return None if mined is None else shapes.write_receipt(mined)


def _nonce(node: DevelopmentNode, params: list[Any]) -> Any:
    account, block = read_address(_at(params, 0)), _at(params, 1)
    if block == "pending":
        return quantity(node.chain.waits(account))
    return quantity(node.chain.state(_state_number(node.chain, block)).get_nonce(account))


def _balance(node: DevelopmentNode, params: list[Any]) -> Any:
    state = node.chain.state(_state_number(node.chain, _at(params, 1)))
    return quantity(state.get_balance(read_address(_at(params, 0))))


def _code(node: DevelopmentNode, params: list[Any]) -> Any:
    state = node.chain.state(_state_number(node.chain, _at(params, 1)))
    return to_hex(state.get_code(read_address(_at(params, 0))))


def _storage(node: DevelopmentNode, params: list[Any]) -> Any:
    state = node.chain.state(_state_number(node.chain, _at(params, 2)))
    slot = read_quantity(_at(params, 1), "slot")
    return to_hex(state.get_storage(read_address(_at(params, 0)), slot).to_bytes(32, "big"))


def _proof(node: DevelopmentNode, params: list[Any]) -> Any:
    account, number = read_address(_at(params, 0)), _state_number(node.chain, _at(params, 2))
    keys = _at(params, 1)
    if not isinstance(keys, list) or len(keys) > SLOTS_MAX:
        raise InvalidInput(f"slots are a list of at most {SLOTS_MAX}")
    slots = [int.from_bytes(read_bytes(key, "slot", 32), "big") for key in keys]
    return shapes.write_proof(account, keys, node.chain.proof(account, slots, number))


def _asked(value: Any) -> CallQuestion:
    if not isinstance(value, dict):
        raise InvalidInput("a call is an object")
    asked = CallQuestion()
    for name, read in (("from", read_address), ("to", read_address), ("data", read_bytes), ("input", read_bytes)):
        if value.get(name) is not None:
            field = {"from": "sender", "input": "data"}.get(name, name)
            asked = msgspec.structs.replace(asked, **{field: bytes(read(value[name], name))})
    for name in ("value", "gas"):
        if value.get(name) is not None:
            asked = msgspec.structs.replace(asked, **{name: read_quantity(value[name], name)})
    return asked


def _call(node: DevelopmentNode, params: list[Any]) -> Any:
    return to_hex(node.chain.call(_asked(_at(params, 0)), _state_number(node.chain, _at(params, 1))))


def _estimate(node: DevelopmentNode, params: list[Any]) -> Any:
    return quantity(node.chain.estimate(_asked(_at(params, 0)), _state_number(node.chain, _at(params, 1))))


def _send_raw(node: DevelopmentNode, params: list[Any]) -> Any:
    hash = node.chain.submit(read_bytes(_at(params, 0), "transaction"))
    node.sent()
    return to_hex(hash)


def _send(node: DevelopmentNode, params: list[Any]) -> Any:
    asked = _asked(_at(params, 0))
    if asked.sender != RICH.public_key.to_canonical_address() or asked.data or not asked.to:
        raise InvalidInput("this node sends plain coins of its own account alone")
    hash = node.chain.give(asked.to, asked.value)
    node.sent()
    return to_hex(hash)


def _logs(node: DevelopmentNode, params: list[Any]) -> Any:
    chain, asked = node.chain, _at(params, 0)
    if not isinstance(asked, dict):
        raise InvalidInput("eth_getLogs takes an object")
    if "blockHash" in asked:
        first = last = _state_number(chain, {"blockHash": asked["blockHash"]})
    else:
        begin, end = (_number(chain, asked.get(name)) for name in ("fromBlock", "toBlock"))
        if begin is None or end is None or end < begin:
            raise InvalidInput("invalid block range params")
        first, last = begin, end
    if last - first >= LOGS_MAX:
        raise InvalidInput(f"block range exceeds {LOGS_MAX}")
    addresses, topics = _addresses(asked.get("address")), _topics(asked.get("topics"))
    return [
        shapes.write_log(mined, at)
        for _, mined_in in (chain.block(number) or (None, ()) for number in range(first, last + 1))
        for mined in mined_in
        for at, log in enumerate(mined.logs)
        if (addresses is None or log.address in addresses) and _fits(log.topics, topics)
    ]


def _addresses(value: Any) -> set[bytes] | None:
    if value is None:
        return None
    return {bytes(read_address(each)) for each in (value if isinstance(value, list) else [value])}


def _topics(value: Any) -> list[set[int] | None]:
    """Return of each place the topics that may stand there, None for any."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidInput("topics are a list")
    places: list[set[int] | None] = []
    for place in value:
        choices = place if isinstance(place, list) else [place]
        read = {int.from_bytes(read_bytes(each, "topic", 32), "big") for each in choices if each is not None}
        places.append(read or None)
    return places


def _fits(topics: Any, wanted: list[set[int] | None]) -> bool:
    if len(wanted) > len(topics):
        return False
    return all(each is None or topic in each for topic, each in zip(topics, wanted, strict=False))


def _fee_history(node: DevelopmentNode, params: list[Any]) -> Any:
    chain = node.chain
    count = min(read_quantity(_at(params, 0), "block count"), HISTORY_MAX)
    newest = _state_number(chain, _at(params, 1))
    first = max(0, newest + 1 - count)
    percentiles = [float(each) for each in _at(params, 2) or ()]
    told = [found for number in range(first, newest + 1) if (found := chain.block(number)) is not None]
    bases = [block.header.base_fee_per_gas for block, _ in told]
    return {
        "oldestBlock": quantity(first),
        "baseFeePerGas": [quantity(each) for each in (*bases, chain.next_base_fee(newest))],
        "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block, _ in told],
        "reward": [[quantity(_tip(block, mined, each)) for each in percentiles] for block, mined in told],
    }


def _tip(block: Block, mined: tuple[Mined, ...], percentile: float) -> int:
    """Return the tip up to which this share of the block's gas was paid, none for an empty block."""
    base, passed = block.header.base_fee_per_gas, 0
    paid = sorted((tip_of(each.transaction, base), each.gas) for each in mined)
    for tip, gas in paid:
        passed += gas
        if passed >= block.header.gas_used * percentile / 100:
            return tip
    return 0


def _later(node: DevelopmentNode, params: list[Any]) -> Any:
    value = _at(params, 0)
    node.later += value if isinstance(value, int) else read_quantity(value, "seconds")
    return node.later


def _mine(node: DevelopmentNode, params: list[Any]) -> Any:
    node.due()
    return "0x0"


METHODS: dict[str, Method] = {
    "web3_clientVersion": lambda node, params: node.version,
    "net_version": lambda node, params: str(node.chain.chain_id),
    "eth_chainId": lambda node, params: quantity(node.chain.chain_id),
    "eth_syncing": lambda node, params: False,
    "eth_accounts": lambda node, params: [RICH.public_key.to_address()],
    "eth_blockNumber": lambda node, params: quantity(node.chain.head.block_number),
    "eth_getBlockByNumber": lambda node, params: _block(
        node.chain, _number(node.chain, _at(params, 0)), _at(params, 1)
    ),
    "eth_getBlockByHash": lambda node, params: _block(
        node.chain, node.chain.number_of(read_bytes(_at(params, 0), "hash", 32)), _at(params, 1)
    ),
    "eth_getTransactionByHash": _transaction,
    "eth_getTransactionReceipt": _receipt,
    "eth_getTransactionCount": _nonce,
    "eth_getBalance": _balance,
    "eth_getCode": _code,
    "eth_getStorageAt": _storage,
    "eth_getProof": _proof,
    "eth_call": _call,
    "eth_estimateGas": _estimate,
    "eth_sendRawTransaction": _send_raw,
    "eth_sendTransaction": _send,
    "eth_getLogs": _logs,
    "eth_feeHistory": _fee_history,
    "eth_gasPrice": lambda node, params: quantity(node.chain.head.base_fee_per_gas + 10**9),
    "eth_maxPriorityFeePerGas": lambda node, params: quantity(10**9),
    "evm_increaseTime": _later,
    "evm_mine": _mine,
}
