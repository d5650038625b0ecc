"""`tally pay` and whatever else pays, over one hop or several; `incoming`, `balance`, `statistics`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter, Option

from tallystick.sdk.cli.options import (
    AmountArgument,
    Asset,
    Before,
    Data,
    Json,
    Limit,
    MaxFee,
    NodeArgument,
    Timeout,
    WaitForIt,
    amount_option,
    parse_amount,
    parse_asset,
    parse_channel,
    parse_hash,
    parse_peer,
    parse_place,
)
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import ask_node, print_result, waiting_aloud
from tallystick.sdk.cli.tables import (
    amount_in,
    incoming_line,
    show_forwards,
    show_payment,
    show_payments,
    show_statistics,
)
from tallystick.sdk.control.kinds import NATIVE_ASSET

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tallystick.sdk.control.client import ControlClient
    from tallystick.sdk.control.network_views import PaymentInfo, RouteInfo
    from tallystick.sdk.control.views import IncomingInfo, PaymentMade

MEANWHILE = "The payment is made once it is back, whether this command waits or not (--timeout takes it back)."


def is_invoice(text: str) -> bool:
    """Whether a text is meant as an invoice: nothing else that can be paid begins so."""
    return text.lower().startswith("tally")


def parse_payee(text: str) -> str:
    """Check the form of an invoice, a channel's id, a public key or an address; raise BadParameter if it is none."""
    if is_invoice(text):
        return text
    return parse_peer(text) if "@" in text or len(text) == 66 else parse_channel(text)


def parse_given(text: str) -> str:
    """Return the asset that a text names, as the API takes it; raise BadParameter if it is none."""
    if "@" in text:
        return parse_place(text)
    return NATIVE_ASSET if text == "coin" else parse_asset(text)


