"""What a payer makes of a failure: who is to be blamed, for what, and whether trying again makes sense.

A hop's word counts only for itself: what only the payee can say (it does not want the payment) is believed from the
payee, and from anybody else it is a sign of a node that makes no sense. A hop that says of the next one that it could
not open its onion has to name the onion that the next one must have got; else it damaged it, or made the failure up.
Source: BOLT 4, "Returning Errors".
"""

from __future__ import annotations

import enum
import hashlib
from itertools import islice

import msgspec

from tallystick.router.codes import Code
from tallystick.router.onion.failures import Failure, attribute
from tallystick.router.onion.sphinx import BuiltOnion, onions_of


class Attribution(enum.Enum):
    """What a failed part says of the network."""

    LIQUIDITY = 1
    """The channel onwards could not carry the amount."""
    POLICY = 2
    """The channel onwards asks for something else than we thought; the failure may hold its newest policy."""
    CHANNEL = 3
    """The channel onwards is of no use for now."""
    NODE = 4
    """The node is of no use for now."""
    REFUSED = 5
    """The payee does not want this payment: trying again is of no use."""
    AGAIN = 6
    """The payee gave up waiting for the other parts: nobody is to blame."""
    UNKNOWN = 7
    """Nobody can tell who failed: a forwarder garbled the failure."""


class PartFailure(msgspec.Struct, frozen=True):
    """Why a part failed: the node that said so is `hops[at].node` of its route (0: our own peer)."""

    attribution: Attribution
    at: int = 0
    update: bytes = b""
    """An encoded channel update that came with it."""
    text: str = ""
    """For a person."""
    brief: bool = False
    """Whether it may be over at any moment: a peer that is not connected, a node that starts."""


_OF_PAYEE = {
    Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS: Attribution.REFUSED,
    Code.FINAL_INCORRECT_EXPIRY: Attribution.CHANNEL,
    Code.FINAL_INCORRECT_AMOUNT: Attribution.CHANNEL,
    Code.MPP_TIMEOUT: Attribution.AGAIN,
}

_ONWARDS = {
    Code.TEMPORARY_CHANNEL_FAILURE: Attribution.LIQUIDITY,
    Code.AMOUNT_BELOW_MINIMUM: Attribution.POLICY,
    Code.FEE_INSUFFICIENT: Attribution.POLICY,
    Code.INCORRECT_EXPIRY: Attribution.POLICY,
    Code.EXPIRY_TOO_SOON: Attribution.POLICY,
    Code.CHANNEL_DISABLED: Attribution.POLICY,
}

_BRIEF = {
    Code.TEMPORARY_NODE_FAILURE,
    Code.TEMPORARY_CHANNEL_FAILURE,
    Code.CHANNEL_DISABLED,
    Code.EXPIRY_TOO_SOON,
}
"""What may be over at any moment: a node that starts, a peer that is not connected, a margin that was news to us."""


def attribution_of(onion: BuiltOnion, reason: bytes) -> PartFailure:
    """Return what to learn from the reason with which a part came back; `onion` is the one that it was sent with.

    No reason at all is the direct peer's silence: the lock expired, or the reason was lost in a crash.
    """
    if not reason:
        return PartFailure(Attribution.UNKNOWN, text="nobody said why", brief=True)
    found = attribute(onion.secrets, reason)
    if found is None:
        return PartFailure(Attribution.UNKNOWN, text="a node on the way made the reason unreadable")
    at, failure = found
    attribution = _attribution(at, failure, len(onion.secrets))
    if failure.code.bad_onion and attribution is Attribution.CHANNEL and not _passed_on(onion, at, failure):
        attribution = Attribution.NODE
    if attribution is Attribution.CHANNEL and at and at == len(onion.secrets) - 1:
        at -= 1  # the payee got another lock than the payer meant: whoever sent it that is to blame
    brief = failure.code in _BRIEF and attribution in (Attribution.CHANNEL, Attribution.NODE, Attribution.POLICY)
    return PartFailure(attribution, at, failure.update, str(failure), brief)


def _passed_on(onion: BuiltOnion, at: int, failure: Failure) -> bool:
    """Whether a failure about the onion of the hop after `at` names the one that it must have got.

    A notice of our own peer names the one that we sent. What cannot be checked, after a restart, is not believed.
    """
    if not onion.packet:
        return False
    following = next(islice(onions_of(onion), at + 1, None), b"")
    return failure.onion_hash == hashlib.sha256(following).digest()


def _attribution(at: int, failure: Failure, hops: int) -> Attribution:
    code, is_payee = failure.code, at >= hops - 1
    if code in _OF_PAYEE:
        return _OF_PAYEE[code] if is_payee else Attribution.NODE
    if is_payee:
        return Attribution.REFUSED if code.permanent else Attribution.AGAIN
    return _ONWARDS.get(code, Attribution.NODE if code.of_node else Attribution.CHANNEL)
