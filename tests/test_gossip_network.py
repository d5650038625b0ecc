"""Whole networks of gossip in virtual time: cuts, losses, closings and restarts, then one graph everywhere (I10)."""

from __future__ import annotations

import msgspec
import pytest
import trio

from simulation.gossip_fixtures import ChainTruth, person
from simulation.gossip_network import GossipNetwork, GossipNode, divide_and_heal
from tallystick.channels.errors import PeerError
from tallystick.channels.testing.clock import virtual_clock
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import Description
from tallystick.router.gossip.policy import DAY, GossipPolicy
from tallystick.router.gossip.schema import load_announcements
from tallystick.router.gossip.service import LOOKUPS
from tallystick.router.objects import ForwardingPolicy
from tallystick.settlement.chain import ContractChannel, Deposited

HASTY = GossipPolicy(reconcile=60, refresh=3_600, stale=10_800, recheck=600)
"""Hours where others take days, to keep tests short."""


@pytest.mark.parametrize(("seed", "size"), [(1, 30), (2, 12)])
def test_a_land_that_was_divided_agrees_after_it_is_whole_again(seed: int, size: int) -> None:
    statistics = simulate(divide_and_heal, seed, seed, size)
    assert len(statistics) == size
    assert all(figures.rounds > 0 for figures in statistics)


async def survive() -> None:
    """Write, forget, restart: what is on disk is what was believed, and nothing is asked for again."""
    truth = ChainTruth()
    async with trio.open_nursery() as nursery:
        network = GossipNetwork(nursery, 1, truth)
        ann, bea, cal = (network.settle(number) for number in range(3))
        first = truth.open(ann.key, bea.key)
        second = truth.open(bea.key, cal.key)
        third = truth.open(ann.key, cal.key)
        for here, there, channel in ((ann, bea, first), (bea, cal, second), (ann, cal, third)):
            network.link(here, there)
            for each in (here, there):
                each.shell.announce(channel, ForwardingPolicy(base_fee=each.number))
                each.shell.describe(Description("somebody"))
        await trio.sleep(200)
        assert len(bea.graph) == 6
        network.close(second)
        bea.shell.announce(first, ForwardingPolicy(base_fee=77))
        await trio.sleep(10)
        nursery.cancel_scope.cancel()

    questions = truth.questions
    again = GossipNode(1, truth, bea.disk, HASTY)
    again.shell.load()
    await again.writer.round()
    assert again.graph == bea.graph == again.from_scratch()
    assert (len(again.graph), len(again.gossip.store), again.gossip.store.announcements) == (4, 2, 7)
    assert again.gossip.store.buckets.digests() == bea.gossip.store.buckets.digests()
    assert truth.questions == questions

    async with trio.open_nursery() as nursery:  # and it goes on renewing what it had announced
        nursery.start_soon(again.run)
        await trio.sleep(4_000)
        side = truth.owners[first].index(again.key)
        kept = again.gossip.store.get((first, side))
        assert kept is not None and kept.announcement.timestamp > virtual_clock()() - 3_700
        nursery.cancel_scope.cancel()

    await trio.sleep(30 * DAY)
    late = GossipNode(1, truth, bea.disk)
    late.shell.load()
    await late.writer.round()
    assert (late.graph, list(load_announcements(late.disk.open()))) == ({}, [])


def test_a_restart_needs_no_resync_and_forgets_what_grew_stale_meanwhile() -> None:
    simulate(survive, 1)


async def outage() -> None:
    """While the chain node is silent nothing is believed and nothing lost; few questions are under way at a time."""
    truth = ChainTruth()
    truth.silent = True
    async with trio.open_nursery() as nursery:
        network = GossipNetwork(nursery, 1, truth)
        ann = network.settle(0)
        channels = [truth.open(person(1), person(2), number=number) for number in range(3 * LOOKUPS)]
        now = int(virtual_clock()())
        ann.shell.on_connected(b"bea")
        for channel in channels:
            for frame in wire.frames([truth.update(channel, side, now) for side in (0, 1)]):
                list(ann.shell.receiving(b"bea", frame))
        await trio.sleep(30)
        assert (ann.graph, ann.gossip.statistics().pending) == ({}, len(channels))
        truth.silent = False
        await trio.sleep(90)
        assert (len(ann.graph), truth.questions) == (2 * len(channels), len(channels))

        view: ContractChannel = truth.views[channels[0]]
        truth.views[channels[0]] = msgspec.structs.replace(view, deposits=(5, 6))
        ann.shell.on_block([Deposited(channels[0], 1, 6)])
        await trio.sleep(1)
        assert {edge.capacity for edge in ann.graph.values() if edge.channel == channels[0]} == {11}

        truth.close(channels[1])  # a reorganisation took it, or an event was missed
        ann.shell.on_undone()
        await trio.sleep(1)
        assert len(ann.graph) == 2 * len(channels) - 2
        nursery.cancel_scope.cancel()


def test_a_silent_chain_node_delays_and_nothing_else() -> None:
    simulate(outage, 1)


async def missed() -> None:
    truth = ChainTruth()
    async with trio.open_nursery() as nursery:
        ann = GossipNode(0, truth, policy=HASTY)
        nursery.start_soon(ann.run)
        channel = truth.open(person(1), person(2))
        ann.shell.on_connected(b"bea")
        for frame in wire.frames([truth.update(channel, side, int(virtual_clock()())) for side in (0, 1)]):
            list(ann.shell.receiving(b"bea", frame))
        await trio.sleep(5)
        assert len(ann.graph) == 2
        truth.close(channel)
        await trio.sleep(600)
        assert len(ann.graph) == 2
        await trio.sleep(600)
        assert ann.graph == {}
        nursery.cancel_scope.cancel()


def test_a_closing_whose_event_was_missed_is_noticed_when_the_chain_is_asked_again() -> None:
    simulate(missed, 1)


async def refuse() -> None:
    truth = ChainTruth()
    async with trio.open_nursery() as nursery:
        ann = GossipNetwork(nursery, 1, truth).settle(0)
        channel = truth.open(person(1), person(2))
        ann.shell.on_connected(b"mallory")
        with pytest.raises(PeerError):
            list(ann.shell.receiving(b"mallory", b"junk"))
        forged = truth.update(channel, 0, int(virtual_clock()()), signer=person(3))
        for frame in wire.frames([forged]):
            list(ann.shell.receiving(b"mallory", frame))
        await trio.sleep(3)
        assert (ann.punished, ann.graph) == ([b"mallory"], {})
        assert ann.shell.unsent > 0  # nobody takes frames for Mallory: nothing waits for him
        nursery.cancel_scope.cancel()


def test_a_liar_is_punished_when_the_chain_has_answered() -> None:
    simulate(refuse, 1)


def test_one_seed_gives_one_run() -> None:
    first, second, other = (simulate(divide_and_heal, seed, seed, 6) for seed in (3, 3, 4))
    assert first == second != other
