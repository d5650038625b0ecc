"""What a call is given where no node can say what it takes is enough, whoever refuses what it pays out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation.disputes import PERIOD
from simulation.evm import EvmReverted
from simulation.evm_storage import slots_in_use
from simulation.evm_world import BURNS_GAS, FAR, REFUSES, STRANGER, TOWER, EvmWorld
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.objects import NATIVE, Lock
from tallystick.settlement.chain import Call, Owed, RedeemCall, RegisterSecretCall, SettleCall
from tallystick.settlement.ethereum.evm.gas import limit_of

SECRET = b"s" * 32
TOKENS = {
    "reverts": bytes.fromhex("5f5ffd"),  # revert(0, 0)
    "burns all its gas": bytes.fromhex("fe"),  # invalid
    "says false": bytes.fromhex("5f5f5260205ff3"),  # return a word of zeros
}
"""What a token's code becomes after the deposits."""


def closed(world: EvmWorld, *locks: Lock) -> None:
    proofs = world.channel.proof(0, 1, 0, locks), world.channel.proof(1, 1, 100)
    world.send(world.channel.close(*proofs), world.parties[1])
    world.send(RegisterSecretCall(SECRET))
    world.evm.time += PERIOD + 1


def cooperative(world: EvmWorld) -> Call:
    world.send(world.channel.withdrawal(0, 50, FAR))
    return world.channel.cooperative_close(650, 300, FAR)


def withdrawal(world: EvmWorld) -> Call:
    return world.channel.withdrawal(0, 250, FAR)


def settlement(world: EvmWorld) -> Call:
    closed(world, Lock(1, 300, FAR, 0, digest_of(SECRET)))
    return SettleCall(world.channel.id)


def conviction(world: EvmWorld) -> Call:
    """A tower gets a part of it."""
    world.send(world.channel.close(), world.parties[0])
    world.send(world.channel.challenge(world.channel.proof(0, 1, 100, seen=1), tower=TOWER, victim=1))
    world.evm.time += PERIOD + 1
    return SettleCall(world.channel.id)


def redemption(count: int) -> Callable[[EvmWorld], Call]:
    def make(world: EvmWorld) -> Call:
        late = (Lock(number, 10, 5, 0, digest_of(b"x" * 32)) for number in range(2, count + 1))
        locks = (Lock(1, 300, FAR, 0, digest_of(SECRET)), *late)
        world.contract.puzzles.add(digest_of(SECRET))
        closed(world, *locks)
        world.send(SettleCall(world.channel.id))
        return RedeemCall(world.channel.id, 0, locks)

    return make


CALLS = pytest.mark.parametrize(
    ("make", "owed"),
    [
        (cooperative, 2),
        (withdrawal, 1),
        (settlement, 2),
        (conviction, 2),
        (redemption(2), 2),
        (redemption(5), 2),
        (redemption(16), 2),
    ],
    ids=["cooperative close", "withdrawal", "settlement", "conviction", "redeem 2", "redeem 5", "redeem 16"],
)


def owed_by(world: EvmWorld, call: Call, gas: int) -> int:
    """Make the call with such a limit, with nothing warm; return how many payouts are owed."""
    data, value = world.contract.encode(call)
    slots = {world.at: list(slots_in_use(world.contract)), **{each: range(4) for each in (*world.parties, TOWER)}}
    after = world.evm.settled(slots)
    events = world.contract.events(after.send(STRANGER, world.at, data, value, gas=gas))
    return sum(isinstance(event, Owed) for event in events)


@CALLS
@pytest.mark.parametrize("code", TOKENS.values(), ids=TOKENS)
def test_no_token_that_refuses_makes_a_call_fail_for_want_of_gas(
    make: Callable[[EvmWorld], Call], owed: int, code: bytes
) -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    call = make(world)
    world.evm.become(world.asset, code)
    assert owed_by(world, call, limit_of(call, None, pays_in=world.asset)) == owed
    with pytest.raises(EvmReverted):
        owed_by(world, call, 226_250)  # so much must be left at each


@CALLS
@pytest.mark.parametrize("mode", [REFUSES, BURNS_GAS])
def test_nor_does_an_account_that_refuses_coins(make: Callable[[EvmWorld], Call], owed: int, mode: int) -> None:
    world = EvmWorld()
    world.open()
    call = make(world)
    for account in (*world.parties, TOWER):
        world.misbehave(account, mode)
    assert owed_by(world, call, limit_of(call, None, pays_in=NATIVE)) == owed
