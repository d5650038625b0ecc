"""Import paths that the documents of 0.1.0 told of: they work for one release more, and then no longer.

The old name of a module finds one that takes each thing from where it is now, so that no class exists twice. Whoever
imports it is warned (`DeprecationWarning`) with the new name. Two old modules have the names of packages now: those
packages ask `moved_name` for what the documents said is in them.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

_TOP = "tallystick."

MODULES = {
    "channels.core": "channels.protocol.core",
    "channels.effects": "channels.session.effects",
    "channels.keys": "channels.protocol.keys",
    "channels.objects": "channels.protocol.objects",
    "channels.webserver": "channels.transport.webserver",
    "router.circuits": "router.forwarding.circuits",
    "router.forwarder": "router.forwarding.forwarder",
    "router.invoice": "router.invoices.invoice",
    "router.qr": "router.invoices.qr",
    "router.service": "router.forwarding.service",
    "sdk.handle": "sdk.node.handle",
    "sdk.incoming": "sdk.node.incoming",
    "sdk.keystore": "sdk.daemon.keystore",
    "settlement.rpc_client": "settlement.ethereum.rpc_client",
}
"""Where each module is now."""
NAMES = {
    "router.receiving": {"Paid": "router.receiving.service", "PaymentHeld": "router.receiving.service"},
    "sdk.node": {
        "Alarm": "channels.node.alarms",
        "Config": "sdk.node.node",
        "Node": "sdk.node.node",
        "open_node": "sdk.node.running",
    },
}
"""Of each module whose old name is that of a package now: its names, and the module that each is in."""
RENAMED = {"router.circuits.Forward": "ForwardRecord", "router.forwarder.Outcome": "ForwardOutcome"}
"""What has another name in the module where it is now."""


def moved_name(package: str, name: str) -> Any:
    """Return what the module that had the name of this package called `name`. Raises `AttributeError` for others."""
    home = NAMES[package.removeprefix(_TOP)].get(name)
    if home is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    _warn(f"{package}.{name}", f"{_TOP}{home}.{name}", by=4)
    return getattr(importlib.import_module(_TOP + home), name)


class _OldModule(ModuleType):
    """A module by its old name: it has what the one of the new name has."""

    def __getattr__(self, name: str) -> Any:
        old = self.__name__.removeprefix(_TOP)
        return getattr(importlib.import_module(_TOP + MODULES[old]), RENAMED.get(f"{old}.{name}", name))


class _OldNames:
    """Finds modules by their old names, and loads them. (The classes for that would take as long as half of Python.)"""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a module, if its name is an old one."""
        old = fullname.startswith(_TOP) and fullname.removeprefix(_TOP) in MODULES
        return ModuleSpec(fullname, cast("Loader", self)) if old else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module by its old name."""
        return _OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Warn who imports it."""
        _warn(module.__name__, _TOP + MODULES[module.__name__.removeprefix(_TOP)], by=3)


def _warn(old: str, new: str, *, by: int) -> None:
    warnings.warn(f"{old} is {new} now: the old name goes with the next release", DeprecationWarning, stacklevel=by)


def install() -> None:
    """Let old names be found, after all others."""
    if not any(isinstance(each, _OldNames) for each in sys.meta_path):
        sys.meta_path.append(_OldNames())
