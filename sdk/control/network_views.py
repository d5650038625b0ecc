"""The control API's vocabulary for the payment network: invoices, payments over several hops, forwards, the graph.

As in `views`: amounts are integers in the asset's smallest unit, keys, hashes and channel ids are hex strings, and
times are seconds. Unknown fields in a request are refused.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from tallystick.channels.values.discretion import Discreet
from tallystick.sdk.control import kinds
from tallystick.sdk.control.kinds import NATIVE_ASSET

# --- requests ---------------------------------------------------------------------------------------------------


class CreateInvoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment that is asked for."""

    amount: kinds.Paid | None = None
    """Null: the payer chooses."""
    memo: kinds.Memo = ""
    """At most 256 bytes in UTF-8."""
    lifetime: kinds.Lifetime = 3_600
    """Seconds of chain time."""
    hold: bool = False
    """Whether a payment is held until it is settled or cancelled."""
    payment_hash: kinds.HashOrNone = ""
    """If somebody else knows the secret."""
    asset: kinds.AnyAsset = NATIVE_ASSET
    hints: bool = True
    """Whether the invoice may name channels of the node that gossip does not know."""


class Settle(Discreet, msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a held payment is taken."""

    secret: kinds.HashOrNone = ""
    """Needed only if this node does not know it."""


class PayInvoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An invoice that is to be paid: once, however often this is asked for."""

    invoice: str
    amount: kinds.Paid | None = None
    """If the invoice says none."""
    max_fee: kinds.FeeLimit | None = None
    """Null: as the node's own rule says."""
    timeout: kinds.Seconds | None = None
    wait: bool = True
    """False: 202 as soon as it is on its way."""


class PayAcross(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An invoice of any chain that is to be paid with an asset of another, over makers: once, by its hash."""

    invoice: str
    most: kinds.Paid
    """What may be given of the asset, all fees included."""
    makers: Annotated[tuple[kinds.Place, ...], msgspec.Meta(max_length=16)] = ()
    """Where to find those that are asked, on the chain of the asset; empty: the best of those of which gossip tells."""
    asset: kinds.GivenAsset = NATIVE_ASSET
    """What is given: an asset of the node's, or as ASSET@CHAIN of a chain on which a node of the same process is."""
    wait: bool = True
    """False: 202 as soon as it is on its way."""


class Keysend(Discreet, msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment to a node without an invoice."""

    to: kinds.AnyNode
    amount: kinds.Paid
    max_fee: kinds.FeeLimit | None = None
    """Null: as the node's own rule says."""
    timeout: kinds.Seconds | None = None
    secret: kinds.HashOrNone = ""
    """32 random bytes: the same ones pay once. Empty: the node takes new ones."""
    wait: bool = True
    asset: kinds.AnyAsset = NATIVE_ASSET


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment to a node whose way is asked for."""

    to: kinds.AnyNode
    amount: kinds.Paid
    timeout: kinds.Seconds | None = None
    asset: kinds.AnyAsset = NATIVE_ASSET


class Rebalance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount that goes out over one channel of ours and comes back over another."""

    out: kinds.Named
    back: kinds.Named
    amount: kinds.Paid
    max_fee: kinds.FeeLimit | None = None
    timeout: kinds.Seconds | None = None
    wait: bool = True


class SetPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for carrying payments from now on; what is left out stays as it is."""

    base_fee: kinds.Size | None = None
    fee_ppm: kinds.Rate | None = None
    minimum: kinds.Size | None = None
    maximum: kinds.Size | None = None
    margin: kinds.Rate | None = None
    enabled: bool | None = None


class Page(msgspec.Struct, frozen=True):
    """Which part of a list is asked for, newest first."""

    limit: kinds.PageSize = 100
    before: kinds.Position | None = None
    """Goes on from a position."""


class PaymentPage(Page, frozen=True):
    """Which payments are asked for."""

    probes: Annotated[int, msgspec.Meta(ge=0, le=1, examples=[0])] = 0
    """1: with those that only found out something."""


class PaidPage(msgspec.Struct, frozen=True):
    """Which paid invoices are asked for, in the order in which they were paid."""

    after: kinds.Position = 0
    """Those behind this count (`paid`)."""
    limit: kinds.PageSize = 100
    wait: kinds.Wait = 0
    """Seconds to wait for one, if there is none."""


class Waited(msgspec.Struct, frozen=True):
    """How long the answer may wait for something to happen."""

    wait: kinds.Wait = 0
    """Seconds."""


# --- answers ----------------------------------------------------------------------------------------------------


class InvoiceInfo(Discreet, msgspec.Struct, frozen=True):
    """An invoice; or a payment that came without one."""

    payment_hash: kinds.Hash
    state: kinds.InvoiceState
    amount: kinds.Sum | None
    """Null: the payer chooses."""
    received: kinds.Sum
    """0 unless it was claimed."""
    memo: str
    invoice: str
    """What the payer gets; empty for keysend."""
    created: kinds.Second
    expires: kinds.Second
    ended: kinds.Second | None
    hold: bool
    secret: kinds.Hash | None
    """The payer's receipt; null before it was claimed: until then, nobody else may know it."""
    position: kinds.Sum
    paid: kinds.Sum
    """Counts what was claimed: a list of paid ones goes on behind it. 0 unless it was claimed."""
    refused: str = ""
    """What was given back last of what came for it since the node started, and why."""
    asset: kinds.Asset = NATIVE_ASSET
    """Of both amounts."""


class HopInfo(msgspec.Struct, frozen=True):
    """One lock of a route: `amount` goes over `channel` to `node`."""

    channel: kinds.Hash
    node: kinds.Key
    amount: kinds.Sum


class RouteInfo(msgspec.Struct, frozen=True):
    """A way to a payee, hop by hop."""

    amount: kinds.Sum
    fee: kinds.Sum
    hops: tuple[HopInfo, ...]
    asset: kinds.Asset = NATIVE_ASSET


class PartInfo(msgspec.Struct, frozen=True):
    """One part of a payment."""

    state: kinds.PaymentState
    route: RouteInfo


class PaymentInfo(Discreet, msgspec.Struct, frozen=True):
    """A payment over several hops."""

    payment_hash: kinds.Hash
    state: kinds.PaymentState
    """A probe always fails; if the payee refused it, it could have been paid."""
    kind: kinds.PaymentKind
    to: kinds.Key
    amount: kinds.Sum
    fee: kinds.Sum
    """What it has cost; 0 unless it was paid."""
    max_fee: kinds.Sum
    memo: str
    invoice: str
    secret: kinds.Hash | None
    """The receipt; null unless it was paid."""
    reason: kinds.Reason | None
    """Why it failed, as a code."""
    text: str
    """Why it failed, in words."""
    created: kinds.Clock
    ended: kinds.Clock | None
    position: kinds.Sum | None = None
    """In the list of payments."""
    parts: tuple[PartInfo, ...] | None = None
    """Only where one payment is asked for."""
    asset: kinds.Asset = NATIVE_ASSET
    """Of all amounts."""


class ForwardInfo(msgspec.Struct, frozen=True):
    """A payment of others that this node carried."""

    position: kinds.Sum
    incoming: kinds.Hash
    outgoing: kinds.Hash
    amount_in: kinds.Sum
    amount_out: kinds.Sum
    fee: kinds.Sum
    """What was earned, if it was paid."""
    outcome: kinds.Outcome
    began: kinds.Second
    ended: kinds.Second
    asset: kinds.Asset = NATIVE_ASSET


class PolicyInfo(msgspec.Struct, frozen=True):
    """What a node asks for carrying payments out over a channel."""

    channel: kinds.Hash
    base_fee: kinds.Sum
    fee_ppm: kinds.Sum
    minimum: kinds.Sum
    maximum: kinds.Sum
    """0: as much as there is."""
    margin: kinds.Sum
    enabled: bool
    asset: kinds.Asset = NATIVE_ASSET
    """Of all amounts, as the channel carries it."""


class AssetGraphInfo(msgspec.Struct, frozen=True):
    """What is known of the channels in one asset."""

    asset: kinds.Asset
    nodes: kinds.Sum
    directions: kinds.Sum
    """That payments may take: with a policy, or our own."""


class GraphInfo(msgspec.Struct, frozen=True):
    """How much of the network this node knows."""

    nodes: kinds.Sum
    """With channels in the chain's coin."""
    channels: kinds.Sum
    """Announced and confirmed by the chain, in all assets."""
    directions: kinds.Sum
    """That payments in the coin may take: with a policy, or our own."""
    peers: kinds.Sum
    """With whom announcements are exchanged now."""
    pending: kinds.Sum
    """Channels about which the chain has not answered yet."""
    assets: tuple[AssetGraphInfo, ...] = ()
    """The assets that this node has a map of the network for, the coin first."""
