"""Long campaigns: `make soak`, or `pytest -m soak tests/soak --seed N --bound M`; any other run leaves them out."""

from __future__ import annotations

import os

import pytest

SEED = int(os.environ.get("TALLY_SOAK_SEED", "1000"))
RUNS = int(os.environ.get("TALLY_SOAK_RUNS", "100"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the first seed, and how much to do."""
    parser.addoption("--seed", type=int, default=SEED, help="the first seed of the campaigns")
    parser.addoption("--bound", type=int, default=RUNS, help="how many campaigns to run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked `soak` unless it was asked for."""
    if "soak" in (config.getoption("-m") or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("soak")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for a seed one run per seed."""
    if "campaign_seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--seed", SEED)
        count = metafunc.config.getoption("--bound", RUNS)
        metafunc.parametrize("campaign_seed", range(first, first + count))
