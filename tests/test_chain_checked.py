"""Every word of a chain node is looked at before it is used: sizes, numbers, what it must agree with, and its time."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
import trio

from simulation.disputes import ChannelFixture
from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.settlement.chain import (
    AccountEvent,
    Block,
    ChannelEvent,
    Claimed,
    Closed,
    Deposited,
    LinkRegistered,
    OpenCall,
    Owed,
    SecretRegistered,
    TransactionReceipt,
)
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.following import checked
from tallystick.settlement.following.checked import (
    ANSWER_SECONDS,
    WAIT_SECONDS,
    CheckedChain,
    check_block,
    check_header,
    plain,
)
from tallystick.settlement.testing.local import LocalChain

ALICE = PrivateKey(keccak(b"alice"))
BIG = (2**63, 2**64, 2**200, 2**256 - 1, -1)
SECRET = b"\x42" * 32


class Lying:
    """A chain of which any answer can be replaced: by a value, or by something that is done."""

    def __init__(self, chain: LocalChain, **answers: Any) -> None:
        self._chain, self._answers = chain, answers

    def __getattr__(self, name: str) -> Any:
        if name not in self._answers:
            return getattr(self._chain, name)

        async def answer(*arguments: object) -> Any:
            await trio.lowlevel.checkpoint()
            told = self._answers[name]
            return await told() if callable(told) else told

        return answer


def lying(**answers: Any) -> CheckedChain:
    return CheckedChain(Lying(LocalChain(funds={ALICE.address: 10**18}), **answers))  # type: ignore[arg-type]  # by name


async def test_what_a_good_chain_says_passes_unchanged() -> None:
    chain = LocalChain(funds={ALICE.address: 10**18})
    fixture = ChannelFixture()
    chain.fund(fixture.address(0))
    await chain.call(fixture.keys[0], OpenCall(fixture.terms, 1_000))
    checked = CheckedChain(chain)
    assert await checked.head() == await chain.head() and await checked.header(1) == await chain.header(1)
    assert await checked.blocks(0, 100) == await chain.blocks(0, 100)
    assert await checked.channel(fixture.id) == await chain.channel(fixture.id)
    assert await checked.balance(ALICE.address, NATIVE) == 10**18
    assert await checked.header(99) is None and await checked.secret_time(bytes(32)) is None


@pytest.mark.parametrize("value", BIG)
@pytest.mark.parametrize("method", ["nonce", "balance", "channel_count", "secret_time", "fee_price"])
async def test_numbers_that_nothing_here_can_hold_are_refused(method: str, value: int) -> None:
    if method == "balance" and value > 0:
        value = 2**256
    if method == "fee_price" and 0 < value < 2**128:
        value = 2**128
    arguments = {"nonce": 1, "balance": 2, "channel_count": 3, "secret_time": 1, "fee_price": 0}[method]
    with pytest.raises(ChainError):
        await getattr(lying(**{method: value}), method)(*[bytes(20)] * arguments)


@pytest.mark.parametrize("value", ["7", 7.0, b"7", [], True])
async def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ChainError):
        await lying(nonce=value).nonce(ALICE.address)


@pytest.mark.parametrize("value", BIG)
@pytest.mark.parametrize("field", ["number", "time"])
async def test_headers_with_such_numbers_are_refused(field: str, value: int) -> None:
    head = LocalChain().newest.header
    broken = msgspec.structs.replace(head, **{field: value})
    with pytest.raises(ChainError):
        await lying(head=broken).head()
    with pytest.raises(ChainError):
        await lying(blocks=(Block(broken, ()),)).blocks(0, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda time: SecretRegistered(digest_of(SECRET), SECRET, time + 1),
        lambda time: SecretRegistered(digest_of(SECRET), bytes(32), time),
        lambda time: SecretRegistered(digest_of(SECRET), SECRET, 2**63),
        lambda time: LinkRegistered(bytes(32), bytes(32), 2**64, bytes(32), 1, 5, time),
        lambda time: LinkRegistered(bytes(32), bytes(32), 6, bytes(32), 1, 5, time),
        lambda time: LinkRegistered(bytes(32), bytes(32), 1, bytes(32), 0, 5, time),
        lambda time: LinkRegistered(bytes(32), bytes(32), 1, bytes(32), 1, 2**70, time),
        lambda time: Deposited(ChannelId(bytes(32)), 2, 5),
        lambda time: Deposited(ChannelId(bytes(32)), 1, 2**256),
        lambda time: Deposited(ChannelId(bytes(31)), 1, 5),
        lambda time: Closed(ChannelId(bytes(32)), 0, 0, 0, bytes(32), 2**63),
        lambda time: Closed(ChannelId(bytes(32)), 0, 2**64, 0, bytes(32), time),
        lambda time: Owed(Address(bytes(19)), NATIVE, 5),
        lambda time: Owed(Address(bytes(20)), NATIVE, 2**256),
        lambda time: Claimed(Address(bytes(20)), NATIVE, Address(bytes(21)), 5),
        lambda time: "an event",
    ],
)
async def test_events_that_cannot_be_are_refused(change: Any) -> None:
    header = LocalChain().newest.header
    with pytest.raises((ChainError, AttributeError)):
        check_block(Block(header, (change(header.time),)))
    with pytest.raises(TallystickError):
        await lying(blocks=(Block(header, (change(header.time),)),)).blocks(0, 1)


def test_somebodys_own_token_may_have_any_number_of_units() -> None:
    """Anybody can make the contract owe so many: what it says of that must stop nobody who follows the chain."""
    someone = Address(bytes(20))
    events = (Owed(someone, someone, 2**256 - 1), Claimed(someone, someone, someone, 2**256 - 1))
    check_block(Block(LocalChain().newest.header, events))


def test_a_header_without_a_whole_hash_is_refused() -> None:
    header = LocalChain().newest.header
    check_header(header)
    with pytest.raises(ChainError):
        check_header(msgspec.structs.replace(header, hash=header.hash[:31]))


async def test_a_receipt_of_another_transaction_is_refused_and_its_words_are_fit_to_be_shown() -> None:
    header = LocalChain().newest.header
    receipt = TransactionReceipt(bytes(32), header, False, 5, "\x1b[2J" + "x" * 10_000)
    with pytest.raises(ChainError, match="another transaction"):
        await lying(receipt=receipt).receipt(b"\x01" * 32)
    found = await lying(receipt=receipt).receipt(bytes(32))
    assert found is not None and found.reason.isprintable() and len(found.reason) <= 300
    assert plain("fine") == "fine"


async def test_the_state_of_another_channel_is_refused() -> None:
    fixture = ChannelFixture()
    chain = LocalChain(funds={fixture.address(0): 10**18})
    await chain.call(fixture.keys[0], OpenCall(fixture.terms, 1_000))
    other = CheckedChain(Lying(chain, channel=await chain.channel(fixture.id)))  # type: ignore[arg-type]  # by name
    with pytest.raises(ChainError, match="another channel"):
        await other.channel(ChannelId(bytes(32)))


async def test_an_answer_that_does_not_end_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    chain = lying(head=trio.sleep_forever, wait=trio.sleep_forever)
    began = trio.current_time()
    with pytest.raises(ChainUnavailable, match="not finished"):
        await chain.head()
    assert trio.current_time() - began == pytest.approx(ANSWER_SECONDS)
    await chain.wait(bytes(32))
    assert trio.current_time() - began == pytest.approx(ANSWER_SECONDS + WAIT_SECONDS)


def test_every_field_of_a_channels_event_is_checked_or_cannot_be_wrong() -> None:
    flags = {"convicts", "convicted"}
    for kind in (*get_args(ChannelEvent), *get_args(AccountEvent)):
        assert set(kind.__struct_fields__) - flags - {"terms"} <= set(checked._NUMBERS) | set(checked._SIZES)
