"""Random histories for both executions of the court's rules, and of the adjudicator that asks it.

    PYTHONPATH=tests python -m simulation.evm_court_histories --calls 20000

Each history is one instance of an app, its states and moves, legal and not, signed by whom they need and by others, at
times on and beside each boundary; and one channel with locks of kind 1 about it that is closed, settled and redeemed
meanwhile. All of it comes from the seed.
"""

from __future__ import annotations

import argparse
import sys
import time as clock
from contextlib import suppress
from functools import cache
from random import Random

import msgspec
from apps_play import APPS, Game, games
from hypothesis import HealthCheck, Phase, given, settings

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm_court import CourtCall
from simulation.evm_twins import STRANGER, Twins
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Lock
from tallystick.settlement.chain import DepositCall, OpenCall, RedeemCall, RegisterProofCall, SettleCall, SingleCall
from tallystick.settlement.contract import verdicts
from tallystick.settlement.contract.court import CourtRecord
from tallystick.settlement.contract.state import ChannelStatus
from tallystick.settlement.simulated import registry

KEYS = PrivateKey(keccak(b"a player")), PrivateKey(keccak(b"another player"))
BEGIN = 100
"""The time of the first block: what the apps of tests say is due is due after it."""
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
STEPS = {"register": 5, "move": 9, "outcome": 1, "wait": 1, "redeem": 2}


