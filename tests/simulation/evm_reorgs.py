"""Lives of channels on a real geth, in which every transaction is undone by a reorganisation once it is on the chain.

    PYTHONPATH=tests python -m simulation.evm_reorgs --seed 1

Three stories, which together make every call: `alone` (open, deposit, close, register a secret, settle, redeem),
`cheat` (an old state, which a tower challenges) and `agreed` (withdraw, cooperative close). After each call's
transaction was mined, and blocks on top of it, those are replaced by others, as many as the twist is deep or some more
or fewer; and what becomes of the transaction there is the twist's kind:

lost     it is in none of them, and geth has forgotten it
held     it is in none of them, and waits again
moved    it is in another block, at another time
rival    somebody else makes the same call before

Nobody honest may lose a unit, or do in vain what a rival has not done before: what everybody holds, paid and did in the
end, geth itself says. The whole matrix is every story, 1 to 8 blocks deep, of each kind.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import trio

from simulation import seeds
from simulation.geth_world import COINS, CONFIRMATIONS, NAMES, PERIOD, GethWorld, calls, key_of, open_geth_world
from simulation.seeds import replayed
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import Address
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node
from tallystick.settlement.chain import GONE, ContractChannel
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.transactions import sign_envelope
from tallystick.settlement.testing.beacon import WaitingTransaction
from tallystick.settlement.testing.geth import CHAIN_ID

KINDS = ("lost", "held", "moved", "rival")
DEPTH_MAX = 8
COIN = 10**18
LOCK_SECONDS = 86_400
RIVAL = "carol"
AGAIN_WITHIN = 12
"""Blocks until what was undone is on the chain again: that it was done is taken back after some heads only."""
UNDONE = ("open", "deposit", "withdraw", "close", "cooperativeClose", "challenge", "settle", "redeem", "registerSecret")
IN_ONE_WORLD = 12
"""Stories."""


class Twist(NamedTuple):
    """What a reorganisation does to each transaction of a story."""

    kind: str
    depth: int
    """How many blocks are replaced."""
    seed: int = 1

    def __str__(self) -> str:
        return f"{self.kind} at {self.depth}"


class Story:
    """A channel's life under one twist. `names` are those of its people: alice, bob and tower, with a number."""

    def __init__(self, world: GethWorld, twist: Twist, number: int) -> None:
        self.world = world
        self.twist = twist
        self.number = number
        self.rng = random.Random(f"{twist.seed}/{twist.kind}/{twist.depth}/{number}")
        self.alice, self.bob, self.tower = names(number)
        self.twisted: list[str] = []
        """Calls that were undone."""

    # --- the stories ---------------------------------------------------------------------------------------------

    async def alone(self) -> None:
        """Bob's peer is gone with a lock of his: he closes, shows the secret to the chain, and takes what is his."""
        world, secret = self.world, self.rng.randbytes(32)
        alice, bob = await world.start(self.alice), await world.start(self.bob)
        mine = await self._open(alice, bob, 10 * COIN)
        theirs = bob.channel(mine.id)
        await self._during(lambda: theirs.deposit(4 * COIN), self.bob, "deposit")
        await self._pay(mine, COIN)
        number = await mine.lock(COIN // 2, world.beacon.head.time + LOCK_SECONDS, digest_of(secret))
        await bob.until(lambda: theirs.view.channel.theirs.simplex.lock(number) is not None)
        await world.stop(self.alice)
        theirs.reveal(number, secret)
        await theirs.force_close()
        await self._undo(self.bob, "close")
        await self._undo(self.bob, "registerSecret")
        await world.mine(seconds=PERIOD)
        await self._undo(self.bob, "settle")
        await self._undo(self.bob, "redeem")
        alice = await world.start(self.alice)
        await self._end([alice.channel(mine.id), theirs])
        did = {self.alice: ["open"], self.bob: ["deposit", "close", "registerSecret", "settle", "redeem"]}
        await self._check(did, {self.alice: -3 * COIN // 2, self.bob: 3 * COIN // 2})

    async def cheat(self) -> None:
        """Bob closes with an old copy while Alice sleeps; her tower challenges, and he is convicted."""
        world = self.world
        tower = await world.start_tower(self.tower)
        alice, bob = await world.start(self.alice, tower), await world.start(self.bob)
        mine = await self._open(alice, bob, 10 * COIN)
        await self._pay(mine, 5 * COIN)
        await world.stop(self.bob)
        world.copy(self.bob, f"{self.bob} of then")  # when half of it was his
        bob = await world.start(self.bob)
        await alice.connect(str(bob.peer_address))
        theirs = bob.channel(mine.id)
        await self._meanwhile(theirs.wait_usable)
        for _ in range(4):  # what was said to each payment before, the next one proves
            await self._pay(theirs, COIN)
        await alice.tower_manager.wait_covered()
        await world.stop(self.bob)
        await world.stop(self.alice)
        mallory = await world.start(self.bob, data=f"{self.bob} of then")
        await mallory.channel(mine.id).force_close()
        await self._undo(self.bob, "close")
        await self._undo(self.tower, "challenge")
        await world.stop(self.bob)
        alice = await world.start(self.alice, tower)
        await world.mine(seconds=PERIOD)
        await self._undo(self.alice, "settle")
        await self._end([alice.channel(mine.id)])
        did = {self.alice: ["open", "settle"], self.bob: ["close"], self.tower: ["challenge"]}
        # Bob had one coin left, which he forfeits: a tenth of it is the tower's
        await self._check(did, {self.alice: -COIN // 10, self.bob: 0, self.tower: COIN // 10})

    async def agreed(self) -> None:
        """Alice takes something out with Bob's consent, and they close together."""
        world = self.world
        alice, bob = await world.start(self.alice), await world.start(self.bob)
        mine = await self._open(alice, bob, 10 * COIN)
        await self._pay(mine, 2 * COIN)
        await self._during(lambda: mine.withdraw(3 * COIN), self.alice, "withdraw")
        await self._during(mine.close, self.alice, "cooperativeClose")
        await self._end([mine, bob.channel(mine.id)])
        did = {self.alice: ["open", "withdraw", "cooperativeClose"], self.bob: []}
        await self._check(did, {self.alice: -2 * COIN, self.bob: 2 * COIN})

    # --- their parts ---------------------------------------------------------------------------------------------

    async def _open(self, alice: Node, bob: Node, deposit: int) -> ChannelHandle:
        found: list[ChannelHandle] = []

        async def act() -> None:
            found.append(await alice.open_channel(str(bob.peer_address), deposit=deposit))

        await self._during(act, self.alice, "open")
        await self.world.mine_until(lambda: bool(bob.channels) and bob.channels[0].phase is Phase.OPEN)
        for handle in (found[0], bob.channels[0]):
            await self._meanwhile(handle.wait_usable)
        return found[0]

    async def _pay(self, channel: ChannelHandle, amount: int) -> None:
        with trio.fail_after(30):
            await channel.pay(amount)

    async def _during(self, act: Callable[[], Awaitable[object]], name: str, call: str) -> None:
        """Do something that waits for the chain, and undo its transaction; return once it is done, and stays."""
        await self._meanwhile(act, name, call)
        await self._bury()

    async def _meanwhile(self, act: Callable[[], Awaitable[object]], name: str = "", call: str = "") -> None:
        """Do something while blocks are mined; undo what somebody sends for it, if that is given."""
        done = trio.Event()

        async def run() -> None:
            await act()
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            if call:
                await self._undo(name, call)
            await self.world.mine_until(done.is_set)

    async def _undo(self, name: str, call: str) -> None:
        """Let a transaction be mined, and as many blocks as are undone then; return once it is on the chain again."""
        world, rng, twist = self.world, self.rng, self.twist
        if call in self.twisted:
            return  # together with one that was sent after it
        ours = await world.sent(name, call)
        raws = [each.raw for each in ours]
        undone = [NAMES[each.data[:4]] for each in ours]
        await world.mine(raws, seconds=rng.choice((1, 12, 24)))
        for _ in range(twist.depth - 1):
            await world.mine(())
        self.twisted += undone
        branch: list[list[str]] = [[] for _ in range(max(1, twist.depth + rng.choice((-1, 0, 1, 1, 2))))]
        if twist.kind == "moved":
            branch[rng.randrange(len(branch))] += raws
        elif twist.kind == "rival":
            branch[0] += [await self._rival(each) for each in ours]
        world.held -= set(undone)
        await world.reorganise(twist.depth, branch, seconds=rng.choice((1, 12, 24)))
        if twist.kind == "lost":
            await world.beacon.forget()
        for _ in range(AGAIN_WITHIN):
            await world.mine()
            if await world.nonce(name) > ours[-1].nonce:
                return
        raise AssertionError(f"{name}'s {call} is not on the chain again; waiting: {await world.waiting()}")

    async def _rival(self, sent: WaitingTransaction) -> str:
        """Return the same call by somebody else; without coins to take along, that may do what it is to."""
        data = sent.data if not sent.value else b""
        envelope = Envelope(Address(sent.to), 0, data) if data else Envelope(key_of("nobody").address, 1, b"")
        raw = sign_envelope(key_of(RIVAL), CHAIN_ID, envelope, self.world.rivals, 10**10, 10**9, 1_000_000)
        self.world.rivals += 1
        return f"0x{raw.hex()}"

    async def _bury(self) -> None:
        """Let what is on the chain be confirmed."""
        for _ in range(CONFIRMATIONS):
            await self.world.mine()

    # --- how they end --------------------------------------------------------------------------------------------

    async def _end(self, handles: list[ChannelHandle]) -> None:
        """Mine until the channel is gone for all who live, and some blocks more."""
        await self.world.mine_until(lambda: all(handle.phase is Phase.GONE for handle in handles))
        for _ in range(2 * CONFIRMATIONS):
            await self.world.mine()
        assert await self.world.waiting() == [], f"{await self.world.waiting()} wait"
        view = await self.world.chain.channel(handles[0].id)
        assert isinstance(view, ContractChannel) and view.status == GONE, view
        for name in (self.alice, self.bob, self.tower):
            await self.world.stop(name)

    async def _check(self, did: dict[str, list[str]], brought: dict[str, int]) -> None:
        """Compare what geth says with what these people should have done, and gained by it."""
        mined = await self.world.mined(did)
        for name, wanted in did.items():
            made, once = calls(mined[name]), set(wanted)
            failed = [each for each in mined[name] if not each.success]
            gain = await self.world.balance(name) + sum(each.fee for each in mined[name]) - COINS
            assert gain == brought[name], f"{name} gained {gain}, not {brought[name]}: {mined[name]}"
            if self.twist.kind == "rival":
                assert not set(made) - once, f"{name} did {made}"
                assert len(mined[name]) <= len(wanted), f"{name}: {mined[name]}"
            else:
                assert made == dict.fromkeys(wanted, 1), f"{name} did {made}, not {wanted}"
                assert not failed, f"{name} failed: {mined[name]}"


STORIES: dict[str, Callable[[Story], Awaitable[None]]] = {
    "alone": Story.alone,
    "cheat": Story.cheat,
    "agreed": Story.agreed,
}


def names(number: int) -> tuple[str, str, str]:
    """Return who lives in a story of that number."""
    return f"alice {number}", f"bob {number}", f"tower {number}"


async def play(folder: Path, plan: list[tuple[str, Twist]], told: Callable[[str], None] = print) -> None:
    """Play stories under twists in one world, one after the other. Raise Failed for what goes wrong."""
    people = [name for number in range(len(plan)) for name in names(number)]
    async with open_geth_world(folder, [*people, RIVAL]) as world:
        for number, (name, twist) in enumerate(plan):
            story, first = Story(world, twist, number), world.beacon.head.number

            def seen(story: Story = story) -> str:
                alarms = [f"{who}: {alarm.text}" for who, alarm in world.alarms if who in names(story.number)]
                return "\n".join((f"undone: {story.twisted}", *alarms))

            with replayed("evm_reorgs", f"--seed {twist.seed} --only {name}/{twist.kind}/{twist.depth}", seen):
                world.held = set(UNDONE)
                await STORIES[name](story)
            told(f"{name}, {twist}: {world.beacon.head.number - first} blocks, {len(story.twisted)} calls undone")


def matrix(seed: int, only: str = "") -> list[tuple[str, Twist]]:
    """Return every story under every twist, or under the one of that name."""
    twists = [Twist(kind, depth, seed) for depth in range(1, DEPTH_MAX + 1) for kind in KINDS]
    plan = [(name, twist) for twist in twists for name in STORIES]
    return [(name, twist) for name, twist in plan if only in ("", f"{name}/{twist.kind}/{twist.depth}")]


def main() -> int:
    """Play the whole matrix, so many stories in each world; return how many worlds failed."""
    parser = seeds.options(main.__doc__ or "")
    parser.add_argument("--only", default="", help="one of the matrix: alone/lost/8")
    chosen = parser.parse_args()

    def run(seed: int) -> str:
        plan = matrix(seed, chosen.only)
        for at in range(0, len(plan), IN_ONE_WORLD):
            with tempfile.TemporaryDirectory() as folder:
                trio.run(play, Path(folder), plan[at : at + IN_ONE_WORLD])
        return f"seed {seed}: {len(plan)} stories"

    return seeds.run_seeds(chosen, run)


if __name__ == "__main__":
    sys.exit(main())
