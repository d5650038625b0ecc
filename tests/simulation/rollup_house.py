"""A rollup's users, the chain's list, honest batches under a seed, and batches that are wrong in each known way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import ZERO32, Address
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.execution import make_batch, run_step
from tallystick.settlement.rollup.rules import Place, Statement, StepContext, WrongStep
from tallystick.settlement.rollup.state import LeafStanding, RollupAccount, RollupState
from tallystick.settlement.rollup.steps import (
    EntryKind,
    NextEntry,
    QueueEntry,
    RollupClose,
    RollupExit,
    RollupFund,
    RollupOpen,
    RollupTransfer,
    Step,
    decode_step,
    encode_step,
    list_hash,
)

PLACE = Place(1337, Address(keccak(b"a rollup of tests")[12:]))
FAR = 2**40 - 1

Signatures = tuple[tuple[bytes, ...], ...]
"""Of each step, in order of its statements."""


class Posted(NamedTuple):
    """A batch with all that its operator knows of it."""

    batch: Batch
    signatures: Signatures
    before: RollupState
    after: RollupState


class RollupHouse:
    """The users, the list, and the state after all batches."""

    def __init__(self, seed: int, users: int = 4, place: Place = PLACE) -> None:
        self.random = random.Random(seed)
        self.keys = [PrivateKey(keccak(b"rollup %d" % user)) for user in range(users)]
        self.by_address = {key.address: key for key in self.keys}
        self.place = place
        self.time = 1_000
        self.queue: list[QueueEntry] = []
        self.state = RollupState()
        self.channels: list[int] = []

    def entry(self, index: int) -> QueueEntry | None:
        """Return an entry of the list."""
        return self.queue[index] if index < len(self.queue) else None

    def done(self, count: int) -> bytes:
        """Return the running hash of so many entries; zero if there are not so many."""
        return list_hash(self.queue[:count]) if count <= len(self.queue) else ZERO32

    def sign(self, statement: Statement) -> bytes:
        """Return the signer's signature."""
        return self.by_address[statement.signer].sign(statement.digest)

    def order(self, *entries: QueueEntry) -> None:
        """Put entries into the list."""
        self.queue += entries

    def deposit(self, user: int, amount: int) -> None:
        """Let a user deposit."""
        self.order(QueueEntry(EntryKind.DEPOSIT, user, self.keys[user].address, amount0=amount))

    def random_entry(self) -> QueueEntry:
        """Return any entry that the chain may take; it need not make sense."""
        user, other = self.random.sample(range(len(self.keys)), 2)
        addresses = self.keys[user].address, self.keys[other].address
        match self.random.randrange(4):
            case 0:
                return QueueEntry(EntryKind.EXIT, user, addresses[0])
            case 1 if self.channels:
                index = self.random.choice(self.channels)
                channel = self.state.channels.get(index)
                assert channel is not None
                sides = [self.keys[side].address for side in (channel.first, channel.second)]
                part = self.random.randint(0, channel.total)
                if self.random.random() < 0.3:
                    sides.reverse()
                if self.random.random() < 0.5:  # of both, and else of one: anything that they may have signed
                    return QueueEntry(EntryKind.CLOSE, index, sides[0], sides[1], part, channel.total - part)
                given = self.random.randint(0, 2 * channel.total), self.random.choice((0, part, 2**128 - 1))
                return QueueEntry(EntryKind.SETTLE, index, sides[0], sides[1], *given)
            case _:
                return QueueEntry(EntryKind.DEPOSIT, user, addresses[0], amount0=self.random.randint(1, 10**6))

    def random_step(self, state: RollupState) -> Step:
        """Return a step that has a good chance to be right."""
        user, other = self.random.sample(range(len(self.keys)), 2)
        account = state.accounts.get(user)
        nonce, most = (account.nonce, account.balance) if account else (0, 0)
        amount = self.random.choice((0, most, self.random.randint(0, most + 1)))
        open_ones = [each for each in self.channels if _is_open(state, each)]
        kind = self.random.randrange(7)
        if kind == 0:
            return NextEntry()
        if kind == 1:
            return RollupTransfer(user, other, amount, nonce)
        if kind == 2 or not open_ones:
            return RollupOpen(self.random.choice((len(self.channels), 2**32 - 1 - user)), user, other, amount, nonce)
        index = self.random.choice(open_ones)
        channel = state.channels.get(index)
        assert channel is not None
        if kind == 3:
            side = self.random.randrange(2)
            payer = state.accounts.get((channel.first, channel.second)[side])
            assert payer is not None
            return RollupFund(index, side, self.random.randint(0, payer.balance), payer.nonce)
        if kind == 4:
            return RollupExit(user, amount, nonce)
        return RollupClose(index, self.random.randint(0, channel.total), self.random.choice((FAR, self.time)))

    def honest(self, count: int) -> Posted:
        """Return an honest batch of so many steps, beside the entries that must be done, and count it as posted."""
        before, state, steps, signatures = self.state, self.state, list[Step](), list[tuple[bytes, ...]]()
        context = StepContext(self.place, self.time, len(self.queue))
        while len(steps) < count or state.head < len(self.queue):
            step = NextEntry() if len(steps) >= count else self.random_step(state)
            try:
                state, statements = run_step(state, step, context, self.entry)
            except WrongStep:
                continue
            steps.append(step)
            signatures.append(tuple(self.sign(each) for each in statements))
            if isinstance(step, RollupOpen):
                self.channels.append(step.channel)
        batch, after = make_batch(before, steps, self.place, self.time, len(self.queue), self.entry)
        self.state = after
        return Posted(batch, tuple(signatures), before, after)

    def wealth(self) -> int:
        """Return all coins in the state, also those that were taken out."""
        accounts = [self.state.accounts.get(user) for user in range(len(self.keys))]
        channels = [self.state.channels.get(index) for index in set(self.channels)]
        held = sum(each.balance + each.exited for each in accounts if each)
        return held + sum(each.total for each in channels if each)


