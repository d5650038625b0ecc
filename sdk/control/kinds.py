"""What the fields of the control API's requests and answers hold, as its documents tell it.

What stands here in `extra_json_schema` is told, and not checked by msgspec: the node refuses a request in its own
words, and a client takes what it is answered. Bounds that msgspec itself checks are its own (`ge`, `le`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from tallystick.channels.limits import AMOUNT_MAX, CHALLENGE_PERIOD_MAX, KEY_MAX, MEMO_MAX, STREAM_LENGTH_MAX

NATIVE_ASSET = "0x" + 40 * "0"
"""The chain's own coin."""

PAGE_MAX = 1_000
"""Payments, invoices or forwards in one answer."""

WAIT_MAX = 60
"""Seconds that a request may ask to wait for a payment."""

WHY_MAX = 200
"""Characters that a peer is told of why an app is refused."""

POSITION_MAX = 10**9 - 1
"""The largest position that a request may name."""


def _told(example: Any, **schema: Any) -> msgspec.Meta:
    return msgspec.Meta(examples=[example], extra_json_schema=schema)


Sum = Annotated[int, _told(250, minimum=0)]
"""Of the asset's smallest unit; or a count."""
Paid = Annotated[int, _told(250, minimum=1, maximum=AMOUNT_MAX)]
"""At least one of the asset's smallest unit."""
FeeLimit = Annotated[int, _told(10, minimum=0, maximum=AMOUNT_MAX)]
"""At most so much of the asset's smallest unit."""
Units = Annotated[int, _told(10, minimum=1, maximum=STREAM_LENGTH_MAX)]
"""Of a stream."""
Size = Annotated[int, msgspec.Meta(ge=0, examples=[10], extra_json_schema={"maximum": AMOUNT_MAX})]
Rate = Annotated[int, msgspec.Meta(ge=0, examples=[10], extra_json_schema={"maximum": 2**32 - 1})]
"""What a policy asks for; msgspec itself looks that it is not negative."""

Hash = Annotated[str, _told(16 * "3f9a", pattern="^[0-9a-f]{64}$")]
"""32 bytes: a channel's id, a payment hash, a secret."""
HashOrNone = Annotated[str, _told("", pattern="^((0x)?[0-9a-fA-F]{64})?$")]
Key = Annotated[str, _told("02" + 16 * "79be", pattern="^0[23][0-9a-f]{64}$")]
"""A node's public key."""
AnyNode = Annotated[str, _told("02" + 16 * "79be", pattern="^(0x)?0[23][0-9a-fA-F]{64}(@.*)?$")]
"""A node's public key, or `<public key>@<host>:<port>`."""
Place = Annotated[str, _told("02" + 16 * "79be" + "@127.0.0.1:9735", pattern="^0[23][0-9a-fA-F]{64}@.+:[0-9]{1,5}$")]
"""`<public key>@<host>:<port>`."""
Address = Annotated[str, _told("0x" + 40 * "7", pattern="^0x[0-9a-f]{40}$")]
Asset = Annotated[str, _told(NATIVE_ASSET, pattern="^0x[0-9a-f]{40}$")]
AnyAsset = Annotated[str, _told(NATIVE_ASSET, pattern="^(0x)?([0-9a-f]{40}|[0-9A-F]{40})$")]
"""As a request may write it; in mixed case with the checksum of EIP-55."""
ChainAsset = Annotated[str, _told("coin@1337", pattern="^(coin|0x[0-9a-fA-F]{40})@(0|[1-9][0-9]{0,19})$")]
"""An asset where it lives, as ASSET@CHAIN."""
GivenAsset = Annotated[
    str,
    _told("coin@1337", pattern="^((0x)?([0-9a-f]{40}|[0-9A-F]{40})|(coin|0x[0-9a-fA-F]{40})@(0|[1-9][0-9]{0,19}))$"),
]
"""An asset of the node that is asked, or as ASSET@CHAIN of any node of the same process."""
ChainAssetOrNone = Annotated[str, _told("", pattern="^((coin|0x[0-9a-fA-F]{40})@(0|[1-9][0-9]{0,19}))?$")]
Named = Annotated[str, _told("3f9a", pattern="^(0x)?[0-9a-fA-F]{4,64}$")]
"""A channel or a payment, by an unambiguous beginning of its id or hash."""

Payee = Annotated[str, _told("3f9a", pattern="^((0x)?[0-9a-fA-F]{4,64}|0[23][0-9a-fA-F]{64}(@.+)?)$")]
Memo = Annotated[str, _told("order 17", maxLength=MEMO_MAX)]
HexMemo = Annotated[str, _told("", pattern=f"^([0-9a-f]{{2}}){{0,{MEMO_MAX}}}$")]
Hex = Annotated[str, _told("6f72646572203137", pattern="^([0-9a-f]{2})*$")]
PaymentKey = Annotated[str, _told("order-17", maxLength=KEY_MAX)]
Cursor = Annotated[str, _told("17.1")]

# Names that the node's own enumerations hold; repeated here, as `tally --help` must not load those (a test compares).
PHASES = ("opening", "open", "frozen", "closing", "closed", "settled", "gone", "recovering")
INVOICE_STATES = ("open", "held", "claimed", "cancelled", "expired")
REASONS = (
    *("no-route", "not-enough-liquidity", "over-the-fee-limit", "payee-refuses", "invoice-expired", "timed-out"),
    *("cancelled", "program-fault"),
)
PAYMENT_KINDS = ("invoice", "keysend", "rebalance", "probe")
OUTCOMES = ("paid", "failed", "expired", "lost")
APP_PHASES = ("proposed", "agreed", "locking", "playing", "ending", "disputed", "ended")

PhaseName = Annotated[str, _told("open", enum=[*PHASES])]
Direction = Annotated[str, _told("out", enum=["out", "in"])]
InvoiceState = Annotated[str, _told("open", enum=[*INVOICE_STATES])]
PaymentState = Annotated[str, _told("paid", enum=["pending", "paid", "failed"])]
PaymentKind = Annotated[str, _told("invoice", enum=[*PAYMENT_KINDS])]
Reason = Annotated[str, _told("no-route", enum=[*REASONS])]
Outcome = Annotated[str, _told("paid", enum=[*OUTCOMES])]
AppPhaseName = Annotated[str, _told("playing", enum=[*APP_PHASES])]
AppName = Annotated[str, _told("tictactoe")]
Player = Annotated[int, _told(0, enum=[0, 1])]
Turn = Annotated[str, _told("own", enum=["own", "peer"])]
Reasons = Annotated[str, msgspec.Meta(max_length=WHY_MAX, examples=["not today"])]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**62, examples=[3])]

Period = Annotated[int, _told(86_400, minimum=0, maximum=CHALLENGE_PERIOD_MAX)]
"""Seconds of chain time."""
Lifetime = Annotated[int, _told(3_600, minimum=0, maximum=2**40)]
"""Seconds of chain time."""
Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800, examples=[30.0])]
"""How long something over several hops may be tried; msgspec itself looks at it."""
Patience = Annotated[float, _told(30.0, minimum=0, maximum=10**9)]
"""Seconds."""
Clock = Annotated[float, _told(1_790_000_000.5, minimum=0)]
"""Unix seconds."""
Second = Annotated[int, _told(1_790_000_000, minimum=0)]
"""Unix seconds."""

Wait = Annotated[int, msgspec.Meta(ge=0, le=WAIT_MAX, examples=[20])]
PageSize = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX, examples=[100])]
Position = Annotated[int, msgspec.Meta(ge=0, le=POSITION_MAX, examples=[17])]
