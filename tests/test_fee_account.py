"""An account that holds too little for what may be due is an alarm before it is needed, and when it gets worse."""

from __future__ import annotations

import msgspec
import pytest
import trio

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import Channel, KnownSecret, Phase, SignedSimplex, new_channel
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, Lock, Terms
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import CLAIM_ALL, COINS, World, open_world
from tallystick.settlement.chain import (
    ChallengeCall,
    CloseCall,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
    TransferCall,
)
from tallystick.settlement.enforcement.budgets import MARGIN, DutyPolicy, fee_need
from tallystick.settlement.ethereum.transactions import GAS, LOCK_GAS, TARIFF
from tallystick.settlement.sending.fee_account import (
    AT_ONCE,
    LOOK_AGAIN,
    LOOK_EVERY,
    FeeAccount,
    FundsAndDuties,
    at_one_time,
)

ACCOUNT = Address(b"\x01" * 20)
KEYS = sorted((PrivateKey(bytes([n]) * 32) for n in (1, 2)), key=lambda key: key.address)
PRICE = 7
END = GAS[CloseCall] + GAS[ChallengeCall] + GAS[SettleCall]


def told(*standings: tuple[int, int]) -> list[str]:
    account, found = FeeAccount(ACCOUNT), []
    for held, need in standings:
        account, alarm = account.look(FundsAndDuties(held, need))
        found.append("" if alarm is None else alarm.kind.value)
    return found


SHORT, FUNDED = "fee-account", "fee-account-funded"


@pytest.mark.parametrize(
    ("standings", "alarms"),
    [
        ([(100, 100), (100, 100)], ["", ""]),
        ([(99, 100), (99, 100), (99, 100)], ["", SHORT, ""]),
        ([(0, 100), (100, 100), (0, 100), (0, 100)], ["", "", "", SHORT]),
        ([(80, 100), (80, 100), (41, 100), (40, 100), (40, 100)], ["", SHORT, "", SHORT, ""]),
        ([(80, 100), (80, 100), (80, 199), (80, 200)], ["", SHORT, "", SHORT]),
        ([(1, 100), (1, 100), (0, 100), (0, 100)], ["", SHORT, SHORT, ""]),
        ([(1, 100), (1, 100), (100, 100), (100, 100), (1, 100), (1, 100)], ["", SHORT, "", FUNDED, "", SHORT]),
        ([(0, 0), (0, 0)], ["", ""]),
    ],
)
def test_it_is_told_once_and_again_when_it_gets_worse_and_when_it_is_over(
    standings: list[tuple[int, int]], alarms: list[str]
) -> None:
    assert told(*standings) == alarms


def channel(phase: Phase, funds: int = 10**12) -> Channel:
    terms = Terms(1, Address(bytes(20)), (KEYS[0].address, KEYS[1].address), NATIVE, 0, 600, bytes(32))
    return msgspec.structs.replace(
        new_channel(terms, 0, bytes(KEYS[1].public), 0), phase=phase, deposits=(funds // 2, funds // 2)
    )


def test_what_is_needed_follows_channels_prices_and_stakes() -> None:
    policy, open_one = DutyPolicy(), channel(Phase.OPEN)
    assert fee_need([], PRICE, TARIFF, policy) == 0
    assert fee_need([channel(Phase.OPENING), channel(Phase.GONE)], PRICE, TARIFF, policy) == 0
    assert fee_need([open_one], PRICE, TARIFF, policy) == MARGIN * END * PRICE
    pending = msgspec.structs.replace(open_one.theirs.simplex, locks=(Lock(0, 10**6, 10_000, HASH, bytes(32)),))
    owed = msgspec.structs.replace(open_one, theirs=SignedSimplex(pending))
    claiming = msgspec.structs.replace(owed, secrets=(KnownSecret(0, b"s" * 32),))
    assert fee_need([owed], PRICE, TARIFF, policy) == MARGIN * (END + 2 * GAS[RedeemCall] + LOCK_GAS) * PRICE
    assert (
        fee_need([claiming], PRICE, TARIFF, policy) - fee_need([owed], PRICE, TARIFF, policy)
        == MARGIN * GAS[RegisterSecretCall] * PRICE
    )
    assert fee_need([open_one], 10**12, TARIFF, policy) <= 3 * policy.budget
    assert fee_need([open_one], None, TARIFF, policy) > 0, "some coins are needed whatever they cost"
    many = fee_need([open_one] * 100, PRICE, TARIFF, policy)
    assert many == MARGIN * END * PRICE * AT_ONCE + MARGIN * END * PRICE * (100 - AT_ONCE) // 10
    assert fee_need([channel(Phase.CLOSING)] * 100, PRICE, TARIFF, policy) == 100 * MARGIN * END * PRICE
    assert at_one_time([5], [1, 2]) == 8


@pytest.mark.alarm("fee-account", "fee-account-funded")
def test_a_node_without_coins_is_told_before_it_needs_them_and_pays_little_once_it_has_them() -> None:
    """The peer opens the channel and goes away for good: closing it takes coins that this node never had."""

    async def story(world: World) -> None:
        alice, bob = await world.start("alice"), await world.start("bob")
        key = world.seats["bob"].key
        await world.chain.send(key, TransferCall(NATIVE, alice.address, COINS - 100_000))
        await world.blocks(1)
        assert await bob.balance() < 100_000
        channel = await alice.open_channel(world.address("bob"), 1_000_000)
        await channel.pay(400_000, b"")
        await trio.sleep(LOOK_EVERY + 2 * LOOK_AGAIN)
        assert [alarm.kind for alarm in bob.alarms] == [AlarmKind.FEE_ACCOUNT]
        await world.crash("alice")
        await bob.channel(channel.id).force_close()
        async with world.brisk(5.0):
            await trio.sleep(600)
            await world.chain.send(world.seats["carol"].key, TransferCall(NATIVE, bob.address, 10**18))
            assert await world.until(lambda: bob.channel(channel.id).phase.name == "GONE", 900)
        kinds = [alarm.kind for alarm in bob.alarms]
        assert kinds.count(AlarmKind.FEE_ACCOUNT_FUNDED) == 1
        spent = 10**18 + 100_000 + 400_000 - await bob.balance()
        assert spent < 1_000_000, "it is the market's price that closing costs"

    async def main() -> None:
        async with open_world(1, config=Config(challenge_period=600, duties=CLAIM_ALL)) as world:
            await story(world)

    simulate(main, 1)


def test_alarms_name_the_account_and_what_to_do() -> None:
    account, _ = FeeAccount(ACCOUNT).look(FundsAndDuties(3, 10))
    _, alarm = account.look(FundsAndDuties(3, 10))
    assert isinstance(alarm, Alarm) and ACCOUNT.hex() in alarm.text and "pay coins into it" in alarm.text
