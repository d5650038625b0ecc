"""The control API's vocabulary for the payment network: invoices, payments over several hops, forwards, the graph.

As in `views`: amounts are integers in the asset's smallest unit, keys, hashes and channel ids are hex strings, and
times are seconds. Unknown fields in a request are refused.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from tallystick.channels.values.discretion import Discreet
from tallystick.sdk.control.views import NATIVE_ASSET

Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]
"""How long something may be tried."""

Size = Annotated[int, msgspec.Meta(ge=0)]

# --- requests ---------------------------------------------------------------------------------------------------


class CreateInvoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /invoices. No amount: the payer chooses. With a payment hash, somebody else knows the secret."""

    amount: int | None = None
    memo: str = ""
    lifetime: int = 3_600
    hold: bool = False
    payment_hash: str = ""
    asset: str = NATIVE_ASSET
    hints: bool = True
    """Whether the invoice may name channels of the node that gossip does not know."""


class Settle(Discreet, msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /invoices/{hash}/settle. The secret is needed only if this node does not know it."""

    secret: str = ""


class PayInvoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /pay. The same invoice is paid once, however often this is asked for."""

    invoice: str
    amount: int | None = None
    max_fee: int | None = None
    timeout: Seconds | None = None
    wait: bool = True


class Keysend(Discreet, msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /keysend. `to` is a node's public key. The same `secret` (32 random bytes) pays once."""

    to: str
    amount: int
    max_fee: int | None = None
    timeout: Seconds | None = None
    secret: str = ""
    wait: bool = True
    asset: str = NATIVE_ASSET


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /estimate and /probe: a way to the node `to`, as it is believed to be, or as it was tried."""

    to: str
    amount: int
    timeout: Seconds | None = None
    asset: str = NATIVE_ASSET


class Rebalance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /rebalance: `amount` comes back over one channel of ours, having gone out over another."""

    out: str
    back: str
    amount: int
    max_fee: int | None = None
    timeout: Seconds | None = None
    wait: bool = True


class SetPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /channels/{id}/policy. What is left out stays as it is."""

    base_fee: Size | None = None
    fee_ppm: Size | None = None
    minimum: Size | None = None
    maximum: Size | None = None
    margin: Size | None = None
    enabled: bool | None = None


# --- answers ----------------------------------------------------------------------------------------------------


class InvoiceInfo(Discreet, msgspec.Struct, frozen=True):
    """One invoice, as in GET /invoices; or a payment that came without one."""

    payment_hash: str
    state: str
    """open, held, claimed, cancelled or expired."""
    amount: int | None
    """None: the payer chooses."""
    received: int
    """0 unless it was claimed."""
    memo: str
    invoice: str
    """What the payer gets; empty for keysend."""
    created: int
    expires: int
    ended: int | None
    hold: bool
    secret: str | None
    """The payer's receipt; None before it was claimed: until then, nobody else may know it."""
    position: int
    paid: int
    """Counts what was claimed: GET /invoices/paid?after= goes on behind it. 0 unless it was claimed."""
    refused: str = ""
    """What was given back last of what came for it since the node started, and why."""
    asset: str = NATIVE_ASSET
    """Of both amounts."""


class HopInfo(msgspec.Struct, frozen=True):
    """One lock of a route: `amount` goes over `channel` to `node`."""

    channel: str
    node: str
    amount: int


class RouteInfo(msgspec.Struct, frozen=True):
    """A way to a payee, as POST /estimate and /probe answer it."""

    amount: int
    fee: int
    hops: tuple[HopInfo, ...]
    asset: str = NATIVE_ASSET


class PartInfo(msgspec.Struct, frozen=True):
    """One part of a payment."""

    state: str
    """pending, paid or failed."""
    route: RouteInfo


class PaymentInfo(Discreet, msgspec.Struct, frozen=True):
    """A payment over several hops, as in GET /payments."""

    payment_hash: str
    state: str
    """pending, paid or failed. A probe always fails; if the payee refused it, it could have been paid."""
    kind: str
    """invoice, keysend, rebalance or probe."""
    to: str
    amount: int
    fee: int
    """What it has cost; 0 unless it was paid."""
    max_fee: int
    memo: str
    invoice: str
    secret: str | None
    """The receipt; None unless it was paid."""
    reason: str | None
    """Why it failed, as a code."""
    text: str
    """Why it failed, in words."""
    created: float
    ended: float | None
    position: int | None = None
    """In the list of payments."""
    parts: tuple[PartInfo, ...] | None = None
    """Only where one payment is asked for."""
    asset: str = NATIVE_ASSET
    """Of all amounts."""


class ForwardInfo(msgspec.Struct, frozen=True):
    """A payment of others that this node carried, as in GET /forwards."""

    position: int
    incoming: str
    outgoing: str
    amount_in: int
    amount_out: int
    fee: int
    """What was earned, if it was paid."""
    outcome: str
    """paid, failed, expired or lost."""
    began: int
    ended: int
    asset: str = NATIVE_ASSET


class PolicyInfo(msgspec.Struct, frozen=True):
    """What a node asks for carrying payments out over a channel."""

    channel: str
    base_fee: int
    fee_ppm: int
    minimum: int
    maximum: int
    """0: as much as there is."""
    margin: int
    enabled: bool
    asset: str = NATIVE_ASSET
    """Of all amounts, as the channel carries it."""


class AssetGraphInfo(msgspec.Struct, frozen=True):
    """What is known of the channels in one asset."""

    asset: str
    nodes: int
    directions: int
    """That payments may take: with a policy, or our own."""


class GraphInfo(msgspec.Struct, frozen=True):
    """GET /graph: how much of the network this node knows."""

    nodes: int
    """With channels in the chain's coin."""
    channels: int
    """Announced and confirmed by the chain, in all assets."""
    directions: int
    """That payments in the coin may take: with a policy, or our own."""
    peers: int
    """With whom announcements are exchanged now."""
    pending: int
    """Channels about which the chain has not answered yet."""
    assets: tuple[AssetGraphInfo, ...] = ()
    """The assets that this node has a map of the network for, the coin first."""
