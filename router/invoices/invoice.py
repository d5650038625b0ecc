"""Invoices: what a payee asks for, signed by its node key, as one line of text.

    tally<chain id>1…     prefix, then in bech32m: version 1 (1) | records (TLV) | signature (64)

    2 payee  4 amount  6 payment hash  8 payment secret  10 created  12 lifetime  14 contract  16 asset  18 features
    20 route hints  22 life of the lock  24 metadata  3 memo  5 hash of a memo

Rules: whoever reads an invoice knows all of it, or refuses it (even records, even feature bits). The prefix names the
chain, so that an invoice of a test chain cannot be taken for a real one, and is signed with the rest. The payee's key
stands in the invoice instead of being recovered from the signature: a tampered invoice is refused, not paid to nobody.
An invoice and a key have one text. What is left out has a meaning: no amount, the payer chooses; no asset, the chain's
coin. Source: BOLT 11 for what an invoice has to say; BOLT 9 for feature bits.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from tallystick.channels.errors import InvalidInput, InvalidSignature, MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX, MEMO_MAX, UINT64_MAX
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, Bytes32, check_amount
from tallystick.channels.values.discretion import Discreet
from tallystick.router.errors import InvalidInvoice
from tallystick.router.invoices import bech32
from tallystick.router.objects import Edge, Key33
from tallystick.router.onion.payload import METADATA_MAX
from tallystick.router.onion.tlv import (
    UINT64_BYTES,
    UINT128_BYTES,
    decode_integer,
    decode_records,
    encode_integer,
    encode_records,
)

PRODUCT = "tally"
VERSION = 1
TEXT_MAX = 4_096
"""Characters of an invoice: as many as one QR code holds, roughly."""
HINTS_MAX = 8
"""Route hints of one invoice."""

LOCK_LIFE_MAX = 86_400
"""Seconds for which an invoice may have the payer's money locked: a payee that does nothing binds it that long."""

MULTI_PART = 16
"""Feature bit (BOLT 9: basic_mpp): the payee takes the amount in parts. Set the odd bit above it if it need not."""

_KNOWN_FEATURES = {MULTI_PART}
_SIGNATURE_SIZE = 64
_DOMAIN = b"Tallystick invoice\n"  # no other signed digest begins so: EIP-712's begin with 0x1901
_PREFIX = re.compile(rf"{PRODUCT}(0|[1-9][0-9]{{0,19}})")

_HINTS: Codec[tuple[Edge, ...]] = Codec(tuple[Edge, ...])
_INTEGERS = {
    4: ("amount", UINT128_BYTES),
    10: ("created", UINT64_BYTES),
    12: ("lifetime", UINT64_BYTES),
    18: ("features", 32),
    22: ("lock_life", UINT64_BYTES),
}
_BYTES = {
    2: "payee",
    5: "memo_hash",
    6: "payment_hash",
    8: "payment_secret",
    14: "contract",
    16: "asset",
    24: "metadata",
}
_MEMO = 3
_ROUTE_HINTS = 20
_KNOWN = _INTEGERS.keys() | _BYTES.keys() | {_MEMO, _ROUTE_HINTS}
_REQUIRED = {2, 6, 8, 10, 12, 14, 22}

Address20 = Annotated[Address, msgspec.Meta(min_length=20, max_length=20)]
Time = Annotated[int, msgspec.Meta(ge=0)]


