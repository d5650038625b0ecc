"""Every error that this package raises. Each is a sentence that says what happened and what to do.

    TallystickError
    ├── InvalidInput            the caller's own argument is wrong; nothing was done
    │   ├── InsufficientFunds   the amount does not fit into the channel's capacity
    │   ├── ChannelNotReady     the channel's phase does not allow this now
    │   └── HistoryGone         the payments behind this cursor are kept no more
    ├── PeerError               the peer sent something that may not be; its connection is closed, no channel harmed
    │   ├── MalformedMessage    bytes that are no message of this protocol
    │   ├── InvalidSignature    a signature that is not the expected key's
    │   ├── InvalidUpdate       an update, ack, reveal, reject or offer that the rules refuse
    │   └── HandshakeFailed     the Noise handshake did not prove the expected key
    ├── StillPending            the time that was given is over, and what was asked for may still happen
    ├── LinkClosed              the connection ended; what was stored is repeated after the next one
    ├── StoreError              the disk refused; nothing was signed or sent, restart once it is fixed
    │   ├── StoreInUse          another process holds this data directory
    │   ├── StoreForeign        the data belongs to another key, chain, contract or kind of program
    │   ├── StoreDamaged        a row on disk is not what was written; nothing was done with it
    │   └── StoreVersion        the data was written by a newer version of Tallystick
    └── EngineStopped           the node is shutting down or has failed; its store holds the truth

Nobody matches on text: a `PeerError` has a numeric `code` (`Fault`), which also goes over the wire.
"""

from __future__ import annotations

import enum

from tallystick.channels.words import plain


class Fault(enum.IntEnum):
    """What is wrong with a peer's message. The numbers are part of the wire format and never reused."""

    MALFORMED = 1
    TOO_LARGE = 2
    UNKNOWN_MESSAGE = 3
    WRONG_VERSION = 4
    UNKNOWN_CHANNEL = 5
    WRONG_CHAIN = 6
    BAD_SIGNATURE = 7
    WRONG_SEQ = 8
    WRONG_PAYMENT_ID = 9
    BAD_AMOUNT = 10
    OVER_CAPACITY = 11
    TOO_MANY_LOCKS = 12
    BAD_LOCK = 13
    BAD_PROOF = 14
    CANCEL_REFUSED = 15
    WRONG_PHASE = 16
    BAD_OFFER = 17
    WINDOW_EXCEEDED = 18
    HANDSHAKE = 19
    REPLACED = 20
    IDLE = 21
    STATE_MISMATCH = 22
    REFUSED = 23
    UNACKNOWLEDGED = 24
    UNLOCK_REFUSED = 25


class TallystickError(Exception):
    """Root of all errors of Tallystick. Its text is safe to print and to log, whatever a stranger has put into it."""

    def __str__(self) -> str:
        return plain(super().__str__())


class InvalidInput(TallystickError, ValueError):
    """The caller's argument is wrong. Nothing was done."""


class InsufficientFunds(InvalidInput):
    """The amount does not fit into what the channel can send now."""


class ChannelNotReady(InvalidInput):
    """The channel is opening, closing, closed or recovering, so this cannot be done with it now."""


class HistoryGone(InvalidInput):
    """Payments behind the cursor were pruned, as the channel's owner wanted: they cannot be told any more."""


class PeerError(TallystickError):
    """A peer broke the protocol. `code` says how, and is what the peer is told before the connection closes."""

    code: Fault = Fault.MALFORMED

    def __init__(self, text: str, code: Fault | None = None) -> None:
        super().__init__(text)
        if code is not None:
            self.code = code


class MalformedMessage(PeerError):
    """The bytes are not a message of this protocol."""


class InvalidSignature(PeerError):
    """A signature is missing, not canonical, or by another key than the expected one."""

    code = Fault.BAD_SIGNATURE


class InvalidUpdate(PeerError):
    """A well-formed and perhaps well-signed statement that the rules of the channel refuse."""

    code = Fault.REFUSED


class HandshakeFailed(PeerError):
    """The transport's handshake failed: wrong key, tampering, or not a Tallystick node at that address."""

    code = Fault.HANDSHAKE


class StillPending(TallystickError):
    """The time that the caller gave is over. What was asked for is signed or said, so that it may still happen."""


class LinkClosed(TallystickError):
    """The connection has ended."""


class StoreError(TallystickError):
    """The store could not make something durable, so nothing that depends on it was signed, sent or done."""


class StoreInUse(StoreError):
    """Another process has this data directory open."""


class StoreForeign(StoreError):
    """The data on disk belongs to another key, another chain or another kind of program."""


class StoreDamaged(StoreError):
    """What is on disk is not what was written there: a row's checksum differs, or the file's structure is broken."""


class StoreVersion(StoreError):
    """The data on disk is newer than this program."""


class EngineStopped(TallystickError):
    """The node is stopping or has stopped after a failure; nothing more is accepted."""
