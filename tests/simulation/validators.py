"""Four validators as processes, whose machines and links fail: `PYTHONPATH=tests python -m simulation.validators`.

A payer sends transfers all the time, each to any validator that answers, again and again until it is in a block. By a
seed, validators are killed (SIGKILL), paused (SIGSTOP, with their engines), cut off from the others and started again;
one may propose blocks that no honest one would. In the end all is well again, and it must hold that

- all validators have the same blocks, with the same state: no fork at any height;
- every transfer is in exactly one block, none is lost, and coins are conserved;
- with three of four the chain goes on, with two it stands still, and goes on when the third is back.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from simulation.processes import INSTALLED, TALLY
from simulation.roots import check_roots
from tallystick.channels.ports import system_clock, system_entropy
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.errors import ChainUnavailable, TransactionRefused
from tallystick.settlement.ethereum.rpc_client import RpcChain, open_rpc_chain
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.replicated.genesis import Genesis
from tallystick.settlement.replicated.home import SETTINGS
from tallystick.settlement.replicated.validator import found_validators
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint

PAYER = PrivateKey(keccak(b"simulation: the payer of the validators"))
PAYEE = Address(bytes([9]) * 20)
COINS = 10**15
LIAR = Path(__file__).parent / "liar.py"
"""What is run for a validator that lies."""
START_SECONDS = 60.0
WELL_SECONDS = 60.0
"""How long it may take until all is well again, on a busy machine."""
STILL_SECONDS = 4.0
"""How long a chain without its two thirds is looked at."""


class Validator:
    """One validator's process, with its engine below it."""

    def __init__(self, number: int, home: Path) -> None:
        self.number = number
        self.home = home
        self.url = ""
        self.process: trio.Process | None = None
        self.is_paused = False
        self.options: tuple[str, ...] = ()
        """More of the `validate` command's."""
        self.program: Path | None = None
        """What is run in place of the `tally` command."""
        self.before: list[str] = []
        """What stands before the command."""
        self.host = "127.0.0.1"

    def __repr__(self) -> str:
        return f"<validator {self.number}>"

    @property
    def is_up(self) -> bool:
        """Whether it runs and is not paused."""
        return self.process is not None and not self.is_paused

    async def start(self) -> None:
        """Start it; return once its chain node listens."""
        port = self.url.rpartition(":")[2] or "0"
        program = [sys.executable, str(self.program)] if self.program else INSTALLED if self.number == 0 else TALLY
        command = [*program, "chain", "validate", "--data", str(self.home), "--json", *self.options]
        command += ["--until-input-ends"]  # which is when this process does, whatever ends it
        with (self.home / "validator.log").open("ab") as log:
            command = [*self.before, *command, "--host", self.host, "--port", port]
            self.process = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        with trio.fail_after(START_SECONDS):
            line = b""
            while not line.endswith(b"\n"):
                part = await self.process.stdout.receive_some()
                assert part, f"{self} ended: {(self.home / 'validator.log').read_text()[-2_000:]}"
                line += part
        self.url = msgspec.json.decode(line)["url"]

    async def kill(self) -> None:
        """Kill it; its engine ends by itself."""
        if self.process is not None:
            self.resume()
            engines = _children(self.process.pid)
            self.process.kill()
            await self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    await pipe.aclose()
            self.process = None
            with trio.move_on_after(START_SECONDS):
                while any(map(_runs, engines)):  # noqa: ASYNC110 - they are not our children
                    await trio.sleep(0.05)

    def pause(self) -> None:
        """Stop it and its engine in the midst of whatever they do."""
        self._signal(signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)
        self.is_paused = False

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            for pid in (*_children(self.process.pid), self.process.pid):
                _send(pid, number)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Link:
    """The way from one engine to another one, which can be cut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.is_cut = False
        self._open: set[trio.SocketStream] = set()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Carry one connection."""
        if self.is_cut:
            await stream.aclose()
            return
        try:
            other = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            await stream.aclose()
            return
        self._open |= {stream, other}
        async with stream, other, trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, stream, other, nursery.cancel_scope)
            nursery.start_soon(self._carry, other, stream, nursery.cancel_scope)
        self._open -= {stream, other}

    async def _carry(self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in source:
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    async def cut(self) -> None:
        """End what is open, and let nothing new through."""
        self.is_cut = True
        for stream in list(self._open):
            await trio.aclose_forcefully(stream)


class Validators:
    """A set of validators on this machine. Make it with `open_validators`."""

    def __init__(self, homes: Sequence[Path], links: dict[tuple[int, int], Link]) -> None:
        self.all = [Validator(number, home) for number, home in enumerate(homes)]
        self._links = links

    def up(self) -> list[Validator]:
        """Those that run."""
        return [validator for validator in self.all if validator.is_up]

    async def cut_off(self, number: int) -> None:
        """Cut a validator off from all others."""
        for pair, link in self._links.items():
            if number in pair:
                await link.cut()

    def join(self) -> None:
        """Mend all links."""
        for link in self._links.values():
            link.is_cut = False

    async def height(self, number: int) -> int:
        """Return the newest block of a validator."""
        async with reach(self.all[number]) as chain:
            return (await chain.head()).number

    async def wait_height(self, height: int, numbers: Sequence[int], seconds: float = WELL_SECONDS) -> None:
        """Return once these validators have a block; raise trio.TooSlowError."""
        with trio.fail_after(seconds):
            for number in numbers:
                while True:
                    try:
                        if await self.height(number) >= height:
                            break
                    except ChainUnavailable:
                        pass
                    await trio.sleep(0.1)

    async def goes_on(self, numbers: Sequence[int], blocks: int = 2) -> None:
        """Return once they have made so many blocks from now on."""
        start = max([await self.height(number) for number in numbers])
        await self.wait_height(start + blocks, numbers)

    async def stands_still(self, numbers: Sequence[int]) -> bool:
        """Whether these validators, given time to finish what was decided, make no block."""
        await trio.sleep(1.5)
        before = [await self.height(number) for number in numbers]
        await trio.sleep(STILL_SECONDS)
        return before == [await self.height(number) for number in numbers]

    async def end(self) -> list[Path]:
        """Kill all; return their homes."""
        for validator in self.all:
            await validator.kill()
        return [validator.home for validator in self.all]

    async def check_agreement(self) -> int:
        """Check that all have the same blocks, up to the least newest one; return its number."""
        chains: list[list[Any]] = []
        for validator in self.all:
            async with reach(validator) as chain:
                blocks: list[Any] = []
                while part := await chain.blocks(len(blocks), 500):
                    blocks += part
                chains.append(blocks)
        least = min(map(len, chains))
        for blocks in chains:
            assert blocks[:least] == chains[0][:least], "two validators have different blocks: a fork"
        return least - 1


@asynccontextmanager
async def reach(validator: Validator) -> AsyncIterator[RpcChain]:
    """Give the client of a validator's chain node."""
    async with open_rpc_chain(validator.url, jitter=lambda: 0.5) as chain:
        yield chain


@asynccontextmanager
async def open_validators(
    count: int = 4,
    interval: float = 0.3,
    dev: bool = False,
    liar: int | None = None,
    more: tuple[Mint, ...] = (),
    options: tuple[str, ...] = (),
    wire: Callable[[Validators], None] | None = None,
) -> AsyncIterator[Validators]:
    """Start validators in a folder of their own; end them, and delete it, at the end. `wire` connects them."""
    genesis = Genesis(
        time=int(system_clock()),
        chain_id=1337,
        contract=ADJUDICATOR,
        reward_bps=1_000,
        gas_limit=30_000_000,
        dev=dev,
        mints=(Mint(PAYER.address, NATIVE, COINS), *more),
    )
    with tempfile.TemporaryDirectory(prefix="tally-bft-", ignore_cleanup_errors=True) as folder:
        homes = found_validators(Path(folder), count, genesis, interval, system_entropy)
        async with trio.open_nursery() as nursery:
            validators = Validators(homes, await _between(homes, nursery) if wire is None else {})
            if wire is not None:
                wire(validators)
            for validator in validators.all:
                validator.options = options
            if liar is not None:
                validators.all[liar].program = LIAR
            try:
                async with trio.open_nursery() as starting:
                    for validator in validators.all:
                        starting.start_soon(validator.start)
                await validators.wait_height(1, range(count))
                yield validators
            finally:
                with trio.CancelScope(shield=True):
                    await validators.end()
                nursery.cancel_scope.cancel()


async def _between(homes: Sequence[Path], nursery: trio.Nursery) -> dict[tuple[int, int], Link]:
    """Put a link between each two engines, and have them use it."""
    texts = [(home / SETTINGS).read_text() for home in homes]
    ports = [int(re.findall(r'laddr = "tcp://127.0.0.1:(\d+)"', text)[0]) for text in texts]
    links: dict[tuple[int, int], Link] = {}
    for source, text in enumerate(texts):
        for target, port in enumerate(ports):
            if target == source:
                continue
            link = links[source, target] = Link(port)
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, link.serve, [listener])
            text = text.replace(f"@127.0.0.1:{port}", f"@127.0.0.1:{listener.socket.getsockname()[1]}")
        (homes[source] / SETTINGS).write_text(text)
    return links


