"""With a chain node that errors, hangs or stands still, a node pays for nothing that the chain does not show.

Mallory keeps a lock until it has long expired on chain, and reveals its secret then to Bob, who forwarded it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio

from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.objects import ChannelId, Lock, Terms
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.onion.payload import FinalLock
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.gates import GatedChain
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.chain import Block, Header, SecretRegistered
from tallystick.settlement.errors import ChainError, ChainUnavailable

AMOUNT = 1_000_000
SECRET = b"\x42" * 32
CONFIG = Config(challenge_period=600, duties=CLAIM_ALL)


class KeepAll:
    """Mallory's own payee: keeps every lock, and tells nobody."""

    def __init__(self) -> None:
        self.finals: list[FinalLock] = []

    def on_arrived(self, final: FinalLock) -> Sequence[Moment]:
        self.finals.append(final)
        return ()

    def on_gone(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        return ()

    def on_time_passed(self) -> Sequence[Moment]:
        return ()


def spoil(world: World, name: str, how: str) -> None:
    """Let a role's chain node misbehave from now on."""
    chain: Any = world.seats[name].chain
    frozen = world.chain.newest.header

    async def head() -> Header:
        await trio.lowlevel.checkpoint()
        if how == "errors":
            raise ChainError("the chain node answers with HTTP status 403")
        if how == "hangs":
            await trio.sleep_forever()
        if how == "silent":
            raise ChainUnavailable("the chain node does not answer")
        return frozen

    async def blocks(first: int, limit: int) -> tuple[Block, ...]:
        return tuple(block for block in await world.chain.blocks(first, limit) if block.header.number <= frozen.number)

    async def wait(known: bytes) -> None:
        await trio.sleep(20 if how != "hangs" else 10**9)

    chain.head, chain.blocks, chain.wait = head, blocks, wait


def mend(world: World, name: str) -> None:
    """Let it be well again."""
    for method in ("head", "blocks", "wait", "fee_price"):
        world.seats[name].chain.__dict__.pop(method, None)


@pytest.mark.alarm(AlarmKind.CHAIN_STANDS_STILL, AlarmKind.CHAIN_NONSENSE, AlarmKind.CHAIN_UNREACHABLE)
@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("stuck", AlarmKind.CHAIN_STANDS_STILL),
        ("errors", AlarmKind.CHAIN_NONSENSE),
        ("hangs", AlarmKind.CHAIN_UNREACHABLE),
    ],
)
def test_a_forwarder_with_such_a_chain_node_pays_for_no_expired_lock(
    how: str, kind: AlarmKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_world(1, config=CONFIG, names=("alice", "bob", "mallory")) as world:
            alice, bob, mallory = [await world.start(name) for name in world.seats]
            first = await alice.open_channel(world.address("bob"), 10_000_000)
            second = await bob.open_channel(world.address("mallory"), 10_000_000)
            for node in (alice, bob, mallory):
                await node.until(lambda node=node: len(node.routing.graph) == 4)  # type: ignore[misc]
            keep = KeepAll()
            monkeypatch.setattr(mallory.routing.router, "_payee", keep)
            invoice = await mallory.routing.invoicing.create_invoice(AMOUNT, hold=True, payment_hash=digest_of(SECRET))
            world.attempt("alice", lambda node: node.pay(invoice.text, timeout=600))
            assert await world.until(lambda: bool(keep.finals), 60)
            lock = keep.finals[0].lock
            spoil(world, "bob", how)
            await trio.sleep(60)
            assert not bob.onchain.fresh
            world.chain.advance(lock.expiry + 60 - world.chain.newest.header.time)
            mallory.channel(second.id).reveal(lock.id, SECRET)
            await trio.sleep(200)
            assert kind in {alarm.kind for alarm in bob.alarms}
            mend(world, "bob")
            await trio.sleep(120)
            assert bob.onchain.fresh and bob.alarms[-1].kind is AlarmKind.CHAIN_BACK
            assert bob.channel(second.id).balances[0] == 10_000_000
            assert bob.channel(first.id).balances[0] == 0

    simulate(main, 1)


def with_alice_and_bob(act: Callable[[World], Awaitable[None]], *, interval: float = 5.0) -> None:
    async def main() -> None:
        async with open_world(1, config=CONFIG, interval=interval, names=("alice", "bob")) as world:
            alice, _ = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10_000_000)
            await act(world)

    simulate(main, 1)


