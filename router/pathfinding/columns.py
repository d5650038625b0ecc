"""What searches read of the graph: one column per figure, by slot or by node, floats and whole numbers.

Lists for plain Python, numpy arrays for compiled code (`kernels`), which takes the record as it is: whoever changes its
fields touches `search` and `flow`, too, as what numba has cached of them is only as old as those files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, MutableSequence
from typing import Any, NamedTuple, TypeAlias, cast

Column: TypeAlias = MutableSequence[Any]


class Columns(NamedTuple):
    """By slot (a direction of a channel) or by the index of a node. -1 ends a chain."""

    first_out: Column
    """By node: its newest slot outwards."""
    first_in: Column
    only_next: Column
    """By node: the one node that its slots lead to, -1 if there are several or none: passing it leads nowhere else."""
    only_before: Column
    """By node: the one node whose slots reach it, -1 if there are several or none."""
    next_out: Column
    next_in: Column
    source: Column
    target: Column
    base: Column
    """By slot: fee for each payment."""
    share: Column
    """By slot: fee for each unit."""
    weight: Column
    """By slot: what a unit costs: the fee, and the worth of the time for which this hop lengthens the lock."""
    minimum: Column
    limit: Column
    """By slot: the largest lock."""
    per_capacity: Column
    """By slot: 1 / capacity."""
    lower: Column
    """By slot: this much is known to pass."""
    upper: Column
    """By slot: this much is known not to pass, if more than `lower`."""
    share_lower: Column
    """By slot: how probable less than `lower` was before anything was known (see `liquidity`)."""
    share_upper: Column
    held: Column
    """By slot: what parts under way have taken of it; infinite: not to be used."""
    inbound_base: Column
    """By slot: what its target asks for each payment that comes in over it (see `inbound`)."""
    inbound_share: Column
    """By slot: the same for each unit."""
    discount_base: Column
    """By node: the most that it takes off for each payment, over any of its channels."""
    discount_share: Column


_ENDS = ("first_out", "first_in", "only_next", "only_before")
BY_NODE = frozenset((*_ENDS, "discount_base", "discount_share"))
BY_SLOT = frozenset(Columns._fields) - BY_NODE
_WHOLE = frozenset((*_ENDS, "next_out", "next_in", "source", "target"))


def empty_columns(room: int, *, compiled: bool) -> Columns:
    """Return columns for that many slots and nodes."""
    return Columns(*(_column(compiled, name in _WHOLE, room) for name in Columns._fields))


def grown(columns: Columns, names: Collection[str], room: int, *, compiled: bool) -> Columns:
    """Return the columns with room for so many more in those named."""
    return columns._replace(
        **{name: _joined(getattr(columns, name), _column(compiled, name in _WHOLE, room)) for name in names}
    )


def floats(figures: Iterable[float], *, compiled: bool) -> Column:
    """Return figures as a column."""
    return _joined(_column(compiled, False, 0), list(figures))


def _column(compiled: bool, whole: bool, room: int) -> Column:
    if not compiled:
        return [-1] * room if whole else [0.0] * room
    import numpy as np

    made: Any = np.full(room, -1, np.int64) if whole else np.zeros(room)
    return cast(Column, made)


def _joined(column: Column, more: Column) -> Column:
    if isinstance(column, list):
        column.extend(more)
        return column
    import numpy as np

    joined: Any = np.concatenate([column, more])
    return cast(Column, joined)
