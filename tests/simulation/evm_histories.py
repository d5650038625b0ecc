"""Random histories for both executions of the rule book.

    PYTHONPATH=tests python -m simulation.evm_histories --calls 100000

Each history is one channel: what two parties could sign and much that they should not, by whoever calls, at times on
and beside each boundary. All of it comes from the seed.
"""

from __future__ import annotations

import argparse
import sys
import time as clock
from random import Random

import msgspec

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm_twins import STRANGER, TOWER, Twins
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id, locks_root
from tallystick.channels.protocol.hashchain import StreamTerms, walk
from tallystick.channels.protocol.objects import NATIVE, Address, Lock, SignedProof
from tallystick.settlement.chain import (
    ClaimCall,
    CloseCall,
    CooperativeCloseCall,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterSecretCall,
    SettleCall,
    SingleCall,
    WithdrawCall,
)
from tallystick.settlement.contract.state import ChannelStatus

STEPS: dict[ChannelStatus, dict[str, int]] = {
    ChannelStatus.OPEN: {"deposit": 5, "withdraw": 2, "cooperate": 3, "close": 3, "secret": 1, "link": 1, "wait": 1},
    ChannelStatus.CLOSED: {"challenge": 8, "settle": 2, "secret": 1, "link": 2, "wait": 1},
    ChannelStatus.SETTLED: {"redeem": 6, "secret": 2, "link": 2, "wait": 1},
    ChannelStatus.GONE: {"reopen": 1, "deposit": 1, "redeem": 1, "settle": 1, "cooperate": 1, "secret": 1, "link": 2},
}
"""What is called in which status, mostly."""
ANY = ["refuse", "claim", "deposit", "withdraw", "cooperate", "close", "challenge", "settle", "redeem", "reopen"]
ENDING = ["close", "challenge", "challenge", "wait", "settle", "secret", "redeem", "redeem", "wait", "redeem", "redeem"]


