"""What a rule module is: a name, functions that anybody may call in a transaction, views, and events. Pure.

A module is a contract that the ledger has built in. It stands at an address that follows from its name, and is called
as any contract is: an ordinary transaction to that address with ABI calldata, so that every wallet can make one. Its
rules are plain functions over a `ModuleState`, the narrow door to the ledger:

- it keeps words (from 0 to 2**128 - 1) of its own under keys of its own, and reads no other module's but by its views;
- it looks at what the adjudicator keeps of a channel, and changes nothing of it;
- it moves assets from the caller into accounts of its own, and out of these to anybody, never from anybody else;
- it raises `Reverted`, and then nothing of the whole transaction was done.

No allowance is needed: what a function takes, it takes from the caller's balance, who signed for it. The native coin
that leaves the caller is at most the value that the transaction carries. A module trusts its own books, never the
balance of its accounts: anybody may send coins there, which are then nobody's.

Every division rounds against the caller. Products are exact: these are Python's integers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.settlement.errors import Revert, Reverted

WIDE = 128
"""Bits of a word."""

Rule = TypeVar("Rule", bound=Callable[..., tuple[Any, ...]])

_FORM = re.compile(r"(\w+)\(([^()]*)\)")
_ARGUMENT = re.compile(r"(address|bool|bytes32|bytes|uint64|uint128|uint256)(\[\])? (\w+)")


class Argument(NamedTuple):
    """What a function takes or returns, or an event tells."""

    type: str
    """As the ABI names it."""
    name: str


class Form(NamedTuple):
    """A function or an event, as Solidity would write it."""

    name: str
    arguments: tuple[Argument, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The types of its arguments."""
        return tuple(argument.type for argument in self.arguments)

    @property
    def hash(self) -> bytes:
        """The first topic of an event; a function's selector is its first four bytes."""
        return keccak(f"{self.name}({','.join(self.types)})".encode())


class Function(NamedTuple):
    """One function of a module."""

    form: Form
    results: tuple[Argument, ...]
    gas: int
    """What a call is charged for, whatever it does."""
    gas_per_byte: int
    """What each byte of its calldata adds."""
    is_view: bool
    """Whether it only looks: it is asked by `eth_call`, and no transaction can carry it."""
    rule: Callable[..., tuple[Any, ...]]

    @property
    def selector(self) -> bytes:
        """The first four bytes of its calldata."""
        return self.form.hash[:4]

    @property
    def about(self) -> str:
        """What it does, as a sentence."""
        return " ".join((self.rule.__doc__ or "").partition("\n\n")[0].split())


class KeptChannel(NamedTuple):
    """What the adjudicator keeps of a channel, also once it is settled."""

    terms: Terms
    is_open: bool
    closer: int
    """The side that closed it alone."""
    deadline: int
    """The last block time at which a challenge counts; 0: nobody closed it alone."""
    seqs: tuple[int, int]
    """The numbers of the proofs that stand, in order of side."""


class ModuleState(Protocol):
    """What a module's rules see of the ledger, in one call. What they change is dropped if any of them raises."""

    @property
    def caller(self) -> Address:
        """Who signed the transaction."""

    @property
    def time(self) -> int:
        """The block's time."""

    def get(self, key: bytes) -> int:
        """Return a word of this module's, 0 if there is none."""

    def put(self, key: bytes, word: int) -> None:
        """Set a word of this module's. Raise Reverted if it does not fit into 128 bits."""

    def balance(self, asset: Address) -> int:
        """Return what the caller holds."""

    def take(self, asset: Address, amount: int, into: Address) -> None:
        """Move from the caller into an account of this module's (`account_of`). Raise Reverted if it has less."""

    def give(self, asset: Address, amount: int, out_of: Address, to: Address) -> None:
        """Move out of an account of this module's. Raise Reverted if it has less, or if nobody could use it there."""

    def emit(self, event: Form, *values: Any) -> None:
        """Tell whoever reads the chain's logs. Raise Reverted if a number is too large for its type."""

    def channel(self, id: ChannelId) -> KeptChannel | None:
        """Return what the adjudicator keeps of a channel, to look at; None if it never was."""

    def ask(self, module: Module, view: str, *values: Any) -> tuple[Any, ...]:
        """Return what a view of a module says now."""

    def call(self, to: Address, data: bytes) -> None:
        """Make another call in the caller's name, within this one. Raise Reverted as it does, or if it is too deep."""


