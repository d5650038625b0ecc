"""Sells one item: waits for payments whose memo is an order number, and ships each order exactly once.

Two terminals, from nothing to a sale:

    # first terminal: a development chain, and the merchant
    export TALLY_PASSWORD=example
    tally chain run --data shop/chain --dev &
    tally chain wait
    python examples/merchant.py --data shop/merchant --item "a tin of tea" --price 250

    # second terminal: the customer
    export TALLY_PASSWORD=example
    tally node wait --data shop/merchant
    python examples/customer.py --data shop/customer --merchant "$(cat shop/merchant/address)" --price 250 --order tea-1

Run the customer again with another order number: it uses the same channel, and pays within milliseconds.

What makes it safe: the file `shipped.jsonl` is the order to the warehouse *and* the memory of what was handled. Each
line carries the payment's cursor and is on disk before the next payment is looked at; after a crash the node gives
every payment behind the last cursor again. So nothing is missed, and nothing is shipped twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from pathlib import Path

import trio

from tallystick import Config, IncomingPayment, Node, PrivateKey, TallystickError, load_key, open_node, open_rpc_chain
from tallystick.channels.words import plain
from tallystick.sdk.control.server import open_control
from tallystick.sdk.daemon.keystore import KEYSTORE, create, find_password


class Shop:
    """What was sold, in a file that survives any crash."""

    def __init__(self, path: Path, item: str, price: int) -> None:
        self.item = item
        self.price = price
        self.cursor = ""
        self.orders: set[str] = set()
        self._file = path.open("a+", encoding="utf-8")
        self._resume()

    def _resume(self) -> None:
        """Read what was handled before; cut off a last line that a crash left unfinished."""
        self._file.seek(0)
        whole, _, _ = self._file.read().rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines()]
        self._file.truncate(len(whole.encode()) + 1 if whole else 0)
        for line in lines:
            self.cursor = line["cursor"]
            if line["action"] == "ship":
                self.orders.add(line["order"])

    def judge(self, payment: IncomingPayment) -> str:
        """Say what a payment is for."""
        order = order_of(payment)
        if payment.amount != self.price:
            return "refund: wrong amount"
        return "refund: shipped before" if order in self.orders else "ship"

    def record(self, payment: IncomingPayment, action: str) -> None:
        """Write down, for good, what is done about a payment."""
        line: dict[str, str | int] = {"action": action, "item": self.item, "order": order_of(payment)}
        line |= {"amount": payment.amount, "channel": payment.channel.hex(), "cursor": payment.cursor}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.cursor = payment.cursor
        if action == "ship":
            self.orders.add(order_of(payment))


def order_of(payment: IncomingPayment) -> str:
    """Return the order number: the payment's memo."""
    return payment.memo.decode(errors="replace")


def open_key(directory: Path) -> PrivateKey:
    """Open the key in this directory, or make one."""
    if (directory / KEYSTORE).exists():
        return load_key(directory)
    return create(directory, find_password(None, None), light=True)


async def sell(arguments: argparse.Namespace) -> None:
    """Run the shop until it is interrupted."""
    directory: Path = arguments.data
    key = open_key(directory)
    config = Config(listen=("127.0.0.1", arguments.port))
    async with (
        open_rpc_chain(arguments.chain, jitter=random.Random().random) as chain,
        open_node(directory, key=key, chain=chain, config=config) as node,
    ):
        shop = Shop(directory / "shipped.jsonl", arguments.item, arguments.price)
        (directory / "address").write_text(f"{node.peer_address}\n")
        print(f"{shop.item} costs {shop.price}; customers connect to {node.peer_address}", flush=True)
        async with (
            open_control(node, directory) as control,  # so that `tally` works on this node, too
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(ship, node, shop, arguments.packing)
            await control.stop_asked.wait()
            nursery.cancel_scope.cancel()


async def ship(node: Node, shop: Shop, packing: float) -> None:
    """Handle each payment, from the last one on that was handled."""
    async for payment in node.incoming(after=shop.cursor):
        action = shop.judge(payment)
        print(f"paid: order {plain(order_of(payment))}, {payment.amount}", flush=True)
        await trio.sleep(packing)
        shop.record(payment, action)
        print(f"{action}: order {plain(order_of(payment))}", flush=True)


def main() -> None:
    """Read the command line and sell."""
    parser = argparse.ArgumentParser(description="Sell one item for payments through a channel.")
    parser.add_argument("--data", type=Path, required=True, help="directory of this node")
    parser.add_argument("--chain", default="http://127.0.0.1:8545", help="URL of the chain node")
    parser.add_argument("--port", type=int, default=0, help="where customers connect; 0 takes any free port")
    parser.add_argument("--item", default="a tin of tea")
    parser.add_argument("--price", type=int, default=250, help="in the coin's smallest unit")
    parser.add_argument("--packing", type=float, default=0, help="seconds that it takes to pack an order")
    try:
        trio.run(sell, parser.parse_args())
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"merchant: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
