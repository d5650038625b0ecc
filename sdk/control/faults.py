"""Which HTTP status and which code an error becomes. The codes are part of the API and never change their meaning."""

from __future__ import annotations

from tallystick.channels.errors import (
    ChannelNotReady,
    EngineStopped,
    HistoryGone,
    InsufficientFunds,
    InvalidInput,
    LinkClosed,
    PeerError,
    StillPending,
    StoreError,
    TallystickError,
)
from tallystick.router.errors import InvalidInvoice, PaymentFailed, Unpaid
from tallystick.sdk.control.lookup import UnknownChannel, UnknownHash
from tallystick.sdk.errors import OpeningFailed
from tallystick.settlement.errors import ChainError, ChainUnavailable, TransactionRefused


class Malformed(InvalidInput):
    """The request itself is wrong."""

    def __init__(self, text: str, status: int = 400, code: str = "malformed") -> None:
        super().__init__(text)
        self.status = status
        self.code = code


_TABLE: tuple[tuple[type[TallystickError], int, str], ...] = (
    (UnknownChannel, 404, "unknown-channel"),
    (UnknownHash, 404, "unknown-hash"),
    (InvalidInvoice, 400, "invalid-invoice"),
    (InsufficientFunds, 409, "insufficient-funds"),
    (ChannelNotReady, 409, "channel-not-ready"),
    (HistoryGone, 410, "history-gone"),
    (InvalidInput, 400, "invalid-input"),
    (OpeningFailed, 409, "opening-failed"),
    (PeerError, 502, "peer-error"),
    (StillPending, 504, "still-pending"),
    (LinkClosed, 502, "link-closed"),
    (ChainUnavailable, 503, "chain-unavailable"),
    (ChainError, 502, "chain-error"),
    (TransactionRefused, 409, "transaction-refused"),
    (StoreError, 500, "store-error"),
    (EngineStopped, 503, "stopping"),
)


STATUSES: dict[str, int] = {
    **{code: status for _, status, code in _TABLE},
    **{reason.value: 409 for reason in Unpaid if reason is not Unpaid.FAULT},
    "malformed": 400,
    "too-large": 413,
    "unauthorized": 401,
    "not-found": 404,
    "wrong-method": 405,
    "failed": 409,
    "program-fault": 500,
}
"""All codes, and the status with which each comes; `program-fault` comes with 409, too, if a payment met it."""


def status_of(error: TallystickError) -> tuple[int, str]:
    """Return an error's HTTP status and code; the first row that fits counts."""
    if isinstance(error, Malformed):
        return error.status, error.code
    if isinstance(error, PaymentFailed):
        return 409, error.reason.value
    for kind, status, code in _TABLE:
        if isinstance(error, kind):
            return status, code
    return 409, "failed"
