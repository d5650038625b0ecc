"""What two players of a virtual channel say to each other, beside that channel (docs/virtual.md, "Off chain").

All are repeatable: what is lost with a link is said again on the next one. They are part of the wire's table in
`messages`, which decodes them.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.protocol.objects import Address, Bytes32
from tallystick.channels.protocol.virtual import Amounts, Signature, VirtualTerms

Bytes20 = Annotated[Address, msgspec.Meta(min_length=20, max_length=20)]


class VirtualProposal(msgspec.Struct, frozen=True, array_like=True, tag=48, forbid_unknown_fields=True):
    """The sender wants this virtual channel with the receiver. Nothing is signed by it."""

    terms: VirtualTerms
    hub: Bytes20
    """Over whom both stakes go."""
    way: Bytes32
    """The sender's channel with the hub: the receiver's stake goes over it."""


class VirtualAnswer(msgspec.Struct, frozen=True, array_like=True, tag=49, forbid_unknown_fields=True):
    """The receiver of the proposal agrees; or either side takes back what did not open yet. Nothing is signed by it."""

    virtual: Bytes32
    """The id of the virtual channel."""
    agrees: bool
    way: Bytes32
    """The sender's channel with the hub; zeros if it does not agree."""
    text: Annotated[str, msgspec.Meta(max_length=ERROR_TEXT_MAX)] = ""
    """Why not, for people."""


class VirtualEnding(msgspec.Struct, frozen=True, array_like=True, tag=50, forbid_unknown_fields=True):
    """The sender's signature under the outcome. It signs one, ever."""

    virtual: Bytes32
    paid: Amounts
    signature: Signature


VirtualMessage: TypeAlias = VirtualProposal | VirtualAnswer | VirtualEnding
