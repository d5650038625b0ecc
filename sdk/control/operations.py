"""The control API as one table: what it can be asked, by which path, with what, and what it answers.

The server's routes, the client's calls, the OpenAPI document and docs/api.md are made from it. An operation is named as
the method of `ControlClient` (those of apps: of its `apps`) that asks for it, and as the handler that answers it.

Rules: every request needs the bearer token, compared in constant time, before anything else is looked at. Bodies are
bounded. Until the node has reached its chain, only reading is answered, and stopping. What takes long is done by the
node and not by the request: it goes on if the client leaves (`outlives`). Some is answered with 202 as soon as it is on
its way if asked with `wait: false` (`is_late`); what goes wrong after that is in the alarms of the node's info.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from tallystick.sdk.control import app_views, views
from tallystick.sdk.control import chain_views as chains
from tallystick.sdk.control import network_views as network
from tallystick.sdk.control.kinds import REASONS

Asked = TypeVar("Asked", bound=msgspec.Struct)
Answer = TypeVar("Answer")

GET, POST = "GET", "POST"


class Needs(enum.Enum):
    """What must be before a request is answered."""

    NOTHING = enum.auto()
    BEGINNING = enum.auto()
    """That the node has begun, or has told of something that keeps it from beginning."""
    CHAIN = enum.auto()
    """That the node knows its chain."""


class Empty(msgspec.Struct, frozen=True):
    """What is asked where there is nothing to say."""


@dataclass(frozen=True)
class Operation(Generic[Asked, Answer]):
    """One thing that the API can be asked."""

    method: str
    """GET only reads; POST has an effect."""
    path: str
    """With the names of its parameters in braces, see `NAMES`."""
    asked: type[Asked]
    """Of a GET the query, of a POST the body as JSON."""
    answer: type[Answer]
    does: str
    """One sentence, for the documents."""
    faults: tuple[str, ...] = ()
    """The codes of its own (`faults`), besides those that the form of the request brings."""
    status: int = 200
    outlives: str = ""
    """What the node goes on to do if the client leaves, in words for the alarm if it fails then; empty: nothing."""
    is_late: bool = False
    """Whether it is answered with 202 and `Accepted` if `wait` is false."""
    has_lines: bool = False
    """Whether it is answered line by line, for ever, if `follow` is true."""
    needs: Needs | None = None
    """None: a GET that the node has begun, a POST that it knows its chain."""
    name: str = field(default="", init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)

    @property
    def names(self) -> list[str]:
        """The parameters in the path."""
        return re.findall(r"\{(\w+)\}", self.path)

    @property
    def needed(self) -> Needs:
        """What must be before it is done."""
        return self.needs or (Needs.CHAIN if self.method == POST else Needs.BEGINNING)


_BEGINNING = {"type": "string", "pattern": "^(0x)?[0-9a-fA-F]{4,64}$", "examples": ["3f9a"]}
NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "app": ("An app's id, or an unambiguous beginning of it: to accept one, of 16 digits at least.", _BEGINNING),
    "channel": ("A channel's id, or an unambiguous beginning of it.", _BEGINNING),
    "lock": ("The number of a stream of ours in the channel.", {"type": "integer", "minimum": 0, "examples": [0]}),
    "payment_hash": ("A payment hash, or an unambiguous beginning of it.", _BEGINNING),
}
"""What the parameters in paths are, and their schemas."""

_CHAIN = ("chain-unavailable", "chain-error", "transaction-refused", "insufficient-funds")
_PEER = ("channel-not-ready", "peer-error", "link-closed", "still-pending")
_PAID = (*REASONS, "insufficient-funds", "channel-not-ready", "still-pending")


# fmt: off
class OfNode:
    """The node"""

    info = Operation(GET, "/info", Empty, views.NodeInfo, "Says what the node is, and what a person should know.")
    statistics = Operation(GET, "/statistics", Empty, dict[str, Any], "Gives the node's counters, by part.")
    balance = Operation(
        GET, "/balance", views.AskedAsset, views.Balance, "Says what the node holds, on chain and in channels.",
        faults=("chain-error",), needs=Needs.CHAIN)
    owed = Operation(
        GET, "/owed", Empty, list[views.Owing], "Lists what the contract owes the node: payouts that were refused.",
        faults=("chain-error",), needs=Needs.CHAIN)
    claim = Operation(
        POST, "/claim", views.Claim, views.Owing, "Takes all that the contract owes the node of an asset.",
        faults=_CHAIN, outlives="claim what is owed", is_late=True)
    stop = Operation(
        POST, "/stop", Empty, views.Stopping, "Stops the node cleanly.", status=202, needs=Needs.NOTHING)
    openapi = Operation(
        GET, "/openapi.json", Empty, dict[str, Any], "Describes this API as OpenAPI 3.1.", needs=Needs.NOTHING)


class OfPeers:
    """Peers"""

    peers = Operation(GET, "/peers", Empty, list[views.PeerInfo], "Lists the peers that the node knows.")
    connect = Operation(
        POST, "/peers", views.Connect, views.PeerInfo, "Connects to a peer, and keeps the connection.", faults=_PEER)


class OfChannels:
    """Channels"""

    channels = Operation(GET, "/channels", Empty, list[views.ChannelInfo], "Lists all channels, gone ones included.")
    channel = Operation(GET, "/channels/{channel}", Empty, views.ChannelInfo, "Shows one channel.")
    open_channel = Operation(
        POST, "/channels", views.OpenChannel, views.ChannelInfo, "Opens a channel with a peer.",
        faults=("opening-failed", *_PEER, *_CHAIN), outlives="open a channel")
    open_virtual = Operation(
        POST, "/virtual", views.OpenVirtual, views.ChannelInfo,
        "Opens a virtual channel with a peer over hubs, without a transaction.",
        faults=("unknown-channel", "insufficient-funds", *_PEER), outlives="open a virtual channel")
    deposit = Operation(
        POST, "/channels/{channel}/deposit", views.Transfer, views.ChannelInfo, "Adds to our deposit in a channel.",
        faults=(*_PEER, *_CHAIN), outlives="deposit", is_late=True)
    withdraw = Operation(
        POST, "/channels/{channel}/withdraw", views.Transfer, views.ChannelInfo, "Takes an amount out of a channel.",
        faults=(*_PEER, *_CHAIN), outlives="withdraw", is_late=True)
    close = Operation(
        POST, "/channels/{channel}/close", views.CloseChannel, views.ChannelInfo, "Closes a channel with its peer.",
        faults=(*_PEER, *_CHAIN), outlives="close", is_late=True)
    force_close = Operation(
        POST, "/channels/{channel}/force-close", views.CloseChannel, views.ChannelInfo,
        "Closes a channel without its peer; answers once that is stored, or with `wait` once nothing is left on chain.",
        faults=(*_PEER, *_CHAIN), outlives="force-close")
    record = Operation(
        POST, "/channels/{channel}/record", views.Record, views.RecordState,
        "Takes down what happens to a channel from now on, in memory, or ends that.")
    recording = Operation(
        GET, "/channels/{channel}/recording", Empty, views.RecordedFile,
        "Gives what was taken down so far, without secrets, as a file for `tally channel replay`.")


class OfPayments:
    """Payments in a channel"""

    pay = Operation(
        POST, "/payments", views.CreatePayment, views.PaymentMade, "Pays in a channel, and answers with the receipt.",
        faults=("unknown-channel", "insufficient-funds", *_PEER))
    incoming = Operation(
        GET, "/incoming", views.IncomingPage, list[views.IncomingInfo], "Lists received payments behind a cursor.",
        faults=("unknown-channel", "history-gone"), has_lines=True)


class OfStreams:
    """Streams"""

    streams = Operation(GET, "/streams", Empty, list[views.StreamInfo], "Lists the pending streams, both ways.")
    open_stream = Operation(
        POST, "/channels/{channel}/streams", views.OpenStream, views.StreamInfo, "Opens a stream in a channel.",
        faults=("insufficient-funds", *_PEER), outlives="open a stream")
    pay_units = Operation(
        POST, "/channels/{channel}/streams/{lock}/pay", views.PayUnits, views.StreamInfo,
        "Pays units of a stream of ours; answers once the payee holds them durably.",
        faults=("unknown-channel", "insufficient-funds", *_PEER))
    close_stream = Operation(
        POST, "/channels/{channel}/streams/{lock}/close", Empty, views.StreamInfo,
        "Ends a stream of ours; answers once both have signed what it paid.", faults=_PEER, outlives="end a stream")


class OfApps:
    """Apps between two players"""

    app_rules = Operation(
        GET, "/apps/rules", Empty, list[app_views.AppRules], "Lists the apps that the node has the rules of.")
    app_proposals = Operation(
        GET, "/apps/proposals", network.Waited, list[app_views.AppInfo],
        "Lists what peers propose; if there is nothing, `wait` waits so many seconds for it.")
    played_apps = Operation(
        GET, "/apps", app_views.AskedApps, list[app_views.AppInfo], "Lists the apps that the node plays.")
    app = Operation(
        GET, "/apps/{app}", app_views.AskedApp, app_views.AppInfo, "Shows one app, or waits for news of it.")
    open_app = Operation(
        POST, "/apps", app_views.OpenApp, app_views.AppInfo, "Proposes an app to the peer of a channel.",
        faults=("unknown-channel", "channel-not-ready"), outlives="propose an app")
    accept_app = Operation(
        POST, "/apps/{app}/accept", app_views.AcceptApp, app_views.AppInfo,
        "Says yes to what a peer proposed, and locks the node's stake.",
        faults=("unknown-channel", "channel-not-ready"), outlives="accept an app")
    refuse_app = Operation(
        POST, "/apps/{app}/refuse", app_views.RefuseApp, app_views.AppInfo,
        "Says no to what a peer proposed, or takes back what has not begun.")
    move_app = Operation(
        POST, "/apps/{app}/move", app_views.MoveApp, app_views.AppInfo, "Moves.", faults=("illegal-move",),
        outlives="move in an app")
    offer_outcome = Operation(
        POST, "/apps/{app}/offer", app_views.Outcome, app_views.AppInfo,
        "Offers to end it so: once, as an offer never lapses.")
    take_offer = Operation(
        POST, "/apps/{app}/take", app_views.Outcome, app_views.AppInfo,
        "Ends it as the peer offers, if that is exactly what is said here.")
    resign_app = Operation(
        POST, "/apps/{app}/resign", Empty, app_views.AppInfo, "Gives it up at this node's turn, as the rules say.")
    dispute_app = Operation(
        POST, "/apps/{app}/dispute", Empty, app_views.AppInfo,
        "Lets the chain's court decide, from the newest state that both signed.")


class OfInvoices:
    """Invoices"""

    create_invoice = Operation(
        POST, "/invoices", network.CreateInvoice, network.InvoiceInfo,
        "Asks for a payment; the answer's `invoice` is for the payer.")
    invoices = Operation(
        GET, "/invoices", network.Page, list[network.InvoiceInfo],
        "Lists invoices, and payments that came without one, newest first.")
    paid_invoices = Operation(
        GET, "/invoices/paid", network.PaidPage, list[network.InvoiceInfo],
        "Lists those that were paid, in that order, behind a count.")
    invoice = Operation(
        GET, "/invoices/{payment_hash}", network.Waited, network.InvoiceInfo,
        "Shows an invoice; while it is open, `wait` waits so many seconds for its payment.")
    settle_invoice = Operation(
        POST, "/invoices/{payment_hash}/settle", network.Settle, network.InvoiceInfo, "Takes a held payment.",
        outlives="settle an invoice")
    cancel_invoice = Operation(
        POST, "/invoices/{payment_hash}/cancel", Empty, network.InvoiceInfo,
        "Refuses what has come for an invoice, and takes nothing more.", outlives="cancel an invoice")


class OfNetwork:
    """Payments over several hops"""

    pay_invoice = Operation(
        POST, "/pay", network.PayInvoice, network.PaymentInfo, "Pays an invoice: once, by its payment hash.",
        faults=("invalid-invoice", *_PAID), outlives="pay an invoice", is_late=True)
    pay_across = Operation(
        POST, "/pay/across", network.PayAcross, network.PaymentInfo,
        "Pays an invoice of any chain with an asset of another one, over the cheapest makers.",
        faults=("invalid-invoice", *_PAID, "peer-error"), outlives="pay across chains", is_late=True)
    keysend = Operation(
        POST, "/keysend", network.Keysend, network.PaymentInfo, "Pays a node without an invoice.", faults=_PAID,
        outlives="pay without an invoice", is_late=True)
    rebalance = Operation(
        POST, "/rebalance", network.Rebalance, network.PaymentInfo,
        "Moves an amount from one channel of ours into another.", faults=("unknown-channel", *_PAID),
        outlives="rebalance", is_late=True)
    payments = Operation(
        GET, "/payments", network.PaymentPage, list[network.PaymentInfo],
        "Lists the node's payments over several hops, newest first.")
    payment = Operation(
        GET, "/payments/{payment_hash}", network.Waited, network.PaymentInfo,
        "Shows a payment with its parts; while it is pending, `wait` waits so many seconds for its end.")
    estimate = Operation(
        POST, "/estimate", network.Probe, network.RouteInfo,
        "Shows the way that a payment would take, as it is believed to be.", faults=_PAID)
    probe = Operation(
        POST, "/probe", network.Probe, network.RouteInfo, "Tries out the way that a payment would take.", faults=_PAID,
        outlives="probe")


class OfChains:
    """Across chains"""

    swap = Operation(
        POST, "/swap", chains.Swap, chains.SwapInfo,
        "Gives some of one asset for another, over as many makers as it takes; each part is made or not.",
        faults=(*_PAID, "peer-error"), outlives="swap", is_late=True)
    markets = Operation(
        GET, "/markets", chains.MarketsAsked, list[chains.MarketInfo],
        "Lists what makers ask for, by what gossip tells: of each pair of assets the cheapest first.",
        faults=("invalid-input",), needs=Needs.CHAIN)
    rates = Operation(
        GET, "/rates", Empty, list[chains.RateInfo], "Lists what this node asks for as a maker.",
        faults=("no-maker",))
    set_rate = Operation(
        POST, "/rates", chains.RateInfo, chains.RateInfo,
        "Sets what this node asks for one asset in another from now on, as a maker; what was agreed stays.",
        faults=("no-maker",))
    remove_rate = Operation(
        POST, "/rates/remove", chains.RatePair, chains.RatePair, "Trades one asset for another no more, as a maker.",
        faults=("no-maker",))
    maker = Operation(
        GET, "/maker", Empty, chains.MakerInfo, "Says how this node stands as a maker.", faults=("no-maker",),
        needs=Needs.CHAIN)


class OfForwarding:
    """Carrying payments of others"""

    forwards = Operation(
        GET, "/forwards", network.Page, list[network.ForwardInfo], "Lists what was carried for others, newest first.")
    policy = Operation(
        GET, "/channels/{channel}/policy", Empty, network.PolicyInfo,
        "Says what the node asks for carrying payments out over a channel.")
    set_policy = Operation(
        POST, "/channels/{channel}/policy", network.SetPolicy, network.PolicyInfo,
        "Asks something else for carrying payments from now on.", faults=("channel-not-ready",))
    graph = Operation(GET, "/graph", Empty, network.GraphInfo, "Says how much of the network the node knows.")
# fmt: on


SUBJECTS: tuple[type, ...] = (
    OfNode,
    OfPeers,
    OfChannels,
    OfPayments,
    OfStreams,
    OfApps,
    OfInvoices,
    OfNetwork,
    OfChains,
    OfForwarding,
)
"""The parts of the table; the docstring of each is its heading."""


def operations() -> list[Operation[Any, Any]]:
    """Return all operations, in the order of the table."""
    return [one for subject in SUBJECTS for one in vars(subject).values() if isinstance(one, Operation)]
