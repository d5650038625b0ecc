"""Import paths that the documents of 0.1.0 told of: they work for one release more, and then no longer.

A module that moved is found by its old name too, and is the same module: no class exists twice. Whoever imports it so
is warned (`DeprecationWarning`) with the new name. Two old modules have the names of packages now: those packages ask
`moved_name` for what the documents said is in them.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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
NAMES = {
    "router.receiving": {"Paid": "router.receiving.service", "PaymentHeld": "router.receiving.service"},
    "sdk.node": {
        "Alarm": "channels.node.alarms",
        "Config": "sdk.node.node",
        "Node": "sdk.node.node",
        "open_node": "sdk.node.node",
    },
}
"""Of each module whose old name is that of a package now: its names, and the module that each is in."""


def moved_name(package: str, name: str) -> Any:
    """Return what the module that had the name of this package called `name`. Raises `AttributeError` for others."""
    home = NAMES[package.removeprefix(_TOP)].get(name)
    if home is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    _warn(f"{package}.{name}", f"{_TOP}{home}.{name}")
    return getattr(importlib.import_module(_TOP + home), name)


class _OldNames:
    """Finds modules by their old names, and loads them: what it loads is the module of the new name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load `name`, if it is an old one."""
        old = name.startswith(_TOP) and name.removeprefix(_TOP) in MODULES
        return ModuleSpec(name, self) if old else None  # type: ignore[arg-type]  # a loader by its methods

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module of the new name."""
        home = _TOP + MODULES[spec.name.removeprefix(_TOP)]
        _warn(spec.name, home)
        module = importlib.import_module(home)
        spec.loader_state = module.__spec__  # Python puts the old name's in its place
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module, which has run under its new name, what it says of itself back."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is {new} now: the old name goes with the next release", DeprecationWarning, stacklevel=4)


def install() -> None:
    """Let old names be found, after all others."""
    if not any(isinstance(each, _OldNames) for each in sys.meta_path):
        sys.meta_path.append(_OldNames())
