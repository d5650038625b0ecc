"""What a chain node answers over JSON-RPC: one function per method, over a `SimulatedChain`.

Where Ethereum has the same notion, name and encoding are Ethereum's (execution-apis). What it lacks is `tally_*`:

| method              | parameters                 | result                                                    |
| ------------------- | -------------------------- | --------------------------------------------------------- |
| tally_contract      |                            | address of the adjudicator                                |
| tally_blocks        | first number, limit        | consecutive headers of one branch, each with its `logs`   |
| tally_waitHead      | known hash, seconds        | the head's header, as soon as it differs from the known   |
| tally_mine          | count                      | the new head's header (development chains)                |
| tally_mint          | account, amount, asset     | true; the coins are in the next block (development chains) |

A shard answers more: `rpc_shards`. What wallets and libraries ask besides is in `rpc_wallets`.

State is always that after the newest block: `eth_call`, `eth_getBalance` and `eth_getTransactionCount` know no other.
With `pending`, the last one counts what waits in the pool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.settlement.chain import ApproveCall, ModuleCall, TransferCall
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.rpc_shapes import (
    quantity,
    read_address,
    read_bytes,
    read_quantity,
    to_hex,
    write_header,
)
from tallystick.settlement.ethereum.transactions import TRANSACTION_MAX
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
from tallystick.settlement.simulated.ledger import BlockRecord, Mint
from tallystick.settlement.simulated.rpc_records import (
    check_newest,
    parameter,
    read_number,
    write_block,
    write_logs,
    write_receipt,
)
from tallystick.settlement.simulated.rpc_shards import SHARD_METHODS
from tallystick.settlement.simulated.rpc_wallets import WALLET_METHODS, try_out

WAIT_MAX = 30
"""Seconds that `tally_waitHead` waits at most."""

LOGS_MAX = 10_000
"""Logs in one answer, beyond which an answer about several blocks ends early or is refused."""

MINE_MAX = 1_000
"""Blocks mined by one call."""

TRUE = (1).to_bytes(32, "big")
"""What a token's `transfer` and `approve` return."""

Method = Callable[[SimulatedChain, list[Any]], Awaitable[Any]]


async def _chain_id(chain: SimulatedChain, params: list[Any]) -> Any:
    return quantity(chain.chain_id)


async def _block_number(chain: SimulatedChain, params: list[Any]) -> Any:
    return quantity((await chain.head()).number)


async def _block_by_number(chain: SimulatedChain, params: list[Any]) -> Any:
    return write_block(chain, chain.record(read_number(chain, parameter(params, 0))), full=_full(params))


async def _block_by_hash(chain: SimulatedChain, params: list[Any]) -> Any:
    return write_block(chain, chain.find(read_bytes(parameter(params, 0), "block hash", 32)), full=_full(params))


def _full(params: list[Any]) -> bool:
    """Whether a block's transactions are wanted, and not their hashes alone."""
    return len(params) > 1 and params[1] is True


async def _get_logs(chain: SimulatedChain, params: list[Any]) -> Any:
    filter = parameter(params, 0)
    if not isinstance(filter, dict):
        raise InvalidInput("eth_getLogs takes a filter object")
    if "blockHash" in filter:
        found = chain.find(read_bytes(filter["blockHash"], "blockHash", 32))
        records: tuple[BlockRecord, ...] = (found,) if found else ()
    else:
        first = read_number(chain, filter.get("fromBlock", "latest"))
        last = read_number(chain, filter.get("toBlock", "latest"))
        if last - first >= BLOCKS_MAX:
            raise InvalidInput(f"ask for the logs of at most {BLOCKS_MAX} blocks at a time")
        records = chain.slice(first, last - first + 1)
    logs: list[dict[str, Any]] = []
    for record in records:
        await trio.lowlevel.checkpoint()  # they may be many, and others wait
        logs += [log for log in write_logs(record, chain.contract) if _matches(log, filter)]
        if len(logs) > LOGS_MAX:
            raise InvalidInput(f"these are more than {LOGS_MAX} logs; ask for fewer blocks")
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
    raw = parameter(params, 0)
    if isinstance(raw, str) and len(raw) > 2 * TRANSACTION_MAX + 2:
        raise InvalidInput(f"a transaction has at most {TRANSACTION_MAX} bytes")
    return to_hex(await chain.submit(read_bytes(raw, "transaction")))


async def _receipt(chain: SimulatedChain, params: list[Any]) -> Any:
    hash = read_bytes(parameter(params, 0), "transaction hash", 32)
    receipt = await chain.receipt(hash)
    record = chain.record(receipt.block.number) if receipt else None
    if record is None:
        return None
    return write_receipt(chain, record, next(i for i, entry in enumerate(record.entries) if entry.hash == hash))


async def _nonce(chain: SimulatedChain, params: list[Any]) -> Any:
    check_newest(chain, params, 1)
    account = read_address(parameter(params, 0))
    nonce = await chain.nonce(account)
    if len(params) > 1 and params[1] == "pending":
        for waiting in chain.waiting():  # each account's in order
            nonce += waiting.sender == account and waiting.nonce == nonce
    return quantity(nonce)


async def _balance(chain: SimulatedChain, params: list[Any]) -> Any:
    check_newest(chain, params, 1)
    return quantity(await chain.balance(read_address(parameter(params, 0)), NATIVE))


async def _fee_price(chain: SimulatedChain, params: list[Any]) -> Any:
    return quantity(await chain.fee_price())


async def _call(chain: SimulatedChain, params: list[Any]) -> Any:
    check_newest(chain, params, 1)
    call = parameter(params, 0)
    if not isinstance(call, dict):
        raise InvalidInput("eth_call takes a call object")
    to, data = read_address(call.get("to"), "to"), read_bytes(call.get("data", call.get("input")))
    if not data and to != chain.contract and to not in MODULES_AT:  # an account has no code that could answer
        return "0x"
    caller = read_address(call["from"], "from") if call.get("from") is not None else NATIVE
    value = read_quantity(call["value"], "value") if call.get("value") is not None else 0
    if to in MODULES_AT:
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
    try:
        tried = try_out(chain, Envelope(to, value, data), caller)
    except Reverted as error:
        if error.code == Revert.UNKNOWN_CALL:
            raise InvalidInput(f"0x{to.hex()} has no view 0x{data[:4].hex()}: {error}") from error
        raise
    return to_hex(TRUE) if isinstance(tried.call, TransferCall | ApproveCall) else "0x"


async def _contract(chain: SimulatedChain, params: list[Any]) -> Any:
    return to_hex(chain.contract)


async def _blocks(chain: SimulatedChain, params: list[Any]) -> Any:
    first, limit = read_quantity(parameter(params, 0), "first"), read_quantity(parameter(params, 1), "limit")
    answer: list[dict[str, Any]] = []
    room = LOGS_MAX
    for record in chain.slice(first, limit):
        await trio.lowlevel.checkpoint()
        logs = [log for log in write_logs(record, chain.contract) if log["address"] == to_hex(chain.contract)]
        room -= len(logs)
        if room < 0 and answer:
            break
        answer.append({**write_header(record.header), "logs": logs})
    return answer


async def _wait_head(chain: SimulatedChain, params: list[Any]) -> Any:
    known, seconds = read_bytes(parameter(params, 0), "known hash", 32), read_quantity(parameter(params, 1), "seconds")
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
    order = Mint(read_address(parameter(params, 0), "account"), asset, read_quantity(parameter(params, 1), "amount"))
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
    **WALLET_METHODS,
    **SHARD_METHODS,
}
