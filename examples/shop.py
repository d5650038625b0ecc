"""Sells by invoice: shows one as a QR code for each order, and ships each paid order exactly once.

It talks to a node that runs already; `hub.py` says how to get one (net/shop) and a customer (net/alice). Then:

    python examples/shop.py --node net/shop --shop net ship &
    python examples/shop.py --node net/shop order 17 "a tin of tea" --price 250
    tally pay <the invoice that it showed> --max-fee 5 --data net/alice

The customer may sit behind any number of hops. What makes it safe: `shipped.jsonl` is the order to the warehouse *and*
the memory of what was handled. Each line carries the count of its payment (`paid`) and is on disk before the next one
is looked at; after a crash, the node tells of every payment behind the last count again. So nothing is missed, and
nothing is shipped twice, not even an order that was paid by two invoices. Nobody can pay less than the price: the node
refuses that by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

import trio

from tallystick import TallystickError, connect_control
from tallystick.channels.words import plain
from tallystick.router.invoices.qr import as_text
from tallystick.sdk.control.network_views import InvoiceInfo

WAIT = 20
"""Seconds that one question for paid invoices stands."""


class Book:
    """What was shipped, in a file that survives any crash."""

    def __init__(self, path: Path) -> None:
        self.handled = 0
        """Count of the last payment that was handled."""
        self.orders: set[str] = set()
        self._file = path.open("a+", encoding="utf-8")
        self._resume()

    def _resume(self) -> None:
        """Read what was handled before; cut off a last line that a crash left unfinished."""
        self._file.seek(0)
        whole, _, _ = self._file.read().rpartition("\n")
        self._file.truncate(len(whole.encode()) + 1 if whole else 0)
        for line in map(json.loads, whole.splitlines()):
            self.handled = line["paid"]
            if line["action"] == "ship":
                self.orders.add(line["order"])

    def record(self, invoice: InvoiceInfo, order: str, action: str) -> None:
        """Write down, for good, what is done about a payment."""
        line = {"action": action, "order": order, "received": invoice.received}
        line |= {"memo": invoice.memo, "payment_hash": invoice.payment_hash, "paid": invoice.paid}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.handled = invoice.paid
        if action == "ship":
            self.orders.add(order)


def order_of(invoice: InvoiceInfo) -> str:
    """Return the number of the order that an invoice is for; empty if it is for something else, or was keysend."""
    found = re.match(r"order (\S+): ", invoice.memo)
    return found[1] if found else ""


def judge(book: Book, order: str) -> str:
    """Say what a payment is for."""
    if not order:
        return "keep: no order of ours"
    return "refund: shipped before" if order in book.orders else "ship"


async def sell(arguments: argparse.Namespace) -> None:
    """Ask for the payment of one order."""
    async with connect_control(arguments.node) as node:
        made = await node.create_invoice(
            arguments.price, f"order {arguments.order}: {arguments.item}", lifetime=arguments.lifetime
        )
    print(as_text(made.invoice))
    print(f"Pay {arguments.price} for {arguments.item}:\n{made.invoice}")


async def ship(arguments: argparse.Namespace) -> None:
    """Ship what is paid, until interrupted."""
    arguments.shop.mkdir(parents=True, exist_ok=True)
    book = Book(arguments.shop / "shipped.jsonl")
    async with connect_control(arguments.node) as node:
        print(f"waiting for payments behind number {book.handled}", flush=True)
        while True:
            for invoice in await node.paid_invoices(book.handled, wait=WAIT):
                order = order_of(invoice)
                print(f"paid: order {plain(order) or '-'}, {invoice.received}", flush=True)
                await trio.sleep(arguments.packing)
                action = judge(book, order)
                book.record(invoice, order, action)
                print(f"{action}: order {plain(order) or '-'}", flush=True)


def main() -> None:
    """Read the command line and sell."""
    parser = argparse.ArgumentParser(description="Sell by invoice, and ship exactly once.")
    parser.add_argument("--node", type=Path, required=True, help="data directory of the running node")
    parser.add_argument("--shop", type=Path, default=Path(), help="where to keep shipped.jsonl")
    commands = parser.add_subparsers(required=True)
    order = commands.add_parser("order", help="ask for the payment of an order")
    order.add_argument("order", help="the order's number, without spaces")
    order.add_argument("item")
    order.add_argument("--price", type=int, default=250, help="in the coin's smallest unit")
    order.add_argument("--lifetime", type=int, default=3_600, help="seconds until the invoice expires")
    order.set_defaults(act=sell)
    warehouse = commands.add_parser("ship", help="ship what is paid")
    warehouse.add_argument("--packing", type=float, default=0, help="seconds that it takes to pack an order")
    warehouse.set_defaults(act=ship)
    arguments = parser.parse_args()
    try:
        trio.run(arguments.act, arguments)
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"shop: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
