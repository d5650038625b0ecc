"""Openings that come to nothing end by themselves, cost no more than so much, and never spoil the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio
import trio.testing

from tallystick.channels.errors import InsufficientFunds, InvalidInput
from tallystick.channels.limits import CHALLENGE_PERIOD_MAX, Policy
from tallystick.channels.protocol import core
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, close_key, keccak
from tallystick.channels.protocol.messages import OpenProposal, OpenRefuse, decode
from tallystick.channels.protocol.objects import Address, Terms
from tallystick.channels.session.effects import OpenRequested
from tallystick.channels.session.inputs import PhaseReached
from tallystick.channels.storage import schema
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.network.private_channels import TOLD, Told
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.daemon.configuration import Settings
from tallystick.sdk.daemon.daemon import node_config
from tallystick.sdk.errors import ConfigurationError, OpeningFailed
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.openings import OPENING_GRACE, OPENING_SECONDS, STRANGERS_OPENINGS
from tallystick.sdk.node.options import Config
from tallystick.sdk.testing.world import World, open_world


def run(act: Callable[[World, Node, Node], Awaitable[None]], seed: int = 11, config: Config | None = None) -> None:
    async def main() -> None:
        async with open_world(seed, config=config) as world:
            await act(world, await world.start("alice"), await world.start("bob"))

    simulate(main, seed)


async def fail(world: World, node: Node, peer: str, *, wait: bool) -> None:
    """Let an opening fail on chain: somebody else spent the coins behind the node's back."""

    async def looks_fine(*_: object) -> None:
        return

    node.onchain.account.require_balance = looks_fine  # type: ignore[method-assign]
    try:
        everything = await node.balance()
        if wait:
            with pytest.raises(OpeningFailed):
                await node.open_channel(world.address(peer), everything)
        else:
            await node.open_channel(world.address(peer), everything, wait=False)
    finally:
        del node.onchain.account.require_balance


# --- the next one -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize(
    ("opener", "restarts"), [("alice", ""), ("bob", ""), ("alice", "alice"), ("alice", "bob"), ("bob", "alice")]
)
def test_after_a_failed_opening_the_next_one_is_usable(wait: bool, opener: str, restarts: str) -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        await fail(world, alice, "bob", wait=wait)
        await world.until(lambda: all(channel.phase is Phase.GONE for channel in alice.channels), 600)
        if restarts:
            await world.restart(restarts)
        peer = "bob" if opener == "alice" else "alice"
        with trio.fail_after(300):
            channel = await world.node(opener).open_channel(world.address(peer), 10**6)
            await channel.pay(5)
        assert [one.phase for one in world.node("alice").channels if one.id == channel.id] == [Phase.OPEN]

    run(act)


def test_a_second_try_while_the_first_one_waits_is_usable_too() -> None:
    """The peer has said yes, its answer got lost, and it is asked again: both have greeted by then."""

    async def act(world: World, alice: Node, bob: Node) -> None:
        await alice.connect(world.address("bob"))
        terms = await alice.openings._terms(bob.key.public, Address(bytes(20)), 600)
        await alice.openings._ask(bob.key.public, OpenProposal(terms, 10_000))
        side = terms.side_of(alice.address)
        for _ in range(2):
            session = alice.engine.add_channel(core.new_channel(terms, side, bytes(bob.key.public), reserve_ppm=10_000))
            await trio.sleep(5)
            assert session.ready
        with trio.fail_after(300):
            channel = await alice.open_channel(world.address("bob"), 10**6)
            await channel.pay(5)

    run(act)


def test_the_fee_counts_when_there_are_coins_for_the_deposit_only() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        everything = await alice.balance()
        with pytest.raises(InsufficientFunds, match="fees"):
            await alice.open_channel(world.address("bob"), everything)
        assert alice.channels == [] and await alice.balance() == everything
        channel = await alice.open_channel(world.address("bob"), 10**6)
        with pytest.raises(InsufficientFunds, match="fees"):
            await channel.deposit(await alice.balance())
        await channel.deposit(10)

    run(act)


# --- their end ----------------------------------------------------------------------------------------------------


def test_an_opening_that_nobody_waits_for_ends_on_both_sides() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        await fail(world, alice, "bob", wait=False)
        assert len(bob.channels) == 1
        await world.until(lambda: alice.channels[0].phase is Phase.GONE, 600)
        assert [channel.phase for channel in alice.channels] == [Phase.GONE]
        alice, bob = [await world.restart(name) for name in ("alice", "bob")]
        assert [channel.phase for channel in alice.channels] == [Phase.GONE]
        world.chain.advance(OPENING_SECONDS - 900)
        await world.blocks(3)
        assert [channel.phase for channel in bob.channels] == [Phase.OPENING]
        world.chain.advance(1_800)
        await world.blocks(3)
        assert bob.channels == []
        await bob.engine.durable()
        assert schema.load_channels(bob.store) == []
        with trio.fail_after(300):
            channel = await alice.open_channel(world.address("bob"), 10**6)
            await channel.pay(5)

    run(act)


