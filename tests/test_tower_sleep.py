"""A tower's cases that are none of its business: strangers' closes cost nothing per block, and do not stay for ever."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import msgspec
import trio

from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Terms
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.tables import Row, TableQuery
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.settlement.chain import Block, Closed, ContractChannel, Header
from tallystick.settlement.ethereum.transactions import FIGURES
from tallystick.settlement.following.follower import HEADERS_KEPT, BlockAdded, BlockRemoved
from tallystick.settlement.sending.sqlite import SCHEMA
from tallystick.watchtower.disputes import ChallengeBudget
from tallystick.watchtower.schema import AppointmentStored, read_disputes
from tallystick.watchtower.sealing import locator_of
from tallystick.watchtower.sqlite import TOWER_COVERS_SCHEMA, TOWER_SCHEMA
from tallystick.watchtower.watch import Watch

TOWER = Address(b"\7" * 20)
INTERVAL = 10
PERIOD = 600


class House:
    """A watch on a chain of empty blocks, but for strangers' closes."""

    figures = FIGURES

    def __init__(self) -> None:
        self.disk = SimulatedDisk([TOWER_COVERS_SCHEMA, TOWER_SCHEMA, SCHEMA])
        self.store = self.disk.open()
        self.terms: dict[ChannelId, Terms] = {}
        self.number = 0
        self.reads = 0
        self.learnt: set[Terms] = set()
        self.begin()

    def begin(self) -> None:
        """Begin from what is on disk."""
        self.watch = Watch(self.sender, ChallengeBudget(10**15, 0, 1_000))  # type: ignore[arg-type]

    def learn(self, terms: Terms) -> None:
        """Hear a channel's terms, as a chain does."""
        self.learnt.add(terms)

    @property
    def sender(self) -> SimpleNamespace:
        """What a watch has of its sender."""
        return SimpleNamespace(
            account=TOWER,
            chain=self,
            store=self,
            commit=self.commit,
            alarm=lambda alarm: None,
            obligations=tuple,
            find=lambda name: None,
        )

    # what a watch asks of its store and chain

    chain_id = 1337

    def read(self, query: TableQuery) -> list[Row]:
        self.reads += query.table.name == "appointments"
        return self.store.read(query)

    async def commit(self, moments: Sequence[Moment]) -> None:
        await trio.lowlevel.checkpoint()
        self.store.commit(moments)

    async def channels(self, channels: Sequence[ChannelId]) -> tuple[ContractChannel | None, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(
            ContractChannel(terms=self.terms[each], status=1, deposits=(1, 0), withdrawn=(0, 0)) for each in channels
        )

    # the world

    async def mine(self, *events: Closed) -> None:
        self.number += 1
        names = [b"block" + bytes([0]) + number.to_bytes(4, "big") for number in (self.number - 1, self.number)]
        header = Header(self.number, keccak(names[1]), keccak(names[0]), self.number * INTERVAL)
        await self.watch.on_steps([BlockAdded(Block(header, events))])

    def close(self, number: int) -> Closed:
        parties = sorted(PrivateKey(keccak(b"%d.%d" % (number, side))).address for side in (0, 1))
        terms = Terms(1337, Address(bytes(20)), (parties[0], parties[1]), NATIVE, 0, PERIOD, bytes(32))
        identity = channel_id(terms)
        self.terms[identity] = terms
        key = keccak(b"close key %d" % number)
        return Closed(identity, 0, 0, 0, key, (self.number + 1) * INTERVAL + PERIOD)


async def test_what_strangers_close_costs_nothing_once_it_was_looked_at_and_is_dropped_when_its_window_is_over() -> (
    None
):
    house = House()
    await house.mine(*(house.close(number) for number in range(50)))
    assert len(house.watch.disputes) == 50
    await house.mine()
    before = house.reads
    for _ in range(20):
        await house.mine()
    assert house.reads == before and house.watch.at_work == []
    house.begin()  # after a restart each is looked at once more
    assert house.learnt == {dispute.terms for dispute in house.watch.disputes.values()}
    await house.mine()
    assert house.reads > before and house.watch.at_work == []
    for _ in range(PERIOD // INTERVAL + HEADERS_KEPT):
        await house.mine()
    assert house.watch.disputes == {}
    assert not read_disputes(house.store)


async def test_an_appointment_that_comes_late_wakes_its_case() -> None:
    house = House()
    closed = house.close(1)
    await house.mine(closed)
    await house.mine()
    assert house.watch.at_work == []
    party = house.terms[closed.channel].participants[1]
    locator = locator_of(closed.close_key, TOWER, party)
    fields = {"client": party, "locator": locator, "revision": 1, "blob": b"sealed", "time": 0}
    extra = {f.name: b"" for f in msgspec.structs.fields(AppointmentStored) if f.required and f.name not in fields}
    house.store.commit([AppointmentStored(**fields, **extra)])
    house.watch.on_appointed(party, locator)
    before = house.reads
    await house.mine()
    assert house.reads > before


async def test_a_close_that_left_the_chain_is_no_case_and_wakes_nobody() -> None:
    house = House()
    closed = house.close(1)
    await house.mine(closed)
    await house.mine()
    party = house.terms[closed.channel].participants[1]
    await house.watch.on_steps([BlockRemoved(Header(house.number, bytes(32), bytes(32), house.number * INTERVAL))])
    await house.watch.on_steps([BlockRemoved(Header(house.number - 1, bytes(32), bytes(32), 0))])
    assert house.watch.disputes == {}
    house.watch.on_appointed(party, locator_of(closed.close_key, TOWER, party))
    house.number -= 2
    await house.mine()
    assert house.watch.at_work == []
