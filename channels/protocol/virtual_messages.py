"""What two players of a virtual channel say to each other, beside that channel (docs/virtual.md, "Off chain").

All are repeatable: what is lost with a link is said again on the next one. They are part of the wire's table in
`messages`, which decodes them.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.protocol.objects import Bytes32
from tallystick.channels.protocol.virtual import HUBS_MOST, WAYS_MOST, Amounts, Signature, VirtualTerms, WayIn

Hubs = Annotated[
    tuple[Annotated[bytes, msgspec.Meta(min_length=33, max_length=33)], ...], msgspec.Meta(max_length=HUBS_MOST)
]
Ways = Annotated[tuple[WayIn, ...], msgspec.Meta(max_length=WAYS_MOST)]


class VirtualProposal(msgspec.Struct, frozen=True, array_like=True, tag=48, forbid_unknown_fields=True):
    """The sender wants this virtual channel with the receiver. Nothing is signed by it."""

    terms: VirtualTerms
    over: Hubs
    """Public keys of the hubs that both stakes go over, from the sender to the receiver; none: each finds its way."""
    ways: Ways
    """Over which channels locks may come to the sender; any other channel will do, too."""


class VirtualAnswer(msgspec.Struct, frozen=True, array_like=True, tag=49, forbid_unknown_fields=True):
    """The receiver of the proposal agrees; or either side takes back what did not open yet. Nothing is signed by it."""

    virtual: Bytes32
    """The id of the virtual channel."""
    agrees: bool
    ways: Ways
    """Over which channels locks may come to the sender; none if it does not agree."""
    text: Annotated[str, msgspec.Meta(max_length=ERROR_TEXT_MAX)] = ""
    """Why not, for people."""


class VirtualEnding(msgspec.Struct, frozen=True, array_like=True, tag=50, forbid_unknown_fields=True):
    """The sender's signature under the outcome. It signs one, ever."""

    virtual: Bytes32
    paid: Amounts
    signature: Signature


VirtualMessage: TypeAlias = VirtualProposal | VirtualAnswer | VirtualEnding
