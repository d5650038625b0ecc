"""Import paths of version 0.1.0 that its documents told of: they work for one release more, and then no longer.

A module that moved is found by its old name too, and is the same module: no class exists twice. Whoever imports it so
is warned (`DeprecationWarning`) with the new name. Two old modules have the names of packages now; those packages ask
`moved_name` for what the module had.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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
PACKAGES = {"router.receiving": "router.receiving.service", "sdk.node": "sdk.node.node"}
"""Modules whose old names are those of packages now, and where what they held is."""


def moved_name(package: str, name: str) -> Any:
    """Return what the module that had the name of this package called `name`. Raises `AttributeError` for others."""
    home = f"tallystick.{PACKAGES[package.removeprefix('tallystick.')]}"
    if not name.startswith("_"):
        found = getattr(importlib.import_module(home), name, None)
        if found is not None:
            _warn(f"{package}.{name}", f"{home}.{name}")
            return found
    raise AttributeError(f"module {package!r} has no attribute {name!r}")


class _Finder:
    """Finds old names, once nothing else did; also their loader: what it loads is the module of the new name."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.removeprefix("tallystick.") not in MODULES or not name.startswith("tallystick."):
            return None
        return ModuleSpec(name, self)  # type: ignore[arg-type]  # a loader by its methods

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        home = f"tallystick.{MODULES[spec.name.removeprefix('tallystick.')]}"
        _warn(spec.name, home)
        module = importlib.import_module(home)
        spec.loader_state = module.__spec__  # Python puts the old name's in its place
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is {new} now: the old name goes with the next release", DeprecationWarning, stacklevel=4)


def install() -> None:
    """Let old names be found, after all others."""
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.append(_Finder())
