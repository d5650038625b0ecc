"""The vocabulary of the control API: what is asked and what is answered, as typed JSON objects.

Amounts are JSON integers of any size, in the asset's smallest unit. Keys, ids, addresses and assets are hex strings
(addresses and assets with 0x). Times are Unix seconds. Both sides use these types; unknown fields in a request are
refused, and fields that a later version adds to an answer are ignored by an older client. Which request takes and
answers which is in `operations`; the documents show these classes, with the text below each field.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from tallystick.channels.node.alarms import Alarm
from tallystick.sdk.control import kinds
from tallystick.sdk.control.kinds import NATIVE_ASSET

# --- requests ---------------------------------------------------------------------------------------------------


class OpenChannel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A channel to be opened."""

    peer: kinds.AnyNode
    """`<public key>@<host>:<port>`, or the public key of a connected peer."""
    deposit: kinds.Paid
    asset: kinds.AnyAsset = NATIVE_ASSET
    challenge_period: kinds.Period | None = None
    """How long each side has to answer a close without the peer. The node bounds it; null: its own choice."""
    wait: bool = True
    """Whether the answer comes once the channel is usable, or once it is on its way."""


class OpenVirtual(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A virtual channel to be opened: over hubs, without a transaction."""

    peer: kinds.AnyNode
    """`<public key>@<host>:<port>`, or the public key of a connected peer."""
    deposit: kinds.Paid
    """What is locked of ours in a channel with a hub until this one ends."""
    peer_deposit: kinds.FeeLimit = 0
    """What the peer is asked to put in; its settings say how much it does."""
    seconds: kinds.Lifetime | None = None
    """How long it lasts at most, in chain time; null: half a day."""
    hubs: Annotated[tuple[kinds.Named, ...], msgspec.Meta(max_length=5)] = ()
    """The hubs from us to the peer: each by its address, the first one also by our channel with it, another one by the
    channel that the hub before has with it. None: the node finds a way."""
    asset: kinds.AnyAsset = NATIVE_ASSET
    """If a channel of ours is named, it is that channel's."""


class Transfer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount that goes into a channel, or out of it."""

    amount: kinds.Paid
    wait: bool = True
    """False: 202 as soon as it is on its way."""


class CloseChannel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a channel is closed."""

    wait: bool = True
    """False: 202 as soon as it is on its way. Without the peer, true: once nothing is left on chain."""
    timeout: kinds.Patience | None = None
    """Seconds to wait for the peer; null: for as long as it takes. A close without the peer takes none."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a channel is recorded."""

    on: bool = True
    """True: from now on, anew. False: no longer, and what was recorded is forgotten."""


class CreatePayment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment in a channel."""

    to: kinds.Payee
    """A channel's id (or an unambiguous beginning of it), or a peer's key or address."""
    amount: kinds.Paid
    memo: kinds.Memo = ""
    """At most 256 bytes in UTF-8."""
    memo_hex: kinds.HexMemo = ""
    """The memo, if it is no text."""
    key: kinds.PaymentKey = ""
    """Any text: the same key pays once, however often it is sent."""
    asset: kinds.AnyAsset = NATIVE_ASSET
    timeout: kinds.Patience | None = None
    """Seconds; null: it waits for the peer for as long as it takes."""


class OpenStream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stream to be opened: `length` units of `unit` each."""

    unit: kinds.Paid
    length: kinds.Units
    lifetime: kinds.Lifetime = 86_400
    """Seconds of chain time."""


class PayUnits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many units of a stream are paid."""

    units: kinds.Units = 1


class Connect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A peer to connect to."""

    address: kinds.Place


class AskedAsset(msgspec.Struct, frozen=True):
    """An asset, the chain's coin unless another is given."""

    asset: kinds.AnyAsset = NATIVE_ASSET


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A claim of all that the contract owes the node of an asset."""

    asset: kinds.AnyAsset = NATIVE_ASSET
    to: kinds.AnyAsset | None = None
    """The account that gets it; null: the node's own."""
    wait: bool = True
    """False: 202 as soon as it is on its way."""


class IncomingPage(msgspec.Struct, frozen=True):
    """Which received payments are asked for."""

    after: kinds.Cursor = ""
    """A cursor: those behind it. Empty or "oldest": from the oldest on; "newest": what comes from now on."""
    limit: kinds.PageSize = 100
    channel: kinds.Named | None = None
    """Only those in this channel."""
    wait: kinds.Wait = 0
    """Seconds to wait for one, if there is none."""
    follow: bool = False
    """Answer with one JSON object a line (NDJSON), for ever."""


# --- answers ----------------------------------------------------------------------------------------------------


class NodeInfo(msgspec.Struct, frozen=True):
    """What a node is."""

    address: kinds.Address
    public_key: kinds.Key
    peer_address: kinds.Place | None
    """What others connect to; null if the node only dials."""
    chain_id: kinds.Sum
    contract: kinds.Address
    block: kinds.Sum
    block_time: kinds.Second
    channels: kinds.Sum
    """Those that are not gone."""
    connected_peers: kinds.Sum
    alarms: tuple[Alarm, ...]
    """What a person should know, newest last."""
    waiting_for: str = ""
    """What the node waits for before it speaks to peers and does anything; empty once it does."""
    ready: bool = True
    """Whether the node knows the chain as it is now: only then it takes payments and opens channels."""
    cursor: str = ""
    """Of the newest payment that was received in a channel: `incoming` goes on behind it."""


class Awaited(msgspec.Struct, frozen=True):
    """What the chain shows of a channel, and does not count yet: a reorganisation could take it away."""

    seen: kinds.Sum
    """Confirmations so far; 1: it is in the newest block."""
    wanted: kinds.Sum | None
    """Confirmations at which it counts; null: it counts once the chain calls its block final."""
    at_risk: kinds.Sum
    """What could be lost with it: the more, the deeper it has to be."""


class ChannelInfo(msgspec.Struct, frozen=True):
    """A channel. Pairs are (own, peer's)."""

    id: kinds.Hash
    peer: kinds.Key
    peer_address: kinds.Address
    asset: kinds.Asset
    phase: kinds.PhaseName
    connected: bool
    balance: kinds.Sum
    peer_balance: kinds.Sum
    spendable: kinds.Sum
    reserve: kinds.Sum
    deposits: tuple[kinds.Sum, kinds.Sum]
    withdrawn: tuple[kinds.Sum, kinds.Sum]
    payments_sent: kinds.Sum
    payments_received: kinds.Sum
    challenge_period: kinds.Period
    closing: bool = False
    """Whether a close with the peer's consent is under way: nothing new is taken."""
    receivable: kinds.Sum = 0
    """What the peer could pay now, as far as this side knows."""
    awaited: Awaited | None = None
    """What is on chain (an opening, a deposit, an end) and has too few confirmations yet; null if all counts."""
    virtual: bool = False
    """Whether it is not on chain but over hubs: what is in it is locked in the channels with those."""
    uncounted: kinds.Sum = 0
    """What counts as put in by this node, and not by its peer yet, which may wait for more confirmations."""


class PaymentMade(msgspec.Struct, frozen=True):
    """A receipt: both hold the payment durably and the payee has countersigned it."""

    channel: kinds.Hash
    payment: kinds.Sum
    amount: kinds.Sum
    memo: str | None
    """Null if it is no text."""
    memo_hex: kinds.Hex
    seq: kinds.Sum
    accepted: kinds.Clock
    secured: kinds.Clock


class IncomingInfo(msgspec.Struct, frozen=True):
    """A payment that was received."""

    channel: kinds.Hash
    payment: kinds.Sum
    amount: kinds.Sum
    memo: str | None
    memo_hex: kinds.Hex
    time: kinds.Clock
    cursor: str


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream of units in a channel."""

    channel: kinds.Hash
    lock: kinds.Sum
    """With the direction, its name within the channel."""
    direction: kinds.Direction
    """"out" if this node pays it, else "in"."""
    unit: kinds.Sum
    length: kinds.Sum
    units: kinds.Sum
    """How many were paid so far, durably at both ends."""
    expiry: kinds.Second
    ended: bool


class Balance(msgspec.Struct, frozen=True):
    """What a node holds: on chain in the node's account, and in its channels."""

    address: kinds.Address
    asset: kinds.Asset
    chain: kinds.Sum
    channels: kinds.Sum
    by_permit: bool
    """Whether a deposit of it is one transaction, with a permit (EIP-2612); other tokens are approved before."""


class Owing(msgspec.Struct, frozen=True):
    """What the contract owes the node of an asset, as a payout was refused; or what of it was claimed."""

    asset: kinds.Asset
    amount: kinds.Sum


class PeerInfo(msgspec.Struct, frozen=True):
    """A peer."""

    public_key: kinds.Key
    address: kinds.Address
    place: kinds.Place | None
    """Where it was last found, as `<public key>@<host>:<port>`."""
    connected: bool
    channels: kinds.Sum


class RecordState(msgspec.Struct, frozen=True):
    """Whether what happens to a channel is taken down."""

    recording: bool


class RecordedFile(msgspec.Struct, frozen=True):
    """What happened to a channel while it was recorded."""

    file: str
    """The text of the file: JSON of a form of its own, with a checksum. It holds no key, no secret and no signature."""


class Accepted(msgspec.Struct, frozen=True):
    """It is on its way; what goes wrong from now on is in the alarms of the node's info."""

    accepted: bool = True


class Stopping(msgspec.Struct, frozen=True):
    """The node stops once this answer has left."""

    stopping: bool = True


class FaultInfo(msgspec.Struct, frozen=True):
    """Why a request came to nothing."""

    code: str
    """Part of the API: it never changes its meaning."""
    text: str
    """A sentence for a person; nobody matches on it."""


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The answer to a request that came to nothing."""

    error: FaultInfo
