"""How deep a channel's events have to be: by what they move, whatever it is cut into, and never less than the least."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.disputes import ChannelFixture
from simulation.engines import memory_disk
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.core import Phase, move, new_channel
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.sdk.daemon.configuration import AssetSettings, Settings
from tallystick.sdk.daemon.daemon import node_config
from tallystick.sdk.errors import ConfigurationError
from tallystick.settlement.chain import (
    Block,
    ChannelEvent,
    ChannelOpened,
    Closed,
    CooperativelyClosed,
    Deposited,
    Header,
    Redeemed,
    Settled,
    Withdrawn,
)
from tallystick.settlement.enforcement.depths import DepthAwaited, DepthPolicy, Depths, DepthStep, TokenDepth, counted
from tallystick.settlement.following.counting import Tip, Waiting, counting
from tallystick.settlement.following.index import ChainIndex, EventInBlock, fold
from tallystick.settlement.following.sqlite import INDEX_SCHEMA

FIXTURE = ChannelFixture()
TERMS, CHANNEL = FIXTURE.terms, FIXTURE.id
TOKEN = Address(b"\x70" * 20)
LADDER = ((100, 3), (1_000, 12), (10_000, 32))


def wanted(at_risk: int) -> int | None:
    return next((blocks for worth, blocks in LADDER if at_risk <= worth), None)


def history(*events: tuple[int, ChannelEvent]) -> list[EventInBlock]:
    return [EventInBlock(number, 1_000 + number, event) for number, event in events]


OPENED = ChannelOpened(CHANNEL, TERMS)


@pytest.mark.parametrize(
    ("amount", "depth"), [(0, 1), (1, 3), (100, 3), (101, 12), (1_000, 12), (1_001, 32), (10_000, 32)]
)
def test_an_opening_counts_once_it_is_as_deep_as_its_deposit_asks(amount: int, depth: int) -> None:
    events = history((50, OPENED), (50, Deposited(CHANNEL, 0, amount)))
    for head in range(50, 90):
        number, waiting = counting(events, Tip(head, -1, 1), wanted)
        counts = fold(events, number) is not None
        assert counts == (head - 50 + 1 >= depth) == (waiting is None)
        if waiting is not None:
            assert waiting == Waiting(50, amount, depth)


def test_what_is_more_than_the_ladder_waits_for_the_chain_to_call_it_final() -> None:
    events = history((50, OPENED), (60, Deposited(CHANNEL, 1, 10_001)))
    assert counting(events, Tip(10_000, 59, 1), wanted) == (59, Waiting(60, 10_001, None))
    assert counting(events, Tip(10_000, 60, 1), wanted) == (10_000, None)
    assert counting(events, Tip(61, 60, 3), wanted) == (59, Waiting(60, 10_001, None)), "nor is it less than the least"


def test_nothing_counts_below_the_least_whatever_it_is() -> None:
    events = history((50, OPENED), (50, Deposited(CHANNEL, 0, 1)), (55, Withdrawn(CHANNEL, 0, 1)))
    assert counting(events, Tip(58, -1, 5), wanted) == (54, Waiting(55, 1, 5))
    assert counting(events, Tip(59, -1, 5), wanted) == (55, None)


def test_an_end_is_believed_as_deep_as_all_that_was_in_the_channel_asks() -> None:
    funded = ((10, OPENED), (10, Deposited(CHANNEL, 0, 900)), (11, Deposited(CHANNEL, 1, 300)))
    ends: list[tuple[ChannelEvent, int]] = [
        (CooperativelyClosed(CHANNEL, 1_000, 100), 32),
        (Settled(CHANNEL, 1_000, 100, 0, 0, 0, False), 32),
        (Closed(CHANNEL, 0, 1, 1, bytes(32), 9_000), 3),
    ]
    for end, depth in ends:
        events = history(*funded, (12, Withdrawn(CHANNEL, 0, 100)), (100, end))
        assert counting(events, Tip(100 + depth - 2, 50, 3), wanted)[0] == 99
        assert counting(events, Tip(100 + depth - 1, 50, 3), wanted) == (100 + depth - 3, None)
    settled = Settled(CHANNEL, 1_000, 0, 0, 200, 0, False)
    events = history(*funded, (20, settled), (100, Redeemed(CHANNEL, 0, 200, 0, bytes(32))))
    assert counting(events, Tip(110, 50, 3), wanted)[1] == Waiting(100, 200, 12)


@given(st.lists(st.integers(1, 4_000), min_size=1, max_size=8), st.integers(0, 40), st.integers(0, 60))
def test_many_small_deposits_wait_as_long_as_one(amounts: list[int], age: int, final: int) -> None:
    """No cut of a sum, into one block or several, counts before the sum would, of what is not final."""
    events, total = history((1, OPENED)), 0
    for at, amount in enumerate(amounts):
        total += amount
        events += history((50 + at, Deposited(CHANNEL, 0, total)))
    head = 50 + len(amounts) + age
    view = fold(events, counting(events, Tip(head, final, 3), wanted)[0])
    assert view is not None
    at_risk = sum(
        amount for at, amount in enumerate(amounts) if 50 + at > final and view.deposits[0] >= sum(amounts[: at + 1])
    )
    last = max((50 + at for at in range(len(amounts)) if view.deposits[0] >= sum(amounts[: at + 1])), default=0)
    if last > final:
        depth = wanted(at_risk)
        assert depth is not None and head - last + 1 >= depth


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 20_000), st.integers(0, 1)), max_size=10), st.integers(0, 30)
)
def test_what_counts_only_grows_while_the_chain_does(steps: list[tuple[int, int, int]], final: int) -> None:
    events, totals, number = history((5, OPENED)), [0, 0], 5
    for gap, amount, side in steps:
        number += gap
        totals[side] += amount
        events += history((number, Deposited(CHANNEL, side, totals[side])))
    before = -1
    for head in range(5, number + 40):
        now = counting([each for each in events if each.number <= head], Tip(head, min(final, head), 2), wanted)[0]
        assert before <= now <= head - 1
        before = now


def test_the_ladder_of_the_chain_or_the_users_and_tokens() -> None:
    index = ChainIndex(TERMS.participants[0], memory_disk([INDEX_SCHEMA]).open())

    def of(policy: DepthPolicy, ladder: tuple[tuple[int, int], ...] = LADDER, least: int = 4) -> Depths:
        return Depths(index, ladder, policy, least)

    plain = of(DepthPolicy())
    assert [plain.wanted(NATIVE, amount) for amount in (0, 100, 101, 10_000, 10_001)] == [4, 4, 12, 32, None]
    assert [plain.wanted(TOKEN, amount) for amount in (0, 10**30)] == [32, 32], "nobody knows what it is worth"
    plain.final = None
    assert plain.wanted(NATIVE, 10_001) == 32, "a chain that calls nothing final"
    own = of(DepthPolicy(ladder=(DepthStep(worth=5, blocks=7),), token_confirmations=20))
    assert [own.wanted(NATIVE, 5), own.wanted(NATIVE, 6), own.wanted(TOKEN, 1)] == [7, None, 20]
    tokens = {TOKEN: TokenDepth(unit_worth=0.5)}
    worth = of(DepthPolicy(tokens=tokens, token_confirmations=20))
    assert [worth.wanted(TOKEN, amount) for amount in (200, 201, 20_001)] == [4, 12, None]
    assert of(DepthPolicy(tokens={TOKEN: TokenDepth(confirmations=9, unit_worth=0.5)})).wanted(TOKEN, 1) == 9
    assert of(DepthPolicy(tokens={TOKEN: TokenDepth(confirmations=2)})).wanted(TOKEN, 1) == 4, "the least stays"
    flat = of(DepthPolicy(), ladder=())
    assert [flat.wanted(NATIVE, 10**30), flat.wanted(TOKEN, 10**30), flat.has_ladder] == [4, 4, False]


def test_what_has_counted_counts_on_while_the_chain_confirms_it() -> None:
    """After an update of the program, or of its settings, deposits may be shallower than they would have to be now."""
    channel = move(new_channel(TERMS, 0, bytes(FIXTURE.keys[1].public)), Phase.OPEN)
    seen = fold(history((1, OPENED), (1, Deposited(CHANNEL, 0, 500)), (2, Deposited(CHANNEL, 1, 70))), 9)
    deep = fold(history((1, OPENED)), 9)
    assert seen is not None
    assert counted(channel, deep, seen) == counted(channel, None, seen) == (0, 0)
    held = type(channel)(
        **{**{name: getattr(channel, name) for name in channel.__struct_fields__}, "deposits": (500, 900)}
    )
    assert counted(held, deep, seen) == counted(held, None, seen) == (500, 70)
    assert counted(channel, seen, seen) == (500, 70)


def test_people_see_how_deep_it_is_and_must_be() -> None:
    index = ChainIndex(TERMS.participants[0], memory_disk([INDEX_SCHEMA]).open())
    channel = new_channel(TERMS, 0, bytes(FIXTURE.keys[1].public))
    index.add(Block(Header(7, bytes(32), bytes(32), 1), (OPENED, Deposited(CHANNEL, 1, 5_000))))
    index.add(Block(Header(8, bytes(32), bytes(32), 2), ()))
    depths = Depths(index, LADDER, DepthPolicy(), 3)
    assert depths.awaited(channel) == DepthAwaited(2, 32, 5_000) and not depths.asks_for_finality
    assert depths.look(channel)[0] is None and depths.asks_for_finality
    depths.final = 7
    assert depths.look(channel)[0] is None and depths.asks_for_finality, (
        "it is final, and not as deep as anything must be"
    )
    index.add(Block(Header(9, bytes(32), bytes(32), 3), ()))
    assert depths.look(channel)[0] is not None and not depths.asks_for_finality
    index.remove(9, 2)
    assert Depths(index, (), DepthPolicy(), 3).awaited(channel) == DepthAwaited(2, 3, 5_000)
    assert Depths(index, LADDER[:1], DepthPolicy(), 3).awaited(channel) == DepthAwaited(2, None, 5_000)
    assert Depths(index, (), DepthPolicy(), 2).awaited(channel) is None


def test_settings_say_it_and_are_checked() -> None:
    named = Settings(
        chain_id=1,
        contract="0x" + "11" * 20,
        depths=((10**16, 5), (10**18, 40)),
        token_confirmations=64,
        assets={"0x" + "70" * 20: AssetSettings(confirmations=9), "0x" + "71" * 20: AssetSettings(unit_worth=3e8)},
    )
    policy = node_config(named).depths
    assert policy.ladder == (DepthStep(worth=10**16, blocks=5), DepthStep(worth=10**18, blocks=40))
    assert policy.tokens[TOKEN] == TokenDepth(confirmations=9) and policy.token_confirmations == 64
    assert node_config(Settings(chain_id=1, contract="0x" + "11" * 20)).depths == DepthPolicy()
    for wrong in (((5, 9), (5, 10)), ((5, 9), (6, 8))):
        with pytest.raises(ConfigurationError, match="a ladder of depths rises"):
            Settings(chain_id=1, contract="0x" + "11" * 20, depths=wrong)
    with pytest.raises(ConfigurationError, match="unit_worth"):
        Settings(chain_id=1, contract="0x" + "11" * 20, assets={"0x" + "70" * 20: AssetSettings(unit_worth=-1.0)})
    with pytest.raises(InvalidInput, match="blocks"):
        DepthStep(worth=1, blocks=-1)
