"""Errors of the SDK, below `TallystickError`.

TallystickError
├── OpeningFailed       the channel was not opened; nothing is locked
├── ConfigurationError  the data directory, its configuration or its keystore cannot be used
├── NoMaker             what was asked is for a maker, and this node is none
├── CallFailed          a rule of a module refuses a call
├── MeasurementVoid     a benchmark's payments do not add up, or something that it needs is missing
└── ControlError        the node's control API refused (see `code`)
    └── NodeUnreachable no node is running there, or it stopped before it answered
"""

from __future__ import annotations

from tallystick.channels.errors import TallystickError
from tallystick.settlement.errors import Revert


class OpeningFailed(TallystickError):
    """The peer refused, did not answer, or the chain refused the opening. Nothing is locked."""


class ConfigurationError(TallystickError):
    """The data directory or what is in it cannot be used; the text says what to do."""


class CallFailed(TallystickError):
    """A rule refuses a call of a module; nothing of it was done. `revert` says which, None if none that we know."""

    def __init__(self, text: str, revert: Revert | None = None) -> None:
        super().__init__(text)
        self.revert = revert


class MeasurementVoid(TallystickError):
    """What a benchmark measured does not count; the text says why."""


class ControlError(TallystickError):
    """The node's control API refused a request. `code` says why, as in the API's answer."""

    def __init__(self, text: str, code: str = "failed") -> None:
        super().__init__(text)
        self.code = code


class NodeUnreachable(ControlError):
    """No node answers there."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "unreachable")


class NoMaker(TallystickError):
    """What was asked is for a node that pays between chains as a maker, and this one does not."""
