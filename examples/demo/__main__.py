"""`make demo`: the main job, for real, with separate processes over loopback TCP, and checked to the last unit.

Act one: Alice and Bob open a channel and pay each other thousands of times. Bob is killed in mid-stream, restarts and
resumes; no payment is lost or doubled; they close in agreement. Act two: Mallory pays Bob, keeps an old copy of her
data, and closes with it while Bob is down. Bob's tower, which could not read what it held, opens it and challenges:
Mallory forfeits. Act three (`ring`), while her window runs: five nodes pay each other through others; one of
those is killed in mid-payment, and another one keeps a payment to itself. Act four (`stakes`): two play for stakes over
a hub that cannot see it; one walks away, and loses by the chain's clock. Act five (`swap`), while that runs: a swap
between two chains, over a maker who dies in the midst of one. Whatever is off is reported, and makes the program exit
with 1.

`make demo-evm` (`--evm`) plays the same on a real node of Ethereum's, with an act about a token, and has the balances
told by the node itself (`ground`, `real_node`, `reader`). `make demo-bft` (`--bft`) plays it on four validators, of
which one is killed and one cheats (`validators`). Both leave out acts four and five.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import trio
from ground import Ground, RealGround, open_real, open_simulated
from real_node import KINDS, RealNode, start_node
from rich.console import Console
from rich.table import Table
from ring import act_three, build_ring
from stage import GAME, Stage, Wrong
from stakes import begin_game
from swap import SecondChain, act_five, make_traders, open_second
from tokens import act_tokens
from validators import ValidatorsGround, open_validators

from tallystick import TallystickError
from tallystick.channels.ports import system_entropy
from tallystick.channels.protocol.objects import ChannelId
from tallystick.sdk.bench.launcher import DriverProcess, DriverProcesses, driver, open_processes, tally
from tallystick.settlement.chain import Challenged, Closed, CooperativelyClosed, Deposited, Event, Settled
from tallystick.settlement.go_programs import COMETBFT

DEPOSIT = 10_000_000
PAYMENTS = 20_000
"""Payments of act one, half in each direction."""

ALICE_PAYS, BOB_PAYS = 300, 200
TASKS = 500
"""Tasks that pay at the same time, on each side."""

MALLORY_PAYS = 1_000
EARLY, LATE = 100, 2_000
"""Mallory's payments before and after she copies her data."""


class Figures(msgspec.Struct):
    """What the table at the end shows."""

    payments: int
    seconds: float
    p50_ms: float
    p99_ms: float
    transactions: int


async def run_demo(console: Console, folder: Path, options: argparse.Namespace) -> None:
    """Play all acts in `folder`; raise TallystickError if anything is off, or takes too long."""
    if not options.evm:
        await _run(console, folder, None, options.bft)
        return
    async with start_node(console, options.rpc, options.node) as node:
        await _run(console, folder, node)


async def _run(console: Console, folder: Path, node: RealNode | None, bft: bool = False) -> None:
    simulated = node is None and not bft
    stage = Stage(folder, console, GAME if simulated else ())
    if simulated:
        stage.keys |= make_traders(folder)
    longest = node.longest if node is not None else ValidatorsGround.longest if bft else Ground.longest
    rng = random.Random(int.from_bytes(system_entropy(8), "big"))
    try:
        with trio.fail_after(longest):
            async with open_processes() as processes:
                opened: AbstractAsyncContextManager[Ground]
                if node is not None:
                    opened = open_real(node, stage.keys, rng.random)
                else:
                    opened = (open_validators if bft else open_simulated)(folder, processes, stage.keys, rng.random)
                async with AsyncExitStack() as stack:
                    ground = await stack.enter_async_context(opened)
                    second = None
                    if simulated:
                        second = await stack.enter_async_context(open_second(stage, processes, rng.random))
                    await _play(stage, processes, ground, second)
    except trio.TooSlowError as error:
        raise Wrong(f"the demo should be over after {longest:g} seconds and is not") from error


