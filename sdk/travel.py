"""What a party does about payments over several hops: commands of `party`, for `bench network` and the demo."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import trio

from tallystick.channels.conditions import digest_of
from tallystick.channels.objects import ChannelId
from tallystick.router.errors import PaymentFailed
from tallystick.router.objects import NodeKey
from tallystick.sdk.bench.latencies import Latencies, timing
from tallystick.sdk.node import Node
from tallystick.sdk.routing import PaymentReceipt

LOOK_SECONDS = 0.01
"""How often a party looks whether something has come to pass."""

LOOK_LONGEST = 30.0
"""Seconds after which it will not."""


async def look_for(condition: Callable[[], bool]) -> None:
    """Return once something holds of which no event tells."""
    with trio.fail_after(LOOK_LONGEST):
        while not condition():  # noqa: ASYNC110  # nobody sets an event for what gossip draws
            await trio.sleep(LOOK_SECONDS)


class Traveller:
    """The commands, by name: each method `do_NAME` is one."""

    node: Node

    async def do_know(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until gossip has told what both directions of these `channels` ask for, and all of ours are usable."""
        graph = self.node.routing.graph
        channels = [ChannelId(bytes.fromhex(text)) for text in command["channels"]]

        def knows() -> bool:
            heard = all(len(graph.slots_of(channel)) == 2 for channel in channels)
            return heard and all(channel.session.ready for channel in self.node.channels)

        await look_for(knows)
        return {}

    async def do_invoice(self, command: dict[str, Any]) -> dict[str, Any]:
        """Ask for `amount`; `hold`: let the payment wait, when it comes, for `do_settle`."""
        record = await self.node.routing.create_invoice(command["amount"], hold=command.get("hold", False))
        return {"invoice": record.text, "hash": record.payment_hash.hex()}

    async def do_settle(self, command: dict[str, Any]) -> dict[str, Any]:
        """Take the held payment for the invoice of `hash`."""
        await self.node.routing.settle_invoice(self.node.routing.invoice(bytes.fromhex(command["hash"])).secret)
        return {}

    async def do_receipts(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell how many payments over several hops came to us, and their sum."""
        paid = [record.received for record in self.node.routing.invoices(limit=10_000) if record.received]
        return {"count": len(paid), "total": sum(paid)}

    async def do_send(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pay an `invoice`; a payment that fails is an answer like others."""
        began = time.perf_counter()
        try:
            receipt = await self.node.routing.pay(command["invoice"], timeout=command.get("timeout"))
        except PaymentFailed as error:
            return {"paid": False, "why": str(error), "reason": error.reason.value}
        proven = digest_of(receipt.secret) == receipt.payment_hash
        return {"paid": proven, "amount": receipt.amount, "fee": receipt.fee, "seconds": time.perf_counter() - began}

    async def do_travel(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pay `amount` to node `to` again and again for `seconds` from `tasks` tasks; report latencies and fees."""
        target, amount = NodeKey(bytes.fromhex(command["to"])), command["amount"]
        deadline = time.perf_counter() + command["seconds"]
        latencies = Latencies()
        receipts: list[PaymentReceipt] = []

        async def worker() -> None:
            while time.perf_counter() < deadline:
                began = time.perf_counter()
                receipts.append(await self.node.routing.keysend(target, amount))
                latencies.one(time.perf_counter() - began)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(command["tasks"]):
                nursery.start_soon(worker)
        return timing(latencies, time.perf_counter() - began) | {"fees": sum(receipt.fee for receipt in receipts)}
