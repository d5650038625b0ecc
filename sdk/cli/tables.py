"""How results look to people: rich tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tallystick.channels.words import plain
from tallystick.sdk.cli.screen import facts, say, show_table, warn
from tallystick.sdk.control.kinds import NATIVE_ASSET
from tallystick.sdk.control.network_views import ForwardInfo, GraphInfo, InvoiceInfo, PaymentInfo, PolicyInfo
from tallystick.sdk.control.views import Awaited, ChannelInfo, IncomingInfo, NodeInfo, PeerInfo, StreamInfo

if TYPE_CHECKING:
    from tallystick.channels.session.recording.document import ChannelState
    from tallystick.channels.session.recording.replay import Lived
    from tallystick.sdk.node.recovering import Recovery


def asset_name(asset: str) -> str:
    """Return what an asset is called."""
    return "the chain's own coin" if asset == NATIVE_ASSET else asset


def amount_in(asset: str, amount: int) -> str:
    """Return an amount as people read it: with its asset, unless that is the chain's own coin."""
    return str(amount) if asset == NATIVE_ASSET else f"{amount} of {asset}"


def short_amount(asset: str, amount: int) -> str:
    """Return an amount for a table: with the beginning of its asset, unless that is the chain's own coin."""
    return str(amount) if asset == NATIVE_ASSET else f"{amount} of {asset[:10]}…"


def show_node(info: NodeInfo) -> None:
    """Print what a node is."""
    at = f"at block {info.block}" if info.block >= 0 else "no block seen yet"
    facts(
        {
            "address": info.address,
            "public key": info.public_key,
            "peers reach": info.peer_address or ("nobody yet" if info.waiting_for else "nothing here: it only dials"),
            "chain": f"{info.chain_id}, contract {info.contract}, {at}",
            "channels": info.channels,
            "connected": f"{info.connected_peers} peer{'' if info.connected_peers == 1 else 's'}",
            "cursor": info.cursor,
        }
    )
    if info.waiting_for:
        warn(f"the node speaks to no peer yet: it waits for {info.waiting_for}")
    for alarm in info.alarms:
        warn(f"alarm: {alarm.text} ({alarm.kind})")


def show_channel(channel: ChannelInfo) -> None:
    """Print one channel."""
    facts(
        {
            "channel": channel.id,
            "peer": f"{channel.peer} ({'connected' if channel.connected else 'not connected'})",
            "phase": _phase(channel),
            "asset": asset_name(channel.asset),
            "balance": f"{channel.balance} own, {channel.peer_balance} the peer's",
            "spendable": f"{channel.spendable} (a reserve of {channel.reserve} stays)",
            "deposits": f"{channel.deposits[0]} own, {channel.deposits[1]} the peer's",
            "withdrawn": f"{channel.withdrawn[0]} own, {channel.withdrawn[1]} the peer's",
            "payments": f"{channel.payments_sent} sent, {channel.payments_received} received",
            "challenge": f"{channel.challenge_period} s",
        }
    )
    if why := depth_line(channel):
        say(f"It waits: {why}.")


def depth_line(channel: ChannelInfo) -> str:
    """Return in words which confirmations a channel waits for, this node's or its peer's; empty if none."""
    if (awaited := channel.awaited) is not None:
        return f"{_depth(awaited)}, as {amount_in(channel.asset, awaited.at_risk)} could be lost to a reorganisation"
    if channel.uncounted:
        amount = amount_in(channel.asset, channel.uncounted)
        return f"its peer does not count {amount} of ours yet, and may want more confirmations than we do"
    return ""


def _depth(awaited: Awaited) -> str:
    if awaited.wanted is None:
        return f"{awaited.seen} confirmations, until the chain calls it final"
    return f"{awaited.seen} of {awaited.wanted} confirmations"


def _phase(channel: ChannelInfo) -> str:
    phase = f"{channel.phase}, about to close" if channel.closing else channel.phase
    if channel.virtual:
        phase += ", virtual"
    return phase if channel.awaited is None else f"{phase}, {_depth(channel.awaited)}"


def show_channels(channels: list[ChannelInfo]) -> None:
    """Print a table of channels."""
    rows = []
    for c in channels:
        phase = _phase(c) if c.connected or c.phase == "gone" else f"{_phase(c)}, peer away"
        rows.append((c.id[:8], c.peer[:8], phase, short_amount(c.asset, c.balance), c.peer_balance, c.spendable))
    show_table(("channel", "peer", "phase"), rows, figures=("balance", "peer's", "spendable"))


def show_peers(peers: list[PeerInfo]) -> None:
    """Print peers, each as what `tally peers connect` takes if that is known."""
    for peer in peers:
        state = f"{'connected' if peer.connected else 'away'}, {peer.channels} channels"
        say(f"{peer.place or peer.public_key}  {state}")


def show_statistics(figures: dict[str, Any]) -> None:
    """Print a table of counters."""
    rows = [
        (part, name.replace("_", " "), value)
        for part, found in figures.items()
        for counters in (found if isinstance(found, list) else [found])
        for name, value in counters.items()
    ]
    show_table(("part", "counter"), rows, figures=("value",))


