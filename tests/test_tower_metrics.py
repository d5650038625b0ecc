"""A tower's metrics, health and readiness: what they say, what they do not tell, and that asking delays nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
import trio.testing
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from simulation.tower_house import Pair, TowerHouse
from simulation.tower_world import CAROL, TOWER, TowerWorld
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.settlement.chain import CloseCall, DepositCall, Header, OpenCall, TransactionReceipt
from tallystick.settlement.sending.figures import FeesPaid
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower import monitoring
from tallystick.watchtower.figures import (
    COMMIT_BOUNDS,
    STATUS_OLD,
    CommitTimes,
    SparingCount,
    TowerStatistics,
    TowerStatus,
    Trouble,
    unready,
)
from tallystick.watchtower.messages import VERSION, TowerReceipt, Upload
from tallystick.watchtower.metrics import exposition
from tallystick.watchtower.monitoring import Board, Monitor
from tallystick.watchtower.schema import AppointmentsDropped, AppointmentStored, ClientCount
from tallystick.watchtower.sealing import Appointment, locator_of, seal
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import Tower, TowerPolicy

Samples = dict[str, float]


def status_of(tower: Tower) -> TowerStatus:
    return TowerStatus(trio.current_time(), "0x" + tower.address.hex(), "", 1, "", tower.statistics())


def samples(body: bytes) -> Samples:
    """Read an exposition with Prometheus's own parser; return each sample under its name and labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def of(tower: Tower) -> Samples:
    return samples(exposition(status_of(tower), "1"))


async def until(reached: Callable[[], bool], what: str) -> None:
    for _ in range(300):
        if reached():
            return
        await trio.sleep(1)
    pytest.fail(f"{what} has not come about")