async def _play(stage: Stage, processes: DriverProcesses, ground: Ground, second: SecondChain | None) -> None:
    stage.place, stage.unit = ground.place, ground.unit
    tower = await _start_tower(stage, processes, ground)
    stage.tell(f"{ground.told}, a watchtower beside it")
    stage.before = await ground.balances(stage.accounts())
    figures = await act_one(stage, processes, ground)
    if isinstance(ground, RealGround):
        await act_tokens(stage, processes, ground)
    nodes: dict[str, DriverProcess] = {}
    async with trio.open_nursery() as troubled:
        troubled.start_soon(ground.trouble, stage, processes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(build_ring, stage, processes, nodes)
            theft = await act_two(stage, processes, ground, tower)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theft.judge)  # what both acts wait for most is the chain's time
            await act_three(stage, processes, nodes)
    if second is not None:
        game = await begin_game(stage, processes, ground.chain)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(game.judge)
            await act_five(stage, processes, ground, second)
    else:
        stage.tell("the game over a hub and the swap between two chains are left out here: `make demo` has them")
    after = await ground.balances(stage.accounts())
    stage.check(sum(after.values()) == sum(stage.before.values()), "coins are conserved, to the last unit")
    await ground.finish(stage)
    _table(stage, figures, after)


async def _start_tower(stage: Stage, processes: DriverProcesses, ground: Ground) -> str:
    """Start a tower; return the address at which clients reach it."""
    key_file = stage.folder / "tower.key"
    key_file.touch(mode=0o600)
    key_file.write_text(stage.keys["tower"].reveal().hex())
    command = tally("tower", "run", "--data", str(stage.folder / "tower"), "--key-file", str(key_file))
    tower = await processes.start("tower", [*command, *ground.tower(), "--listen", "127.0.0.1:0", "--json"])
    address: str = tower.first["status"]["peer_address"]
    return address


# --- act one --------------------------------------------------------------------------------------------------------


async def act_one(stage: Stage, processes: DriverProcesses, ground: Ground) -> Figures:
    """Alice and Bob: open, pay, crash, resume, close."""
    stage.act("One. Alice and Bob pay each other, and Bob crashes")
    half = PAYMENTS // 2
    chain, unit = ground.chain, stage.unit
    start = (await chain.head()).number
    pair = await processes.start_parties({"alice": stage.role("alice"), "bob": stage.role("bob")})
    alice, bob = pair["alice"], pair["bob"]
    opened = await alice.ask("open", peer=bob.first["peer"], deposit=DEPOSIT * unit)
    await bob.ask("deposit", amount=DEPOSIT * unit)
    stage.tell(f"Alice and Bob opened channel {opened['channel'][:8]}… with {DEPOSIT:,} from each")
    stage.tell(f"{PAYMENTS:,} payments begin to flow, half of them each way, each signed by both and on both disks")
    answers: dict[str, dict[str, Any]] = {}
    began = time.perf_counter()

    async def stream(actor: DriverProcess, name: str, amount: int) -> None:
        answers[name] = await actor.ask("pay", count=half, tasks=TASKS, amount=amount * unit, prefix=name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream, alice, "alice", ALICE_PAYS)
        bob = await _kill_and_restart(stage, processes, alice, bob)
        await stream(bob, "bob", BOB_PAYS)
    seconds = time.perf_counter() - began
    await _audit(stage, alice, bob, half)
    await alice.ask("close")
    stage.tell("they closed in agreement; both are paid out")
    await bob.ask("wait_gone")
    await alice.stop()
    await bob.stop()
    blocks = await chain.blocks(start, 1_000)
    await _check_payout(stage, ground)
    return Figures(
        payments=PAYMENTS,
        seconds=seconds,
        p50_ms=answers["bob"]["p50_ms"],
        p99_ms=answers["bob"]["p99_ms"],
        transactions=sum(isinstance(e, Deposited | CooperativelyClosed) for block in blocks for e in block.events),
    )


