"""How a process that is a node looks for garbage: rarely, and not among what it began with.

Nearly everything that a payment makes is gone once nothing names it. What Python's collector is for, objects that name
each other in a circle, comes from connections and failed tasks. With its own settings it looks at all objects of a
process, 70,000 of which are code and tables of the start, whenever some thousand payments are under way.
"""

from __future__ import annotations

import gc

THRESHOLDS = (50_000, 20, 10)
"""Containers made and not freed before the youngest are looked at (Python: 700); how often that is done before the
next older ones are; and the same once more, before all are."""


def look_rarely() -> None:
    """Collect once, leave out for good what is there, and look at the rest rarely. For a process that lives long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
