"""How the simulated ledger takes a batch: its roots as they are, its words by columns and deflated.

Roots look random, and words are mostly zeros: so each step takes about 45 bytes instead of 64. An EVM takes a batch as
it is, as zeros are cheap there and code to unpack is not.
"""

from __future__ import annotations

import zlib

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.rollup.batches import STEPS_MAX
from tallystick.settlement.rollup.steps import WORD


def pack_data(data: bytes) -> tuple[bytes, bytes]:
    """Return roots and words of a batch's data."""
    rows = [data[at : at + WORD] for at in range(0, len(data), WORD)]
    words = b"".join(rows[1::2])
    columns = b"".join(words[at::WORD] for at in range(WORD))
    return b"".join(rows[0::2]), zlib.compress(columns, 9)


def unpack_data(roots: bytes, words: bytes) -> bytes:
    """Return the data of which these are roots and words; raise InvalidInput if they are none."""
    count = len(roots) // WORD - 1
    if len(roots) % WORD or not 1 <= count <= STEPS_MAX:
        raise InvalidInput(f"a batch has from 1 to {STEPS_MAX} steps, and a root more than that")
    size = count * WORD
    reader = zlib.decompressobj()
    try:
        columns = reader.decompress(words, size + 1)
    except zlib.error as error:
        raise InvalidInput(f"the words of a batch cannot be read: {error}") from error
    if len(columns) != size or not reader.eof or reader.unused_data:
        raise InvalidInput(f"the words of a batch of {count} steps are {size} bytes")
    rows = [columns[at::count] for at in range(count)]
    steps = zip(rows, (roots[at : at + WORD] for at in range(WORD, len(roots), WORD)), strict=True)
    return roots[:WORD] + b"".join(word + root for word, root in steps)
