"""What a peer pays is not acknowledged before enough towers have it, as the policy says: whole nodes, virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from simulation.custody_world import TOWERS, CustodyWorld, play
from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.node.custody import CustodyPolicy
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.eip712 import digest_proof, domain_separator
from tallystick.channels.protocol.messages import Update, decode, encode
from tallystick.channels.protocol.operations import Pay
from tallystick.channels.protocol.simplex import extend
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.incoming import OLDEST
from tallystick.sdk.node.options import Config

STRICT_BOTH = CustodyPolicy(receipts=2)
STRICT_ONE = CustodyPolicy(receipts=1)


async def waits(channel: ChannelHandle, amount: int, seconds: float = 20) -> None:
    """A payment waits, and is neither made nor refused: whoever made it is gone, and its update stays in flight."""
    with trio.move_on_after(seconds) as scope:
        await channel.pay(amount)
    assert scope.cancelled_caught


async def told(made: CustodyWorld) -> list[int]:
    """Return all payments that a program of Bob's is told of."""
    amounts = []
    with trio.move_on_after(1):
        async for payment in made.bob.incoming(OLDEST):
            amounts.append(payment.amount)
    return amounts


def test_strict_acknowledges_what_enough_towers_have_and_nothing_else(tmp_path: Path) -> None:
    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        acknowledged = made.watch(2)
        await channel.pay(10)
        assert acknowledged == [1] and made.holders(1) == 2
        await made.close_tower(1)
        await waits(channel, 100)
        assert made.received == 10 and await told(made) == [10]
        assert made.custody().deferred == 1 and made.holders(2) == 1
        await made.open_tower(1)
        assert await made.world.until(lambda: made.received == 110, 120)
        assert await told(made) == [10, 100] and channel.balances[0] == made.inbound.balances[1]
        assert made.custody().deferred == 0

    play(tmp_path, STRICT_BOTH, act)


def test_of_several_towers_as_many_as_the_policy_names_are_enough(tmp_path: Path) -> None:
    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        made.watch(1)
        await made.close_tower(0)
        await channel.pay(10)
        await made.open_tower(0)
        await made.close_tower(1)
        await channel.pay(20)
        assert made.received == 30

    play(tmp_path, STRICT_ONE, act)


def test_without_a_policy_a_dead_tower_delays_nothing(tmp_path: Path) -> None:
    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        await made.close_tower(0)
        await made.close_tower(1)
        for _ in range(5):
            await channel.pay(10)
        assert made.received == 50 and made.holders(1) == 0

    play(tmp_path, CustodyPolicy(), act)


def test_so_much_may_be_unsecured_and_not_a_unit_more(tmp_path: Path) -> None:
    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        await channel.pay(1_000)  # more than may be unsecured: it waits for the towers, and has them
        assert made.holders(1) >= 1
        await made.close_tower(0)
        await made.close_tower(1)
        for amount in (20, 30):
            await channel.pay(amount)
        assert made.received == 1_050 and list(made.custody().exposed.values()) == [50]
        await waits(channel, 1)
        assert made.received == 1_050
        await made.open_tower(0)
        assert await made.world.until(lambda: made.received == 1_051, 120)
        assert made.custody().exposed == {}

    play(tmp_path, CustodyPolicy(receipts=1, unsecured=50), act)


def test_what_waits_holds_up_nothing_that_we_pay(tmp_path: Path) -> None:
    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        await channel.pay(50_000_000)
        await made.close_tower(0)
        await waits(channel, 5)
        for _ in range(3):
            await made.inbound.pay(7)
        assert made.received == 50_000_000 - 21
        await made.open_tower(0)
        assert await made.world.until(lambda: made.received == 50_000_000 - 21 + 5, 120)

    play(tmp_path, STRICT_BOTH, act)


