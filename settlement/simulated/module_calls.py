"""Carrying out calls of rule modules: calldata is read, the rules run over a layer, and answers are written."""

from __future__ import annotations

from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.settlement.chain import ModuleCall, ModuleEvent
from tallystick.settlement.contract.state import ChannelStatus
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.abi_kinds import write_kinds
from tallystick.settlement.ethereum.abi_values import decode_values, encode_values
from tallystick.settlement.modules.interface import Form, Function, KeptChannel, Module
from tallystick.settlement.modules.table import MODULES_AT, find_function
from tallystick.settlement.simulated.world import Layer, balance_key, module_key, move

DEPTH_MAX = 2
"""How deep calls within calls go: one that is sent, and those that it makes."""


def run_module(
    state: Layer, caller: Address, call: ModuleCall, time: int, contract: Address
) -> tuple[ModuleEvent, ...]:
    """Carry out a call that a transaction carries, and return what was told; raise Reverted.

    `contract` is the adjudicator, which no module pays.
    """
    events: list[ModuleEvent] = []
    purse = balance_key(NATIVE, caller)
    before = state.number(purse)
    _perform(state, caller, time, events, call.module, call.data, 1, contract)
    _check_taken(before - state.number(purse), call)
    return tuple(events)


def _check_taken(taken: int, call: ModuleCall) -> None:
    if taken > call.value:
        why = f"this takes {taken} of the chain's own coin, and the transaction's value is {call.value}: give that much"
        raise Reverted(Revert.BAD_AMOUNT, why)


def ask_module(state: Layer, call: ModuleCall, caller: Address, time: int, contract: Address) -> bytes:
    """Return what a call, or a view, would return to that caller now, and change nothing; raise Reverted."""
    trial, purse = Layer(state), balance_key(NATIVE, caller)
    function, results = _perform(trial, caller, time, [], call.module, call.data, 1, contract, look=True)
    _check_taken(state.number(purse) - trial.number(purse), call)
    return encode_values([result.type for result in function.results], results)


def _perform(
    state: Layer,
    caller: Address,
    time: int,
    events: list[ModuleEvent],
    to: Address,
    data: bytes,
    depth: int,
    contract: Address,
    *,
    look: bool = False,
) -> tuple[Function, tuple[Any, ...]]:
    module, function = MODULES_AT.get(to), find_function(to, data)
    if module is None or function is None or (function.is_view and not look):
        name = f"module {module.name}" if module else f"account 0x{to.hex()}"
        raise Reverted(Revert.UNKNOWN_CALL, f"the {name} has no function 0x{data[:4].hex()} that can be called here")
    types = function.form.types
    try:
        values = decode_values(types, data[4:])
    except InvalidInput as error:
        raise Reverted(Revert.UNKNOWN_CALL, f"the arguments of {function.form.name} cannot be read: {error}") from error
    return function, function.rule(ModuleRun(state, module, caller, time, events, depth, contract), *values)


class ModuleRun:
    """What a module's rules see of the ledger in one call: a `ModuleState`."""

    __slots__ = ("_contract", "_depth", "_events", "_module", "_state", "caller", "time")

    def __init__(
        self,
        state: Layer,
        module: Module,
        caller: Address,
        time: int,
        events: list[ModuleEvent],
        depth: int,
        contract: Address,
    ) -> None:
        self._contract = contract
        self._state = state
        self._module = module
        self._events = events
        self._depth = depth
        self.caller = caller
        self.time = time

    def get(self, key: bytes) -> int:
        return self._state.number(module_key(self._module.address, key))

    def put(self, key: bytes, word: int) -> None:
        if not 0 <= word <= AMOUNT_MAX:
            raise Reverted(
                Revert.BAD_AMOUNT, f"the {self._module.name} cannot count up to this: it is below 0 or too much"
            )
        self._state.put(module_key(self._module.address, key), word)

    def balance(self, asset: Address) -> int:
        return self._state.number(balance_key(asset, self.caller))

    def take(self, asset: Address, amount: int, into: Address) -> None:
        move(self._state, asset, self.caller, into, amount)

    def give(self, asset: Address, amount: int, out_of: Address, to: Address) -> None:
        if to == self._contract or to in MODULES_AT:
            raise Reverted(Revert.TRANSFER_FAILED, f"nobody could take it out of 0x{to.hex()} again")
        move(self._state, asset, out_of, to, amount)

    def emit(self, event: Form, *values: Any) -> None:
        first, *others = values
        try:
            data = write_kinds(event.types[1:], others)
        except InvalidInput as error:
            raise Reverted(Revert.BAD_AMOUNT, f"{event.name} has no room for a number as large: {error}") from error
        self._events.append(ModuleEvent(self._module.address, (event.hash, first.rjust(32, b"\0")), data))

    def channel(self, id: ChannelId) -> KeptChannel | None:
        kept = self._state.channel(id)
        if kept is None:
            return None
        first, second = kept.standing
        is_open = kept.status == ChannelStatus.OPEN
        return KeptChannel(kept.terms, is_open, kept.closer, kept.deadline, (first.seq, second.seq))

    def ask(self, module: Module, view: str, *values: Any) -> tuple[Any, ...]:
        function = module.functions[view]
        return function.rule(
            ModuleRun(self._state, module, self.caller, self.time, [], self._depth, self._contract), *values
        )

    def call(self, to: Address, data: bytes) -> None:
        if self._depth >= DEPTH_MAX:
            raise Reverted(Revert.NOT_ALLOWED, "a call within a call makes no further ones")
        _perform(self._state, self.caller, self.time, self._events, to, data, self._depth + 1, self._contract)
