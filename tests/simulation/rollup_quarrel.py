"""Two sides of a channel in a rollup, on a ledger and on an EVM, of which one may cheat as it likes."""

from __future__ import annotations

from typing import NamedTuple

from simulation.rollup_house import RollupHouse
from simulation.rollup_twins import BOND, OPERATOR, ORDER_TIME, WATCHER, WINDOW, Answer, Proofs, Twins, withdrawal
from tallystick.channels.protocol.objects import NATIVE, Address, BalanceProof, SignedProof
from tallystick.settlement.rollup.disputes import ChannelParties
from tallystick.settlement.rollup.execution import make_batch
from tallystick.settlement.rollup.leaving import show_channel
from tallystick.settlement.rollup.rules import Statement
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.steps import EntryKind, NextEntry, QueueEntry, RollupFund, RollupOpen, Step

INDEX = 7


class Numbers(NamedTuple):
    """What a balance proof says."""

    sender: int
    seq: int
    transferred: int
    seen: int = 0


class Quarrel:
    """A channel between users 0 and 1, in a final batch."""

    def __init__(self, seed: int, deposits: tuple[int, int], token: bytes | None = None) -> None:
        self.house = RollupHouse(seed)
        self.twins = twins = Twins(self.house)
        assert twins.do(OPERATOR, "bond", value=BOND) is None
        self.asset = NATIVE if token is None else twins.add_token(token)
        self.sides = (self.house.keys[0].address, self.house.keys[1].address)
        self.parties = ChannelParties(INDEX, *self.sides, self.asset)
        self.deposits = deposits
        for side, amount in enumerate(deposits):
            self.deposit(side, max(1, amount))
        opened: list[Step] = [RollupOpen(INDEX, 0, 1, deposits[0], 0), RollupFund(INDEX, 1, deposits[1], 0)]
        self.post(NextEntry(), NextEntry(), *opened)
        twins.set_time(self.house.time + WINDOW + 1)

    def deposit(self, side: int, amount: int) -> None:
        """Let one side deposit."""
        owner = self.sides[side]
        entry = QueueEntry(EntryKind.DEPOSIT, side, owner, amount0=amount, asset=self.asset)
        if self.asset == NATIVE:
            assert self.twins.order(owner, "deposit", entry, owner, value=amount) is None
        else:
            assert self.twins.order(owner, "depositToken", entry, owner, self.asset, amount) is None

    def post(self, *steps: Step) -> None:
        """Post a batch of these steps."""
        house = self.house
        done = house.state.head + sum(isinstance(step, NextEntry) for step in steps)
        batch, house.state = make_batch(house.state, steps, house.place, house.time, done, house.entry)
        assert self.twins.post(batch) is None

    @property
    def state(self) -> RollupState:
        """After all batches."""
        return self.house.state

    def signed(self, *wanted: Numbers | None, signers: tuple[int, int] | None = None) -> Proofs:
        """Return balance proofs that both sides have signed."""
        made: Proofs = {}
        for where, place in self.twins.places.items():
            proofs: list[tuple[SignedProof, tuple[Statement, Statement]] | None] = []
            for each in wanted:
                if each is None:
                    proofs.append(None)
                    continue
                sender, seq, transferred, seen = each
                proof = BalanceProof(self.parties.name(place), sender, seq, transferred, seen=seen)
                statements = self.parties.statements(place, proof)
                if signers is not None:
                    by = [Statement(self.sides[signers[at]], statements[at].digest) for at in range(2)]
                    statements = (by[0], by[1])
                signatures = [self.house.sign(statement) for statement in statements]
                proofs.append((SignedProof(proof, *signatures), statements))
            made[where] = tuple(proofs)
        return made

    def close(self, side: int, first: Numbers | None, second: Numbers | None) -> Answer:
        """One side closes alone."""
        shown = show_channel(self.state, INDEX)
        return self.close_by(self.sides[side], shown, self.signed(first, second))

    def close_by(self, who: Address, shown: list[int], proofs: Proofs, number: int = 0) -> Answer:
        """Somebody closes by what is shown."""
        return self.twins.do(who, "closeAlone", *self.parties, number, shown, proofs=proofs)

    def challenge(self, numbers: Numbers, by: Address = WATCHER) -> Answer:
        """Anybody shows a newer proof."""
        proofs = self.signed(numbers)
        return self.twins.do(by, "challengeClose", *self.parties, numbers.sender, proofs=proofs)

    def settle(self) -> Answer:
        """Anybody orders what came of it."""
        return self.twins.do(WATCHER, "settleClose", *self.parties)

    def settled(self, transferred: tuple[int, int], *, is_included: bool = True) -> tuple[int, int]:
        """Let the window pass and the order be carried out, or be left out, so that all stops.

        Return what each side is paid on the chain, but for what its account held before.
        """
        twins, house = self.twins, self.house
        assert self.settle() == "window-open"
        twins.set_time(house.time + WINDOW + 1)
        before = [twins.balance(side, self.asset)[0] for side in self.sides]
        aside = [self.state.accounts.get(side) for side in range(2)]
        held = [account.balance if account else 0 for account in aside]
        assert self.settle() is None and self.settle() == "wrong-status"
        entry = QueueEntry(EntryKind.SETTLE, INDEX, *self.sides, *transferred, self.asset)
        house.order(entry)
        if is_included:
            for at, owner in enumerate(self.sides):
                left = QueueEntry(EntryKind.EXIT, at, owner, asset=self.asset)
                assert twins.order(owner, "forceExit", left, self.asset) is None
            self.post(NextEntry(), NextEntry(), NextEntry())
            number = twins.number("count") - 1
            twins.set_time(house.time + WINDOW + 1)
            for side in range(2):
                twins.do(WATCHER, "withdraw", number, withdrawal(self.state, side))
        else:
            twins.set_time(house.time + ORDER_TIME + 1)
            assert twins.do(WATCHER, "freeze") is None
            twins.set_time(house.time + WINDOW + 1)
            call = ("reclaimClose", len(house.queue) - 1, list(entry.words), show_channel(self.state, INDEX))
            assert twins.do(WATCHER, *call) is None and twins.do(WATCHER, *call) == "nothing-owed"
            for side, owner in enumerate(self.sides):
                twins.do(WATCHER, "escape", withdrawal(self.state, side))
                twins.do(owner, "claim", self.asset)
        twins.check_equal()
        paid = [twins.balance(side, self.asset)[0] for side in self.sides]
        gained = [now - then - kept for now, then, kept in zip(paid, before, held, strict=True)]
        return gained[0], gained[1]
