"""A loan against collateral, paid back in instalments: who does not pay by the day loses what is owed, and no more.

The borrower stakes the collateral, the lender nothing. Principal and instalments are payments outside of the app, and
their receipts are the moves: the secret of an invoice is known to who paid it. The principal's hash is that of an
invoice of the borrower, each instalment's that of an invoice of the lender; so who agrees to a loan looks whether these
are its own invoices, and for what they are. The lender moves first, with the secret that it got for the principal; no
principal by `lend`, no loan. Then the borrower moves with one secret after the other, the k-th due at
`first + k * every`. Who is late loses `worth` of the collateral for each instalment that is missing.

State: borrower (1) ‖ drawn (1) ‖ repaid (1) ‖ worth (16) ‖ lend, first, every (8 each) ‖ hash of the principal (32) ‖
hashes of the instalments (32 each, 1 to 16 of them). All hashes differ. Move: a secret (32); a hash is sha256 of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tallystick.channels.apps.fields import Words, given, number, packed, seat, split
from tallystick.channels.apps.interface import App, InvalidMove, Paid, Stakes
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.conditions.hash_lock import digest_of

_HEAD = 1 + 1 + 1 + 16 + 3 * 8 + 32
INSTALMENTS_MAX = 16


class _LoanState(NamedTuple):
    borrower: int
    drawn: int
    repaid: int
    worth: int
    lend: int
    first: int
    every: int
    principal: bytes
    instalments: tuple[bytes, ...]

    @property
    def owed(self) -> int:
        """How much of the collateral is the lender's if nothing more is paid."""
        return self.drawn * self.worth * (len(self.instalments) - self.repaid)

    @property
    def turn(self) -> int | None:
        if not self.drawn:
            return 1 - self.borrower
        return self.borrower if self.repaid < len(self.instalments) else None


class Loan(App):
    """The lender's move, and one of the borrower for each instalment."""

    name = "loan"
    version = 1
    moves_most = 1 + INSTALMENTS_MAX
    gas = 60_000
    rules = "aaa7c8182ea0733abef069fc437b27e826b3857ca12868089f9c3cf574ae4ded"

    def init(self, stakes: Stakes, **parameters: Any) -> bytes:
        """Take `borrower` (0, 1), `worth`, `lend`, `first`, `every`, `principal` and `instalments` (hashes)."""
        words = Words(parameters)
        state = _LoanState(
            borrower=words.number("borrower", 1),
            drawn=0,
            repaid=0,
            worth=words.number("worth", AMOUNT_MAX),
            lend=words.number("lend", UINT64_MAX),
            first=words.number("first", UINT64_MAX),
            every=words.number("every", UINT64_MAX),
            principal=words.data("principal", 32),
            instalments=tuple(words.several("instalments", 32)),
        )
        words.end()
        self.check(_write(state), stakes, _last(state))
        return _write(state)

    def check(self, state: bytes, stakes: Stakes, expiry: int) -> None:
        """The collateral covers all instalments, and the last is due before the expiry."""
        seen = _read(state)
        if seen.drawn or _last(seen) > expiry:
            raise InvalidInput("a loan begins before it is drawn, and is paid back before its terms expire")
        if stakes[seen.borrower] < seen.worth * len(seen.instalments) or stakes[1 - seen.borrower]:
            raise InvalidInput("the collateral is worth all instalments, and the lender has no stake")

    def turn(self, state: bytes) -> int | None:
        """Return the lender until it has lent, then the borrower until all is paid back."""
        return _read(state).turn

    def valid(self, state: bytes, move: bytes, by: int, instance: bytes) -> bytes:
        """Take the receipt of what is to be paid next."""
        seen = _read(state)
        if seen.turn != by:
            raise InvalidMove(f"it is not player {by}'s turn")
        wanted = seen.instalments[seen.repaid] if seen.drawn else seen.principal
        if len(move) != 32 or digest_of(move) != wanted:
            raise InvalidMove("this is not the receipt of what is to be paid next")
        return _write(seen._replace(repaid=seen.repaid + 1) if seen.drawn else seen._replace(drawn=1))

    def outcome(self, state: bytes, stakes: Stakes) -> Paid:
        """All is paid back: the collateral is the borrower's."""
        if _read(state).turn is not None:
            raise InvalidInput("the loan is not paid back")
        return 0, 0

    def forfeit(self, state: bytes, stakes: Stakes) -> Paid:
        """A borrower that is late loses what is owed; a lender that has not lent, nothing."""
        seen = _read(state)
        if seen.turn is None:
            raise InvalidInput("the loan is paid back")
        return given(seen.borrower, seen.owed)

    def due(self, state: bytes) -> int:
        """Return until when is to be lent, or the next instalment be paid."""
        seen = _read(state)
        if seen.turn is None:
            return 0
        return seen.first + seen.repaid * seen.every if seen.drawn else seen.lend

    def move(self, **words: Any) -> bytes:
        """`secret`: of the invoice that was paid."""
        said = Words(words)
        secret = said.data("secret", 32)
        said.end()
        return secret

    def describe(self, state: bytes) -> dict[str, Any]:
        """Return the terms, and how far it is."""
        seen = _read(state)
        hashes = {"principal": seen.principal.hex(), "instalments": [each.hex() for each in seen.instalments]}
        return seen._asdict() | hashes | {"drawn": bool(seen.drawn), "owed": seen.owed, "turn": seen.turn}


def _last(state: _LoanState) -> int:
    return max(state.lend, state.first + (len(state.instalments) - 1) * state.every)


def _read(state: bytes) -> _LoanState:
    count = max(0, len(state) - _HEAD) // 32
    borrower, drawn, repaid, worth, lend, first, every, principal, *hashes = split(
        state, 1, 1, 1, 16, 8, 8, 8, 32, *[32] * count
    )
    progress = number(drawn), number(repaid), number(worth)
    seen = _LoanState(seat(borrower), *progress, number(lend), number(first), number(every), principal, tuple(hashes))
    if not 1 <= count <= INSTALMENTS_MAX or not seen.worth or seen.lend > seen.first:
        raise InvalidInput("a loan has from 1 to 16 instalments, worth something, the first due after it is lent")
    if seen.worth * count > AMOUNT_MAX or _last(seen) > UINT64_MAX:
        raise InvalidInput("the collateral of a loan is an amount, and its last instalment is due at some time")
    if seen.drawn > 1 or seen.repaid > (count if seen.drawn else 0):
        raise InvalidInput("this is no state of a loan")
    if len({principal, *hashes}) != 1 + count:
        raise InvalidInput("the hashes of a loan differ: a receipt counts once")
    return seen


def _write(state: _LoanState) -> bytes:
    head = packed((state.borrower, 1), (state.drawn, 1), (state.repaid, 1), (state.worth, 16))
    times = packed((state.lend, 8), (state.first, 8), (state.every, 8))
    return head + times + state.principal + b"".join(state.instalments)
