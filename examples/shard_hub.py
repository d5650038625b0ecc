"""A hub between two shards: whoever has a channel to it on one pays whoever has one on the other, and nobody trusts it.

From nothing to a payment from shard 0 to shard 1:

    export TALLY_PASSWORD=example
    tally chain run --data two/chain --dev --shards 2 &          # shard 0 at 8545 (chain 1337), shard 1 at 8546 (1338)
    tally chain wait && tally chain wait --chain http://127.0.0.1:8546
    python examples/shard_hub.py run --data two/hub &
    tally init --data two/alice --light --listen ""
    tally init --data two/bob --light --listen "" --chain http://127.0.0.1:8546 --chain-id 1338
    here=http://127.0.0.1:8545 there=http://127.0.0.1:8546
    for name in alice bob; do tally node run --data two/$name & tally node wait --data two/$name; done
    alice=$(tally ledger account --data two/alice) bob=$(tally ledger account --data two/bob)
    tally chain mint "$alice" 1000000000000000000 --chain $here
    tally chain mint "$bob" 1000000000000000000 --chain $there
    tally channel open "$(cat two/hub/here)" --deposit 1000000 --data two/alice
    tally channel open "$(cat two/hub/there)" --deposit 1000 --data two/bob
    tally channel wait --receivable 1000 --data two/bob         # the hub puts something in, to pay Bob from

    invoice=$(tally invoice create 250 --memo "a tin of tea" --data two/bob)
    tally pay "$(python examples/shard_hub.py mirror "$invoice" --data two/hub)" --data two/alice

The hub has a node on each shard. It gives out an invoice of its own for the payee's, under the same payment hash, holds
what comes for it, pays the payee, and takes what it holds with the secret that this brings: paid on both shards or on
neither, whatever dies. That is `ShardHub`; what to copy from here are the times in `configs`.
"""

from __future__ import annotations

import argparse
import random
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import trio

from tallystick import (
    NATIVE,
    ChannelHandle,
    Config,
    Node,
    PrivateKey,
    TallystickError,
    load_key,
    open_node,
    open_rpc_chain,
)
from tallystick.channels.protocol.core import Phase
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.router.network.options import PaymentOptions
from tallystick.router.receiving.payee import PayeeOptions
from tallystick.router.sending.payer import Limits
from tallystick.sdk.daemon.keystore import KEYSTORE, create, find_password
from tallystick.sdk.node.shard_hub import ShardHub
from tallystick.sdk.node.sqlite import MIRRORS_SCHEMA
from tallystick.settlement.ethereum.rpc_client import RpcChain

COINS = 10**18
"""What we take from a development chain on each shard, if we have nothing there."""

LINE_MAX = 8_192
"""Bytes of an invoice that is to be mirrored."""


def port_of(address: Path) -> int:
    """Return the port where a node listened last, which its peers know; at the first start, any free one."""
    return int(address.read_text().strip().rpartition(":")[2]) if address.exists() else 0


def configs(directory: Path) -> tuple[Config, Config]:
    """Return what the nodes are set to: locks here must outlive those there, by what `ShardHub` says."""
    here = PaymentOptions(patience=PayeeOptions(claim=4 * 3_600))
    there = PaymentOptions(limits=Limits(lock_max=3_600))
    at, other = (("127.0.0.1", port_of(directory / name)) for name in ("here", "there"))
    return Config(listen=at, payments=here), Config(listen=other, payments=there)


def open_key(directory: Path) -> PrivateKey:
    """Open the key in this directory, or make one. It may be the same on both shards: they are two chains."""
    if (directory / KEYSTORE).exists():
        return load_key(directory)
    return create(directory, find_password(None, None), light=True)


async def get_coins(node: Node, chain: RpcChain) -> None:
    """Have something to deposit. Only a development chain gives coins away."""
    if await node.balance() == 0:
        await chain.mint(node.address, COINS, NATIVE)
        while await node.balance() == 0:
            await chain.wait((await chain.head()).hash)


def lonely(channel: ChannelHandle) -> bool:
    """Whether a channel is open and nothing of ours was ever put into it."""
    inner = channel.view.channel
    return channel.phase is Phase.OPEN and channel.connected and not inner.funding(inner.side)


