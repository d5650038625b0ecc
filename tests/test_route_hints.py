"""Who keeps its channels out of gossip is paid by invoice: route hints, in one process and virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.router.network.routing import PaymentOptions
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world

DEPOSIT = 10_000_000
PRIVATE = PaymentOptions(announce=False)

Act = Callable[[World, Node, Node, Node], Awaitable[None]]


def behind_a_hub(act: Act, seed: int = 1, hubs: PaymentOptions | None = None) -> None:
    """Alice has a channel with the hub Bob, and Carol, who announces nothing, has one with Bob, too."""

    async def main() -> None:
        async with open_world(seed) as world:
            private = msgspec.structs.replace(world.config, payments=PRIVATE)
            bobs = msgspec.structs.replace(world.config, payments=hubs or world.config.payments)
            alice, bob, carol = (
                await world.start("alice"),
                await world.start("bob", bobs),
                await world.start("carol", private),
            )
            first = await alice.open_channel(world.address("bob"), DEPOSIT)
            second = await bob.open_channel(world.address("carol"), DEPOSIT)
            await carol.until(lambda: bool(carol.channels) and carol.channels[0].connected)
            if hubs is None:
                for node in (alice, bob):
                    await node.until(lambda node=node: bool(node.routing.graph.slots_of(first.id)))  # type: ignore[misc]
            await world.blocks(2)
            assert alice.routing.graph.get(second.id, key_of(carol)) is None
            await act(world, alice, bob, carol)

    simulate(main, seed)


async def at_rest(world: World, node: Node) -> None:
    """Wait until nothing of a payer's payments is under way."""
    assert await world.until(lambda: len(node.routing.outgoing) == 0, 600)


def key_of(node: Node) -> NodeKey:
    return NodeKey(bytes(node.key.public))


@pytest.mark.parametrize("hubs", [None, PRIVATE])
def test_a_payee_that_announces_nothing_is_paid_through_its_hub(hubs: PaymentOptions | None) -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        record = await carol.create_invoice(50_000)
        (hint,) = decode_invoice(record.text).hints
        assert (hint.source, hint.target, hint.policy.fee_ppm) == (key_of(bob), key_of(carol), 1_000)
        receipt = await alice.pay(record.text)
        assert receipt.fee == 50 and carol.invoice(receipt.payment_hash).received == 50_000
        await at_rest(world, alice)
        assert not alice.routing.graph.slots_of(hint.channel)

    behind_a_hub(act, hubs=hubs)


def test_a_hub_tells_the_network_nothing_of_a_channel_whose_other_end_announces_nothing() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        (private,), public = carol.channels, alice.channels[0]
        await bob.set_policy(private.id, ForwardingPolicy(base_fee=3))
        await world.restart("bob")
        back = world.node("bob")
        await back.until(lambda: all(channel.connected for channel in back.channels))
        await world.blocks(3)
        assert not back.routing.gossip.core.own.said_of(private.id) and back.routing.gossip.core.own.said_of(public.id)
        assert alice.routing.gossip.core.statistics().channels == 1
        assert (await alice.pay((await carol.create_invoice(50_000)).text)).fee == 3

    behind_a_hub(act)


def test_a_channel_is_announced_once_the_peer_says_that_it_does_so_too_and_its_policy_later_without_it() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), DEPOSIT)
            assert await world.until(lambda: len(alice.routing.graph.slots_of(channel.id)) == 2, 60)
            await world.crash("bob")
            alice = await world.restart("alice")
            await alice.set_policy(channel.id, ForwardingPolicy(base_fee=9))
            assert alice.routing.graph.get(channel.id, key_of(bob)) is not None
            bob = await world.start("bob")

            def heard() -> bool:
                edge = bob.routing.graph.get(channel.id, key_of(bob))
                return edge is not None and edge.policy.base_fee == 9

            assert await world.until(heard, 600)

    simulate(main, 1)