def test_an_opening_that_is_slow_to_be_mined_is_not_taken_for_failed() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        world.chain.censor(lambda transaction: True)
        channel = await alice.open_channel(world.address("bob"), 10**6, wait=False)
        await world.blocks(20)
        alice = await world.restart("alice")
        await world.blocks(20)
        assert alice.channel(channel.id).phase is Phase.OPENING
        world.chain.censor(None)
        with trio.fail_after(600):
            await alice.channel(channel.id).wait_usable()

    run(act)


@pytest.mark.parametrize("restarts", ["", "alice", "bob"])
def test_a_peer_that_forgot_an_opening_which_is_mined_after_all_is_asked_again(restarts: str) -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        world.chain.censor(lambda transaction: True)
        channel = await alice.open_channel(world.address("bob"), 10**6, wait=False)
        world.chain.advance(OPENING_SECONDS + 60)
        await world.blocks(3)
        assert bob.channels == [] and alice.channel(channel.id).phase is Phase.OPENING
        world.chain.censor(None)
        await world.until(lambda: channel.phase is Phase.OPEN, 300)
        if restarts:
            await world.restart(restarts)
        ours = world.node("alice").channel(channel.id)
        with trio.fail_after(300):
            await ours.wait_usable()
            await ours.pay(5)
        (theirs,) = world.node("bob").channels
        assert theirs.view.channel.reserve_ppm == ours.view.channel.reserve_ppm > 0

    run(act)


@pytest.mark.parametrize("restarts", ["", "alice"])
def test_an_opening_that_had_failed_and_is_mined_after_all_is_a_channel(restarts: str) -> None:
    """What the chain refused on one branch may succeed on another: the deposit is in it then."""

    async def act(world: World, alice: Node, bob: Node) -> None:
        world.chain.censor(lambda transaction: True)
        before = await alice.balance()
        channel = await alice.open_channel(world.address("bob"), 10**6, wait=False)
        await world.blocks(3)
        alice.engine.apply(channel.id, PhaseReached(Phase.GONE))
        await world.blocks(3)
        if restarts:
            await world.restart(restarts)
        world.chain.censor(None)
        await world.blocks(6)
        alice = world.node("alice")
        ours = alice.channel(channel.id)
        assert await alice.balance() < before - 10**6 and ours.phase is Phase.OPEN
        await alice.connect(world.address("bob"))
        with trio.fail_after(300):
            await ours.wait_usable()
            await ours.pay(5)

    run(act)


def test_what_was_used_is_never_forgotten() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await alice.open_channel(world.address("bob"), 10**6)
        with pytest.raises(InvalidInput):
            alice.engine.forget_channel(channel.id)

    run(act)


# --- strangers ----------------------------------------------------------------------------------------------------


class Stranger:
    """A key made up on the spot: connected, without a coin."""

    def __init__(self, node: Node, number: int) -> None:
        self.node, self.key = node, PrivateKey(keccak(b"stranger %d" % number))
        self.said: list[bytes] = []
        node.engine.on_connected(bytes(self.key.public), self)

    def put_all(self, frames: list[bytes]) -> None:
        self.said += frames

    def terms(self, asset: int = 0) -> Terms:
        chain, own = self.node.chain, self.node.key
        first, second = sorted((self.key.address, own.address))
        blank = Terms(
            chain.chain_id, chain.contract, (first, second), Address(asset.to_bytes(20, "big")), 0, 600, bytes(32)
        )
        return msgspec.structs.replace(blank, close_hash=keccak(close_key(self.key, own.public, channel_id(blank))))

    async def ask(self, asset: int = 0) -> str:
        """Ask for a channel; return why not, empty if the answer is yes."""
        event = OpenRequested(bytes(self.key.public), OpenProposal(self.terms(asset), 10_000))
        await self.node.openings.consider(event)
        await self.node.engine.durable()
        refusals = [message.text for message in map(decode, self.said) if isinstance(message, OpenRefuse)]
        self.said.clear()
        return refusals[0] if refusals else ""