def _is_open(state: RollupState, index: int) -> bool:
    channel = state.channels.get(index)
    return channel is not None and channel.standing == LeafStanding.OPEN


# --- what a crooked operator does ---------------------------------------------------------------------------------


def rebuilt(house: RollupHouse, posted: Posted, at: int, step: Step | bytes, state: RollupState | None) -> Batch | None:
    """Return the batch with another step at a place, and all later roots as if that were right.

    `state` is what the operator claims is after it (None: what the rules say, or the same as before if they refuse).
    Later steps that do not fit any more claim that nothing happened. None if that is no wrong batch.
    """
    batch = posted.batch
    context = StepContext(house.place, batch.time, batch.queue_end)
    now, parts = posted.before, [posted.before.root]
    for index, (_, word, _) in enumerate(batch.steps()):
        mine = step if index == at else decode_step(word)
        try:
            after = run_step(now, mine, context, house.entry)[0] if mine and not isinstance(mine, bytes) else now
        except WrongStep:
            after = now
        now = state if index == at and state is not None else after
        parts += (mine if isinstance(mine, bytes) else encode_step(mine) if mine else word, now.root)
    # The chain takes a batch only if its last root fits what it says of the list: so the operator must claim that.
    last = RollupState(now.accounts, now.channels, batch.queue_end, list_hash(house.queue[: batch.queue_end]))
    parts[-1] = last.root
    made = Batch(batch.time, batch.queue_end, last.accounts.root, last.channels.root, b"".join(parts))
    return made if made.data != batch.data else None


def _before_and_after(house: RollupHouse, posted: Posted, at: int) -> tuple[RollupState, Step, RollupState]:
    batch = posted.batch
    context = StepContext(house.place, batch.time, batch.queue_end)
    now = posted.before
    for index, (_, word, _) in enumerate(batch.steps()):
        step = decode_step(word)
        assert step is not None
        after, _ = run_step(now, step, context, house.entry)
        if index == at:
            return now, step, after
        now = after
    raise IndexError(at)


def wrong_balance(house: RollupHouse, posted: Posted, at: int) -> Batch | None:
    """Give an account more than it has."""
    _, step, after = _before_and_after(house, posted, at)
    user = house.random.randrange(len(house.keys))
    account = after.accounts.get(user) or RollupAccount(house.keys[user].address, 0)
    richer = after.copy()
    richer.put_account(user, replace(account, balance=account.balance + house.random.randint(1, 10**9)))
    return rebuilt(house, posted, at, step, richer)


def wrong_exit(house: RollupHouse, posted: Posted, at: int) -> Batch | None:
    """Let an account take out what it keeps."""
    _, step, after = _before_and_after(house, posted, at)
    user = house.random.randrange(len(house.keys))
    account = after.accounts.get(user)
    if account is None:
        return None
    richer = after.copy()
    richer.put_account(user, replace(account, exited=account.exited + 1 + account.balance))
    return rebuilt(house, posted, at, step, richer)


def wrong_owner(house: RollupHouse, posted: Posted, at: int) -> Batch | None:
    """Give an account to somebody else."""
    _, step, after = _before_and_after(house, posted, at)
    user = house.random.randrange(len(house.keys))
    account = after.accounts.get(user)
    if account is None:
        return None
    stolen = after.copy()
    stolen.put_account(user, replace(account, owner=Address(b"\x66" * 20)))
    return rebuilt(house, posted, at, step, stolen)