def test_an_invoice_that_leaves_hints_out_tells_nobody_of_its_payees_channels() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        record = await carol.create_invoice(50_000, hints=False)
        assert decode_invoice(record.text).hints == ()
        with pytest.raises(PaymentFailed, match="ask for an invoice with route hints") as caught:
            await alice.pay(record.text)
        assert caught.value.reason is Unpaid.NO_ROUTE
        known = await bob.create_invoice(5)
        with trio.fail_after(600):
            await bob.until(lambda: bob.routing.graph.get(alice.channels[0].id, key_of(bob)) is not None)
        assert decode_invoice((await bob.create_invoice(5)).text).hints[1:] == ()
        assert decode_invoice(known.text).payee == key_of(bob)

    behind_a_hub(act)


@pytest.mark.parametrize("hubs", [None, PRIVATE])
def test_a_fee_that_rose_since_the_invoice_was_made_is_learned_from_the_failure(hubs: PaymentOptions | None) -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        record = await carol.create_invoice(50_000)
        (hint,) = decode_invoice(record.text).hints
        await bob.set_policy(hint.channel, ForwardingPolicy(base_fee=77))
        assert (await alice.pay(record.text)).fee == 77
        await at_rest(world, alice)
        assert not alice.routing.graph.slots_of(hint.channel), "what was learned of a hint outlives its payment"
        await world.blocks(1)
        (newest,) = decode_invoice((await carol.create_invoice(5)).text).hints
        assert newest.policy == ForwardingPolicy(base_fee=77)

    behind_a_hub(act, hubs=hubs)


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (ForwardingPolicy(base_fee=100_000), Unpaid.FEE_LIMIT),
        (ForwardingPolicy(base_fee=2**127), Unpaid.NO_LIQUIDITY),
        (ForwardingPolicy(fee_ppm=2**128 - 1), Unpaid.NO_LIQUIDITY),
        (ForwardingPolicy(minimum=2**100), Unpaid.NO_ROUTE),
        (ForwardingPolicy(margin=2**64, base_fee=2**128 - 1, fee_ppm=2**128 - 1), Unpaid.NO_ROUTE),
    ],
)
def test_a_hint_that_asks_for_the_moon_costs_nobody_anything(lie: ForwardingPolicy, why: Unpaid) -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        honest = decode_invoice((await carol.create_invoice(50_000)).text)
        hints = tuple(msgspec.structs.replace(hint, policy=lie) for hint in honest.hints)
        before = alice.channels[0].balances
        with pytest.raises(PaymentFailed) as caught:
            await alice.pay(msgspec.structs.replace(honest, hints=hints))
        assert caught.value.reason is why and alice.channels[0].balances == before
        assert (await alice.pay(honest)).fee == 50

    behind_a_hub(act)


def test_hints_that_lead_nowhere_are_given_up_and_an_honest_one_beside_them_is_found() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        honest = decode_invoice((await carol.create_invoice(50_000)).text)
        (true,) = honest.hints
        free = ForwardingPolicy()
        lies = (
            Edge(type(true.channel)(b"?" * 32), key_of(bob), key_of(carol), 2**127, free),  # no such channel
            Edge(type(true.channel)(b"!" * 32), key_of(alice), key_of(carol), 2**127, free),  # through the payer
            Edge(alice.channels[0].id, key_of(bob), key_of(carol), 2**127, free),  # a channel of others
            Edge(type(true.channel)(b"$" * 32), key_of(carol), key_of(bob), 2**127, free),  # away from the payee
        )
        with pytest.raises(PaymentFailed):
            await alice.pay(msgspec.structs.replace(honest, hints=lies))
        assert len(alice.routing.graph) == 2 and not alice.channels[0].view.channel.newest.locks
        assert (await alice.pay(msgspec.structs.replace(honest, hints=(*lies, true)))).fee == 50

    behind_a_hub(act)


def test_a_payee_that_is_away_is_told_to_the_payer_and_paid_once_it_is_back() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        record = await carol.create_invoice(50_000)
        await world.crash("carol")
        assert await world.until(lambda: not bob.channels[-1].connected, 60)
        with pytest.raises(PaymentFailed, match="takes no payments just now"):
            await alice.pay(record.text, timeout=20)
        back = await world.start("carol", world.seats["carol"].config)
        with trio.fail_after(600):
            await back.until(lambda: back.channels[0].connected and bob.channels[-1].view.ready)
        await world.blocks(130)  # the payer avoids what failed for ten minutes
        assert (await alice.pay(record.text)).fee == 50
        (hint,) = decode_invoice((await back.create_invoice(5)).text).hints
        assert hint.policy.fee_ppm == 1_000

    behind_a_hub(act)


