"""A rollup with many channels, for measurements: its accounts, its batches, and what its operator can show."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec

from tallystick.channels.protocol.keys import PrivateKey, keccak, with_recovery_id
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.rollup.batches import Batch, StepProof, judge
from tallystick.settlement.rollup.execution import make_batch, prove, replay
from tallystick.settlement.rollup.rules import Place, StepContext
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.steps import (
    EntryKind,
    NextEntry,
    QueueEntry,
    RollupClose,
    RollupExit,
    RollupFund,
    RollupOpen,
    Step,
    list_hash,
)

ACCOUNTS = 50
AMOUNT = 10**15
"""About what each side pays in."""

BOND = 10**18
FEE = 10**15
TIMES = 600, 600, 300
"""Seconds: the window, an order's, an answer's."""

FIRST_CHANNEL = 70_000
EXPIRY = 1_900_000_000
STEPS = 1_000
"""Of a batch that prepares."""


class Load:
    """Accounts that open channels, fund and close them; all that is random is so under a seed."""

    def __init__(self, place: Place, closes: int) -> None:
        self.place = place
        self.count = closes
        self.random = random.Random(7)
        self.keys = [PrivateKey(keccak(b"tally bench rollup %d" % at)) for at in range(ACCOUNTS)]
        self.state = RollupState()
        self.posted = 0
        """Batches."""
        each = 4 * AMOUNT * (2 * closes // ACCOUNTS + 2)
        self.deposits: list[tuple[Address, int]] = [(key.address, each) for key in self.keys]
        self._queue = [
            QueueEntry(EntryKind.DEPOSIT, at, owner, amount0=amount) for at, (owner, amount) in enumerate(self.deposits)
        ]
        self._before = self.state
        self._nonces = [0] * ACCOUNTS
        self._totals: list[int] = []

    def entry(self, index: int) -> QueueEntry | None:
        """Return an entry of the chain's list."""
        return self._queue[index] if index < len(self._queue) else None

    def preparing(self) -> Iterator[list[Step]]:
        """Yield the steps of the batches that make all channels."""
        steps: list[Step] = [NextEntry()] * ACCOUNTS
        for channel in range(self.count):
            first, second = self.random.sample(range(ACCOUNTS), 2)
            paid = [AMOUNT + self.random.randrange(AMOUNT) for _ in range(2)]
            index = FIRST_CHANNEL + channel
            steps += (
                RollupOpen(index, first, second, paid[0], self._nonce(first)),
                RollupFund(index, 1, paid[1], self._nonce(second)),
            )
            self._totals.append(sum(paid))
        for begin in range(0, len(steps), STEPS):
            yield steps[begin : begin + STEPS]

    def closes(self) -> list[Step]:
        """Return the steps that close all channels."""
        return [
            RollupClose(FIRST_CHANNEL + at, self.random.randrange(total), EXPIRY + self.random.randrange(10**6))
            for at, total in enumerate(self._totals)
        ]

    def exits(self) -> list[Step]:
        """Return a step that takes coins out."""
        return [RollupExit(0, AMOUNT, self._nonce(0))]

    def batch(self, steps: Sequence[Step], time: int) -> Batch:
        """Return the next batch; the state moves on."""
        self._before = self.state
        batch, self.state = make_batch(self.state, steps, self.place, time, ACCOUNTS, self.entry)
        self.posted += 1
        return batch

    def wrong_batch(self, time: int) -> Batch:
        """Return a batch of closes of which all are wrong from the middle on; the state stays."""
        self._before = self.state
        batch, _ = make_batch(self.state, self.closes(), self.place, time, ACCOUNTS, self.entry)
        middle = 32 + 64 * (self.count // 2) + 32
        data = batch.data[:middle] + keccak(batch.data[middle : middle + 32]) + batch.data[middle + 32 :]
        return msgspec.structs.replace(batch, data=data)

    def proof(self, batch: Batch, position: int) -> StepProof:
        """Return the proof of a step of the newest batch."""
        again = replay(batch, self._before, self.place, self.entry)
        return prove(batch, position, again.states[position], self._context(batch), self.entry)

    def signatures(self, proof: StepProof, batch: Batch) -> list[tuple[bytes, int]]:
        """Return both signatures of a close, as a contract takes them."""
        found = judge(proof, batch.steps_root, self._context(batch), list_hash(self._queue[: proof.head]))
        by = {key.address: key for key in self.keys}
        made = []
        for statement in found.statements:
            signature = by[statement.signer].sign(statement.digest)
            odd = with_recovery_id(statement.digest, signature, statement.signer)[64] - 27
            made.append((signature[:32], int.from_bytes(signature[32:], "big") | odd << 255))
        return made

    def withdrawal(self, number: int) -> list[int]:
        """Return the proof of an account in the newest state."""
        account = self.state.accounts.get(number)
        words = account.words if account else (0, 0, 0, 0)
        hashes = (self.state.accounts.root, self.state.channels.root, *self.state.accounts.siblings(number))
        numbers = [int.from_bytes(each, "big") for each in hashes]
        return [*numbers[:2], self.state.head, number, *words, *numbers[2:]]

    def _context(self, batch: Batch) -> StepContext:
        return StepContext(self.place, batch.time, batch.queue_end)

    def _nonce(self, account: int) -> int:
        self._nonces[account] += 1
        return self._nonces[account] - 1
