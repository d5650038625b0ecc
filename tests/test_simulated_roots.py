"""The state root that is kept up block by block is the one made from nothing, and proofs say what is in a state."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.disputes import ChannelFixture
from tallystick.settlement.contract.state import ChannelStorage
from tallystick.settlement.simulated.roots import BUCKETS, DEPTH, StateProof, StateTree, proves, state_root
from tallystick.settlement.simulated.world import Changes, World, apply_changes

TERMS = ChannelFixture().terms

KEYS = st.sampled_from([b"b" + bytes([letter]) * 20 for letter in range(40)]) | st.binary(min_size=1, max_size=24)
CHANNELS = st.builds(
    ChannelStorage, terms=st.just(TERMS), deposits=st.tuples(st.integers(0, 99), st.integers(0, 2**80))
)
VALUES = st.integers(1, 2**128 - 1) | CHANNELS
CHANGES = st.dictionaries(KEYS, st.none() | VALUES, max_size=12)


@given(st.lists(CHANGES, max_size=6))
def test_the_root_that_is_kept_up_equals_the_one_made_from_nothing(blocks: list[Changes]) -> None:
    world: World = {}
    tree = StateTree(world)
    assert tree.root == state_root(world)
    for changes in blocks:
        change = tree.after(changes)
        apply_changes(world, changes)
        assert change.root == state_root(world) == StateTree(world).root
        tree.apply(change)
        assert tree.root == change.root


@given(CHANGES, CHANGES)
def test_looking_ahead_changes_nothing_and_taking_back_gives_the_old_root(first: Changes, second: Changes) -> None:
    world: World = {}
    apply_changes(world, first)
    tree = StateTree(world)
    root = tree.root
    undo = {key: world.get(key) for key in second}
    for ahead in (second, dict.fromkeys(first)):
        tree.after(ahead)
        assert tree.root == root
    tree.apply(tree.after(second))
    assert tree.root == state_root({**world, **second})
    tree.apply(tree.after(undo))
    assert tree.root == root


@given(st.dictionaries(KEYS, VALUES, max_size=12), KEYS, VALUES)
def test_a_proof_shows_what_is_there_and_what_is_not(world: World, key: bytes, other: int | ChannelStorage) -> None:
    tree = StateTree(world)
    for asked in (key, *world):
        proof = tree.prove(asked)
        there = world.get(asked)
        assert proves(tree.root, asked, there, proof)
        assert proves(tree.root, asked, other, proof) == (other == there)
        assert there is None or not proves(tree.root, asked, None, proof)
        assert not proves(hashlib.sha256(tree.root).digest(), asked, there, proof)


def test_looking_ahead_leaves_other_entries_of_the_same_bucket_alone() -> None:
    """Among this many keys, some share a bucket."""
    world: World = {b"key %d" % number: 1 for number in range(2_000)}
    tree = StateTree(world)
    tree.after(dict.fromkeys(world))
    added: Changes = {b"other %d" % number: 1 for number in range(2_000)}
    assert tree.after(added).root == state_root({**world, **added})


def test_a_proof_with_anything_else_in_it_shows_nothing() -> None:
    world: World = {bytes([number, number]): number for number in range(1, 200)}
    tree = StateTree(world)
    key = bytes([7, 7])
    proof = tree.prove(key)
    assert proves(tree.root, key, 7, proof)
    assert not proves(tree.root, key, 7, replace(proof, path=proof.path[:-1]))
    assert not proves(tree.root, key, 7, replace(proof, path=proof.path[::-1]))
    assert not proves(tree.root, key, 7, replace(proof, bucket=proof.bucket * 2))
    assert not proves(tree.root, key, None, replace(proof, bucket=()))
    (entry,) = proof.bucket
    for cut in range(1, 64):
        assert not proves(tree.root, key, None, StateProof((entry[:cut], entry[cut:]), proof.path))


def test_where_a_number_ends_and_a_channel_begins_is_part_of_the_root() -> None:
    roots = {
        state_root({b"k": 1}),
        state_root({b"k": 2}),
        state_root({b"K": 1}),
        state_root({b"k": 1, b"l": 1}),
        state_root({b"k": ChannelStorage(TERMS, (1, 0))}),
        state_root({}),
    }
    assert len(roots) == 6


def test_the_root_of_a_state_is_what_it_was() -> None:
    """Blocks hold it: it never changes."""
    world: World = {b"n" + bytes(20): 1, b"b" + bytes(40): 10**18, b"c" + bytes(32): ChannelStorage(TERMS, (5, 6))}
    assert state_root(world).hex() == "193184228193472bc63975c5ef3ffdd99f8ecaff88eae14ba719eef88881d045"
    assert BUCKETS == 2**DEPTH == 16_384
