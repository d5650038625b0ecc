"""One hub and thousands of spokes: the shape of Celer's network, where every payment goes over one node.

    PYTHONPATH=tests python -m simulation.hub --spokes 2887 --seed 7

On Ethereum's main network, one Celer node had 2,887 open channels in May 2020. Here each of them leads to a whole node
of its own, with money on both sides; how much is drawn from the seed, as nobody knows. Nobody gossips: invoices name
the channel over which their payee is reached. All spokes pay each other at once, several rounds; then all must be at
rest, and nobody may have lost anything (`invariants`, `solvency`).

Spokes pay for both deposits: a hub's own transactions wait for each other, a few in every block. What the rounds take
in memory and time is the product's, so a hub that looks at all its channels for one payment shows here.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import sys
import time
from collections.abc import Sequence

import msgspec
import trio

from simulation.invariants import check_always, check_settled, unsettled
from simulation.solvency import check_payments
from tallystick.channels.testing.scheduling import rare_collections, simulate
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.invoices.invoice import Invoice, decode_invoice
from tallystick.router.network.routing import PaymentOptions
from tallystick.router.objects import Edge, NodeKey
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.openings import CONSIDERED_AT_ONCE
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import GAS_LIMIT, World, open_world
from tallystick.settlement.chain import DepositCall

HUB = "hub"
CELER = 2_887
"""The channels of Celer's hub."""
AMOUNTS = (1_000, 100_000)
"""The smallest payment and the largest, evenly by magnitude."""
DEPOSITS = (1_000_000, 100_000_000)
"""The smallest deposit and the largest, likewise: twice as much is in a channel."""
INTERVAL = 5.0
"""Seconds between blocks: while a world waits for them, every link is kept alive."""


class HubReport(msgspec.Struct, frozen=True):
    """Figures of one run; seconds are real ones."""

    seed: int
    spokes: int
    payments: int
    amount: int
    """What was paid in all."""
    opening_seconds: float
    paying_seconds: float
    per_second: float
    cpu_seconds: float
    """Of this process: less than the others on a busy machine."""
    mib: float
    """The most memory that the process ever had."""
    trace: str


class Star:
    """The hub and its spokes in a world."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.spokes = tuple(name for name in world.seats if name != HUB)
        self.paid: list[int] = []
        self._joining = trio.CapacityLimiter(CONSIDERED_AT_ONCE)
        """A hub considers only so many openings of strangers at a time, and refuses others."""

    async def build(self) -> None:
        """Start all nodes and open all channels."""
        await self.world.start(HUB)
        async with trio.open_nursery() as nursery:
            for name in self.spokes:
                nursery.start_soon(self._join, name, _draw(self.rng, DEPOSITS))
        await self._settle()

    async def _join(self, name: str, deposit: int) -> None:
        node = await self.world.start(name)
        async with self._joining:
            handle = await node.open_channel(self.world.address(HUB), deposit)
        hubs = 1 - handle.view.channel.side
        await node.onchain.account.transact("fund the hub", DepositCall(handle.id, hubs, deposit), handle.id)

    async def pay_round(self) -> None:
        """Let every spoke pay another one, all at once; everybody is paid once."""
        payees = list(self.spokes)
        self.rng.shuffle(payees)
        async with trio.open_nursery() as nursery:
            for payer, payee in zip(payees, [*payees[1:], payees[0]], strict=True):
                nursery.start_soon(self._pay, payer, payee, _draw(self.rng, AMOUNTS))

    async def _pay(self, payer: str, payee: str, amount: int) -> None:
        there = self.world.node(payee)
        record = await there.routing.invoicing.create_invoice(amount)
        await self.world.node(payer).routing.paying.pay(self._hinted(there, decode_invoice(record.text)))
        self.paid.append(amount)

    def _hinted(self, payee: Node, invoice: Invoice) -> Invoice:
        """Return the invoice with the hub's channel to its payee in it."""
        hub, (channel,) = self.world.node(HUB), payee.channels
        way = Edge(
            channel.id,
            NodeKey(bytes(hub.key.public)),
            NodeKey(bytes(payee.key.public)),
            sum(channel.balances),
            hub.routing.policies.policy_of(channel.id),
        )
        return msgspec.structs.replace(invoice, hints=(way,))

    async def rest(self) -> None:
        """Wait for rest, and check."""
        await self._settle()
        check_always(self.world)
        check_settled(self.world, [HUB, *self.spokes])
        check_payments(self.world)

    async def _settle(self) -> None:
        """Wait until nothing pends and both sides of each channel count its money alike."""
        for _ in range(60):
            if not unsettled(self.world, [HUB, *self.spokes]):
                return
            await trio.sleep(10.0)
        raise Violation("the star does not come to rest")


def _draw(rng: random.Random, bounds: tuple[int, int]) -> int:
    """Draw a number, evenly by magnitude."""
    least, most = bounds
    return int(least * (most / least) ** rng.random())


def run_hub(spokes: int, rounds: int = 3, seed: int = 1) -> HubReport:
    """Run a star; raise Violation or PaymentFailed if anything is wrong."""

    async def main() -> HubReport:
        config = Config(
            challenge_period=600, routing=RoutingOptions(), payments=PaymentOptions(announce=False, lock_seconds=900)
        )
        names = (HUB, *(f"s{number}" for number in range(spokes)))
        limit = max(GAS_LIMIT, GAS_LIMIT // 100 * spokes)  # of a block: all may open their channels in one
        async with open_world(seed, config=config, interval=INTERVAL, names=names, gas_limit=limit) as world:
            star = Star(world, random.Random(seed))
            began = time.perf_counter()
            await star.build()
            gc.freeze()  # the nodes: they live to the end
            opened = time.perf_counter()
            for _ in range(rounds):
                await star.pay_round()
            paid = time.perf_counter()
            await star.rest()
            return HubReport(
                seed=seed,
                spokes=spokes,
                payments=len(star.paid),
                amount=sum(star.paid),
                opening_seconds=round(opened - began, 2),
                paying_seconds=round(paid - opened, 2),
                per_second=round(len(star.paid) / (paid - opened), 1),
                cpu_seconds=round(time.process_time(), 2),
                mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                trace=world.trace.digest(),
            )

    with rare_collections():
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
