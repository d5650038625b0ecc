"""Failures on their way back to the payer: only it can read them, and it knows which hop wrote them (BOLT 4).

    packet    HMAC (32) | size (2) | message | size (2) | padding     292 bytes; 512 if the message is unusually long
    message   code (2) | records: 2 amount, 4 time or expiry, 6 channel, 8 update, 10 onion's hash, 12 type, 14 offset

The failing hop authenticates the packet under its key `um` and hides it under `ammag`; each hop on the way back hides
it once more. The payer unhides in order until an HMAC fits: that hop wrote it. It always makes as many tries, so
that its time tells nobody how long the route was.

A hop that cannot open its onion shares no secret with the payer. It answers a *notice* (34 bytes: code and the onion's
hash), which the hop before it turns into a failure of its own, as BOLT 2's `update_fail_malformed_htlc`. A reject that
is neither (a peer whose channel rules refuse a lock says nothing at all) becomes a temporary failure of that channel.

What cannot be known: a hop that damages a failure in passing, or writes noise, makes it unreadable, and `attribute`
gives None: any hop may have done it, so whoever plans routes should think a little worse of all of them. A hop can
also blame its own neighbours, but nobody else, as nobody else's HMAC is in its power.
Source: BOLT 4, "Returning Errors".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import REASON_MAX
from tallystick.router.codes import Code, interpret
from tallystick.router.errors import InvalidOnion
from tallystick.router.onion import tlv
from tallystick.router.onion.sphinx import HMAC_SIZE, derive, obfuscate

TRIES = 27
"""How often `attribute` tries to read a failure, whatever the length of the route."""

MESSAGE_SIZE = 256
"""Bytes to which a message is padded."""

MESSAGE_MAX = REASON_MAX - HMAC_SIZE - 4
"""Bytes of the longest message, and the size to which one above MESSAGE_SIZE is padded."""

NOTICE_SIZE = 2 + 32

_SIZES = {HMAC_SIZE + 4 + size for size in (MESSAGE_SIZE, MESSAGE_MAX)}
_DUMMY = bytes(32)
_INTEGERS = {2: ("amount", 16), 4: ("time", 8), 12: ("type", 8), 14: ("offset", 2)}  # each with its most bytes
_BYTES = {6: "channel", 8: "update", 10: "onion_hash"}


class Failure(msgspec.Struct, frozen=True):
    """Why a hop refused a lock. Which of the fields a code carries is said with each; the others are None or empty."""

    code: Code
    amount: int | None = None
    """What the incoming lock carried: amount_below_minimum, fee_insufficient, final_incorrect_amount,
    incorrect_or_unknown_payment_details."""
    time: int | None = None
    """Chain time at the payee (incorrect_or_unknown_payment_details), or the lock's expiry (incorrect_expiry,
    final_incorrect_expiry)."""
    channel: bytes = b""
    """Of the reporting node, outwards: for every code about a channel."""
    update: bytes = b""
    """The channel's newest announced policy, as gossip carries it: for the codes with the flag UPDATE."""
    onion_hash: bytes = b""
    """sha256 of the onion that could not be opened: for the codes with the flag BADONION."""
    type: int | None = None
    """Number of the record that was not understood: invalid_onion_payload."""
    offset: int | None = None
    """Where it stands."""

    def __str__(self) -> str:
        """A sentence for a person."""
        about = f" (channel {self.channel.hex()[:16]}…)" if self.channel else ""
        return self.code.meaning + about


def encode_failure(failure: Failure) -> bytes:
    """Return the message: its code, and what fields it has. Raise InvalidInput if it is too long."""
    records = {
        kind: tlv.encode_integer(value)
        for kind, (name, _) in _INTEGERS.items()
        if (value := getattr(failure, name)) is not None
    }
    records |= {kind: value for kind, name in _BYTES.items() if (value := getattr(failure, name))}
    message = failure.code.to_bytes(2, "big") + tlv.encode_records(records)
    if len(message) > MESSAGE_MAX:
        raise InvalidInput(f"a failure has at most {MESSAGE_MAX} bytes, this one has {len(message)}")
    return message


