"""A sparse Merkle tree over 2**32 leaves that never changes: each new leaf gives another tree, which shares the rest.

A node's hash is keccak(left ‖ right), and 32 zero bytes where nothing is below: the proofs of a tree that is mostly
empty are mostly zeros, which cost a quarter on an EVM. Leaves are hashes of more than 64 bytes, so that no node can be
taken for a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import ZERO32

DEPTH = 32
"""Levels above the leaves."""

V = TypeVar("V")

Siblings = tuple[bytes, ...]
"""The hashes beside a leaf's way to the root, from the leaf up."""

_EMPTY = ZERO32 + ZERO32


def parent(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node from those of its children."""
    both = left + right
    return ZERO32 if both == _EMPTY else keccak(both)


def climb(leaf: bytes, index: int, siblings: Sequence[bytes]) -> bytes:
    """Return the root to which a leaf's hash leads."""
    for sibling in siblings:
        leaf = parent(sibling, leaf) if index & 1 else parent(leaf, sibling)
        index >>= 1
    return leaf


class Tree(NamedTuple, Generic[V]):
    """A tree, by its topmost node: (hash, left, right), None if nothing is below; at the bottom (hash, value)."""

    top: Any = None

    @property
    def root(self) -> bytes:
        """The hash of all of it (32 bytes)."""
        return _hash(self.top)

    def get(self, index: int) -> V | None:
        """Return the value of a leaf, None if it is empty."""
        node = self.top
        for level in range(DEPTH - 1, -1, -1):
            if node is None:
                return None
            node = node[2] if index >> level & 1 else node[1]
        return None if node is None else node[1]

    def siblings(self, index: int) -> Siblings:
        """Return what leads from a leaf to the root."""
        node, found = self.top, []
        for level in range(DEPTH - 1, -1, -1):
            if node is None:
                found.append(ZERO32)
            elif index >> level & 1:
                found.append(_hash(node[1]))
                node = node[2]
            else:
                found.append(_hash(node[2]))
                node = node[1]
        return tuple(reversed(found))

    def with_leaf(self, index: int, leaf: bytes, value: V) -> Tree[V]:
        """Return the tree with this leaf, whose hash is `leaf`, in the place of what was there."""
        way, node = [], self.top
        for level in range(DEPTH - 1, -1, -1):
            way.append(node)
            node = None if node is None else node[2] if index >> level & 1 else node[1]
        made: Any = (leaf, value)
        for level in range(DEPTH):
            old = way.pop()
            other = None if old is None else old[1] if index >> level & 1 else old[2]
            left, right = (other, made) if index >> level & 1 else (made, other)
            made = (keccak(_hash(left) + _hash(right)), left, right)
        return Tree(made)


def _hash(node: Any) -> bytes:
    return ZERO32 if node is None else node[0]


def list_root(leaves: Sequence[bytes], depth: int) -> bytes:
    """Return the root over leaves in a row, 2**depth at most; what is missing is empty."""
    level = list(leaves)
    for _ in range(depth):
        level += [ZERO32] * (len(level) & 1)
        level = [parent(level[at], level[at + 1]) for at in range(0, len(level), 2)] or [ZERO32]
    return level[0]


def list_siblings(leaves: Sequence[bytes], depth: int, index: int) -> Siblings:
    """Return what leads from one of them to that root."""
    level, found = list(leaves), []
    for _ in range(depth):
        level += [ZERO32] * (len(level) & 1)
        found.append(level[index ^ 1])
        level = [parent(level[at], level[at + 1]) for at in range(0, len(level), 2)]
        index >>= 1
    return tuple(found)
