"""A chain in process that runs real bytecode: accounts, times, contracts, logs and gas, on an EVM of Rust (pyrevm).

No blocks and no fees: each call is a transaction of its own at the time that is set. For tests of the contracts.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from eth_abi.abi import encode

from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.ethereum.event_logs import Log

if TYPE_CHECKING:
    import pyrevm
else:
    pyrevm = pytest.importorskip(
        "pyrevm", reason="pyrevm has no wheel for Python 3.13: contracts are tried on 3.11 and 3.12"
    )

SPEC = "Cancun"  # spelled otherwise, it would be taken for the newest
GAS_LIMIT = 16_777_216
"""EIP-7825's cap on one transaction."""
RICH = 10**30
_FAILURE = re.compile(r"(Revert|Halt) \{.*?gas_used: (\d+)(?:, output: (0x[0-9a-f]*))?", re.DOTALL)
_ERROR = keccak(b"Error(string)")[:4]


class EvmReverted(TallystickError):
    """A transaction did nothing. `reason` is what a contract said, empty if it said nothing."""

    def __init__(self, reason: str, gas: int) -> None:
        super().__init__(f"reverted: {reason or 'without a word'}")
        self.reason, self.gas = reason, gas


class Outcome(NamedTuple):
    """What a transaction did."""

    answer: bytes
    logs: tuple[tuple[Address, Log], ...]
    gas: int


class Evm:
    """The chain."""

    def __init__(self, *, chain_id: int = 1337, time: int = 1_000) -> None:
        self.chain_id = chain_id
        self._evm = pyrevm.EVM(pyrevm.Env(cfg=pyrevm.CfgEnv(chain_id=chain_id)), spec_id=SPEC)
        self.time = time

    def fund(self, account: Address, amount: int = RICH) -> None:
        """Give an account so many coins in all."""
        self._evm.set_balance(_hex(account), amount)

    def balance(self, account: Address) -> int:
        """What an account holds of the native coin."""
        return self._evm.get_balance(_hex(account))

    def attach(self, account: Address, contract: Address) -> None:
        """Give an account a contract's code, as a delegation (EIP-7702) does."""
        code = self._evm.get_code(_hex(contract))
        fields: dict[str, Any] = {"balance": self.balance(account), "nonce": 0, "code": code}
        self._evm.insert_account_info(_hex(account), pyrevm.AccountInfo(**fields))

    def become(self, account: Address, code: bytes) -> None:
        """Give an account other code, and nothing in its storage."""
        fields: dict[str, Any] = {"balance": self.balance(account), "nonce": 1, "code": code}
        self._evm.insert_account_info(_hex(account), pyrevm.AccountInfo(**fields))

    def deploy(self, code: bytes, by: Address) -> Address:
        """Put a contract on the chain; its bytecode is followed by its arguments."""
        self._set_time()
        at = self._evm.deploy(_hex(by), code)
        self.deployed_gas: int = self._result().gas_used
        return Address(bytes.fromhex(at[2:]))

    def send(self, by: Address, to: Address, data: bytes = b"", value: int = 0, *, gas: int = GAS_LIMIT) -> Outcome:
        """Run a transaction; raise EvmReverted if it did nothing."""
        self._set_time()
        try:
            answer = self._evm.message_call(_hex(by), _hex(to), calldata=data, value=value, gas=gas)
        except RuntimeError as error:
            raise _reverted(str(error)) from error
        result = self._result()
        logs = tuple(
            (Address(bytes.fromhex(log.address[2:])), Log(tuple(log.data[0]), bytes(log.data[1])))
            for log in result.logs
        )
        return Outcome(bytes(answer), logs, result.gas_used)

    def call(self, to: Address, data: bytes) -> bytes:
        """Ask a view."""
        self._set_time()
        try:
            return bytes(self._evm.message_call(_hex(Address(bytes(20))), _hex(to), calldata=data, is_static=True))
        except RuntimeError as error:
            raise _reverted(str(error)) from error

    def settled(self, slots: dict[Address, Iterable[int]]) -> Evm:
        """Return the same chain after a block's end: nothing is warm, and what is stored counts as stored before.

        Between the calls of one chain both is not so, and their gas is too low. This one holds of a contract's storage
        what is in these slots alone.
        """
        after = Evm(chain_id=self.chain_id, time=self.time)
        for address, info in self._evm.journal_state.items():
            code, balance = self._evm.get_code(address), self._evm.get_balance(address)
            fields: dict[str, Any] = {"balance": balance, "nonce": info.nonce, "code": code}
            # `set_balance` would make all of it warm.
            after._evm.insert_account_info(address, pyrevm.AccountInfo(**fields))
        for account, numbers in slots.items():
            for slot in numbers:
                if value := self._evm.storage(_hex(account), slot):
                    checkpoint = after._evm.snapshot()
                    after._evm.insert_account_storage(_hex(account), slot, value)
                    after._evm.revert(checkpoint)  # it stays in the database, and is cold again
        return after

    def _result(self) -> Any:
        return self._evm.result

    def _set_time(self) -> None:
        self._evm.set_block_env(pyrevm.BlockEnv(timestamp=self.time, gas_limit=60_000_000))


def _hex(account: Address) -> str:
    return "0x" + account.hex()


def _reverted(text: str) -> EvmReverted:
    found = _FAILURE.match(text)
    if found is None:
        raise RuntimeError(text)
    kind, gas, output = found.groups()
    data = bytes.fromhex((output or "0x")[2:])
    return EvmReverted(reason_in(data) if kind == "Revert" else "out of gas", int(gas))


def reason_in(data: bytes) -> str:
    """Return the sentence that a contract reverted with."""
    if data[:4] != _ERROR:
        return data.hex()
    return data[68 : 68 + int.from_bytes(data[36:68], "big")].decode()


def selector(signature: str) -> bytes:
    """Return the first four bytes of a call's data."""
    return keccak(signature.encode())[:4]


def calldata(name: str, types: tuple[str, ...], values: tuple[Any, ...]) -> bytes:
    """Return a call's data."""
    return selector(f"{name}({','.join(types)})") + encode(types, values)


def compiled(sources: Mapping[str, str]) -> dict[str, bytes]:
    """Return what deploys the contract of each source, before its arguments; one process compiles all of them."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.vy" for name in sources]
        for file, source in zip(files, sources.values(), strict=True):
            file.write_text(source, "utf-8")
        done = subprocess.run([sys.executable, "-m", "vyper", *files], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return {name: bytes.fromhex(line[2:]) for name, line in zip(sources, done.stdout.split(), strict=True)}
