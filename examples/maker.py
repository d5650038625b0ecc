"""A maker between two chains: who has a channel to it on one pays who has one on the other, and nobody trusts it.

From nothing to a payment from one chain to another, here two shards of a simulated ledger, at three units for two:

    export TALLY_PASSWORD=example
    tally chain run --data two/chain --dev --shards 2 &          # shard 0 at 8545 (chain 1337), shard 1 at 8546 (1338)
    tally chain wait && tally chain wait --chain http://127.0.0.1:8546
    python examples/maker.py run --data two/maker --rate 3:2 &
    tally init --data two/alice --light --listen ""
    tally init --data two/bob --light --listen "" --chain http://127.0.0.1:8546 --chain-id 1338
    one=http://127.0.0.1:8545 other=http://127.0.0.1:8546
    for name in alice bob; do tally node run --data two/$name & tally node wait --data two/$name; done
    alice=$(tally ledger account --data two/alice) bob=$(tally ledger account --data two/bob)
    tally chain mint "$alice" 1000000000000000000 --chain $one
    tally chain mint "$bob" 1000000000000000000 --chain $other
    tally channel open "$(cat two/maker/one)" --deposit 1000000 --data two/alice
    tally channel open "$(cat two/maker/other)" --deposit 1000 --data two/bob
    tally channel wait --receivable 1000 --data two/bob         # the maker puts something in, to pay Bob from

    invoice=$(tally invoice create 250 --memo "a tin of tea" --data two/bob)
    tally pay "$(python examples/maker.py cross "$invoice" --data two/maker)" --data two/alice

The maker has a node on each chain. It gives out an invoice of its own for the payee's, under the same hash, holds
what comes for it, pays the payee, and takes what it holds with the secret that this brings: paid on both chains or on
neither, whatever dies. It goes both ways, the other way at the inverse rate. That is `Maker`; what to copy from here is
`source_config`, which gives its nodes the time that they need.
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
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.maker import Maker, source_config
from tallystick.sdk.chains.margins import risk_of
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.chains.sqlite import MAKER_SCHEMA
from tallystick.sdk.daemon.keystore import KEYSTORE, create, find_password
from tallystick.settlement.ethereum.rpc_client import RpcChain

COINS = 10**18
"""What we take from each development chain, if we have nothing there."""

LINE_MAX = 8_192
"""Bytes of an invoice that is to be carried across."""


def port_of(address: Path) -> int:
    """Return the port where a node listened last, which its peers know; at the first start, any free one."""
    return int(address.read_text().strip().rpartition(":")[2]) if address.exists() else 0


def config_of(directory: Path, name: str, chain: RpcChain) -> Config:
    """Return what a node is set to: it listens where it did, and gives itself the time that its chain may take."""
    config = Config(listen=("127.0.0.1", port_of(directory / name)))
    return source_config(config, risk_of(chain.figures, config.confirmations))


def open_key(directory: Path) -> PrivateKey:
    """Open the key in this directory, or make one. It may be the same on both chains."""
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


async def answer(maker: Maker, stream: trio.SocketStream) -> None:
    """Read an invoice, a line, and write the one to pay for it."""
    asked = b""
    async with stream:
        while b"\n" not in asked and len(asked) < LINE_MAX:
            part = await stream.receive_some()
            if not part:
                return
            asked += part
        try:
            text = await maker.cross(asked.partition(b"\n")[0].decode("ascii", "replace").strip())
        except TallystickError as error:
            text = f"error: {error}"
        await stream.send_all(f"{text}\n".encode())


def set_rates(maker: Maker, one: Node, other: Node, arguments: argparse.Namespace) -> None:
    """Take so many units of one chain's coin for so many of the other's, and the other way round."""
    take, give = map(int, arguments.rate.split(":"))
    first, second = (ChainAsset(node.chain.chain_id, node.chain.contract) for node in (one, other))
    for source, target, asked, given in ((first, second, take, give), (second, first, give, take)):
        maker.set_rate(Rate(source=source, target=target, take=asked, give=given, base=arguments.base_fee))


async def run(arguments: argparse.Namespace) -> None:
    """Run the maker until it is interrupted."""
    directory: Path = arguments.data
    key, jitter = open_key(directory), random.Random().random
    with closing(open_store(directory / "maker", [MAKER_SCHEMA], owner="maker")) as store:
        async with (
            open_rpc_chain(arguments.one, jitter=jitter) as chain,
            open_rpc_chain(arguments.other, jitter=jitter) as second,
            open_node(directory / "node-one", key=key, chain=chain, config=config_of(directory, "one", chain)) as one,
            open_node(
                directory / "node-other", key=key, chain=second, config=config_of(directory, "other", second)
            ) as other,
            trio.open_nursery() as nursery,
        ):
            maker = Maker([one, other], store)
            set_rates(maker, one, other, arguments)
            nursery.start_soon(maker.run)
            for node, its in ((one, chain), (other, second)):
                await get_coins(node, its)
                nursery.start_soon(deposit_in_all, node, arguments.deposit)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, partial(answer, maker), listeners)
            (directory / "port").write_text(str(listeners[0].socket.getsockname()[1]))
            (directory / "one").write_text(f"{one.peer_address}\n")
            (directory / "other").write_text(f"{other.peer_address}\n")
            print(f"open a channel to {one.peer_address}, be paid over {other.peer_address}", flush=True)
            await trio.sleep_forever()


async def cross(arguments: argparse.Namespace) -> None:
    """Ask a maker that runs to carry a payment across, and print the invoice to pay."""
    stream = await trio.open_tcp_stream("127.0.0.1", int((arguments.data / "port").read_text()))
    async with stream:
        await stream.send_all(f"{arguments.invoice}\n".encode())
        answered = b""
        while part := await stream.receive_some():
            answered += part
    text = answered.decode().strip()
    sys.exit(f"maker: {text}") if text.startswith("error") or not text else print(text)


def main() -> None:
    """Read the command line, and run the maker or ask it."""
    parser = argparse.ArgumentParser(description="Carry payments between two chains.")
    commands = parser.add_subparsers(required=True)
    serve = commands.add_parser("run", help="run the maker")
    serve.add_argument("--one", default="http://127.0.0.1:8545", help="URL of one chain")
    serve.add_argument("--other", default="http://127.0.0.1:8546", help="URL of the other chain")
    serve.add_argument("--rate", default="1:1", help="units of one's coin that are asked for, for units of the other's")
    serve.add_argument("--base-fee", type=int, default=1, help="for each payment, in the units that are asked for")
    serve.add_argument("--deposit", type=int, default=1_000_000, help="what to put into a channel to each payee")
    serve.set_defaults(do=run)
    ask = commands.add_parser("cross", help="ask for the invoice to pay for a payee's on the other chain")
    ask.add_argument("invoice")
    ask.set_defaults(do=cross)
    for command in (serve, ask):
        command.add_argument("--data", type=Path, required=True, help="directory of the maker")
    arguments = parser.parse_args()
    try:
        trio.run(arguments.do, arguments)
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"maker: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
