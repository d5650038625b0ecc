"""The sender on chains of every pace: no fee exceeds its budget, and what has a deadline offers all of it in time."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.settlement.chain import (
    ApproveCall,
    Call,
    Header,
    RedeemCall,
    RegisterLinkCall,
    RegisterSecretCall,
    SettleCall,
    TransferCall,
)
from tallystick.settlement.ethereum.evm.gas import GAS_MAX
from tallystick.settlement.ethereum.evm.profiles import PROFILES, ChainProfile
from tallystick.settlement.ethereum.transactions import FIGURES, gas_of
from tallystick.settlement.port import PACE, ChainFigures, Charge
from tallystick.settlement.sending.judging import may_try_again
from tallystick.settlement.sending.obligations import (
    Attempt,
    Obligation,
    ObligationBook,
    ObligationStatus,
    Observation,
    SendingRound,
)
from tallystick.settlement.sending.policy import LOOKS_KEPT, SendingPolicy, policy_for
from tallystick.settlement.sending.rounds import decide
from tallystick.settlement.sending.sender import Sender
from tallystick.settlement.sending.sqlite import SCHEMA
from tallystick.settlement.testing.local import LocalChain

ACCOUNT = Address(b"\x01" * 20)
CHANNEL = ChannelId(b"\x02" * 32)
LOCK = Lock(1, 1, 1, 0, bytes(32))
ON = [profile for profile in PROFILES if profile.chain_id != 31_337]

CALLS: list[Call] = [
    RegisterSecretCall(bytes(32)),
    SettleCall(CHANNEL),
    RedeemCall(CHANNEL, 0, (LOCK,) * 100),
    RegisterLinkCall(bytes(32), 60_000, bytes(32), 1, 65_536, 1),
    TransferCall(NATIVE, ACCOUNT, 1),
    ApproveCall(ACCOUNT, 1),
]


def header(number: int, time: float) -> Header:
    return Header(number, number.to_bytes(32, "big"), (number - 1).to_bytes(32, "big"), int(time))


def name(value: object) -> str:
    """Return what a parameter is called."""
    return value.name if isinstance(value, ChainProfile) else str(value)


class Lane:
    """One account on a chain of steady blocks that are never mined for it, looked at as a client does."""

    def __init__(self, figures: ChainFigures, confirmations: int, *, nonce: int = 0, look: float = 0.0) -> None:
        self.figures, self.nonce = figures, nonce
        self.policy: SendingPolicy = policy_for(figures, confirmations)
        self.book = ObligationBook({}, -1)
        self.time = 1_700_000_000.0
        self.number = 10_000
        self.step = max(1, round(look / figures.block_seconds))
        """Blocks between two looks."""

    def look(self, market: int = 10) -> SendingRound:
        """Let the next look come, and take in what it leads to."""
        self.number += self.step
        self.time += self.step * self.figures.block_seconds
        confirmed = self.time - (self.policy.confirmations - 1) * self.figures.block_seconds
        seen = Observation(header(self.number, self.time), int(confirmed), self.nonce, market, {})
        found = decide(self.book, seen, account=ACCOUNT, gas=self.figures.tariff.gas, policy=self.policy)
        self.book = found.book
        return found


def lanes() -> list[tuple[ChainProfile, int]]:
    """Every chain of the table, with each depth that it says."""
    return [(profile, depth.blocks) for profile in ON for depth in profile.depths]


@pytest.mark.parametrize(("profile", "confirmations"), lanes(), ids=name)
@pytest.mark.parametrize(("look", "window"), [(0.0, 120), (4.0, 120), (30.0, 3_600)])
def test_what_has_a_deadline_offers_its_whole_budget_well_before_it(
    profile: ChainProfile, confirmations: int, look: float, window: int
) -> None:
    lane = Lane(profile.figures, confirmations, look=look)
    for _ in range(LOOKS_KEPT):
        lane.look()
    call = RegisterSecretCall(bytes(32))
    deadline, budget = int(lane.time) + window, 10_000 * lane.figures.tariff.gas(call)
    lane.book = lane.book.with_(Obligation(id="o", call=call, purpose="p", budget=budget, deadline=deadline))
    offered: dict[int, int] = {}
    while lane.time < deadline:
        lane.look()
        offered[int(lane.time)] = lane.book.obligations["o"].attempts[-1].price
    whole = next(time for time, price in offered.items() if price == 10_000)
    slack = 3 * lane.step * profile.block_seconds
    assert deadline - whole >= 0.4 * window - slack, "the last part of the window is left for it to be mined"
    assert offered[next(iter(offered))] <= 20, "and it began cheaply"


@pytest.mark.parametrize(("profile", "confirmations"), lanes(), ids=name)
def test_what_has_no_deadline_offers_its_budget_within_ten_minutes_and_not_at_once(
    profile: ChainProfile, confirmations: int
) -> None:
    lane = Lane(profile.figures, confirmations, look=3.0)
    lane.book = lane.book.with_(Obligation(id="o", call=SettleCall(CHANNEL), purpose="p", budget=10**12))
    began, cap = lane.time, 10**12 // lane.figures.tariff.gas(SettleCall(CHANNEL))
    while (lane.look().book.obligations["o"].attempts or [None])[-1] is None or (
        lane.book.obligations["o"].attempts[-1].price < cap
    ):
        assert lane.time < began + 600 + 60
    assert lane.time > began + 200, "market fees had their time"


@pytest.mark.parametrize(("profile", "confirmations"), [*lanes(), (ON[0], 96), (ON[0], 1_000)], ids=name)
def test_an_account_that_was_used_before_can_send_at_every_depth(profile: ChainProfile, confirmations: int) -> None:
    lane = Lane(profile.figures, confirmations, nonce=7)
    lane.book = lane.book.with_(Obligation(id="o", call=SettleCall(CHANNEL), purpose="p", budget=10**12))
    for _ in range(LOOKS_KEPT + 1):
        lane.look()
    assert lane.book.obligations["o"].nonce == 7


def test_on_the_simulated_chain_every_figure_is_as_it_was() -> None:
    assert FIGURES.pace == 1 and policy_for(FIGURES) == SendingPolicy()
    assert (SendingPolicy().ahead, SendingPolicy().heads, SendingPolicy().patience) == (60, 3, 50)


@pytest.mark.parametrize("profile", ON, ids=name)
def test_counts_of_blocks_that_stand_for_a_time_take_as_long_on_every_chain(profile: ChainProfile) -> None:
    policy = policy_for(profile.figures)
    assert 0.8 < policy.pace * profile.block_seconds / PACE <= 1.25
    assert 480 <= policy.patience * profile.block_seconds <= 720
    assert policy.resting_depth >= max(128, profile.final_blocks), "until no reorganisation reaches it"
    failed = Obligation(id="o", call=CALLS[0], purpose="p", budget=1, status=ObligationStatus.QUARANTINED, ended=1_000)
    again = next(head for head in itertools.count(1_000) if may_try_again(failed, 5, head, head, policy.pace))
    assert 300 < (again - 1_000) * profile.block_seconds < 480, "the sixth try waits for some minutes"


async def test_what_only_uses_a_nonce_up_is_given_what_the_chain_says_too(tmp_path: Path) -> None:
    store = open_store(tmp_path, [SCHEMA], owner="a test", durable=False)
    sender = Sender(
        key=PrivateKey(b"\x07" * 32),
        chain=LocalChain(),
        store=store,
        commit=trio.lowlevel.checkpoint,  # type: ignore[arg-type]  # nothing is committed
        alarm=lambda alarm: None,
        jitter=lambda: 0.5,
    )
    filler = Obligation(id="f", call=TransferCall(NATIVE, ACCOUNT, 0), purpose="p", budget=9, filler=True)
    filler = msgspec.structs.replace(filler, attempts=(Attempt(1, filler=True),))
    empty = ObligationBook({}, -1)
    outcome = SendingRound(empty.with_(filler), (filler,), ("f",), ())
    assert await sender._charges(empty, outcome, {}) == {"f": Charge(gas_of(filler.call))}, "it is of this very round"
    store.close()


@settings(deadline=None)
@given(
    profile=st.sampled_from(PROFILES),
    calls=st.lists(st.tuples(st.sampled_from(CALLS), st.integers(1, 10**15)), min_size=1, max_size=5),
    markets=st.lists(st.integers(0, 10**11), min_size=1, max_size=12),
    gas=st.integers(1, GAS_MAX),
    least=st.sampled_from((0, 2, 3)),
    data=st.integers(0, 10**13),
    deadline=st.none() | st.integers(0, 600),
)
def test_no_call_is_ever_signed_for_more_than_its_budget(
    profile: ChainProfile,
    calls: list[tuple[Call, int]],
    markets: list[int],
    gas: int,
    least: int,
    data: int,
    deadline: int | None,
) -> None:
    lane = Lane(profile.figures, 3)
    until = None if deadline is None else int(lane.time) + deadline
    for index, (call, budget) in enumerate(calls):
        lane.book = lane.book.with_(
            Obligation(id=str(index), call=call, purpose="p", budget=budget, deadline=until),
        )
    for market in markets:
        lane.number += 1
        lane.time += profile.block_seconds
        head = header(lane.number, lane.time)
        charges = {str(index): Charge(gas, data, least=gas // least if least else 0) for index in range(len(calls))}
        seen = Observation(head, head.time, 0, market, {}, charges)
        outcome = decide(lane.book, seen, account=ACCOUNT, gas=lane.figures.tariff.gas, policy=lane.policy)
        lane.book = outcome.book
    offered = [o for o in lane.book.obligations.values() if o.attempts]
    dearest = sum(
        max(attempt.most or 0 for attempt in o.attempts if attempt.price)
        for o in offered
        if any(attempt.price for attempt in o.attempts)
    )
    assert dearest <= sum(o.budget for o in lane.book.obligations.values())
    if len(calls) == 1 and offered and offered[0].attempts[-1].price:
        assert max(attempt.most or 0 for attempt in offered[0].attempts) <= calls[0][1]
