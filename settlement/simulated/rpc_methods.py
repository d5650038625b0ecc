"""What a chain node answers over JSON-RPC: one function per method, over a `SimulatedChain`.

Where Ethereum has the same notion, name and encoding are Ethereum's (execution-apis). What it lacks is `tally_*`:

| method              | parameters                 | result                                                    |
| ------------------- | -------------------------- | --------------------------------------------------------- |
| tally_contract      |                            | address of the adjudicator                                |
| tally_blocks        | first number, limit        | consecutive headers of one branch, each with its `logs`   |
| tally_waitHead      | known hash, seconds        | the head's header, as soon as it differs from the known   |
| tally_mine          | count                      | the new head's header (development chains)                |
| tally_mint          | account, amount, asset     | true; the coins are in the next block (development chains) |

A shard answers more: `rpc_shards`.

State is always that after the newest block: `latest` is the only block parameter that `eth_call`, `eth_getBalance` and
`eth_getTransactionCount` take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.settlement.chain import ModuleCall
from tallystick.settlement.ethereum.event_logs import write_event
from tallystick.settlement.ethereum.rpc_shapes import (
    FAILURES,
    REASON,
    quantity,
    read_address,
    read_bytes,
    read_quantity,
    to_hex,
    write_failure,
    write_header,
)
from tallystick.settlement.ethereum.transactions import TRANSACTION_MAX, decode_transaction
from tallystick.settlement.ethereum.views import (
    ALLOWANCE,
    BALANCE_OF,
    CHANNEL,
    CHANNEL_COUNT,
    OWED,
    SECRET_TIME,
    encode_channel,
)
from tallystick.settlement.modules.table import MODULES_AT
from tallystick.settlement.simulated.chain import BLOCKS_MAX, SimulatedChain
from tallystick.settlement.simulated.ledger import MINER, BlockRecord, Entry, Mint
from tallystick.settlement.simulated.rpc_shards import SHARD_METHODS

WAIT_MAX = 30
"""Seconds that `tally_waitHead` waits at most."""

LOGS_MAX = 10_000
"""Logs in one answer, beyond which an answer about several blocks ends early or is refused."""

MINE_MAX = 1_000
"""Blocks mined by one call."""

Method = Callable[[SimulatedChain, list[Any]], Awaitable[Any]]


async def _chain_id(chain: SimulatedChain, params: list[Any]) -> Any:
    return quantity(chain.chain_id)


async def _block_number(chain: SimulatedChain, params: list[Any]) -> Any:
    return quantity((await chain.head()).number)


async def _block_by_number(chain: SimulatedChain, params: list[Any]) -> Any:
    return _write_block(chain, chain.record(_read_number(chain, _at(params, 0))))


async def _block_by_hash(chain: SimulatedChain, params: list[Any]) -> Any:
    return _write_block(chain, chain.find(read_bytes(_at(params, 0), "block hash", 32)))


async def _get_logs(chain: SimulatedChain, params: list[Any]) -> Any:
    filter = _at(params, 0)
    if not isinstance(filter, dict):
        raise InvalidInput("eth_getLogs takes a filter object")
    if "blockHash" in filter:
        found = chain.find(read_bytes(filter["blockHash"], "blockHash", 32))
        records: tuple[BlockRecord, ...] = (found,) if found else ()
    else:
        first = _read_number(chain, filter.get("fromBlock", "latest"))
        last = _read_number(chain, filter.get("toBlock", "latest"))
        if last - first >= BLOCKS_MAX:
            raise InvalidInput(f"ask for the logs of at most {BLOCKS_MAX} blocks at a time")
        records = chain.slice(first, last - first + 1)
    logs = [log for record in records for log in _write_logs(record, chain.contract) if _matches(log, filter)]
    if len(logs) > LOGS_MAX:
        raise InvalidInput(f"these are {len(logs)} logs, more than {LOGS_MAX}; ask for fewer blocks")
    return logs


def _matches(log: dict[str, Any], filter: dict[str, Any]) -> bool:
    """Whether a log passes a filter's `address` and `topics`: each one value, a list of alternatives, or null."""
    wanted = [filter.get("address"), *(filter.get("topics") or ())]
    found = [log["address"], *log["topics"]]
    return len(wanted) <= len(found) and all(
        want is None or have in ([item.lower() for item in want] if isinstance(want, list) else [str(want).lower()])
        for want, have in zip(wanted, found, strict=False)
    )


