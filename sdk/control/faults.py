"""Which HTTP status and which code an error becomes. The codes are part of the API and never change their meaning."""

from __future__ import annotations

from tallystick.channels import errors
from tallystick.channels.apps.interface import InvalidMove
from tallystick.router.errors import InvalidInvoice, PaymentFailed, Unpaid
from tallystick.sdk.control.lookup import UnknownApp, UnknownChannel, UnknownHash
from tallystick.sdk.errors import NoMaker, OpeningFailed
from tallystick.settlement.errors import ChainError, ChainUnavailable, TransactionRefused


class Malformed(errors.InvalidInput):
    """The request itself is wrong."""

    def __init__(self, text: str, status: int = 400, code: str = "malformed") -> None:
        super().__init__(text)
        self.status = status
        self.code = code


_TABLE: tuple[tuple[type[errors.TallystickError], int, str], ...] = (
    (UnknownChannel, 404, "unknown-channel"),
    (UnknownHash, 404, "unknown-hash"),
    (UnknownApp, 404, "unknown-app"),
    (InvalidMove, 409, "illegal-move"),
    (InvalidInvoice, 400, "invalid-invoice"),
    (errors.InsufficientFunds, 409, "insufficient-funds"),
    (errors.ChannelNotReady, 409, "channel-not-ready"),
    (errors.HistoryGone, 410, "history-gone"),
    (errors.InvalidInput, 400, "invalid-input"),
    (OpeningFailed, 409, "opening-failed"),
    (NoMaker, 409, "no-maker"),
    (errors.PeerError, 502, "peer-error"),
    (errors.StillPending, 504, "still-pending"),
    (errors.LinkClosed, 502, "link-closed"),
    (ChainUnavailable, 503, "chain-unavailable"),
    (ChainError, 502, "chain-error"),
    (TransactionRefused, 409, "transaction-refused"),
    (errors.StoreError, 500, "store-error"),
    (errors.EngineStopped, 503, "stopping"),
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


def status_of(error: errors.TallystickError) -> tuple[int, str]:
    """Return an error's HTTP status and code; the first row that fits counts."""
    if isinstance(error, Malformed):
        return error.status, error.code
    if isinstance(error, PaymentFailed):
        return 409, error.reason.value
    for kind, status, code in _TABLE:
        if isinstance(error, kind):
            return status, code
    return 409, "failed"
