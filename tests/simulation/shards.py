"""Shards under seeded bad days: `PYTHONPATH=tests python -m simulation.shards --seed N --histories 10000`.

A history is a group of shards, some accounts that send coins across, and a carrier whose network drops, repeats and
reorders what it carries, brings old parcels again, and forges some. Shards crash at any commit, before it is durable or
right after, and stay down for a while; they reorganise as deep as they may; pairs of them are cut off from each other.
After every step the supplies of all shards and what is on its way must be what was there at the beginning. In the end
all heals: then each receipt on any shard was executed once, in order, or sent back once, and each account holds what
the blocks alone say, counted without the ledger's own state.
"""

from __future__ import annotations

import argparse
import sys
import time as clock
from collections import Counter
from random import Random

import coincurve
import msgspec
import rlp

from tallystick.channels.errors import StoreError
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.store import Subject
from tallystick.channels.testing.memory import MemoryDisk
from tallystick.settlement.errors import Refusal, TransactionRefused
from tallystick.settlement.ethereum.transactions import OUTBOX, OUTBOX_GAS, decode_transaction
from tallystick.settlement.shards.outbox import Sending, decode_sending, encode_sending
from tallystick.settlement.shards.receipts import Parcel, ShardReceipt, read_parcel
from tallystick.settlement.simulated.crossing import NUMBERS, came_from, executed_of, left_for, sent_to
from tallystick.settlement.simulated.journal import LEDGER
from tallystick.settlement.simulated.ledger import next_nonce
from tallystick.settlement.simulated.world import balance_key, owed_key
from tallystick.settlement.testing.local import LocalChain
from tallystick.settlement.testing.shards import check_total, local_group, local_shard

SUBJECTS: tuple[Subject, ...] = (LEDGER,)
START = 10**9
KEYS = tuple(PrivateKey(keccak(b"account %d" % number)) for number in range(3))
SIGNERS = {key.address: coincurve.PrivateKey(key.reveal()) for key in KEYS}
ACCOUNTS = (*SIGNERS, Address(b"\x0e" * 20))
LEAST_PRICE = 1


class Violated(AssertionError):
    """A history broke what must hold."""


def sign(account: Address, chain_id: int, sending: Sending, nonce: int) -> bytes:
    """Return a raw transaction, in a tenth of the time that a wallet's library takes."""
    envelope = encode_sending(sending)
    fields = [chain_id, nonce, LEAST_PRICE, LEAST_PRICE, OUTBOX_GAS, envelope.to, envelope.value, envelope.data, []]
    digest = keccak(b"\x02" + rlp.encode(fields))
    signed = SIGNERS[account].sign_recoverable(digest, hasher=None)
    numbers = [signed[64], int.from_bytes(signed[:32], "big"), int.from_bytes(signed[32:64], "big")]
    return b"\x02" + bytes(rlp.encode([*fields, *numbers]))


class Faults(msgspec.Struct, frozen=True):
    """How bad a history is: shares of all steps."""

    crashes: float
    reorganisations: float
    cuts: float
    replays: float
    forgeries: float
    refusals: float
    loss: float
    """Of what is carried."""


def draw_faults(random: Random) -> Faults:
    """Draw how bad a history is; each kind of fault is absent in some."""
    return Faults(*(random.choice((0.0, most / 3, most)) for most in (0.12, 0.12, 0.06, 0.1, 0.05, 0.03, 0.5)))