class Payer:
    """Sends transfers of 1, one nonce after the other, and does not rest until each is in a block."""

    def __init__(self, validators: Validators, rng: random.Random) -> None:
        self._validators = validators
        self._rng = rng
        self.sent = 0
        self.is_done = False
        self.ended = trio.Event()

    async def run(self) -> None:
        """Pay until told that it is enough."""
        while not self.is_done:
            call = TransferCall(NATIVE, PAYEE, 1)
            raw = sign_call(PAYER, 1337, ADJUDICATOR, call, self.sent, 1)
            await self._insist(raw)
            self.sent += 1
        self.ended.set()

    async def _insist(self, raw: bytes) -> None:
        while True:
            up = self._validators.up()
            if up:
                with trio.move_on_after(3):
                    try:
                        async with reach(self._rng.choice(up)) as chain:
                            hash = await chain.submit(raw)
                            for _ in range(15):
                                if await chain.receipt(hash) is not None:
                                    return
                                await trio.sleep(0.1)
                    except (ChainUnavailable, TransactionRefused):
                        pass
            await trio.sleep(0.1)


async def check_payments(validators: Validators, sent: int) -> None:
    """Check that every transfer was made once, at each validator."""
    for validator in validators.all:
        async with reach(validator) as chain:
            assert await chain.nonce(PAYER.address) == sent
            assert await chain.balance(PAYEE, NATIVE) == sent