def test_what_strangers_ask_for_is_bounded_and_ends() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        channel = await bob.open_channel(world.address("alice"), 10**6)
        answers = [await Stranger(alice, number).ask() for number in range(STRANGERS_OPENINGS + 5)]
        assert sum(answer == "" for answer in answers) == STRANGERS_OPENINGS
        assert all("try again in some minutes" in answer for answer in answers[-5:])
        quiet = alice.onchain.enforcer.react
        rested = [channel for channel in alice.engine.views.channels if alice.onchain.enforcer.at_rest(channel)]
        assert len(rested) >= STRANGERS_OPENINGS and quiet() == []  # a block costs nothing for them
        # who has a channel comes first, and so do our own
        terms = await bob.openings._terms(alice.key.public, Address(bytes(20)), 600)
        await bob.openings._ask(alice.key.public, OpenProposal(terms, 10_000))
        own = await alice.open_channel(world.address("carol"), 10**6)
        world.chain.advance(OPENING_GRACE + 100)
        await world.blocks(2)
        assert await Stranger(alice, 1_000).ask() == ""
        strangers = {alice.channels[index].peer.address for index in range(len(alice.channels))}
        assert Stranger(alice, 0).key.address not in strangers and len(strangers) == STRANGERS_OPENINGS + 2
        alice = await world.restart("alice")
        assert len(alice.channels) == STRANGERS_OPENINGS + 3
        world.chain.advance(OPENING_SECONDS + 1_200)
        await world.blocks(world.config.confirmations + 2)  # one block alone may be dated wrong
        await alice.engine.durable()
        assert {one.id for one in alice.channels} == {channel.id, own.id}
        assert len(schema.load_channels(alice.store)) == 2

    async def with_carol(world: World, alice: Node, bob: Node) -> None:
        await world.start("carol")
        await act(world, alice, bob)

    run(with_carol)


def test_an_opening_that_came_to_nothing_stands_in_no_invoices_way() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        stranger = Stranger(alice, 0)
        assert await stranger.ask() == ""
        told = Told(channel_id(stranger.terms()), ForwardingPolicy(), False)
        assert alice.routing.private_channels.receive(bytes(stranger.key.public), TOLD.encode(told)) is not None
        world.chain.advance(OPENING_SECONDS + 1_200)
        await world.blocks(world.config.confirmations + 2)
        assert alice.channels == []
        assert (await alice.create_invoice(5)).amount == 5

    run(act)


def test_who_asks_while_the_node_goes_down_does_it_no_harm() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        stranger = Stranger(alice, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.openings.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        proposal = OpenProposal(stranger.terms(), 10_000)
        alice.openings.consider_soon(OpenRequested(bytes(stranger.key.public), proposal))
        assert alice.channels == []

    run(act)


def test_only_so_many_strangers_make_the_chain_node_work_at_once() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        answers: list[str] = []

        async def ask(number: int) -> None:
            answers.append(await Stranger(alice, number).ask())

        world.chain_outage("alice", True)
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(ask, number)
        assert len(answers) == 40 and "" not in answers
        assert sum("busy" in answer for answer in answers) >= 20

    run(act)


# --- the challenge period -----------------------------------------------------------------------------------------


def test_a_challenge_period_beyond_the_policy_is_refused_with_the_reason() -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        mallory = await world.start("mallory")
        for period in (CHALLENGE_PERIOD_MAX, Policy().challenge_period_max + 1):
            with pytest.raises(OpeningFailed, match=r"at most 604800 s: what this node has in the channel"):
                await mallory.open_channel(world.address("alice"), 10**6, challenge_period=period)
        assert alice.channels == []
        await mallory.open_channel(world.address("alice"), 10**6, challenge_period=Policy().challenge_period_max)

    run(act)


@pytest.mark.parametrize("period", [0, -1, 5, 599, CHALLENGE_PERIOD_MAX + 1, 10**9, 2**64, 86_400.5, True, "600"])
def test_an_opening_of_our_own_with_a_period_that_will_not_do_is_refused_at_the_door(period: int) -> None:
    async def act(world: World, alice: Node, bob: Node) -> None:
        with pytest.raises(InvalidInput):
            await alice.open_channel(world.address("bob"), 10**6, challenge_period=period)
        assert alice.channels == bob.channels == [] and not alice.alarms
        channel = await alice.open_channel(world.address("bob"), 10**6)
        alice = await world.restart("alice")
        await alice.channel(channel.id).wait_usable()
        await alice.channel(channel.id).pay(5)

    run(act)


def test_the_settings_bound_the_challenge_period() -> None:
    named = {"chain_id": 1337, "contract": "0x" + "11" * 20}
    assert node_config(Settings(**named)).channels.challenge_period_max == 604_800
    assert node_config(Settings(**named, challenge_period_max=90_000)).channels.challenge_period_max == 90_000
    for wrong in (86_399, CHALLENGE_PERIOD_MAX + 1):
        with pytest.raises(ConfigurationError, match="challenge_period_max"):
            Settings(**named, challenge_period_max=wrong)
