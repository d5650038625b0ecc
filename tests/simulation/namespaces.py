"""Four validators, each in a network of its own, parted by real links: `python -m simulation.namespaces`, as root.

Each validator's process and engine are in a network namespace, with a cable (a veth pair) to a switch, which is a
namespace with two bridges. Who is parted is plugged into the other bridge: nothing is told to anybody, packets just no
longer come, as where a cable is cut. Over a second cable each is asked from outside. In the end all ledgers must have
one state root at one height, read from their disks.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count

import trio

from simulation.roots import check_roots
from simulation.validators import Payer, Validators, check_payments, open_validators
from tallystick.settlement.replicated.home import SETTINGS

PORT = 26_656
"""At which each engine listens, in its own namespace."""

_NUMBERS = count()


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`."""
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)


def missing() -> str | None:
    """Return why namespaces cannot be had here; None: they can."""
    if shutil.which("ip") is None:
        return "iproute2 is not here: `ip` makes network namespaces"
    if os.geteuid():
        return "only root makes network namespaces"
    try:
        with open_switch(1):
            return None
    except subprocess.CalledProcessError as error:
        return f"this machine gives no network namespaces: {error.stderr.strip()}"


class Switch:
    """A switch with a cable to each validator. Make it with `open_switch`."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.spaces = [f"{name}-{number}" for number in range(size)]

    def wire(self, validators: Validators) -> None:
        """Put each validator's engine and chain node into its namespace: from its settings, before it starts."""
        texts = [(validator.home / SETTINGS).read_text() for validator in validators.all]
        ports = [re.findall(r'laddr = "tcp://127.0.0.1:(\d+)"', text)[0] for text in texts]
        for validator, space, text in zip(validators.all, self.spaces, texts, strict=True):
            for number, port in enumerate(ports):
                text = text.replace(f"127.0.0.1:{port}", f"{engine_at(number)}:{PORT}")
            (validator.home / SETTINGS).write_text(text)
            validator.before = ["ip", "netns", "exec", space]
            validator.host = asked_at(validator.number)

    def part(self, others: Sequence[int]) -> None:
        """Plug these into the other bridge."""
        for number in others:
            ip("-n", self.name, "link", "set", f"port{number}", "master", "second")

    def join(self) -> None:
        """Plug all into the first bridge."""
        for number in range(len(self.spaces)):
            ip("-n", self.name, "link", "set", f"port{number}", "master", "first")


def engine_at(number: int) -> str:
    """Where an engine is reached by the others (of the range for benchmarks, RFC 2544)."""
    return f"198.18.0.{number + 1}"


def asked_at(number: int) -> str:
    """Where a validator is asked from outside."""
    return f"198.18.{number + 1}.2"


@contextmanager
def open_switch(size: int) -> Iterator[Switch]:
    """Give a switch with so many cables; take all down at the end."""
    number = next(_NUMBERS)
    switch = Switch(f"tally{os.getpid()}-{number}", size)
    spaces = [switch.name, *switch.spaces]
    try:
        for space in spaces:
            ip("netns", "add", space)
        for bridge in ("first", "second"):
            ip("-n", switch.name, "link", "add", bridge, "type", "bridge")
            ip("-n", switch.name, "link", "set", bridge, "up")
        for at, space in enumerate(switch.spaces):
            _plug(switch, at, space, f"t{os.getpid() % 10**6}x{number}v{at}")
        yield switch
    finally:
        for space in spaces:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", space)  # its cables go with it


def _plug(switch: Switch, at: int, space: str, outside: str) -> None:
    ip("-n", space, "link", "set", "lo", "up")
    ip("-n", switch.name, "link", "add", f"port{at}", "type", "veth", "peer", "name", "net", "netns", space)
    ip("-n", switch.name, "link", "set", f"port{at}", "master", "first", "up")
    ip("-n", space, "address", "add", f"{engine_at(at)}/24", "dev", "net")
    ip("-n", space, "link", "set", "net", "up")
    ip("link", "add", outside, "type", "veth", "peer", "name", "asked", "netns", space)
    ip("address", "add", f"198.18.{at + 1}.1/30", "dev", outside)
    ip("link", "set", outside, "up")
    ip("-n", space, "address", "add", f"{asked_at(at)}/30", "dev", "asked")
    ip("-n", space, "link", "set", "asked", "up")


async def campaign(seed: int, partitions: int, tell: bool = True) -> None:
    """Run one: the network parts 3|1 or 2|2, and heals, with a payer going on."""
    rng = random.Random(seed)
    with open_switch(4) as switch:
        async with open_validators(wire=switch.wire) as validators, trio.open_nursery() as nursery:
            payer = Payer(validators, rng)
            nursery.start_soon(payer.run)
            for kind in [rng.choice((1, 2)) for _ in range(partitions)]:
                apart = rng.sample(range(4), kind)
                if tell:
                    print(f"seed {seed}: {apart} are apart, after {payer.sent} transfers", flush=True)
                switch.part(apart)
                await part_and_see(validators, apart)
                switch.join()
                await validators.goes_on(range(4))
            payer.is_done = True
            await payer.ended.wait()
            await validators.goes_on(range(4))
            await validators.check_agreement()
            await check_payments(validators, payer.sent)
            height = check_roots(await validators.end())
        if tell:
            print(f"seed {seed}: well: one state at block {height}, {payer.sent} transfers, each once", flush=True)


async def part_and_see(validators: Validators, apart: Sequence[int]) -> None:
    """See that three go on without the fourth, which stands still, and that two and two both do."""
    others = [number for number in range(4) if number not in apart]
    if len(apart) == 1:
        await validators.goes_on(others)
        assert await validators.stands_still(apart), "a validator that is apart makes blocks alone"
    else:
        assert await validators.stands_still(range(4)), "half of the validators make blocks"


def main() -> int:
    """Run campaigns from a seed on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    why = missing()
    if why is not None:
        print(f"skipped: {why}")
        return 0
    for seed in range(options.seed, options.seed + options.runs):
        trio.run(campaign, seed, options.partitions)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