def wrong_order(house: RollupHouse, posted: Posted, at: int) -> Batch | None:
    """Carry out a later entry of the list before the next one."""
    before, step, _ = _before_and_after(house, posted, at)
    later = before.head + 1
    if not isinstance(step, NextEntry) or later >= posted.batch.queue_end:
        return None
    context = StepContext(house.place, posted.batch.time, posted.batch.queue_end)
    after, _ = run_step(before, step, context, lambda index: house.entry(later))
    return rebuilt(house, posted, at, step, after)


def wrong_omission(house: RollupHouse, posted: Posted, at: int) -> Batch | None:
    """Count an entry as done that was not carried out."""
    before, step, after = _before_and_after(house, posted, at)
    if not isinstance(step, NextEntry):
        return None
    return rebuilt(house, posted, at, step, RollupState(before.accounts, before.channels, after.head, after.done))


def wrong_claim(house: RollupHouse, posted: Posted, at: int) -> Batch | None:
    """Say that the batch does more of the list than it does."""
    word = list(posted.batch.steps())[at][1]
    if not isinstance(decode_step(word), NextEntry):
        return None
    house.deposit(0, 5)
    more = posted._replace(batch=replace(posted.batch, queue_end=len(house.queue)))
    return rebuilt(house, more, at, word, None)


def wrong_replay(house: RollupHouse, posted: Posted, at: int) -> Batch | None:
    """Do again what was done and signed once."""
    done = [decode_step(word) for _, word, _ in posted.batch.steps()][:at]
    again = [step for step in done if step is not None and not isinstance(step, NextEntry)]
    if not again:
        return None
    before, _, _ = _before_and_after(house, posted, at)
    step = house.random.choice(again)
    claimed = before.copy()
    if isinstance(step, RollupTransfer):  # what it would do if the number did not matter
        payer, payee = (claimed.accounts.get(each) for each in (step.payer, step.payee))
        assert payer is not None and payee is not None
        claimed.put_account(step.payer, replace(payer, balance=max(0, payer.balance - step.amount)))
        claimed.put_account(step.payee, replace(payee, balance=payee.balance + step.amount))
    return rebuilt(house, posted, at, step, claimed)


def wrong_word(house: RollupHouse, posted: Posted, at: int) -> Batch | None:
    """Post what is no step."""
    _, step, _ = _before_and_after(house, posted, at)
    word = encode_step(step)
    bad = house.random.choice((b"\x00" + word[1:], b"\x07" + word[1:], word[:31] + b"\x01", b"\xff" * 32))
    return rebuilt(house, posted, at, bad, None)


def wrong_step(house: RollupHouse, posted: Posted, at: int) -> Batch | None:
    """Do what the rules refuse: too much, too late, in a channel that is not there, to oneself."""
    before, _, _ = _before_and_after(house, posted, at)
    user = house.random.randrange(len(house.keys))
    account = before.accounts.get(user)
    nonce, balance = (account.nonce, account.balance) if account else (0, 0)
    other = (user + 1) % len(house.keys)
    channel = house.random.choice((*house.channels, 12_345))
    context = StepContext(house.place, posted.batch.time, posted.batch.queue_end)
    step = house.random.choice(
        (
            RollupTransfer(user, other, balance + 1, nonce),
            RollupTransfer(user, user, 0, nonce),
            RollupTransfer(user, other, 0, nonce + 1),
            RollupTransfer(user, 2**32 - 1, 0, nonce),
            RollupTransfer(2**31, user, 0, 0),
            RollupOpen(channel, user, other, 0, nonce + 1),
            RollupOpen(channel, user, other, 0, nonce),
            RollupOpen(12_345, user, user, 0, nonce),
            RollupOpen(12_345, user, 99, 0, nonce),
            RollupFund(channel, 2, 0, nonce),
            RollupFund(12_345, 0, 0, nonce),
            RollupClose(channel, 2**88 - 1, FAR),
            RollupClose(channel, 0, posted.batch.time - 1),
            RollupClose(12_345, 0, FAR),
            RollupExit(user, balance + 1, nonce),
            NextEntry(),
        )
    )
    try:
        run_step(before, step, context, house.entry)
    except WrongStep:
        return rebuilt(house, posted, at, step, None)
    return None


CHEATS: dict[str, Callable[[RollupHouse, Posted, int], Batch | None]] = {
    "balance": wrong_balance,
    "exit": wrong_exit,
    "owner": wrong_owner,
    "order": wrong_order,
    "omission": wrong_omission,
    "claim": wrong_claim,
    "replay": wrong_replay,
    "word": wrong_word,
    "step": wrong_step,
}
"""Each kind of wrong batch but one without signatures, which only who must sign can tell."""
