"""What can be done for a transaction before its turn: it is decoded, its call read, the signatures in it checked.

All of it are pure functions of the transaction, and of a channel's participants, which never change. So it may be done
anywhere and at any time, and whether it was done changes no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from tallystick.channels.errors import InvalidSignature
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.contract import signed
from tallystick.settlement.contract.adjudicator import Verify
from tallystick.settlement.contract.signed import SIGNED, PartiesLookup, Statement
from tallystick.settlement.errors import TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.signatures import verify_signer
from tallystick.settlement.ethereum.transactions import Reading, Transaction, decode_transaction, read_envelope
from tallystick.settlement.execution.ahead import Ahead

BUNDLE_MAX, BUNDLE_MIN = 32, 4
"""Transactions that one helper prepares at once: towards the end fewer, so that nobody is left with much to do."""

BUNDLE_BYTES = 65_536
"""Bytes of a bundle of more than one."""


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A transaction, what it asks, and who answers for the signatures in its calls."""

    transaction: Transaction
    reading: Reading
    verify: Verify = verify_signer


class CheckedSignatures:
    """Answers as `verify_signer`, of what was checked before from memory."""

    def __init__(self) -> None:
        self.found: dict[Statement, InvalidSignature | None] = {}
        """Why each does not hold, None if it does."""

    def __call__(self, digest: bytes, signature: bytes, signer: Address) -> None:
        """Raise InvalidSignature unless `signer` made the signature over the digest."""
        statement = (digest, signature, signer)
        if statement not in self.found:
            self.check(statement)
        error = self.found[statement]
        if error is not None:
            raise InvalidSignature(str(error))

    def check(self, statement: Statement) -> None:
        """Find out, and keep, what `verify_signer` says."""
        try:
            verify_signer(*statement)
        except InvalidSignature as error:
            self.found[statement] = error.with_traceback(None)
        else:
            self.found[statement] = None


class Bundle(NamedTuple):
    """Some transactions, prepared."""

    transactions: list[Prepared | TransactionRefused]
    """In place of one that is none, why it is refused."""
    checked: dict[Statement, InvalidSignature | None]
    """Signatures in their calls, and why each does not hold, None if it does."""


def prepare(transaction: Transaction, at: Deployment) -> Prepared:
    """Return it with its call read."""
    return Prepared(transaction, read_envelope(transaction.envelope, at))


def carries_signatures(reading: Reading) -> bool:
    """Whether there may be signatures in its calls."""
    return bool(reading.members) or isinstance(reading.call, SIGNED)


class Preparation:
    """Prepares the transactions of one block, some at a time."""

    def __init__(self, at: Deployment, find: PartiesLookup) -> None:
        self.at = at
        self.find = find
        self._domain = domain_separator(*at)

    def prepare(self, raws: Sequence[bytes]) -> Bundle:
        """Return them decoded and read, their signatures checked."""
        found: list[Prepared | TransactionRefused] = []
        verify = CheckedSignatures()
        at = self.at
        for raw in raws:
            try:
                transaction = decode_transaction(raw, at.chain_id)
            except TransactionRefused as error:
                found.append(error.with_traceback(None))
                continue
            reading = read_envelope(transaction.envelope, at)
            if carries_signatures(reading):
                for statement in self._statements(reading):
                    verify.check(statement)
                found.append(Prepared(transaction, reading, verify))
            else:
                found.append(Prepared(transaction, reading))
        return Bundle(found, verify.found)

    def _statements(self, reading: Reading) -> Iterator[Statement]:
        if isinstance(reading.call, SIGNED):
            yield from signed.statements(reading.call, self._domain, self.find)
        for each in reading.members:
            yield from self._statements(each)


def bundled(raws: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Return the transactions of a block in bundles, in order."""
    bundles: list[Sequence[bytes]] = []
    begin = 0
    while begin < len(raws):
        size = min(BUNDLE_MAX, max(BUNDLE_MIN, (len(raws) - begin) // 16))
        while size > 1 and sum(map(len, raws[begin : begin + size])) > BUNDLE_BYTES:
            size //= 2
        bundles.append(raws[begin : begin + size])
        begin += size
    return bundles


class Bundles(Protocol):
    """The bundles of a block, prepared, in order: iterate it once."""

    again: list[Sequence[bytes]]
    """Bundles that were prepared twice, as a helper was not ready in time."""

    def __iter__(self) -> Iterator[Bundle]: ...


class Crew(Protocol):
    """Who helps."""

    def share(self, preparation: Preparation, bundles: Sequence[Sequence[bytes]]) -> Bundles:
        """Return the bundles prepared; what does not depend on who does it."""


class Alone:
    """Nobody helps."""

    def share(self, preparation: Preparation, bundles: Sequence[Sequence[bytes]]) -> Bundles:
        """Return the bundles prepared."""
        return Ahead(preparation.prepare, bundles)


ALONE = Alone()


def prepare_all(raws: Sequence[bytes], at: Deployment, find: PartiesLookup, crew: Crew) -> Bundles:
    """Prepare the transactions of a block, in order; they come in bundles."""
    return crew.share(Preparation(at, find), bundled(raws))