async def _kill_and_restart(
    stage: Stage, processes: DriverProcesses, alice: DriverProcess, bob: DriverProcess
) -> DriverProcess:
    """Let Bob pay too, kill him in mid-stream, and bring him back on the same data and port."""
    async with trio.open_nursery() as nursery:

        async def doomed() -> None:
            try:
                await bob.ask("pay", count=PAYMENTS // 2, tasks=TASKS, amount=BOB_PAYS * stage.unit, prefix="bob")
            except TallystickError:
                return  # he was killed

        nursery.start_soon(doomed)
        state = await alice.ask("state")
        while min(state["sent"], state["received"]) < PAYMENTS // 10:
            await trio.sleep(0.01)
            state = await alice.ask("state")
        await bob.kill()
    stage.tell(f"Bob is killed (SIGKILL) after {state['sent']:,} payments to him and {state['received']:,} from him")
    port = int(bob.first["peer"].rpartition(":")[2])
    reborn = await processes.start("bob", driver(stage.role("bob", port=port)))
    stage.tell("Bob is back, from what his disk held; he asks for his payments again, each under its old name")
    return reborn


async def _audit(stage: Stage, alice: DriverProcess, bob: DriverProcess, half: int) -> None:
    for payee, name in ((bob, "Alice's"), (alice, "Bob's")):
        found = await payee.ask("audit")
        amount = ALICE_PAYS if payee is bob else BOB_PAYS
        whole = found["received"] == found["distinct"] == half and found["total"] == half * amount * stage.unit
        stage.check(whole, f"{name} {half:,} payments arrived, each exactly once")
    due = (DEPOSIT + half * (BOB_PAYS - ALICE_PAYS)) * stage.unit
    mine, his = await alice.ask("state"), await bob.ask("state")
    told = f"both count {stage.amount(due)} for Alice and {stage.amount(mine['peer'])} for Bob"
    stage.check(mine["own"] == his["peer"] == due, told)


async def _check_payout(stage: Stage, ground: Ground) -> None:
    after = await ground.balances(stage.accounts())
    fees = after["fees"] - stage.before["fees"]
    gained = after["bob"] + after["alice"] - stage.before["bob"] - stage.before["alice"]
    stage.check(gained == -fees, "what Alice and Bob hold together changed by the fees of their transactions only")


# --- act two --------------------------------------------------------------------------------------------------------


async def act_two(stage: Stage, processes: DriverProcesses, ground: Ground, tower: str) -> Theft:
    """Let Mallory pay Bob, and close with an old copy of her data while he is down; return what is to be judged."""
    stage.act("Two. Mallory pays Bob, and cheats him while he is away")
    data, old = stage.folder / "mallory", stage.folder / "mallory-old"
    roles = {"bob": stage.role("bob", towers=[tower]), "mallory": stage.role("mallory")}
    pair = await processes.start_parties(roles)
    bob, mallory = pair["bob"], pair["mallory"]
    opened = await mallory.ask("open", peer=bob.first["peer"], deposit=DEPOSIT * stage.unit)
    amount = MALLORY_PAYS * stage.unit
    await mallory.ask("pay", count=EARLY, amount=amount, prefix="early")
    await mallory.stop()
    shutil.copytree(data, old)
    stage.tell(f"Mallory paid Bob {EARLY * MALLORY_PAYS:,} and keeps a copy of her data")
    mallory = await processes.start("mallory", driver(stage.role("mallory")))
    await mallory.ask("pay", count=LATE, amount=amount, prefix="late")
    await mallory.stop()
    await bob.ask("covered")
    stage.tell(f"she paid {LATE * MALLORY_PAYS:,} more; Bob's tower holds a sealed appointment it cannot read")
    await bob.kill()
    stage.tell("Bob's machine loses power; Mallory sees her chance and closes with the old copy")
    before = (await ground.balances(stage.accounts()))["bob"]
    shutil.rmtree(data)
    shutil.copytree(old, data)
    start = (await ground.chain.head()).number
    mallory = await processes.start("mallory", driver(stage.role("mallory")))
    await mallory.ask("force_close", channel=opened["channel"])
    return Theft(stage, ground, mallory, ChannelId(bytes.fromhex(opened["channel"])), start, before)


class Theft:
    """Mallory's close, and what the chain makes of it."""

    def __init__(
        self, stage: Stage, ground: Ground, mallory: DriverProcess, channel: ChannelId, start: int, bob_before: int
    ) -> None:
        self.stage = stage
        self.ground = ground
        self.chain = ground.chain
        self.mallory = mallory
        self.channel = channel
        self.start = start
        self.bob_before = bob_before

    async def judge(self) -> None:
        """Tell what the chain says of the channel until it is settled, and check who gets what."""
        stage = self.stage
        settled = await self._settlement()
        stage.check(settled.convicted, "the contract convicts Mallory: she closed with what she had long replaced")
        side = 0 if stage.keys["mallory"].address < stage.keys["bob"].address else 1
        nets = (settled.net0, settled.net1)
        stage.check(nets[side] == 0, "Mallory gets nothing")
        gained = (await self.ground.balances(stage.accounts()))["bob"] - self.bob_before
        stage.check(
            gained == nets[1 - side] == DEPOSIT * stage.unit - settled.reward,
            f"Bob, still asleep, gets {stage.amount(gained)}: the whole deposit less the tower's reward of "
            f"{stage.amount(settled.reward)}",
        )
        await self.mallory.ask("wait_gone", channel=self.channel.hex())
        await self.mallory.stop()

    async def _settlement(self) -> Settled:
        number = self.start
        while True:
            head = await self.chain.head()
            for block in await self.chain.blocks(number, 100):
                number = block.header.number + 1
                for event in block.events:
                    if getattr(event, "channel", None) != self.channel:
                        continue
                    if settled := self._tell(event, block.header.number):
                        return settled
            await self.chain.wait(head.hash)

    def _tell(self, event: Event, number: int) -> Settled | None:
        """Tell of one event; return it if it is the last one."""
        if isinstance(event, Closed):
            self.stage.tell(f"block {number}: Mallory's close is on chain; its key opens the appointment")
        elif isinstance(event, Challenged):
            self.stage.tell(f"block {number}: the tower challenges with proof number {event.seq}; the window runs on")
        elif isinstance(event, Settled):
            self.stage.tell(f"block {number}: Mallory's window is over, the channel is settled")
            return event
        return None


# --- the end --------------------------------------------------------------------------------------------------------


def _table(stage: Stage, figures: Figures, after: dict[str, int]) -> None:
    table = Table(title="Balances on chain")
    table.add_column("account")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    digits = max(0, len(str(stage.unit)) - 3)  # two places are enough to look at
    for name, held in after.items():
        amounts = (stage.before[name], held, held - stage.before[name])
        before, now, change = (stage.amount(round(coins, -digits)) for coins in amounts)
        table.add_row(name, before, now, change if change.startswith("-") else f"+{change}")
    stage.console.print(table)
    rate = figures.payments / figures.seconds
    per = figures.payments / max(1, figures.transactions)
    stage.console.print(
        f"{figures.payments:,} payments in {figures.seconds:.2f} s, Bob's crash and restart included: {rate:,.0f}/s; "
        f"latency p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms; "
        f"{figures.transactions} transactions on chain: {per:,.0f} payments for each",
        highlight=False,
    )


def main() -> int:
    """Play the demo in a temporary directory; return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--evm", action="store_true", help="on a real node of Ethereum's")
    arguments.add_argument("--bft", action="store_true", help="on four validators, of which two fail")
    arguments.add_argument("--rpc", help="with --evm: URL of a development node that runs already")
    arguments.add_argument("--node", choices=KINDS, help="with --evm: start this one; default: the first that is here")
    options = arguments.parse_args()
    if (options.rpc or options.node) and not options.evm:
        arguments.error("--rpc and --node go with --evm")
    if options.bft and options.evm:
        arguments.error("choose --evm or --bft")
    console = Console(soft_wrap=True)
    if options.bft and COMETBFT.find() is None:
        console.print(f"skipped: {COMETBFT.missing}", highlight=False)
        return 0
    wrong = False
    try:
        with tempfile.TemporaryDirectory(prefix="tally-demo-") as folder:
            trio.run(run_demo, console, Path(folder), options)
    except* TallystickError as group:
        wrong = True
        for error in leaves(group):
            console.print(f"[red]{error}[/]")
    if not wrong:
        console.print("[green]Everything is as it should be.[/]")
    return int(wrong)


def leaves(group: BaseExceptionGroup[TallystickError]) -> list[TallystickError]:
    """Return the errors in a group of groups."""
    found: list[TallystickError] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    raise SystemExit(main())