@pytest.mark.alarm(AlarmKind.PRICE_UNKNOWN)
def test_a_chain_node_that_only_lacks_a_price_is_followed_and_that_is_told() -> None:
    async def act(world: World) -> None:
        alice, chain = world.node("alice"), world.seats["alice"].chain

        async def hang() -> int:
            await trio.sleep(30.6)
            raise ChainUnavailable("the chain node does not answer: eth_gasPrice timed out")

        chain.fee_price = hang  # type: ignore[union-attr, method-assign]
        await trio.sleep(1_800)
        assert alice.onchain.fresh and alice.onchain.index.head_number >= world.chain.newest.header.number - 1
        assert {alarm.kind for alarm in alice.alarms} == {AlarmKind.PRICE_UNKNOWN}
        alice = await world.restart("alice")
        assert alice.onchain.fresh

    with_alice_and_bob(act)


@pytest.mark.alarm(AlarmKind.CHAIN_UNREACHABLE, AlarmKind.CHAIN_BACK)
def test_a_chain_node_that_is_away_is_told_again_and_again_and_its_return_too() -> None:
    async def act(world: World) -> None:
        alice = world.node("alice")
        world.chain_outage("alice", True)
        await trio.sleep(7_200)
        kinds = [alarm.kind for alarm in alice.alarms]
        assert set(kinds) == {AlarmKind.CHAIN_UNREACHABLE} and 4 <= len(kinds) <= 8
        world.chain_outage("alice", False)
        await trio.sleep(60)
        assert [alarm.kind for alarm in alice.alarms][len(kinds) :] == [AlarmKind.CHAIN_BACK]

    with_alice_and_bob(act, interval=20.0)


@pytest.mark.parametrize("what", ["time", "secret", "price", "nonce"])
def test_numbers_that_fit_the_protocol_and_not_the_store_end_nothing(what: str) -> None:
    async def act(world: World) -> None:
        alice, chain, lies = world.node("alice"), world.seats["alice"].chain, 0
        assert chain is not None
        honest = chain.blocks

        async def blocks(first: int, limit: int) -> tuple[Block, ...]:
            nonlocal lies
            found = await honest(first, limit)
            if not found or lies >= 20:
                return found
            lies += 1
            header = found[-1].header
            if what == "time":
                return (*found[:-1], Block(msgspec.structs.replace(header, time=2**63), ()))
            return (*found[:-1], Block(header, (SecretRegistered(digest_of(SECRET), SECRET, 2**63),)))

        async def number(*arguments: object) -> int:
            nonlocal lies
            lies += 1
            return 2**256 - 1

        if what == "price":
            chain.fee_price = number  # type: ignore[method-assign]
        elif what == "nonce":
            chain.nonce = number  # type: ignore[method-assign]
            world.attempt("alice", lambda node: node.channels[0].deposit(1_000))
        else:
            chain.blocks = blocks  # type: ignore[method-assign]
        await trio.sleep(600)
        assert lies >= 5 and world.is_up("alice") and alice.onchain.fresh

    with_alice_and_bob(act)


def test_one_head_of_the_future_at_the_start_keeps_nobody_waiting() -> None:
    async def act(world: World) -> None:
        await world.crash("alice")
        before, lied = world.seats["alice"].chain, False
        life = await world.begin("alice")
        while (chain := world.seats["alice"].chain) is None or chain is before:
            await trio.lowlevel.checkpoint()

        async def head() -> Header:
            nonlocal lied
            found = await world.chain.head()
            if lied:
                return found
            lied = True
            return msgspec.structs.replace(found, number=found.number + 2_000, time=found.time + 2 * 86_400)

        chain.head = head  # type: ignore[method-assign]
        with trio.fail_after(120):
            await life.up.wait()
        await trio.sleep(60)
        assert lied and world.node("alice").onchain.fresh

    with_alice_and_bob(act)


def test_a_node_tells_its_chain_after_a_restart_which_channels_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(world: World) -> None:
        heard = list[Terms]()
        monkeypatch.setattr(GatedChain, "learn", lambda _, terms: heard.append(terms))
        alice = await world.restart("alice")
        assert heard == [channel.terms for channel in alice.engine.views.channels] != []

    with_alice_and_bob(act)
