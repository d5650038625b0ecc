"""What two players of an app say to each other, beside their channels (docs/apps.md, "Off chain").

Each message names its instance. All are repeatable: what is lost with a link is said again on the next one, and what
was heard already changes nothing. They are part of the wire's table in `messages`, which decodes them.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.protocol.apps import MOVE_MAX, STATE_MAX, AppTerms, Signature
from tallystick.channels.protocol.objects import Bytes32, Number

StateBytes = Annotated[bytes, msgspec.Meta(max_length=STATE_MAX)]
MoveBytes = Annotated[bytes, msgspec.Meta(max_length=MOVE_MAX)]


class AppProposal(msgspec.Struct, frozen=True, array_like=True, tag=25, forbid_unknown_fields=True):
    """The sender, player 0, wants to play this. Nothing is signed by it."""

    terms: AppTerms
    state: StateBytes
    """The first one, whose hash is in the terms."""


class AppAnswer(msgspec.Struct, frozen=True, array_like=True, tag=26, forbid_unknown_fields=True):
    """Player 1 will lock its stake, or will not; or player 0 takes its proposal back. Nothing is signed by it."""

    instance: Bytes32
    agrees: bool
    text: Annotated[str, msgspec.Meta(max_length=ERROR_TEXT_MAX)] = ""
    """Why not, for people."""


class AppMove(msgspec.Struct, frozen=True, array_like=True, tag=27, forbid_unknown_fields=True):
    """A move of the sender's, which accepts all states before it."""

    instance: Bytes32
    number: Number
    """Of the state that follows."""
    move: MoveBytes
    signature: Signature
    """Under the state that follows."""


class AppSigned(msgspec.Struct, frozen=True, array_like=True, tag=28, forbid_unknown_fields=True):
    """The sender's signature under a state: number 0 begins, any other acknowledges the receiver's move."""

    instance: Bytes32
    number: Number
    state: Bytes32
    """Its hash."""
    signature: Signature


class AppOffer(msgspec.Struct, frozen=True, array_like=True, tag=29, forbid_unknown_fields=True):
    """The sender's signature under an outcome. It never lapses: the receiver may add its own whenever it likes."""

    instance: Bytes32
    paid: tuple[Number, Number]
    signature: Signature


AppMessage: TypeAlias = AppProposal | AppAnswer | AppMove | AppSigned | AppOffer
