"""A ledger for tests of rule modules: calls by name, blocks of a time that the test sets, and what must always hold."""

from __future__ import annotations

from typing import Any

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import LedgerEvent, ModuleCall
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.abi import Signature
from tallystick.settlement.modules.table import MODULES
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint, mint
from tallystick.settlement.simulated.module_calls import ask_module, run_module
from tallystick.settlement.simulated.world import Layer, balance_key, check_conservation

ALICE, BOB, CAROL, DAVE = (PrivateKey(keccak(name)).address for name in (b"alice", b"bob", b"carol", b"dave"))
PEOPLE = (ALICE, BOB, CAROL, DAVE)
GOLD, SILVER = Address(b"\x70" * 20), Address(b"\x71" * 20)
ASSETS = (NATIVE, GOLD, SILVER)
START = 10**24
EVER = 2**63
"""A deadline that is never over."""


class ModuleLedger:
    """Three assets, four people who hold START of each, and all modules."""

    def __init__(self) -> None:
        self.state = Layer({})
        self.time = 1_000_000
        self.told: tuple[LedgerEvent, ...] = ()
        """By the newest call."""
        for asset in ASSETS:
            for account in PEOPLE:
                mint(self.state, Parameters(1337, ADJUDICATOR, 1_000), Mint(account, asset, START))

    def call(self, by: Address, module: str, function: str, *values: Any, value: int | None = None) -> tuple[Any, ...]:
        """Return what a call returned, after it was done; raise Reverted, with nothing changed."""
        data = calldata(module, function, *values)
        answer = self.read(module, function, *values, by=by)
        attempt = Layer(self.state)
        carried = self.balance(by, NATIVE) if value is None else value
        made = ModuleCall(MODULES[module].address, data, carried)
        self.told = run_module(attempt, by, made, self.time, ADJUDICATOR)
        check_conservation(attempt.before(), attempt.changes, ADJUDICATOR)
        self.state.changes.update(attempt.changes)
        return answer

    def refused(self, by: Address, module: str, function: str, *values: Any, value: int | None = None) -> Revert | None:
        """Return why a call is refused, None if it was done."""
        try:
            self.call(by, module, function, *values, value=value)
        except Reverted as error:
            return error.code
        return None

    def read(self, module: str, function: str, *values: Any, by: Address = NATIVE) -> tuple[Any, ...]:
        """Return what a function would return."""
        call = ModuleCall(MODULES[module].address, calldata(module, function, *values), self.balance(by, NATIVE))
        data = ask_module(self.state, call, by, self.time, ADJUDICATOR)
        return signature(module, function).decode_result(data)

    def balance(self, account: Address, asset: Address) -> int:
        """Return what an account holds."""
        return self.state.number(balance_key(asset, account))

    def wealth(self, account: Address) -> dict[Address, int]:
        """Return what an account holds of each asset."""
        return {asset: self.balance(account, asset) for asset in ASSETS}

    def check_conservation(self) -> None:
        """Raise LedgerBroken if a coin was made or lost since the beginning."""
        check_conservation({}, self.state.changes, ADJUDICATOR)


def signature(module: str, function: str) -> Signature:
    """Return a function as the ABI names it."""
    found = MODULES[module].functions[function]
    return Signature(function, found.form.types, tuple(result.type for result in found.results))


def calldata(module: str, function: str, *values: Any) -> bytes:
    """Return the calldata of a call."""
    return signature(module, function).encode_call(*values)
