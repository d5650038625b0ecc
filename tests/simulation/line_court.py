"""A line of nodes with a court: it decides both locks of a stake alike, whoever brought what.

How it comes to what it says is its subclasses' (`line_stakes`, `line_virtual`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulation.line import CONFIRMED, Line
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Lock, Puzzle
from tallystick.channels.session.chaintime import ChainTime, StakeInCourt
from tallystick.router.onion.payload import FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import BuiltOnion, build_onion


class ExpectsAll:
    """Takes every stake that its onion says is about something, as if it were played here."""

    def objection(self, channel: Channel, lock: Lock, word: bytes | None) -> str | None:
        """See `Expecter`."""
        return None if word is not None else "nothing with such a stake is expected here"

    def on_dropped(self, lock: Lock) -> None:
        """See `Expecter`."""


class CourtLine(Line):
    """A line, and what its court has said so far."""

    expecter = ExpectsAll()

    said: Mapping[Puzzle, tuple[tuple[int, StakeInCourt, bytes], ...]] = MappingProxyType({})
    """By puzzle: what the court said, each with its block time and what it was brought (empty: not of this kind)."""

    def send_stake(
        self, condition: bytes, kind: int, word: bytes, route: str, told: tuple[int, ...], expiries: tuple[int, int]
    ) -> BuiltOnion:
        """Let the first of `route` lock a stake to the last. `told`: what each hop is told to lock; `expiries`: of
        the lock, and what hops are told.
        """
        payloads = [
            encode_payload(ForwardPayload(told[at + 1], expiries[1], self.channel(neighbours(route[at + 1 : at + 3]))))
            for at in range(len(route) - 2)
        ]
        payloads.append(encode_payload(FinalPayload(told[-1], expiries[1], word, told[-1])))
        seed = keccak(b"session" + condition)
        built = build_onion(seed, [self[name].node for name in route[1:]], payloads, condition)
        first = self.channel(neighbours(route[:2]))
        self[route[0]].channels.send_lock(first, told[0], expiries[0], condition, built.packet, kind=kind)
        return built

    def hear(self, puzzles: Mapping[Puzzle, StakeInCourt], proof: bytes) -> None:
        """Let the court say something of stakes, as it was brought `proof`."""
        said = dict(self.said)
        for puzzle, stake in puzzles.items():
            said[puzzle] = (*said.get(puzzle, ()), (self.time, stake, proof))
        self.said = said

    def seen(self) -> ChainTime:
        """Return the chain as it is: what the court has said counts once it is confirmed."""
        final = self.time - CONFIRMED
        proofs, stakes = self.confirmed(), dict[Puzzle, StakeInCourt]()
        for puzzle, said in self.said.items():
            for time, stake, proof in said:
                if time <= final:
                    stakes[puzzle] = stake
                    proofs.pop(puzzle, None)
                    if proof:
                        proofs[puzzle] = (time, proof)
        return ChainTime(self.time, final, proofs, stakes)

    def on_chain(self, lock: Lock) -> int | None:
        """Return what the contract pays of a lock now, None while that is undecided."""
        said = self.said.get(lock.puzzle)
        if said is not None and said[-1][1].counts_for(lock):
            return min(said[-1][1].paid, lock.amount) if self.time >= said[-1][1].decides else None
        return None if self.time <= lock.expiry else 0

    def redeemed(self, name: str) -> int:
        """Return what a node owns if every channel in which something pends is redeemed now, by the newest states."""
        total = 0
        for session in self[name].engine.sessions.values():
            channel = session.channel
            total += channel.balances()[channel.side] - sum(self._due(lock) for lock in channel.newest.locks)
            total += sum(self._due(lock) for lock in channel.theirs.simplex.locks)
        return total

    def _due(self, lock: Lock) -> int:
        due = self.on_chain(lock)
        assert due is not None, "it is to be asked once all is decided"
        return due


def neighbours(names: str) -> str:
    """Return two neighbours in the order in which their channel was made."""
    return "".join(sorted(names))