async def test_the_figures_of_a_caught_cheat_are_in_the_metrics(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world = TowerWorld(tmp_path)
    await world.appointed()
    async with world.house.open() as (tower, _):
        await until(lambda: of(tower)["tally_tower_ready"] == 1, "readiness")
        found = of(tower)
        assert found["tally_tower_appointments"] == found["tally_tower_clients"] == 1
        assert found["tally_tower_disputes"] == 0 and "tally_tower_deadline_margin_seconds" not in found
        await world.cheat()
        await until(lambda: of(tower)["tally_tower_challenges_total"] == 2, "a challenge on each side")
        assert 0 < of(tower)["tally_tower_deadline_margin_seconds"] <= 600
        await world.mine(tower.sender.policy.confirmations + 2)
        found = of(tower)
        assert found["tally_tower_disputes"] == found["tally_tower_disputes_at_work"] == 1
        assert found["tally_tower_chain_position"] == world.chain.newest.header.number
        assert found["tally_tower_chain_lag_blocks"] == 0
        assert found["tally_tower_transactions_ended_total{end=done}"] == 2
        assert "tally_tower_deadline_margin_seconds" not in found, "nothing is to be done any more"
        first = found["tally_tower_fees_spent_total"]
        assert first == 10**18 - await world.chain.balance(TOWER.address, NATIVE)
        await world.mine(5)
        assert of(tower)["tally_tower_fees_spent_total"] == first, "each transaction costs once"
        commits = found["tally_tower_commit_seconds_count{of=chain}"]
        assert commits >= world.chain.newest.header.number - 6
    world.store.close()


async def told_of(directory: Path, keys: tuple[int, int], amounts: tuple[int, int], *, close: bool) -> list[bytes]:
    """Return what the metrics of a tower say, time after time, that watches over one channel of these two."""
    alice, mallory = (PrivateKey(bytes([number]) * 32) for number in keys)
    chain = LocalChain(funds={key.address: 10**18 for key in (alice, mallory, TOWER, CAROL)})
    pair = Pair(alice, mallory, chain_id=chain.chain_id, contract=chain.contract)
    alarms: list[Alarm] = []
    house = TowerHouse(
        key=TOWER,
        directory=directory,
        network=MemoryNetwork(1).endpoint(TOWER),
        chain=chain,
        policy=TowerPolicy(budget=10**15, fee_reserve=10**12),
        alarms=alarms,
    )
    await chain.call(pair.keys[0], OpenCall(pair.terms, 1_000))
    await chain.call(pair.keys[1], DepositCall(pair.channel, 1, 1_000))
    side = pair.keys.index(mallory)
    newest, old = (pair.proof(side, seq, amount) for seq, amount in zip((7, 1), amounts, strict=True))
    proofs = (newest, None) if side == 0 else (None, newest)
    sealed = Appointment(pair.terms, *proofs, bytes(65))
    blob = seal(sealed, pair.close_key, TOWER.address, alice.address, seeded_entropy("nonce"))
    said = []
    async with house.open() as (tower, _):
        await tower.follower.wait_reached(chain.newest.header.number)
        await trio.sleep(5)
        name = locator_of(pair.close_key, TOWER.address, alice.address)
        receipt = await tower.service.answer(alice.address, Upload(VERSION, name, 1, blob), f"203.0.113.{keys[0]}")
        assert isinstance(receipt, TowerReceipt)
        said.append(exposition(status_of(tower), "1"))
        if close:
            shown = (old, None) if side == 0 else (None, old)
            assert (await chain.call(mallory, CloseCall(pair.channel, *shown, pair.close_key))).success
        for _ in range(12):
            await trio.sleep(2)
            chain.mine()
            said.append(exposition(status_of(tower), "1"))
    assert [alarm.kind for alarm in alarms] == (["appointment-unrewarded"] if close else [])
    return said


@pytest.mark.parametrize("close", [False, True])
async def test_two_channels_cannot_be_told_apart_in_the_metrics(
    tmp_path: Path, close: bool, autojump_clock: trio.testing.MockClock
) -> None:
    one = await told_of(tmp_path / "one", (1, 2), (600, 10), close=close)
    other = await told_of(tmp_path / "other", (9, 8), (999, 3), close=close)
    assert one == other, "of other clients and amounts, with the same sizes at the same times"
    assert (samples(one[-1])["tally_tower_challenges_total"] == 1) is close, "and yet it was seen what was done"


async def test_no_name_of_anybody_is_in_the_metrics(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    world = TowerWorld(tmp_path)
    await world.appointed()
    async with world.house.open() as (tower, _):
        await world.cheat()
        await until(lambda: of(tower)["tally_tower_challenges_total"] == 2, "a challenge on each side")
        body = exposition(status_of(tower), "1").decode()
    for secret in (world.pair.channel, world.pair.close_key, *world.pair.terms.participants, TOWER.address):
        assert secret.hex()[:8] not in body
    values = set(re.findall(r'\w+="([^"]*)"', body))
    assert all(re.fullmatch(r"[a-z-]+|[0-9.]+|\+Inf", value) for value in values), values
    world.store.close()


class Scraped:
    """A board whose tower is looked at by its keeper alone: asking counts."""

    def __init__(self, tower: Tower) -> None:
        self.board = Board()
        self.tower = tower
        self.answers = 0

    async def keep(self) -> None:
        while True:
            self.board.put(status_of(self.tower))
            await trio.sleep(2)

    async def scrape(self, client: httpx.AsyncClient) -> None:
        while True:
            answer = await client.get("/metrics")
            assert answer.status_code == 200
            self.answers += 1


async def cheat_and_see(directory: Path, scrapers: int) -> tuple[list[int], int]:
    """Return in which blocks the challenges were, counted from the close, and how often the metrics were asked for."""
    world = TowerWorld(directory)
    await world.appointed()
    async with world.house.open() as (tower, _), trio.open_nursery() as nursery:
        seen = Scraped(tower)
        seen.board.put(status_of(tower))
        transport = httpx.ASGITransport(Monitor(seen.board).app())
        async with httpx.AsyncClient(transport=transport, base_url="http://tower") as client:
            nursery.start_soon(seen.keep)
            for _ in range(scrapers):
                nursery.start_soon(seen.scrape, client)
            await trio.sleep(10)
            await world.cheat()
            closed = world.chain.newest.header.number
            for _ in range(10):
                await trio.sleep(2)
                world.chain.mine()
            nursery.cancel_scope.cancel()
    found = [o.receipt.block.number - closed for o in tower.sender.obligations() if o.receipt is not None]
    world.store.close()
    return sorted(found), seen.answers


async def test_scrapes_without_end_delay_no_challenge(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    alone, none = await cheat_and_see(tmp_path / "alone", 0)
    among, many = await cheat_and_see(tmp_path / "among", 50)
    assert alone == among and len(alone) == 2 and none == 0
    assert 100 < many < 30 * 60, "they were answered, within their part of the loop's time"


async def test_a_scrape_asks_nothing_of_the_tower(autojump_clock: trio.testing.MockClock) -> None:
    board = Board()
    board.put(msgspec.structs.replace(WAITING))
    made: list[Any] = []
    monitor = Monitor(board)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(monitor.app()), base_url="http://tower") as client:
        for _ in range(5):
            made.append((await client.get("/metrics")).content)
        assert len({id(monitor._made) for _ in made}) == 1 and len(set(made)) == 1
        held = monitor._made
        assert (await client.get("/metrics")).content == made[0] and monitor._made is held, "the text is not made again"
        board.put(msgspec.structs.replace(WAITING))
        await client.get("/metrics")
        assert monitor._made is not held


WAITING = TowerStatus(0.0, "0x" + "11" * 20, "", 0, "", None, "its chain node: http://user:password@host/key failed")


async def test_health_and_readiness_say_why_not_and_tell_no_url(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    board = Board()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Monitor(board).app()), base_url="http://tower"
    ) as client:

        async def ask(path: str) -> tuple[int, str]:
            answer = await client.get(path)
            return answer.status_code, answer.text

        assert (await ask("/readyz"))[0] == (await ask("/healthz"))[0] == 503
        board.put(WAITING)
        code, text = await ask("/readyz")
        assert code == 503 and "chain node" in text and "password" not in text and "http" not in text
        assert samples((await client.get("/metrics")).content)["tally_tower_ready"] == 0
        assert await ask("/healthz") == (200, "it runs\n")
        await trio.sleep(STATUS_OLD + 1)
        assert (await ask("/healthz"))[0] == 503
        assert (await ask("/nothing"))[0] == 404 and (await client.post("/metrics")).status_code == 405
        world = TowerWorld(tmp_path)
        world.house.policy = TowerPolicy(fee_reserve=10**19)
        async with world.house.open() as (tower, _):
            await tower.follower.wait_reached(world.chain.newest.header.number)
            await trio.sleep(5)
            board.put(status_of(tower))
            assert await ask("/readyz") == (503, "its fee account holds too little\n")
            world.house.free_space = 0
            board.put(status_of(tower))
            assert (await ask("/readyz"))[1].splitlines()[0] == "its disk is full or failing"
            found = samples((await client.get("/metrics")).content)
            assert found["tally_tower_trouble{kind=disk}"] == found["tally_tower_trouble{kind=fees}"] == 1
            assert found["tally_tower_trouble{kind=chain-behind}"] == 0
        world.store.close()


async def test_who_asks_and_never_reads_does_not_keep_a_tower_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "STUCK_SECONDS", 0.5)
    monkeypatch.setattr(monitoring, "MONITORS_PART", 1.0)
    monkeypatch.setattr(monitoring, "ANSWER_SECONDS", 0.0)
    board, door = Board(), monitoring.open_door("127.0.0.1", 0)
    figures = msgspec.convert({**BLANK, "commits": {"chain": {}}}, TowerStatistics)
    board.put(msgspec.structs.replace(WAITING, statistics=figures))
    with trio.fail_after(60), door:
        async with trio.open_nursery() as nursery, await trio.open_tcp_stream(*door.getsockname()[:2]) as stream:
            door.listen()
            await nursery.start(monitoring.serve_monitor, board, door)
            with pytest.raises(trio.BrokenResourceError):
                while True:  # until neither side's buffers take any more, and a while after
                    await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
            nursery.cancel_scope.cancel()


