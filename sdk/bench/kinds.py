"""Ways to pay, by the name of their class of payment: what `driver` does when it is told to `bench`.

Each takes a `Job` and returns the latency of every payment that it made, once all of them have ended.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
import trio

from tallystick.channels.limits import LOCKS_MAX, STREAM_LENGTH_MAX
from tallystick.channels.ports import system_clock
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.session.effects import LockEnded, LockReceived
from tallystick.channels.session.tickets import Ticket
from tallystick.sdk.bench.latencies import Latencies
from tallystick.sdk.errors import MeasurementVoid
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.streams import OutgoingStream

BULK = 60_000
"""Payments handed over at a time, in the class `bulk`."""

BULK_TASKS = 16
"""Tasks that hand them over: enough to fill the path of a round trip of 100 ms. The outbox holds them back."""

TICK = 0.001
"""Seconds between two bursts of payments that are offered at a rate."""

LOCK_LIFETIME = 86_400
"""Seconds of chain time after which a measured lock or stream would expire."""

STREAM_CHUNK = 100
"""Payments of a stream that share one measured latency."""


class Job(msgspec.Struct, frozen=True):
    """What to pay through, and for how long."""

    node: Node
    channel: ChannelHandle
    deadline: float
    """The moment (`time.perf_counter`) until which new payments are begun."""
    tasks: int
    """How many tasks may pay at the same time."""
    rate: float = 0.0
    """Payments offered per second, by `offered`."""


async def _awaited(job: Job) -> Latencies:
    """Each of many tasks waits for its receipt before it pays again."""
    latencies = Latencies()

    async def worker() -> None:
        while time.perf_counter() < job.deadline:
            began = time.perf_counter()
            await job.channel.pay(1)
            latencies.one(time.perf_counter() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(job.tasks):
            nursery.start_soon(worker)
    return latencies


async def _alone(job: Job) -> Latencies:
    """One payment at a time: nothing else is in flight."""
    return await _awaited(msgspec.structs.replace(job, tasks=1))


async def _bulk(job: Job) -> Latencies:
    """A few tasks hand over runs of payments; each payment counts, with its run's latency."""
    latencies = Latencies()
    amounts = (1,) * BULK

    async def worker() -> None:
        while time.perf_counter() < job.deadline:
            for receipt in await job.channel.pay_many(amounts):
                latencies.run(receipt.secured - receipt.accepted, receipt.count)

    async with trio.open_nursery() as nursery:
        for _ in range(BULK_TASKS):
            nursery.start_soon(worker)
    return latencies


async def _submitted(job: Job) -> Latencies:
    """One task submits without waiting for receipts, held back only by the outbox; latencies come from the receipts."""
    latencies, tickets = Latencies(), deque[Ticket]()
    while time.perf_counter() < job.deadline:
        for _ in range(100):
            tickets.append(await job.channel.submit(1))
        while tickets and tickets[0].is_done:
            await take_receipt(tickets.popleft(), latencies)
    for ticket in tickets:
        await take_receipt(ticket, latencies)
    return latencies


async def take_receipt(ticket: Ticket, latencies: Latencies) -> None:
    """Wait for a ticket's receipt, and note how long it took."""
    receipt = await ticket.wait()
    latencies.one(receipt.secured - receipt.accepted)


async def offered(job: Job) -> Latencies:
    """Submit at a rate, whatever becomes of it; each latency counts from the moment at which its payment was due.

    So a payment that could not even be submitted in time is late, as whoever makes it would find.
    """
    latencies, tickets = Latencies(), deque[tuple[float, Ticket]]()
    burst = max(1, round(job.rate * TICK))
    interval, due = burst / job.rate, time.perf_counter()
    behind = system_clock() - due
    while due < job.deadline:
        await trio.sleep(max(0.0, due - time.perf_counter()))
        for _ in range(burst):
            tickets.append((due + behind, await job.channel.submit(1)))
        due += interval
        while tickets and tickets[0][1].is_done:
            at, ticket = tickets.popleft()
            latencies.one((await ticket.wait()).secured - at)
    for at, ticket in tickets:
        latencies.one((await ticket.wait()).secured - at)
    return latencies


async def _stream(job: Job) -> Latencies:
    """One task gives link after link, a unit each; the next stream is opened while the last one is in use."""
    channel, latencies = job.channel, Latencies()
    ready, streams = trio.open_memory_channel[OutgoingStream](0)

    async def prepare() -> None:
        async with ready:
            while time.perf_counter() < job.deadline:
                expiry = job.node.engine.chain.now + LOCK_LIFETIME
                await ready.send(await channel.open_stream(1, STREAM_LENGTH_MAX, expiry=expiry))

    async def finish(stream: OutgoingStream, chunks: trio.MemoryReceiveChannel[tuple[int, float]]) -> None:
        async for depth, began in chunks:
            await stream.wait(depth)
            latencies.run(time.perf_counter() - began, STREAM_CHUNK)
        await stream.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(prepare)
        async for stream in streams:
            given, chunks = trio.open_memory_channel[tuple[int, float]](STREAM_LENGTH_MAX)
            nursery.start_soon(finish, stream, chunks)
            with given:
                while stream.left >= STREAM_CHUNK and time.perf_counter() < job.deadline:
                    await stream.room(STREAM_CHUNK)
                    began, depth = time.perf_counter(), 0
                    for _ in range(STREAM_CHUNK):
                        depth = stream.submit()
                    given.send_nowait((depth, began))
                    await trio.lowlevel.checkpoint()
    return latencies


def secret_of(number: int) -> bytes:
    """Return the secret (32 bytes) of measured lock `number`: both parties of a measurement can derive it."""
    return hashlib.sha256(b"tallystick bench" + number.to_bytes(8, "big")).digest()


async def _locked(job: Job) -> Latencies:
    """As many locks as a simplex may hold are pending; each that the payee opens makes room for the next."""
    began, latencies, side = dict[int, float](), Latencies(), job.channel.view.channel.side
    expiry = job.node.engine.chain.now + LOCK_LIFETIME

    async def fill() -> None:
        while len(began) < LOCKS_MAX and time.perf_counter() < job.deadline:
            number = job.channel.view.next_lock
            began[number] = time.perf_counter()
            await job.channel.lock(1, expiry, digest_of(secret_of(number)))

    with job.node.events() as events:
        await fill()
        while began:
            event = await anext(events)
            if isinstance(event, LockEnded) and event.sender == side:
                if not event.paid:
                    raise MeasurementVoid(f"lock {event.lock.id} was not paid: this measurement is void")
                latencies.one(time.perf_counter() - began.pop(event.lock.id))
                await fill()
    return latencies


async def open_locks(node: Node) -> None:
    """Open every measured lock that a peer adds, until cancelled."""
    with node.events() as events:
        async for event in events:
            if isinstance(event, LockReceived) and event.lock.condition == digest_of(secret_of(event.lock.id)):
                node.channel(event.channel).reveal(event.lock.id, secret_of(event.lock.id))


KINDS: dict[str, Callable[[Job], Awaitable[Latencies]]] = {
    "alone": _alone,
    "awaited": _awaited,
    "submitted": _submitted,
    "bulk": _bulk,
    "locked": _locked,
    "stream": _stream,
}
"""Ways to pay, by the name of their class of payment."""

OFFERED = "offered"
"""The name of `offered`, which is no class: its rate is given."""