@pytest.mark.alarm(AlarmKind.PAYMENTS_WAIT, AlarmKind.TOWER_BACK)
def test_a_payee_that_waits_for_long_says_so_and_loses_nothing_by_new_connections(tmp_path: Path) -> None:
    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        made.watch(2)
        await made.close_tower(0)
        await waits(channel, 5, seconds=600)  # long enough for the payer to try new connections
        kinds = [alarm.kind for alarm in made.bob.alarms]
        assert AlarmKind.PAYMENTS_WAIT in kinds
        await made.open_tower(0)
        assert await made.world.until(lambda: made.received == 5, 300)
        assert await made.world.until(lambda: made.bob.alarms[-1].kind is AlarmKind.TOWER_BACK, 60)
        assert await told(made) == [5]

    play(tmp_path, STRICT_BOTH, act)


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_of_the_payee_at_any_effect_acknowledges_nothing_too_early_and_loses_nothing(
    tmp_path: Path, after: bool
) -> None:
    struck = 0

    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        nonlocal struck
        made.watch(2)
        for index in range(14):
            before = made.received
            life = made.world.seats["bob"].life
            assert life is not None
            life.gate.aim(index, after=after)
            with trio.move_on_after(30):
                await channel.pay(10 + index)
            if made.world.is_up("bob"):
                life.gate.disarm()
            else:
                struck += 1
                await made.world.crash("bob")
                await made.world.start("bob")
            due = before + 10 + index
            assert await made.world.until(lambda due=due: made.received == due, 120), (index, made.received, due)
            assert await made.world.until(lambda: channel.view.ready and made.inbound.view.ready, 120)
        assert AlarmKind.OLD_DATA not in [alarm.kind for alarm in made.world.seats["bob"].alarms]

    play(tmp_path, STRICT_BOTH, act)
    assert struck >= 5


def test_a_peer_that_closes_with_less_while_an_update_waits_is_answered_with_it(tmp_path: Path) -> None:
    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        await channel.pay(10)
        await made.close_tower(1)
        await waits(channel, 100)
        await made.world.node("alice").channels[0].force_close()
        async with made.world.brisk():
            assert await made.world.until(lambda: made.inbound.phase is Phase.CLOSED, 600)
            assert await made.world.until(lambda: made.received == 110, 60), "both signed it: it counts"
            assert await made.world.until(lambda: made.inbound.phase is Phase.GONE, 200_000, every=60)
        assert await told(made) == [10, 100]
        made.world.chain.check_conservation()

    play(tmp_path, STRICT_BOTH, act)


def test_after_a_crash_what_waited_counts_if_the_peer_has_closed_meanwhile(tmp_path: Path) -> None:
    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        await channel.pay(10)
        await made.close_tower(1)
        await waits(channel, 100)
        await made.world.crash("bob")
        await made.world.node("alice").channels[0].force_close()
        async with made.world.brisk():
            await trio.sleep(60)
            await made.world.start("bob")
            assert await made.world.until(lambda: made.received == 110, 600)
            assert await made.world.until(lambda: made.inbound.phase is Phase.GONE, 200_000, every=60)

    play(tmp_path, STRICT_BOTH, act)


def test_another_update_with_a_number_that_was_countersigned_is_refused(tmp_path: Path) -> None:
    async def act(made: CustodyWorld, channel: ChannelHandle) -> None:
        made.watch(2)
        await channel.pay(10)
        await made.close_tower(1)
        await waits(channel, 100)
        seat = made.world.seats["alice"]
        domain = domain_separator(channel.view.channel.terms.chain_id, channel.view.channel.terms.contract)

        def rewrite(frame: bytes) -> list[bytes]:
            """She pays less, with the same number, on another connection."""
            update = decode(frame)
            if not isinstance(update, Update):
                return [frame]
            assert update.seq == 2
            simplex = extend(channel.view.channel.ours.simplex, (Pay(1, (1,)),), update.seen)
            signature = seat.key.sign(digest_proof(domain, simplex.proof))
            return [encode(Update(channel.id, 2, update.seen, (Pay(1, (1,)),), signature))]

        seat.tamper = rewrite
        made.world.network.cut(seat.key.public)
        await made.open_tower(1)
        await trio.sleep(120)
        assert made.received == 10 and await told(made) == [10], "nothing is taken in that contradicts the towers"
        await made.inbound.force_close()
        async with made.world.brisk():
            assert await made.world.until(lambda: made.inbound.phase is Phase.GONE, 200_000, every=60)
        assert made.received == 110, "what she signed first, and towers have, is what counts"

    play(tmp_path, STRICT_BOTH, act)


def test_more_receipts_than_towers_are_refused_when_the_node_is_configured() -> None:
    place = PeerAddress(bytes(TOWERS[0].public), "tower", 1)
    with pytest.raises(InvalidInput, match="waits for receipts of 2 towers, and 1 are named"):
        Config(towers=(place,), custody=STRICT_BOTH)
