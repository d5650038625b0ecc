"""`tally invoice`: ask for payments, see which came, take or refuse those that are held."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tallystick.sdk.cli.files import require_new, write_file
from tallystick.sdk.cli.options import (
    Asset,
    Before,
    Data,
    HashArgument,
    Json,
    Limit,
    parse_amount,
    secret_option,
)
from tallystick.sdk.cli.screen import say, say_as_it_is, say_json
from tallystick.sdk.cli.shell import ask_node, example, fail, make_group, print_result, run_guarded
from tallystick.sdk.cli.tables import paid_line, show_asked, show_invoice, show_invoices
from tallystick.sdk.control.kinds import NATIVE_ASSET

if TYPE_CHECKING:
    from tallystick.sdk.control.client import ControlClient
    from tallystick.sdk.control.network_views import InvoiceInfo
    from tallystick.sdk.control.views import ChannelInfo

app = make_group("Ask for payments, and see what came of it.", name="invoice")

LIFETIME_MAX = 10 * 366 * 86_400
"""Seconds for which an invoice may be open: more is a typing error."""


@app.command(epilog=example("invoice create 250 --memo 'a tin of tea' --qr"))
def create(
    amount: Annotated[
        int | None,
        Argument(
            parser=parse_amount, metavar="[AMOUNT]", help="In the asset's smallest unit; without, the payer chooses."
        ),
    ] = None,
    memo: Annotated[str, Option(help="What it is for; the payer reads it. At most 256 bytes.")] = "",
    lifetime: Annotated[int, Option(min=1, max=LIFETIME_MAX, help="Seconds until it expires.")] = 3_600,
    hold: Annotated[bool, Option("--hold", help="Once paid, wait for `tally invoice settle` or `cancel`.")] = False,
    payment_hash: Annotated[str, secret_option("--hash", help="For a secret that somebody else knows; held.")] = "",
    asset: Asset = NATIVE_ASSET,
    hints: Annotated[
        bool, Option("--hints/--no-hints", help="Whether it may name channels of this node that gossip does not know.")
    ] = True,
    qr: Annotated[bool, Option("--qr", help="Show it as a QR code, too.")] = False,
    png: Annotated[Path | None, Option(metavar="FILE", help="Write it as a QR code to this new file.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Ask for a payment; prints the invoice, which is for the payer."""
    if png is not None:
        require_new(png)

    async def ask(node: ControlClient) -> tuple[InvoiceInfo, list[ChannelInfo]]:
        made = await node.create_invoice(
            amount, memo, lifetime=lifetime, hold=hold, payment_hash=payment_hash, asset=asset, hints=hints
        )
        return made, await node.channels()

    made, channels = ask_node(data, ask)
    if png is not None:
        from tallystick.router.invoices.qr import as_png

        image = run_guarded(lambda: as_png(made.invoice))
        write_file(png, image, "; the invoice was made, `tally invoice list` shows it")
    if as_json:
        say_json(made)
        return
    say(made.invoice)
    if note := too_little_to_come(amount or 1, channels):
        say(note, err=True)
    if qr:
        from tallystick.router.invoices.qr import as_text

        if not say_as_it_is(run_guarded(lambda: as_text(made.invoice))):
            fail("this output's encoding has no blocks to draw a QR code with: use a terminal in UTF-8, or --png FILE")


def too_little_to_come(amount: int, channels: Sequence[ChannelInfo]) -> str:
    """Return why an amount cannot be paid to this node now, as a sentence; empty if it may."""
    there = sum(
        max(0, each.peer_balance - each.reserve) for each in channels if each.phase == "open" and not each.closing
    )
    if there >= amount:
        return ""
    return (
        f"note: nobody can pay this yet, as the peers of this node's channels hold {there} that could come; have one "
        "of them deposit, or open a channel to a hub that puts something in"
    )


@app.command("list", epilog=example("invoice list --limit 20"))
def list_(
    limit: Limit = 100,
    before: Before = None,
    paid_after: Annotated[
        int | None, Option(min=0, metavar="N", help="Only paid ones, in the order of payment, behind the N-th.")
    ] = None,
    follow: Annotated[
        bool, Option("--follow", help="Go on, and print each payment as it comes; one object per line with --json.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List invoices and payments that came without one, newest first.

    With --paid-after, a program reads what was paid: it keeps the last `paid` that it handled, and begins behind it.
    --follow waits for more, behind number 0 if nothing else is said.
    """

    async def print_as_they_come(node: ControlClient) -> None:
        async for invoice in node.follow_paid(paid_after or 0):
            print_result(invoice, as_json, lambda paid: say(paid_line(paid)))

    async def ask(node: ControlClient) -> list[InvoiceInfo]:
        if paid_after is not None:
            return await node.paid_invoices(paid_after, limit=limit)
        return await node.invoices(limit, before)

    if follow:
        ask_node(data, print_as_they_come)
    else:
        print_result(ask_node(data, ask), as_json, show_invoices)


@app.command(epilog=example("invoice decode tally1337…"))
def decode(
    text: Annotated[str, Argument(metavar="INVOICE", help="Somebody's invoice, as text.")],
    as_json: Json = False,
) -> None:
    """Tell what an invoice asks for, before paying it. No node is needed."""
    from tallystick.router.invoices.invoice import decode_invoice

    invoice = run_guarded(lambda: decode_invoice(text))
    found: dict[str, object] = {
        "payee": invoice.payee.hex(),
        "amount": invoice.amount,
        "memo": invoice.memo,
        "payment_hash": invoice.payment_hash.hex(),
        "created": invoice.created,
        "expires": invoice.expiry,
        "chain_id": invoice.chain_id,
        "contract": "0x" + invoice.contract.hex(),
        "asset": "0x" + invoice.asset.hex(),
        "hints": len(invoice.hints),
    }
    print_result(found, as_json, show_asked)


@app.command(epilog=example("invoice show 5bb3e352 --wait 60"))
def show(
    payment_hash: HashArgument,
    wait: Annotated[int, Option(min=0, max=60, metavar="SECONDS", help="While it is open, wait for its payment.")] = 0,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show one invoice and what became of it."""
    print_result(ask_node(data, lambda node: node.invoice(payment_hash, wait=wait)), as_json, show_invoice)


@app.command(epilog=example("invoice settle 5bb3e352"))
def settle(
    payment_hash: HashArgument,
    secret: Annotated[str, secret_option(help="Needed only if this node does not know it.")] = "",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Take a payment that is held."""
    print_result(ask_node(data, lambda node: node.settle_invoice(payment_hash, secret)), as_json, show_invoice)


@app.command(epilog=example("invoice cancel 5bb3e352"))
def cancel(payment_hash: HashArgument, data: Data = None, as_json: Json = False) -> None:
    """Refuse what has come for an invoice, and take nothing more."""
    print_result(ask_node(data, lambda node: node.cancel_invoice(payment_hash)), as_json, show_invoice)
