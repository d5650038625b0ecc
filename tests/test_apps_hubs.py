"""Players without a channel between them play over hubs: one and two, a hub that is away, a way that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec
import pytest
import trio

from simulation.hub_games import (
    CONFIG,
    DEPOSIT,
    LINES,
    STAKE,
    WINS,
    accept_all,
    arrived,
    begin,
    game_of,
    hub_of,
    line,
    offer,
    owns,
    play,
    quietly,
    rests,
    stakes,
)
from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.protocol.apps import APP, OutcomeProof
from tallystick.channels.protocol.objects import NATIVE, ChannelId
from tallystick.channels.session.expected import LockWanted
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.codes import Code
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.forwarding.stakes import StakeLimits
from tallystick.router.objects import NodeKey
from tallystick.router.onion.failures import Failure
from tallystick.sdk.testing.world import key_of

Attach: TypeAlias = Callable[[ChannelId, int], Moment] | None


@pytest.mark.parametrize("names", LINES.values(), ids=LINES)
@pytest.mark.parametrize(("winner", "gain"), [("alice", STAKE), ("bob", -STAKE), ("nobody", 0)])
def test_a_game_over_hubs_is_locked_played_and_paid_and_no_hub_gains_or_loses(
    winner: str, gain: int, names: tuple[str, ...]
) -> None:
    async def main() -> None:
        async with line(1, names) as world:
            before = {name: owns(world, name) for name in names}
            await begin(world)
            assert len(stakes(world)) == 4 * (len(names) - 1), "both sides of each channel see both stakes"
            assert not world.channels_between("alice", "bob")
            await play(world, WINS[winner])
            assert await world.until(lambda: rests(world), 600)
            gains = {name: owns(world, name) - before[name] for name in names}
            assert gains == {**dict.fromkeys(names, 0), "alice": gain, "bob": -gain}

    simulate(main, 1)


@pytest.mark.parametrize("wrong", ["word", "amount", "expiry"])
def test_a_stake_that_nobody_waits_for_is_refused_where_it_arrives(wrong: str) -> None:
    """Bob awaits Alice's stake, as she has yet to send it: something else comes in its place, and goes back at once."""

    async def main() -> None:
        async with line(2) as world:
            alice, before = world.node("alice"), owns(world, "alice")
            sent = alice.routing.sent_locks.send
            others = {"word": bytes(32), "amount": STAKE - 1, "expiry": 1}
            tried: list[LockWanted] = []

            def send(wanted: LockWanted, attach: Attach = None) -> ChannelId:
                tried.append(wanted)
                other = others[wrong] if wrong != "expiry" else wanted.expiry - 1
                return sent(msgspec.structs.replace(wanted, **{wrong: other}), attach)

            alice.routing.sent_locks.send = send  # type: ignore[method-assign]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(quietly, lambda: begin(world))
                assert await world.until(lambda: bool(tried), 60)
                assert await world.until(lambda: not alice.routing.sent_locks._sent, 60), "long before it expires"
                assert not arrived(world, "bob")
                nursery.cancel_scope.cancel()
            assert not any(game.held.agreed for game in world.node("bob").apps)
            assert await world.until(lambda: rests(world), 60)
            assert owns(world, "alice") == before
            assert "does not get there" in game_of(world, "alice").held.text, "no other way is looked for"

    simulate(main, 2)


@pytest.mark.parametrize("reason", ["the hub takes none", "bob has no channel"])
def test_a_game_whose_stakes_find_no_way_does_not_begin(reason: str) -> None:
    async def main() -> None:
        async with line(3) as world:
            hub = world.node("hub")
            if reason == "the hub takes none":
                await world.crash("hub")
                limits = RoutingOptions(stakes=StakeLimits(count=0))
                await world.start("hub", msgspec.structs.replace(CONFIG, routing=limits))
            else:
                await hub.channel(world.channels_between("hub", "bob")[0]).close()
                await world.until(lambda: len(world.node("alice").routing.graph) == 2, 600)
            assert await world.until(lambda: world.node("alice").channels[0].view.usable, 120)
            assert await world.until(lambda: all(view.usable for view in hub_of(world) if view.payable), 120)
            before = owns(world, "alice")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept_all, world.node("bob"))
                with pytest.raises((ChannelNotReady, InvalidInput), match=r"way"):
                    await offer(world.node("alice"), world)
                nursery.cancel_scope.cancel()
            assert await world.until(lambda: rests(world), 300) and owns(world, "alice") == before

    simulate(main, 3)


def test_a_hub_that_is_away_while_it_is_played_holds_up_no_move_and_its_end_goes_through_once_it_is_back() -> None:
    async def main() -> None:
        async with line(6) as world:
            before = {each: owns(world, each) for each in world.seats}
            await begin(world)
            await world.crash("hub")
            await play(world, WINS["bob"])
            assert await world.until(lambda: all(game_of(world, each).paid is not None for each in ("alice", "bob")))
            assert stakes(world), "nothing is paid without the hub"
            await world.start("hub")
            assert await world.until(lambda: rests(world), 600)
            gains = {each: owns(world, each) - before[each] for each in world.seats}
            assert gains == {"alice": -STAKE, "hub": 0, "bob": STAKE}

    simulate(main, 6)


