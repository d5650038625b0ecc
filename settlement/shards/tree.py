"""A binary Merkle tree: a root that commits to a list, and what proves that something is in it. Pure.

Leaves and nodes are hashed under different first bytes, so that none can be taken for the other (RFC 6962). A node
without a sibling goes up as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tallystick.channels.protocol.keys import keccak

DEPTH_MAX = 32
"""Steps of a proof, at most."""


class ProofStep(msgspec.Struct, frozen=True, array_like=True):
    """One step of a proof: the sibling, and whether it stands on the left."""

    sibling: bytes
    left: bool


def leaf_of(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return keccak(b"\x00" + data)


def _node(left: bytes, right: bytes) -> bytes:
    return keccak(b"\x01" + left + right)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves, of which there is one at least."""
    row = list(leaves)
    while len(row) > 1:
        row = _above(row)
    return row[0]


def prove(leaves: Sequence[bytes], index: int) -> tuple[ProofStep, ...]:
    """Return what proves that the leaf of that index is in the tree."""
    steps: list[ProofStep] = []
    row = list(leaves)
    while len(row) > 1:
        if (index ^ 1) < len(row):
            steps.append(ProofStep(row[index ^ 1], bool(index & 1)))
        row, index = _above(row), index >> 1
    return tuple(steps)


def climb(leaf: bytes, steps: Sequence[ProofStep]) -> bytes:
    """Return the root to which a leaf leads by these steps."""
    for step in steps:
        leaf = _node(step.sibling, leaf) if step.left else _node(leaf, step.sibling)
    return leaf


def _above(row: list[bytes]) -> list[bytes]:
    pairs = [_node(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
    return pairs + row[len(pairs) * 2 :]
