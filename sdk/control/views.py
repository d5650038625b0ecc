"""The vocabulary of the control API: what is asked and what is answered, as typed JSON objects.

Amounts are JSON integers of any size, in the asset's smallest unit. Keys, ids, addresses and assets are hex strings
(addresses and assets with 0x). Times are Unix seconds. Both sides use these types; unknown fields in a request are
refused, and fields that a later version adds to an answer are ignored by an older client.
"""

from __future__ import annotations

import msgspec

from tallystick.channels.node.alarms import Alarm

NATIVE_ASSET = "0x" + 40 * "0"
"""The chain's own coin."""

# --- requests ---------------------------------------------------------------------------------------------------


class OpenChannel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /channels. `peer` is `<public key>@<host>:<port>`, or the public key of a connected peer."""

    peer: str
    deposit: int
    asset: str = NATIVE_ASSET
    challenge_period: int | None = None
    wait: bool = True


class Amount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /channels/{id}/deposit and /withdraw."""

    amount: int
    wait: bool = True


class CloseChannel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /channels/{id}/close and /force-close (which takes no `timeout`: it waits for nobody)."""

    wait: bool = True
    timeout: float | None = None
    """Seconds to wait for the peer; None: for as long as it takes."""


class CreatePayment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /payments. `to` is a channel's id (or an unambiguous beginning of it), or a peer's key or address."""

    to: str
    amount: int
    memo: str = ""
    memo_hex: str = ""
    key: str = ""
    asset: str = NATIVE_ASSET
    timeout: float | None = None
    """Seconds; None: it waits for the peer for as long as it takes."""


class OpenStream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /channels/{id}/streams. `lifetime` in seconds of chain time."""

    unit: int
    length: int
    lifetime: int = 86_400


class PayUnits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /channels/{id}/streams/{lock}/pay."""

    units: int = 1


class Connect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /peers."""

    address: str


# --- answers ----------------------------------------------------------------------------------------------------


class NodeInfo(msgspec.Struct, frozen=True):
    """GET /info."""

    address: str
    public_key: str
    peer_address: str | None
    """What others connect to; None if the node only dials."""
    chain_id: int
    contract: str
    block: int
    block_time: int
    channels: int
    """Those that are not gone."""
    connected_peers: int
    alarms: tuple[Alarm, ...]
    """What a person should know, newest last."""
    waiting_for: str = ""
    """What the node waits for before it speaks to peers and does anything; empty once it does."""
    ready: bool = True
    """Whether the node knows the chain as it is now: only then it takes payments and opens channels."""
    cursor: str = ""
    """Of the newest payment that was received in a channel: `incoming` goes on behind it."""


class ChannelInfo(msgspec.Struct, frozen=True):
    """One channel, as in GET /channels. Pairs are (own, peer's)."""

    id: str
    peer: str
    peer_address: str
    asset: str
    phase: str
    connected: bool
    balance: int
    peer_balance: int
    spendable: int
    reserve: int
    deposits: tuple[int, int]
    withdrawn: tuple[int, int]
    payments_sent: int
    payments_received: int
    challenge_period: int
    closing: bool = False
    """Whether a close with the peer's consent is under way: nothing new is taken."""
    receivable: int = 0
    """What the peer could pay now, as far as this side knows."""


class PaymentMade(msgspec.Struct, frozen=True):
    """A receipt: both hold the payment durably and the payee has countersigned it."""

    channel: str
    payment: int
    amount: int
    memo: str | None
    """None if it is no text."""
    memo_hex: str
    seq: int
    accepted: float
    secured: float


class IncomingInfo(msgspec.Struct, frozen=True):
    """A payment that was received, as in GET /incoming."""

    channel: str
    payment: int
    amount: int
    memo: str | None
    memo_hex: str
    time: float
    cursor: str


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream, as in GET /streams."""

    channel: str
    lock: int
    """With the direction, its name within the channel."""
    direction: str
    """"out" if this node pays it, else "in"."""
    unit: int
    length: int
    units: int
    """How many were paid so far, durably at both ends."""
    expiry: int
    ended: bool


class Balance(msgspec.Struct, frozen=True):
    """GET /balance: on chain in the node's account, and in its channels."""

    address: str
    asset: str
    chain: int
    channels: int


class PeerInfo(msgspec.Struct, frozen=True):
    """One peer, as in GET /peers."""

    public_key: str
    address: str
    place: str | None
    """Where it was last found, as `<public key>@<host>:<port>`."""
    connected: bool
    channels: int
