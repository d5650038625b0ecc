"""What can be done for a transaction before its turn: it is decoded, its call read, the signatures in it checked.

All of it are pure functions of the transaction, and of a channel's participants, which never change. So it may be done
anywhere and at any time, and whether it was done changes no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from tallystick.channels.errors import InvalidSignature
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.settlement.contract import signed
from tallystick.settlement.contract.adjudicator import Verify
from tallystick.settlement.contract.signed import SIGNED, Statement
from tallystick.settlement.contract.state import ChannelStorage
from tallystick.settlement.errors import TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.signatures import verify_signer
from tallystick.settlement.ethereum.transactions import Reading, Transaction, decode_transaction, read_envelope
from tallystick.settlement.execution.ahead import Ahead, Crew
from tallystick.settlement.execution.native import Native

BUNDLE = 16
"""Transactions that one helper prepares at once: some 0.8 ms of transfers."""

ChannelLookup = Callable[[ChannelId], ChannelStorage | None]


class Prepared(msgspec.Struct, frozen=True):
    """A transaction, what it asks, and who answers for the signatures in its calls."""

    transaction: Transaction
    reading: Reading
    verify: Verify = verify_signer


class CheckedSignatures:
    """Answers as `verify_signer`, of what was checked before from memory."""

    def __init__(self) -> None:
        self._found: dict[Statement, InvalidSignature | None] = {}

    def check(self, statements: Sequence[Statement], native: Native) -> None:
        """Find out, and keep, what `verify_signer` says of each."""
        for statement, holds in zip(statements, native.valid(statements), strict=True):
            if holds:
                self._found[statement] = None
            else:
                self._ask(statement)

    def __call__(self, digest: bytes, signature: bytes, signer: Address) -> None:
        """Raise InvalidSignature unless `signer` made the signature over the digest."""
        statement = (digest, signature, signer)
        if statement not in self._found:
            self._ask(statement)
        error = self._found[statement]
        if error is not None:
            raise InvalidSignature(str(error))

    def _ask(self, statement: Statement) -> None:
        try:
            verify_signer(*statement)
        except InvalidSignature as error:
            self._found[statement] = error.with_traceback(None)
        else:
            self._found[statement] = None


def prepare(transaction: Transaction, at: Deployment) -> Prepared:
    """Return it with its call read."""
    return Prepared(transaction, read_envelope(transaction.envelope, at))


class Preparation:
    """Prepares the transactions of one block, some at a time."""

    def __init__(self, at: Deployment, find: ChannelLookup, native: Native) -> None:
        self._at = at
        self._domain = domain_separator(*at)
        self._find = find
        self._native = native

    def prepare(self, raws: Sequence[bytes]) -> list[Prepared | TransactionRefused]:
        """Return them decoded and read, their signatures checked; in place of one that is none, why it is refused."""
        found: list[Prepared | TransactionRefused] = []
        verify = CheckedSignatures()
        statements: list[Statement] = []
        at = self._at
        for raw, decoded in zip(raws, self._native.decode(raws, at.chain_id), strict=True):
            try:
                transaction = decode_transaction(raw, at.chain_id) if decoded is None else decoded
            except TransactionRefused as error:
                found.append(error.with_traceback(None))
                continue
            reading = read_envelope(transaction.envelope, at)
            if reading.members or isinstance(reading.call, SIGNED):
                statements += self._statements(reading)
                found.append(Prepared(transaction, reading, verify))
            else:
                found.append(Prepared(transaction, reading))
        if statements:
            verify.check(statements, self._native)
        return found

    def _statements(self, reading: Reading) -> Iterator[Statement]:
        if isinstance(reading.call, SIGNED):
            yield from signed.statements(reading.call, self._domain, self._find)
        for each in reading.members:
            yield from self._statements(each)


def prepare_all(
    raws: Sequence[bytes], at: Deployment, find: ChannelLookup, crew: Crew, native: Native
) -> Ahead[Sequence[bytes], list[Prepared | TransactionRefused]]:
    """Prepare the transactions of a block, in order; they come in bundles."""
    bundles = [raws[begin : begin + BUNDLE] for begin in range(0, len(raws), BUNDLE)]
    return Ahead(Preparation(at, find, native).prepare, bundles, crew)