class Invoice(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """What a payee asks for. Times are chain time in seconds."""

    payee: Key33
    payment_hash: Bytes32
    """sha256 of the secret that the payee will reveal: the condition of every lock of this payment."""
    payment_secret: Bytes32
    """Proves to the payee that who pays has the invoice."""
    chain_id: int
    contract: Address20
    """Of the adjudicator."""
    asset: Address20 = NATIVE
    amount: int | None = None
    """In the asset's smallest unit; None: the payer chooses."""
    created: Time
    lifetime: Time = 3_600
    """Seconds after `created` from which on the invoice is not to be paid."""
    lock_life: Time = 600
    """Seconds that the last lock must have left when it arrives."""
    memo: str = ""
    memo_hash: bytes = b""
    """sha256 of a description that is too long for an invoice; either this or `memo`."""
    metadata: bytes = b""
    """Comes back to the payee with the payment."""
    features: int = 1 << MULTI_PART + 1
    """Bits in pairs: even, the payer must know what it means; odd, it may."""
    hints: tuple[Edge, ...] = ()
    """Unannounced channels that lead to the payee."""

    def __post_init__(self) -> None:
        keys = (self.payee, self.payment_hash, self.payment_secret, self.contract, self.asset)
        if tuple(map(len, keys)) != (33, 32, 32, 20, 20) or len(self.memo_hash) not in (0, 32):
            raise InvalidInput("a field of the invoice has the wrong number of bytes")
        if self.amount is not None:
            check_amount(self.amount, minimum=1)
        if not all(0 <= value <= UINT64_MAX for value in (self.chain_id, self.created, self.lifetime, self.lock_life)):
            raise InvalidInput("chain id and times of an invoice must be from 0 to 2**64 - 1")
        if len(self.memo.encode()) > MEMO_MAX or len(self.metadata) > METADATA_MAX:
            raise InvalidInput(f"a memo has at most {MEMO_MAX} bytes, and metadata at most {METADATA_MAX}")
        if self.memo and self.memo_hash:
            raise InvalidInput("an invoice has a memo or the hash of one, not both")
        if not 0 <= self.features < 1 << 256:
            raise InvalidInput("features are 256 bits at most")
        if len(self.hints) > HINTS_MAX or not all(map(_is_sound, self.hints)):
            raise InvalidInput(f"an invoice has at most {HINTS_MAX} route hints, each of them a possible channel")

    @property
    def expiry(self) -> int:
        """When it is too late to pay."""
        return self.created + self.lifetime

    @property
    def takes_parts(self) -> bool:
        """Whether the amount may come in several locks."""
        return bool(self.features >> MULTI_PART & 3)


def encode_invoice(invoice: Invoice, key: PrivateKey) -> str:
    """Return the invoice's text, signed with the payee's `key`. Raise InvalidInput if it is another's or too long."""
    if bytes(key.public) != invoice.payee:
        raise InvalidInput("an invoice is signed by its payee, and this key is another's")
    prefix, body = f"{PRODUCT}{invoice.chain_id}", bytes([VERSION]) + encode_records(_records(invoice))
    text = bech32.encode(prefix, body + key.sign(_digest(prefix, body)))
    if len(text) > TEXT_MAX:
        raise InvalidInput(f"an invoice has at most {TEXT_MAX} characters, this one has {len(text)}; leave out hints")
    return text


def decode_invoice(text: str) -> Invoice:
    """Return the invoice that `text` is, its signature verified.

    Raise InvalidInvoice, which says what is wrong with it. Whether it can be paid is another question: `check_payable`.
    """
    text = text.strip()
    if len(text) > TEXT_MAX:
        raise InvalidInvoice(f"an invoice has at most {TEXT_MAX} characters, this text has {len(text)}")
    if not text.lower().startswith(PRODUCT):
        raise InvalidInvoice(f'this is no invoice of Tallystick: one begins with "{PRODUCT}" and a chain\'s number')
    prefix, data = bech32.decode(text)
    named = _PREFIX.fullmatch(prefix)
    if not named or int(named[1]) > UINT64_MAX:
        raise InvalidInvoice(f'the prefix "{prefix}" names no chain: it should be "{PRODUCT}" and a number')
    if not data or data[0] != VERSION:
        raise InvalidInvoice("the invoice has a version that is not known here; update this program to pay it")
    body, signature = data[:-_SIGNATURE_SIZE], data[-_SIGNATURE_SIZE:]
    try:
        invoice = _read(decode_records(body[1:], _KNOWN), int(named[1]))
        for edge in invoice.hints:
            PublicKey(edge.source), PublicKey(edge.target)
        PublicKey(invoice.payee).verify(_digest(prefix, body), signature)
    except InvalidSignature as error:
        raise InvalidInvoice(
            "the invoice is not signed by its payee: it was changed, or made by somebody else"
        ) from error
    except (InvalidInput, MalformedMessage) as error:
        raise InvalidInvoice(f"the invoice cannot be understood: {error}") from error
    unknown = [bit for bit in range(0, 256, 2) if invoice.features >> bit & 1 and bit not in _KNOWN_FEATURES]
    if unknown:
        raise InvalidInvoice(f"the payee requires feature {unknown[0]}, which is not known here; update this program")
    return invoice


def check_payable(
    invoice: Invoice,
    *,
    chain_id: int,
    contract: Address,
    assets: tuple[Address, ...],
    now: int,
    amount: int | None = None,
) -> int:
    """Return what to pay. Raise InvalidInvoice if a node of this chain and contract, with channels in `assets`, cannot.

    `amount` is what the payer wants to pay, and needed if the invoice names none; it may not be less than the invoice
    asks for, nor more than twice that.
    """
    if (invoice.chain_id, invoice.contract) != (chain_id, contract):
        raise InvalidInvoice(
            f"the invoice is for chain {invoice.chain_id} and contract 0x{invoice.contract.hex()}, this node is on "
            f"chain {chain_id} with contract 0x{contract.hex()}"
        )
    if invoice.asset not in assets:
        raise InvalidInvoice(f"the invoice asks for asset 0x{invoice.asset.hex()}, in which this node has no channel")
    if now >= invoice.expiry:
        raise InvalidInvoice(f"the invoice expired {now - invoice.expiry} seconds ago; ask the payee for a new one")
    if invoice.lock_life > LOCK_LIFE_MAX:
        raise InvalidInvoice(
            f"the money would be bound for {invoice.lock_life} seconds if the payee does nothing; at most "
            f"{LOCK_LIFE_MAX} are accepted"
        )
    if invoice.amount is None:
        if amount is None:
            raise InvalidInvoice("the invoice names no amount; say how much to pay")
        return check_amount(amount, minimum=1)
    if amount is not None and not invoice.amount <= amount <= min(2 * invoice.amount, AMOUNT_MAX):
        raise InvalidInvoice(f"the invoice asks for {invoice.amount}; pay that, or at most twice as much, not {amount}")
    return invoice.amount if amount is None else amount


def _is_sound(edge: Edge) -> bool:
    sizes = (len(edge.channel), len(edge.source), len(edge.target)) == (32, 33, 33)
    policy = edge.policy
    numbers = (edge.capacity, policy.base_fee, policy.fee_ppm, policy.minimum, policy.maximum, policy.margin)
    return sizes and all(0 <= number <= AMOUNT_MAX for number in numbers)


def _records(invoice: Invoice) -> dict[int, bytes]:
    """Return the records of an invoice; a field that is absent, empty or 0 has none, unless it is required."""
    records = {kind: encode_integer(getattr(invoice, name) or 0) for kind, (name, _) in _INTEGERS.items()}
    records |= {kind: getattr(invoice, name) for kind, name in _BYTES.items()}
    records[_MEMO] = invoice.memo.encode()
    records[_ROUTE_HINTS] = _HINTS.encode(invoice.hints) if invoice.hints else b""
    if invoice.asset == NATIVE:
        del records[16]
    return {kind: value for kind, value in records.items() if value or kind in _REQUIRED}


def _read(records: dict[int, bytes], chain_id: int) -> Invoice:
    """Return the invoice of these records; raise MalformedMessage or InvalidInput if there is none, or another text."""
    if missing := _REQUIRED - records.keys():
        raise MalformedMessage(f"record {min(missing)} is missing")
    fields: dict[str, Any] = {name: records[kind] for kind, name in _BYTES.items() if kind in records}
    for kind, (name, size) in _INTEGERS.items():
        if kind in records:
            fields[name] = decode_integer(records[kind], size)
    fields.setdefault("features", 0)
    if _ROUTE_HINTS in records:
        fields["hints"] = _HINTS.decode(records[_ROUTE_HINTS])
    try:
        fields["memo"] = records.get(_MEMO, b"").decode()
    except UnicodeDecodeError as error:
        raise MalformedMessage("the memo is not UTF-8") from error
    invoice = Invoice(chain_id=chain_id, **fields)
    if _records(invoice) != records:
        raise MalformedMessage("it is not written in the one way that there is")
    return invoice


def _digest(prefix: str, body: bytes) -> bytes:
    return keccak(_DOMAIN + prefix.encode() + b"\n" + body)
