"""A process that is a node looks for garbage rarely, and not among what it began with; it still finds what is new."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
from tallystick.sdk.daemon.garbage import THRESHOLDS, look_rarely

class Node:
    pass

def circle():
    one = Node()
    one.itself = one
    return weakref.ref(one)

old = circle()
look_rarely()
assert old() is None, "what was garbage before is freed, not kept for good"
assert gc.isenabled() and gc.get_threshold() == THRESHOLDS
assert gc.get_freeze_count() > 5_000, gc.get_freeze_count()
assert len(gc.get_objects()) < 1_000, "the start is out of sight"
new = circle()
kept = [[] for _ in range(2 * THRESHOLDS[0])]
assert new() is None, "circles of later are found"
"""


def test_a_long_lived_process_still_frees_circles() -> None:
    """In a process of its own, as the setting is the process's."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
