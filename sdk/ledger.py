"""One account on the simulated ledger: it calls rule modules, looks at them, and reads what they told.

The account's transactions are numbered by the chain. So an account has one user: give a program a key of its own, not
that of a node that runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import trio

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, Amount, AnyAddress, Seconds, Total, to_address
from tallystick.channels.values.arguments import checked
from tallystick.sdk.errors import CallFailed
from tallystick.settlement.chain import Call, ModuleCall, TransferCall
from tallystick.settlement.errors import Reverted
from tallystick.settlement.ethereum.module_calls import ToldByModule, read_answer, read_told, write_call
from tallystick.settlement.port import LedgerChain

ModuleWord: TypeAlias = str | bytes | int | bool
"""One value: an address or 32 bytes, also as hex; a number; True or False."""

ModuleValue: TypeAlias = ModuleWord | list[ModuleWord] | tuple[ModuleWord, ...]
"""What an argument of a module's function may be: a value, or a list of them."""

TIMEOUT = 60.0
"""Seconds for a transaction to be in a block."""


class CallDone(msgspec.Struct, frozen=True):
    """A call that is in a block."""

    transaction: bytes
    block: int
    fee: int
    """In the native coin."""
    expected: Mapping[str, Any]
    """What the call answered when it was tried just before; what it did is in `told`."""
    told: tuple[ToldByModule, ...]


@checked
def module_call(
    module: str,
    function: str,
    values: Sequence[ModuleValue] = (),
    *,
    value: Total = 0,
    then: Sequence[ModuleCall] = (),
) -> ModuleCall:
    """Return a call, to be made within another one (`then`). Raise InvalidInput if it does not fit."""
    return write_call(module, function, values, value=value, then=then)


class LedgerAccount:
    """An account, by its key, on the ledger that a chain node serves (`open_rpc_chain`) or that is in this process."""

    @checked
    def __init__(self, chain: LedgerChain, key: PrivateKey) -> None:
        self._chain = chain
        self._key = key

    @property
    def address(self) -> Address:
        """Of the account."""
        return self._key.address

    @checked
    async def read(self, module: str, view: str, values: Sequence[ModuleValue] = ()) -> dict[str, Any]:
        """Return what a module's view says now, by name. Raise CallFailed if it refuses, or InvalidInput."""
        return await self._look(write_call(module, view, values))

    @checked
    async def quote(self, call: ModuleCall) -> dict[str, Any]:
        """Return what a call of this account would answer now. Raise CallFailed if it would fail."""
        return await self._look(call)

    @checked
    async def call(
        self,
        module: str,
        function: str,
        values: Sequence[ModuleValue] = (),
        *,
        value: Total = 0,
        then: Sequence[ModuleCall] = (),
        timeout: Seconds = TIMEOUT,
    ) -> CallDone:
        """Call a module's function and return once that is in a block.

        It is tried first: what would fail costs no fee. `value` is the most of the native coin that may leave the
        account, `then` are the calls that the function makes. Raise CallFailed if a rule refuses it, InvalidInput if
        the arguments do not fit, trio.TooSlowError if it is in no block in time (it may still come to be in one).
        """
        made = write_call(module, function, values, value=value, then=then)
        expected = await self._look(made)
        with trio.fail_after(timeout):
            done, block, fee = await self._send(made)
        told = tuple(read_told(event) for event in await self._chain.told(done))
        return CallDone(done, block, fee, expected, told)

    @checked
    async def pay(
        self, to: AnyAddress, amount: Amount, asset: AnyAddress = NATIVE, *, timeout: Seconds = TIMEOUT
    ) -> bytes:
        """Pay an account on the ledger; return the transaction's hash once it is in a block. Raise as `call` does."""
        with trio.fail_after(timeout):
            return (await self._send(TransferCall(to_address(asset), to_address(to), amount)))[0]

    @checked
    async def balance(self, asset: AnyAddress = NATIVE) -> int:
        """Return what the account holds."""
        return await self._chain.balance(self.address, to_address(asset))

    async def _look(self, call: ModuleCall) -> dict[str, Any]:
        try:
            return read_answer(call, await self._chain.view(call, self.address))
        except Reverted as error:
            raise CallFailed(str(error), error.code) from error

    async def _send(self, call: Call) -> tuple[bytes, int, int]:
        """Send a transaction, and wait until it is in a block; return its hash, the block's number, and the fee."""
        chain = self._chain
        nonce, price = await chain.nonce(self.address), await chain.fee_price()
        sent = await chain.submit((await chain.sign(self._key, call, nonce, price)).raw)
        head = await chain.head()
        while (receipt := await chain.receipt(sent)) is None:
            await chain.wait(head.hash)
            head = await chain.head()
        if not receipt.success:
            raise CallFailed(receipt.reason, receipt.revert)
        return sent, receipt.block.number, receipt.fee
