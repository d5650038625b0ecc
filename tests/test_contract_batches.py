"""Many calls in one transaction: each as its caller's, each failing alone, and no coin counted twice."""

from __future__ import annotations

import pytest

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import EvmReverted, calldata, reason_in
from simulation.evm_adjudicator import CallFailed
from simulation.evm_world import FAR, STRANGER, TOWER, EvmWorld
from tallystick.settlement.chain import (
    Call,
    Challenged,
    Closed,
    CooperativelyClosed,
    DepositCall,
    OpenCall,
    RegisterSecretCall,
    SecretRegistered,
    SettleCall,
    Settled,
)


def encoded(world: EvmWorld, *calls: Call) -> list[bytes]:
    return [world.contract.encode(call)[0] for call in calls]


def opened(world: EvmWorld, count: int) -> list[ChannelFixture]:
    return [world.open() for _ in range(count)]


def test_of_many_cooperative_closes_those_that_are_right_count() -> None:
    world = EvmWorld()
    channels = opened(world, 5)
    closes = [channel.cooperative_close(600, 400, FAR) for channel in channels]
    closes[1] = channels[1].cooperative_close(600, 401, FAR)
    closes[3] = channels[3].cooperative_close(600, 400, 5)
    events, _ = world.contract.batch([*encoded(world, *closes), b"", b"\1\2\3\4"], TOWER)
    done = [event for event in events if isinstance(event, CooperativelyClosed)]
    failed = [event for event in events if isinstance(event, CallFailed)]
    assert [event.channel for event in done] == [channels[i].id for i in (0, 2, 4)]
    assert [(event.position, reason_in(event.answer)) for event in failed] == [
        (1, "bad-balances"), (3, "expired"), (5, ""), (6, ""),
    ]  # fmt: skip
    assert world.balance(world.at) == 2_000


def test_settlements_challenges_and_secrets_in_one_batch_are_those_of_its_sender() -> None:
    world = EvmWorld()
    first, second, third = opened(world, 3)
    world.send(first.close(), world.parties[0])
    world.send(second.close(), world.parties[0])
    world.evm.time += PERIOD + 1
    world.send(third.close(), world.parties[1])
    newer = third.proof(0, 4, 100, seen=1)
    calls = (
        SettleCall(first.id),
        third.challenge(newer),
        SettleCall(third.id),
        RegisterSecretCall(bytes(32)),
        SettleCall(second.id),
    )
    events, _ = world.contract.batch(encoded(world, *calls), TOWER)
    assert [type(event) for event in events] == [Settled, Challenged, CallFailed, SecretRegistered, Settled]
    challenged = events[1]
    assert isinstance(challenged, Challenged) and challenged.by == TOWER and challenged.convicts


def test_a_participant_closes_many_channels_alone_in_one_batch_and_nobody_else_can() -> None:
    world = EvmWorld()
    channels = opened(world, 3)
    calls = encoded(world, *(channel.close() for channel in channels))
    events, _ = world.contract.batch(calls, STRANGER)
    assert [reason_in(event.answer) for event in events if isinstance(event, CallFailed)] == ["not-a-participant"] * 3
    events, _ = world.contract.batch(calls, world.parties[1])
    assert [event.closer for event in events if isinstance(event, Closed)] == [1, 1, 1]


def test_a_batch_takes_no_coins_so_that_none_are_counted_twice() -> None:
    world = EvmWorld()
    channel = world.open()
    deposits = encoded(world, *[DepositCall(channel.id, 0, 100)] * 2)
    batch = calldata("batch", ("bytes[]",), (deposits,))
    with pytest.raises(EvmReverted):
        world.evm.send(world.parties[0], world.at, batch, 100)
    events, _ = world.contract.batch(deposits, world.parties[0])
    assert [reason_in(event.answer) for event in events if isinstance(event, CallFailed)] == ["bad-amount"] * 2
    nested, _ = world.contract.batch([batch], world.parties[0])
    assert len(nested) == 2
    opening, _ = world.contract.encode(OpenCall(world.fixture().terms, 5))
    world.contract.batch([opening], world.parties[0])
    assert world.balance(world.at) == 1_000


def test_what_a_batch_holds_is_bounded() -> None:
    world = EvmWorld()
    for calls in ([b""] * 101, [bytes(1_025)]):
        with pytest.raises(EvmReverted):
            world.contract.batch(calls, TOWER)
    events, _ = world.contract.batch([b""] * 100, TOWER)
    assert len(events) == 100


def test_tokens_deposited_in_a_batch_count_each_once() -> None:
    world = EvmWorld(token="ordinary")
    channel = world.open()
    calls = encoded(world, *[DepositCall(channel.id, 0, 100, world.asset)] * 3)
    world.contract.batch(calls, world.parties[0])
    assert world.balance(world.at) == 1_300
    view = world.contract.view(channel.id)
    assert view is not None and view.deposits == (900, 400)
