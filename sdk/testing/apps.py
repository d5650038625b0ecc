"""What who writes an app tests it with: the hash of its rules, to pin in the class."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from tallystick.channels import apps
from tallystick.channels.apps.digest import digest_of
from tallystick.channels.apps.interface import App

_NO_RULES = frozenset({"digest", "interface", "table"})


def rules_of(app: type[App]) -> str:
    """Return what `rules` of this class must be, from its source: 64 hex digits. Each app tests that it is pinned."""
    shared = [each.name for each in pkgutil.iter_modules(apps.__path__) if each.name not in _NO_RULES]
    names = {app.__module__, *(f"{apps.__name__}.{each}" for each in shared)}
    return digest_of({name: _source(name) for name in names}, app.__module__, app.__name__)


def _source(name: str) -> str:
    file = (sys.modules.get(name) or importlib.import_module(name)).__file__
    return Path(str(file)).read_text("utf-8")
