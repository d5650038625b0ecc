"""The contract's payouts: nobody can block them, take them twice, or have them credited for want of gas."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation.disputes import PERIOD
from simulation.evm import EvmReverted, calldata
from simulation.evm_world import BURNS_GAS, CALLS_BACK, ELSEWHERE, FAR, REFUSES, STRANGER, TOWER, EvmWorld
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.objects import NATIVE, Address, Lock
from tallystick.settlement.chain import Call, Claimed, Owed, RedeemCall, RegisterSecretCall, SettleCall

SECRET = b"s" * 32
Ending = Callable[[EvmWorld], Call]


def cooperative(world: EvmWorld) -> Call:
    """A close that gives 700 to side 0 and 300 to side 1."""
    return world.channel.cooperative_close(700, 300, FAR)


def settlement(world: EvmWorld) -> Call:
    """A settlement that gives 700 to side 0 and 300 to side 1."""
    world.send(world.channel.close(None, world.channel.proof(1, 1, 100)), world.parties[1])
    world.evm.time += PERIOD + 1
    return SettleCall(world.channel.id)


def redemption(world: EvmWorld) -> Call:
    """A redeem that gives 300 more to side 1, and 100 more to side 0: 700 and 300 in all, with what was settled."""
    locks = (Lock(1, 300, FAR, 0, digest_of(SECRET)), Lock(2, 700, 5, 0, digest_of(b"x" * 32)))
    world.send(
        world.channel.close(world.channel.proof(0, 1, 0, locks), world.channel.proof(1, 1, 400)), world.parties[1]
    )
    world.send(RegisterSecretCall(SECRET))
    world.evm.time += PERIOD + 1
    world.send(SettleCall(world.channel.id))
    return RedeemCall(world.channel.id, 0, locks)


ENDINGS = pytest.mark.parametrize("ending", [cooperative, settlement, redemption])


@ENDINGS
@pytest.mark.parametrize("mode", [REFUSES, BURNS_GAS])
@pytest.mark.parametrize("side", [0, 1])
def test_who_refuses_its_coins_is_owed_them_and_the_other_is_paid(ending: Ending, mode: int, side: int) -> None:
    world = EvmWorld()
    world.open()
    call = ending(world)
    bad, good = world.parties[side], world.parties[1 - side]
    world.misbehave(bad, mode)
    before = world.balance(bad), world.balance(good)
    events = world.send(call)
    due = (700, 300)[side]
    assert Owed(bad, NATIVE, due) in events
    assert (world.balance(bad), world.balance(good)) == (before[0], before[1] + 1_000 - due)
    assert world.owed(bad) == world.balance(world.at) == due
    world.act(bad, calldata("claim", ("address", "address"), (NATIVE, ELSEWHERE)))
    assert world.balance(ELSEWHERE) == due
    assert world.owed(bad) == world.balance(world.at) == 0
    with pytest.raises(EvmReverted):
        world.act(bad, calldata("claim", ("address", "address"), (NATIVE, ELSEWHERE)))


def test_who_refuses_a_withdrawal_is_owed_it() -> None:
    world = EvmWorld()
    world.open()
    world.misbehave(world.parties[0], REFUSES)
    assert Owed(world.parties[0], NATIVE, 250) in world.send(world.channel.withdrawal(0, 250, FAR))
    assert world.owed(world.parties[0]) == 250
    world.send(world.channel.cooperative_close(350, 400, FAR))
    assert world.owed(world.parties[0]) == 600 == world.balance(world.at)


def test_a_tower_that_refuses_its_reward_changes_nothing_for_the_parties() -> None:
    world = EvmWorld()
    world.open()
    world.send(world.channel.close(), world.parties[0])
    world.send(world.channel.challenge(world.channel.proof(0, 1, 100, seen=1), tower=TOWER, victim=1))
    world.misbehave(TOWER, REFUSES)
    world.evm.time += PERIOD + 1
    before = world.balance(world.parties[1])
    assert Owed(TOWER, NATIVE, 50) in world.send(SettleCall(world.channel.id), STRANGER)
    assert world.balance(world.parties[1]) == before + 950


@ENDINGS
def test_who_calls_back_while_it_is_paid_gets_nothing_twice(ending: Ending) -> None:
    world = EvmWorld()
    other = world.open()
    world.open()
    call = ending(world)
    data, _ = world.contract.encode(call)
    claim = calldata("claim", ("address", "address"), (NATIVE, ELSEWHERE))
    again, _ = world.contract.encode(other.cooperative_close(600, 400, FAR))
    batch = calldata("batch", ("bytes[]",), ([data],))
    world.misbehave(world.parties[0], CALLS_BACK)
    for attempt in (data, claim, again):
        world.call_back(world.parties[0], world.at, attempt)
    world.call_back(world.parties[0], world.at, data)
    before = world.balance(world.parties[0])
    world.send(call)
    assert world.balance(world.parties[0]) == before + 700
    assert (world.asked(world.parties[0], "calls"), world.asked(world.parties[0], "succeeded")) == (1, 0)
    assert world.balance(world.at) == 1_000
    world.call_back(world.parties[0], world.at, batch)
    world.send(other.cooperative_close(600, 400, FAR))
    assert world.asked(world.parties[0], "succeeded") == 1  # the batch itself: what was in it did nothing
    assert world.balance(world.at) == 0 == world.owed(world.parties[0])


def test_a_receiver_that_takes_its_coins_is_never_owed_them_however_little_gas_the_sender_leaves() -> None:
    paid = 0
    for gas in range(60_000, 190_000, 1_500):
        world = EvmWorld()
        world.open()
        call = cooperative(world)
        world.misbehave(world.parties[0], CALLS_BACK)  # writes once: about 45,000 gas
        data, _ = world.contract.encode(call)
        try:
            events = world.contract.events(world.evm.send(TOWER, world.at, data, gas=gas))
        except EvmReverted:
            assert world.balance(world.at) == 1_000
            continue
        assert not any(isinstance(event, Owed) for event in events), gas
        paid += 1
    assert paid > 10


def test_a_settlement_is_told_the_locks_that_stand_and_no_others() -> None:
    world = EvmWorld()
    world.open()
    locks = (Lock(1, 300, FAR, 0, digest_of(SECRET)),)
    world.send(world.channel.close(world.channel.proof(0, 1, 0, locks)), world.parties[1])
    world.evm.time += PERIOD + 1
    right = world.contract.held[world.channel.id, 0]
    for wrong in ((0, right[1]), (299, right[1]), (right[0], bytes(32)), (0, bytes(32))):
        world.contract.held[world.channel.id, 0] = wrong
        assert world.refused(SettleCall(world.channel.id)) == "bad-locks"
    del world.contract.held[world.channel.id, 0]
    assert world.refused(SettleCall(world.channel.id)) == "bad-locks"
    world.contract.held[world.channel.id, 0] = right
    world.send(SettleCall(world.channel.id))
    view = world.contract.view(world.channel.id)
    assert view is not None and view.pots == (300, 0)


def test_a_reward_is_a_share_of_what_is_forfeited() -> None:
    with pytest.raises(RuntimeError):
        EvmWorld(reward_bps=10_001)
    world = EvmWorld(reward_bps=10_000)
    world.open()
    world.send(world.channel.close(), world.parties[0])
    world.send(world.channel.challenge(world.channel.proof(0, 1, 100, seen=1), tower=TOWER, victim=1))
    world.evm.time += PERIOD + 1
    before = world.balance(TOWER)
    world.send(SettleCall(world.channel.id), STRANGER)
    assert world.balance(TOWER) == before + 500


def test_claims() -> None:
    world = EvmWorld()
    world.open()
    bad = world.parties[0]
    world.misbehave(bad, REFUSES)
    world.send(cooperative(world))
    with pytest.raises(EvmReverted, match="nothing-owed"):
        world.contract.claim(NATIVE, STRANGER, STRANGER)
    with pytest.raises(EvmReverted):
        world.act(bad, calldata("claim", ("address", "address"), (NATIVE, bad)))  # it still refuses
    assert world.owed(bad) == 700
    world.evm.send(STRANGER, bad, calldata("set_mode", ("uint256",), (0,)))
    world.act(bad, calldata("claim", ("address", "address"), (NATIVE, bad)))
    assert world.owed(bad) == 0 == world.balance(world.at)


def test_a_claim_says_who_took_what_to_where() -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    assert world.token is not None
    world.token.send(STRANGER, "block_account", ("address", "bool"), world.parties[1], True)
    world.send(cooperative(world))
    assert world.owed(world.parties[1]) == 300
    with pytest.raises(EvmReverted, match="transfer-failed"):
        world.contract.claim(world.asset, world.parties[1], world.parties[1])
    events = world.contract.claim(world.asset, world.parties[1], ELSEWHERE)
    assert events == (Claimed(world.parties[1], world.asset, ELSEWHERE, 300),)
    assert world.balance(ELSEWHERE) == 300


@pytest.mark.parametrize("token", [None, "ordinary"])
def test_a_claim_to_where_nobody_could_take_it_out_is_refused(token: str | None) -> None:
    world = EvmWorld(token=token)
    world.open()
    bad = world.parties[0]
    if world.token is not None:
        world.token.send(STRANGER, "block_account", ("address", "bool"), bad, True)
    else:
        world.misbehave(bad, REFUSES)
    world.send(cooperative(world))
    lost = [Address(bytes(20)), world.at, world.asset]
    for to in lost:
        data = calldata("claim", ("address", "address"), (world.asset, to))
        if world.token is None:
            with pytest.raises(EvmReverted):  # through the account's code, which says no more
                world.act(bad, data)
        else:
            with pytest.raises(EvmReverted, match="transfer-failed"):
                world.contract.claim(world.asset, bad, to)
        assert world.owed(bad) == 700
        batch = calldata("batch", ("bytes[]",), ([data],))
        if world.token is not None:
            world.evm.send(bad, world.at, batch)
            assert world.owed(bad) == 700, "nor in a batch"
    if world.token is not None:
        world.contract.claim(world.asset, bad, ELSEWHERE)
    else:
        world.act(bad, calldata("claim", ("address", "address"), (NATIVE, ELSEWHERE)))
    assert world.owed(bad) == 0 and world.balance(ELSEWHERE) == 700
