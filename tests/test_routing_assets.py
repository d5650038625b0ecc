"""Payments over several hops in any asset: each stays in its own, and no other one pays for it, at any hop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio

from simulation.invariants import check_always, check_settled, unsettled
from simulation.solvency import check_payments
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidInvoice, PaymentFailed, Unpaid
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.router.network.routing import AssetOptions, PaymentOptions
from tallystick.router.objects import ForwardingPolicy, NodeKey
from tallystick.router.onion.failures import attribute
from tallystick.router.onion.payload import FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import build_onion
from tallystick.router.sending.payments import PartRecord, load_parts
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world

TOKEN, OTHER = Address(b"\x70" * 20), Address(b"\x71" * 20)
DEPOSIT = 10_000_000
CONFIG = Config(
    challenge_period=600,
    duties=CLAIM_ALL,
    routing=RoutingOptions(policy=ForwardingPolicy(base_fee=1_000, fee_ppm=100, minimum=500)),
    payments=PaymentOptions(assets={TOKEN: AssetOptions(part_min=10)}),
)


class Line:
    """Alice, Bob and Carol, with a channel in the coin and one in TOKEN between neighbours, which all know of."""

    def __init__(self, world: World, nodes: list[Node]) -> None:
        self.world = world
        self.alice, self.bob, self.carol = nodes
        self.channels: dict[Address, list[ChannelHandle]] = {NATIVE: [], TOKEN: []}
        """In each asset: from Alice to Bob, from Bob to Carol."""

    async def build(self) -> None:
        for asset, channels in self.channels.items():
            for payer, payee in ((self.alice, "bob"), (self.bob, "carol")):
                channels.append(await payer.open_channel(self.world.address(payee), DEPOSIT, asset=asset))
        for node in (self.alice, self.bob, self.carol):
            for asset, channels in self.channels.items():
                await node.until(lambda node=node, asset=asset, ids=[c.id for c in channels]: knows(node, asset, ids))  # type: ignore[misc]  # bound defaults

    def owned(self, asset: Address) -> tuple[int, ...]:
        """What each has in its channels in an asset."""
        nodes = (self.alice, self.bob, self.carol)
        return tuple(sum(c.balances[0] for c in node.channels if c.asset == asset) for node in nodes)

    async def rest(self) -> None:
        names = ["alice", "bob", "carol"]
        assert await self.world.until(lambda: not unsettled(self.world, names), 5_000)
        check_always(self.world)
        check_settled(self.world, names)
        check_payments(self.world)


def knows(node: Node, asset: Address, channels: list[ChannelId]) -> bool:
    asset_graphs = node.routing.maps
    return asset in asset_graphs and all(len(asset_graphs.graph(asset).slots_of(channel)) == 2 for channel in channels)


def in_a_line(act: Callable[[Line], Awaitable[None]], config: Config = CONFIG) -> None:
    async def main() -> None:
        async with open_world(1, config=config, names=("alice", "bob", "carol")) as world:
            world.give_everybody(TOKEN)
            line = Line(world, [await world.start(name) for name in ("alice", "bob", "carol")])
            await line.build()
            await act(line)

    simulate(main, 1)


def key_of(node: Node) -> NodeKey:
    return NodeKey(bytes(node.key.public))


def parts_of(node: Node, payment_hash: bytes) -> list[PartRecord]:
    return load_parts(node.store, payment_hash)


# --- what works ------------------------------------------------------------------------------------------------------


def test_tokens_and_coins_travel_side_by_side_and_everybody_owns_what_the_records_say() -> None:
    async def act(line: Line) -> None:
        alice, bob, carol = line.alice, line.bob, line.carol
        coins = await carol.create_invoice(50_000)
        tokens = await carol.create_invoice(2_000_000, "tea", asset=TOKEN)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.pay, coins.text)
            nursery.start_soon(alice.pay, tokens.text)
        assert (await alice.pay(coins.text)).fee == 1_000 + 5
        receipt = await alice.pay(tokens.text)
        assert (receipt.asset, receipt.amount, receipt.fee) == (TOKEN, 2_000_000, 200), "no base fee in tokens"
        used = {hop.channel for part in parts_of(alice, receipt.payment_hash) for hop in part.route.hops}
        assert used == {channel.id for channel in line.channels[TOKEN]}
        paid = carol.invoice(receipt.payment_hash)
        assert (paid.asset, paid.received, carol.invoice(coins.payment_hash).asset) == (TOKEN, 2_000_000, NATIVE)
        await line.rest()
        assert line.owned(NATIVE) == (DEPOSIT - 51_005, DEPOSIT + 1_005, 50_000)
        assert line.owned(TOKEN) == (DEPOSIT - 2_000_200, DEPOSIT + 200, 2_000_000)
        assert bob.routing.router.statistics().earned == {"0x" + NATIVE.hex(): 1_005, "0x" + TOKEN.hex(): 200}

    in_a_line(act)


def test_keysend_probe_estimate_and_rebalancing_take_an_asset() -> None:
    async def act(line: Line) -> None:
        alice, carol, secret = line.alice, line.carol, b"s" * 32
        to = key_of(carol)
        assert alice.estimate(to, 10_000, asset=TOKEN).fee == 1
        assert (await alice.probe(to, 10_000, asset=TOKEN)).fee == 1
        receipt = await alice.keysend(to, 10_000, asset=TOKEN, secret=secret)
        assert await alice.keysend(to, 10_000, asset=TOKEN, secret=secret) == receipt
        with pytest.raises(InvalidInput, match="asset"):
            await alice.keysend(to, 10_000, secret=secret)
        (record,) = carol.invoices()
        assert (record.asset, record.received, record.text) == (TOKEN, 10_000, "")
        assert alice.payment(receipt.payment_hash).order.asset == TOKEN

        await line.bob.keysend(to, 1_000_000, asset=TOKEN)
        back = await carol.open_channel(line.world.address("alice"), 100_000, asset=TOKEN)
        out = line.channels[TOKEN][0].id
        await alice.until(lambda: alice.routing.maps.graph(TOKEN).get(back.id, key_of(alice)) is not None)
        circle = await alice.rebalance(out, back.id, 50_000)
        assert (circle.asset, circle.amount) == (TOKEN, 50_000)
        with pytest.raises(InvalidInput, match="different assets"):
            await alice.rebalance(line.channels[NATIVE][0].id, back.id, 50_000)
        await line.rest()

    in_a_line(act)


def test_an_asset_may_have_a_policy_of_its_own_in_the_settings_and_on_each_channel() -> None:
    own = ForwardingPolicy(base_fee=7, fee_ppm=0, minimum=3)
    routing = msgspec.structs.replace(CONFIG.routing, policies={TOKEN: own})

    async def act(line: Line) -> None:
        first, second = line.channels[TOKEN]
        assert line.bob.policy(second.id) == own
        assert line.bob.policy(line.channels[NATIVE][1].id) == CONFIG.routing.policy
        assert line.bob.config.routing.policy_in(OTHER) == ForwardingPolicy(base_fee=0, fee_ppm=100)
        record = await line.carol.create_invoice(1_000, asset=TOKEN)
        assert (await line.alice.pay(record.text)).fee == 7
        await line.bob.set_policy(second.id, ForwardingPolicy(base_fee=9))
        record = await line.carol.create_invoice(1_000, asset=TOKEN)
        assert (await line.alice.pay(record.text)).fee == 9
        assert first.id != second.id

    in_a_line(act, msgspec.structs.replace(CONFIG, routing=routing))


def test_an_invoice_in_tokens_names_the_channels_in_tokens_that_nobody_else_knows() -> None:
    payments = msgspec.structs.replace(CONFIG.payments, announce=False)

    async def main() -> None:
        async with open_world(1, config=msgspec.structs.replace(CONFIG, payments=payments)) as world:
            world.give_everybody(TOKEN)
            alice, bob, carol = [await world.start(name) for name in ("alice", "bob", "carol")]
            opened: dict[Address, ChannelId] = {}
            for asset in (NATIVE, TOKEN):
                await alice.open_channel(world.address("bob"), DEPOSIT, asset=asset)
                opened[asset] = (await bob.open_channel(world.address("carol"), DEPOSIT, asset=asset)).id
            for asset in (NATIVE, TOKEN):
                await carol.until(lambda asset=asset: bool(carol.routing.private_channels.now(asset)))  # type: ignore[misc]  # a bound default
                invoice = await carol.create_invoice(10_000, asset=asset)
                assert [hint.channel for hint in decode_invoice(invoice.text).hints] == [opened[asset]]
                assert (await alice.pay(invoice.text, max_fee=2_000)).asset == asset

    simulate(main, 1)


def test_amounts_that_limit_a_payment_are_those_of_its_asset() -> None:
    options = PaymentOptions(assets={TOKEN: AssetOptions(part_min=3, fee_units=2)})
    assert [options.limits_in(asset).part_min for asset in (NATIVE, TOKEN, OTHER)] == [1_000, 3, 1_000]
    assert [options.max_fee(100, asset) for asset in (NATIVE, TOKEN, OTHER)] == [10, 7, 5]


# --- what must not be ------------------------------------------------------------------------------------------------


def test_worthless_tokens_do_not_pay_an_invoice() -> None:
    async def act(line: Line) -> None:
        alice, bob = line.alice, line.bob
        record = await bob.create_invoice(5_000)
        expiry = alice.engine.chain.now + 3_600
        final = FinalPayload(5_000, expiry, decode_invoice(record.text).payment_secret, 5_000)
        onion = build_onion(b"\x11" * 32, [key_of(bob)], [encode_payload(final)], record.payment_hash)
        await send_and_see_it_refused(line, onion.packet, record.payment_hash, 5_000, expiry)
        assert bob.invoice(record.payment_hash).received == 0
        assert line.owned(TOKEN) == (DEPOSIT, DEPOSIT, 0)
        await line.alice.pay(record.text)

    in_a_line(act)


def test_a_forwarder_gives_no_coins_for_tokens() -> None:
    async def act(line: Line) -> None:
        alice, bob, carol = line.alice, line.bob, line.carol
        record = await carol.create_invoice(5_000)
        expiry = alice.engine.chain.now + 3_600
        onwards = ForwardPayload(5_000, expiry, line.channels[NATIVE][1].id)
        final = FinalPayload(5_000, expiry, decode_invoice(record.text).payment_secret, 5_000)
        onion = build_onion(
            b"\x11" * 32,
            [key_of(bob), key_of(carol)],
            [encode_payload(onwards), encode_payload(final)],
            record.payment_hash,
        )
        reason = await send_and_see_it_refused(line, onion.packet, record.payment_hash, 1_000_000, expiry)
        found = attribute(onion.secrets, reason)
        assert found is not None and (found[0], found[1].code) == (0, Code.UNKNOWN_NEXT_PEER)
        assert line.owned(TOKEN) == line.owned(NATIVE) == (DEPOSIT, DEPOSIT, 0)

    in_a_line(act)


async def send_and_see_it_refused(line: Line, packet: bytes, digest: bytes, amount: int, expiry: int) -> bytes:
    """Let Alice lock tokens for Bob, wait until they are hers again, and return the reason that he gave."""
    alice, channel = line.alice, line.channels[TOKEN][0]
    reasons: list[bytes] = []
    router = alice.routing.router
    told = router.on_lock_rejected
    router.on_lock_rejected = lambda channel, lock, reason: reasons.append(reason) or told(channel, lock, reason)  # type: ignore[method-assign,func-returns-value]
    lock = alice.routing.channels.send_lock(channel.id, amount, expiry, digest, packet)
    with trio.fail_after(60):
        await alice.until(lambda: channel.view.channel.newest.next_lock > lock)
        await alice.until(lambda: not channel.view.channel.newest.locks)
    return reasons[0]


def test_an_invoice_is_paid_in_the_asset_that_it_asks_for_or_not_at_all() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            world.chain.fund(world.seats["alice"].key.address, 1_000_000, TOKEN)
            alice, bob = await world.start("alice"), await world.start("bob")
            with pytest.raises(InvalidInput, match="no open channel in asset"):
                await bob.create_invoice(5_000, asset=TOKEN)
            channel = await alice.open_channel(world.address("bob"), 1_000_000, asset=TOKEN)
            record = await bob.create_invoice(5_000)
            with pytest.raises(PaymentFailed) as caught:
                await alice.pay(record.text, timeout=30)
            assert caught.value.reason in (Unpaid.NO_ROUTE, Unpaid.NO_LIQUIDITY)
            assert channel.view.channel.newest.next_lock == 0, "nothing was even tried"

            tokens = await bob.create_invoice(5_000, asset=TOKEN)
            assert (await alice.pay(tokens.text)).fee == 0
            await channel.close()
            await world.until(lambda: TOKEN not in [*alice.routing.maps, *bob.routing.maps])
            with pytest.raises(InvalidInput, match="no open channel in asset"):
                await bob.create_invoice(5_000, asset=TOKEN)
            later = decode_invoice(tokens.text)
            with pytest.raises(InvalidInvoice, match="in which this node has no channel"):
                await alice.pay(msgspec.structs.replace(later, payment_hash=b"h" * 32))
            with pytest.raises(InvalidInput, match="no map"):
                await alice.keysend(key_of(bob), 5_000, asset=TOKEN)

    simulate(main, 1)


def test_what_comes_unasked_is_taken_only_in_assets_that_the_owner_has_named() -> None:
    async def main() -> None:
        async with open_world(1, config=CONFIG) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            for asset in (TOKEN, OTHER):
                world.chain.fund(alice.address, 1_000_000, asset)
                await alice.open_channel(world.address("bob"), 1_000_000, asset=asset)
            with pytest.raises(PaymentFailed) as caught:
                await alice.keysend(key_of(bob), 5_000, asset=OTHER)
            assert caught.value.reason is Unpaid.PAYEE_REFUSES
            assert bob.invoices() == []
            await alice.keysend(key_of(bob), 5_000, asset=TOKEN)
            invoice = await bob.create_invoice(700, asset=OTHER)
            await alice.pay(invoice.text)
            assert {(one.asset, one.received) for one in bob.invoices()} == {(TOKEN, 5_000), (OTHER, 700)}

    simulate(main, 1)


# --- maps ------------------------------------------------------------------------------------------------------------


def test_maps_are_bounded_named_assets_come_first_then_those_with_own_money_and_a_restart_draws_the_same() -> None:
    tokens = [Address(bytes([number]) * 20) for number in range(1, 5)]
    named = PaymentOptions(assets={tokens[3]: AssetOptions()}, assets_max=2)

    async def main() -> None:
        async with open_world(1, config=msgspec.structs.replace(CONFIG, payments=named)) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            opened: dict[Address, ChannelId] = {}
            for token in reversed(tokens):
                node, other = (bob, "alice") if token == tokens[2] else (alice, "bob")
                world.chain.fund(node.address, 1_000_000, token)
                opened[token] = (await node.open_channel(world.address(other), 1_000_000, asset=token)).id
            assert list(bob.routing.maps) == [NATIVE, tokens[3], tokens[2]]
            with pytest.raises(InvalidInput, match="could be paid over"):
                await bob.create_invoice(5, asset=tokens[1])
            for token in (tokens[3], tokens[2]):
                await bob.until(lambda token=token: knows(bob, token, [opened[token]]))  # type: ignore[misc]  # a bound default
            receipt = await alice.keysend(key_of(bob), 5, asset=tokens[3])
            bob = await world.restart("bob")
            assert list(bob.routing.maps) == [NATIVE, tokens[3], tokens[2]]
            await bob.until(lambda: knows(bob, tokens[2], [opened[tokens[2]]]))
            assert bob.routing.maps.graph(tokens[2]).slots_of(opened[tokens[3]]) == ()
            assert bob.invoice(receipt.payment_hash).asset == tokens[3]

    simulate(main, 1)