@cache
def pool(name: str, count: int = 12) -> tuple[Game, ...]:
    """Return games of an app with parameters of all kinds, the same in each run."""
    found: list[Game] = []

    @given(game=games(name))
    @settings(
        max_examples=count,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def collect(game: Game) -> None:
        found.append(game)

    collect()
    return tuple(found)


class CourtHistory:
    """One instance, what was signed about it, and one channel whose locks wait for it."""

    def __init__(self, twins: Twins, random: Random, name: str) -> None:
        self.twins, self.random = twins, random
        self.game = random.choice(pool(name))
        expiry = twins.time + random.choice((0, 61, 1_000, 3_000, 3_000))
        self.terms = apps.AppTerms(
            1337,
            random.choice((twins.at, twins.at, STRANGER)),
            self.game.app.id if random.random() < 0.97 else keccak(b"an app that nobody knows"),
            keccak(self.game.start),
            (KEYS[0].address, KEYS[1].address),
            self.game.stakes,
            (NATIVE, twins.token.at),
            expiry,
            random.choice((60, 600, 604_800)),
            random.randrange(2**64),
        )
        self.instance = apps.instance_id(self.terms)
        self.stakes = apps.stake_condition(self.instance, 0), apps.stake_condition(self.instance, 1)
        self.line = [self.game.start]
        """States that follow each other, by number."""
        self.fixture = ChannelFixture(contract=twins.at)
        count = twins.state.number(b"p" + b"".join(self.fixture.terms.participants) + NATIVE)
        self.fixture.terms = msgspec.structs.replace(self.fixture.terms, number=count)
        self.fixture.id = channel_id(self.fixture.terms)
        self.locks: list[tuple[Lock, ...]] = [(), ()]

    # --- the channel

    def play(self, steps: int) -> None:
        """Play the game, and close the channel some time, if there is one; then redeem what waits in it, to the end."""
        fixture, random = self.fixture, self.random
        if random.random() < 0.4:
            for _ in range(steps):
                self._step(random.choice(("register", "move", "move", "wait")))
            return
        self._send(OpenCall(fixture.terms, 2**60))
        self._send(DepositCall(fixture.id, 1, 2**60))
        while self.game.app.turn(self.line[-1]) is not None and random.random() < 0.8:
            self._grow()
        closes = random.choice((0, 0, 0, random.randrange(steps)))
        for number in range(steps):
            if number == closes:
                self._end()
                if random.random() < 0.7:
                    self._send(self._register())
            self._step(random.choices([*STEPS], [*STEPS.values()])[0])
        for _ in range(4):
            self._step("redeem")
            record = self._record()
            near = [lock.expiry for lock in sum(self.locks, ())] + ([record.until] if record else [])
            later = [time for time in near if time >= self.twins.time]
            if later:
                self.twins.time = random.choice(later) + random.choice((0, 1, 1))
        self.twins.time = max([self.twins.time, *near]) + 1
        for _ in (0, 1):  # both sides may have something left
            self._step("redeem")
        channel = self.twins.channel(fixture.id)
        assert channel is not None and channel.status == ChannelStatus.GONE, "nothing waits for ever"

    def _end(self) -> None:
        fixture, random = self.fixture, self.random
        for side in (0, 1):
            self.locks[side] = tuple(self._lock(id) for id in range(random.choice((0, 1, 2, 2, 3))))
        proofs = [
            fixture.proof(side, 1, random.choice((0, 2**59, 2**62)), self.locks[side]) if self.locks[side] else None
            for side in (0, 1)
        ]
        self._send(fixture.close(*proofs))
        self.twins.time += PERIOD + 1
        self._send(SettleCall(fixture.id))

    def _lock(self, id: int) -> Lock:
        random, player = self.random, self.random.randrange(2)
        stake = self.game.stakes[player]
        amount = random.choice((stake, stake, stake // 2, stake + 3)) % 2**100
        expiry = self.terms.expiry + random.choice((0, 0, 0, -50, 50, 2_000))
        kind, condition = random.choice(((1, self.stakes[player]),) * 6 + ((0, self.stakes[player]), (1, bytes(32))))
        return Lock(id, amount, max(0, expiry), kind, condition)

    # --- steps

    def _step(self, name: str) -> None:
        self.twins.time += self.random.choice((0, 0, 1, 9))
        call = getattr(self, f"_{name}")()
        if call is not None:
            self._send(call)

    def _send(self, call: SingleCall) -> None:
        by = self.fixture.address(0) if isinstance(call, OpenCall) or hasattr(call, "close_key") else STRANGER
        channel = self.fixture.id if not isinstance(call, CourtCall) else None
        self.twins.send(call, by, channel)
        record = self._record()
        if record is None or record.until:
            self.twins.compare_court(self.instance)

    def _record(self) -> CourtRecord | None:
        return registry.record_of(self.twins.state, self.instance)

    def _grow(self) -> None:
        """Add a legal move to the line."""
        state = self.line[-1]
        mover = self.game.app.turn(state)
        if mover is not None:
            move = self.random.choice(self.game.legal(state, self.instance))
            with suppress(InvalidInput):  # it may follow a state that no game comes to
                self.line.append(self.game.app.valid(state, move, mover, self.instance))

    def _signed(self, player: int, number: int, state: bytes) -> bytes:
        statement = apps.AppState(self.instance, number, keccak(state))
        return self._forged(KEYS[player].sign(apps.digest_state(self.terms, statement)))

    def _forged(self, signature: bytes) -> bytes:
        if self.random.random() > 0.03:
            return signature
        high = (ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
        flipped = signature[:5] + bytes([signature[5] ^ 1]) + signature[6:]
        return self.random.choice((bytes(64), b"", signature[:63], signature[:32] + high, flipped))

    def _damaged(self, data: bytes) -> bytes:
        if self.random.random() > 0.12:
            return data
        at = self.random.randrange(len(data) + 1)
        return self.random.choice(
            (
                data[:at],
                data + b"\1",
                data[:at] + self.random.randbytes(1) + data[at + 1 :],
                self.random.randbytes(9),
                b"",
            )
        )

    def _register(self) -> RegisterStateCall:
        if self.random.random() < 0.3:
            self._grow()
        number = self.random.randrange(len(self.line))
        state = self._damaged(self.line[number])
        number += self.random.choice((0, 0, 0, 0, 1, 7, 2**63))
        if self.random.random() < 0.01:
            number = 2**64 - 1
        first, second = self._signed(0, number, state), self._signed(1, number, state)
        both = (first, second) if self.random.random() < 0.97 else (second, first)
        return RegisterStateCall(self.terms, number, state, both)

    def _move(self) -> CourtMoveCall:
        record, app = self._record(), self.game.app
        standing = [state for state in self.line if record is not None and keccak(state) == record.state]
        state = self._damaged(standing[0] if standing else self.random.choice(self.line))
        try:
            mover = app.turn(state)
            moves = self.game.legal(state, self.instance) if mover is not None else [b"\0"]
            move = self._damaged(self.random.choice(moves))
            after = app.valid(state, move, mover or 0, self.instance)
        except (InvalidInput, LookupError):
            mover, move, after = self.random.randrange(2), self.random.choice((b"", b"\0", b"\1" * 33)), b""
        if standing and after and after not in self.line:
            self.line.append(after)  # so that moves in court follow moves in court
        number = record.number + 1 if record is not None else 1
        by = mover or 0
        if self.random.random() < 0.04:
            by = 1 - by
        signature = self._signed(by, min(number, 2**64 - 1), after)
        return CourtMoveCall(self.terms, state, move, signature)

    def _outcome(self) -> RegisterProofCall | None:
        random = self.random
        if random.random() < 0.5:
            return None  # else most histories were over soon
        first, second = (
            random.choice((0, stake, stake // 2, min(stake + 1, 2**128 - 1))) for stake in self.game.stakes
        )
        terms = self.terms
        if random.random() < 0.1:  # of another chain, whose instance it names
            terms = msgspec.structs.replace(terms, chain_id=5)
        paid = (first, second)
        digest = apps.digest_outcome(terms, apps.AppOutcome(apps.instance_id(terms), paid))
        proof = apps.OutcomeProof(terms, paid, (KEYS[0].sign(digest), KEYS[1].sign(digest))).encode()
        if random.random() < 0.1:
            at = random.randrange(len(proof))
            flipped = proof[:at] + bytes([proof[at] ^ 1 << random.randrange(8)]) + proof[at + 1 :]
            proof = random.choice((flipped, flipped, proof[:-1], proof + b"\0", b""))
        condition = random.choice((*self.stakes, *self.stakes, *self.stakes, bytes(32)))
        return RegisterProofCall(1 if random.random() < 0.97 else random.choice((0, 3, 77)), condition, proof)

    def _wait(self) -> None:
        record = self._record()
        ends = self.terms.expiry if record is None else record.until
        time = ends + self.random.choice((-1, 0, 0, 1)) if self.random.random() < 0.7 else self.twins.time + 40
        self.twins.time = max(self.twins.time, time)

    def _redeem(self) -> RedeemCall | None:
        channel = self.twins.channel(self.fixture.id)
        side = self.random.randrange(2)
        if channel is None or channel.status != ChannelStatus.SETTLED:
            return RedeemCall(self.fixture.id, side, self.locks[side]) if self.random.random() < 0.1 else None
        if not channel.pots[side]:
            side = 1 - side
        call = RedeemCall(self.fixture.id, side, self.locks[side])
        self.locks[side] = tuple(lock for lock in self.locks[side] if self._is_open(lock))
        return call

    def _is_open(self, lock: Lock) -> bool:
        kept = registry.kept(self.twins.state, lock.puzzle)
        return verdicts.decide(lock, self.twins.time, lambda _: kept) is None


def campaign(seed: int, calls: int, *, fresh: int = 1_500) -> Twins:
    """Play histories of all apps until so many calls were made; a new pair of chains now and then. Raise Differs."""
    random = Random(seed)
    done, twins = 0, Twins(time=BEGIN, court=True)
    verdicts_said = twins.verdicts
    while done + twins.calls < calls:
        if twins.calls >= fresh:
            done += twins.calls
            twins = Twins(time=BEGIN, court=True)
            twins.verdicts = verdicts_said
        twins.time = BEGIN  # what is due then should lie ahead
        CourtHistory(twins, random, random.choice([*APPS])).play(random.randrange(4, 24))
    twins.calls += done
    return twins


def main() -> int:
    """Play, and say how often which rule spoke."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--calls", type=int, default=20_000)
    options = arguments.parse_args()
    begun = clock.monotonic()
    twins = campaign(options.seed, options.calls)
    for (call, verdict), count in sorted(twins.verdicts.items()):
        print(f"{call:22} {verdict or 'done':22} {count:>7,}")
    print(f"seed {options.seed}: {twins.calls:,} calls, no difference, {clock.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
