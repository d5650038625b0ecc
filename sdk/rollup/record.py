"""What a user of a rollup keeps on disk: each statement that was ever signed under a number, from before it was sent.

A number is signed under once. Nothing is ever deleted: three hundred bytes a step are the price of knowing.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import CAME, Row, Rows, at_least, damage, table
from tallystick.sdk.rollup.promises import Promise
from tallystick.settlement.rollup.steps import Step, decode_step


class StepStanding(enum.IntEnum):
    """What is known of a step that was signed."""

    SIGNED = 0
    """It may have reached the operator, or not."""
    TAKEN = 1
    """The operator promised it, or its number is used up by a batch on the chain."""
    VOID = 2
    """A state that nobody can take back has made it impossible: its number may be signed under again."""


class RecordedStep(NamedTuple):
    """A step that was signed."""

    digest: bytes
    """Of the statement that was signed: it names accounts by their addresses."""
    bundle: int
    """Steps of one bundle are handed in at once."""
    number: int
    """Under which it was signed: the account's nonce."""
    step: Step
    """It names accounts by their numbers in the rollup, which a reorganisation may change."""
    other: Address
    """The account that is named in it besides ours; zero if none is."""
    signature: bytes
    standing: StepStanding = StepStanding.SIGNED
    key: str | None = None
    """Under which the user asked for it: asked again, it is the same step."""
    promise: Promise | None = None
    """The operator's, if it is known."""


class StepsSigned(Moment, frozen=True):
    """These were signed under their numbers, and may be sent from now on, at once."""

    rows: tuple[tuple[bytes, int, int, bytes, bytes, bytes, str | None], ...]
    """Of each what `RecordedStep` has, with the step's word."""


class StepPromised(Moment, frozen=True):
    """The operator promised a step, by its word, for a time."""

    digest: bytes
    word: bytes
    until: int
    promise: bytes


class StepSettled(Moment, frozen=True):
    """The chain shows what became of a step."""

    digest: bytes
    standing: StepStanding


_SIGNED = table(
    "rollup_signed", "digest bundle number word other signature key standing until promise", unique=(("key",),)
)


def sign_moment(steps: Sequence[RecordedStep], words: Sequence[bytes]) -> StepsSigned:
    """Return the moment that steps with these words were signed."""
    return StepsSigned(
        tuple(
            (each.digest, each.bundle, each.number, word, bytes(each.other), each.signature, each.key)
            for each, word in zip(steps, words, strict=True)
        )
    )


def read_bundle(store: Store, bundle: int) -> list[RecordedStep]:
    """Return what was signed for a bundle and can be carried out, in the order of its numbers."""
    found = [_recorded(row) for row in store.read(_SIGNED.rows(bundle=bundle, order=("number", CAME)))]
    return [each for each in found if each.standing != StepStanding.VOID]


def read_unsettled(store: Store, number: int) -> list[int]:
    """Return the bundles, in order, of which the operator may want a step: it may not have it, or asks for its number.

    An operator that knows all below that number needs no others.
    """
    signed = store.read(_SIGNED.rows(columns="bundle", order=("bundle",), standing=int(StepStanding.SIGNED)))
    later = store.read(_SIGNED.rows(at_least("number", number), columns="bundle", standing=int(StepStanding.TAKEN)))
    return sorted({bundle for (bundle,) in (*signed, *later)})


def read_last(store: Store) -> RecordedStep | None:
    """Return what was signed under the highest number that is used, None if nothing was."""
    for row in store.read(_SIGNED.rows(order=("-number", "standing"), limit=1)):
        found = _recorded(row)
        return found if found.standing != StepStanding.VOID else _before(store, found.number)
    return None


def read_free(store: Store) -> RecordedStep | None:
    """Return what is void under the lowest number that nothing else was signed under; None if there is none."""
    for row in store.read(_SIGNED.rows(order=("number",), standing=int(StepStanding.VOID))):
        found = _recorded(row)
        if all(_recorded(each).standing == StepStanding.VOID for each in store.read(_SIGNED.rows(number=found.number))):
            return found
    return None


def read_key(store: Store, key: str) -> RecordedStep | None:
    """Return what was asked for under a key, None if nothing was."""
    return next((_recorded(row) for row in store.read(_SIGNED.rows(key=key))), None)


def read_promises(store: Store) -> list[Promise]:
    """Return the operator's promises, by the numbers of the steps. They can be shown to anybody."""
    rows = [_recorded(row) for row in store.read(_SIGNED.rows(order=("number", CAME)))]
    return [each.promise for each in rows if each.promise is not None]


def _before(store: Store, number: int) -> RecordedStep | None:
    rows = store.read(_SIGNED.rows(order=("-number",)))
    found = [_recorded(row) for row in rows]
    return next((each for each in found if each.number <= number and each.standing != StepStanding.VOID), None)


def _recorded(row: Row) -> RecordedStep:
    digest, bundle, number, word, other, signature, key, standing, until, promised = row
    step = decode_step(word)
    if step is None or standing not in tuple(StepStanding):
        raise damage("rollup_signed", (digest,))
    promise = Promise(word, until, promised) if promised else None
    where = digest, bundle, number, step, Address(other or NATIVE), signature
    return RecordedStep(*where, StepStanding(standing), key, promise)


def _signed(rows: Rows, moment: StepsSigned) -> None:
    for row in moment.rows:
        rows.add(_SIGNED, *row, int(StepStanding.SIGNED), 0, b"")


def _promised(rows: Rows, moment: StepPromised) -> None:
    standing = int(StepStanding.TAKEN)
    changes = {"word": moment.word, "until": moment.until, "promise": moment.promise, "standing": standing}
    rows.update(_SIGNED, changes, digest=moment.digest)


def _settled(rows: Rows, moment: StepSettled) -> None:
    changes: dict[str, object] = {"standing": int(moment.standing)}
    if moment.standing == StepStanding.VOID:
        changes["key"] = None
    rows.update(_SIGNED, changes, digest=moment.digest)


SIGNING = Subject("rollup-signing", (_SIGNED,), {StepsSigned: _signed, StepPromised: _promised, StepSettled: _settled})
