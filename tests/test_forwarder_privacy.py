"""What a forwarder sees of a payment: its neighbours, amounts and expiry, and nothing of where it comes from or goes.

Carol forwards from Bob to Dave in four worlds that differ in who pays whom and over how many hops.
What she receives and has on disk afterwards is the same in all, but for what must be random to her: onion, signatures.
"""

from __future__ import annotations

import pytest

from simulation.line import Line, Member
from simulation.rows import sql
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.messages import Reject, Update, decode, encode
from tallystick.channels.protocol.operations import AddLock
from tallystick.router.codes import Code
from tallystick.router.forwarding.circuits import load_circuits
from tallystick.router.onion.failures import Failure

SECRET = b"p" * 32
AMOUNT = 100_000
"""What Carol is to pass on."""
FEE = 1_000
NAMES = "ABCDE"
JOURNEYS = ("BCD", "ABCD", "BCDE", "ABCDE")


class View:
    """Everything that one node is told and keeps of one payment."""

    def __init__(self, route: str, *, paid: bool) -> None:
        self.world = Line(NAMES)
        self.carol = self.world["C"]
        self.frames: list[tuple[str, bytes]] = []
        self._before = dump(self.carol)
        payee = self.world[route[-1]]
        if paid:
            payee.secrets[digest_of(SECRET)] = SECRET
        at = route.index("C")
        amounts = [AMOUNT + FEE * (at - hop) for hop in range(len(route) - 1)]  # falls by FEE at each hop
        self.world.send(route, amounts, SECRET)
        self._let_happen()
        if not paid:
            payee.locks.refuse(payee.finals[0], Failure(Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS))
            self._let_happen()
        assert self.world.pending() == [] and load_circuits(self.carol.store) == []
        self.rows = dump(self.carol) - self._before

    def _let_happen(self) -> None:
        """Let everything happen, writing down what reaches Carol."""
        while possible := self.world.moments():
            member, what = possible[0]
            if what != "round" and member is self.carol:
                sender, frame = member.incoming[0]
                self.frames.append((sender.name, frame))
            self.world.do(member, what)

    def told(self) -> list[tuple[str, str]]:
        """Return what Carol is told, without what is random to her."""
        return sorted((sender, masked(frame)) for sender, frame in self.frames)

    def bytes(self) -> bytes:
        """Return every byte that Carol has seen or kept."""
        return b"".join(frame for _, frame in self.frames) + "".join(sorted(self.rows)).encode()


def masked(frame: bytes) -> str:
    """Return a message with onions, reasons and signatures replaced by their sizes."""
    message = decode(frame)
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    for name in ("signature", "digest"):
        if name in fields:
            fields[name] = len(fields[name])
    if isinstance(message, Reject):
        fields["reason"] = len(message.reason)
    if isinstance(message, Update):
        fields["operations"] = [
            (operation.lock, len(operation.onion)) if isinstance(operation, AddLock) else operation
            for operation in message.operations
        ]
    return f"{type(message).__name__} {fields} of {len(encode(message))} bytes"


def dump(member: Member) -> set[str]:
    """Return every row of every table that a node has."""
    tables = [name for (name,) in sql(member.store, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {f"{table} {row}" for table in tables for row in sql(member.store, f"SELECT * FROM {table}")}


@pytest.mark.parametrize("paid", [True, False], ids=["paid", "refused"])
def test_a_forwarder_is_told_the_same_whoever_pays_whom_over_however_many_hops(paid: bool) -> None:
    views = [View(route, paid=paid) for route in JOURNEYS]
    assert len(views[0].told()) >= 5
    for view in views[1:]:
        assert view.told() == views[0].told()


@pytest.mark.parametrize("paid", [True, False], ids=["paid", "refused"])
def test_what_a_forwarder_keeps_is_as_much_in_the_same_tables(paid: bool) -> None:
    def shape(view: View) -> list[str]:
        return sorted(row.split(maxsplit=1)[0] for row in view.rows)

    views = [View(route, paid=paid) for route in JOURNEYS]
    assert shape(views[0])
    for view in views[1:]:
        assert shape(view) == shape(views[0])


@pytest.mark.parametrize("paid", [True, False], ids=["paid", "refused"])
def test_nothing_that_a_forwarder_sees_or_keeps_names_anybody_but_its_neighbours(paid: bool) -> None:
    view = View("ABCDE", paid=paid)
    world, seen = view.world, view.bytes()
    strangers = [world["A"].node, world["E"].node, world["A"].key.address, world["E"].key.address]
    strangers += [world.channel("AB"), world.channel("DE")]
    for name in strangers:
        assert name not in seen and repr(name)[2:-1].encode() not in seen
    neighbour = world.channel("BC")
    assert neighbour in seen, "what she must know is there: the search works"


def test_the_same_payment_looks_the_same_wherever_on_the_way_a_forwarder_is() -> None:
    """Second of two forwarders or first: the onion has one size, and its rest is as random."""
    sizes = set()
    for route in JOURNEYS:
        for sender, frame in View(route, paid=True).frames:
            message = decode(frame)
            if sender == "B" and isinstance(message, Update):
                sizes |= {len(op.onion) for op in message.operations if isinstance(op, AddLock)}
    assert sizes == {1366}