class ShardHistory:
    """One group of shards and what happens to it."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(f"shards {seed}")
        self.faults = draw_faults(random)
        self.count = random.choice((2, 2, 3, 4))
        self.group = local_group(self.count, final_blocks=random.choice((1, 2, 3)))
        self.now = 1_000.0
        self.disks = [MemoryDisk(SUBJECTS) for _ in range(self.count)]
        self.stores = [disk.open() for disk in self.disks]
        self.chains = [self._begin(number) for number in range(self.count)]
        self.down = set[int]()
        self.cut = set[tuple[int, int]]()
        self.carried: list[tuple[int, bytes]] = []
        """On the way, with where to."""
        self.seen: list[bytes] = []
        """Every parcel that was ever carried."""
        self.happened: Counter[str] = Counter()
        self.total = self.count * len(ACCOUNTS) * START

    def _begin(self, number: int) -> LocalChain:
        funds = dict.fromkeys(ACCOUNTS, START)
        store = self.stores[number]
        return local_shard(self.group, number, funds=funds, clock=lambda: self.now, store=store)

    # --- what happens ---------------------------------------------------------------------------------------------

    def play(self, steps: int) -> None:
        """Let things happen, then heal, and check it all."""
        for _ in range(steps):
            self.now += self.random.choice((0.2, 1.0, 5.0))
            self._step()
            self.check()
        self.heal()
        self.check_all()

    def _step(self) -> None:
        random, faults = self.random, self.faults
        for share, act in (
            (faults.crashes, self._crash),
            (faults.reorganisations, self._reorganise),
            (faults.cuts, self._cut),
            (faults.replays, self._replay),
            (faults.forgeries, self._forge),
            (faults.refusals, self._refuse),
        ):
            if random.random() < share:
                act()
        random.choice((self._send, self._send, self._mine, self._mine, self._ask, self._ask, self._bring, self._rise))()

    def _up(self) -> list[int]:
        return [number for number in range(self.count) if number not in self.down]

    def _send(self) -> None:
        if not (up := self._up()):
            return
        random, source = self.random, self.random.choice(up)
        chain, account = self.chains[source], random.choice(KEYS).address
        destination = random.choice([other for other in range(self.count) if other != source])
        if random.random() < 0.05:
            destination = random.choice((source, self.count))
        amount = random.choice((1, 1_000, START // 3, START - OUTBOX_GAS * 20))
        expiry = int(self.now) + random.choice((1, 10, 40)) if random.random() < 0.2 else 0
        sending = Sending(destination, NATIVE, random.choice(ACCOUNTS), amount, expiry)
        waiting = [each.nonce + 1 for each in chain.waiting() if each.sender == account]
        nonce = max([next_nonce(chain.state, account), *waiting])
        raw = sign(account, chain.chain_id, sending, nonce)
        try:
            self.chains[source]._branch.submit(raw)
            self.happened["sent"] += 1
        except TransactionRefused:
            self.happened["refused at the door"] += 1

    def _mine(self) -> None:
        for number in self._up():
            if self.random.random() < 0.6:
                self._change(number, lambda chain: chain.mine(self.random.choice((1, 1, 2))))

    def _change(self, number: int, change: object) -> None:
        """Have a shard do something that it commits; it may be due to die of it."""
        assert callable(change)
        try:
            change(self.chains[number])
        except StoreError:
            self._fall(number)

    def _fall(self, number: int) -> None:
        """A shard's process is gone: what it held in memory is lost, and it stays down for a while."""
        self.happened["crash"] += 1
        self.stores[number] = self.disks[number].open()
        self.chains[number] = self._begin(number)
        self.down.add(number)

    def _crash(self) -> None:
        if up := self._up():
            number = self.random.choice(up)
            if self.random.random() < 0.3:
                self._fall(number)
            else:  # in the middle of its next commits
                self.stores[number].fail_at(self.random.choice((0, 0, 1)), takes_effect=self.random.random() < 0.5)

    def _rise(self) -> None:
        for number in sorted(self.down):
            if self.random.random() < 0.5:
                self.down.discard(number)

    def _reorganise(self) -> None:
        if up := self._up():
            number, random = self.random.choice(up), self.random
            chain = self.chains[number]
            depth = min(random.randint(1, self.group.final_blocks), chain.newest.header.number)
            length = depth + random.choice((0, 1, 2))
            if depth:
                self.happened["reorganisation"] += 1
                kept = random.choice((0.0, 0.5, 1.0))
                self._change(
                    number, lambda chain: chain.reorganise(depth, length=length, keep=lambda _: random.random() < kept)
                )

    def _cut(self) -> None:
        pair = self._pair()
        self.cut.symmetric_difference_update({pair})

    def _pair(self) -> tuple[int, int]:
        first, second = self.random.sample(range(self.count), 2)
        return first, second

    def _refuse(self) -> None:
        chain, refuses = self.chains[self.random.randrange(self.count)], self.random.random() < 0.5
        chain.refuse(self.random.choice(ACCOUNTS), refuses=refuses)

    # --- the carrier ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        source, destination = self._pair()
        if {source, destination} & self.down or (source, destination) in self.cut:
            return
        wanted = self._expected(source, destination)
        parcels = self.chains[source].parcels(destination, wanted)
        self.seen += parcels
        for raw in parcels:
            if self.random.random() >= self.faults.loss:
                self.carried += [(destination, raw)] * self.random.choice((1, 1, 2))

    def _expected(self, source: int, destination: int) -> int:
        return next(other.expected for other in self.chains[destination].others() if other.number == source)

    def _bring(self) -> None:
        if self.random.random() < 0.5:
            self.random.shuffle(self.carried)
        later, self.carried = self.carried, []
        for destination, raw in later:
            if destination in self.down:
                self.carried.append((destination, raw))
            else:
                self._offer(destination, raw)

    def _offer(self, destination: int, raw: bytes) -> None:
        try:
            self.chains[destination].offer(raw)
            self.happened["carried"] += 1
        except TransactionRefused as error:
            if error.code not in (Refusal.ALREADY_KNOWN, Refusal.NONCE_TOO_HIGH, Refusal.MEMPOOL_FULL):
                raise Violated(f"a right parcel was refused: {error}") from error
            self.happened[str(error.code)] += 1

    def _replay(self) -> None:
        if self.seen and (up := self._up()):
            raw, to = self.random.choice(self.seen), self.random.choice(up)
            try:
                self.chains[to].offer(raw)
                self.happened["replayed in turn"] += 1
            except TransactionRefused:
                self.happened["replay refused"] += 1

    def _forge(self) -> None:
        if not self.seen:
            return
        random, raw = self.random, bytearray(self.random.choice(self.seen))
        page = read_parcel(
            bytes(raw), self.group, msgspec.msgpack.decode(bytes(raw), type=Parcel).page.destination
        ).page
        raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
        if page.destination in self.down:
            return
        try:
            self.chains[page.destination].offer(bytes(raw))
        except TransactionRefused:
            self.happened["forgery refused"] += 1
        else:
            raise Violated(f"a forged parcel was taken: {bytes(raw).hex()}")

    # --- what must hold -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise LedgerBroken or Violated unless every coin is where it may be."""
        states = [chain.state for chain in self.chains]
        check_total(states, self.total, NATIVE)
        for source, destination in self._pairs():
            if executed_of(states[destination], source) > sent_to(states[source], destination):
                raise Violated(f"shard {destination} executed what shard {source} never sent")

    def _pairs(self) -> list[tuple[int, int]]:
        return [(one, other) for one in range(self.count) for other in range(self.count) if one != other]

    def heal(self) -> None:
        """End all faults, and carry until nothing is on its way."""
        self.down.clear()
        for number in range(self.count):
            if self.stores[number].dead:
                self._fall(number)
            self.stores[number].fail_at(10**9)
        self.down.clear()
        for _ in range(40):
            self.now += 1
            for chain in self.chains:
                chain.mine(self.group.final_blocks + 1)
            moved = 0
            for source, destination in self._pairs():
                for raw in self.chains[source].parcels(destination, self._expected(source, destination)):
                    self._offer(destination, raw)
                    moved += 1
            if not moved and not any(chain.waiting() for chain in self.chains) and not self._moving():
                break
        for chain in self.chains:
            chain.check_conservation()

    def _moving(self) -> int:
        states = [chain.state for chain in self.chains]
        return sum(
            (left_for(states[source], destination, NATIVE) - came_from(states[destination], source, NATIVE)) % NUMBERS
            for source, destination in self._pairs()
        )

    def check_all(self) -> None:
        """Raise Violated unless each receipt was executed once, and each account holds what the blocks say."""
        self.check()
        if self._moving():
            raise Violated("something is on its way for ever")
        held: Counter[tuple[int, Address]] = Counter(
            {(number, account): START for number in range(self.count) for account in ACCOUNTS}
        )
        for source, destination in self._pairs():
            sent = self._sent(source, destination)
            if sent != self._executed(source, destination):
                raise Violated(f"what left shard {source} is not what shard {destination} executed")
            refunded = Counter(each.refund_of for each in self._sent(destination, source) if each.refund_of is not None)
            if any(times != 1 for times in refunded.values()):
                raise Violated("a receipt was sent back twice")
            for number, receipt in enumerate(sent):
                if refunded[number]:
                    self.happened["refunded"] += 1
                else:
                    self.happened["paid"] += 1
                    held[destination, receipt.to] += receipt.amount
        for number in range(self.count):
            self._take_sendings(number, held)
            for account in ACCOUNTS:
                state = self.chains[number].state
                has = state.number(balance_key(NATIVE, account)) + state.number(owed_key(NATIVE, account))
                if has != held[number, account]:
                    raise Violated(f"on shard {number} an account holds {has}, not {held[number, account]}")

    def _sent(self, source: int, destination: int) -> list[ShardReceipt]:
        records = self.chains[source]._branch.records
        pages = [page for record in records if record.crossing for page in record.crossing.pages]
        return [receipt for page in pages if page.destination == destination for receipt in page.receipts]

    def _executed(self, source: int, destination: int) -> list[ShardReceipt]:
        records = self.chains[destination]._branch.records
        raws = [raw for record in records if record.crossing for raw in record.crossing.parcels]
        pages = [read_parcel(raw, self.group, destination).page for raw in raws]
        return [receipt for page in pages if page.source == source for receipt in page.receipts]

    def _take_sendings(self, number: int, held: Counter[tuple[int, Address]]) -> None:
        """Take from the accounts of a shard what its transactions took, by their raw bytes."""
        for record in self.chains[number]._branch.records:
            for entry in record.entries:
                transaction = decode_transaction(entry.raw, self.chains[number].chain_id)
                held[number, transaction.sender] -= entry.execution.fee
                if entry.execution.success and transaction.envelope.to == OUTBOX:
                    held[number, transaction.sender] -= decode_sending(transaction.envelope).amount


def campaign(seed: int, histories: int, *, steps: int = 40) -> Counter[str]:
    """Play histories; return how often what happened. Raise with the history's seed in the text if one breaks."""
    happened: Counter[str] = Counter()
    for number in range(histories):
        history = ShardHistory(seed * 1_000_000 + number)
        try:
            history.play(steps)
        except Exception as error:  # of whatever kind: it is told in which history
            error.add_note(f"history {number} of seed {seed}")
            raise
        happened += history.happened
    return happened


def main() -> int:
    """Play, and say how often what happened."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--histories", type=int, default=10_000)
    arguments.add_argument("--steps", type=int, default=40)
    options = arguments.parse_args()
    begun = clock.monotonic()
    happened = campaign(options.seed, options.histories, steps=options.steps)
    for what, count in sorted(happened.items()):
        print(f"{what:22} {count:>9,}")
    print(
        f"seed {options.seed}: {options.histories:,} histories, {clock.monotonic() - begun:.0f} s: no coin lost or made"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