async def _send_raw_transaction(chain: SimulatedChain, params: list[Any]) -> Any:
    raw = _at(params, 0)
    if isinstance(raw, str) and len(raw) > 2 * TRANSACTION_MAX + 2:
        raise InvalidInput(f"a transaction has at most {TRANSACTION_MAX} bytes")
    return to_hex(await chain.submit(read_bytes(raw, "transaction")))


async def _receipt(chain: SimulatedChain, params: list[Any]) -> Any:
    hash = read_bytes(_at(params, 0), "transaction hash", 32)
    receipt = await chain.receipt(hash)
    record = chain.record(receipt.block.number) if receipt else None
    if record is None:
        return None
    entry = next(entry for entry in record.entries if entry.hash == hash)
    return _write_receipt(chain, entry, record)


async def _nonce(chain: SimulatedChain, params: list[Any]) -> Any:
    _check_latest(params, 1)
    return quantity(await chain.nonce(read_address(_at(params, 0))))


async def _balance(chain: SimulatedChain, params: list[Any]) -> Any:
    _check_latest(params, 1)
    return quantity(await chain.balance(read_address(_at(params, 0)), NATIVE))


async def _fee_price(chain: SimulatedChain, params: list[Any]) -> Any:
    return quantity(await chain.fee_price())


async def _call(chain: SimulatedChain, params: list[Any]) -> Any:
    _check_latest(params, 1)
    call = _at(params, 0)
    if not isinstance(call, dict):
        raise InvalidInput("eth_call takes a call object")
    to, data = read_address(call.get("to"), "to"), read_bytes(call.get("data", call.get("input")))
    if to in MODULES_AT:
        caller = read_address(call["from"], "from") if "from" in call else NATIVE
        value = read_quantity(call["value"], "value") if "value" in call else 0
        return to_hex(await chain.view(ModuleCall(to, data, value), caller))
    if to == chain.contract and data[:4] == CHANNEL.selector:
        (id,) = CHANNEL.decode_call(data)
        return to_hex(encode_channel(await chain.channel(ChannelId(id))))
    if to == chain.contract and data[:4] == CHANNEL_COUNT.selector:
        return to_hex(CHANNEL_COUNT.encode_result(await chain.channel_count(*CHANNEL_COUNT.decode_call(data))))
    if to == chain.contract and data[:4] == SECRET_TIME.selector:
        (digest,) = SECRET_TIME.decode_call(data)
        return to_hex(SECRET_TIME.encode_result(await chain.secret_time(digest) or 0))
    if to == chain.contract and data[:4] == OWED.selector:
        return to_hex(OWED.encode_result(await chain.owed(*OWED.decode_call(data))))
    if to != chain.contract and data[:4] == ALLOWANCE.selector:
        owner, spender = ALLOWANCE.decode_call(data)
        return to_hex(ALLOWANCE.encode_result(await chain.allowance(to, owner) if spender == chain.contract else 0))
    if to != chain.contract and data[:4] == BALANCE_OF.selector:
        (account,) = BALANCE_OF.decode_call(data)
        return to_hex(BALANCE_OF.encode_result(await chain.balance(account, to)))
    raise InvalidInput(f"0x{to.hex()} has no view 0x{data[:4].hex()}")


async def _contract(chain: SimulatedChain, params: list[Any]) -> Any:
    return to_hex(chain.contract)


async def _blocks(chain: SimulatedChain, params: list[Any]) -> Any:
    first, limit = read_quantity(_at(params, 0), "first"), read_quantity(_at(params, 1), "limit")
    answer: list[dict[str, Any]] = []
    room = LOGS_MAX
    for record in chain.slice(first, limit):
        logs = [log for log in _write_logs(record, chain.contract) if log["address"] == to_hex(chain.contract)]
        room -= len(logs)
        if room < 0 and answer:
            break
        answer.append({**write_header(record.header), "logs": logs})
    return answer


async def _wait_head(chain: SimulatedChain, params: list[Any]) -> Any:
    known, seconds = read_bytes(_at(params, 0), "known hash", 32), read_quantity(_at(params, 1), "seconds")
    with trio.move_on_after(min(seconds, WAIT_MAX)):
        await chain.wait(known)
    return write_header(await chain.head())


