"""Why a call was not served, as a document for programs (RFC 9457): types of the scheme, and those of our method."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from tallystick.paid.errors import MalformedPayment
from tallystick.paid.scheme.encoding import SIZE_MAX, canonical, parse_object

BASE = "https://paymentauth.org/problems/"
MEDIA_TYPE = "application/problem+json"


class ProblemKind(enum.StrEnum):
    """The end of a problem's type. The values go over the wire."""

    REQUIRED = "payment-required"
    INSUFFICIENT = "payment-insufficient"
    EXPIRED = "payment-expired"
    VERIFICATION = "verification-failed"
    UNSUPPORTED = "method-unsupported"
    MALFORMED = "malformed-credential"
    CHALLENGE = "invalid-challenge"
    INVOICE_EXPIRED = "tallystick/invoice-expired"
    UNDERPAID = "tallystick/underpaid"
    IN_PROGRESS = "tallystick/in-progress"
    UNREACHABLE = "tallystick/node-unreachable"
    NOT_DELIVERED = "tallystick/not-delivered"


_STATUS = {ProblemKind.IN_PROGRESS: 409, ProblemKind.UNREACHABLE: 503, ProblemKind.NOT_DELIVERED: 502}


class PaymentProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document."""

    type: str
    title: str
    status: int
    detail: str = ""
    more: dict[str, Any] = {}
    """Further fields, of the type's own."""

    def is_kind(self, kind: ProblemKind) -> bool:
        """Whether it is of one of the scheme's types."""
        return self.type == BASE + kind

    def to_json(self) -> bytes:
        """Return it as the body of an answer."""
        own = {"type": self.type, "title": self.title, "status": self.status}
        return canonical(self.more | own | ({"detail": self.detail} if self.detail else {}))


def problem(kind: ProblemKind, detail: str, **more: str) -> PaymentProblem:
    """Return a problem of one of the scheme's types: 402, unless its type says otherwise."""
    title = kind.partition("/")[2] or str(kind)
    title = title.replace("-", " ").capitalize()
    return PaymentProblem(type=BASE + kind, title=title, status=_STATUS.get(kind, 402), detail=detail, more=dict(more))


def parse_problem(body: bytes) -> PaymentProblem | None:
    """Return the problem that a body is; None if it is something else. What is missing is filled in."""
    if len(body) > SIZE_MAX:
        return None
    try:
        whole = parse_object(body)
    except MalformedPayment:
        return None
    kind, title, status, detail = (whole.pop(name, None) for name in ("type", "title", "status", "detail"))
    if not isinstance(kind, str):
        return None
    return PaymentProblem(
        type=kind,
        title=title if isinstance(title, str) else "",
        status=status if isinstance(status, int) and not isinstance(status, bool) else 0,
        detail=detail if isinstance(detail, str) else "",
        more=whole,
    )