def decode_failure(message: bytes) -> Failure:
    """Return what the message says; an unknown code becomes the general one of its flags.

    Raise MalformedMessage if it is no failure.
    """
    if len(message) < 2:
        raise MalformedMessage("a failure begins with a code of 2 bytes")
    records = tlv.decode_records(message[2:], _INTEGERS.keys() | _BYTES.keys())
    fields: dict[str, Any] = {name: records[kind] for kind, name in _BYTES.items() if kind in records}
    for kind, (name, size) in _INTEGERS.items():
        if kind in records:
            fields[name] = tlv.decode_integer(records[kind], size)
    return Failure(interpret(int.from_bytes(message[:2], "big")), **fields)


def first_wrap(secret: bytes, failure: Failure) -> bytes:
    """Return the reason with which the failing hop rejects; `secret` is what it shares with the payer.

    An update that makes the message too long is left out.
    """
    try:
        message = encode_failure(failure)
    except InvalidInput:
        message = encode_failure(msgspec.structs.replace(failure, update=b""))
    size = MESSAGE_SIZE if len(message) <= MESSAGE_SIZE else MESSAGE_MAX
    padding = bytes(size - len(message))
    content = len(message).to_bytes(2, "big") + message + len(padding).to_bytes(2, "big") + padding
    return _hide(secret, hmac.digest(derive(b"um", secret), content, "sha256") + content)


def wrap(secret: bytes, reason: bytes) -> bytes:
    """Return the reason with which a forwarder rejects its incoming lock, `reason` being that of its outgoing one."""
    if len(reason) in _SIZES:
        return _hide(secret, reason)
    return first_wrap(secret, _read_notice(reason) or Failure(Code.TEMPORARY_CHANNEL_FAILURE))


def notice(code: Code, packet: bytes) -> bytes:
    """Return the reason with which a hop rejects when `packet` could not be opened at all."""
    if not code.bad_onion:
        raise InvalidInput(
            f"{code.name} is not said in a notice: the onion was opened, so its secret hides the failure"
        )
    return code.to_bytes(2, "big") + hashlib.sha256(packet).digest()


def refusal(error: InvalidOnion, packet: bytes, secret: bytes = b"") -> bytes:
    """Return the reason with which a hop rejects a lock, having met `error` in its onion `packet`.

    `secret` is what it shares with the payer, if it got as far as knowing that.
    """
    known = error.secret or secret
    return first_wrap(known, Failure(error.failure)) if known else notice(error.failure, packet)


def attribute(secrets: Sequence[bytes], reason: bytes) -> tuple[int, Failure] | None:
    """Return which hop failed (its index in the route) and why; None if nobody can say.

    `secrets` are those of the onion (`BuiltOnion.secrets`). The hop named is the one that reports: a failure about a
    channel is about the one after it, and one with the flag BADONION about the next node's onion. A reason that is no
    packet at all can only be the direct peer's own; if it is a notice, its hash is that of the packet that we sent.
    """
    if len(reason) not in _SIZES:
        return 0, _read_notice(reason) or Failure(Code.TEMPORARY_NODE_FAILURE)
    found: tuple[int, bytes] | None = None
    for index in range(max(TRIES, len(secrets))):
        secret = secrets[index] if index < len(secrets) else _DUMMY
        reason = _hide(secret, reason)
        expected = hmac.digest(derive(b"um", secret), reason[HMAC_SIZE:], "sha256")
        if hmac.compare_digest(expected, reason[:HMAC_SIZE]) and found is None and index < len(secrets):
            found = index, reason[HMAC_SIZE:]
    return None if found is None else (found[0], _read_content(found[1]))


def _hide(secret: bytes, packet: bytes) -> bytes:
    return obfuscate(derive(b"ammag", secret), packet)


def _read_notice(reason: bytes) -> Failure | None:
    code = interpret(int.from_bytes(reason[:2], "big"))
    if len(reason) != NOTICE_SIZE or not code.bad_onion:
        return None
    return Failure(code, onion_hash=reason[2:])


def _read_content(content: bytes) -> Failure:
    """Return what an authentic packet says; a hop that signs nonsense counts as a failing node."""
    size = int.from_bytes(content[:2], "big")
    try:
        if size > len(content) - 4:
            raise MalformedMessage("a failure is longer than its packet")
        return decode_failure(content[2 : 2 + size])
    except MalformedMessage:
        return Failure(Code.TEMPORARY_NODE_FAILURE)
