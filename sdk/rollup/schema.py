"""What an operator or a watcher keeps on disk: what the chain told, and, of an operator, steps and batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tallystick.channels.protocol.keys import keccak
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import CAME, Rows, above, at_most, below, damage, find, table
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.operator import PostBatch, SignedStep
from tallystick.settlement.rollup.steps import decode_step, encode_step

HEADS_KEPT = 4_096
"""Blocks at which a look at the chain ended: a reorganisation that goes back further is followed from the first one."""


class FollowedHead(NamedTuple):
    """A block up to which everything that was told is on disk."""

    number: int
    hash: bytes
    time: int


class KeptLog(NamedTuple):
    """A log as it is kept."""

    number: int
    position: int
    topics: tuple[bytes, ...]
    data: bytes


class LogsFollowed(Moment, frozen=True):
    """The chain told this, up to this block."""

    head: FollowedHead
    logs: tuple[KeptLog, ...]


class LogsUndone(Moment, frozen=True):
    """The blocks above this number left the chain."""

    number: int


class StepTaken(Moment, frozen=True):
    """A step was taken for a batch by this time; its user has a promise of it."""

    word: bytes
    signatures: tuple[bytes, ...]
    until: int


class StepsForgotten(Moment, frozen=True):
    """These are in batches that are final, or came to nothing long ago."""

    words: tuple[bytes, ...]


class BatchMade(Moment, frozen=True):
    """A batch was made, and may be posted from now on."""

    made: PostBatch


class BatchesForgotten(Moment, frozen=True):
    """Batches below this number are final: nobody can demand anything of them."""

    number: int


class KeptStep(NamedTuple):
    """A step that was taken."""

    signed: SignedStep
    until: int


_LOGS = table("rollup_logs", "number position topics data", keys=2)
_HEADS = table("rollup_heads", "number hash time")
_STEPS = table("rollup_steps", "word signatures until")
_BATCHES = table("rollup_batches", "name number data", keys=1)


def batch_name(number: int, batch: Batch) -> bytes:
    """Return what names a batch on disk (32 bytes): another one under the same number has another name."""
    return keccak(number.to_bytes(8, "big") + batch.time.to_bytes(8, "big") + batch.data)


def read_logs(store: Store) -> list[KeptLog]:
    """Return all that was told, in order."""
    rows = store.read(_LOGS.rows(order=("number", "position")))
    return [
        KeptLog(number, position, tuple(topics[at : at + 32] for at in range(0, len(topics), 32)), data)
        for number, position, topics, data in rows
    ]


def read_heads(store: Store) -> list[FollowedHead]:
    """Return the blocks at which looks ended, in order."""
    return [FollowedHead(*row) for row in store.read(_HEADS.rows(order=("number",)))]


def read_steps(store: Store) -> dict[bytes, KeptStep]:
    """Return the steps that were taken, by their words, in order."""
    found: dict[bytes, KeptStep] = {}
    for word, signatures, until in store.read(_STEPS.rows(order=(CAME,))):
        step = decode_step(word)
        if step is None:
            raise damage("rollup_steps", (word,))
        found[word] = KeptStep(SignedStep(step, _cut(signatures)), until)
    return found


def read_batch(store: Store, number: int, batch: Batch) -> PostBatch | None:
    """Return a batch with its signatures, None if it is not ours."""
    row = find(store, _BATCHES, batch_name(number, batch))
    return None if row is None else _decode(row[2])


def read_batches(store: Store, number: int) -> list[PostBatch]:
    """Return the batches that were made under a number, in order."""
    return [_decode(row[2]) for row in store.read(_BATCHES.rows(number=number, order=(CAME,)))]


def _cut(signatures: bytes) -> tuple[bytes, ...]:
    return tuple(signatures[at : at + 64] for at in range(0, len(signatures), 64))


def _decode(data: bytes) -> PostBatch:
    try:
        return msgspec.msgpack.decode(data, type=PostBatch)
    except msgspec.DecodeError as error:
        raise damage("rollup_batches", ()) from error


def _followed(rows: Rows, moment: LogsFollowed) -> None:
    for log in moment.logs:
        rows.put(_LOGS, log.number, log.position, b"".join(log.topics), log.data)
    rows.put(_HEADS, *moment.head)
    rows.delete(_HEADS, below("number", moment.head.number - HEADS_KEPT))


def _undone(rows: Rows, moment: LogsUndone) -> None:
    for of in (_LOGS, _HEADS):
        rows.delete(of, above("number", moment.number))


def _taken(rows: Rows, moment: StepTaken) -> None:
    rows.put(_STEPS, moment.word, b"".join(moment.signatures), moment.until)


def _steps_forgotten(rows: Rows, moment: StepsForgotten) -> None:
    for word in moment.words:
        rows.delete(_STEPS, word=word)


def _made(rows: Rows, moment: BatchMade) -> None:
    made = moment.made
    rows.keep(_BATCHES, batch_name(made.number, made.batch), made.number, msgspec.msgpack.encode(made))


def _batches_forgotten(rows: Rows, moment: BatchesForgotten) -> None:
    rows.delete(_BATCHES, at_most("number", moment.number - 1))


WATCHING = Subject("rollup-watching", (_LOGS, _HEADS), {LogsFollowed: _followed, LogsUndone: _undone})
OPERATING = Subject(
    "rollup-operating",
    (_STEPS, _BATCHES),
    {
        StepTaken: _taken,
        StepsForgotten: _steps_forgotten,
        BatchMade: _made,
        BatchesForgotten: _batches_forgotten,
    },
)


def words_of(batch: Batch) -> Sequence[bytes]:
    """Return the words of a batch's steps."""
    return [word for _, word, _ in batch.steps()]


def word_of(signed: SignedStep) -> bytes:
    """Return a step's word."""
    return encode_step(signed.step)
