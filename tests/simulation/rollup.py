"""Histories of a rollup under a seed: honest programs that crash, on a chain that takes blocks back. None is convicted.

    PYTHONPATH=tests python -m simulation.rollup --seed 1 --histories 1000

Users deposit, pay, open, fund and close channels, pay within them, close them alone by old proofs and new, leave by
the desk or by the chain's list; strangers demand signatures; blocks are taken back with some of what was in them;
operator and watcher end in the middle of requests and start again, users at their commits; desks refuse, lose answers
and lie. Then all goes well for a while, and it must hold that no batch was convicted and nothing stopped, that no user
signed two statements under one number, that of the batches under one number no two fit one list at one time, that each
step that was promised is in a batch or refused by the rules, and that no coin is lost or made: in the state, and in the
vault after everybody has left.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import time as clock

import trio
from trio.testing import MockClock

from simulation.rollup_desks import HostileDesk
from simulation.rollup_paying import PaidChannel
from simulation.rollup_world import BOND, FEE, OPERATOR, STRANGER, USERS, WATCHER, WINDOW, RollupWorld, open_world
from tallystick.channels.errors import InvalidInput, StoreError, TallystickError
from tallystick.channels.protocol.eip712 import digest_cooperative_close
from tallystick.channels.protocol.objects import CooperativeClose
from tallystick.sdk.rollup.calls import RollupCall
from tallystick.sdk.rollup.promises import Promise
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.sdk.rollup.schema import read_batches
from tallystick.settlement.modules.rollups import BURNT
from tallystick.settlement.rollup.disputes import ChannelParties
from tallystick.settlement.rollup.rules import channel_name
from tallystick.settlement.rollup.state import LeafStanding, RollupState
from tallystick.settlement.rollup.steps import EntryKind, Step

FAR = 2**39


class RollupHistory:
    """One history."""

    def __init__(self, world: RollupWorld) -> None:
        self.world = world
        self.random = world.random
        self.happened: collections.Counter[str] = collections.Counter()
        self.promised: dict[bytes, int] = {}
        self.channels = 0
        self.pairs: dict[int, PaidChannel] = {}
        """What is paid within each channel."""

    async def step(self) -> None:
        """Let something happen."""
        kinds = (
            *("deposit", "transfer", "transfer", "open", "fund", "close", "exit", "order", "demand", "reorganise"),
            *("pay", "alone", "answer"),
        )
        kind = self.random.choice(kinds)
        self._hurt_users()
        try:
            await getattr(self, kind)()
        except StoreError:
            kind = "user ended"
            for at in range(len(USERS)):
                self.world.restart_user(at)
        except TallystickError as error:
            kind = f"refused {kind}"
            if not str(error):
                raise
        self.happened[kind] += 1
        await self.world.go_on(self.random.randrange(4))

    def _hurt_users(self) -> None:
        """Let users' programs end at a commit, and their desks lie, as often as the operator's program ends."""
        for at, desk in self.world.between.items():
            desk.rate = self.world.faults.rate * 2
            desk.says = {"nonce": self.random.randrange(9)} if self.random.random() < desk.rate else {}
            if self.random.random() < desk.rate:
                self.world.stores[at].fail_at(self.random.randrange(2), takes_effect=self.random.random() < 0.5)

    def user(self) -> int:
        """Choose one."""
        return self.random.randrange(len(USERS))

    async def deposit(self) -> None:
        """Somebody deposits."""
        await self.world.user(self.user()).deposit(self.random.randint(1, 10**6))

    async def transfer(self) -> None:
        """Somebody pays."""
        payer, payee = self.random.sample(range(len(USERS)), 2)
        user = self.world.user(payer)
        balance = (await user.account()).balance
        self._keep(await user.transfer(USERS[payee].address, self.random.randint(0, balance)))

    async def open(self) -> None:
        """Somebody opens a channel."""
        opener, other = self.random.sample(range(len(USERS)), 2)
        user, self.channels = self.world.user(opener), self.channels + 1
        balance = (await user.account()).balance
        made = await user.open_channel(self.channels, USERS[other].address, self.random.randint(0, balance))
        self._keep(made)

    async def fund(self) -> None:
        """Somebody pays into a channel."""
        channel = self._channel()
        side = self.random.choice(await self._sides(channel))
        balance = (await self.world.user(side).account()).balance
        self._keep(await self.world.user(side).fund(channel, self.random.randint(0, balance)))

    async def close(self) -> None:
        """Both sides close."""
        channel = self._channel()
        first, second = await self._sides(channel)
        total = (await self.world.desk.ask(f"/channels/{channel}"))["total"]
        balance, until = self.random.randint(0, total), self.random.choice((FAR, self.world.operating.time + 20))
        signed = await self.world.user(second).sign_close(channel, balance, until)
        self._keep(await self.world.user(first).close(channel, balance, until, signed))

    async def pay(self) -> None:
        """One side of a channel pays the other one in it, by a balance proof."""
        channel = self._channel()
        paid = await self._paid(channel)
        core = await read_rollup(self.world.rollup)
        leaf = core.state.channels.get(channel)
        if leaf is None or leaf.standing != LeafStanding.OPEN:
            raise InvalidInput("the channel is not there, or is closed")
        sender = self.random.randrange(2)
        deposits = (leaf.total - leaf.second_paid, leaf.second_paid)
        most = deposits[sender] + paid.given(1 - sender) - paid.given(sender)
        paid.pay(sender, self.random.randint(0, max(0, most)))

    async def alone(self) -> None:
        """One side of a channel closes it alone, by any proofs; time passes until a batch that has it is final."""
        channel, side = self._channel(), self.random.randrange(2)
        paid = await self._paid(channel)
        await self._wait_window()
        await paid.users[side].disputes.close(channel, *paid.some(self.random))

    async def answer(self) -> None:
        """Whoever is honest answers a close by one side, or has it settled."""
        for channel in (await read_rollup(self.world.rollup)).disputes:
            paid = await self._paid(channel)
            await self.world.user(self.user()).disputes.answer(channel, *paid.newest)
            if self.random.random() < 0.5:
                await self._wait_window()

    async def _wait_window(self) -> None:
        """Let a window pass once nothing is due, and so much more that no reorganisation goes back behind it."""
        await self.world.go_on(12)
        self.world.chain.advance(WINDOW + 1)
        await self.world.go_on(10)

    async def _paid(self, channel: int) -> PaidChannel:
        first, second = await self._sides(channel)
        found = self.pairs.get(channel)
        if found is None or found.users[0].address != USERS[first].address:
            parties = ChannelParties(channel, USERS[first].address, USERS[second].address)
            pair = self.world.user(first), self.world.user(second)
            found = self.pairs[channel] = PaidChannel(parties, pair)
        return found

    async def exit(self) -> None:
        """Somebody takes coins out by the desk."""
        user = self.world.user(self.user())
        self._keep(await user.exit(self.random.randint(0, (await user.account()).balance)))

    async def order(self) -> None:
        """Somebody orders something by the chain's list."""
        if self.random.random() < 0.6 or not self.channels:
            await self.world.user(self.user()).force_exit()
            return
        channel = self._channel()
        first, second = await self._sides(channel)
        total = (await self.world.desk.ask(f"/channels/{channel}"))["total"]
        balance = self.random.randint(0, total)
        name = channel_name(self.world.place, USERS[first].address, USERS[second].address, channel)
        close = CooperativeClose(name, balance, total - balance, FAR)
        signed = USERS[second].sign(digest_cooperative_close(self.world.place.domain, close))
        await self.world.user(first).force_close(channel, balance, FAR, signed)

    async def demand(self) -> None:
        """A stranger demands signatures that the operator has."""
        facts = await self.world.rollup.facts()
        if facts.final >= facts.batches:
            return
        number = self.random.randrange(facts.final, facts.batches)
        core = await read_rollup(self.world.rollup)
        position = self.random.randrange(core.standing[number].batch.count)
        await self.world.rollup.act(STRANGER, RollupCall("demand", (number, position), FEE))

    async def reorganise(self) -> None:
        """Blocks are taken back; some of what was in them is lost, the rest waits and is mined again."""
        depth, kept = self.random.randint(1, 8), self.random.choice((1.0, 0.9, 0.5))
        depth = min(depth, self.world.chain.newest.header.number - self.floor)
        if depth > 0:
            self.world.chain.reorganise(depth, keep=lambda _: self.random.random() < kept)

    floor = 0
    """The block of the bond, which is never taken back."""

    # --- what must hold -----------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Let all go well for a while, and raise AssertionError unless all is as it must be."""
        world = self.world
        world.faults.rate = 0.0
        self._hurt_users()
        for at in range(len(USERS)):
            world.restart_user(at)
        await world.start_operator()
        await world.start_watcher()
        await world.go_on(30)
        for _ in range(2):  # first to answer, and then to settle
            for channel in (await read_rollup(world.rollup)).disputes:
                await world.user(0).disputes.answer(channel, *(await self._paid(channel)).newest)
                await self._wait_window()
        facts, core = await world.rollup.facts(), await read_rollup(world.rollup)
        assert not world.told("convict", "stopped everything", "not on this disk", "cannot be right"), world.said
        assert facts.bonded == BOND and not facts.frozen and not core.is_wrong
        assert core.queue_end == len(core.entries), "all that the chain ordered is done"
        self.happened["settled alone"] += sum(entry.kind == EntryKind.SETTLE for entry in core.entries)
        for word, until in self.promised.items():
            what, number = world.operating.where(word)
            assert what in ("posted", "final", "refused", "unknown"), what
            if what == "posted" and number is not None and not self.happened["reorganise"]:
                assert core.standing[number].batch.time <= until
            self.happened[f"promises {what}"] += 1
        deposits = sum(entry.amount0 for entry in core.entries if entry.kind == EntryKind.DEPOSIT)
        assert wealth(core.state, self.channels) == deposits
        self._check_batches(core.count)
        for desk in world.between.values():
            statements = desk.statements()
            self.happened["statements"] += len(statements)
            assert all(len(each) == 1 for each in statements.values()), "two statements under one number"
        await self._leave(deposits)

    def _check_batches(self, count: int) -> None:
        """Of the batches under one number, only one fits what the chain has."""
        store = self.world.disks["operator"].open()
        for number in range(count + 1):
            made = read_batches(store, number)
            lists = [(each.batch.data[:32], each.batch.queue_end, each.batch.root, each.batch.time) for each in made]
            self.happened["batches made"] += len(made)
            self.happened["batches made anew"] += max(0, len(made) - 1)
            assert len(set(lists)) == len(lists)

    async def _leave(self, deposits: int) -> None:
        """Everybody leaves; the vault keeps what is in channels, the bond, and what is owed."""
        world = self.world
        await world.start_operator()
        core = await read_rollup(world.rollup)
        owners = [at for at in range(len(USERS)) if (await world.rollup.account(USERS[at].address))[0] is not None]
        for at in owners:
            await world.user(at).force_exit()
        await world.go_on(20)
        world.chain.advance(WINDOW + 1)
        await world.go_on(2)
        while (facts := await world.rollup.facts()).final < facts.batches:
            await world.rollup.act(STRANGER, RollupCall("finalise"))
        core = await read_rollup(world.rollup)
        for at in owners:
            await world.user(at).withdraw()
        paid = sum(account.exited for account in (core.state.accounts.get(at) for at in range(len(USERS))) if account)
        held = wealth(core.state, self.channels) - paid
        owed = 0
        for address in (*(key.address for key in (*USERS, STRANGER, WATCHER, OPERATOR)), BURNT):
            owed += (await world.rollup.account(address))[2]
        vault = await world.rollup.balance(facts.vault)
        assert paid + held == deposits and vault == held + facts.bonded + owed, (paid, held, vault, facts, owed)
        assert not world.told("convict", "stopped everything")

    def _keep(self, made: tuple[Step, Promise | None]) -> None:
        _, promise = made
        if promise is not None:
            self.promised[promise.step] = promise.until

    def _channel(self) -> int:
        if not self.channels:
            raise InvalidInput("there is no channel yet")
        return self.random.randint(1, self.channels)

    async def _sides(self, channel: int) -> list[int]:
        found = await self.world.desk.ask(f"/channels/{channel}")
        addresses = [f"0x{key.address.hex()}" for key in USERS]
        return [addresses.index(found[side]) for side in ("first", "second")]


