"""The processes of one measurement, and their books: whatever was paid on a stage must have come, once, at its end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.sdk.bench.control import Primitives, measure_primitives
from tallystick.sdk.bench.driver import DriverOptions
from tallystick.sdk.bench.fleet import FleetOptions
from tallystick.sdk.bench.launcher import DriverProcess, chain_run, driver, fleet, open_processes
from tallystick.sdk.errors import MeasurementVoid

FUNDS = 10**15
DEPOSIT = 10**12
TASKS = 1_000
"""Tasks that pay at the same time, in the class `awaited`."""

WARM_UP = 0.5
"""Seconds of payments before the first measured class."""

REDIAL_SECONDS = 180.0
"""How long links may take to be back after the conditions have changed: several of the dialer's longest pauses, which
are a minute, as who is cut off again and again on a busy machine waits ever longer before it dials."""

Say = Callable[[str], None]
Books = dict[str, int]


class Stage:
    """A payer, or a hub, and those whom it pays, one unit at a time."""

    def __init__(self, payer: DriverProcess, payees: Sequence[DriverProcess], primitives: Primitives) -> None:
        self.payer = payer
        self.payees = payees
        self.primitives = primitives
        self._opening: tuple[Books, Books] = ({}, {})
        self._made = 0

    async def open_books(self) -> None:
        """From now on, payments are counted."""
        self._opening, self._made = await self._books(), 0

    async def pay(self, kind: str, seconds: float, **more: Any) -> dict[str, Any]:
        """Have payments made for some seconds; return the payer's figures, all of its receipts in."""
        sent = await self.payer.ask("bench", kind=kind, seconds=seconds, tasks=TASKS, **more)
        self.count(sent["count"])
        return sent

    def count(self, payments: int) -> None:
        """So many payments of a unit were made, with receipts."""
        self._made += payments

    async def counters(self) -> dict[str, float]:
        """Return what the payees' sides have used so far, together."""
        counters = [await payee.ask("counters") for payee in self.payees]
        return {key: sum(each[key] for each in counters) for key in ("commits", "signatures", "cpu")}

    async def memory(self) -> dict[str, int]:
        """Return the most memory (KiB) that each process has used."""
        return {actor.name: (await actor.ask("counters"))["memory"] for actor in (self.payer, *self.payees)}

    async def conditions(self, rtt_ms: float, cuts: float) -> None:
        """Change the conditions and wait until all links are back; raise MeasurementVoid if they do not come."""
        for payee in self.payees:
            await payee.ask("conditions", rtt=rtt_ms / 1e3, cuts=0.0)
        with trio.move_on_after(REDIAL_SECONDS + rtt_ms / 1e3 * len(self.payees)) as scope:
            await self.payer.ask("conditions", rtt=rtt_ms / 1e3, cuts=cuts, redials=True)
        if scope.cancelled_caught:
            raise MeasurementVoid("the links did not come back after the conditions had changed: nothing was measured")

    async def close_books(self) -> None:
        """Raise MeasurementVoid unless every payment with a receipt has come exactly once, and no other."""
        check_books(self._made, self._opening, await self._books())

    async def _books(self) -> tuple[Books, Books]:
        payees = [await payee.ask("books") for payee in self.payees]
        total = {key: sum(books[key] for books in payees) for key in ("sent", "received", "own")}
        return await self.payer.ask("books"), total


def check_books(made: int, opening: tuple[Books, Books], closing: tuple[Books, Books]) -> None:
    """Raise MeasurementVoid unless `made` payments of a unit each left the payer and reached the payees.

    Books are those of (payer, payees together): how many payments were sent and received, and what is owned.
    """
    change = [{key: after[key] - before[key] for key in before} for before, after in zip(opening, closing, strict=True)]
    payer, payees = change
    if not made == -payer["own"] == payees["own"] or payer["sent"] != payees["received"]:
        raise MeasurementVoid(
            f"the books do not balance: {made} payments have receipts; the payer is {-payer['own']} poorer and counts "
            f"{payer['sent']} payments of its own, the payees are {payees['own']} richer and count "
            f"{payees['received']}. This is a fault of the engine: please report it"
        )


@asynccontextmanager
async def pair_stage(folder: str, say: Say, *, rough: bool = False) -> AsyncIterator[Stage]:
    """Give a payer and a payee with a channel, each a process, on a chain that a third one serves; connected, warm."""
    primitives = await trio.to_thread.run_sync(measure_primitives, folder)
    keys = [PrivateKey(bytes([number]) * 32) for number in (1, 2)]
    coins = {key.address: FUNDS for key in keys}
    async with open_processes() as group:
        chain = await group.start("chain", chain_run(f"{folder}/chain", coins, interval=0.5))
        payer, payee = [
            await group.start(
                name,
                driver(
                    DriverOptions(
                        data=f"{folder}/{name}",
                        chain=chain.first["url"],
                        key=key.reveal().hex(),
                        cpu=number,
                        rough=rough,
                        opens_locks=name == "payee",
                    )
                ),
            )
            for number, (name, key) in enumerate(zip(("payer", "payee"), keys, strict=True))
        ]
        stage = Stage(payer, [payee], primitives)
        say("two nodes, one channel; warming up")
        await payer.ask("open", peer=payee.first["peer"], deposit=DEPOSIT)
        await stage.open_books()
        await stage.pay("awaited", WARM_UP)
        yield stage


@asynccontextmanager
async def hub_stage(
    folder: str, channels: int, processes: int, say: Say, *, home: int | None = None, rough: bool = False
) -> AsyncIterator[Stage]:
    """Give a hub and the processes of its peers, connected and warm.

    The hub has the first core, its peers share the others; or all share the core `home`.
    """
    primitives = await trio.to_thread.run_sync(measure_primitives, folder)
    async with open_processes() as group:
        hub = await group.start(
            "hub", fleet(FleetOptions(data=f"{folder}/hub", first=0, count=1, cpu=home or 0, rough=rough))
        )
        fleets: list[DriverProcess] = []
        first = 1
        for number in range(processes - 1):
            count = channels // (processes - 1) + (number < channels % (processes - 1))
            cpu = 1 + number % max(1, CORES - 1) if home is None else home
            options = FleetOptions(data=f"{folder}/peers{number}", first=first, count=count, cpu=cpu, rough=rough)
            fleets.append(await group.start(f"peers {number}", fleet(options)))
            first += count
        addresses = [address for options in fleets for address in options.first["peers"]]
        ready = await hub.ask("connect", addresses=addresses)
        say(f"{channels} channels stand after {ready['seconds']:.1f} s; warming up")
        stage = Stage(hub, fleets, primitives)
        await stage.open_books()
        await stage.pay("submitted", WARM_UP)
        yield stage


CORES = os.cpu_count() or 1
"""Of this machine."""
