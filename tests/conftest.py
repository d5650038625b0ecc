"""How the tests run: untimed, rarely looking for garbage, the long ones first, with one worker more than cores."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from hypothesis import HealthCheck, settings

from simulation.forked_starts import forked_starts, is_possible
from tallystick.sdk.daemon.garbage import look_rarely
from tallystick.settlement.ethereum import accounts  # noqa: F401

RECURSION_LIMIT = sys.getrecursionlimit()
"""As Python has it: eth-account is imported above, by its door, so that a test that takes it directly raises none."""

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
"""No test is timed: on a machine that has much else to do, the first example of all takes seconds."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts. Who has started processes waits for them: another can use the core."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def imported_once() -> Iterator[None]:
    """Have processes forked from one that has imported the package: most of their time would go into that."""
    with forked_starts() if is_possible() else nullcontext():
        yield


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what starts processes: the longest tests. At the end, what is left is short, and shared out evenly."""
    items.sort(key=lambda item: item.get_closest_marker("processes") is None)


def pytest_collection_finish() -> None:
    """Leave out of each search for garbage what has come with the tests themselves: a sixth of the time went there."""
    look_rarely()
    if sys.getrecursionlimit() > RECURSION_LIMIT:
        raise pytest.UsageError(
            f"a test's import raised the recursion limit to {sys.getrecursionlimit()}: tests of deep nesting would "
            "kill their worker; import it within kept_recursion_limit()"
        )


def pytest_unconfigure() -> None:
    """Let the interpreter end as it likes."""
    gc.unfreeze()
