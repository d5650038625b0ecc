"""A rollup's rules: honest batches are never convicted, wrong ones of each kind always are, by one step."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.rollup_house import CHEATS, PLACE, Posted, RollupHouse
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ZERO32
from tallystick.settlement.rollup.batches import PROOF_WORDS, Batch, StepProof, judge, proof_of
from tallystick.settlement.rollup.execution import prove, replay
from tallystick.settlement.rollup.packing import pack_data, unpack_data
from tallystick.settlement.rollup.rules import StepContext
from tallystick.settlement.rollup.state import BadOpening, RollupState
from tallystick.settlement.rollup.steps import EntryKind, RollupClose, RollupOpen, encode_step, list_hash
from tallystick.settlement.rollup.trees import DEPTH, Tree, climb, list_root, list_siblings

SEEDS = st.integers(0, 2**32)
LEAVES = st.binary(min_size=31, max_size=31).map(lambda rest: b"\x01" + rest)


def context_of(batch: Batch) -> StepContext:
    """Return what is known of a batch's steps."""
    return StepContext(PLACE, batch.time, batch.queue_end)


def done_by(house: RollupHouse, proof: StepProof) -> tuple[bytes, bytes]:
    """Return what the chain keeps of the list before the next entry and after it."""
    return house.done(proof.head), house.done(proof.head + 1)


def played(seed: int, rounds: int = 2, steps: int = 10) -> tuple[RollupHouse, Posted]:
    """Return a house after some honest batches, and the last one of them."""
    house = RollupHouse(seed)
    for user in range(3):
        house.deposit(user, house.random.randint(0, 10**6))
    for _ in range(rounds):
        house.order(*(house.random_entry() for _ in range(house.random.randrange(4))))
        posted = house.honest(steps)
    return house, posted


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_no_step_of_an_honest_batch_is_wrong_and_all_of_it_is_signed(seed: int) -> None:
    house, posted = played(seed)
    again = replay(posted.batch, posted.before, PLACE, house.entry)
    assert again.wrong is None and again.state.root == posted.after.root == posted.batch.root
    posted.batch.check_form(house.done(posted.batch.queue_end))
    for index, state in enumerate(again.states):
        proof = prove(posted.batch, index, state, context_of(posted.batch), house.entry)
        assert proof_of(proof.words).words == proof.words and len(proof.words) == PROOF_WORDS
        found = judge(proof_of(proof.words), posted.batch.steps_root, context_of(posted.batch), *done_by(house, proof))
        assert (found.fault, found.statements) == ("", again.statements[index])
        for statement, signature in zip(found.statements, posted.signatures[index], strict=True):
            assert statement.is_signed(signature) and not statement.is_signed(bytes(32) + signature[32:])
    assert house.wealth() == sum(entry.amount0 for entry in house.queue if entry.kind == EntryKind.DEPOSIT)


@pytest.mark.parametrize("kind", CHEATS)
@settings(deadline=None, max_examples=12)
@given(SEEDS)
def test_each_kind_of_wrong_batch_is_convicted_by_one_step(kind: str, seed: int) -> None:
    house, posted = played(seed)
    made = None
    for _ in range(40):
        at = house.random.randrange(posted.batch.count)
        made = CHEATS[kind](house, posted, at)
        if made is not None:
            break
    if made is None:
        return
    made.check_form(house.done(made.queue_end))  # the chain takes it
    again = replay(made, posted.before, PLACE, house.entry)
    assert again.wrong is not None
    proof = prove(made, again.wrong, again.state, context_of(made), house.entry)
    found = judge(proof_of(proof.words), made.steps_root, context_of(made), *done_by(house, proof))
    assert found.fault


@pytest.mark.parametrize("kind", CHEATS)
def test_each_kind_can_be_made(kind: str) -> None:
    made = [CHEATS[kind](*played(seed), at) for seed in range(6) for at in range(10)]
    assert len([each for each in made if each]) >= 2


@settings(deadline=None, max_examples=15)
@given(SEEDS)
def test_nothing_follows_from_a_proof_that_was_changed(seed: int) -> None:
    house, posted = played(seed)
    again = replay(posted.batch, posted.before, PLACE, house.entry)
    index = house.random.randrange(posted.batch.count)
    proof = prove(posted.batch, index, again.states[index], context_of(posted.batch), house.entry)
    words = list(proof.words)
    at = house.random.randrange(PROOF_WORDS)
    words[at] = house.random.choice((words[at] ^ 1, words[at] + 2**64, 2**256 - 1 - words[at])) % 2**256
    try:
        found = judge(proof_of(tuple(words)), posted.batch.steps_root, context_of(posted.batch), *done_by(house, proof))
    except BadOpening:
        return
    assert not found.fault, "what no step looks at may be anything"


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.integers(0, 2**DEPTH - 1), LEAVES, max_size=6))
def test_a_tree_shows_each_of_its_leaves_and_each_that_it_has_not(leaves: dict[int, bytes]) -> None:
    tree: Tree[bytes] = Tree()
    for index, leaf in leaves.items():
        tree = tree.with_leaf(index, leaf, leaf)
    for index in (*leaves, 7, 2**DEPTH - 1):
        leaf = leaves.get(index, ZERO32)
        assert tree.get(index) == leaves.get(index)
        assert climb(leaf, index, tree.siblings(index)) == tree.root
    row = list(leaves.values())
    for index, leaf in enumerate(row):
        assert climb(leaf, index, list_siblings(row, 4, index)) == list_root(row, 4)


def test_a_batch_that_does_not_hold_together_is_none() -> None:
    house, posted = played(1)
    batch = posted.batch
    done = house.done(batch.queue_end)
    for data in (batch.data[:-1], batch.data[:32], batch.data + bytes(64)):
        with pytest.raises(InvalidInput):
            Batch(batch.time, batch.queue_end, batch.accounts, batch.channels, data).check_form(done)
    with pytest.raises(InvalidInput):
        Batch(batch.time, batch.queue_end + 1, batch.accounts, batch.channels, batch.data).check_form(done)
    with pytest.raises(InvalidInput):
        batch.check_form(list_hash(reversed(house.queue[: batch.queue_end])))
    with pytest.raises(InvalidInput, match="deposit must be from 0"):
        encode_step(RollupOpen(0, 0, 1, 2**88, 0))
    with pytest.raises(InvalidInput, match="131"):
        proof_of((1, 2))


def test_a_batch_is_packed_and_unpacked_and_nothing_else_is() -> None:
    _, posted = played(4, steps=30)
    roots, words = pack_data(posted.batch.data)
    assert unpack_data(roots, words) == posted.batch.data
    assert len(words) < 16 * posted.batch.count
    bomb = zlib.compress(bytes(10**7))
    for bad in ((roots[:-1], words), (roots[:-32], words), (roots, words[:-1]), (roots, words + b"x"), (roots, bomb)):
        with pytest.raises(InvalidInput):
            unpack_data(*bad)
    for bad in ((b"", b""), (bytes(32), zlib.compress(b"")), (roots, b"no"), (bytes(32 * 1_026), words)):
        with pytest.raises(InvalidInput):
            unpack_data(*bad)


def test_bytes_of_a_close_and_of_a_root_do_not_change() -> None:
    word = encode_step(RollupClose(0x01020304, 10**18, 1_800_000_000))
    assert word.hex() == "0501020304" + "0000000de0b6b3a7640000" + "006b49d200" + "00" * 11
    assert RollupState().root.hex() == "82945ba93f88d39f047da1b2324ace6f0c74ad53778e6ced724053dfb12fe962"
