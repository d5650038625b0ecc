"""A rollup on its chain, over JSON-RPC: what it is, what was told of it, and calls. One node is asked and believed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import httpx
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.sdk.errors import CallFailed
from tallystick.sdk.rollup.calls import (
    MODULE,
    NUMBERS,
    PAYING,
    TERMS,
    RollupCall,
    RollupFacts,
    RollupPlace,
    creation_code,
    read_module_facts,
    read_rollup_log,
    write_rollup_call,
)
from tallystick.sdk.rollup.code import check_judge, read_judge
from tallystick.sdk.rollup.terms import check_terms
from tallystick.settlement.chain import Header, ModuleCall
from tallystick.settlement.errors import ChainError, ChainUnavailable, RpcError
from tallystick.settlement.ethereum.abi import Envelope, Signature
from tallystick.settlement.ethereum.evm.endpoint import TIMEOUT, Endpoint, NodeQuestion
from tallystick.settlement.ethereum.evm.fees import HISTORY, PERCENTILE, read_history
from tallystick.settlement.ethereum.evm.profiles import profile_of
from tallystick.settlement.ethereum.evm.questions import call_of, read_answer, result
from tallystick.settlement.ethereum.http import make_client
from tallystick.settlement.ethereum.module_calls import read_answer as read_module_answer
from tallystick.settlement.ethereum.module_calls import write_call
from tallystick.settlement.ethereum.rpc_shapes import (
    quantity,
    read_address,
    read_bytes,
    read_header,
    read_quantity,
    to_hex,
)
from tallystick.settlement.ethereum.transactions import FIGURES, gas_of, sign_creation, sign_envelope, transaction_hash
from tallystick.settlement.ethereum.views import read_revert_data
from tallystick.settlement.rollup.events import RollupEvent
from tallystick.settlement.rollup.rules import Place

T = TypeVar("T")

GAS_MAX = 2**24
"""Of one transaction on an EVM (EIP-7825)."""

LOOK_SECONDS = 0.5
"""Between two looks for a receipt, or at the head of a chain that does not tell of it."""

WAIT = 5
"""Seconds that a chain node is asked to wait for a new head."""

LEDGER_FINAL = FIGURES.final_blocks
"""Blocks of the simulated ledger that a reorganisation may replace: it calls none final."""

BLOCKS_MAX = 500
"""Of which logs are asked for at a time."""

_WORD = ("uint256",)
_ALLOWANCE = Signature("allowance", ("address", "address"), ("uint256",))
_APPROVE = Signature("approve", ("address", "uint256"))
_ADDRESSES = ("address", "address")


class ToldLog(NamedTuple):
    """A log of the rollup's, as it was told."""

    number: int
    """Of its block."""
    position: int
    """In its block."""
    topics: tuple[bytes, ...]
    data: bytes