def wealth(state: RollupState, channels: int) -> int:
    """Return all coins of a state, also those that were taken out."""
    accounts = [state.accounts.get(at) for at in range(len(USERS))]
    held = sum(each.balance + each.exited for each in accounts if each)
    return held + sum(each.total for index in range(1, channels + 1) if (each := state.channels.get(index)))


async def play(seed: int, steps: int = 25) -> collections.Counter[str]:
    """Play one history; return how often what happened."""
    async with open_world(seed) as world:
        history = RollupHistory(world)
        world.between = {at: HostileDesk(lambda: world.desk, random.Random(seed + at)) for at in range(len(USERS))}
        history.floor = world.chain.newest.header.number
        for user in range(3):
            await world.user(user).deposit(world.random.randint(1, 10**6))
        await world.go_on(2)
        world.faults.rate = world.random.choice((0.0, 0.02, 0.08))
        for _ in range(steps):
            await history.step()
        await history.check()
        return history.happened


def run_history(seed: int, steps: int = 25) -> collections.Counter[str]:
    """Play one history on a clock of its own."""
    return trio.run(play, seed, steps, clock=MockClock(autojump_threshold=0))


def campaign(seed: int, histories: int, steps: int = 25) -> collections.Counter[str]:
    """Play histories; return how often what happened. Raise AssertionError, naming the seed of the history."""
    happened: collections.Counter[str] = collections.Counter()
    for at in range(histories):
        try:
            happened += run_history(seed * 1_000_003 + at, steps)
        except BaseException:
            print(f"history {seed * 1_000_003 + at} of {steps} steps failed", file=sys.stderr)
            raise
    return happened


def main() -> int:
    """Play, and say how often what happened."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--histories", type=int, default=1_000)
    arguments.add_argument("--steps", type=int, default=25)
    options = arguments.parse_args()
    begun = clock.monotonic()
    happened = campaign(options.seed, options.histories, options.steps)
    for what, count in sorted(happened.items()):
        print(f"{what:22} {count:>9,}")
    took = clock.monotonic() - begun
    print(f"seed {options.seed}: {options.histories:,} histories, {took:.0f} s: nobody convicted, no coin lost or made")
    return 0


if __name__ == "__main__":
    sys.exit(main())