class History:
    """One channel, what was signed of it, and what is called next."""

    def __init__(self, twins: Twins, random: Random) -> None:
        self.twins = twins
        self.random = random
        self.fixture = ChannelFixture(asset=random.choice((NATIVE, twins.token.at)), contract=twins.at)
        count = int.from_bytes(twins.state.number(self._count_key()).to_bytes(8, "big"), "big")
        self.fixture.terms = msgspec.structs.replace(self.fixture.terms, number=count)
        self.fixture.id = channel_id(self.fixture.terms)
        twins.know(self.fixture.terms)
        self.seqs = [0, 0]
        self.signed: tuple[list[SignedProof], list[SignedProof]] = ([], [])
        self.locks: tuple[list[tuple[Lock, ...]], list[tuple[Lock, ...]]] = ([()], [()])
        self.offers: list[CooperativeCloseCall] = []
        self.secrets = [random.randbytes(32) for _ in range(4)]
        self.seed, self.length = random.randbytes(32), random.randrange(1, 400)
        self.stream = StreamTerms(walk(self.seed, self.length), random.randrange(1, 40), self.length)
        self.expiry = twins.time + random.randrange(1, 4 * PERIOD)

    def _count_key(self) -> bytes:
        return b"p" + b"".join(self.fixture.terms.participants) + self.fixture.terms.asset

    def play(self, steps: int) -> None:
        """Open, and make so many calls, and then what ends the channel."""
        for party in self.participants:
            self.twins.approve(party, 2**120)
        self._send(self._open())
        if self.twins.channel(self.fixture.id) is None:
            self._send(
                OpenCall(self.fixture.terms, self.random.randrange(10_000)), self.random.choice(self.participants)
            )
        for number in range(steps):
            channel = self.twins.channel(self.fixture.id)
            if channel is None or self.random.random() < 0.12:
                name = self.random.choice(ANY)
            elif number < steps // 2 or channel.status != ChannelStatus.OPEN:
                weights = STEPS[ChannelStatus(channel.status)]
                (name,) = self.random.choices([*weights], [*weights.values()])
            else:
                name = self.random.choice(("close", "cooperate"))
            self._step(name)
        if self.random.random() < 0.2:
            self._refuse()
        for name in ENDING:
            channel = self.twins.channel(self.fixture.id)
            if channel is None or channel.status != ChannelStatus.GONE:
                self._step(name)
        for account in (*self.participants, TOWER):
            if self.random.random() < 0.3:
                self.twins.send(self._claim(), account)

    def _step(self, name: str) -> None:
        self.twins.time += self.random.choice((0, 1, 1, 60))
        call = getattr(self, f"_{name}")()
        if call is not None:
            self._send(call)

    @property
    def participants(self) -> tuple[Address, Address]:
        """Both, in order of side."""
        return self.fixture.terms.participants

    def _send(self, call: SingleCall, by: Address | None = None) -> None:
        if by is None:
            both = self.participants
            strangers = 1 if isinstance(call, (OpenCall, CloseCall)) else 4
            by = self.random.choice(
                (*both, *both, *both, *(self.random.choice((TOWER, STRANGER)) for _ in range(strangers)))
            )
        if self.random.random() < 0.08:
            before = [self.random.choice((self._secret, self._link))() for _ in range(self.random.randrange(3))]
            after = [call] * self.random.randrange(2)
            self.twins.batch([*before, call, *after], by, self.fixture.id)
        else:
            self.twins.send(call, by, self.fixture.id)

    def _refuse(self) -> None:
        account = self.random.choice((*self.participants, TOWER))
        self.twins.refuse(account, self.fixture.terms.asset, self.random.random() < 0.5)

    def _claim(self) -> SingleCall:
        asset, lost = self.fixture.terms.asset, (NATIVE, self.fixture.terms.contract)
        return ClaimCall(asset, self.random.choice((*self.participants, TOWER, STRANGER, asset, *lost)))

    def _open(self) -> SingleCall:
        terms = self.fixture.terms
        if self.random.random() < 0.1:
            change = self.random.choice(
                (
                    {"challenge_period": 0},
                    {"challenge_period": 366 * 86_400 + 1},
                    {"number": terms.number + 1},
                    {"asset": Address(b"\x55" * 20)},
                )
            )
            self._send(OpenCall(msgspec.structs.replace(terms, **change), 0))
        return OpenCall(terms, self.random.choice((0, 1, self.random.randrange(10_000), 10_000)))

    def _reopen(self) -> SingleCall:
        return OpenCall(self.fixture.terms, self.random.randrange(2))

    def _deposit(self) -> SingleCall:
        amount = self.random.choice((0, 1, 5, self.random.randrange(10_000)))
        if self.fixture.terms.asset != NATIVE and self.random.random() < 0.2:
            amount = 2**110 if self.random.random() < 0.5 else amount
            self.twins.approve(self.random.choice(self.participants), self.random.choice((0, 10, 2**120)))
        return DepositCall(self.fixture.id, self.random.choice((0, 0, 1, 1, 2)), amount, self.fixture.terms.asset)

    def _near(self, time: int) -> int:
        return max(0, time + self.random.choice((-1, 0, 0, 1, 100)))

    def _withdraw(self) -> SingleCall:
        channel = self.twins.channel(self.fixture.id)
        total = self.random.randrange(12_000) if channel is None else self.random.randrange(channel.total + 2)
        return self._forged(self.fixture.withdrawal(self.random.randrange(2), total, self._near(self.twins.time)))

    def _cooperate(self) -> SingleCall:
        channel = self.twins.channel(self.fixture.id)
        total = channel.total if channel is not None else 7
        if self.offers and self.random.random() < 0.6:
            return self.random.choice(self.offers)  # what was signed before somebody deposited more
        first = self.random.randrange(total + 1)
        second = total - first + self.random.choice((0, 0, 0, 1))
        offer = self.fixture.cooperative_close(
            first, second, self._near(self.twins.time) + self.random.choice((0, 900))
        )
        self.offers.append(offer)
        return self._forged(offer) if self.random.random() < 0.3 else self._deposit()

    def _forged(self, call: WithdrawCall | CooperativeCloseCall) -> SingleCall:
        if self.random.random() > 0.15:
            return call
        first, second = call.signature0, call.signature1
        forged = self.random.choice(((second, first), (bytes(64), second), (first, _high(second))))
        return msgspec.structs.replace(call, signature0=forged[0], signature1=forged[1])

    def _lock(self, id: int) -> Lock:
        random, now = self.random, self.twins.time
        kind = random.choice((0, 0, 0, 2, 2, 1, 77))
        if kind == 2:
            amount = random.choice((self.stream.amount, random.randrange(3_000)))
            return Lock(id, amount, self.expiry, 2, self.stream.condition(self.expiry))
        expiry = random.choice((now - 5, now + random.randrange(3 * PERIOD), self.expiry, 2**64 - 1))
        return Lock(
            id, random.choice((0, random.randrange(3_000))), expiry, kind, digest_of(random.choice(self.secrets))
        )

    def _proof(self, side: int) -> SignedProof:
        random = self.random
        if self.signed[side] and random.random() < 0.35:
            return random.choice(self.signed[side])
        self.seqs[side] += random.randrange(3)
        count = random.choice((0, 0, 1, 2, 3, 6)) if random.random() < 0.97 else 40
        locks = tuple(self._lock(id) for id in range(count))
        transferred = random.choice((0, random.randrange(9_000), random.randrange(100), 2**128 - 1))
        seen = random.randrange(max(self.seqs) + 2)
        proof = self.fixture.proof(side, self.seqs[side], transferred, locks, seen)
        if random.random() < 0.03:  # what it says of its locks need not be true
            proof = self.fixture.sign(msgspec.structs.replace(proof.proof, locked=random.choice((0, 1, 2**128 - 1))))
        self.signed[side].append(proof)
        self.locks[side].append(locks)
        if random.random() < 0.06:
            said, first, second = proof.proof, proof.signature, proof.countersignature
            changed = msgspec.structs.replace(said, transferred=said.transferred ^ 1)
            wrong = (
                (said, second, first),
                (said, first, bytes(64)),
                (said, _high(first), second),
                (changed, first, second),
            )
            return SignedProof(*random.choice(wrong))
        return proof

    def _close(self) -> SingleCall:
        proofs = [self._proof(side) if self.random.random() < 0.75 else None for side in (0, 1)]
        call = self.fixture.close(*proofs)
        return msgspec.structs.replace(call, close_key=bytes(32)) if self.random.random() < 0.04 else call

    def _challenge(self) -> SingleCall:
        self._towards_deadline()
        proof = self._proof(self.random.randrange(2))
        if self.random.random() < 0.5:
            return self.fixture.challenge(proof)
        tower = self.random.choice((TOWER, TOWER, STRANGER, self.twins.at))
        return self.fixture.challenge(proof, tower=tower, victim=self.random.randrange(2))

    def _towards_deadline(self) -> None:
        channel = self.twins.channel(self.fixture.id)
        if channel is not None and channel.status == ChannelStatus.CLOSED and self.random.random() < 0.15:
            self.twins.time = max(self.twins.time, channel.deadline + self.random.choice((-1, 0, 1)))

    def _settle(self) -> SingleCall:
        self._towards_deadline()
        return SettleCall(self.fixture.id)

    def _redeem(self) -> SingleCall:
        side = self.random.randrange(2)
        channel = self.twins.channel(self.fixture.id)
        locks = self.random.choice(self.locks[side])
        if channel is not None and self.random.random() < 0.9:
            root = channel.standing[side].root
            locks = next((known for known in self.locks[side] if locks_root(known) == root), locks)
            rest = self._undecided(locks)
            self.locks[side].append(rest)
        return RedeemCall(self.fixture.id, side, locks)

    def _undecided(self, locks: tuple[Lock, ...]) -> tuple[Lock, ...]:
        """Return the locks that a redeem now would leave."""
        from tallystick.settlement.contract import verdicts

        def kept(puzzle: tuple[int, bytes]) -> int:
            verdict = verdicts.VERDICTS.find(puzzle[0])
            return self.twins.state.number(verdict.slot(puzzle[1])) if verdict else 0

        return tuple(lock for lock in locks if verdicts.decide(lock, self.twins.time, kept) is None)

    def _secret(self) -> SingleCall:
        return RegisterSecretCall(self.random.choice(self.secrets))

    def _link(self) -> SingleCall:
        depth = self.random.randrange(self.length + 2)
        link = walk(self.seed, max(0, self.length - depth))
        if self.random.random() < 0.1:
            link = self.random.randbytes(32)
        unit = self.random.choice((self.stream.unit,) * 8 + (0, 2**127))
        length = self.random.choice((self.length,) * 8 + (0, 65_537))
        expiry = self.random.choice((self.expiry,) * 8 + (self.expiry + 1,))
        return RegisterLinkCall(link, depth, self.stream.tip, unit, length, expiry)

    def _wait(self) -> None:
        self.twins.time += self.random.choice((PERIOD - 1, PERIOD, PERIOD + 1, 4 * PERIOD))


def _high(signature: bytes) -> bytes:
    """Return the same signature with its high s, which only the contract itself can refuse."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    return signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


def campaign(seed: int, calls: int, *, fresh: int = 2_000) -> Twins:
    """Play histories until so many calls were made; a new pair of chains now and then. Raise Differs."""
    random = Random(seed)
    done, twins = 0, Twins()
    verdicts = twins.verdicts
    while done + twins.calls < calls:
        if twins.calls >= fresh:
            done += twins.calls
            twins = Twins(token=random.choice(("ordinary", "silent")))
            twins.verdicts = verdicts
        History(twins, random).play(random.randrange(5, 26))
    twins.calls += done
    return twins


def main() -> int:
    """Play, and say how often which rule spoke."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--calls", type=int, default=100_000)
    options = arguments.parse_args()
    begun = clock.monotonic()
    twins = campaign(options.seed, options.calls)
    for (call, verdict), count in sorted(twins.verdicts.items()):
        print(f"{call:22} {verdict or 'done':22} {count:>7,}")
    print(f"seed {options.seed}: {twins.calls:,} calls, no difference, {clock.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
