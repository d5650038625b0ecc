"""How results of the payment network look to people."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from tallystick.channels.words import plain
from tallystick.sdk.cli.screen import add_row, facts, make_table, say, show_table
from tallystick.sdk.cli.shell import amount_in
from tallystick.sdk.cli.tables import asset_name, short_amount
from tallystick.sdk.control.kinds import NATIVE_ASSET
from tallystick.sdk.control.network_views import ForwardInfo, GraphInfo, InvoiceInfo, PaymentInfo, PolicyInfo


def _when(time: float | None) -> str:
    """Return a time as text; chain time that is no date of this calendar as a number."""
    if time is None:
        return "-"
    try:
        return datetime.fromtimestamp(time, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    except (OverflowError, ValueError, OSError):
        return f"{time:.0f}"


def show_invoice(invoice: InvoiceInfo) -> None:
    """Print one invoice."""
    rows: dict[str, object] = {
        "payment hash": invoice.payment_hash,
        "state": invoice.state,
        "asset": asset_name(invoice.asset),
        "amount": "as the payer likes" if invoice.amount is None else invoice.amount,
        "received": invoice.received,
        "memo": invoice.memo or "-",
        "created": _when(invoice.created),
        "expires": _when(invoice.expires),
        "ended": _when(invoice.ended),
        "invoice": invoice.invoice or "none: it came as keysend",
    }
    if invoice.secret is not None:
        rows["secret"] = invoice.secret
    if invoice.refused:
        rows["refused"] = invoice.refused
    facts(rows)


def show_asked(fields: dict[str, object]) -> None:
    """Print what somebody's invoice asks for; times as dates."""
    shown = {name.replace("_", " "): value for name, value in fields.items()}
    for name in ("created", "expires"):
        shown[name] = _when(float(str(fields[name])))
    shown["amount"] = fields["amount"] or "as the payer likes"
    shown["asset"] = asset_name(str(fields["asset"]))
    shown["memo"] = str(fields["memo"]) or "-"
    facts(shown)


def paid_line(invoice: InvoiceInfo) -> str:
    """Return one paid invoice as a line."""
    memo = plain(invoice.memo) if invoice.invoice else "(keysend)"
    received = amount_in(invoice.asset, invoice.received)
    return f"{_when(invoice.ended)}  {received:>12}  number {invoice.paid}  {invoice.payment_hash[:16]}  {memo}"


def show_invoices(invoices: list[InvoiceInfo]) -> None:
    """Print a table of invoices."""
    table = make_table("position", "hash", "state", "created", "memo", figures=("amount", "received"))
    for one in invoices:
        memo = one.memo if one.invoice else "(keysend)"
        amount = "any" if one.amount is None else short_amount(one.asset, one.amount)
        received = short_amount(one.asset, one.received)
        row = (str(one.position), one.payment_hash[:8], one.state, _when(one.created), memo, amount, received)
        add_row(table, *row)
    show_table(table)


def show_payment(payment: PaymentInfo) -> None:
    """Print one payment with its parts."""
    rows: dict[str, object] = {
        "payment hash": payment.payment_hash,
        "state": payment.state,
        "to": payment.to,
        "asset": asset_name(payment.asset),
        "amount": payment.amount,
        "fee": f"{payment.fee} (at most {payment.max_fee})",
        "kind": payment.kind,
        "memo": payment.memo or "-",
        "created": _when(payment.created),
        "ended": _when(payment.ended),
    }
    if payment.secret is not None:
        rows["receipt"] = payment.secret
    if payment.text:
        rows["why"] = payment.text
    for number, part in enumerate(payment.parts or (), 1):
        hops = " → ".join(hop.node[:8] for hop in part.route.hops)
        rows[f"part {number}"] = f"{part.state}: {part.route.amount}, fee {part.route.fee}, to {hops}"
    facts(rows)


def show_payments(payments: list[PaymentInfo]) -> None:
    """Print a table of payments."""
    table = make_table("position", "hash", "kind", "state", "created", "memo", figures=("amount", "fee"))
    for one in payments:
        state = one.state if one.reason is None else f"{one.state}: {one.reason}"
        row = (str(one.position), one.payment_hash[:8], one.kind, state, _when(one.created), one.memo)
        add_row(table, *row, short_amount(one.asset, one.amount), str(one.fee))
    show_table(table)


def show_forwards(forwards: list[ForwardInfo]) -> None:
    """Print a table of forwarded payments, and what they earned together."""
    table = make_table("position", "from", "to", "outcome", "ended", figures=("amount", "fee"))
    for one in forwards:
        row = (str(one.position), one.incoming[:8], one.outgoing[:8], one.outcome, _when(one.ended))
        add_row(table, *row, short_amount(one.asset, one.amount_out), str(one.fee))
    show_table(table)
    paid = [one for one in forwards if one.outcome == "paid"]
    earned: Counter[str] = Counter({NATIVE_ASSET: 0})
    for one in paid:
        earned[one.asset] += one.fee
    fees = " and ".join(amount_in(asset, fee) for asset, fee in sorted(earned.items()))
    say(f"{len(paid)} of {len(forwards)} were paid, and earned {fees}.")


def show_policy(policy: PolicyInfo) -> None:
    """Print what is asked for payments over a channel."""
    facts(
        {
            "channel": policy.channel,
            "asset": asset_name(policy.asset),
            "base fee": f"{policy.base_fee} for each payment",
            "rate": f"{policy.fee_ppm} per million",
            "minimum": policy.minimum,
            "maximum": policy.maximum or "as much as there is",
            "margin": f"{policy.margin} s",
            "open": "for payments of others" if policy.enabled else "for own payments only",
        }
    )


def show_known(graph: GraphInfo) -> None:
    """Print how much of the network a node knows."""
    rows: dict[str, object] = {
        "channels": f"{graph.channels} announced and confirmed, {graph.pending} to be confirmed",
        "gossip": f"with {graph.peers} peers",
    }
    for one in graph.assets:
        rows[asset_name(one.asset)] = f"{one.nodes} nodes, {one.directions} directions that payments may take"
    facts(rows)
