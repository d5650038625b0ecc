"""What the owner of a block and a helper in another process tell each other: a bundle, and the same prepared.

A question holds all that its answer depends on: the transactions, the deployment, and the parties of the channels that
they seem to name. An answer is named by its question's hash, so that it is bound to these very bytes. What cannot be
written down (a number beyond 128 bits, say) is left to the owner, and costs time alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from tallystick.channels.errors import InvalidInput, InvalidSignature, MalformedMessage
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.settlement.chain import SingleCall
from tallystick.settlement.contract.signed import Parties, PartiesLookup
from tallystick.settlement.errors import Refusal, Revert, Reverted, TransactionRefused
from tallystick.settlement.ethereum.abi import BATCH, Deployment, Envelope
from tallystick.settlement.ethereum.signatures import verify_signer
from tallystick.settlement.ethereum.transactions import Reading, Transaction, read_transfer
from tallystick.settlement.execution.prepared import Bundle, CheckedSignatures, Preparation, Prepared

NAME_SIZE = 32
"""Bytes of an answer's name."""


class _BundleAsked(msgspec.Struct, frozen=True, array_like=True):
    """A bundle to be prepared."""

    chain_id: int
    contract: bytes
    parties: list[tuple[bytes, Parties]]
    raws: list[bytes]


class _ReadingWritten(msgspec.Struct, frozen=True, array_like=True):
    """A `Reading`."""

    gas: int
    call: SingleCall | None = None
    revert: tuple[Revert, str] | None = None
    leaves: bool = False
    """Whether what counts is the envelope itself."""
    members: tuple[_ReadingWritten, ...] = ()


