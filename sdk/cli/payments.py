"""`tally pay`, `incoming`, `balance`, `statistics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.sdk.cli.shell import NATIVE, AmountArgument, Asset, Data, Json, ask_node, parse_channel, print_json

if TYPE_CHECKING:
    from tallystick.sdk.control.client import ControlClient


def parse_payee(text: str) -> str:
    """Check the form of a channel's id, a public key or a peer's address; raise BadParameter if it is none."""
    from tallystick.sdk.cli.shell import parse_peer

    return parse_peer(text) if "@" in text or len(text) == 66 else parse_channel(text)


def pay(
    to: Annotated[
        str,
        typer.Argument(
            parser=parse_payee, metavar="CHANNEL_OR_PEER", help="A channel's id or the beginning of it, or a peer."
        ),
    ],
    amount: AmountArgument,
    memo: Annotated[str, typer.Option("--memo", help="Text for the payee, at most 256 bytes.")] = "",
    key: Annotated[
        str, typer.Option("--key", help="Idempotency key: the same key pays once, however often this is run.")
    ] = "",
    asset: Asset = NATIVE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Pay in a channel; returns with the receipt when the payee has countersigned."""
    paid = ask_node(data, lambda node: node.pay(to, amount, memo=memo, key=key, asset=asset))
    if as_json:
        print_json(paid)
    else:
        took = max(0.0, paid.secured - paid.accepted) * 1000
        typer.echo(f"Paid {paid.amount}: payment {paid.payment} of channel {paid.channel[:16]}, after {took:.1f} ms.")


def incoming(
    after: Annotated[str, typer.Option("--after", metavar="CURSOR", help="Only what came after this payment.")] = "",
    follow: Annotated[bool, typer.Option("--follow", help="Go on, and print each payment as it comes.")] = False,
    channel: Annotated[
        str | None, typer.Option("--channel", parser=parse_channel, metavar="ID", help="Only this channel.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="At most so many; not with --follow.")] = 100,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show received payments, oldest first, each with its cursor; with --json as one object per line.

    A program that keeps the last cursor that it handled, and passes it as --after when it starts again, misses none and
    sees none twice.
    """
    from tallystick.sdk.cli.tables import incoming_line

    async def ask(node: ControlClient) -> None:
        if follow:
            async for payment in node.follow(after, channel=channel or ""):
                print_json(payment) if as_json else typer.echo(incoming_line(payment))
        else:
            for payment in await node.incoming(after, limit=limit, channel=channel or ""):
                print_json(payment) if as_json else typer.echo(incoming_line(payment))

    ask_node(data, ask)


def balance(asset: Asset = NATIVE, data: Data = None, as_json: Json = False) -> None:
    """Show what this node holds on chain and in channels."""
    found = ask_node(data, lambda node: node.balance(asset))
    if as_json:
        print_json(found)
    else:
        typer.echo(f"on chain     {found.chain}\nin channels  {found.channels}")


def statistics(data: Data = None, as_json: Json = False) -> None:
    """Show the running node's counters and queue lengths."""
    found = ask_node(data, lambda node: node.statistics())
    if as_json:
        print_json(found)
    else:
        from tallystick.sdk.cli.tables import show_statistics

        show_statistics(found)