def show_towers(towers: list[dict[str, Any]], custody: dict[str, Any]) -> None:
    """Print a node's towers: what is at risk is what moved in channels whose newest state the tower does not have.

    Below, what is held back for receipts (`Custody`), if anything may be.
    """
    if not towers:
        say("no tower guards this node: name some in `towers` of config.toml")
        return
    rows = [
        (
            tower["tower"],
            "connected" if tower["connected"] else tower["last_fault"] or "away",
            *(tower[name] for name in ("channels", "dirty", "exposed", "uploads", "refused")),
        )
        for tower in towers
    ]
    show_table(("tower", "state"), rows, figures=("channels", "not covered", "at risk", "uploads", "refused"))
    if not custody["receipts"]:
        say("what peers pay waits for no tower (tower_receipts in config.toml)")
        return
    say(
        f"what peers pay waits for receipts of {custody['receipts']} towers, beyond {custody['unsecured']} of an asset",
        f"waiting now  in {custody['deferred']} channels",
        *(f"unsecured    {amount} of {asset}" for asset, amount in custody["exposed"].items()),
    )


def show_recovery(found: Recovery) -> None:
    """Print what was brought back from towers, and what happens next."""
    say(f"{found.answered} of {found.asked} towers answered, and told of {len(found.channels)} channels")
    rows = [
        (
            back.channel[:8],
            back.peer[:8],
            "brought back" if back.restored else f"as new here, or {back.phase}",
            "some unknown" if back.locks_missing else "all",
            *(getattr(back, name) for name in ("own_seq", "peer_seq", "sent", "received", "secured")),
        )
        for back in found.channels
    ]
    if rows:
        figures = ("own number", "peer's", "sent", "received", "in locks")
        show_table(("channel", "peer", "state", "locks"), rows, figures=figures)
    if any(back.restored for back in found.channels):
        say("Start the node now. In these channels it signs nothing, and never closes by itself: it asks the peers to")
        say("close, and has its share after the challenge period. What moved after the last receipt, the peers know.")


def show_replay(start: ChannelState, steps: Sequence[Lived], *, whole: bool) -> None:
    """Print what happened to a channel: for each input the state after it, and why it was refused."""
    say(f"channel {start.channel.id.hex()}: {start.channel.phase.name.lower()}, {len(steps)} inputs were recorded")
    rows: list[Sequence[object]] = []
    for step in steps:
        state, channel = step.state, step.state.channel
        link = "in step" if state.link.ready else "greeted" if state.link.greeted else "away"
        said = ", ".join(step.says)
        texts = (step.number, "  " * step.depth + step.what, channel.phase.name.lower(), link, said, step.refused)
        figures = (channel.ours.seq, len(channel.flight), channel.theirs.seq, state.payments + state.new_locks)
        locks = len(channel.newest.locks) + len(channel.theirs.simplex.locks)
        rows.append((*texts, *figures, locks, channel.balances()[channel.side]))
    names = ("step", "what", "phase", "link", "says", "refused")
    show_table(names, rows, figures=("ours", "in flight", "theirs", "waiting", "locks", "balance"))
    if not whole:
        warn("the recording became too long, and ends here: more happened since")


def stream_line(stream: StreamInfo) -> str:
    """Return one stream as a line."""
    way = "paid by us" if stream.direction == "out" else "paid to us"
    state = "ended" if stream.ended else f"until {datetime.fromtimestamp(stream.expiry).isoformat(' ', 'seconds')}"
    return (
        f"stream {stream.lock} of channel {stream.channel[:16]}, {way}: {stream.units} of {stream.length} units of "
        f"{stream.unit}, {state}"
    )


def incoming_line(payment: IncomingInfo) -> str:
    """Return one received payment as a line."""
    when = datetime.fromtimestamp(payment.time).isoformat(" ", "seconds")
    memo = repr(payment.memo) if payment.memo is not None else f"0x{payment.memo_hex}"
    return f"{when}  {payment.amount:>12}  channel {payment.channel[:16]}  memo {memo}  cursor {payment.cursor}"


# --- the payment network ------------------------------------------------------------------------------------------


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
    rows = []
    for one in invoices:
        memo = one.memo if one.invoice else "(keysend)"
        amount = "any" if one.amount is None else short_amount(one.asset, one.amount)
        received = short_amount(one.asset, one.received)
        rows.append((one.position, one.payment_hash[:8], one.state, _when(one.created), memo, amount, received))
    show_table(("position", "hash", "state", "created", "memo"), rows, figures=("amount", "received"))


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
    rows: list[Sequence[object]] = []
    for one in payments:
        state = one.state if one.reason is None else f"{one.state}: {one.reason}"
        row = (one.position, one.payment_hash[:8], one.kind, state, _when(one.created), one.memo)
        rows.append((*row, short_amount(one.asset, one.amount), one.fee))
    show_table(("position", "hash", "kind", "state", "created", "memo"), rows, figures=("amount", "fee"))


def show_forwards(forwards: list[ForwardInfo]) -> None:
    """Print a table of forwarded payments, and what they earned together."""
    rows: list[Sequence[object]] = []
    for one in forwards:
        row = (one.position, one.incoming[:8], one.outgoing[:8], one.outcome, _when(one.ended))
        rows.append((*row, short_amount(one.asset, one.amount_out), one.fee))
    show_table(("position", "from", "to", "outcome", "ended"), rows, figures=("amount", "fee"))
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
