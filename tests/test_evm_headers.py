"""Headers that chain, filters, logs and their blocks: what of a node's word is taken."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from simulation.disputes import ChannelFixture
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import ChannelOpened, Deposited, Header
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.event_logs import Log, encode_event
from tallystick.settlement.ethereum.evm.abi import LOCKS_HELD, HeldLocks, held_hash
from tallystick.settlement.ethereum.evm.channels import ChannelsHeard, standing
from tallystick.settlement.ethereum.evm.headers import (
    RecentHeaders,
    SeenHeader,
    bloom_of,
    check_chain,
    encode_list,
    hash_of,
    in_bloom,
    read_seen,
)
from tallystick.settlement.ethereum.evm.logs import PlacedLog, blocks_of, is_forged, read_logs, silent_blocks
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex

FIXTURE = ChannelFixture()
AT = Deployment(FIXTURE.terms.chain_id, FIXTURE.terms.contract)
OPENED = encode_event(ChannelOpened(FIXTURE.id, FIXTURE.terms))
DEPOSITED = encode_event(Deposited(FIXTURE.id, 0, 50))

# Ethereum's block 0, and its block 1, whose fields are known everywhere.
GENESIS = {
    "difficulty": "0x400000000",
    "extraData": "0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa",
    "gasLimit": "0x1388",
    "gasUsed": "0x0",
    "hash": "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
    "logsBloom": "0x" + "00" * 256,
    "miner": "0x0000000000000000000000000000000000000000",
    "mixHash": "0x" + "00" * 32,
    "nonce": "0x0000000000000042",
    "number": "0x0",
    "parentHash": "0x" + "00" * 32,
    "receiptsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
    "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
    "stateRoot": "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544",
    "timestamp": "0x0",
    "transactionsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
}


def chain(length: int, *holding: int, first: int = 5) -> list[SeenHeader]:
    """Return headers that chain; those of these numbers hold logs of the contract."""
    parent, found = bytes(32), []
    for number in range(first, first + length):
        header = Header(number, keccak(b"%d" % number + parent), parent, 1_000 + number)
        found.append(SeenHeader(header, bloom_of(AT.contract) if number in holding else bytes(256), True))
        parent = header.hash
    return found


def placed(seen: SeenHeader, index: int, log: Log, by: Address = AT.contract) -> PlacedLog:
    return PlacedLog(seen.header.number, seen.header.hash, index, log, by)


def told(log: PlacedLog, **other: Any) -> dict[str, Any]:
    """Return a log as nodes tell it."""
    return {
        "address": to_hex(AT.contract),
        "topics": [to_hex(topic) for topic in log.log.topics],
        "data": to_hex(log.log.data),
        "blockNumber": quantity(log.number),
        "blockHash": to_hex(log.hash),
        "logIndex": quantity(log.index),
        "removed": False,
        **other,
    }


def test_a_header_is_proven_by_its_fields() -> None:
    assert read_seen(GENESIS).proven
    assert hash_of(GENESIS) == bytes.fromhex(GENESIS["hash"][2:])
    for name in GENESIS.keys() - {"hash"}:
        value = GENESIS[name]
        other = value[:-1] + ("1" if value[-1] != "1" else "2")
        assert not read_seen({**GENESIS, name: other}).proven, name
        assert hash_of({**GENESIS, name: None}) is None


@given(st.lists(st.binary(max_size=80) | st.binary(min_size=250, max_size=300), max_size=30))
def test_a_list_is_written_as_rlp_writes_it(items: list[bytes]) -> None:
    assert encode_list(items) == rlp.encode(items)


def test_fields_that_later_forks_added_are_hashed_in_their_order() -> None:
    london = {**GENESIS, "baseFeePerGas": "0x7"}
    shanghai = {**london, "withdrawalsRoot": "0x" + "01" * 32}
    hashes = {hash_of(GENESIS), hash_of(london), hash_of(shanghai)}
    assert len(hashes) == 3 and None not in hashes


@given(st.dictionaries(st.sampled_from(sorted(GENESIS)), st.none() | st.integers() | st.text(max_size=70)))
def test_no_header_of_a_node_does_harm(changed: dict[str, object]) -> None:
    value = {**GENESIS, **changed}
    hash_of(value)  # type: ignore[arg-type]
    with contextlib.suppress(InvalidInput):
        read_seen(value)  # type: ignore[arg-type]


def test_headers_have_to_follow_one_another() -> None:
    seen = chain(4)
    check_chain(seen, 5, True)
    check_chain([], 5, True)
    other_parent = msgspec.structs.replace(seen[1], header=msgspec.structs.replace(seen[1].header, parent=b"x" * 32))
    for wrong, first in (
        ([*seen[:2], seen[3]], 5),
        (seen, 6),
        ([seen[0], other_parent], 5),
        ([msgspec.structs.replace(seen[0], proven=False)], 5),
    ):
        with pytest.raises(ChainError):
            check_chain(wrong, first, True)
    check_chain([msgspec.structs.replace(seen[0], proven=False)], 5, False)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6), st.integers(0, 11)), max_size=12))
def test_recent_headers_are_those_of_the_branch_whatever_was_told_before(
    moves: list[tuple[int, int, int]],
) -> None:
    recent, line = RecentHeaders(kept=8), chain(3, first=0)
    for salt, (grow, drop, back) in enumerate(moves):
        line = line[: max(1, len(line) - drop)]
        for _ in range(grow):
            parent = line[-1].header
            header = Header(parent.number + 1, keccak(b"branch %d" % salt + parent.hash), parent.hash, 0)
            line.append(SeenHeader(header, b"", True))
        first, last = max(0, len(line) - 1 - back), len(line) - 1
        at = recent.first_to_ask(first, last)
        assert first <= at <= last
        found = recent.joined(first, line[at:])
        found = line[first:] if found is None else found
        check_chain(found, first, True)
        assert found[-1] == line[-1]
        assert found == line[first:], "one that follows what is known vouches for it"
        recent.keep(found)
        assert len(recent._headers) <= 8


def test_headers_that_are_known_are_not_asked_for_again() -> None:
    recent, line = RecentHeaders(), chain(10, first=0)
    assert recent.first_to_ask(2, 9) == 2
    recent.keep(line)
    assert recent.first_to_ask(2, 9) == 9 and recent.first_to_ask(2, 12) == 10 and recent.first_to_ask(11, 12) == 11
    assert recent.joined(2, []) is None
    assert recent.joined(2, chain(2, first=10)) is None, "they follow others"


@given(st.lists(st.binary(min_size=20, max_size=32), max_size=30), st.binary(min_size=20, max_size=20))
def test_a_filter_forgets_nothing(values: list[bytes], other: bytes) -> None:
    bloom = bloom_of(*values)
    assert all(in_bloom(bloom, value) for value in values)
    if not values:
        assert not in_bloom(bloom, other)


def test_a_filter_is_ethereums() -> None:
    # The example of pyethereum's `bloom.py`.
    bloom = bloom_of(bytes.fromhex("0f572e5295c57f15886f9b263e2f6d2d6c7b5ec6"))
    assert [bit for bit in range(2_048) if int.from_bytes(bloom, "big") >> bit & 1] == [431, 1_319, 1_323]


# --- logs ---------------------------------------------------------------------------------------------------------


def test_logs_are_put_in_order_and_told_once() -> None:
    seen = chain(2)
    logs = [placed(seen[1], 0, DEPOSITED), placed(seen[0], 3, DEPOSITED), placed(seen[0], 1, OPENED)]
    values = [told(log) for log in logs]
    found = read_logs([*values, values[0], told(logs[0], logIndex="0x9", removed=True)], [AT.contract])
    assert found == (logs[2], logs[1], logs[0])


@pytest.mark.parametrize(
    "value",
    (
        None,
        {},
        [7],
        [told(placed(chain(1)[0], 0, OPENED), blockHash="0x01")],
        [told(placed(chain(1)[0], 0, OPENED), topics=["0x"])],
        [told(placed(chain(1)[0], 0, OPENED), topics=["0x" + "00" * 32] * 5)],
        [told(placed(chain(1)[0], 0, OPENED), blockNumber=None)],
    ),
)
def test_what_is_no_logs_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        read_logs(value, [AT.contract])


def test_a_strangers_log_is_refused() -> None:
    with pytest.raises(ChainError):
        read_logs([told(placed(chain(1)[0], 0, OPENED), address="0x" + "09" * 20)], [AT.contract])


def test_blocks_hold_the_events_of_their_logs_and_leave_out_what_is_unknown() -> None:
    seen = chain(3)
    unknown = Log((b"?" * 32,), b"whatever it is")
    blocks = blocks_of(
        seen, [placed(seen[1], 0, OPENED), placed(seen[1], 1, unknown), placed(seen[1], 2, DEPOSITED)], AT
    )
    assert [block.header for block in blocks] == [each.header for each in seen]
    assert [len(block.events) for block in blocks] == [0, 2, 0]
    assert isinstance(blocks[1].events[0], ChannelOpened) and isinstance(blocks[1].events[1], Deposited)


def test_a_log_of_another_branch_is_no_log_of_this_one() -> None:
    seen = chain(3)
    for log in (
        PlacedLog(6, b"o" * 32, 0, OPENED, AT.contract),
        PlacedLog(7, seen[1].header.hash, 0, OPENED, AT.contract),
        PlacedLog(9, b"o" * 32, 0, OPENED, AT.contract),
    ):
        with pytest.raises(ChainUnavailable):
            blocks_of(seen, [log], AT)


def test_blocks_that_may_hold_logs_and_of_which_none_came_are_suspicious() -> None:
    seen = chain(4, 6, 7)
    tellers = [AT.contract]
    assert silent_blocks(seen, [placed(seen[1], 0, OPENED)], tellers) == (seen[2],)
    assert silent_blocks(seen, [], tellers) == (seen[1], seen[2])
    assert silent_blocks([msgspec.structs.replace(seen[0], bloom=b"")], [], tellers) == ()


def test_a_block_is_silent_if_either_contract_is() -> None:
    """A node that tells the adjudicator's logs may leave out the court's."""
    court = Address(b"\xc0" * 20)
    (seen,) = (msgspec.structs.replace(each, bloom=bloom_of(AT.contract, court)) for each in chain(1))
    ours, theirs = placed(seen, 0, OPENED), placed(seen, 1, OPENED, court)
    assert silent_blocks([seen], [ours], [AT.contract, court]) == (seen,)
    assert silent_blocks([seen], [theirs], [AT.contract, court]) == (seen,)
    assert silent_blocks([seen], [ours, theirs], [AT.contract, court]) == ()
    assert silent_blocks([seen], [ours], [AT.contract]) == ()
    assert read_logs([told(ours), told(theirs, address="0x" + court.hex())], [AT.contract, court]) == (ours, theirs)


def test_a_log_of_a_block_whose_filter_has_none_is_forged() -> None:
    seen = chain(4, 6)
    assert not is_forged(seen, [placed(seen[1], 0, OPENED)])
    assert is_forged(seen, [placed(seen[2], 0, OPENED)])
    assert is_forged(seen, [placed(seen[1], 0, OPENED, Address(b"\xc0" * 20))]), "it holds logs of another contract"
    unproven = [msgspec.structs.replace(each, proven=False) for each in seen]
    assert not is_forged(unproven, [placed(seen[2], 0, OPENED)])


# --- what is remembered of channels -------------------------------------------------------------------------------


def held_log(side: int, held: HeldLocks) -> Log:
    data = side.to_bytes(32, "big") + held.locked.to_bytes(32, "big") + held.root
    return Log((LOCKS_HELD, FIXTURE.id), data)


def test_terms_and_locks_are_heard_from_the_logs_that_pass() -> None:
    heard, seen = ChannelsHeard(AT), chain(1)[0]
    assert heard.terms(FIXTURE.id) is None
    first, second = HeldLocks(5, b"r" * 32), HeldLocks(7, b"s" * 32)
    logs = [OPENED, held_log(0, first), held_log(1, second), held_log(2, first), Log((LOCKS_HELD,), b"")]
    heard.hear(placed(seen, index, log) for index, log in enumerate(logs))
    assert heard.terms(FIXTURE.id) == FIXTURE.terms
    assert heard.held(FIXTURE.id) == (first, second)
    heard.hear([placed(seen, 9, held_log(0, second))])
    assert heard.held(FIXTURE.id) == (second, second)


def test_terms_that_are_not_the_channels_are_not_believed() -> None:
    heard, other = ChannelsHeard(AT), msgspec.structs.replace(FIXTURE.terms, number=3)
    lie = encode_event(ChannelOpened(FIXTURE.id, other))
    heard.hear([placed(chain(1)[0], 0, lie)])
    assert heard.terms(FIXTURE.id) is None


def test_what_stands_is_found_by_its_hash() -> None:
    first, second, none = HeldLocks(5, b"r" * 32), HeldLocks(7, b"s" * 32), HeldLocks()
    assert held_hash(none) == bytes(32)
    assert standing((first, second), (held_hash(first), bytes(32))) == (first, none)
    assert standing((first, second), (bytes(32), bytes(32))) == (none, none)
    assert standing((first, second), (held_hash(second), bytes(32))) is None


def test_memory_is_bounded() -> None:
    heard = ChannelsHeard(AT, remembered=10)
    for number in range(30):
        heard.learn(msgspec.structs.replace(FIXTURE.terms, number=number))
    assert len(heard._terms) == 10
    assert isinstance(AT.contract, bytes) and Address(AT.contract)
