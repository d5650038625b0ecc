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
from tallystick.settlement.chain import SingleCall
from tallystick.settlement.contract.adjudicator import Verify
from tallystick.settlement.contract.signed import SIGNED, statements
from tallystick.settlement.contract.state import ChannelStorage
from tallystick.settlement.errors import TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.signatures import verify_signer
from tallystick.settlement.ethereum.transactions import Reading, Transaction, decode_transaction, read_envelope
from tallystick.settlement.execution.ahead import Ahead, Crew

ChannelLookup = Callable[[ChannelId], ChannelStorage | None]


class Prepared(msgspec.Struct, frozen=True):
    """A transaction, what it asks, and who answers for the signatures in its calls."""

    transaction: Transaction
    reading: Reading
    verify: Verify = verify_signer


class CheckedSignatures:
    """Answers as `verify_signer`; what was asked before (`check`), from memory."""

    def __init__(self) -> None:
        self._found: dict[tuple[bytes, bytes, Address], InvalidSignature | None] = {}

    def check(self, digest: bytes, signature: bytes, signer: Address) -> None:
        """Find out, and keep, what `verify_signer` says."""
        try:
            verify_signer(digest, signature, signer)
        except InvalidSignature as error:
            self._found[digest, signature, signer] = error.with_traceback(None)
        else:
            self._found[digest, signature, signer] = None

    def __call__(self, digest: bytes, signature: bytes, signer: Address) -> None:
        """Raise InvalidSignature unless `signer` made the signature over the digest."""
        asked = (digest, signature, signer)
        if asked not in self._found:
            self.check(*asked)
        error = self._found[asked]
        if error is not None:
            raise InvalidSignature(str(error))


def prepare(transaction: Transaction, at: Deployment, find: ChannelLookup | None = None) -> Prepared:
    """Return it with its call read and, if there is a `find`, the signatures checked about channels that it finds."""
    reading = read_envelope(transaction.envelope, at)
    if find is None or not (reading.members or isinstance(reading.call, SIGNED)):
        return Prepared(transaction, reading)
    verify = CheckedSignatures()
    domain = domain_separator(*at)
    for call in _calls(reading):
        for statement in statements(call, domain, find):
            verify.check(*statement)
    return Prepared(transaction, reading, verify)


def _calls(reading: Reading) -> Iterator[SingleCall]:
    if isinstance(reading.call, SIGNED):
        yield reading.call
    for each in reading.members:
        yield from _calls(each)


def prepare_all(
    raws: Sequence[bytes], at: Deployment, find: ChannelLookup, crew: Crew
) -> Ahead[bytes, Prepared | TransactionRefused]:
    """Give transactions as they came, prepared in order; in place of one that is none, why it is refused."""

    def work(raw: bytes) -> Prepared | TransactionRefused:
        try:
            return prepare(decode_transaction(raw, at.chain_id), at, find)
        except TransactionRefused as error:
            return error.with_traceback(None)

    return Ahead(work, raws, crew)
