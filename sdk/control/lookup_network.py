"""Finds what a user of the payment network names: a node by its key, an invoice or a payment by its hash."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.values.argument_rules import show
from tallystick.router.objects import NodeKey
from tallystick.router.receiving.issued import InvoiceRecord, find_invoice, invoices_beginning
from tallystick.router.sending.payments import PaymentRecord, payments_beginning
from tallystick.sdk.node.node import Node

PREFIX_MIN = 4
"""Hex digits that name a payment hash at least."""

Found = TypeVar("Found")


class UnknownHash(InvalidInput):
    """This node has no invoice or payment of that hash."""


def parse_hex(text: str, size: int, what: str) -> bytes:
    """Read so many bytes in hex; raise InvalidInput if it is something else."""
    digits = text.lower().removeprefix("0x")
    if not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", digits):
        raise InvalidInput(f"{what} is written with {2 * size} hex digits, not with {len(text)} characters")
    return bytes.fromhex(digits)


def parse_node(text: str) -> NodeKey:
    """Read a node's public key, or its address; raise InvalidInput if it is neither."""
    key = parse_hex(text.partition("@")[0], 33, "a node's public key")
    return NodeKey(bytes(PublicKey(key)))


def find_invoice_of(node: Node, text: str) -> InvoiceRecord:
    """Return our invoice whose payment hash begins so; raise UnknownHash, or InvalidInput if several do."""
    prefix = _prefix(text)
    if len(prefix) == 64:
        record = find_invoice(node.store, bytes.fromhex(prefix))
        found = [] if record is None else [record]
    else:
        found = invoices_beginning(node.store, prefix)
    return _only(found, f"this node has no invoice of hash {text}; `tally invoice list` shows all")


def find_payment_of(node: Node, text: str) -> PaymentRecord:
    """Return our payment whose hash begins so; raise UnknownHash, or InvalidInput if several do."""
    prefix = _prefix(text)
    return _only(
        payments_beginning(node.store, prefix), f"this node made no payment of hash {text}; `tally payments` shows all"
    )


def _prefix(text: str) -> str:
    prefix = text.lower().removeprefix("0x")
    if not re.fullmatch(f"[0-9a-f]{{{PREFIX_MIN},64}}", prefix):
        raise InvalidInput(f"a payment is named by at least {PREFIX_MIN} hex digits of its hash, not {show(text)}")
    return prefix


def _only(found: Sequence[Found], unknown: str) -> Found:
    if not found:
        raise UnknownHash(unknown)
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} payment hashes begin so: give more digits")
    return found[0]
