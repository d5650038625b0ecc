"""What the contract makes of locks: one entry per kind of condition, each in a file of its own (after Sprites).

| kind     | the receiver gets                                               | decided                          |
| -------- | --------------------------------------------------------------- | -------------------------------- |
| 0 hash   | all of it, if the secret was registered at or before the expiry | then, or once the expiry is past |
| 1 app    | what the court says of the stake, if it heard of the instance   | once the court has decided, or   |
|          | at or before the expiry                                         | the expiry is past without it    |
| 2 stream | as many units as the deepest registered link is deep            | once the expiry is past          |
| 3        | what the court says of the virtual channel, likewise            | as kind 1                        |
| virtual  |                                                                 |                                  |
| unknown  | nothing                                                         | once the expiry is past          |

The sender gets the rest. One registry serves all channels of a chain: of each puzzle (a kind and a condition) it keeps
a number, which only the kind's own entry writes and reads (`hash_lock`, `app`, `stream`).

A lock of a kind that this table does not know cannot be shown to hold, so it falls back to its sender: money never
stays in the contract for ever, and nobody is paid on a condition that nobody can check. No node signs such a lock, and
none starts that would (`require_judged`). A program adds its own kinds as it does in `channels.protocol.conditions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol import conditions
from tallystick.channels.protocol.conditions.kinds import KindTable
from tallystick.channels.protocol.objects import Lock, Puzzle
from tallystick.settlement.chain import RegisterProofCall, RegistryCall
from tallystick.settlement.contract.verdicts.app import AppVerdict
from tallystick.settlement.contract.verdicts.hash_lock import HashVerdict
from tallystick.settlement.contract.verdicts.rules import Verdict
from tallystick.settlement.contract.verdicts.stream import StreamVerdict
from tallystick.settlement.contract.verdicts.virtual import VirtualVerdict
from tallystick.settlement.errors import Revert, Reverted

Kept: TypeAlias = Callable[[Puzzle], int]
"""Returns the number that the registry keeps of a puzzle, 0 if nothing was registered."""

SHIPPED: tuple[Verdict, ...] = (HashVerdict(), AppVerdict(), StreamVerdict(), VirtualVerdict())

VERDICTS: KindTable[Verdict] = KindTable(*SHIPPED)
"""All kinds of locks that the contract decides. `VERDICTS.register` adds one, before any lock is looked at."""


def verdict_of(lock: Lock) -> Verdict:
    """Return the entry of the lock's kind; raise InvalidInput if there is none."""
    verdict = VERDICTS.find(lock.kind)
    if verdict is None:
        raise InvalidInput(f"the contract has no rule for lock {lock.id}: nobody would be paid for kind {lock.kind}")
    return verdict


def verdict_for(call: RegistryCall) -> Verdict:
    """Return the entry that takes this call; raise Reverted if there is none."""
    if isinstance(call, RegisterProofCall):
        verdict = VERDICTS.find(call.kind)
    else:
        verdict = next((known for known in VERDICTS if known.call is type(call)), None)
    if verdict is None or verdict.call is not type(call):
        raise Reverted(Revert.UNKNOWN_CALL, "locks of that kind are not decided by what is registered so")
    return verdict


def decide(lock: Lock, time: int, kept: Kept) -> int | None:
    """Return how much of the lock's amount goes to the receiver in a block of `time`, None while it is undecided.

    Once decided, it is the same at every later time.
    """
    verdict = VERDICTS.find(lock.kind)
    if verdict is None:
        return None if time <= lock.expiry else 0
    return verdict.due(lock, time, kept(lock.puzzle))


def require_judged() -> None:
    """Raise InvalidInput if a kind is signed off chain that the contract would give back to its sender."""
    for kind in conditions.KINDS:
        if VERDICTS.find(kind.number) is None:
            raise InvalidInput(f"kind {kind.number} ({kind.name}) of locks has no verdict: register one, too")