def test_what_a_chain_node_said_is_not_shown_to_strangers() -> None:
    troubles = ["it says http://key@provider is wrong", "its disk is full or failing"]
    figures = {**BLANK, "troubles": troubles, "trouble_kinds": [Trouble.CHAIN_NONSENSE, Trouble.DISK]}
    told = unready(TowerStatus(0.0, "", "", 1, "", msgspec.convert(figures, TowerStatistics)))
    assert len(told) == 2 and "provider" not in told[0] and told[1] == troubles[1]


BLANK: dict[str, Any] = {
    **dict.fromkeys(("appointments", "accepted", "refused", "cases", "challenges", "registrations", "alarms"), 0),
    "troubles": [],
    "follower": dict.fromkeys(("position", "lag", "silent", "removed", "faults"), 0),
    "sender": dict.fromkeys(("waiting", "sent", "done", "superseded", "quarantined", "submitted", "faults"), 0)
    | {"troubled": []},
}
"""Of a tower that has done nothing, as one of before the metrics wrote it."""


def receipt(name: bytes, number: int, fee: int) -> TransactionReceipt:
    return TransactionReceipt(name, Header(number, bytes(32), bytes(32), 0), True, fee)


def test_a_fee_counts_once_and_only_once_it_is_confirmed() -> None:
    one, two = receipt(b"1", 10, 7), receipt(b"2", 12, 100)
    receipts = {b"1": one, b"2": two}
    fees = FeesPaid().with_receipts({b"1": one}, {b"1"}, 9)
    assert fees.total == 0
    fees = fees.with_receipts(receipts, receipts, 10)
    assert fees.total == 7
    fees = fees.with_receipts({}, receipts, 11)  # the chain node did not tell this time
    fees = fees.with_receipts(receipts, receipts, 12)
    assert fees.total == 107
    fees = fees.with_receipts({b"2": two}, {b"2"}, 13)
    assert fees.total == 107 and fees.counted == {b"2"}, "what is not looked for any more is forgotten"