def pay(
    to: Annotated[
        str,
        Argument(
            parser=parse_payee,
            metavar="WHOM",
            help="An invoice (tally…), a channel's id or the beginning of it, or a peer.",
        ),
    ],
    amount_: Annotated[
        int | None, Argument(parser=parse_amount, metavar="[AMOUNT]", help="Needed unless an invoice names it.")
    ] = None,
    amount: Annotated[int | None, amount_option(help="The same, as an option.")] = None,
    memo: Annotated[str, Option(help="In a channel: text for the payee, at most 256 bytes.")] = "",
    key: Annotated[
        str, Option(help="In a channel: the same key pays once, however often this is run. Invoices need none.")
    ] = "",
    asset: Asset = NATIVE_ASSET,
    max_fee: MaxFee = None,
    with_: Annotated[
        str | None,
        Option(
            "--with", parser=parse_given, metavar="ASSET", help="An invoice of another chain or asset: what to give."
        ),
    ] = None,
    most: Annotated[
        int | None, amount_option("--max", help="With --with: give at most so much, fees included.")
    ] = None,
    maker: Annotated[
        list[str] | None, Option(parser=parse_peer, metavar="PEER", help="With --with: whom to ask. May be repeated.")
    ] = None,
    timeout: Timeout = None,
    wait: WaitForIt = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Pay an invoice over as many hops as it takes, or pay directly in a channel; prints the receipt.

    An invoice is paid once, however often this is run: a further run prints the receipt, or waits for it. --max-fee
    and --no-wait are for invoices; --memo, --key and --asset are for channels. In a channel it waits for a peer that is
    away; after --timeout seconds the payment is taken back, or, if it was signed, will still be made: the same --key
    asks again and never pays twice.

    An invoice of another chain, or in another asset, is paid over makers: --with says what to give (ASSET@CHAIN of a
    node in this process, or coin or a token's address of this node), --max how much of it at most. The cheapest is
    taken of those that --maker names, on the chain of what is given; without, of those that `tally markets` lists, or
    some in a row if that is cheaper.
    """
    if amount is not None and amount_ is not None:
        raise BadParameter("say the amount once")
    worth = amount if amount is not None else amount_
    if with_ is not None or most is not None or maker:
        if with_ is None or most is None or not is_invoice(to):
            raise BadParameter("for an invoice of another chain, give both --with and --max")
        if worth is not None or max_fee is not None or timeout is not None or memo or key or asset != NATIVE_ASSET:
            raise BadParameter("beside --with, there are --max, --maker and --no-wait alone")
        given, limit, makers = with_, most, maker or []
        made = ask_node(data, lambda node: node.pay_across(to, most=limit, makers=makers, asset=given, wait=wait))
        show_payment_made(made, as_json)
        return
    if is_invoice(to):
        if memo or key or asset != NATIVE_ASSET:
            raise BadParameter("--memo, --key and --asset are for payments in a channel, and this is an invoice")
        made = ask_node(
            data, lambda node: node.pay_invoice(to, amount=worth, max_fee=max_fee, timeout=timeout, wait=wait)
        )
        show_payment_made(made, as_json)
        return
    if worth is None:
        raise BadParameter("say how much to pay, after the channel or peer")
    if max_fee is not None or not wait:
        raise BadParameter("--max-fee and --no-wait are for invoices, and this is a channel or a peer")

    async def ask(node: ControlClient) -> PaymentMade:
        work = partial(node.pay, to, worth, memo=memo, key=key, asset=asset, timeout=timeout)
        return await waiting_aloud(node, to, MEANWHILE if timeout is None else "", work)

    print_result(ask_node(data, ask), as_json, _show_direct)


def _show_direct(paid: PaymentMade) -> None:
    took = max(0.0, paid.secured - paid.accepted) * 1000
    say(f"Paid {paid.amount}: payment {paid.payment} of channel {paid.channel[:16]}, after {took:.1f} ms.")


def incoming(
    after: Annotated[str, Option(metavar="CURSOR", help="Only what came after this payment.")] = "",
    follow: Annotated[bool, Option("--follow", help="Go on, and print each payment as it comes.")] = False,
    channel: Annotated[str | None, Option(parser=parse_channel, metavar="ID", help="Only this channel.")] = None,
    limit: Annotated[int, Option(min=1, max=1_000, help="At most so many; not with --follow.")] = 100,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show received payments, oldest first, each with its cursor; with --json as one object per line.

    Without --after it begins with the first that is kept. `--after newest` shows only what comes from now on;
    `tally node info` tells the newest cursor.

    A program that keeps the last cursor that it handled, and passes it as --after when it starts again, misses none and
    sees none twice.
    """

    async def ask(node: ControlClient) -> None:
        start = after or await _beginning(node, channel or "")
        if follow:
            async for payment in node.follow(start, channel=channel or ""):
                print_result(payment, as_json, _show_incoming)
        else:
            for payment in await node.incoming(start, limit=limit, channel=channel or ""):
                print_result(payment, as_json, _show_incoming)

    ask_node(data, ask)


def _show_incoming(payment: IncomingInfo) -> None:
    say(incoming_line(payment))


async def _beginning(node: ControlClient, channel: str) -> str:
    """Return the cursor before all that is kept; say so if something is not."""
    from tallystick.sdk.errors import ControlError

    try:
        await node.incoming("", limit=1, channel=channel)
    except ControlError as error:
        if error.code != "history-gone":
            raise
        say(
            "tally: older payments were pruned, as the settings say; this begins with the oldest that is left", err=True
        )
        return "oldest"
    return ""


def balance(asset: Asset = NATIVE_ASSET, data: Data = None, as_json: Json = False) -> None:
    """Show what this node holds on chain and in channels."""
    found = ask_node(data, lambda node: node.balance(asset))
    print_result(found, as_json, lambda held: say(f"on chain     {held.chain}", f"in channels  {held.channels}"))


def statistics(data: Data = None, as_json: Json = False) -> None:
    """Show the running node's counters and queue lengths."""
    print_result(ask_node(data, lambda node: node.statistics()), as_json, show_statistics)


def keysend(
    node: NodeArgument,
    amount: AmountArgument,
    max_fee: MaxFee = None,
    timeout: Timeout = None,
    wait: WaitForIt = True,
    asset: Asset = NATIVE_ASSET,
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
    asset: Asset = NATIVE_ASSET,
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
