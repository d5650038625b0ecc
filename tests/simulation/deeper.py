"""A pytest plugin for `make fuzz`: each property and state machine, with DEPTH times as many draws, new ones each time.

`make test` draws from one seed, so that what fails there was changed, not found. Here things are found.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

DRAWN_BY = "_hypothesis_internal_use_settings"
"""Where Hypothesis keeps the settings of a test."""

_DEEPENED: set[Any] = set()

DEPTH = int(os.environ.get("DEPTH", "10"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what Hypothesis drives, and let it draw more."""
    drawn = [item for item in items if _deepen(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(drawn)])
    items[:] = drawn


def _deepen(item: Any) -> bool:
    function = getattr(item.obj, "__func__", item.obj)
    holder, name = (function, DRAWN_BY) if hasattr(function, DRAWN_BY) else (item.cls, "settings")
    given = getattr(holder, name, None)
    if not isinstance(given, settings):
        return False
    if holder not in _DEEPENED:  # one function may be many items, by its parameters
        _DEEPENED.add(holder)
        draws, unhurried = given.max_examples * DEPTH, list(HealthCheck)
        setattr(holder, name, settings(given, max_examples=draws, deadline=None, suppress_health_check=unhurried))
    return True
