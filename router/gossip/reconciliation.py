"""Which announcements two nodes hold differently, found with few bytes: digests of buckets, then fingerprints.

Every announcement has an id that stays (a channel's side, a node's key, or a maker's) and a fingerprint of its version:
the first 8 bytes of its digest. Ids fall into 512 buckets: channel updates into the first 256, by their channel's first
byte; node announcements and markets into the others, by their key's second byte. A bucket's digest is sha256 over its
sorted fingerprints: it depends on the set alone, not on the order in which it came. Who finds a difference sends all
its fingerprints of that bucket, and gets what is not among them.

Whoever makes two announcements of its own collide hides one of them from others, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.gossip.markets import MarketId
from tallystick.router.objects import NodeKey

UPDATE_BUCKETS = 256
BUCKETS = 512
DIGEST_SIZE = 16
FINGERPRINT_SIZE = 8

ItemId: TypeAlias = tuple[ChannelId, int] | NodeKey | MarketId
"""What an announcement replaces: a channel's side, a node, or what a maker asked for."""


def bucket_of(item: ItemId) -> int:
    """Return the number of the bucket that an id falls into."""
    if isinstance(item, tuple):
        return item[0][0]
    return UPDATE_BUCKETS + (item.key if isinstance(item, MarketId) else item)[1]


def fingerprint(digest: bytes) -> bytes:
    """Return what stands for a version of an announcement (8 bytes)."""
    return digest[:FINGERPRINT_SIZE]


def _digest(marks: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(sorted(marks))).digest()[:DIGEST_SIZE]


EMPTY = _digest(())
"""The digest of a bucket in which there is nothing."""


class Buckets:
    """The fingerprints of all announcements that a node holds."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[ItemId, bytes]] = {}
        """Those in which there is something, by number."""
        self._digests: list[bytes | None] = [EMPTY] * BUCKETS

    def put(self, item: ItemId, mark: bytes) -> None:
        """Take in a version, in place of the one before."""
        number = bucket_of(item)
        self._buckets.setdefault(number, {})[item] = mark
        self._digests[number] = None

    def remove(self, item: ItemId) -> None:
        """Forget an id; one that is unknown does no harm."""
        number = bucket_of(item)
        held = self._buckets.get(number, {})
        if held.pop(item, None) is not None:
            self._digests[number] = None if held else EMPTY
        if not held:
            self._buckets.pop(number, None)

    def digests(self) -> bytes:
        """Return all digests, one after the other (512 × 16 bytes). Only changed buckets are computed again."""
        for number, known in enumerate(self._digests):
            if known is None:
                self._digests[number] = _digest(self._buckets[number].values())
        return b"".join(digest for digest in self._digests if digest is not None)

    def differing(self, theirs: bytes) -> list[int]:
        """Return the buckets whose digests are not as in `theirs`, which is as from `digests`."""
        ours = self.digests()
        size = DIGEST_SIZE
        return [n for n in range(BUCKETS) if ours[n * size : n * size + size] != theirs[n * size : n * size + size]]

    def marks(self, number: int) -> bytes:
        """Return the fingerprints of a bucket, one after the other."""
        return b"".join(self._buckets.get(number, {}).values())

    def beyond(self, number: int, known: bytes) -> list[ItemId]:
        """Return the ids of a bucket whose fingerprints are not in `known`, which is as from `marks`."""
        size = FINGERPRINT_SIZE
        there = {known[start : start + size] for start in range(0, len(known), size)}
        return [item for item, mark in self._buckets.get(number, {}).items() if mark not in there]

    def items(self, number: int) -> Iterator[ItemId]:
        """Go through the ids of a bucket; it may be changed meanwhile."""
        return iter(list(self._buckets.get(number, {})))
