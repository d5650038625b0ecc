"""Every public function stands behind a door: what does not fit is an InvalidInput in a sentence, and changes nothing.

The functions are found by looking at what is public, so that a new one without a door fails here.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tallystick
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address, AnyAddress, AnyMemo
from tallystick.channels.values.argument_rules import ANYTHING, ArgumentRule
from tallystick.channels.values.arguments import Options, checked, rule_of
from tallystick.sdk.control.app_client import AppClient
from tallystick.sdk.control.client import ControlClient
from tallystick.sdk.ledger import LedgerAccount
from tallystick.sdk.node.apps import AppDesk, AppHandle, ProposedApp
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.rolling import RollingStream
from tallystick.sdk.node.streams import IncomingStream, OutgoingStream
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.tower import Tower

CLASSES = (
    Node,
    ChannelHandle,
    OutgoingStream,
    IncomingStream,
    RollingStream,
    AppDesk,
    AppHandle,
    ProposedApp,
    ControlClient,
    AppClient,
    LocalChain,
    Tower,
    LedgerAccount,
)
MADE_BY_USERS = (Node, LocalChain, Tower, LedgerAccount)
"""Whose constructors are public, too."""
FUNCTIONS = (
    "sdk.node.running.open_node",
    "sdk.ledger.module_call",
    "sdk.control.client.control_at",
    "sdk.control.client.connect_control",
    "sdk.control.server.serve_control",
    "sdk.daemon.keystore.create",
    "sdk.daemon.keystore.load_key",
    "sdk.testing.world.open_world",
    "settlement.ethereum.evm.client.open_evm_chain",
    "settlement.ethereum.rpc_client.open_rpc_chain",
    "settlement.simulated.rpc_server.serve_chain",
    "watchtower.daemon.run_tower",
    "channels.storage.sqlite.store.open_store",
)
CHAIN_PORT = {
    *("blocks", "header", "history", "wait", "sign", "submit", "receipt", "nonce", "balance", "charge"),
    *("channel", "channels", "channel_count", "learn", "secret_time", "owed", "allowance", "takes_permits"),
    *("evidence", "events", "record", "find", "slice", "view", "told"),
}
"""What a `Chain` answers to nodes and to its JSON-RPC server, which looks at everything itself."""


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    for kind in CLASSES:
        for name, function in inspect.getmembers(kind, inspect.isfunction):
            if name == "__init__" and kind in MADE_BY_USERS:
                yield f"{kind.__name__}", function
            elif not name.startswith("_") and not (kind is LocalChain and name in CHAIN_PORT):
                yield f"{kind.__name__}.{name}", function
    for path in FUNCTIONS:
        module, _, name = path.rpartition(".")
        yield name, getattr(importlib.import_module(f"tallystick.{module}"), name)


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


DOORS = {name: function for name, function in public() if parameters(function)}
RULES = {
    f"{name}({parameter})": rule
    for name, function in DOORS.items()
    for parameter, rule in getattr(function, "__checked__", {}).items()
}


@pytest.mark.parametrize("name", DOORS)
def test_every_public_function_is_behind_a_door_with_a_rule_for_each_argument(name: str) -> None:
    rules = getattr(DOORS[name], "__checked__", None)
    assert rules is not None, f"put @checked before {name}"
    assert list(rules) == parameters(DOORS[name])
    assert not [parameter for parameter, rule in rules.items() if rule is ANYTHING], "say what fits"


def refusal(rule: ArgumentRule, value: object) -> str:
    with pytest.raises(InvalidInput) as refused:
        rule.take(value, "it")
    return str(refused.value)


@pytest.mark.parametrize("name", RULES)
def test_nothing_takes_an_object_of_no_meaning(name: str) -> None:
    text = refusal(RULES[name], object())
    assert text.startswith("it ") and "object of type object" in text


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-10, 10),
        st.integers(),
        st.just(10**4_000),
        st.floats(),
        st.text(st.characters(), max_size=70),
        st.just("\ud800"),
        st.sampled_from(["order 17", "tea1", "00" * 32, "0x" + "70" * 20, "02" * 33]),
        st.binary(max_size=70),
        st.builds(bytearray, st.binary(max_size=40)),
        st.sampled_from([object(), int, len, math.nan, 1j, ...]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_whatever_is_given_is_taken_for_good_or_refused_in_one_short_sentence(value: Any) -> None:
    for name, rule in RULES.items():
        try:
            taken = rule.take(value, "it")
        except InvalidInput as error:
            text = str(error)
            assert text.startswith(("it ", "it[", "it.", "a key of it")) and text.isprintable() and len(text) < 1_000, (
                name
            )
            continue
        again = rule.take(taken, "it")
        assert again == taken, name


@given(VALUES)
def test_the_quick_way_through_a_door_takes_what_the_rule_takes(value: Any) -> None:
    @checked
    def function(
        number: int, memo: AnyMemo, flag: bool, text: str, address: AnyAddress, maybe: int | None
    ) -> tuple[Any, ...]:
        return number, memo, flag, text, address, maybe

    good: dict[str, Any] = {"number": 1, "memo": b"", "flag": True, "text": "", "address": bytes(20), "maybe": None}
    rules = getattr(function, "__checked__", None)
    assert rules is not None
    for place, name in enumerate(good):
        try:
            expected = rules[name].take(value, name)
        except InvalidInput as error:
            with pytest.raises(InvalidInput) as refused:
                function(**good | {name: value})
            assert str(refused.value) == str(error)
        else:
            assert function(**good | {name: value})[place] == expected


def options() -> list[type[msgspec.Struct]]:
    found = []
    for part in ("channels", "settlement", "watchtower", "router", "paid", "sdk"):
        package = importlib.import_module(f"{tallystick.__name__}.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__") or ".bench" in module.name:  # what a benchmark tells its own processes
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(value) and value.__module__ == module.name and issubclass(value, msgspec.Struct):
                    chosen = value.__name__.endswith(("Policy", "Limits", "Options", "Patience", "Config", "Settings"))
                    if chosen and not value.__name__.startswith("_"):
                        found.append(value)
    return found


CHECKED_OTHERWISE = {
    "ForwardingPolicy": "is read from the wire, by its types; `set_policy` and the options that hold it check it",
    "SetPolicy": "is read from JSON, by its types",
    "Settings": "are read from TOML, by their types",
    "AssetSettings": "are read from TOML, by their types",
}


def test_every_struct_of_options_checks_its_fields() -> None:
    kinds = options()
    assert len(kinds) > 15
    for kind in kinds:
        if kind.__name__ in CHECKED_OTHERWISE:
            continue
        assert issubclass(kind, Options), f"{kind.__name__} should be an Options"
        if issubclass(kind, Options) and kind is not Options:
            for field in msgspec.structs.fields(kind):
                for wrong in (object(), -1, "x"):
                    if wrong == "x" and field.type is str:
                        continue
                    with pytest.raises(InvalidInput, match=rf"{kind.__name__}\.{field.name}"):
                        kind(**{field.name: wrong})


def test_errors_say_what_was_expected_and_what_was_given_and_show_no_bytes() -> None:
    assert refusal(rule_of(int), 1.5) == "it must be a whole number, not 1.5"
    assert refusal(rule_of(int), True) == "it must be a whole number, not True"
    assert refusal(rule_of(bytes), 10**5_000) == "it must be bytes, not an object of type int"
    assert refusal(rule_of(int | None), b"secret") == "it must be a whole number or None, not 6 bytes"
    assert "secret" not in refusal(rule_of(AnyAddress), "secret" * 3)
    assert refusal(rule_of(str), "\ud800").startswith("it must be text")
    assert refusal(rule_of(tuple[int, ...]), [1, "x"]) == "it[1] must be a whole number, not 'x'"
    assert refusal(rule_of(str | None), "\x1b[2J\ud800").isprintable()


CHECKSUMMED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # of EIP-55
WRITTEN = [CHECKSUMMED, CHECKSUMMED[2:], CHECKSUMMED.lower(), "0x" + CHECKSUMMED[2:].upper()]


@pytest.mark.parametrize("text", WRITTEN)
def test_an_address_is_taken_as_wallets_write_it(text: str) -> None:
    assert rule_of(AnyAddress).take(text, "it") == rule_of(Address).take(text, "it") == bytes.fromhex(CHECKSUMMED[2:])


def test_an_address_with_a_wrong_checksum_is_refused() -> None:
    assert "address" in refusal(rule_of(AnyAddress), CHECKSUMMED.replace("aA", "Aa"))