async def _mine(chain: SimulatedChain, params: list[Any]) -> Any:
    count = read_quantity(params[0], "count") if params else 1
    if not chain.settings.dev or not 1 <= count <= MINE_MAX:
        raise InvalidInput(f"from 1 to {MINE_MAX} blocks can be mined on demand, on a development chain (--dev)")
    return write_header(chain.mine(count))


async def _mint(chain: SimulatedChain, params: list[Any]) -> Any:
    asset: Address = read_address(params[2], "asset") if len(params) > 2 else NATIVE
    order = Mint(read_address(_at(params, 0), "account"), asset, read_quantity(_at(params, 1), "amount"))
    await chain.order_mint(order)
    return True


METHODS: dict[str, Method] = {
    "eth_chainId": _chain_id,
    "eth_blockNumber": _block_number,
    "eth_getBlockByNumber": _block_by_number,
    "eth_getBlockByHash": _block_by_hash,
    "eth_getLogs": _get_logs,
    "eth_sendRawTransaction": _send_raw_transaction,
    "eth_getTransactionReceipt": _receipt,
    "eth_getTransactionCount": _nonce,
    "eth_getBalance": _balance,
    "eth_gasPrice": _fee_price,
    "eth_call": _call,
    "tally_contract": _contract,
    "tally_blocks": _blocks,
    "tally_waitHead": _wait_head,
    "tally_mine": _mine,
    "tally_mint": _mint,
    **SHARD_METHODS,
}


def _write_block(chain: SimulatedChain, record: BlockRecord | None) -> dict[str, Any] | None:
    """Return a block as `eth_getBlockByNumber` gives it, with the hashes of its transactions."""
    if record is None:
        return None
    return {
        **write_header(record.header),
        "transactions": [to_hex(entry.hash) for entry in record.entries],
        "gasUsed": quantity(sum(entry.execution.gas for entry in record.entries)),
        "gasLimit": quantity(chain.settings.gas_limit),
        "baseFeePerGas": "0x0",
        "miner": to_hex(MINER),
        "extraData": "0x",
    }


def _write_logs(record: BlockRecord, contract: Address) -> list[dict[str, Any]]:
    """Return the logs of a block as `eth_getLogs` gives them."""
    logs = []
    for position, (index, transaction, event) in enumerate(record.logs()):
        teller, log = write_event(event, contract)
        logs.append(
            {
                "address": to_hex(teller),
                "topics": [to_hex(topic) for topic in log.topics],
                "data": to_hex(log.data),
                "blockNumber": quantity(record.header.number),
                "blockHash": to_hex(record.header.hash),
                "transactionHash": to_hex(transaction),
                "transactionIndex": quantity(index),
                "logIndex": quantity(position),
                "removed": False,
            }
        )
    return logs


def _write_receipt(chain: SimulatedChain, entry: Entry, record: BlockRecord) -> dict[str, Any]:
    """Return a receipt as `eth_getTransactionReceipt` gives it."""
    transaction = decode_transaction(entry.raw, chain.chain_id)
    done = entry.execution
    return {
        "transactionHash": to_hex(entry.hash),
        "transactionIndex": quantity(record.entries.index(entry)),
        "blockNumber": quantity(record.header.number),
        "blockHash": to_hex(record.header.hash),
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.envelope.to),
        "contractAddress": None,
        "type": "0x2",
        "status": quantity(done.success),
        "gasUsed": quantity(done.gas),
        "effectiveGasPrice": quantity(transaction.price),
        "logs": [log for log in _write_logs(record, chain.contract) if log["transactionHash"] == to_hex(entry.hash)],
        REASON: done.reason,
        FAILURES: [write_failure(failure) for failure in done.failures],
    }


def _at(params: list[Any], index: int) -> Any:
    if index >= len(params):
        raise InvalidInput(f"parameter {index + 1} is missing")
    return params[index]


def _check_latest(params: list[Any], index: int) -> None:
    if len(params) > index and params[index] != "latest":
        raise InvalidInput("only the state at `latest` is known")


def _read_number(chain: SimulatedChain, value: object) -> int:
    if value == "earliest":
        return 0
    if value in ("latest", "pending", "safe", "finalized"):
        return chain.newest.header.number
    return read_quantity(value, "block number")
