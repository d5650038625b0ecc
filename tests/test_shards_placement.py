"""Which shard is whose, and what proves that something is in a list."""

from __future__ import annotations

import itertools
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, Terms
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.shards.group import home_of, meeting_of
from tallystick.settlement.shards.outbox import Sending, decode_sending, encode_sending
from tallystick.settlement.shards.tree import climb, leaf_of, prove, root_of
from tallystick.settlement.simulated.shard import Shard
from tallystick.settlement.testing.shards import local_group, shard_key

ACCOUNTS = [Address(keccak(b"%d" % number)[12:]) for number in range(4_000)]


def test_accounts_and_pairs_spread_evenly_over_shards() -> None:
    homes = Counter(home_of(account, 4) for account in ACCOUNTS)
    meetings = Counter(meeting_of(pair, 4) for pair in itertools.pairwise(ACCOUNTS))
    for found in (homes, meetings):
        assert sorted(found) == [0, 1, 2, 3] and min(found.values()) > 900


def test_both_of_a_pair_find_the_same_shard() -> None:
    assert all(meeting_of((a, b), 7) == meeting_of((b, a), 7) for a, b in zip(ACCOUNTS, ACCOUNTS[9:], strict=False))


def test_a_channel_is_where_its_terms_say() -> None:
    group = local_group(3)
    terms = Terms(group.chain_of(2), group.contract, (ACCOUNTS[0], ACCOUNTS[1]), NATIVE, 0, 600, ZERO32)
    assert group.shard_of(terms) == 2
    for other in (
        msgspec.structs.replace(terms, chain_id=group.chain_id + 3),
        msgspec.structs.replace(terms, chain_id=group.chain_id - 1),
        msgspec.structs.replace(terms, contract=ACCOUNTS[2]),
    ):
        with pytest.raises(InvalidInput, match="on none of these shards"):
            group.shard_of(other)


def test_what_makes_no_group_is_refused() -> None:
    group = local_group(2)
    for change in (
        {"keys": group.keys[:1]},
        {"keys": (group.keys[0], group.keys[0])},
        {"keys": (group.keys[0], b"\x02" * 33 + b"x")},
        {"chain_id": 0},
        {"final_blocks": 0},
    ):
        with pytest.raises(InvalidInput):
            msgspec.structs.replace(group, **change)
    with pytest.raises(InvalidInput, match="there is no shard 2"):
        group.chain_of(2)
    with pytest.raises(InvalidInput, match="not the key of shard 1"):
        Shard(group, 1, shard_key(0))


def test_groups_that_differ_have_other_fingerprints() -> None:
    group = local_group(2)
    others = [
        local_group(3),
        local_group(2, final_blocks=4),
        msgspec.structs.replace(group, keys=group.keys[::-1]),
        msgspec.structs.replace(group, chain_id=group.chain_id + 1),
        msgspec.structs.replace(group, contract=ACCOUNTS[0]),
    ]
    assert len({each.fingerprint for each in (group, *others)}) == 6


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=40))
def test_each_leaf_is_proven_and_nothing_else(contents: list[bytes]) -> None:
    leaves = [leaf_of(data) for data in contents]
    root = root_of(leaves)
    for index, leaf in enumerate(leaves):
        steps = prove(leaves, index)
        assert climb(leaf, steps) == root
        assert climb(leaf_of(contents[index] + b"x"), steps) != root


def test_a_node_is_no_leaf() -> None:
    """Else a list of two could be shown as a list of one, whose content is the two hashes."""
    first, second = leaf_of(b"a"), leaf_of(b"b")
    assert leaf_of(first + second) != root_of([first, second])


@given(
    st.builds(
        Sending,
        st.integers(0, 2**64 - 1),
        st.sampled_from([NATIVE, Address(b"\x70" * 20)]),
        st.binary(min_size=20, max_size=20).map(Address),
        st.integers(1, 2**128 - 1),
        st.integers(0, 2**64 - 1),
    )
)
def test_a_sending_is_read_as_it_was_written(sending: Sending) -> None:
    assert decode_sending(encode_sending(sending)) == sending


@pytest.mark.parametrize("change", [{"amount": 0}, {"amount": 2**128}, {"shard": -1}, {"expiry": 2**64}, {"to": b"\0"}])
def test_a_sending_that_cannot_be_is_not_written(change: dict[str, object]) -> None:
    good = Sending(1, NATIVE, PrivateKey(keccak(b"x")).address, 5)
    with pytest.raises(InvalidInput):
        encode_sending(good._replace(**change))  # type: ignore[arg-type]


def test_what_cannot_be_read_or_carries_other_coins_than_it_says_does_nothing() -> None:
    good = encode_sending(Sending(1, NATIVE, PrivateKey(keccak(b"x")).address, 5))
    for envelope, code in (
        (msgspec.structs.replace(good, value=6), Revert.BAD_AMOUNT),
        (msgspec.structs.replace(good, data=good.data[:40]), Revert.UNKNOWN_CALL),
        (Envelope(good.to, 5, b""), Revert.UNKNOWN_CALL),
    ):
        with pytest.raises(Reverted) as refused:
            decode_sending(envelope)
        assert refused.value.code is code