def test_commits_are_counted_by_how_long_they_took() -> None:
    times = CommitTimes()
    for seconds in (0.0, COMMIT_BOUNDS[0], 0.3, 10**6):
        times = times.with_one(seconds)
    assert times.up_to[0] == 2 and times.up_to[-2:] == (3, 4) and times.seconds > 10**6


def test_counting_takes_a_hundredth_of_the_time_however_much_there_is() -> None:
    now, made = 0.0, 0

    def count() -> int:
        nonlocal now, made
        now, made = now + 0.2, made + 1
        return made

    counting = SparingCount(count, lambda: now)
    for _ in range(1_000):
        counting.look()
        now += 0.1
    assert 4 <= made <= 6 and counting.look() == made
    free = SparingCount(lambda: made, lambda: now)
    made = 7
    assert free.look() == 7, "what takes no time is counted each time"


def test_clients_are_counted_bit_by_bit(tmp_path: Path) -> None:
    store = open_store(tmp_path / "counted", SCHEMAS, owner="a test", durable=False)
    names = [(Address(bytes([client]) * 20), bytes([number]) * 32) for client in range(7) for number in range(client)]
    store.commit([AppointmentStored(client, locator, 1, b"blob", 0) for client, locator in names])
    count = ClientCount(store, at_once=4)
    assert [count.look() for _ in range(5)] == [4, 6, 6, 6, 6]
    store.commit([AppointmentsDropped(tuple(name for name in names if name[0][0] > 3))])
    assert [count.look() for _ in range(4)][-1] == 3
    store.close()