class RollupChain:
    """Make it with `open_rollup_chain`."""

    def __init__(self, endpoint: Endpoint, chain_id: int, place: RollupPlace, *, is_ledger: bool) -> None:
        self._endpoint = endpoint
        self._caps: dict[tuple[Address, int], int] = {}
        """What was offered for a transaction by account and number: one in its place must offer more."""
        self._is_checked = False
        """Whether the contract's code was looked at."""
        self.chain_id = chain_id
        self.at = place
        self.is_ledger = is_ledger
        """Whether it is on the simulated ledger."""

    def __repr__(self) -> str:
        return f"<RollupChain {self.at} at {self._endpoint.url}>"

    @property
    def teller(self) -> Address:
        """Whose logs tell of it."""
        return self.at.contract or MODULE.address

    async def head(self) -> Header:
        """Return the newest block."""
        return await self._read(read_header, "eth_getBlockByNumber", "latest", False)

    async def header(self, number: int) -> Header | None:
        """Return a block by its number, None above the head."""
        answer = await self._ask("eth_getBlockByNumber", quantity(number), False)
        return None if answer is None else read_answer(read_header, answer)

    async def final_number(self) -> int:
        """Return the newest block that no reorganisation reaches: as the chain says, or by depth if it does not."""
        head = await self.head()
        if self.is_ledger:
            return max(0, head.number - LEDGER_FINAL)
        depth = profile_of(self.chain_id).final_blocks
        (said,) = await self._endpoint.ask((NodeQuestion("eth_getBlockByNumber", ("finalized", False)),))
        if isinstance(said, RpcError) or result(said) is None:
            return max(0, head.number - depth)
        at_most = head.number - depth // 2  # some nodes call their newest block final
        return max(0, min(read_answer(read_header, result(said)).number, at_most))

    async def wait(self, known: bytes) -> None:
        """Return once the head's hash may differ from `known`."""
        if self.is_ledger:
            await self._ask("tally_waitHead", to_hex(known), quantity(WAIT))
        else:
            await trio.sleep(LOOK_SECONDS)

    async def logs(self, first: int, last: int) -> list[ToldLog]:
        """Return what was told from one block to another one, in order.

        Full batches are so long that those of some hundred blocks do not fit into an answer: then half is asked for.
        """
        wanted = {"address": to_hex(self.teller), "fromBlock": quantity(first), "toBlock": quantity(last)}
        try:
            found = await self._read(lambda logs: [_read_log(log) for log in logs], "eth_getLogs", wanted)
        except (ChainError, ChainUnavailable):
            if first >= last:
                raise
            middle = (first + last) // 2
            return [*await self.logs(first, middle), *await self.logs(middle + 1, last)]
        return sorted(found)

    def event(self, log: ToldLog) -> RollupEvent | None:
        """Return what a log tells of this rollup; None if nothing."""
        try:
            return read_rollup_log(self.at, log.topics, log.data)
        except InvalidInput as error:
            raise ChainError(f"what the chain node tells of the rollup cannot be right: {error}") from error

    async def facts(self) -> RollupFacts:
        """Return what it is, and where it stands now.

        Raise Reverted if there is none, ChainError if a contract is there that is not of this release, or if it is not
        the rollup that was there before.
        """
        if self.is_ledger:
            found = read_module_facts(await self._module("rollup"))
            if self.at.vault not in (None, found.vault):
                raise ChainError(
                    f"rollup {self.at} is 0x{found.vault.hex()} now, and not 0x{(self.at.vault or b'').hex()}: the "
                    "block that made it has left the chain, and somebody else has its number; nothing is done with it"
                )
            self.at = self.at._replace(vault=found.vault)
            return found
        await self._check_code()
        terms, *numbers = await self._endpoint.ask(
            [
                NodeQuestion("eth_call", ({"to": to_hex(self.teller), "data": to_hex(data)}, "latest"))
                for data in (TERMS.encode_call(), *(Signature(name, ()).encode_call() for name in NUMBERS))
            ]
        )
        operator, *made = TERMS.decode_result(read_answer(read_bytes, terms))
        counted = [int.from_bytes(read_answer(read_bytes, each), "big") for each in numbers]
        return RollupFacts(operator, self.teller, self.chain_id, *made, *counted)

    async def _check_code(self) -> None:
        """Raise ChainError unless the contract and its judge are those of this release. It is asked for once."""
        if self._is_checked:
            return
        code = await self._read(read_bytes, "eth_getCode", to_hex(self.teller), "latest")
        if not code:
            raise ChainError(f"there is no rollup at 0x{self.teller.hex()}")
        judge = read_judge(code, Place(self.chain_id, self.teller))
        check_judge(await self._read(read_bytes, "eth_getCode", to_hex(judge), "latest"), judge)
        self._is_checked = True

    async def rules_of(self) -> Place:
        """Return which rollup it is, for what is signed."""
        facts = await self.facts()
        if facts.chain_id != self.chain_id:  # a rollup of the same number on that chain would take what is signed here
            raise InvalidInput(f"rollup {self.at} takes signatures of chain {facts.chain_id}: this is {self.chain_id}")
        return Place(facts.chain_id, facts.vault)

    async def account(self, owner: Address, asset: Address = NATIVE) -> tuple[int | None, int, int]:
        """Return an account's number (None if it has none), what was paid out to it, and what its owner may claim."""
        if self.is_ledger:
            found = await self._module("accountOf", owner, asset)
            return (found["number"] if found["exists"] else None), found["withdrawn"], found["owed"]
        values = [
            (await self._view(Signature(name, _ADDRESSES, _WORD), asset, owner))[0]
            for name in ("numbers", "paid", "owed")
        ]
        return (values[0] - 1 if values[0] else None), values[1], values[2]

    async def balance(self, account: Address) -> int:
        """Return what an account holds on the chain."""
        return await self._read(read_quantity, "eth_getBalance", to_hex(account), "latest")

    async def check(self, by: Address, call: RollupCall) -> None:
        """Raise Reverted if a call would be refused now."""
        await self._trial("eth_call", call_of(await self._written(call), by), "latest")

    async def _written(self, call: RollupCall) -> Envelope:
        if self.is_ledger and call.name in PAYING:
            await self.facts()  # which one it is now
        return write_rollup_call(self.at, call)

    async def act(self, key: PrivateKey, call: RollupCall, timeout: float = 60) -> bytes:
        """Make a call and return its transaction's hash once that is in a block.

        It is tried first: what would be refused costs nothing. Raise Reverted if it is refused, CallFailed if it came
        to fail in its block, trio.TooSlowError if it is in none in time: it may still come to be.
        """
        await self.check(key.address, call)
        with trio.fail_after(timeout):
            sent = await self._send(key, await self._written(call))
            return await self._mined(sent)

    async def allow(self, key: PrivateKey, token: Address, amount: int) -> None:
        """Let the rollup take so many tokens of the key's account, which an EVM asks for. Raise as `act`."""
        if self.is_ledger:
            return
        allowance = {"to": to_hex(token), "data": to_hex(_ALLOWANCE.encode_call(key.address, self.teller))}
        (allowed,) = _ALLOWANCE.decode_result(await self._read(read_bytes, "eth_call", allowance, "latest"))
        for wanted in (0, amount) if 0 < allowed < amount else (amount,) if allowed < amount else ():
            with trio.fail_after(60):  # some tokens let none be raised but from 0
                approval = Envelope(token, 0, _APPROVE.encode_call(self.teller, wanted))
                await self._mined(await self._send(key, approval))

    async def create(
        self,
        key: PrivateKey,
        numbers: tuple[int, int, int, int, int],
        timeout: float = 60,
        *,
        accept_terms: bool = False,
    ) -> RollupPlace:
        """Make a rollup whose operator is the key's account: bond, window, an order's time, an answer's, the fee.

        Raise InvalidInput if these make no sense (`terms`), unless that is accepted.
        """
        check_terms(*numbers, accept=accept_terms)
        if self.is_ledger:
            made = write_call(MODULE.name, "createRollup", [self.chain_id, *numbers])
            envelope = Envelope(made.module, 0, made.data)
            await self._trial("eth_call", call_of(envelope, key.address), "latest")
            with trio.fail_after(timeout):
                receipt = await self._receipt(await self._mined(await self._send(key, envelope)))
            logs = [_read_log(log) for log in receipt["logs"] if read_address(log["address"]) == MODULE.address]
            return RollupPlace(int.from_bytes(logs[0].data[-32:], "big"))
        code = creation_code(int.from_bytes(key.address, "big"), *numbers)
        gas = await self._read(read_quantity, "eth_estimateGas", {"from": to_hex(key.address), "data": to_hex(code)})
        cap, tip, nonce = await self._offer(key.address)
        raw = sign_creation(key, self.chain_id, code, nonce, cap, tip, min(GAS_MAX, gas * 5 // 4))
        with trio.fail_after(timeout):
            receipt = await self._receipt(await self._mined(await self._submit(raw)))
        return RollupPlace(contract=read_address(receipt.get("contractAddress")))

    async def _send(self, key: PrivateKey, envelope: Envelope) -> bytes:
        cap, tip, nonce = await self._offer(key.address)
        if self.is_ledger:
            gas = gas_of(ModuleCall(envelope.to, envelope.data, envelope.value))
        else:
            estimate = await self._trial("eth_estimateGas", call_of(envelope, key.address))
            gas = min(GAS_MAX, read_answer(read_quantity, estimate) * 5 // 4)
        return await self._submit(sign_envelope(key, self.chain_id, envelope, nonce, cap, tip, gas))

    async def _offer(self, account: Address) -> tuple[int, int, int]:
        """Return cap and tip of a transaction, and its number."""
        nonce = await self._read(read_quantity, "eth_getTransactionCount", to_hex(account), "latest")
        if self.is_ledger:
            cap = tip = await self._read(read_quantity, "eth_gasPrice")
        else:
            tip_min = profile_of(self.chain_id).tip_min
            history = await self._ask("eth_feeHistory", quantity(HISTORY), "latest", [PERCENTILE])
            market = read_answer(lambda value: read_history(value, tip_min), history)
            cap, tip = market.cap, market.tip
        before = self._caps.get((account, nonce))
        if before is not None and cap <= before * 9 // 8:
            tip, cap = tip + (before * 9 // 8 + 1 - cap if self.is_ledger else tip // 8 + 1), before * 9 // 8 + 1
        self._caps = {(account, nonce): cap}
        return cap, min(tip, cap), nonce

    async def _submit(self, raw: bytes) -> bytes:
        await self._ask("eth_sendRawTransaction", to_hex(raw))
        return transaction_hash(raw)

    async def _mined(self, transaction: bytes) -> bytes:
        while not isinstance(found := await self._ask("eth_getTransactionReceipt", to_hex(transaction)), dict):
            await self.wait((await self.head()).hash)
        if read_answer(read_quantity, found.get("status")) != 1:
            raise CallFailed(f"the chain took {to_hex(transaction)}, and refused what it does", None)
        return transaction

    async def _receipt(self, transaction: bytes) -> dict[str, Any]:
        found = await self._ask("eth_getTransactionReceipt", to_hex(transaction))
        if not isinstance(found, dict):
            raise ChainError(f"{to_hex(transaction)} was in a block, and is in none now")
        return found

    async def _module(self, view: str, *values: Any) -> Any:
        call = write_call(MODULE.name, view, [self.at.number, *values])
        answer = await self._trial("eth_call", call_of(Envelope(call.module, 0, call.data), NATIVE), "latest")
        return read_module_answer(call, read_answer(read_bytes, answer))

    async def _view(self, view: Signature, *values: Any) -> tuple[Any, ...]:
        call = {"to": to_hex(self.teller), "data": to_hex(view.encode_call(*values))}
        return view.decode_result(await self._read(read_bytes, "eth_call", call, "latest"))

    async def _trial(self, method: str, *params: Any) -> Any:
        """Ask what may be refused by a rule; raise Reverted if it is."""
        try:
            return await self._ask(method, *params)
        except RpcError as error:
            reverted = read_revert_data(error.data)
            raise reverted if reverted is not None else error from error

    async def _ask(self, method: str, *params: Any) -> Any:
        (answer,) = await self._endpoint.ask((NodeQuestion(method, params),), TIMEOUT + WAIT)
        return result(answer)

    async def _read(self, read: Callable[[Any], T], method: str, *params: Any) -> T:
        return read_answer(read, await self._ask(method, *params))


def _read_log(log: Any) -> ToldLog:
    return ToldLog(
        read_quantity(log["blockNumber"]),
        read_quantity(log["logIndex"]),
        tuple(read_bytes(topic, "topic", 32) for topic in log["topics"]),
        read_bytes(log["data"]),
    )


@asynccontextmanager
async def open_rollup_chain(
    url: str, place: RollupPlace, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[RollupChain]:
    """Give a rollup on the chain whose node is at a URL; `transport` carries the requests (None: TCP).

    Raise ChainUnavailable or ChainError. A place without number and contract is one where a rollup is to be made.
    """
    async with make_client(url, TIMEOUT, transport) as client:
        endpoint = Endpoint(client)
        chain_id, contract = await endpoint.ask((NodeQuestion("eth_chainId"), NodeQuestion("tally_contract")))
        is_ledger = not isinstance(contract, RpcError)
        if (place.contract if is_ledger else place.number) is not None:
            raise InvalidInput("a rollup of a simulated chain is a number, one of a real chain a contract's address")
        yield RollupChain(endpoint, read_answer(read_quantity, chain_id), place, is_ledger=is_ledger)
