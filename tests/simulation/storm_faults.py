"""What goes wrong while it storms (`storm`)."""

from __future__ import annotations

from collections.abc import Callable

import trio

from simulation.storm_scene import StormNetwork
from simulation.storm_weather import LOCK_SECONDS, STEPS
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.node.node import Node

CLOSES = 5
"""Channels that are closed at most."""


class Faults:
    """The faults of one storm."""

    def __init__(self, scene: StormNetwork) -> None:
        self._scene = scene
        self._world, self._rng = scene.world, scene.rng

    def rates(self) -> list[tuple[float, Callable[[], None]]]:
        """Return the faults, and which share of all steps each is."""
        weather = self._scene.weather
        return [
            (weather.crashes, self._crash),
            (weather.cuts, self._cut),
            (weather.outages, self._outage),
            (weather.reorganisations, self._reorganise),
            (weather.closes, self._close),
            (weather.policies, self._change),
            (weather.clocks, self._step_clock),
        ]

    def _crash(self) -> None:
        up = [name for name in self._scene.up() if name not in self._scene.away]
        life = self._world.seats[self._rng.choice(up)].life if up else None
        if life is None:
            return
        sleeps = self._rng.random() < self._scene.weather.sleeps
        seconds = self._rng.uniform(LOCK_SECONDS, LOCK_SECONDS + 400) if sleeps else self._rng.choice((0.5, 5.0, 60.0))
        index, after = self._rng.randrange(20), self._rng.random() < 0.5
        self._scene.note(
            f"{'sleep' if sleeps else 'crash'} {life.seat.name} at {index}{'+' if after else '-'}, {seconds:.0f}"
        )
        life.gate.aim(index, after=after)
        self._scene.away.add(life.seat.name)
        assert self._scene.nursery is not None
        self._scene.nursery.start_soon(self._return, life.seat.name, seconds)

    async def _return(self, name: str, seconds: float) -> None:
        """Bring a node back some time after it died; one whose time has not come is ended there."""
        life = self._world.seats[name].life
        with trio.move_on_after(5.0):
            while life is not None and not life.ended.is_set():
                await life.ended.wait()
        await self._world.crash(name)
        await trio.sleep(seconds)
        await self._world.begin(name)  # it is up once its chain answers
        self._scene.away.discard(name)

    def _cut(self) -> None:
        one, other = (self._world.seats[name].key.public for name in self._rng.sample(self._scene.names, 2))
        kind = self._rng.choice(("cut", "cut", "part", "silence"))
        self._scene.note(f"{kind} {self._world._names[one]} {self._world._names[other]}")
        if kind == "cut":
            self._world.network.cut(one, other)
            return
        self._world.network.partition(one, other, silent=kind == "silence")
        seconds = self._rng.choice((3.0, 40.0, 200.0))
        self._scene.later(seconds, lambda: self._world.network.heal(one, other))

    def _outage(self) -> None:
        name, seconds = self._rng.choice(self._scene.names), self._rng.choice((5.0, 30.0, 200.0))
        self._scene.note(f"outage {name} for {seconds:.0f}")
        self._world.chain_outage(name, True)
        self._scene.later(seconds, lambda: self._world.chain_outage(name, False))

    def _reorganise(self) -> None:
        """Replace the newest block or two; some of their transactions may have to be sent again."""
        depth = self._rng.randrange(1, self._scene.weather.confirmations)
        self._scene.note(f"reorganise {depth}")
        lossy = self._rng.random() < 0.3
        self._world.chain.reorganise(depth, keep=lambda transaction: not lossy or self._rng.random() < 0.5)

    def _close(self) -> None:
        name = self._rng.choice(self._scene.up() or [""])
        channels = self._scene.open_channels(name) if name and self._scene.counts["close"] < CLOSES else []
        if not channels:
            return
        identity, alone = self._rng.choice(channels), self._rng.random() < 0.7
        self._scene.note(f"close {name} {identity.hex()[:8]}{' alone' if alone else ''}")

        async def close(node: Node) -> None:
            handle = node.channel(identity)
            await (handle.force_close() if alone else handle.close())

        self._world.attempt(name, close)

    def _change(self) -> None:
        name = self._rng.choice(self._scene.up() or [""])
        channels = self._scene.open_channels(name) if name else []
        if not channels:
            return
        channel = self._rng.choice(channels)
        policy = ForwardingPolicy(
            base_fee=self._rng.choice((0, 7, 100)),
            fee_ppm=self._rng.choice((0, 1_000, 20_000)),
            minimum=self._rng.choice((0, 0, 100)),
            enabled=self._rng.random() < 0.9,
        )
        self._scene.note(f"policy {name} {channel.hex()[:8]}")

        async def change(node: Node) -> None:
            await node.routing.set_policy(channel, policy)

        self._world.attempt(name, change)

    def _step_clock(self) -> None:
        name, seconds = self._rng.choice(self._scene.names), self._rng.choice(STEPS)
        self._scene.note(f"clock {name} {seconds:+.0f}")
        self._world.seats[name].clock.step(seconds)
