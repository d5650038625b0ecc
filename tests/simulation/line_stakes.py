"""Two players, A and C, whose stakes go over B: what they sign, what they bring to court, and what that decides.

The court of this chain is as simple as it may be: who speaks first decides, at once, as an outcome does, or later, as a
state that stands does. Which one, tests say. Whatever it says, it says of both locks of a stake.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulation.line import CONFIRMED, Line
from simulation.pair import CHAIN_ID, CONTRACT
from tallystick.channels.apps.tictactoe import TicTacToe
from tallystick.channels.protocol.apps import (
    APP,
    AppOutcome,
    AppTerms,
    OutcomeProof,
    digest_outcome,
    instance_id,
    stake_condition,
)
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Lock, Puzzle
from tallystick.channels.session.chaintime import ChainTime, StakeInCourt
from tallystick.router.onion.payload import FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import BuiltOnion, build_onion

LIFETIME = 3_600


class ExpectsAll:
    """Takes every stake that its onion says is about an instance, as if it were played here."""

    def objection(self, channel: Channel, lock: Lock, word: bytes | None) -> str | None:
        """See `Expecter`."""
        return None if word is not None else "no app with such a stake is expected here"

    def on_dropped(self, lock: Lock) -> None:
        """See `Expecter`."""


class StakesLine(Line):
    """A line with a court. `terms` of an instance whose players are A and C."""

    expecter = ExpectsAll()

    said: Mapping[Puzzle, tuple[tuple[int, StakeInCourt, bytes], ...]] = MappingProxyType({})
    """By puzzle: what the court said, each with its block time and the outcome that said so (empty: states did)."""

    def terms(self, stakes: tuple[int, int], nonce: int = 0, lifetime: int = LIFETIME, ends: str = "AC") -> AppTerms:
        """Return the terms of a new instance between the first and the last."""
        players = self[ends[0]].key.address, self[ends[1]].key.address
        times = self.time + lifetime, 600
        return AppTerms(
            CHAIN_ID, CONTRACT, TicTacToe().id, keccak(b"start"), players, stakes, (NATIVE, NATIVE), *times, nonce
        )

    def lock(
        self, terms: AppTerms, player: int, route: str = "ABC", *, amounts: tuple[int, ...] = (), expiry: int = 0
    ) -> BuiltOnion:
        """Let a player lock its stake over `route`, which begins with it; `amounts`: what each hop is told to lock."""
        names, number = route if player == 0 else route[::-1], terms.stakes[player]
        condition, expiry = stake_condition(instance_id(terms), player), expiry or terms.expiry
        told = amounts or (number,) * (len(names) - 1)
        payloads = [
            encode_payload(ForwardPayload(told[place + 1], expiry, self.channel(pair(names[place + 1 : place + 3]))))
            for place in range(len(names) - 2)
        ]
        payloads.append(encode_payload(FinalPayload(told[-1], expiry, instance_id(terms), told[-1])))
        seed = keccak(b"session" + condition)
        built = build_onion(seed, [self[name].node for name in names[1:]], payloads, condition)
        first = self.channel(pair(names[:2]))
        self[names[0]].channels.send_lock(first, told[0], terms.expiry, condition, built.packet, kind=APP)
        return built

    def outcome(self, terms: AppTerms, paid: tuple[int, int], ends: str = "AC") -> bytes:
        """Return an outcome that both players sign: they sign whatever they like."""
        digest = digest_outcome(terms, AppOutcome(instance_id(terms), paid))
        first, second = (self[name].key.sign(digest) for name in ends)
        return OutcomeProof(terms, paid, (first, second)).encode()

    def judge(self, terms: AppTerms, paid: tuple[int, int], proof: bytes = b"", decides: int = 0) -> bool:
        """Let the court hear of an instance, unless it has decided or it is too late; return whether it took it."""
        conditions = [stake_condition(instance_id(terms), player) for player in (0, 1)]
        known = self.said.get((APP, conditions[0]))
        if self.time > terms.expiry if known is None else self.time >= known[-1][1].decides:
            return False
        said = dict(self.said)
        for condition, one in zip(conditions, paid, strict=True):
            stake = StakeInCourt(terms.expiry, decides or self.time, one)
            said[APP, condition] = (*said.get((APP, condition), ()), (self.time, stake, proof))
        self.said = said
        return True

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
        said = self.said.get((lock.kind, lock.condition))
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


def pair(names: str) -> str:
    """Return two neighbours in the order in which their channel was made."""
    return "".join(sorted(names))
