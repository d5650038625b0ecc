"""The pure core of following a chain: any forks, any sizes of answers, the same result as following afresh (I10)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.settlement.chain import Block, Header
from tallystick.settlement.errors import ChainError
from tallystick.settlement.following.follower import BlockAdded, BlockRemoved, Followed, advance, apply

GENESIS = Block(Header(0, b"genesis".ljust(32), bytes(32), 1_000), ())


def extend(branch: list[Block], count: int, salt: int) -> list[Block]:
    """Return the branch with `count` more blocks, different ones for every `salt`."""
    branch = list(branch)
    for _ in range(count):
        parent = branch[-1].header
        digest = hashlib.sha256(parent.hash + bytes([salt % 256])).digest()
        branch.append(Block(Header(parent.number + 1, digest, parent.hash, parent.time + 10), ()))
    return branch


def follow(state: Followed, branch: list[Block], limit: int) -> Followed:
    """Follow the branch to its end, as the shell does: with answers of at most `limit` blocks beyond the overlap."""
    overlap = 1
    while True:
        first = max(state.start, state.next - overlap)
        answer = advance(state, branch[first : first + overlap + limit])
        if answer is None:
            overlap = min(2 * overlap, len(state.headers))
            continue
        after, steps = answer
        check_steps(state, after, steps)
        if not steps:
            return state
        state, overlap = after, 1


def check_steps(state: Followed, after: Followed, steps: tuple[BlockAdded | BlockRemoved, ...]) -> None:
    """Every step fits onto the one before: removals newest first, each block on its parent."""
    for step in steps:
        if isinstance(step, BlockRemoved):
            assert step.header == state.position
        elif state.position is not None:
            assert step.block.header.parent == state.position.hash
        state = apply(state, step)
    assert state == after


@given(
    forks=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 14)), max_size=8),
    limit=st.integers(1, 20),
    start=st.integers(0, 3),
)
def test_following_through_any_forks_ends_as_following_afresh_does(
    forks: list[tuple[int, int]], limit: int, start: int
) -> None:
    branch = extend([GENESIS], 4, 0)
    state = follow(Followed(start, kept=12), branch, limit)
    for salt, (depth, growth) in enumerate(forks, 1):
        depth = min(depth, len(branch) - 1)
        branch = extend(branch[: len(branch) - depth], max(growth, depth), salt)
        state = follow(state, branch, limit)
        assert state.headers == follow(Followed(start, kept=12), branch, limit).headers
        assert state.position == branch[-1].header


@given(depth=st.integers(1, 10), growth=st.integers(1, 12))
def test_every_added_block_is_removed_before_another_takes_its_number(depth: int, growth: int) -> None:
    old = extend([GENESIS], 10, 0)
    new = extend(old[: 11 - depth], growth, 1)
    standing: dict[int, bytes] = {}
    state = Followed(0)
    for branch in (old, new):
        answer = advance(state, branch)
        assert answer is not None
        state, steps = answer
        for step in steps:
            if isinstance(step, BlockRemoved):
                assert standing.pop(step.header.number) == step.header.hash
            else:
                assert standing.setdefault(step.block.header.number, step.block.header.hash) == step.block.header.hash
    assert standing == {block.header.number: block.header.hash for block in new}


def test_a_node_that_lags_removes_nothing() -> None:
    branch = extend([GENESIS], 9, 0)
    state = follow(Followed(0), branch, 5)
    assert advance(state, branch[4:7]) == (state, ())
    assert advance(state, ()) == (state, ())


def test_a_reorganisation_below_all_that_is_remembered_is_an_error_that_says_what_to_do() -> None:
    branch = extend([GENESIS], 20, 0)
    state = follow(Followed(0, kept=5), branch, 5)
    other = extend(branch[:10], 15, 1)
    with pytest.raises(ChainError, match="deeper than the 5 blocks"):
        follow(state, other, 5)


def test_blocks_that_are_no_chain_are_refused() -> None:
    branch = extend([GENESIS], 5, 0)
    with pytest.raises(ChainError, match="no chain"):
        advance(Followed(0), [branch[0], branch[2]])
    with pytest.raises(ChainError, match="no chain"):
        advance(Followed(0), [*branch[:3], *extend(branch[:2], 3, 1)[3:]])
