"""What may be spent, and which of a server's offers is taken. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.paid.errors import MalformedPayment, NotPaid
from tallystick.paid.method import INTENT, METHOD, CallCharge, read_charge
from tallystick.paid.scheme.challenges import PaymentChallenge
from tallystick.paid.scheme.encoding import is_digest_of


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Hard limits, in the smallest unit of one asset, fees included. What is on its way counts as spent."""

    per_call: int
    per_day: int
    """By the calendar of UTC."""
    per_host: int | None = None
    """A day, for each host; None: as much as `per_day`."""
    max_fee: int = 5
    """What a payment may cost beside its amount, within `per_call`."""
    hosts: tuple[str, ...] | None = None
    """Who may be paid, as in `api.example.com`; None: everybody."""
    currency: str = "native"
    """`native`, or a token's address as `0x` and 40 hex digits in small letters."""
    plain_http: bool = False
    """Whether hosts other than this machine may be paid without TLS: whoever listens reads what was bought."""

    def __post_init__(self) -> None:
        for name in ("per_call", "per_day", "per_host", "max_fee"):
            value = getattr(self, name)
            if name == "per_host" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= AMOUNT_MAX:
                raise InvalidInput(f"{name} is a whole number from 0, in the asset's smallest unit")


class WantedCall(msgspec.Struct, frozen=True):
    """The call that is to be paid for."""

    scheme: str
    host: str
    body: bytes
    has_authorization: bool
    """Whether it has credentials of another kind already, in `Authorization`."""


class TakenOffer(msgspec.Struct, frozen=True):
    """An offer that is taken."""

    challenge: PaymentChallenge
    charge: CallCharge


def choose(challenges: Iterable[PaymentChallenge], call: WantedCall, budget: Budget, now: float) -> TakenOffer | None:
    """Return the offer that is taken: of those that are paid on delivery the cheapest, else of the others.

    None if none is of our method. Raise NotPaid, which says why, if there are some and none may be taken.
    """
    found, reasons = list[TakenOffer](), list[str]()
    for challenge in challenges:
        if (challenge.method, challenge.intent) != (METHOD, INTENT):
            continue
        try:
            charge = read_charge(challenge)
            reason = _objection(challenge, charge, call, budget, now)
        except MalformedPayment as error:
            reasons.append(str(error))
            continue
        if reason:
            reasons.append(reason)
        else:
            found.append(TakenOffer(challenge, charge))
    if not found and reasons:
        raise NotPaid(f"{call.host} was not paid: {'; '.join(reasons)}")
    return min(found, key=lambda offer: (not offer.charge.is_held, offer.charge.amount), default=None)


def _objection(challenge: PaymentChallenge, charge: CallCharge, call: WantedCall, budget: Budget, now: float) -> str:
    """Return why an offer is not taken; nothing if it may be."""
    field = credential_field(challenge)
    if budget.hosts is not None and call.host not in budget.hosts:
        return "this host is not among those that may be paid"
    if call.scheme != "https" and not budget.plain_http and not _is_here(call.host):
        return "it is reached without TLS, and whoever listens would read what was bought"
    if charge.currency != budget.currency:
        return f"it asks for {charge.currency}, and the budget is in {budget.currency}"
    if charge.amount > budget.per_call:
        return f"it costs {charge.amount}, and {budget.per_call} may be spent on a call"
    if challenge.is_expired(now):
        return "its offer has expired"
    if challenge.digest and not is_digest_of(challenge.digest, call.body):
        return "its offer is for another body"
    if field.lower() != "authorization" and "payment" not in field.lower():
        return f"it wants the credential in the field {field}, which is for something else"
    if field.lower() == "authorization" and call.has_authorization:
        return "the call has credentials of another kind already, and Authorization holds one"
    return ""


def credential_field(challenge: PaymentChallenge) -> str:
    """Return the name of the field in which a challenge wants its credential."""
    return challenge.header or "Authorization"


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
