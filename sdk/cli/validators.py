"""`tally chain run --validators`, `found` and `validate`: one ledger on several validators, under CometBFT."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from tallystick.sdk.cli.options import Json
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import run_guarded

if TYPE_CHECKING:
    import trio

    from tallystick.settlement.replicated.chain import ReplicatedChain
    from tallystick.settlement.simulated.branch import ChainSettings
    from tallystick.settlement.simulated.ledger import Mint

MODULE = "tallystick.sdk.cli"


def found_homes(data: Path, count: int, settings: ChainSettings, coins: Sequence[Mint]) -> list[Path]:
    """Make the homes of so many validators, or find them there."""
    from tallystick.channels.ports import system_clock, system_entropy
    from tallystick.settlement.replicated.genesis import Genesis
    from tallystick.settlement.replicated.validator import found_validators

    genesis = Genesis(
        time=int(system_clock()),
        chain_id=settings.chain_id,
        contract=settings.contract,
        reward_bps=settings.reward_bps,
        gas_limit=settings.gas_limit,
        dev=settings.dev,
        mints=tuple(coins),
    )
    return found_validators(data, count, genesis, settings.interval, system_entropy)


async def run_validators(homes: Sequence[Path], host: str, port: int, as_json: bool) -> None:
    """Run all validators of one machine, each a process, until a signal says to stop."""
    import trio

    def tell(number: int, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        say(text if as_json else f"validator {number}: {text}")

    async def run(number: int, home: Path) -> None:
        place = ("--host", host, "--port", str(port + number if port else 0))
        command = [sys.executable, "-m", MODULE, "chain", "validate", "--data", str(home), *place, "--until-input-ends"]
        child = await trio.lowlevel.open_process(
            [*command, *(["--json"] * as_json)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdin is not None and child.stdout is not None
        try:
            async for line in child.stdout:
                tell(number, bytes(line))
            await child.wait()
            say(f"tally: validator {number} ended (code {child.returncode})", err=True)
        finally:
            with trio.CancelScope(shield=True):
                await child.stdin.aclose()
                await child.wait()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            for number, home in enumerate(homes):
                nursery.start_soon(run, number, home)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


def validate(
    data: Annotated[Path, Option(help="The validator's home, which `tally chain run --validators` or --sync made.")],
    host: Annotated[str, Option(help="Address that its JSON-RPC node listens on.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 8545,
    sync: Annotated[
        str | None,
        Option(
            metavar="URL,URL",
            help="Chain nodes of two validators at least: make a home that joins their chain, by a snapshot.",
        ),
    ] = None,
    snapshots: Annotated[
        int, Option(min=0, help="Blocks from one snapshot for others who join to the next; 0 takes none.")
    ] = 1_000,
    until_input_ends: Annotated[bool, Option("--until-input-ends", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Run one validator until it is told to stop (Ctrl-C or SIGTERM): its ledger, its engine, its chain node."""

    def work() -> None:
        import trio

        trio.run(_validate, data, host, port, sync, snapshots, until_input_ends, as_json)

    run_guarded(work)


async def _validate(
    home: Path, host: str, port: int, sync: str | None, snapshots: int, until_input_ends: bool, as_json: bool
) -> None:
    import trio

    from tallystick.channels.ports import system_entropy
    from tallystick.channels.storage.sqlite.store import open_store
    from tallystick.settlement.replicated.joining import join_home
    from tallystick.settlement.replicated.validator import free_port, run_validator
    from tallystick.settlement.simulated.sqlite import SCHEMA

    def started(chain: ReplicatedChain, url: str) -> None:
        facts: dict[str, Any] = {
            "url": url,
            "chain_id": chain.chain_id,
            "contract": f"0x{chain.contract.hex()}",
            "number": chain.newest.header.number,
        }
        if as_json:
            say_json({"event": "listening", **facts})
        else:
            say(f"chain {chain.chain_id} at {url}, adjudicator {facts['contract']}, block {facts['number']}")

    def refused(reason: str) -> None:
        say(f"tally: {reason}", err=True)

    if sync is not None:
        await join_home(home, sync.split(","), free_port(), system_entropy)
    store = open_store(home / "ledger", [SCHEMA], owner="tally chain validate")
    stopped = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_wait_signal, stopped)
            if until_input_ends:
                nursery.start_soon(_wait_input, stopped)
            await run_validator(
                home,
                store,
                host,
                port,
                system_entropy,
                started=started,
                stop=stopped.wait,
                refused=refused,
                snapshots=snapshots,
            )
            nursery.cancel_scope.cancel()
    finally:
        store.close()
    say_json({"event": "stopped"}) if as_json else say("stopped")


async def _wait_signal(stopped: trio.Event) -> None:
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            stopped.set()


async def _wait_input(stopped: trio.Event) -> None:
    import os

    import trio

    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as source:
        async for _ in source:
            pass
    stopped.set()