def test_proposals_of_strangers_are_few_and_the_newest() -> None:
    async def main() -> None:
        async with line(7) as world:
            bob, alice = world.node("bob"), world.node("alice")
            await alice.connect(world.address("bob"))
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(quietly, lambda: offer(alice, world))
                assert await world.until(lambda: len(bob.apps.apps.heard) == 2, 60)
                await trio.sleep(5)
                assert len(bob.apps.apps.heard) == 2, "two of one who has no channel here"
                nursery.cancel_scope.cancel()

    simulate(main, 7)


def test_a_stake_of_which_a_part_is_paid_goes_over_hubs_by_one_transaction_and_no_channel_closes() -> None:
    async def main() -> None:
        async with line(8, LINES["two hubs"]) as world:
            before = {each: owns(world, each) for each in world.seats}
            await begin(world)
            await play(world, (0,))
            game_of(world, "bob").offer(0, STAKE // 4)
            assert await world.until(lambda: game_of(world, "alice").offered is not None, 60)
            game_of(world, "alice").take_offer()
            async with world.brisk(10.0):
                assert await world.until(lambda: rests(world), 2_000, every=5), "long before its expiry"
            gains = {each: owns(world, each) - before[each] for each in world.seats}
            assert gains == {**dict.fromkeys(world.seats, 0), "alice": -STAKE // 4, "bob": STAKE // 4}
            phases = {channel.phase for each in world.seats for channel in world.node(each).channels}
            assert {phase.name for phase in phases} == {"OPEN"}

    simulate(main, 8)


def test_who_owes_a_stake_may_pay_it_by_its_proof_and_no_hub_before_it_was_paid() -> None:
    async def main() -> None:
        async with line(9) as world:
            alice, hub, bob = (world.node(each) for each in ("alice", "hub", "bob"))
            await begin(world)
            await world.crash("bob")
            held = game_of(world, "alice").held
            (stake,) = alice.apps.apps.stakes.of(held, 0)
            signed = [key_of(each).sign(held.digest_paid((STAKE, 0))) for each in ("alice", "bob")]
            proof = OutcomeProof(held.terms, (STAKE, 0), (signed[0], signed[1])).encode()
            between = world.channels_between("hub", "bob")[0]
            (owed,) = [each for each in hub.engine.views.channel(between).newest.locks if each.kind == APP]
            for wrong in (b"", proof[:-1] + bytes([proof[-1] ^ 1])):
                with pytest.raises(InvalidInput, match="lock"):
                    alice.unlock(stake.channel.id, stake.lock.id, wrong)
            with pytest.raises(InvalidInput, match="stands for one that came in"):
                hub.unlock(between, owed.id, proof)
            with pytest.raises(InvalidInput, match="no lock 99"):
                alice.unlock(stake.channel.id, 99, proof)
            had = owns(world, "alice")
            alice.unlock(stake.channel.id, stake.lock.id, proof)
            assert await world.until(lambda: owns(world, "alice") == had - STAKE, 60)
            assert not list(alice.apps.apps.stakes.of(held, 0)) and bob is not None

    simulate(main, 9)


@pytest.mark.parametrize("moves", [0, 2])
def test_a_stake_that_comes_back_when_the_game_has_begun_is_no_lack_of_room_on_its_way(moves: int) -> None:
    """Whatever the hub says of it: the stake had got there."""

    async def main() -> None:
        async with line(12) as world:
            await begin(world)
            await play(world, WINS["nobody"][:moves])
            alice, hub = world.node("alice"), world.node("hub")
            (first,), (onwards,) = world.channels_between("alice", "hub"), world.channels_between("hub", "bob")
            bob, knowledge = NodeKey(bytes(world.node("bob").key.public)), alice.routing.maps.of(NATIVE).knowledge

            def believed() -> tuple[int, int] | None:
                return knowledge.bounds(onwards, bob, 0.0)

            before = believed()
            router, condition = hub.routing.router, game_of(world, "alice").held.stake(0)
            (lock,) = [
                each
                for each in hub.engine.views.channel(first).theirs.simplex.locks
                if each.kind == APP and each.condition == condition
            ]
            circuit = router._stakes.of_origin(first, lock.id)
            assert circuit is not None and circuit.outgoing == onwards
            said = router._incoming.hide(circuit.secret, Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=onwards))
            router._incoming.release(first, lock.id, said)
            assert await world.until(lambda: lock not in alice.engine.views.channel(first).newest.locks, 60)
            assert believed() == before == (0, 2 * DEPOSIT + 1), "nothing is known of it"

    simulate(main, 12)