FAULTS = ("kill", "pause", "cut", "restart all", "two at once")


async def campaign(seed: int, faults: int, tell: bool = True) -> None:
    """Run one."""
    rng = random.Random(seed)
    liar = rng.choice((None, None, 0, 1, 2, 3))
    async with open_validators(liar=liar) as validators, trio.open_nursery() as nursery:
        payer = Payer(validators, rng)
        nursery.start_soon(payer.run)
        for _ in range(faults):
            fault, number = rng.choice(FAULTS), rng.randrange(4)
            if tell:
                said = f"{fault}, validator {number}, after {payer.sent} transfers; liar: {liar}"
                print(f"seed {seed}: {said}", flush=True)
            await strike(validators, fault, number)
        payer.is_done = True
        await validators.goes_on(range(4))
        with trio.fail_after(WELL_SECONDS):
            await payer.ended.wait()
        await validators.goes_on(range(4))
        await validators.check_agreement()
        await check_payments(validators, payer.sent)
        height = check_roots(await validators.end())
    if tell:
        print(f"seed {seed}: well: {height} blocks, {payer.sent} transfers, each once, equal on all four", flush=True)


async def strike(validators: Validators, fault: str, number: int) -> None:
    """Let something happen, see that the chain does what it must, and make it good."""
    victim, second = validators.all[number], validators.all[(number + 1) % 4]
    others = [other.number for other in validators.all if other is not victim]
    if fault == "kill":
        await victim.kill()
        await validators.goes_on(others)
        await victim.start()
    elif fault == "pause":
        victim.pause()
        await validators.goes_on(others)
        victim.resume()
    elif fault == "cut":
        await validators.cut_off(number)
        await validators.goes_on(others)
        assert await validators.stands_still([number]), "a validator that is cut off makes blocks alone"
        validators.join()
    elif fault == "restart all":
        for each in validators.all:
            await each.kill()
        for each in validators.all:
            await each.start()
    else:
        await victim.kill()
        second.pause()
        rest = [other for other in others if other != second.number]
        assert await validators.stands_still(rest), "half of the validators make blocks"
        second.resume()
        await validators.goes_on([*rest, second.number])
        await victim.start()
    await validators.goes_on(range(4))


def main() -> int:
    """Run campaigns from a seed on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--faults", type=int, default=5)
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.runs):
        trio.run(campaign, seed, options.faults)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
