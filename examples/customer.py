"""Buys from `merchant.py`: connects, opens a channel if there is none, pays for an order, prints the receipt.

    python examples/customer.py --data shop/customer --merchant "$(cat shop/merchant/address)" --price 250 --order tea-1

How to start a chain and the merchant stands in `merchant.py`. The order number is also the payment's idempotency key:
run the same command again, after a crash or not, and the order is paid once.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import trio

from tallystick import (
    NATIVE,
    ChannelHandle,
    Config,
    Node,
    PeerAddress,
    PrivateKey,
    TallystickError,
    load_key,
    open_node,
    open_rpc_chain,
)
from tallystick.channels.protocol.core import Phase
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


async def channel_with(node: Node, merchant: PeerAddress, deposit: int) -> ChannelHandle:
    """Return the channel that we have with the merchant, or open one."""
    peer = await node.connect(merchant)
    for channel in node.channels:
        if channel.peer == peer and channel.phase in (Phase.OPENING, Phase.OPEN):
            await channel.wait_usable()
            return channel
    print(f"opening a channel with a deposit of {deposit}", flush=True)
    return await node.open_channel(merchant, deposit)


async def buy(arguments: argparse.Namespace) -> None:
    """Pay for one order."""
    key = open_key(arguments.data)
    merchant = PeerAddress.parse(arguments.merchant)
    async with (
        open_rpc_chain(arguments.chain, jitter=random.Random().random) as chain,
        open_node(arguments.data, key=key, chain=chain, config=Config(listen=None)) as node,
    ):
        with trio.fail_after(arguments.patience):
            await get_coins(node, chain)
            channel = await channel_with(node, merchant, arguments.deposit)
            receipt = await channel.pay(arguments.price, arguments.order.encode(), key=f"order {arguments.order}")
        print(
            f"paid {receipt.amount} for order {arguments.order}: payment {receipt.payment} of channel "
            f"{receipt.channel.hex()[:16]}; {channel.spendable} left to spend"
        )


def main() -> None:
    """Read the command line and buy."""
    parser = argparse.ArgumentParser(description="Pay a merchant for an order through a channel.")
    parser.add_argument("--data", type=Path, required=True, help="directory of this node")
    parser.add_argument("--merchant", required=True, help="what the merchant prints: <public key>@<host>:<port>")
    parser.add_argument("--order", required=True, help="the order's number")
    parser.add_argument("--chain", default="http://127.0.0.1:8545", help="URL of the chain node")
    parser.add_argument("--price", type=int, default=250, help="in the coin's smallest unit")
    parser.add_argument("--deposit", type=int, default=100_000, help="what a new channel gets")
    parser.add_argument("--patience", type=float, default=120, help="seconds until it gives up")
    try:
        trio.run(buy, parser.parse_args())
    except* trio.TooSlowError:
        sys.exit("customer: the merchant or the chain did not answer in time; run it again, nothing is paid twice")
    except* (TallystickError, OSError) as group:
        sys.exit(f"customer: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
