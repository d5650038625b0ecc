"""The process of one shard: its ledger, mined by itself, behind JSON-RPC. `shards` starts one for each.

    python -m tallystick.sdk.daemon.shard_process OPTIONS     (JSON: `ShardCommand`)

It prints one line of JSON once it listens, and stops when its input ends, which also is when its supervisor is gone,
or when it is told to (SIGTERM).
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import msgspec
import trio

from tallystick.channels.errors import TallystickError
from tallystick.channels.ports import system_clock
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.sdk.daemon.shard_files import read_group, read_shard_key, shard_folder
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.ledger import Mint
from tallystick.settlement.simulated.rpc_server import serve_chain
from tallystick.settlement.simulated.shard import Shard
from tallystick.settlement.simulated.sqlite import SCHEMA


class Coins(msgspec.Struct, frozen=True):
    """Coins of the genesis block."""

    account: str
    asset: str
    amount: int


class ShardCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What such a process is told."""

    data: str
    """The group's directory."""
    number: int
    host: str
    port: int
    interval: float
    dev: bool
    coins: tuple[Coins, ...] = ()


async def run_shard(options: ShardCommand) -> None:
    """Run a shard until its input ends or it is told to stop."""
    data = Path(options.data)
    group, key = read_group(data), read_shard_key(data, options.number)
    shard = Shard(group, options.number, key)
    settings = ChainSettings(
        chain_id=group.chain_of(options.number), contract=group.contract, interval=options.interval, dev=options.dev
    )
    genesis = [
        Mint(Address(bytes.fromhex(each.account)), Address(bytes.fromhex(each.asset)), each.amount)
        for each in options.coins
    ]
    store = open_store(shard_folder(data, options.number), [SCHEMA], owner="tally chain run")
    try:
        chain = SimulatedChain(settings, system_clock, genesis=genesis, store=store, shard=shard)

        def started(url: str) -> None:
            line = {
                "shard": options.number,
                "url": url,
                "chain_id": chain.chain_id,
                "number": chain.newest.header.number,
            }
            sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
            sys.stdout.flush()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(chain.run)
            await serve_chain(chain, options.host, options.port, started=started, stop=_told_to_stop)
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def _told_to_stop() -> None:
    """Return when the input ends, or at a signal."""
    async with trio.open_nursery() as nursery:

        async def wait_for_signal() -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    break
            nursery.cancel_scope.cancel()

        async def wait_for_end() -> None:
            stream = trio.lowlevel.FdStream(0)
            while await stream.receive_some():
                pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait_for_signal)
        nursery.start_soon(wait_for_end)


def main() -> int:
    """Run the shard that the command line describes."""
    failed = 0
    try:
        trio.run(run_shard, msgspec.json.decode(sys.argv[1], type=ShardCommand))
    except* (TallystickError, OSError) as group:
        failed = 1
        for error in group.exceptions:
            sys.stderr.write(f"tally: {error}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
