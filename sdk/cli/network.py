"""`tally keysend`, `payments`, `forwards`, `probe`, `rebalance`: the payment network, besides invoices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import (
    NATIVE,
    AmountArgument,
    Asset,
    Data,
    Json,
    amount_in,
    ask_node,
    parse_channel,
    parse_fee,
    parse_hash,
    parse_node,
    print_result,
)
from tallystick.sdk.cli.tables import show_forwards, show_payment, show_payments

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tallystick.sdk.control.client import ControlClient
    from tallystick.sdk.control.network_views import PaymentInfo, RouteInfo

NodeArgument = Annotated[str, Argument(parser=parse_node, metavar="NODE", help="A node's public key, or its address.")]
MaxFee = Annotated[
    int | None,
    Option(
        "--max-fee", parser=parse_fee, metavar="N", help="The most it may cost.", show_default="5 %, and 5 of the coin"
    ),
]
Timeout = Annotated[
    float | None,
    Option("--timeout", min=0.1, max=604_800, metavar="SECONDS", help="How long to try.", show_default="60"),
]
Limit = Annotated[int, Option("--limit", min=1, max=1_000, help="At most so many.")]
Before = Annotated[int | None, Option("--before", min=0, metavar="POSITION", help="Only those before this position.")]
WaitForIt = Annotated[
    bool, Option("--wait/--no-wait", help="Return when it is paid or has failed, or as soon as it is on its way.")
]


def keysend(
    node: NodeArgument,
    amount: AmountArgument,
    max_fee: MaxFee = None,
    timeout: Timeout = None,
    wait: WaitForIt = True,
    asset: Asset = NATIVE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Pay a node over several hops without an invoice. Run again, it pays again: for what matters, pay an invoice."""
    paid = ask_node(
        data, lambda control: control.keysend(node, amount, max_fee=max_fee, timeout=timeout, wait=wait, asset=asset)
    )
    show_payment_made(paid, as_json)


def payments(
    payment_hash: Annotated[
        str | None, Argument(parser=parse_hash, metavar="[HASH]", help="One payment, with its parts.")
    ] = None,
    limit: Limit = 100,
    before: Before = None,
    probes: Annotated[bool, Option("--probes", help="With those that only found out something.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show this node's payments over several hops, newest first; or one of them."""
    if payment_hash is not None:
        print_result(ask_node(data, lambda node: node.payment(payment_hash)), as_json, show_payment)
    else:
        found = ask_node(data, lambda node: node.payments(limit, before, probes=probes))
        print_result(found, as_json, show_payments)


def forwards(limit: Limit = 100, before: Before = None, data: Data = None, as_json: Json = False) -> None:
    """Show which payments of others this node carried, newest first, and what they earned."""
    print_result(ask_node(data, lambda node: node.forwards(limit, before)), as_json, show_forwards)


def probe(
    node: NodeArgument,
    amount: AmountArgument,
    timeout: Timeout = None,
    estimate: Annotated[
        bool, Option("--estimate", help="Do not try: say what the known graph lets one believe.")
    ] = False,
    asset: Asset = NATIVE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Find out by trying whether a node could be paid now, which way, and for what fee. Nothing is paid."""

    def ask(control: ControlClient) -> Awaitable[RouteInfo]:
        if estimate:
            return control.estimate(node, amount, asset=asset)
        return control.probe(node, amount, timeout=timeout, asset=asset)

    print_result(ask_node(data, ask), as_json, _show_route)


def rebalance(
    out: Annotated[str, Argument(parser=parse_channel, metavar="OUT", help="The channel that has too much.")],
    back: Annotated[str, Argument(parser=parse_channel, metavar="BACK", help="The channel that has too little.")],
    amount: AmountArgument,
    max_fee: MaxFee = None,
    timeout: Timeout = None,
    wait: WaitForIt = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Move an amount from one channel of this node into another, through the network, for a fee."""
    paid = ask_node(data, lambda node: node.rebalance(out, back, amount, max_fee=max_fee, timeout=timeout, wait=wait))
    show_payment_made(paid, as_json)


def show_payment_made(paid: PaymentInfo | None, as_json: bool) -> None:
    """Print the receipt of a payment over several hops; None is one that was not waited for."""
    if as_json:
        say_json({"accepted": True} if paid is None else paid)
    elif paid is None:
        say("It is on its way; `tally payments` tells how it ends.")
    else:
        parts = len([part for part in paid.parts or () if part.state == "paid"])
        way = "one part" if parts == 1 else f"{parts} parts"
        say(f"Paid {amount_in(paid.asset, paid.amount)} for a fee of {paid.fee}, in {way}.")
        say(f"receipt  {paid.secret}  (the secret of payment hash {paid.payment_hash[:16]}…)")


def _show_route(route: RouteInfo) -> None:
    say(f"{amount_in(route.asset, route.amount)} over {len(route.hops)} hops, for a fee of {route.fee}:")
    for hop in route.hops:
        say(f"  {hop.amount:>14} over channel {hop.channel[:16]} to {hop.node}")
