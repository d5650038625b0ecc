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

    meaning: str
    """The part of a sentence that a person can read."""

    def __new__(cls, number: int, meaning: str = "") -> Code:  # with a number alone it finds
        code = int.__new__(cls, number)
        code._value_, code.meaning = number, meaning
        return code

    TEMPORARY_NODE_FAILURE = NODE | 2, "this node cannot forward just now"
    PERMANENT_NODE_FAILURE = PERM | NODE | 2, "this node does not forward payments"
    REQUIRED_NODE_FEATURE_MISSING = PERM | NODE | 3, "this node wants a feature that the payer did not use"
    INVALID_ONION_VERSION = BADONION | PERM | 4, "the next node does not know this version of the onion"
    INVALID_ONION_HMAC = BADONION | PERM | 5, "the next node got an onion that was damaged, or not made for it"
    INVALID_ONION_KEY = BADONION | PERM | 6, "the next node got an onion whose key is no point of the curve"
    TEMPORARY_CHANNEL_FAILURE = UPDATE | 7, "the next channel cannot carry this amount just now"
    PERMANENT_CHANNEL_FAILURE = PERM | 8, "the next channel is closing"
    REQUIRED_CHANNEL_FEATURE_MISSING = PERM | 9, "the next channel wants a feature that the payer did not use"
    UNKNOWN_NEXT_PEER = PERM | 10, "the next channel is unknown at this node, or its peer is not connected"
    AMOUNT_BELOW_MINIMUM = UPDATE | 11, "the amount is below the least that the next channel carries"
    FEE_INSUFFICIENT = UPDATE | 12, "the fee is below what the next channel asks for"
    INCORRECT_EXPIRY = UPDATE | 13, "the incoming lock expires before the outgoing one would"
    EXPIRY_TOO_SOON = UPDATE | 14, "the lock expires too soon to be forwarded safely"
    INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS = (
        PERM | 15,
        "the payee knows no such payment, or not with this amount or secret",
    )
    FINAL_INCORRECT_EXPIRY = 18, "the last lock does not expire when the onion says"
    FINAL_INCORRECT_AMOUNT = 19, "the last lock does not carry what the onion says"
    CHANNEL_DISABLED = UPDATE | 20, "the next channel takes no payments just now"
    EXPIRY_TOO_FAR = 21, "the lock expires too far in the future"
    INVALID_ONION_PAYLOAD = PERM | 22, "the instructions in the onion cannot be understood"
    MPP_TIMEOUT = 23, "the other parts of the payment did not arrive in time"

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


def interpret(number: int) -> Code:
    """Return the code of that number; for an unknown one the general code that its flags say."""
    try:
        return Code(number)
    except ValueError:
        if number & NODE:
            return Code.PERMANENT_NODE_FAILURE if number & PERM else Code.TEMPORARY_NODE_FAILURE
        return Code.PERMANENT_CHANNEL_FAILURE if number & PERM else Code.TEMPORARY_CHANNEL_FAILURE