class Module:
    """A rule module. Its functions and events are declared where they are written."""

    def __init__(self, name: str, about: str) -> None:
        self.name = name
        self.about = about
        self.address = Address(keccak(f"tallystick: the module {name}".encode())[12:])
        self.functions: dict[str, Function] = {}
        self.events: dict[bytes, Form] = {}

    def __repr__(self) -> str:
        return f"<Module {self.name} at 0x{self.address.hex()}>"

    def function(self, form: str, returns: str = "", *, gas: int, gas_per_byte: int = 0) -> Callable[[Rule], Rule]:
        """Declare a function: `swap(address assetIn, …)`, what it returns, and what it costs."""
        return self._declare(form, returns, gas, gas_per_byte, is_view=False)

    def view(self, form: str, returns: str) -> Callable[[Rule], Rule]:
        """Declare a view."""
        return self._declare(form, returns, 0, 0, is_view=True)

    def event(self, form: str) -> Form:
        """Declare an event; its first argument is the one that logs can be searched by, an address or bytes32."""
        made = read_form(form)
        self.events[made.hash] = made
        return made

    def _declare(
        self, form: str, returns: str, gas: int, gas_per_byte: int, *, is_view: bool
    ) -> Callable[[Rule], Rule]:
        made, results = read_form(form), read_form(f"results({returns})").arguments

        def keep(rule: Rule) -> Rule:
            if made.name in self.functions:
                raise ValueError(f"the module {self.name} has a function {made.name} already")
            self.functions[made.name] = Function(made, results, gas, gas_per_byte, is_view, rule)
            return rule

        return keep

    def find(self, selector: bytes) -> Function | None:
        """Return the function of a selector."""
        return next((each for each in self.functions.values() if each.selector == selector), None)

    def account_of(self, label: bytes) -> Address:
        """Return an account of this module's: nobody has its key.

        One for what does not belong together lets calls about them run in parallel: they share no balance.
        """
        return Address(keccak(self.address + label)[12:])


def read_form(text: str) -> Form:
    """Return the form that is written so; raise ValueError if it is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no function or event")
    arguments = [_ARGUMENT.fullmatch(each) for each in found[2].split(", ")] if found[2] else []
    made = [Argument(each[1] + (each[2] or ""), each[3]) for each in arguments if each is not None]
    if len(made) != len(arguments):
        raise ValueError(f"{text!r} has an argument that is none")
    return Form(found[1], tuple(made))


def refuse(condition: bool, code: Revert, why: str) -> None:
    """Raise Reverted if the condition holds."""
    if condition:
        raise Reverted(code, why)


def rounded_up(dividend: int, divisor: int) -> int:
    """Return a quotient of numbers that are not negative, rounded up."""
    return -(-dividend // divisor)


def get_wide(state: ModuleState, key: bytes) -> int:
    """Return a number of up to 256 bits, which takes two words."""
    return state.get(key + b"h") << WIDE | state.get(key + b"l")


def put_wide(state: ModuleState, key: bytes, number: int) -> None:
    """Set such a number."""
    state.put(key + b"h", number >> WIDE)
    state.put(key + b"l", number & AMOUNT_MAX)


def get_address(state: ModuleState, key: bytes) -> Address:
    """Return an address that a module keeps."""
    return Address(get_wide(state, key).to_bytes(20, "big"))


def put_address(state: ModuleState, key: bytes, address: Address) -> None:
    """Keep an address."""
    put_wide(state, key, int.from_bytes(address, "big"))
