"""Whether the write-ahead log that a crash left behind is whole.

SQLite takes the first frame of the log whose checksum is wrong for its end, as it is after a power failure in the midst
of a commit. A bit that turned further up looks the same to it, and everything that was committed after that would be
forgotten without a word: numbers would be signed a second time. But each frame's checksum begins with the one before
it, *as that is written*: so frames behind a damaged one can still be told from leftovers. A commit is begun only after
the one before it was synced. So if two commits stand behind a bad frame, the first of them was durable, and the frame
was good once. The same holds for a damaged header, which is synced before any frame.

Source: "WAL-mode File Format", sqlite.org/walformat.html.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from pathlib import Path

from tallystick.channels.errors import StoreDamaged

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
"""The lowest bit says that checksums are over big-endian words."""
_MASK = 0xFFFFFFFF
_PAGE, _PAGE_MAX = 4_096, 65_536

Sum = tuple[int, int]


def verify_log(path: Path) -> None:
    """Raise StoreDamaged if a frame in the midst of the log is damaged; what is cut off at its end is no damage."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    if len(data) < _HEADER.size + _FRAME.size:
        return
    magic, _, page, _, *salts, first, second = _HEADER.unpack_from(data)
    order, before = (">" if magic & 1 else "<"), (first, second)
    bad = magic & ~1 != _MAGIC or _sum(data[:24], order, (0, 0)) != before
    if bad:  # SQLite would take the whole log for empty; what was in it, its frames still tell
        order, page = (">" if sys.byteorder == "big" else "<"), _page_size(path)
        salts = list(_FRAME.unpack_from(data, _HEADER.size)[2:4])
        if salts == [0, 0]:
            return  # laid out, and never used
    step, commits = _FRAME.size + page, 0
    for start in range(_HEADER.size, len(data) - step + 1, step):
        _, commit, salt1, salt2, *said = _FRAME.unpack_from(data, start)
        good = False
        if [salt1, salt2] == salts:  # else damaged, left over from an earlier round of the log, or never used
            body = data[start : start + 8] + data[start + _FRAME.size : start + step]
            good = _sum(body, order, before) == tuple(said)
        before = (said[0], said[1])
        bad = bad or not good
        commits += bool(bad and good and commit)
    if commits > 1:
        raise StoreDamaged(
            f"the log {path.name} is damaged in its midst, {commits} commits after that would be lost: nothing was done"
            "; check the disk and the memory, keep the files, and see 'Damage' in docs/operations.md"
        )


def _page_size(log: Path) -> int:
    """Return the bytes of a page of the database that a log belongs to."""
    with contextlib.suppress(OSError), open(log.with_name(log.name.removesuffix("-wal")), "rb") as file:
        size = int.from_bytes(file.read(18)[16:], "big")
        if size == 1 or (size >= 512 and size & (size - 1) == 0):
            return _PAGE_MAX if size == 1 else size
    return _PAGE


def _sum(data: bytes, order: str, before: Sum) -> Sum:
    one, other = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        one = (one + words[at] + other) & _MASK
        other = (other + words[at + 1] + one) & _MASK
    return one, other