def test_a_payee_that_announces_nothing_can_move_money_between_its_own_channels() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        other = await carol.open_channel(world.address("bob"), DEPOSIT)
        first = next(channel for channel in carol.channels if channel.id != other.id)
        receipt = await carol.rebalance(other.id, first.id, 100_000)
        assert receipt.fee == 100
        with trio.fail_after(600):
            await carol.until(lambda: first.balances[0] == 100_000)

    behind_a_hub(act)


def test_a_policy_that_cannot_be_told_to_anybody_is_refused_before_it_holds() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        (channel,) = carol.channels
        before = carol.policy(channel.id)
        for wrong in (
            ForwardingPolicy(fee_ppm=2**32),
            ForwardingPolicy(base_fee=2**128),
            ForwardingPolicy(margin=2**40),
        ):
            with pytest.raises(InvalidInput, match="must be whole numbers"):
                await carol.set_policy(channel.id, wrong)
            assert carol.policy(channel.id) == before

    behind_a_hub(act)


def behind_two_hubs(act: Act, seed: int = 1) -> None:
    """Alice has a large channel with Bob and one with Dave; each of them has one of DEPOSIT with Carol."""

    async def main() -> None:
        async with open_world(seed, names=("alice", "bob", "carol", "dave")) as world:
            private = msgspec.structs.replace(world.config, payments=PRIVATE)
            alice, bob, dave = [await world.start(name) for name in ("alice", "bob", "dave")]
            carol = await world.start("carol", private)
            for hub, name in ((bob, "bob"), (dave, "dave")):
                first = await alice.open_channel(world.address(name), 3 * DEPOSIT)
                await hub.open_channel(world.address("carol"), DEPOSIT)
                await alice.until(lambda channel=first.id: bool(alice.routing.graph.slots_of(channel)))  # type: ignore[misc]  # a bound default
            await carol.until(lambda: len([channel for channel in carol.channels if channel.connected]) == 2)
            await world.blocks(2)
            await act(world, alice, bob, carol)

    simulate(main, seed)


def test_a_payment_that_no_way_in_carries_alone_comes_in_over_several() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        record = await carol.create_invoice(DEPOSIT * 3 // 2)
        assert len(decode_invoice(record.text).hints) == 2
        await alice.pay(record.text)
        with trio.fail_after(600):
            await carol.until(lambda: sum(channel.balances[0] for channel in carol.channels) == DEPOSIT * 3 // 2)

    behind_two_hubs(act)


def test_a_way_in_that_was_used_up_since_is_found_to_be_and_another_one_is_taken() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        record = await carol.create_invoice(50_000)
        await bob.keysend(carol.key.public, bob.channels[-1].spendable)
        assert (await alice.pay(record.text)).fee == 50
        with trio.fail_after(600):
            await carol.until(lambda: sorted(channel.balances[0] for channel in carol.channels)[0] == 50_000)
        (newest,) = decode_invoice((await carol.create_invoice(50_000)).text).hints
        assert newest.source != key_of(bob)

    behind_two_hubs(act)


def test_a_payer_that_restarts_knows_the_hints_of_what_it_was_paying() -> None:
    async def act(world: World, alice: Node, bob: Node, carol: Node) -> None:
        record = await carol.create_invoice(50_000, hold=True)
        world.attempt("alice", lambda node: node.pay(record.text))
        with trio.fail_after(60):
            await carol.until(lambda: bool(carol.routing.receiving.held_payments))
        alice = await world.restart("alice")
        (hint,) = decode_invoice(record.text).hints
        assert alice.routing.graph.get(hint.channel, key_of(carol)) is not None
        await carol.settle_invoice(record.secret)
        with trio.fail_after(600):
            assert (await alice.pay(record.text)).fee == 50
        await at_rest(world, alice)
        assert alice.routing.graph.get(hint.channel, key_of(carol)) is None

    behind_a_hub(act)
