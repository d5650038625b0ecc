"""The ways in which a payment fails on its route: BOLT 4's failure codes, and what they tell a person.

Four flags say who is to blame and for how long, so that a code which this version does not know still means something:
BADONION (the next node could not open its onion), PERM (do not try again), NODE (the whole node, not one channel),
UPDATE (a channel's policy is not what the payer thought; the failure carries the newest one).

The numbers are BOLT 4's; `cltv_expiry` and `htlc` have this protocol's words, expiry and amount. Only
`invalid_onion_blinding` is left out: there are no blinded routes. Source: BOLT 4, "Failure Messages".
"""

from __future__ import annotations

import enum

BADONION = 0x8000
PERM = 0x4000
NODE = 0x2000
UPDATE = 0x1000


class Code(enum.IntEnum):
    """Why a hop refuses. The numbers are BOLT 4's, part of the wire format and never reused."""

    TEMPORARY_NODE_FAILURE = NODE | 2
    PERMANENT_NODE_FAILURE = PERM | NODE | 2
    REQUIRED_NODE_FEATURE_MISSING = PERM | NODE | 3
    INVALID_ONION_VERSION = BADONION | PERM | 4
    INVALID_ONION_HMAC = BADONION | PERM | 5
    INVALID_ONION_KEY = BADONION | PERM | 6
    TEMPORARY_CHANNEL_FAILURE = UPDATE | 7
    PERMANENT_CHANNEL_FAILURE = PERM | 8
    REQUIRED_CHANNEL_FEATURE_MISSING = PERM | 9
    UNKNOWN_NEXT_PEER = PERM | 10
    AMOUNT_BELOW_MINIMUM = UPDATE | 11
    FEE_INSUFFICIENT = UPDATE | 12
    INCORRECT_EXPIRY = UPDATE | 13
    EXPIRY_TOO_SOON = UPDATE | 14
    INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS = PERM | 15
    FINAL_INCORRECT_EXPIRY = 18
    FINAL_INCORRECT_AMOUNT = 19
    CHANNEL_DISABLED = UPDATE | 20
    EXPIRY_TOO_FAR = 21
    INVALID_ONION_PAYLOAD = PERM | 22
    MPP_TIMEOUT = 23

    @property
    def bad_onion(self) -> bool:
        """Whether the node after the reporting one could not open its onion."""
        return bool(self & BADONION)

    @property
    def permanent(self) -> bool:
        """Whether trying the same again is useless."""
        return bool(self & PERM)

    @property
    def of_node(self) -> bool:
        """Whether the whole node fails, not one of its channels."""
        return bool(self & NODE)

    @property
    def of_policy(self) -> bool:
        """Whether the failure may carry the newest policy of the channel that it is about."""
        return bool(self & UPDATE)


_SENTENCES = {
    Code.TEMPORARY_NODE_FAILURE: "this node cannot forward just now",
    Code.PERMANENT_NODE_FAILURE: "this node does not forward payments",
    Code.REQUIRED_NODE_FEATURE_MISSING: "this node wants a feature that the payer did not use",
    Code.INVALID_ONION_VERSION: "the next node does not know this version of the onion",
    Code.INVALID_ONION_HMAC: "the next node got an onion that was damaged, or not made for it",
    Code.INVALID_ONION_KEY: "the next node got an onion whose key is no point of the curve",
    Code.TEMPORARY_CHANNEL_FAILURE: "the next channel cannot carry this amount just now",
    Code.PERMANENT_CHANNEL_FAILURE: "the next channel is closing",
    Code.REQUIRED_CHANNEL_FEATURE_MISSING: "the next channel wants a feature that the payer did not use",
    Code.UNKNOWN_NEXT_PEER: "the next channel is unknown at this node, or its peer is not connected",
    Code.AMOUNT_BELOW_MINIMUM: "the amount is below the least that the next channel carries",
    Code.FEE_INSUFFICIENT: "the fee is below what the next channel asks for",
    Code.INCORRECT_EXPIRY: "the incoming lock expires before the outgoing one would",
    Code.EXPIRY_TOO_SOON: "the lock expires too soon to be forwarded safely",
    Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS: "the payee knows no such payment, or not with this amount or secret",
    Code.FINAL_INCORRECT_EXPIRY: "the last lock does not expire when the onion says",
    Code.FINAL_INCORRECT_AMOUNT: "the last lock does not carry what the onion says",
    Code.CHANNEL_DISABLED: "the next channel takes no payments just now",
    Code.EXPIRY_TOO_FAR: "the lock expires too far in the future",
    Code.INVALID_ONION_PAYLOAD: "the instructions in the onion cannot be understood",
    Code.MPP_TIMEOUT: "the other parts of the payment did not arrive in time",
}


def explain(code: Code) -> str:
    """Return what the code means, as the part of a sentence that a person can read."""
    return _SENTENCES[code]


def interpret(number: int) -> Code:
    """Return the code of that number; for an unknown one the general code that its flags say."""
    try:
        return Code(number)
    except ValueError:
        if number & NODE:
            return Code.PERMANENT_NODE_FAILURE if number & PERM else Code.TEMPORARY_NODE_FAILURE
        return Code.PERMANENT_CHANNEL_FAILURE if number & PERM else Code.TEMPORARY_CHANNEL_FAILURE
