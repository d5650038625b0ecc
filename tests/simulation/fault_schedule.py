"""What goes wrong while it storms (`storm`)."""

from __future__ import annotations

from collections.abc import Callable

import trio

from simulation.fault_rates import LOCK_SECONDS, STEPS
from simulation.storm_network import StormNetwork
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.node.node import Node

CLOSES = 5
"""Channels that are closed at most."""


class FaultSchedule:
    """The faults of one storm."""

    def __init__(self, network: StormNetwork) -> None:
        self._network = network
        self._world, self._rng = network.world, network.rng

    def rates(self) -> list[tuple[float, Callable[[], None]]]:
        """Return the faults, and which share of all steps each is."""
        rates = self._network.rates
        return [
            (rates.crashes, self._crash),
            (rates.cuts, self._cut),
            (rates.outages, self._outage),
            (rates.reorganisations, self._reorganise),
            (rates.closes, self._close),
            (rates.policies, self._change),
            (rates.clocks, self._step_clock),
        ]

    def _crash(self) -> None:
        up = [name for name in self._network.up() if name not in self._network.away]
        life = self._world.seats[self._rng.choice(up)].life if up else None
        if life is None:
            return
        sleeps = self._rng.random() < self._network.rates.sleeps
        seconds = self._rng.uniform(LOCK_SECONDS, LOCK_SECONDS + 400) if sleeps else self._rng.choice((0.5, 5.0, 60.0))
        index, after = self._rng.randrange(20), self._rng.random() < 0.5
        self._network.note(
            f"{'sleep' if sleeps else 'crash'} {life.seat.name} at {index}{'+' if after else '-'}, {seconds:.0f}"
        )
        life.gate.aim(index, after=after)
        self._network.away.add(life.seat.name)
        assert self._network.nursery is not None
        self._network.nursery.start_soon(self._return, life.seat.name, seconds)

    async def _return(self, name: str, seconds: float) -> None:
        """Bring a node back some time after it died; one whose time has not come is ended there."""
        life = self._world.seats[name].life
        with trio.move_on_after(5.0):
            while life is not None and not life.ended.is_set():
                await life.ended.wait()
        await self._world.crash(name)
        await trio.sleep(seconds)
        await self._world.begin(name)  # it is up once its chain answers
        self._network.away.discard(name)

    def _cut(self) -> None:
        one, other = (self._world.seats[name].key.public for name in self._rng.sample(self._network.names, 2))
        kind = self._rng.choice(("cut", "cut", "part", "silence"))
        self._network.note(f"{kind} {self._world._names[one]} {self._world._names[other]}")
        if kind == "cut":
            self._world.network.cut(one, other)
            return
        self._world.network.partition(one, other, silent=kind == "silence")
        seconds = self._rng.choice((3.0, 40.0, 200.0))
        self._network.later(seconds, lambda: self._world.network.heal(one, other))

    def _outage(self) -> None:
        name, seconds = self._rng.choice(self._network.names), self._rng.choice((5.0, 30.0, 200.0))
        self._network.note(f"outage {name} for {seconds:.0f}")
        self._world.chain_outage(name, True)
        self._network.later(seconds, lambda: self._world.chain_outage(name, False))

    def _reorganise(self) -> None:
        """Replace the newest block or two; some of their transactions may have to be sent again."""
        depth = self._rng.randrange(1, self._network.rates.confirmations)
        self._network.note(f"reorganise {depth}")
        lossy = self._rng.random() < 0.3
        self._world.chain.reorganise(depth, keep=lambda transaction: not lossy or self._rng.random() < 0.5)

    def _close(self) -> None:
        name = self._rng.choice(self._network.up() or [""])
        channels = self._network.open_channels(name) if name and self._network.counts["close"] < CLOSES else []
        if not channels:
            return
        identity, alone = self._rng.choice(channels), self._rng.random() < 0.7
        self._network.note(f"close {name} {identity.hex()[:8]}{' alone' if alone else ''}")

        async def close(node: Node) -> None:
            handle = node.channel(identity)
            await (handle.force_close() if alone else handle.close())

        self._world.attempt(name, close)

    def _change(self) -> None:
        name = self._rng.choice(self._network.up() or [""])
        channels = self._network.open_channels(name) if name else []
        if not channels:
            return
        channel = self._rng.choice(channels)
        policy = ForwardingPolicy(
            base_fee=self._rng.choice((0, 7, 100)),
            fee_ppm=self._rng.choice((0, 1_000, 20_000)),
            minimum=self._rng.choice((0, 0, 100)),
            enabled=self._rng.random() < 0.9,
        )
        self._network.note(f"policy {name} {channel.hex()[:8]}")

        async def change(node: Node) -> None:
            await node.routing.set_policy(channel, policy)

        self._world.attempt(name, change)

    def _step_clock(self) -> None:
        name, seconds = self._rng.choice(self._network.names), self._rng.choice(STEPS)
        self._network.note(f"clock {name} {seconds:+.0f}")
        self._world.seats[name].clock.step(seconds)
