"""What the documents and examples of 0.1.0 import is found where they say, for one release more, with a warning."""

from __future__ import annotations

import importlib
import re
import runpy
import sys
import warnings
from pathlib import Path

import pytest

from tallystick import _moved

ROOT = Path(__file__).resolve().parent.parent

TOLD = {
    "channels.core": ("Phase",),
    "channels.effects": (
        "ChannelChanged",
        "LockEnded",
        "LockReceived",
        "LockRejected",
        "PaymentsReceived",
        "PaymentsSecured",
        "PeerConnected",
        "PeerNotice",
        "StreamReceived",
    ),
    "channels.errors": ("InvalidInput", "TallystickError"),
    "channels.keys": ("PrivateKey", "keccak"),
    "channels.objects": ("NATIVE",),
    "channels.ports": ("PeerAddress",),
    "channels.testing.scheduling": ("simulate",),
    "channels.webserver": ("WebServer",),
    "channels.words": ("plain",),
    "router.circuits": ("Forward",),
    "router.errors": ("PaymentFailed",),
    "router.forwarder": ("Outcome",),
    "router.invoice": ("decode_invoice",),
    "router.objects": ("ForwardingPolicy",),
    "router.qr": ("as_text",),
    "router.receiving": ("Paid", "PaymentHeld"),
    "router.service": ("RoutingOptions",),
    "sdk.control.client": ("ControlClient", "connect_control"),
    "sdk.control.network_views": ("InvoiceInfo",),
    "sdk.control.server": ("open_control",),
    "sdk.control.waiting": ("wait_for_channel", "wait_for_node"),
    "sdk.errors": ("ControlError",),
    "sdk.handle": ("ChannelHandle",),
    "sdk.incoming": ("IncomingPayment",),
    "sdk.keystore": ("KEYSTORE", "create", "find_password", "load_key"),
    "sdk.node": ("Alarm", "Config", "Node", "open_node"),
    "sdk.testing.world": ("open_world",),
    "settlement.rpc_client": ("RpcChain", "open_rpc_chain"),
    "settlement.testing.chaos": (),
    "settlement.testing.chaos_wire": (),
    "settlement.testing.local": ("LocalChain",),
}
"""Each module that the README, docs/ and examples/ of 0.1.0 and since name in an import or in words, with its names."""

OLD = {module: names for module, names in TOLD.items() if module in _moved.MODULES or module in _moved.NAMES}


KNOWING = ("test_toplevel_moved.py", "test_toplevel_package.py")
"""Tests that import by old names."""


def fresh(module: str) -> None:
    """Let Python forget that it has met the old name of a module."""
    sys.modules.pop(f"tallystick.{module}", None)


@pytest.mark.parametrize("module", _moved.MODULES)
def test_an_old_module_has_what_the_new_one_has_and_names_it(module: str) -> None:
    fresh(module)
    with pytest.warns(DeprecationWarning) as warned:
        old = importlib.import_module(f"tallystick.{module}")
    (warning,) = warned
    home = f"tallystick.{_moved.MODULES[module]}"
    assert str(warning.message) == f"tallystick.{module} is {home} now: the old name goes with the next release"
    new = importlib.import_module(home)
    for name in TOLD[module]:
        assert getattr(old, name) is getattr(new, _moved.RENAMED.get(f"{module}.{name}", name))
        assert getattr(old, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = old.nothing


@pytest.mark.parametrize("statement", ["from tallystick.channels.core import Phase", "import tallystick.channels.core"])
def test_the_warning_is_for_the_line_that_imports_a_module(statement: str, tmp_path: Path) -> None:
    fresh("channels.core")
    assert warned_lines(statement, tmp_path) == {3}


def test_the_warning_is_for_the_line_that_imports_a_name(tmp_path: Path) -> None:
    assert warned_lines("from tallystick.sdk.node import open_node, Config", tmp_path) == {3}


def warned_lines(statement: str, folder: Path) -> set[int]:
    program = folder / "program.py"
    program.write_text(f"import warnings\n\n{statement}\n")
    with pytest.warns(DeprecationWarning) as warned:
        runpy.run_path(str(program))
    assert {warning.filename for warning in warned} == {str(program)}
    return {warning.lineno for warning in warned}


@pytest.mark.parametrize("package", _moved.NAMES)
def test_a_package_that_was_a_module_has_its_names(package: str) -> None:
    assert set(_moved.NAMES[package]) == set(TOLD[package])
    found = importlib.import_module(f"tallystick.{package}")
    for name, home in _moved.NAMES[package].items():
        with pytest.warns(
            DeprecationWarning, match=rf"^tallystick\.{package}\.{name} is tallystick\.{home}\.{name} now"
        ):
            old = getattr(found, name)
        assert old is getattr(importlib.import_module(f"tallystick.{home}"), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = found.nothing


def test_what_is_where_it_was_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for module in TOLD.keys() - OLD.keys():
            found = importlib.import_module(f"tallystick.{module}")
            assert all(hasattr(found, name) for name in TOLD[module])


def test_all_old_names_are_told_of_and_none_is_on_disk() -> None:
    assert set(_moved.MODULES) | set(_moved.NAMES) == OLD.keys()
    assert set(_moved.RENAMED) <= {f"{module}.{name}" for module, names in TOLD.items() for name in names}
    for module in _moved.MODULES:
        place = ROOT.joinpath(*module.split("."))
        assert not place.exists() and not place.with_suffix(".py").exists()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("tallystick.channels.simplex")


def test_nothing_of_ours_uses_an_old_name() -> None:
    names = "|".join(
        [
            *map(re.escape, _moved.MODULES),
            r"(?:router\.receiving|sdk\.node)(?= import (?:Alarm|Config|Node|open_node|Paid))",
        ]
    )
    old = re.compile(rf"\btallystick\.(?:{names})\b")
    folders = ("channels", "paid", "router", "sdk", "settlement", "watchtower", "src", "tests", "examples", "tools")
    files = [file for part in folders for file in (ROOT / part).rglob("*.py")] + [*ROOT.glob("[ABD-Z]*.md")]
    files += (ROOT / "docs").glob("*.md")
    assert len(files) > 500
    used = [(file.name, old.findall(file.read_text("utf-8"))) for file in files if file.name not in KNOWING]
    assert [(name, found) for name, found in used if found] == []
