"""One hub and as many spokes as fit: the shape of Celer's network, where every payment goes over one node.

    python -m tallystick.sdk.testing.hub --spokes 200

Every spoke is a whole node with one channel to the hub, and money on both sides. Nobody gossips: invoices name the
channel over which their payee is reached. All spokes pay their neighbours at once, several rounds; then all must be at
rest, and nobody may have lost anything (`solvency`).
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence

import msgspec
import trio

from tallystick.channels.testing.scheduling import simulate
from tallystick.router.invoice import Invoice, decode_invoice
from tallystick.router.objects import Edge, NodeKey
from tallystick.router.service import RoutingOptions
from tallystick.sdk.node import Config, Node
from tallystick.sdk.routing import PaymentOptions
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.invariants import check_settled, unsettled
from tallystick.sdk.testing.solvency import check_payments
from tallystick.sdk.testing.world import World, open_world

HUB = "hub"
DEPOSIT = 10_000_000
AMOUNT = 1_000
AT_ONCE = 64
"""Channels that are opened at the same time."""


class HubReport(msgspec.Struct, frozen=True):
    """Figures of one run; seconds are real ones."""

    spokes: int
    payments: int
    opening_seconds: float
    paying_seconds: float
    per_second: float
    mib: float
    """The most memory that the process ever had."""
    trace: str


class Star:
    """The hub and its spokes in a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.spokes = tuple(name for name in world.seats if name != HUB)
        self.paid = 0

    async def build(self) -> None:
        """Start all nodes and open all channels."""
        limit = trio.CapacityLimiter(AT_ONCE)
        await self.world.start(HUB)
        async with trio.open_nursery() as nursery:
            for name in self.spokes:
                nursery.start_soon(self._join, name, limit)
        await self._settle()

    async def _join(self, name: str, limit: trio.CapacityLimiter) -> None:
        async with limit:
            node, hub = await self.world.start(name), self.world.node(HUB)
            handle = await node.open_channel(self.world.address(HUB), DEPOSIT)
            await hub.channel(handle.id).wait_usable()
            await hub.channel(handle.id).deposit(DEPOSIT)

    async def pay_round(self, step: int) -> None:
        """Let every spoke pay the one `step` places further, all at once."""
        count = len(self.spokes)
        async with trio.open_nursery() as nursery:
            for number, name in enumerate(self.spokes):
                nursery.start_soon(self._pay, name, self.spokes[(number + step) % count])

    async def _pay(self, payer: str, payee: str) -> None:
        there = self.world.node(payee)
        record = await there.routing.create_invoice(AMOUNT)
        await self.world.node(payer).routing.pay(self._hinted(there, decode_invoice(record.text)))
        self.paid += 1

    def _hinted(self, payee: Node, invoice: Invoice) -> Invoice:
        """Return the invoice with the hub's channel to its payee in it."""
        hub, (channel,) = self.world.node(HUB), payee.channels
        way = Edge(
            channel.id,
            NodeKey(bytes(hub.key.public)),
            NodeKey(bytes(payee.key.public)),
            2 * DEPOSIT,
            hub.router.policy_of(channel.id),
        )
        return msgspec.structs.replace(invoice, hints=(way,))

    async def rest(self) -> None:
        """Wait for rest, and check."""
        await self._settle()
        self.world.chain.check_conservation()
        check_settled(self.world, [HUB, *self.spokes])
        check_payments(self.world)

    async def _settle(self) -> None:
        """Wait until nothing pends and both sides of each channel count its money alike."""
        for _ in range(60):
            if not unsettled(self.world, [HUB, *self.spokes]):
                return
            await trio.sleep(10.0)
        raise Violation("the star does not come to rest")


def run_hub(spokes: int, rounds: int = 3, seed: int = 1) -> HubReport:
    """Run a star; raise Violation or PaymentFailed if anything is wrong."""

    async def main() -> HubReport:
        config = Config(
            challenge_period=600, routing=RoutingOptions(), payments=PaymentOptions(announce=False, lock_seconds=900)
        )
        names = (HUB, *(f"s{number}" for number in range(spokes)))
        async with open_world(seed, config=config, interval=30.0, names=names) as world:
            star = Star(world)
            began = time.perf_counter()
            await star.build()
            opened = time.perf_counter()
            for step in range(1, rounds + 1):
                await star.pay_round(step)
            paid = time.perf_counter()
            await star.rest()
            return HubReport(
                spokes,
                star.paid,
                round(opened - began, 2),
                round(paid - opened, 2),
                round(star.paid / (paid - opened), 1),
                round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                world.trace.digest(),
            )

    return simulate(main, seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one star and print its report as JSON."""
    parser = argparse.ArgumentParser(description="Run a hub and its spokes in virtual time.")
    parser.add_argument("--spokes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    print(msgspec.json.encode(run_hub(chosen.spokes, chosen.rounds, chosen.seed)).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
