"""A pay-out that members vote on: the payee gets as much as m of n of them signed for.

The treasurer stakes the most that can be paid, the payee nothing. A vote is for this instance and an amount. The payee
shows m of one amount by `due`, in a single move; if it does not, the stake goes back. The treasurer never moves.

State: payee (1) ‖ needed (1) ‖ stage (1: 0 asked, 1 paid) ‖ most, paid (16 each) ‖ due (8) ‖ members (20 each, 1 to 16,
rising). Move: paid (16) ‖ who (2: bit i is member i) ‖ their signatures (64 each), as many as are needed, at most 7.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tallystick.channels.apps.fields import Words, given, number, packed, seat, split
from tallystick.channels.apps.interface import App, InvalidMove, Paid, Stakes
from tallystick.channels.apps.statements import digest_vote
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.keys import is_signed
from tallystick.channels.protocol.objects import Address

MEMBERS_MAX = 16
NEEDED_MAX = 7
"""So many signatures fit into a move."""
_HEAD = 1 + 1 + 1 + 16 + 16 + 8


class _VoteState(NamedTuple):
    payee: int
    needed: int
    stage: int
    most: int
    paid: int
    due: int
    members: tuple[Address, ...]


class VotedPayout(App):
    """One move of the payee, or none."""

    name = "payout"
    version = 1
    moves_most = 1
    gas = 200_000
    rules = "c706ffec299e73152efa017e5d9e6908bb45f348851d068db6d374b12c20a946"

    def init(self, stakes: Stakes, **parameters: Any) -> bytes:
        """Take `payee` (0, 1), `members` (addresses), `needed` (how many must sign), `due`."""
        words = Words(parameters)
        payee = words.number("payee", 1)
        state = _VoteState(
            payee=payee,
            needed=words.number("needed", NEEDED_MAX, 1),
            stage=0,
            most=stakes[1 - payee],
            paid=0,
            due=words.number("due", UINT64_MAX),
            members=tuple(Address(each) for each in sorted(words.several("members", 20))),
        )
        words.end()
        self.check(_write(state), stakes, state.due)
        return _write(state)

    def check(self, state: bytes, stakes: Stakes, expiry: int) -> None:
        """The treasurer alone has a stake, and votes are shown before the expiry."""
        seen = _read(state)
        if seen.stage or seen.due > expiry:
            raise InvalidInput("a pay-out begins unpaid, and is due before its terms expire")
        if stakes[1 - seen.payee] != seen.most or stakes[seen.payee]:
            raise InvalidInput("the treasurer stakes the most that can be paid, and the payee nothing")

    def turn(self, state: bytes) -> int | None:
        """Return the payee, until it has shown the votes."""
        seen = _read(state)
        return None if seen.stage else seen.payee

    def valid(self, state: bytes, move: bytes, by: int, instance: bytes) -> bytes:
        """Count the votes for one amount."""
        seen = _read(state)
        if seen.stage or by != seen.payee:
            raise InvalidMove(f"it is not player {by}'s turn")
        if len(move) != 18 + 64 * seen.needed:
            raise InvalidMove(f"a move has {seen.needed} signatures")
        paid, who = number(move[:16]), number(move[16:18])
        voters = [member for index, member in enumerate(seen.members) if who >> index & 1]
        if len(voters) != seen.needed or who >> len(seen.members):
            raise InvalidMove(f"a move names {seen.needed} members")
        if not 1 <= paid <= seen.most:
            raise InvalidMove(f"what is paid is from 1 to {seen.most}")
        digest = digest_vote(instance, paid)
        signatures = [move[18 + 64 * index : 82 + 64 * index] for index in range(seen.needed)]
        if not all(is_signed(digest, *vote) for vote in zip(signatures, voters, strict=True)):
            raise InvalidMove("not all of these are votes for this amount of this pay-out")
        return _write(seen._replace(stage=1, paid=paid))

    def outcome(self, state: bytes, stakes: Stakes) -> Paid:
        """What was voted for."""
        seen = _read(state)
        if not seen.stage:
            raise InvalidInput("nothing is voted for")
        return given(1 - seen.payee, seen.paid)

    def forfeit(self, state: bytes, stakes: Stakes) -> Paid:
        """Without votes nothing is paid."""
        if _read(state).stage:
            raise InvalidInput("the pay-out has ended")
        return 0, 0

    def due(self, state: bytes) -> int:
        """Return until when votes may be shown."""
        seen = _read(state)
        return 0 if seen.stage else seen.due

    def move(self, **words: Any) -> bytes:
        """`paid`, `members` (the places of those who signed, from 0) and `signatures`, in the same order."""
        said = Words(words)
        paid, signatures = said.number("paid", AMOUNT_MAX), said.several("signatures", 64)
        places = said.value("members")
        said.end()
        if not isinstance(places, list | tuple) or len(places) != len(signatures):
            raise InvalidInput("members are the places of those who signed, one for each signature")
        if not all(type(each) is int and 0 <= each < MEMBERS_MAX for each in places) or len({*places}) != len(places):
            raise InvalidInput("a member's place is from 0 to 15, and said once")
        votes = sorted(zip(places, signatures, strict=True))
        return packed((paid, 16), (sum(1 << place for place, _ in votes), 2)) + b"".join(vote for _, vote in votes)

    def describe(self, state: bytes) -> dict[str, Any]:
        """Return the terms, and what came of them."""
        seen = _read(state)
        return seen._asdict() | {"members": [each.hex() for each in seen.members], "turn": self.turn(state)}


def _read(state: bytes) -> _VoteState:
    count = max(0, len(state) - _HEAD) // 20
    payee, *rest = split(state, 1, 1, 1, 16, 16, 8, *[20] * count)
    needed, stage, most, paid, due = (number(field) for field in rest[:5])
    members = tuple(Address(each) for each in rest[5:])
    if not 1 <= needed <= min(count, NEEDED_MAX) or count > MEMBERS_MAX:
        raise InvalidInput("a pay-out has from 1 to 16 members, of whom from 1 to 7 must sign")
    if bytes(20) in members or sorted({*members}) != [*members]:
        raise InvalidInput("members are named once, in rising order")
    if stage > 1 or not most or not (1 <= paid <= most if stage else paid == 0):
        raise InvalidInput("this is no state of a pay-out")
    return _VoteState(seat(payee), needed, stage, most, paid, due, members)


def _write(state: _VoteState) -> bytes:
    head = packed((state.payee, 1), (state.needed, 1), (state.stage, 1), (state.most, 16), (state.paid, 16))
    return head + packed((state.due, 8)) + b"".join(state.members)
