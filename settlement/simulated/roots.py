"""The state root: one hash that two ledgers share only if all their entries are equal, kept up with every block.

An entry is two hashes, of its key and of its value. It is in one of BUCKETS buckets, by the first bits of its key's
hash; a bucket's digest is that of its entries in order, and a binary tree of digests stands over all buckets. So a
block hashes the buckets that it touched and the way from each to the top, whatever the size of the state. A proof is a
whole bucket and its way to the top: it shows what an entry is, or that there is none.

Whoever pays for many entries can have them in one bucket; that makes it slower by the bytes that it holds, and no more.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tallystick.settlement.simulated.journal import encode_value
from tallystick.settlement.simulated.world import Entries, Value

DEPTH = 14
"""Levels of the tree over the buckets."""

BUCKETS = 1 << DEPTH

_Bucket = dict[bytes, bytes]
"""Entries, each the hash of its key and that of its value, by the hash of the key."""


class TreeChange(msgspec.Struct, frozen=True):
    """What changes make of a tree: its root, and all that is new in it."""

    root: bytes
    buckets: Mapping[int, _Bucket]
    nodes: Mapping[int, bytes]


class StateProof(msgspec.Struct, frozen=True, array_like=True):
    """The bucket in which an entry is, or would be, and what stands beside its way to the root, from below."""

    bucket: tuple[bytes, ...]
    path: tuple[bytes, ...]


class StateTree:
    """The tree over the entries of a state. It changes by `apply` alone."""

    def __init__(self, entries: Entries) -> None:
        """Build it from nothing: some microseconds for each entry."""
        self._buckets: list[_Bucket] = [{} for _ in range(BUCKETS)]
        self._nodes = [b""] * 2 * BUCKETS
        for level, digest in enumerate(_EMPTY):
            self._nodes[1 << level : 2 << level] = [digest] * (1 << level)
        self.apply(self.after(entries))

    def __repr__(self) -> str:
        return f"<StateTree of root {self.root.hex()}>"

    @property
    def root(self) -> bytes:
        """The state root (32 bytes)."""
        return self._nodes[1]

    def after(self, changes: Entries) -> TreeChange:
        """Return what these changes make of the tree; it stays as it is."""
        touched: dict[int, _Bucket] = {}
        for key, value in changes.items():
            hashed = hashlib.sha256(key).digest()
            number = _bucket_of(hashed)
            bucket = touched.get(number)
            if bucket is None:
                bucket = touched[number] = dict(self._buckets[number])
            if value is None:
                bucket.pop(hashed, None)
            else:
                bucket[hashed] = hashed + _value_digest(value)
        nodes = {BUCKETS + number: _bucket_digest(sorted(bucket.values())) for number, bucket in touched.items()}
        level = nodes.keys()
        for _ in range(DEPTH):
            above: dict[int, bytes] = {}
            for number in {node >> 1 for node in level}:
                left, right = 2 * number, 2 * number + 1
                above[number] = _node_digest(
                    nodes.get(left) or self._nodes[left], nodes.get(right) or self._nodes[right]
                )
            nodes.update(above)
            level = above.keys()
        return TreeChange(nodes.get(1) or self.root, touched, nodes)

    def apply(self, change: TreeChange) -> None:
        """Make the tree what `after`, asked of this tree as it is, said that it would be."""
        for number, bucket in change.buckets.items():
            self._buckets[number] = bucket
        for number, digest in change.nodes.items():
            self._nodes[number] = digest

    def prove(self, key: bytes) -> StateProof:
        """Return what proves the entry of a key, or that there is none."""
        number = _bucket_of(hashlib.sha256(key).digest())
        node, path = BUCKETS + number, []
        while node > 1:
            path.append(self._nodes[node ^ 1])
            node >>= 1
        return StateProof(tuple(sorted(self._buckets[number].values())), tuple(path))


def proves(root: bytes, key: bytes, value: Value | None, proof: StateProof) -> bool:
    """Whether a proof shows that, in the state of that root, the value of `key` is this one; None: there is none."""
    hashed = hashlib.sha256(key).digest()
    entries = {entry[:32]: entry for entry in proof.bucket}
    if any(len(entry) != 64 for entry in proof.bucket) or len(proof.path) != DEPTH:
        return False
    node, digest = BUCKETS + _bucket_of(hashed), _bucket_digest(proof.bucket)
    for beside in proof.path:
        digest = _node_digest(beside, digest) if node & 1 else _node_digest(digest, beside)
        node >>= 1
    return digest == root and entries.get(hashed) == (None if value is None else hashed + _value_digest(value))


def state_root(entries: Entries) -> bytes:
    """Return the root of a whole state, computed from nothing."""
    hashed = ((hashlib.sha256(key).digest(), value) for key, value in entries.items() if value is not None)
    return _subtree(sorted(key + _value_digest(value) for key, value in hashed), 0, 0)


def _subtree(entries: Sequence[bytes], level: int, first: int) -> bytes:
    """Return the digest of the node that stands over these entries, so many levels below the root.

    `first` is the number of its first bucket.
    """
    if not entries:
        return _EMPTY[level]
    if level == DEPTH:
        return _bucket_digest(entries)
    middle = first + (BUCKETS >> level + 1)
    at = bisect_left(entries, middle, key=_bucket_of)
    return _node_digest(_subtree(entries[:at], level + 1, first), _subtree(entries[at:], level + 1, middle))


def _bucket_of(hashed: bytes) -> int:
    return int.from_bytes(hashed[:4], "big") >> (32 - DEPTH)


def _value_digest(value: Value) -> bytes:
    if isinstance(value, int):
        return hashlib.sha256(b"\0" + value.to_bytes(16, "big")).digest()
    return hashlib.sha256(b"\1" + encode_value(value)).digest()


def _bucket_digest(entries: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"\2" + b"".join(entries)).digest()


def _node_digest(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\3" + left + right).digest()


def _empty() -> tuple[bytes, ...]:
    digests = [_bucket_digest(())]
    while len(digests) <= DEPTH:
        digests.append(_node_digest(digests[-1], digests[-1]))
    return tuple(reversed(digests))


_EMPTY = _empty()
"""Digests of nodes that nothing is below, from the root down."""