async def deposit_in_all(node: Node, amount: int) -> None:
    """Put something into each new channel, to pay its opener from. It binds our money: a real hub would ask a price."""
    while True:
        await node.until(lambda: any(map(lonely, node.channels)))
        for channel in filter(lonely, node.channels):
            try:
                await channel.deposit(amount)
                print(f"{channel.id.hex()[:8]}: put {amount} in", flush=True)
            except TallystickError as error:
                print(f"{channel.id.hex()[:8]}: no deposit now: {error}", flush=True)


async def answer(hub: ShardHub, stream: trio.SocketStream) -> None:
    """Read an invoice, a line, and write the one that mirrors it."""
    asked = b""
    async with stream:
        while b"\n" not in asked and len(asked) < LINE_MAX:
            part = await stream.receive_some()
            if not part:
                return
            asked += part
        try:
            text = await hub.mirror(asked.partition(b"\n")[0].decode("ascii", "replace").strip())
        except TallystickError as error:
            text = f"error: {error}"
        await stream.send_all(f"{text}\n".encode())


async def run(arguments: argparse.Namespace) -> None:
    """Run the hub until it is interrupted."""
    directory: Path = arguments.data
    key, (here_config, there_config) = open_key(directory), configs(directory)
    jitter = random.Random().random
    with closing(open_store(directory / "mirrors", [MIRRORS_SCHEMA], owner="shard hub")) as store:
        async with (
            open_rpc_chain(arguments.here, jitter=jitter) as chain,
            open_rpc_chain(arguments.there, jitter=jitter) as other,
            open_node(directory / "node-here", key=key, chain=chain, config=here_config) as here,
            open_node(directory / "node-there", key=key, chain=other, config=there_config) as there,
            trio.open_nursery() as nursery,
        ):
            hub = ShardHub(here, there, store, fee=lambda amount: arguments.base_fee + amount * arguments.ppm // 10**6)
            for node, its in ((here, chain), (there, other)):
                await get_coins(node, its)
            nursery.start_soon(hub.run)
            nursery.start_soon(deposit_in_all, there, arguments.deposit)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, partial(answer, hub), listeners)
            (directory / "port").write_text(str(listeners[0].socket.getsockname()[1]))
            (directory / "here").write_text(f"{here.peer_address}\n")
            (directory / "there").write_text(f"{there.peer_address}\n")
            print(f"open a channel to {here.peer_address}, be paid over {there.peer_address}", flush=True)
            await trio.sleep_forever()


async def mirror(arguments: argparse.Namespace) -> None:
    """Ask a hub that runs to mirror an invoice, and print the invoice to pay."""
    stream = await trio.open_tcp_stream("127.0.0.1", int((arguments.data / "port").read_text()))
    async with stream:
        await stream.send_all(f"{arguments.invoice}\n".encode())
        answered = b""
        while part := await stream.receive_some():
            answered += part
    text = answered.decode().strip()
    sys.exit(f"hub: {text}") if text.startswith("error") or not text else print(text)


def main() -> None:
    """Read the command line, and run the hub or ask it."""
    parser = argparse.ArgumentParser(description="Carry payments between two shards.")
    commands = parser.add_subparsers(required=True)
    serve = commands.add_parser("run", help="run the hub")
    serve.add_argument("--here", default="http://127.0.0.1:8545", help="URL of the shard on which it is paid")
    serve.add_argument("--there", default="http://127.0.0.1:8546", help="URL of the shard on which it pays")
    serve.add_argument("--base-fee", type=int, default=1, help="for each payment")
    serve.add_argument("--ppm", type=int, default=500, help="fee per million units")
    serve.add_argument("--deposit", type=int, default=1_000_000, help="what to put into a channel to each payee")
    serve.set_defaults(do=run)
    ask = commands.add_parser("mirror", help="ask the hub for an invoice that mirrors a payee's")
    ask.add_argument("invoice")
    ask.set_defaults(do=mirror)
    for command in (serve, ask):
        command.add_argument("--data", type=Path, required=True, help="directory of the hub")
    arguments = parser.parse_args()
    try:
        trio.run(arguments.do, arguments)
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"hub: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
