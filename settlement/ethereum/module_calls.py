"""Calls of rule modules by name: written as calldata, and what they answer and tell read back. For both ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import to_address, to_hash
from tallystick.settlement.chain import ModuleCall, ModuleEvent
from tallystick.settlement.ethereum.abi import Signature
from tallystick.settlement.ethereum.abi_values import decode_values
from tallystick.settlement.modules.interface import Argument, Function, Module
from tallystick.settlement.modules.table import MODULES, MODULES_AT, find_function

INNER = ("address[]", "bytes[]")
"""Types of the last two arguments of a function that makes calls within it: of which modules, and their calldata."""


class ToldByModule(msgspec.Struct, frozen=True):
    """What a module told, read."""

    module: str
    event: str
    fields: Mapping[str, Any]


def module_named(name: str) -> Module:
    """Return a module; raise InvalidInput if there is none of that name."""
    found = MODULES.get(name)
    if found is None:
        raise InvalidInput(f"there is no module {name!r}: there are {', '.join(MODULES)}")
    return found


def function_named(module: Module, name: str) -> Function:
    """Return a function or view of a module; raise InvalidInput if it has none of that name."""
    found = module.functions.get(name)
    if found is None:
        raise InvalidInput(f"{module.name} has no {name!r}: it has {', '.join(module.functions)}")
    return found


def write_call(
    module: str, function: str, values: Sequence[Any], *, value: int = 0, then: Sequence[ModuleCall] = ()
) -> ModuleCall:
    """Return the call of a function with these arguments; raise InvalidInput if they do not fit.

    `then` are the calls that it makes, for a function that makes some. `value` is the most native coin that may leave
    the caller.
    """
    of = module_named(module)
    found = function_named(of, function)
    arguments, given = found.form.arguments, list(values)
    if found.form.types[-2:] == INNER and len(given) == len(arguments) - 2:
        given += [[each.module for each in then], [each.data for each in then]]
    elif then:
        raise InvalidInput(f"{function} makes no calls of others")
    if len(given) != len(arguments):
        names = ", ".join(argument.name for argument in arguments) or "no arguments"
        raise InvalidInput(f"{function} takes {names}: {len(arguments)} values, not {len(given)}")
    taken = [_taken(each, argument) for each, argument in zip(given, arguments, strict=True)]
    try:
        data = _signature(found).encode_call(*taken)
    except InvalidInput as error:
        raise InvalidInput(f"{function} cannot be called so: {error}") from error
    return ModuleCall(of.address, data, value)


def read_answer(call: ModuleCall, answer: bytes) -> dict[str, Any]:
    """Return what a call answered, by name; raise InvalidInput if it cannot be read."""
    function = find_function(call.module, call.data)
    if function is None:
        raise InvalidInput("this is no call of a module")
    values = _signature(function).decode_result(answer)
    return {result.name: value for result, value in zip(function.results, values, strict=True)}


def read_told(event: ModuleEvent) -> ToldByModule:
    """Return what an event says; raise InvalidInput if it is none that this program knows."""
    module = MODULES_AT.get(event.module)
    form = module.events.get(event.topics[0]) if module and len(event.topics) == 2 else None
    if module is None or form is None:
        raise InvalidInput("a module told what this program does not know; update Tallystick")
    first, *others = form.arguments
    values = [*decode_values((first.type,), event.topics[1]), *decode_values(form.types[1:], event.data)]
    fields = {argument.name: value for argument, value in zip((first, *others), values, strict=True)}
    return ToldByModule(module.name, form.name, fields)


def _signature(function: Function) -> Signature:
    return Signature(function.form.name, function.form.types, tuple(result.type for result in function.results))


def _number(value: Any, name: str) -> int:
    if type(value) is not int or value < 0:
        raise InvalidInput(f"{name} must be a whole number from 0 on")
    return value


def _flag(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise InvalidInput(f"{name} must be True or False")
    return value


def _listed(value: Any, name: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InvalidInput(f"{name} must be a list")
    return list(value)


def _data(value: Any, name: str) -> bytes:
    try:
        return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(memoryview(value))
    except (ValueError, TypeError):
        raise InvalidInput(f"{name} must be bytes, or hex digits") from None


def _numbers(value: Any, name: str) -> list[int]:
    return [_number(each, name) for each in _listed(value, name)]


_TAKERS: dict[str, Callable[[Any, str], Any]] = {
    "address": to_address,
    "address[]": lambda value, name: [to_address(each, name) for each in _listed(value, name)],
    "bool": _flag,
    "bytes": _data,
    "bytes32": to_hash,
    **{f"uint{bits}[]": _numbers for bits in (64, 256)},
    "bytes[]": _listed,
    **{f"uint{bits}": _number for bits in (64, 128, 256)},
}


def _taken(value: Any, argument: Argument) -> Any:
    return _TAKERS[argument.type](value, argument.name)


def shown(value: Any) -> Any:
    """Return a value as JSON has it: bytes as hex."""
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    return [shown(each) for each in value] if isinstance(value, (list, tuple)) else value
