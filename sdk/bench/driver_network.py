"""Commands of `driver` about payments over several hops, for `bench network` and the demo."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import trio

from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.objects import NATIVE, ChannelId
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.session.locks import LockKeeper
from tallystick.channels.storage.store import Moment
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.network.routing import PaymentReceipt
from tallystick.router.objects import ForwardingPolicy, NodeKey
from tallystick.sdk.bench.latencies import Latencies, timing
from tallystick.sdk.node.node import Node

LOOK_SECONDS = 0.01
"""How often a driver looks whether something has come to pass."""

LOOK_LONGEST = 30.0
"""Seconds after which it will not."""


async def look_for(condition: Callable[[], bool]) -> None:
    """Return once something holds of which no event tells."""
    with trio.fail_after(LOOK_LONGEST):
        while not condition():  # noqa: ASYNC110  # nobody sets an event for what gossip draws
            await trio.sleep(LOOK_SECONDS)


AGAIN_SECONDS = 0.5
"""Between two tries to pay an invoice."""


class Withholder:
    """A keeper of locks that takes every payment and does nothing about it, and is honest else."""

    def __init__(self, keeper: LockKeeper) -> None:
        self._keeper = keeper
        self.holding = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keeper, name)

    def on_lock_received(self, channel: ChannelId, added: AddLock) -> Sequence[Moment]:
        """Keep it."""
        self.holding.set()
        return ()


class NetworkDriver:
    """The commands about payments over several hops, by name: each method `do_NAME` is one."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._withholder: Withholder | None = None

    async def do_know(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until gossip has told what both directions of these `channels` ask for, and all of ours are usable."""
        graph = self.node.routing.graph
        channels = [ChannelId(bytes.fromhex(text)) for text in command["channels"]]

        def knows() -> bool:
            heard = all(len(graph.slots_of(channel)) == 2 for channel in channels)
            return heard and all(channel.view.ready for channel in self.node.channels)

        await look_for(knows)
        return {}

    async def do_ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Make `count` invoices for `amount` each; tell their texts."""
        routing, amount = self.node.routing, command["amount"]
        return {"invoices": [(await routing.invoicing.create_invoice(amount)).text for _ in range(command["count"])]}

    async def do_receipts(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell how many payments over several hops came to us, and their sum."""
        paid = [record.received for record in self.node.routing.invoicing.invoices(limit=10_000) if record.received]
        return {"count": len(paid), "total": sum(paid)}

    async def do_settle_up(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pay these `invoices` from `tasks` tasks; report latencies, fees, and how many receipts prove a payment."""
        texts, latencies, receipts = iter(command["invoices"]), Latencies(), list[PaymentReceipt]()

        async def worker() -> None:
            for text in texts:
                began = time.perf_counter()
                receipts.append(await self._settle(text))
                latencies.one(time.perf_counter() - began)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(command["tasks"]):
                nursery.start_soon(worker)
        proven = sum(digest_of(receipt.secret) == receipt.payment_hash for receipt in receipts)
        fees = sum(receipt.fee for receipt in receipts)
        return timing(latencies, time.perf_counter() - began) | {"proven": proven, "fees": fees}

    async def _settle(self, text: str) -> PaymentReceipt:
        """Pay an invoice, which is paid once however often one tries; go on while a forwarder on the way is away."""
        deadline = trio.current_time() + LOOK_LONGEST
        while True:
            try:
                return await self.node.routing.paying.pay(text)
            except PaymentFailed as failed:
                if failed.reason not in (Unpaid.NO_ROUTE, Unpaid.NO_LIQUIDITY) or trio.current_time() > deadline:
                    raise
            await trio.sleep(AGAIN_SECONDS)

    async def do_keysend(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pay node `to` once, without an invoice, for at most `max_fee`, within `timeout` seconds (None: as usual)."""
        target, timeout = NodeKey(bytes.fromhex(command["to"])), command.get("timeout")
        amount, most = command["amount"], command["max_fee"]
        receipt = await self.node.routing.paying.keysend(target, amount, max_fee=most, timeout=timeout)
        return {"fee": receipt.fee}

    async def do_charge(self, command: dict[str, Any]) -> dict[str, Any]:
        """Ask `fee_ppm` millionths for payments over each of our channels, from now on, and tell the network."""
        for channel in self.node.channels:
            await self.node.routing.set_policy(channel.id, ForwardingPolicy(base_fee=0, fee_ppm=command["fee_ppm"]))
        return {}

    async def do_withhold(self, command: dict[str, Any]) -> dict[str, Any]:
        """From now on, neither forward payments nor give them back."""
        self._withholder = Withholder(self.node.routing.router)
        self.node.engine.keep_locks(cast(LockKeeper, self._withholder))
        return {}

    async def do_kept(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until a payment is being withheld."""
        if self._withholder is not None:
            await self._withholder.holding.wait()
        return {}

    async def do_holdings(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell what is ours in all of our channels together, how much is under way in them, and what forwarding earned.

        Balances are those of agreed statements: what the newest ones say of a lock counts once they are agreed.
        """
        states = [channel.view.channel for channel in self.node.channels]
        locks = sum(len(state.newest.locks) + len(state.theirs.simplex.locks) + len(state.flight) for state in states)
        own = sum(channel.balances[0] for channel in self.node.channels)
        earned = self.node.routing.router.statistics().earned.get("0x" + NATIVE.hex(), 0)
        return {"own": own, "locks": locks, "earned": earned}

    async def do_travel(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pay `amount` to node `to` again and again for `seconds` from `tasks` tasks; report latencies and fees."""
        target, amount = NodeKey(bytes.fromhex(command["to"])), command["amount"]
        deadline = time.perf_counter() + command["seconds"]
        latencies = Latencies()
        receipts: list[PaymentReceipt] = []

        async def worker() -> None:
            while time.perf_counter() < deadline:
                began = time.perf_counter()
                receipts.append(await self.node.routing.paying.keysend(target, amount))
                latencies.one(time.perf_counter() - began)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(command["tasks"]):
                nursery.start_soon(worker)
        return timing(latencies, time.perf_counter() - began) | {"fees": sum(receipt.fee for receipt in receipts)}
