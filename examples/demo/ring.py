"""Act three of the demo: payments through others, who need not be trusted.

         Ann ── Ben ── Cid             Ann pays Dot, with whom she has no channel. Each payment takes three hops: by
          │      │      │              Ben and Cid, or by Ben and Eve, who asks for more. (Ann has nothing in her
          └──── Eve ── Dot             channel with Eve, so that she cannot go that way.)

Ben is killed in mid-payment and comes back; then Cid keeps a payment to himself. Nothing is lost or doubled.
"""

from __future__ import annotations

from typing import Any

import trio
from stage import RING, Stage

from tallystick.sdk.bench.driver import FORGET_SECONDS
from tallystick.sdk.bench.driver_network import LOOK_SECONDS
from tallystick.sdk.bench.launcher import DriverProcess, DriverProcesses, driver

CHANNELS = (("ann", "ben"), ("ben", "cid"), ("cid", "dot"), ("eve", "dot"), ("eve", "ann"), ("ben", "eve"))
"""Who opens a channel to whom, with DEPOSIT of their own: a ring of five, and a chord."""

DEPOSIT = 10_000_000
INVOICES, AMOUNT, TASKS = 200, 10_000, 20
"""What Dot asks Ann for, and how many of the payments are under way at once."""

KEPT_AMOUNT, MAX_FEE = 50_000, 5_000
EVE_FEE_PPM = 30_000
LOCK_SECONDS = 70
"""Chain time for which a payment without an invoice may be kept by somebody: short, so that the show goes on."""


async def act_three(stage: Stage, processes: DriverProcesses, nodes: dict[str, DriverProcess]) -> None:
    """Ann pays Dot through others; Ben is killed on the way, and Cid withholds."""
    stage.act("Three. Meanwhile, Ann pays Dot, with whom she has no channel")
    stage.tell("Ann, Ben, Cid, Dot and Eve sit in a ring, with a chord from Ben to Eve; gossip has told all of all")
    before = await _holdings(nodes)
    paid, fees = INVOICES * AMOUNT * stage.unit, await _pay_while_ben_dies(stage, processes, nodes)
    fee = await _pay_while_cid_withholds(stage, nodes)
    await _check_books(stage, nodes, before, paid + KEPT_AMOUNT * stage.unit, fees + fee)
    async with trio.open_nursery() as nursery:
        for node in nodes.values():
            nursery.start_soon(node.stop)


async def build_ring(stage: Stage, processes: DriverProcesses, nodes: dict[str, DriverProcess]) -> None:
    """Start five nodes and open their channels; return once all of them, which are put into `nodes`, know the way."""
    nodes |= await processes.start_parties({name: stage.role(name, lock_seconds=LOCK_SECONDS) for name in RING})
    channels: list[str] = []

    async def open_channel(opener: str, peer: str) -> None:
        opened = await nodes[opener].ask("open", peer=nodes[peer].first["peer"], deposit=DEPOSIT * stage.unit)
        channels.append(opened["channel"])

    async with trio.open_nursery() as nursery:
        for opener, peer in CHANNELS:
            nursery.start_soon(open_channel, opener, peer)
    await nodes["eve"].ask("charge", fee_ppm=EVE_FEE_PPM)
    for node in nodes.values():
        await node.ask("know", channels=channels)


async def _pay_while_ben_dies(stage: Stage, processes: DriverProcesses, nodes: dict[str, DriverProcess]) -> int:
    """Let Ann pay Dot's invoices and kill Ben meanwhile; return the fees."""
    ann, dot = nodes["ann"], nodes["dot"]
    invoices = (await dot.ask("ask", count=INVOICES, amount=AMOUNT * stage.unit))["invoices"]
    done: dict[str, Any] = {}

    async def pay() -> None:
        done.update(await ann.ask("settle_up", invoices=invoices, tasks=TASKS))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay)
        while (arrived := (await dot.ask("receipts"))["count"]) < INVOICES // 5:  # noqa: ASYNC110  # it is a question
            await trio.sleep(LOOK_SECONDS)
        ben = nodes["ben"]
        await ben.kill()
        stage.tell(f"Ben is killed (SIGKILL) with payments in his hands; {arrived} of {INVOICES} have come to Dot")
        port = int(ben.first["peer"].rpartition(":")[2])
        role = stage.role("ben", port=port, lock_seconds=LOCK_SECONDS)
        nodes["ben"] = await processes.start("ben", driver(role))
        stage.tell("Ben is back: what he had signed, his disk tells him, and he goes on with it")
    came = await dot.ask("receipts")
    whole = done["proven"] == came["count"] == INVOICES and came["total"] == INVOICES * AMOUNT * stage.unit
    stage.check(whole, f"Ann's {INVOICES} payments over three hops arrived, each once; she holds a receipt for each")
    fees: int = done["fees"]
    return fees


async def _pay_while_cid_withholds(stage: Stage, nodes: dict[str, DriverProcess]) -> int:
    """Let Ann pay Dot while Cid keeps what he should forward; return the fee of the way that she finds then."""
    ann, dot = nodes["ann"], nodes["dot"]
    answers: dict[str, Any] = {}
    await trio.sleep(
        FORGET_SECONDS
    )  # else she might go round Ben and Cid, on whose way payments failed while Ben was down

    async def pay() -> None:
        amount, most = KEPT_AMOUNT * stage.unit, MAX_FEE * stage.unit
        most_seconds = 2 * LOCK_SECONDS  # where chain time is that of the world, Cid keeps the lock for all of its own
        to = dot.first["key"]
        answers.update(await ann.ask("keysend", to=to, amount=amount, max_fee=most, timeout=most_seconds))

    async def watch() -> None:
        await nodes["cid"].ask("kept")
        stage.tell("Cid has Ann's next payment, and keeps it: he neither passes it on nor gives it back")

    await nodes["cid"].ask("withhold")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(pay)
    fee: int = answers["fee"]
    eves = KEPT_AMOUNT * stage.unit * EVE_FEE_PPM // 1_000_000
    told = f"its lock expired, Ben and Ann took back what was theirs; she paid by way of Eve, for {stage.amount(fee)}"
    stage.check(fee > eves, told)
    return fee


async def _check_books(
    stage: Stage, nodes: dict[str, DriverProcess], before: dict[str, int], paid: int, fees: int
) -> None:
    """Check that what everybody has changed by what was paid and by fees, and by nothing else."""
    after = await _holdings(nodes)
    change = {name: after[name] - before[name] for name in RING}
    stage.check(
        change["ann"] == -paid - fees,
        f"Ann gave {stage.amount(paid)} and {stage.amount(fees)} in fees, and no unit more",
    )
    stage.check(change["dot"] == paid, f"Dot has {stage.amount(paid)} more")
    earned = {name: change[name] for name in ("ben", "cid", "eve")}
    told = ", ".join(f"{name.capitalize()} {stage.amount(gain)}" for name, gain in earned.items())
    stage.check(sum(earned.values()) == fees and min(earned.values()) > 0, f"the fees are where they belong: {told}")


async def _holdings(nodes: dict[str, DriverProcess]) -> dict[str, int]:
    """Return what each node has in its channels, once nothing is under way in any of them."""
    while True:
        held = {name: await nodes[name].ask("holdings") for name in RING}
        if not any(each["locks"] for each in held.values()):
            return {name: each["own"] for name, each in held.items()}
        await trio.sleep(LOOK_SECONDS)
