"""Two connected parties of one channel, and the steps that most tests of a session begin with."""

from __future__ import annotations

import hashlib

from simulation.pair import Pair, Party
from tallystick.channels.limits import (
    Policy,
)
from tallystick.channels.session.inputs import (
    SubmitLock,
)
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.testing.clock import EPOCH

NOW = int(EPOCH)
SECRET = b"s" * 32
CONDITION = hashlib.sha256(SECRET).digest()


def connected(deposits: tuple[int, int] = (1_000, 1_000), reserve: int = 0, policy: Policy | None = None) -> Pair:
    pair = Pair(deposits, reserve=reserve, policy=policy)
    pair.connect()
    pair.settle()
    return pair


def pay(pair: Pair, party: Party, amount: int) -> Ticket:
    ticket = party.engine.pay(pair.id, amount)
    pair.settle()
    return ticket


def queue_lock(pair: Pair, amount: int = 10, lifetime: int = 600) -> int:
    return pair.alice.apply(SubmitLock(amount, NOW + lifetime, CONDITION))


def add_lock(pair: Pair, amount: int = 10, lifetime: int = 600) -> int:
    number = queue_lock(pair, amount, lifetime)
    pair.settle()
    return number


def paid(pair: Pair) -> int:
    assert pair.faults == []
    return pair.bob.channel.theirs.simplex.proof.transferred