class _RawRead(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A transaction without its own bytes. `read` is None for a transfer of coins."""

    hash: bytes
    sender: bytes
    nonce: int
    price: int
    gas: int
    to: bytes
    value: int
    data: bytes
    read: _ReadingWritten | None
    signed: bool
    """Whether there are signatures in its calls, which were checked."""


class _RefusedRaw(msgspec.Struct, frozen=True, array_like=True, tag=2):
    text: str
    code: Refusal


_Each: TypeAlias = _RawRead | _RefusedRaw | None
"""None: the owner must prepare it itself."""


class _BundleRead(msgspec.Struct, frozen=True, array_like=True):
    transactions: list[_Each]
    checked: list[tuple[bytes, bytes, Address, str | None]]
    """Statements, and why each does not hold."""


_QUESTIONS = msgspec.msgpack.Decoder(_BundleAsked)
_ANSWERS: Codec[_BundleRead] = Codec(_BundleRead, canonical=False)


def write_question(at: Deployment, find: PartiesLookup, raws: Sequence[bytes]) -> bytes | None:
    """Return the question; None if it cannot be written."""
    parties: dict[bytes, Parties] = {}
    mark = b"\x94" + at.contract
    for raw in raws:
        to = raw.find(mark, 0, _HEAD_MAX)
        if to >= 0:
            parties.update(_named(raw, to + len(mark), find))
    try:
        return msgspec.msgpack.encode(_BundleAsked(at.chain_id, at.contract, list(parties.items()), list(raws)))
    except OverflowError:
        return None


_HEAD_MAX = 128
"""Bytes within which a transaction's recipient stands."""

_BATCH_MAX = 131_072
"""Bytes of a batch that are looked at."""


def _named(raw: bytes, at: int, find: PartiesLookup) -> Iterator[tuple[bytes, Parties]]:
    """Yield the channels that the calldata seems to name; `at`: behind the recipient.

    Calls that carry signatures name theirs in the first or the fourth word. In a batch each call's words are where the
    batch's are and four bytes on, as each has a selector of its own.
    """
    at += 1 + max(0, raw[at] - 0x80) if at < len(raw) else 0
    begin = at + 5 + max(0, raw[at] - 0xB7) if at < len(raw) else at
    words: Sequence[int] = (begin, begin + 96)
    if raw[begin - 4 : begin] == BATCH.selector:
        words = range(begin + 4, min(len(raw), begin + _BATCH_MAX), 32)
    for word in words:
        id = ChannelId(raw[word : word + 32])
        found = find(id)
        if found is not None:
            yield id, found


def name_of(question: bytes) -> bytes:
    """Return the name of its answer."""
    return hashlib.sha256(question).digest()


def write_answer(question: bytes) -> bytes:
    """Answer; raise MalformedMessage if it is no question."""
    try:
        asked = _QUESTIONS.decode(question)
    except msgspec.DecodeError as error:
        raise MalformedMessage(f"this is no question: {error}") from error
    at = Deployment(asked.chain_id, Address(asked.contract))
    found = Preparation(at, dict(asked.parties).get).prepare(asked.raws)
    each = [_written(one) for one in found.transactions]
    checked = [(*statement, str(error) if error else None) for statement, error in found.checked.items()]
    try:
        return _ANSWERS.encode(_BundleRead(each, checked))
    except InvalidInput:
        return _ANSWERS.encode(_BundleRead([one if _can_be_written(one) else None for one in each], []))


def read_answer(answer: bytes, raws: Sequence[bytes], prepare: Callable[[Sequence[bytes]], Bundle]) -> Bundle:
    """Return what a helper made of a bundle; `prepare` does what it left. Raise MalformedMessage if it is no answer."""
    found = _ANSWERS.decode(answer)
    if len(found.transactions) != len(raws):
        raise MalformedMessage("an answer is about another number of transactions")
    verify = CheckedSignatures()
    for digest, signature, signer, why in found.checked:
        verify.found[digest, signature, signer] = InvalidSignature(why) if why is not None else None
    taken: list[Prepared | TransactionRefused] = []
    for raw, each in zip(raws, found.transactions, strict=True):
        if isinstance(each, _RawRead):
            envelope = Envelope(Address(each.to), each.value, each.data)
            transaction = Transaction(raw, each.hash, Address(each.sender), each.nonce, each.price, each.gas, envelope)
            if each.read is None:
                taken.append(Prepared(transaction, read_transfer(envelope)))
            else:
                reading = _reading(each.read, envelope)
                taken.append(Prepared(transaction, reading, verify if each.signed else verify_signer))
        elif each is None:
            taken += prepare([raw]).transactions
        else:
            taken.append(TransactionRefused(each.text, each.code))
    return Bundle(taken, verify.found)


def _can_be_written(one: _Each) -> bool:
    try:
        _ANSWERS.encode(_BundleRead([one], []))
    except InvalidInput:
        return False
    return True


def _written(one: Prepared | TransactionRefused) -> _Each:
    if isinstance(one, TransactionRefused):
        return _RefusedRaw(str(one), one.code)
    transaction, reading = one.transaction, one.reading
    envelope = transaction.envelope
    return _RawRead(
        transaction.hash,
        transaction.sender,
        transaction.nonce,
        transaction.price,
        transaction.gas,
        envelope.to,
        envelope.value,
        envelope.data,
        None if reading == read_transfer(envelope) else _read(reading),
        one.verify is not verify_signer,
    )


def _read(reading: Reading) -> _ReadingWritten:
    call, members = reading.call, tuple(map(_read, reading.members))
    if isinstance(call, Reverted):
        return _ReadingWritten(reading.gas, revert=(call.code, str(call)))
    if isinstance(call, Envelope):
        return _ReadingWritten(reading.gas, leaves=True)
    return _ReadingWritten(reading.gas, call, members=members)


def _reading(read: _ReadingWritten, envelope: Envelope) -> Reading:
    """Return what `_read` has written of it; members never leave, so that the envelope is theirs in no case."""
    if read.revert is not None:
        return Reading(read.gas, Reverted(*read.revert))
    members = tuple(_reading(each, envelope) for each in read.members)
    return Reading(read.gas, envelope if read.leaves else read.call, members)
