"""Determinism: one seed, one run; and trio still has the private switches that this rests on."""

from __future__ import annotations

import hashlib
import importlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tallystick.channels.errors import LinkClosed
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.testing.clock import EPOCH, seeded_entropy, virtual_clock
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.pipes import Delivery
from tallystick.channels.testing.scheduling import deterministic_scheduling, simulate

scheduler = importlib.import_module("trio._core._run")


async def shuffled() -> list[int]:
    """The order in which tasks that are all ready come to run, over some rounds."""
    order: list[int] = []

    async def worker(number: int) -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(worker, number)
    return order


async def gossip(seed: int) -> str:
    """Six nodes talk to each other at random over a network that breaks; return a hash of all that was delivered."""
    trace = hashlib.sha256()

    def record(delivery: Delivery) -> None:
        trace.update(repr((delivery.time, delivery.link, delivery.sender, delivery.message)).encode())

    network = MemoryNetwork(seed, trace=record)
    keys = [PrivateKey(seeded_entropy(f"{seed}/{number}")(32)) for number in range(6)]

    async def answer(link: Link) -> None:
        while True:
            await link.send([message + b"!" for message in await link.receive()])

    async def talk(number: int) -> None:
        endpoint = network.endpoint(keys[number])
        for turn in range(20):
            other = (number + 1 + turn % 5) % 6
            try:
                link = await endpoint.dial(PeerAddress(bytes(keys[other].public), f"node{other}", 1))
                await link.send([bytes([number, turn, part]) for part in range(5)])
                await link.receive()
                await link.aclose()
            except LinkClosed:
                continue

    async def listen(number: int) -> None:
        await network.endpoint(keys[number]).serve(f"node{number}", 1, answer, started=lambda address: None)

    async with trio.open_nursery() as listeners:
        for number in range(6):
            listeners.start_soon(listen, number)
        async with trio.open_nursery() as talkers:
            for number in range(6):
                talkers.start_soon(talk, number)
            for _ in range(10):
                await trio.sleep(0.05)
                network.cut_randomly(0.3)
        listeners.cancel_scope.cancel()
    return trace.hexdigest()


def test_trio_still_has_the_switches_that_determinism_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Raises if the name is gone. (A test plugin may have switched it on already.)
    monkeypatch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", False)
    assert isinstance(scheduler._r, random.Random)
    with deterministic_scheduling(1):
        assert scheduler._ALLOW_DETERMINISTIC_SCHEDULING is True


def test_the_schedule_follows_the_seed() -> None:
    runs = [simulate(shuffled, seed) for seed in range(5)]
    assert runs == [simulate(shuffled, seed) for seed in range(5)]
    assert len({tuple(run) for run in runs}) == 5


def test_the_network_follows_the_seed() -> None:
    traces = [simulate(gossip, seed, seed) for seed in range(3)]
    assert traces == [simulate(gossip, seed, seed) for seed in range(3)]
    assert len(set(traces)) == 3


def test_the_network_follows_the_schedules_seed_too() -> None:
    assert simulate(gossip, 1, 7) != simulate(gossip, 2, 7)


@pytest.mark.processes
def test_another_process_makes_the_same_run() -> None:
    program = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('twin', sys.argv[1])\n"
        "twin = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(twin)\n"
        "print(twin.simulate(twin.gossip, 11, 11))\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-P", "-c", program, str(Path(__file__))],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    ]
    assert outputs == [simulate(gossip, 11, 11)] * 2


@pytest.mark.parametrize("before", [False, True])
def test_trio_is_left_as_it_was_found_even_after_a_failure(monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    async def fail() -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", before)
    state = scheduler._r.getstate()
    with pytest.raises(KeyError):
        simulate(fail, 1)
    assert scheduler._ALLOW_DETERMINISTIC_SCHEDULING is before
    assert scheduler._r.getstate() == state


def test_a_simulated_year_takes_no_time_and_the_virtual_clock_shows_it() -> None:
    async def year(start: float) -> tuple[float, float]:
        clock = virtual_clock(start)
        before = clock()
        await trio.sleep(365 * 86_400)
        return before, clock()

    assert simulate(year, 1, EPOCH) == (EPOCH, EPOCH + 365 * 86_400)


def test_seeded_entropy_repeats_itself_per_seed_only() -> None:
    first, again, other = seeded_entropy("1/alice"), seeded_entropy("1/alice"), seeded_entropy("1/bob")
    drawn = [first(32), first(5)]
    assert drawn == [again(32), again(5)]
    assert [len(piece) for piece in drawn] == [32, 5]
    assert drawn[0] != drawn[1].ljust(32, b"\0")
    assert other(32) != drawn[0]
