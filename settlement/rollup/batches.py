"""Batches, as they are posted, and the proof of one step of a batch, as it is judged.

A batch's data is the root before, and then of each step its word and the root after it. The chain makes a tree of all
steps, each with both of its roots (96 bytes), and keeps the tree's root: so one step can be shown by itself, and who
shows it need not be believed, nor need the rest be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import ZERO32
from tallystick.settlement.rollup.rules import Statements, StepContext, WrongStep, apply
from tallystick.settlement.rollup.state import BadOpening, LeafOpening, OpenedState, state_root
from tallystick.settlement.rollup.steps import ENTRY_WORDS, WORD, Op, decode_step, entry_of
from tallystick.settlement.rollup.trees import DEPTH, climb, list_root, list_siblings

STEPS_MAX = 1_024
"""Steps of a batch."""

STEPS_DEPTH = 10
"""Of the tree of a batch's steps."""

OPENINGS = 3
"""Leaves that a step looks at, at most."""

_RECORD = 2 * WORD
_OPENING_WORDS = 4 + DEPTH
PROOF_WORDS = 4 + STEPS_DEPTH + 3 + ENTRY_WORDS + OPENINGS * _OPENING_WORDS


class Batch(msgspec.Struct, frozen=True):
    """What an operator posts."""

    time: int
    """By which its steps are judged, in seconds: not later than the block's."""
    queue_end: int
    """How many entries of the chain's list are done after it."""
    accounts: bytes
    """The root of the accounts after it."""
    channels: bytes
    data: bytes

    @property
    def count(self) -> int:
        """How many steps it has."""
        return len(self.data) // _RECORD

    @property
    def root(self) -> bytes:
        """Of the state after it, as it claims."""
        return self.data[-WORD:]

    def check_form(self, done: bytes) -> None:
        """Raise InvalidInput unless its parts belong together: the chain takes no other.

        `done` is the running hash of the chain's list up to `queue_end`: a batch that was made for another list, in
        which a reorganisation has changed the order, is none for this one.
        """
        if len(self.data) % _RECORD != WORD or not 1 <= self.count <= STEPS_MAX:
            raise InvalidInput(f"a batch has from 1 to {STEPS_MAX} steps of {_RECORD} bytes, after the root before it")
        if state_root(self.accounts, self.channels, self.queue_end, done) != self.root:
            raise InvalidInput("the batch's last root is not that of its trees and of the list up to its place")

    def steps(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield of each step the root before it, its word, and the root after it."""
        for at in range(0, len(self.data) - WORD, _RECORD):
            yield self.data[at : at + WORD], self.data[at + WORD : at + _RECORD], self.data[at + _RECORD :][:WORD]

    @property
    def leaves(self) -> list[bytes]:
        """The hash of each step with its roots."""
        return [keccak(self.data[at : at + 3 * WORD]) for at in range(0, len(self.data) - WORD, _RECORD)]

    @property
    def steps_root(self) -> bytes:
        """What the chain keeps of all its steps."""
        return list_root(self.leaves, STEPS_DEPTH)


class StepProof(NamedTuple):
    """One step of a batch, and all that is needed to judge it."""

    position: int
    before: bytes
    word: bytes
    after: bytes
    siblings: tuple[bytes, ...]
    """In the tree of the batch's steps."""
    accounts: bytes
    """What the root before is made of."""
    channels: bytes
    head: int
    entry: tuple[int, ...] = (0,) * ENTRY_WORDS
    """The chain's next entry, if the step carries it out."""
    openings: tuple[LeafOpening, ...] = ()
    """The leaves that the step looks at, in order."""

    @property
    def words(self) -> tuple[int, ...]:
        """It as the numbers that a contract takes."""
        opened = [*self.openings, *[LeafOpening()] * (OPENINGS - len(self.openings))]
        hashes = (self.before, self.word, self.after, *self.siblings, self.accounts, self.channels)
        return (
            self.position,
            *(int.from_bytes(each, "big") for each in hashes),
            self.head,
            *self.entry,
            *(n for o in opened for n in (*o.words, *(int.from_bytes(each, "big") for each in o.siblings))),
        )


def proof_of(words: Sequence[int]) -> StepProof:
    """Return the proof of these numbers; raise InvalidInput if they are none."""
    if len(words) != PROOF_WORDS or any(not 0 <= word < 1 << 256 for word in words):
        raise InvalidInput(f"a proof of a step has {PROOF_WORDS} numbers of 256 bits")
    raw = [word.to_bytes(32, "big") for word in words]
    at = 4 + STEPS_DEPTH
    opened = []
    for begin in range(at + 3 + ENTRY_WORDS, PROOF_WORDS, _OPENING_WORDS):
        numbers = words[begin], words[begin + 1], words[begin + 2], words[begin + 3]
        opened.append(LeafOpening(numbers, tuple(raw[begin + 4 : begin + _OPENING_WORDS])))
    return StepProof(
        position=words[0],
        before=raw[1],
        word=raw[2],
        after=raw[3],
        siblings=tuple(raw[4:at]),
        accounts=raw[at],
        channels=raw[at + 1],
        head=words[at + 2],
        entry=tuple(words[at + 3 : at + 3 + ENTRY_WORDS]),
        openings=tuple(opened),
    )


class Judgement(NamedTuple):
    """What is so of a step."""

    fault: str
    """Why it is wrong; empty if it is right."""
    statements: Statements = ()
    """What must be signed for it, if it is right but for that."""


def show(batch: Batch, index: int) -> tuple[bytes, bytes, bytes, tuple[bytes, ...]]:
    """Return of a step the root before, its word, the root after, and what leads to the root of all steps."""
    at = index * _RECORD
    data = batch.data
    before, word, after = (data[at + each * WORD : at + (each + 1) * WORD] for each in range(3))
    return before, word, after, list_siblings(batch.leaves, STEPS_DEPTH, index)


def judge(
    proof: StepProof, steps_root: bytes, context: StepContext, done: bytes = ZERO32, then: bytes = ZERO32
) -> Judgement:
    """Judge the step that a proof shows, of the batch with this tree of steps; raise BadOpening if it shows none.

    `done` is the running hash of the chain's list up to `proof.head`, `then` that with one entry more. `context.entry`
    is not looked at: the proof names the entry, which must lead from one hash to the other.
    """
    leaf = keccak(proof.before + proof.word + proof.after)
    if proof.position >> STEPS_DEPTH or climb(leaf, proof.position, proof.siblings) != steps_root:
        raise BadOpening("there is no such step in the batch")
    if state_root(proof.accounts, proof.channels, proof.head, done) != proof.before:
        raise BadOpening("the state before the step is another one")
    step = decode_step(proof.word)
    if step is None:
        return Judgement("it is no step")
    entry = None
    if proof.word[0] == Op.NEXT and proof.head < context.queue_end:
        if keccak(done + b"".join(word.to_bytes(32, "big") for word in proof.entry)) != then:
            raise BadOpening(f"entry {proof.head} of the chain's list is another one")
        entry = entry_of(proof.entry)
    state = OpenedState(proof.accounts, proof.channels, proof.head, done, proof.openings)
    try:
        statements = apply(state, step, msgspec.structs.replace(context, entry=entry))
    except WrongStep as error:
        return Judgement(str(error))
    if state.root != proof.after:
        return Judgement("the root after it is another one")
    return Judgement("", statements)
