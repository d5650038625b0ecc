"""The client of a real chain over nodes that are well, lag, hide, refuse, are busy, or serve something else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.lowlevel
from hypothesis import given
from hypothesis import strategies as st

from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode, Refused
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import ChannelOpened, Deposited, Header
from tallystick.settlement.errors import ChainError, ChainUnavailable, Refusal, TransactionRefused, WrongChain
from tallystick.settlement.ethereum.event_logs import encode_event
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.nodes import AHEAD_MAX, newest
from tallystick.settlement.ethereum.http import parse_url
from tallystick.settlement.ethereum.rpc_shapes import to_hex

OPENED = encode_event(ChannelOpened(FIXTURE.id, FIXTURE.terms))
DEPOSITED = encode_event(Deposited(FIXTURE.id, 0, 50))
ALICE = Address(b"\1" * 20)


@asynccontextmanager
async def client(*names: str, **nodes: FakeNode) -> AsyncIterator[EvmChain]:
    urls = [f"http://{name}" for name in names or nodes]
    async with open_evm_chain(urls, AT, jitter=lambda: 0.5, transport=FakeInternet(**nodes)) as chain:
        yield chain


def events(blocks: Sequence[object]) -> list[int]:
    return [len(block.events) for block in blocks]  # type: ignore[attr-defined]


def grown() -> FakeChain:
    chain = FakeChain(3)
    chain.add(OPENED, DEPOSITED)
    chain.add()
    chain.add(DEPOSITED)
    return chain


async def test_blocks_come_with_their_events_and_end_at_the_head(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(grown())
    async with client(one=node) as chain:
        assert (await chain.head()).number == 5
        blocks = await chain.blocks(0, 100)
        assert [block.header.number for block in blocks] == [0, 1, 2, 3, 4, 5]
        assert events(blocks) == [0, 0, 0, 2, 0, 1]
        assert await chain.blocks(6, 10) == () and await chain.blocks(2, 0) == ()
        assert events(await chain.blocks(3, 1)) == [2]
        assert (await chain.header(4)) == blocks[4].header and await chain.header(9) is None
        assert (chain.chain_id, chain.contract) == AT


async def test_blocks_that_are_asked_for_again_cost_one_header(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(grown())
    async with client(one=node) as chain:
        first = await chain.blocks(0, 100)
        node.chain.add(DEPOSITED)
        await trio.sleep(2)
        node.asked.clear()
        again = await chain.blocks(1, 100)
        assert again[:-1] == first[1:] and len(again[-1].events) == 1
        assert [params[0] for method, params in node.asked if method == "eth_getBlockByNumber"] == ["latest", "0x6"]
        node.chain.fork(3, 5)
        await trio.sleep(2)
        other = await chain.blocks(1, 100)
        assert [block.header.number for block in other] == list(range(1, 9))
        assert other[2] == first[3] and other[3] != first[4], "another branch is asked for as a whole"


async def test_a_new_head_is_seen_by_looking(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(grown())
    async with client(one=node) as chain, trio.open_nursery() as nursery:
        head = await chain.head()

        async def grow() -> None:
            await trio.sleep(60)
            node.chain.add()

        nursery.start_soon(grow)
        await chain.wait(head.hash)
        assert 60 <= trio.current_time() <= 61
        assert (await chain.head()).number == head.number + 1


@pytest.mark.parametrize("range_max", (1, 2, 3, 7))
async def test_a_range_is_asked_for_in_pieces_as_small_as_the_node_takes(
    autojump_clock: trio.testing.MockClock, range_max: int
) -> None:
    node = FakeNode(grown())
    node.range_max = range_max
    async with client(one=node) as chain:
        assert events(await chain.blocks(0, 100)) == [0, 0, 0, 2, 0, 1]


async def test_a_node_that_takes_no_batches_is_asked_one_by_one(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(grown())
    node.batches = False
    async with client(one=node) as chain:
        assert events(await chain.blocks(0, 100)) == [0, 0, 0, 2, 0, 1]


async def test_a_node_that_is_not_there_is_passed_over_and_asked_again_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = FakeNode(grown())
    async with client("none", "two", two=node) as chain:
        assert (await chain.head()).number == 5
        gone, there = chain.nodes()
        assert gone.failures >= 1 and "does not answer" in gone.fault
        assert there.failures == 0 and there.head == 5
    async with client("none") as chain:
        with pytest.raises(ChainUnavailable):
            await chain.head()


async def test_a_busy_node_rests_for_as_long_as_it_says(autojump_clock: trio.testing.MockClock) -> None:
    busy, well = FakeNode(grown()), FakeNode(grown())
    busy.status, busy.headers = 429, {"retry-after": "40"}
    async with client(busy=busy, well=well) as chain:
        assert (await chain.head()).number == 5
        busy.status = 200
        await trio.sleep(30)
        await chain.head()
        assert busy.asked == []
        await trio.sleep(15)
        await chain.head()
        assert busy.asked != []


@pytest.mark.parametrize(("asks", "left"), [(3, 3), (40, 4)])
async def test_the_only_node_is_left_alone_too_but_not_until_what_is_due_is_late(
    asks: int, left: int, autojump_clock: trio.testing.MockClock
) -> None:
    busy = FakeNode(grown())
    async with client(busy=busy) as chain:
        await chain.head()
        busy.status, busy.headers = 429, {"retry-after": str(asks)}
        await trio.sleep(5)
        with pytest.raises(ChainUnavailable, match="too often"):
            await chain.head()
        busy.status, asked = 200, len(busy.asked)
        for _ in range(left - 1):
            await trio.sleep(0.9)
            with pytest.raises(ChainUnavailable, match="left alone"):
                await chain.head()
            with pytest.raises(ChainUnavailable, match="left alone"):
                await chain.submit(b"\x02")
        assert len(busy.asked) == asked
        await trio.sleep(1.5)
        assert (await chain.head()).number == 5


async def test_the_block_of_a_receipt_is_asked_of_another_node_where_one_does_not_tell(
    autojump_clock: trio.testing.MockClock,
) -> None:
    chain_of, made = grown(), b"\x07" * 32
    ill, well = FakeNode(chain_of), FakeNode(chain_of)
    block = chain_of.blocks[4]
    told = {
        "transactionHash": to_hex(made),
        "blockHash": block["hash"],
        "blockNumber": block["number"],
        "status": "0x1",
        "gasUsed": "0x5208",
        "effectiveGasPrice": "0x7",
        "logs": [],
    }
    for node in (ill, well):
        node.answers["eth_getTransactionReceipt"] = lambda hash: told

    def refuse(which: str, full: bool) -> Any:
        if which == "latest":
            return FakeNode.eth_getBlockByNumber(ill, which, full)
        raise Refused(-32603, "internal error")

    ill.answers["eth_getBlockByNumber"] = refuse
    async with client(ill=ill, well=well) as chain:
        receipt = await chain.receipt(made)
        assert receipt is not None and receipt.success and receipt.fee == 7 * 21_000


async def test_a_node_of_another_chain_or_without_our_contract_is_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    other, empty, fake = (FakeNode(grown()) for _ in range(3))
    other.chain_id = 5
    empty.answers["eth_getCode"] = lambda account, at: "0x"
    fake.answers["eth_call"] = lambda call, at: "0x" + "11" * 32
    for node, what in ((other, "serves chain 5"), (empty, "knows no contract"), (fake, "is not Tallystick's")):
        async with client(one=node) as chain:
            with pytest.raises(WrongChain, match=what):
                await chain.head()
        async with client(one=node, two=FakeNode(grown())) as chain:
            assert (await chain.head()).number == 5


async def test_a_node_that_lags_is_not_asked_for_what_has_to_be_new(autojump_clock: trio.testing.MockClock) -> None:
    old, new = FakeNode(grown()), FakeNode(grown())
    old.lag = 5
    async with client(old=old, new=new) as chain:
        assert (await chain.head()).number == 5
        old.asked.clear()
        assert events(await chain.blocks(0, 100)) == [0, 0, 0, 2, 0, 1]
        assert await chain.nonce(ALICE) == 7
        assert old.asked == []


async def test_a_block_that_a_node_leaves_silent_is_asked_for_of_another_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    liar, honest = FakeNode(grown()), FakeNode(grown())
    liar.hides = liar.hides_all = True
    async with client(liar=liar, honest=honest) as chain:
        assert events(await chain.blocks(0, 100)) == [0, 0, 0, 2, 0, 1]
        assert "left out logs" in chain.nodes()[0].fault


async def test_a_single_node_whose_index_is_behind_its_head_is_asked_again_by_the_blocks_hash(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = FakeNode(grown())
    node.hides = True
    async with client(one=node) as chain:
        assert events(await chain.blocks(0, 100)) == [0, 0, 0, 2, 0, 1]


async def test_a_filter_that_is_full_by_chance_holds_nothing_up(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(FakeChain(3))
    quiet = node.chain.add(OPENED)
    node.chain.logs[quiet["hash"]] = []
    async with client(one=node, two=node) as chain:
        assert events(await chain.blocks(0, 100)) == [0, 0, 0, 0]
        assert chain.nodes()[0].failures == 0


async def test_invented_logs_and_headers_are_refused(autojump_clock: trio.testing.MockClock) -> None:
    inventor = FakeNode(grown())
    inventor.chain.logs[inventor.chain.blocks[1]["hash"]] = inventor.chain.logs[inventor.chain.blocks[3]["hash"]]
    inventor.chain.logs[inventor.chain.blocks[1]["hash"]] = [
        {**log, "blockHash": inventor.chain.blocks[1]["hash"], "blockNumber": "0x1"}
        for log in inventor.chain.logs[inventor.chain.blocks[3]["hash"]]
    ]
    async with client(one=inventor) as chain:
        with pytest.raises(ChainError, match="holds none"):
            await chain.blocks(0, 100)
    forger = FakeNode(grown())
    forger.chain.blocks[2] = {**forger.chain.blocks[2], "timestamp": "0x7fffffff"}
    async with client(one=forger) as chain:
        with pytest.raises(ChainError, match="not what its hash says"):
            await chain.blocks(0, 100)


async def test_logs_of_a_branch_that_was_left_meanwhile_are_asked_for_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = FakeNode(grown())
    honest = node.eth_getLogs

    def late(which: dict[str, str]) -> list[dict[str, object]]:
        node.answers.clear()
        node.chain.fork(3, 2)
        node.chain.add(DEPOSITED, salt="0xff")
        return honest(which)

    node.answers["eth_getLogs"] = late
    async with client(one=node) as chain:
        with pytest.raises(ChainUnavailable, match="moved on"):
            await chain.blocks(0, 100)
        assert events(await chain.blocks(0, 100)) == [0, 0, 0, 0, 0, 1]


async def test_reads_name_their_block_and_a_node_without_it_says_so(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(grown())
    async with client(one=node) as chain:
        assert await chain.nonce(ALICE) == 7
        assert node.asked[-1] == (
            "eth_getTransactionCount",
            [to_hex(ALICE), {"blockHash": node.chain.blocks[-1]["hash"]}],
        )
        await trio.lowlevel.checkpoint()
        node.lag = 1
        with pytest.raises(ChainUnavailable, match="header not found"):
            await chain.nonce(ALICE)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6))
def test_no_single_node_sends_us_after_blocks_that_nobody_else_knows(numbers: list[int]) -> None:
    heads = [Header(number, bytes(32), bytes(32), 0) for number in numbers]
    found = newest(heads).number
    assert found in numbers
    above = sorted(number for number in numbers if number > found)
    assert all(second - first > AHEAD_MAX for first, second in zip([found, *above], above, strict=False))
    if len(numbers) > 1 and found != min(numbers):
        assert any(found - AHEAD_MAX <= other <= found for other in sorted(numbers)[:-1])


# --- transactions -------------------------------------------------------------------------------------------------

RAW = b"\2 a transaction"


async def test_a_transaction_goes_to_all_nodes_and_one_that_takes_it_is_enough(
    autojump_clock: trio.testing.MockClock,
) -> None:
    full, well = FakeNode(grown()), FakeNode(grown())

    def refuse(raw: str) -> str:
        raise Refused(-32000, "txpool is full")

    full.answers["eth_sendRawTransaction"] = refuse
    async with client(full=full, well=well) as chain:
        assert len(await chain.submit(RAW)) == 32
        assert any(method == "eth_sendRawTransaction" for method, _ in well.asked)
    async with client(full=full) as chain:
        with pytest.raises(TransactionRefused) as refused:
            await chain.submit(RAW)
        assert refused.value.code is Refusal.MEMPOOL_FULL


async def test_what_is_known_or_mined_already_was_taken(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(grown())

    def say(text: str) -> None:
        def refuse(raw: str) -> str:
            raise Refused(-32000, text)

        node.answers["eth_sendRawTransaction"] = refuse

    async with client(one=node) as chain:
        say("already known")
        made = await chain.submit(RAW)
        say("nonce too low: next nonce 5, tx nonce 4")
        with pytest.raises(TransactionRefused) as refused:
            await chain.submit(RAW)
        assert refused.value.code is Refusal.NONCE_TOO_LOW
        node.answers["eth_getTransactionReceipt"] = lambda hash: {"transactionHash": hash}
        assert await chain.submit(RAW) == made
        say("the moon is in the wrong quarter")
        with pytest.raises(ChainError, match="moon"):
            await chain.submit(RAW)


async def test_a_node_that_gives_a_transaction_another_name_is_not_believed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = FakeNode(grown())
    node.answers["eth_sendRawTransaction"] = lambda raw: "0x" + "07" * 32
    async with client(one=node) as chain:
        with pytest.raises(ChainError, match="another hash"):
            await chain.submit(RAW)


async def test_answers_that_cannot_be_right_are_errors_and_no_more(autojump_clock: trio.testing.MockClock) -> None:
    for wrong in (7, "0x", [], {}, {"number": "0x1"}, {"number": "seven"}, "latest", True):
        node = FakeNode(grown())
        node.answers["eth_getBlockByNumber"] = lambda which, full, wrong=wrong: wrong
        async with client(one=node) as chain:
            with pytest.raises(ChainError):
                await chain.head()


async def test_a_chain_needs_a_node(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(InvalidInput):
        async with open_evm_chain([], AT, jitter=lambda: 0.5):
            pass
    with pytest.raises(InvalidInput):
        async with open_evm_chain(["ftp://nowhere"], AT, jitter=lambda: 0.5):
            pass


async def test_of_what_is_no_token_nobody_holds_anything(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode(FakeChain(3))
    async with client("one", one=node) as chain:
        await chain.head()
        node.answers["eth_call"] = lambda call, at: "0x"
        assert await chain.balance(FIXTURE.terms.participants[0], Address(b"t" * 20)) == 0
        node.answers["eth_call"] = lambda call, at: "0x07"
        with pytest.raises(ChainError, match="balanceOf"):
            await chain.balance(FIXTURE.terms.participants[0], Address(b"t" * 20))


@pytest.mark.parametrize(
    ("url", "complaint"), [("one.example", "here is no host"), ("ftp://user:secret@one/key", "unlike 'ftp://one/…'")]
)
def test_what_is_no_url_is_refused_and_no_secret_of_it_shown(url: str, complaint: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_url(url)
    assert complaint in str(refused.value) and "secret" not in str(refused.value)
