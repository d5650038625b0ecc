"""Snapshots on a validator's disk: a folder for each, whole or not there at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import trio

from tallystick.settlement.replicated.snapshots import (
    CHUNKS_MAX,
    FrozenLedger,
    LedgerSnapshot,
    chunks_of,
    digest_of,
)

KEPT = 3
"""Snapshots that are kept, the newest ones: one that is being sent must not go away."""

_DIGESTS = "digests"
_TEMPORARY = "unfinished-"


class SnapshotFolder:
    """The snapshots of one validator."""

    def __init__(self, folder: Path) -> None:
        """Find what is there; what a crash left unfinished is deleted."""
        self._folder = folder
        for left in folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
        found = [_read(path) for path in folder.glob("[0-9]*")]
        self._snapshots = {
            each.height: each for each in sorted((one for one in found if one), key=lambda one: one.height)
        }

    def snapshots(self) -> Sequence[LedgerSnapshot]:
        """Return what there is, the oldest first."""
        return tuple(self._snapshots.values())

    def load(self, height: int, index: int) -> bytes:
        """Return a chunk, nothing if there is none, or if the disk holds another one."""
        snapshot = self._snapshots.get(height)
        if snapshot is None or not 0 <= index < len(snapshot.digests):
            return b""
        try:
            chunk = (self._folder / str(height) / str(index)).read_bytes()
        except OSError:
            return b""
        return chunk if digest_of(chunk) == snapshot.digests[index] else b""

    async def keep(self, frozen: FrozenLedger) -> LedgerSnapshot | None:
        """Write a snapshot, chunk by chunk, with room for others in between; return None if it is too large."""
        height = frozen.head.record.header.number
        unfinished = self._folder / f"{_TEMPORARY}{height}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        try:
            digests: list[bytes] = []
            for chunk in chunks_of(frozen):
                if len(digests) == CHUNKS_MAX:
                    return None
                _write(unfinished / str(len(digests)), chunk)
                digests.append(digest_of(chunk))
                await trio.lowlevel.checkpoint()
            _write(unfinished / _DIGESTS, b"".join(digests))
            shutil.rmtree(self._folder / str(height), ignore_errors=True)
            unfinished.rename(self._folder / str(height))
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        made = self._snapshots[height] = LedgerSnapshot(height, tuple(digests))
        for old in sorted(self._snapshots)[:-KEPT]:
            del self._snapshots[old]
            shutil.rmtree(self._folder / str(old), ignore_errors=True)
        return made


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> LedgerSnapshot | None:
    try:
        digests = (path / _DIGESTS).read_bytes()
        height = int(path.name)
    except (OSError, ValueError):
        return None
    return LedgerSnapshot(height, tuple(digests[at : at + 32] for at in range(0, len(digests), 32)))
