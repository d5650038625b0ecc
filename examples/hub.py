"""A routing hub: whoever opens a channel to it can pay, and be paid by, all others who did. It earns the fees.

From nothing to a payment between two who have no channel with each other:

    export TALLY_PASSWORD=example
    tally chain run --data net/chain --dev &
    tally chain wait
    python examples/hub.py --data net/hub --base-fee 1 --ppm 500 &
    tally node wait --data net/hub
    for name in alice shop; do
        tally init --data net/$name --light --listen ""
        tally node run --data net/$name &
        tally node wait --data net/$name
        tally chain mint "$(tally node info --data net/$name | awk '/^address/ {print $2}')" 1000000000000000000
        tally channel open "$(cat net/hub/address)" --deposit 1000000 --data net/$name
        tally channel wait --receivable 1000 --data net/$name   # the hub puts as much in
    done
    invoice=$(tally invoice create 250 --memo "a tin of tea" --data net/shop)
    tally pay "$invoice" --max-fee 5 --data net/alice

`shop.py` and `paid_api.py` go on from here.

A channel carries payments to its owner only if there is something in it on the hub's side. So the hub deposits as much
as who opened it, up to `--match`. That binds the hub's money: a real one would ask a price for it.
"""

from __future__ import annotations

import argparse
import random
import sys
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
from tallystick.router.forwarding.circuits import ForwardRecord
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.control.server import open_control
from tallystick.sdk.daemon.keystore import KEYSTORE, create, find_password
from tallystick.settlement.ethereum.rpc_client import RpcChain

COINS = 10**18
"""What we take from a development chain if we have nothing."""


def open_key(directory: Path) -> PrivateKey:
    """Open the key in this directory, or make one."""
    if (directory / KEYSTORE).exists():
        return load_key(directory)
    return create(directory, find_password(None, None), light=True)


async def get_coins(node: Node, chain: RpcChain) -> None:
    """Have something to deposit. Only a development chain gives coins away; on a real one, you would buy some."""
    if await node.balance() == 0:
        await chain.mint(node.address, COINS, NATIVE)
        while await node.balance() == 0:
            await chain.wait((await chain.head()).hash)


def lonely(channel: ChannelHandle) -> bool:
    """Whether a channel is open and nothing of ours was ever put into it."""
    inner = channel.view.channel
    return channel.phase is Phase.OPEN and channel.connected and not inner.funding(inner.side)


async def match_deposits(node: Node, most: int) -> None:
    """Put as much into each new channel as its opener did. What fails is tried again after the next event."""
    while True:
        await node.until(lambda: any(map(lonely, node.channels)))
        for channel in filter(lonely, node.channels):
            inner = channel.view.channel
            theirs = inner.funding(inner.peer_side)
            try:
                await channel.deposit(min(theirs, most))
                print(f"{name(channel.id)}: put {min(theirs, most)} in, as its opener did", flush=True)
            except TallystickError as error:
                print(f"{name(channel.id)}: no deposit now: {error}", flush=True)


def name(channel: bytes) -> str:
    """Return a channel's name, short."""
    return channel.hex()[:8]


def line(forward: ForwardRecord, earned: int) -> str:
    """Return one forwarded payment as a line of the table."""
    circuit = forward.circuit
    way = f"{name(circuit.incoming)} → {name(circuit.outgoing)}"
    return f"{way}  {circuit.amount_out:>12}  {circuit.fee:>8}  {forward.outcome.name.lower():<8}  {earned:>10}"


async def report(node: Node) -> None:
    """Print all forwarded payments, those of earlier runs too, and then each as it ends."""
    position = earned = 0
    print(f"{'over channels':<20}{'amount':>13}  {'fee':>8}  {'outcome':<8}  {'earned':>10}", flush=True)
    while True:
        for forward in node.forwards_after(position):
            position = forward.position
            earned += forward.circuit.fee if forward.outcome is ForwardOutcome.PAID else 0
            print(line(forward, earned), flush=True)
        await node.until(partial(more_than, node, position))


def more_than(node: Node, position: int) -> bool:
    """Whether a forwarded payment behind a position has ended."""
    return bool(node.forwards_after(position, 1))


async def run(arguments: argparse.Namespace) -> None:
    """Run the hub until it is interrupted."""
    directory: Path = arguments.data
    key = open_key(directory)
    policy = ForwardingPolicy(base_fee=arguments.base_fee, fee_ppm=arguments.ppm)
    config = Config(listen=("127.0.0.1", arguments.port), routing=RoutingOptions(policy=policy))
    async with (
        open_rpc_chain(arguments.chain, jitter=random.Random().random) as chain,
        open_node(directory, key=key, chain=chain, config=config) as node,
        trio.open_nursery() as nursery,
    ):
        await get_coins(node, chain)
        (directory / "address").write_text(f"{node.peer_address}\n")
        print(f"open a channel to {node.peer_address}", flush=True)
        nursery.start_soon(match_deposits, node, arguments.match)
        nursery.start_soon(report, node)
        async with open_control(node, directory) as control:  # so that `tally` works on this node, too
            await control.stop_asked.wait()
        nursery.cancel_scope.cancel()


def main() -> None:
    """Read the command line and run the hub."""
    parser = argparse.ArgumentParser(description="Carry payments between all who open a channel to this hub.")
    parser.add_argument("--data", type=Path, required=True, help="directory of this node")
    parser.add_argument("--chain", default="http://127.0.0.1:8545", help="URL of the chain node")
    parser.add_argument("--port", type=int, default=0, help="where others connect; 0 takes any free port")
    parser.add_argument("--base-fee", type=int, default=1, help="for each payment")
    parser.add_argument("--ppm", type=int, default=500, help="fee per million units")
    parser.add_argument("--match", type=int, default=10_000_000, help="the most to put into others' channels")
    try:
        trio.run(run, parser.parse_args())
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"hub: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
