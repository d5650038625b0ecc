"""What a shard stands when others go wrong: a reorganisation under a full queue, coins from nowhere, another role."""

from __future__ import annotations

import pytest

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.settlement.shards.outbox import Sending, sign_sending
from tallystick.settlement.shards.receipts import ShardPage, ShardReceipt
from tallystick.settlement.simulated import crossing
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.shard import EXECUTED_MAX, WAITING_MAX
from tallystick.settlement.simulated.sqlite import SCHEMA
from tallystick.settlement.simulated.world import Layer, balance_key, supply_key
from tallystick.settlement.testing.local import LocalChain
from tallystick.settlement.testing.shards import LocalShards, local_group, local_shard

ALICE = PrivateKey(keccak(b"alice"))
BOB = PrivateKey(keccak(b"bob"))
CONTRACT = Address(b"\x0c" * 20)
START = 10**12


async def test_a_reorganisation_under_a_full_queue_stops_nothing() -> None:
    """What waits beyond a gap could never be executed, and would take the room of what must come first."""
    shards = LocalShards(2, funds={ALICE.address: START})
    count = WAITING_MAX + EXECUTED_MAX
    for _ in range(count):
        await shards.send(0, ALICE, Sending(1, NATIVE, BOB.address, 1))
    shards.finish(0)
    parcels = shards[0].parcels(1, 0)
    for raw in parcels[:WAITING_MAX]:
        shards[1].offer(raw)
    shards[1].mine()
    for raw in parcels[WAITING_MAX:]:
        shards[1].offer(raw)
    shards[1].reorganise(1)
    assert shards[1].others()[0].expected == 0
    for raw in parcels[:WAITING_MAX]:
        shards[1].offer(raw)
    shards[1].mine(WAITING_MAX // EXECUTED_MAX)
    shards.carry_all()
    assert await shards[1].balance(BOB.address, NATIVE) == count
    shards.check_conservation(2 * START)


async def test_what_a_shard_knows_of_its_blocks_grows_by_pages_and_not_by_receipts() -> None:
    """What it remembered of each refund was rewritten at every block, for ever."""
    shards = LocalShards(2, funds={ALICE.address: START})
    rounds, each = 6, 5
    for begun in range(0, rounds * each, each):
        for number in range(begun, begun + each):
            sending = Sending(1, NATIVE, BOB.address, 3, expiry=number % each % 2)  # 1 is long over
            await shards[0].submit(sign_sending(ALICE, shards[0].chain_id, sending, number, 1))
        shards[0].mine()
        shards.finish(0)
        shards.carry(0, 1)
        shards[1].mine()
        await shards.send(1, ALICE, Sending(0, NATIVE, BOB.address, 1))  # a page on which nothing goes back
    expected = [bool(number % each % 2) for number in range(rounds * each)]
    assert [shards[1].is_refunded(0, number) for number in range(rounds * each)] == expected
    assert not shards[1].is_refunded(0, rounds * each) and not shards[0].is_refunded(1, 0)
    for shard, pages in zip(shards, (rounds, 2 * rounds), strict=True):
        assert sum(map(len, vars(shard.shard)["_sent"].values())) == pages
        assert sum(len(value) for value in vars(shard.shard).values() if isinstance(value, dict)) <= 2, "by shard alone"
    shards[1].reorganise(2)  # the block of the newest parcel falls back, and what went back with it
    assert [shards[1].is_refunded(0, number) for number in range(rounds * each)] == expected[:-each] + [False] * each
    shards.carry_all()
    assert [shards[1].is_refunded(0, number) for number in range(rounds * each)] == expected
    shards.check_conservation(2 * START)


def test_the_data_of_a_shard_is_run_as_a_shard_only() -> None:
    """As a plain chain it could replace blocks that it has signed for others."""
    group, disk = local_group(2), SimulatedDisk([SCHEMA])
    local_shard(group, 0, store=disk.open())
    settings = ChainSettings(chain_id=group.chain_of(0), contract=group.contract)
    with pytest.raises(InvalidInput, match="of a shard"):
        LocalChain(settings=settings, store=disk.open())


def pay(state: Layer, *pages: ShardPage) -> crossing.Crossing | None:
    return crossing.cross(state, CONTRACT, 9, 0, [], [crossing.ParcelArrival(b"raw", page) for page in pages])


def test_no_more_comes_to_a_shard_than_there_are_numbers() -> None:
    """No honest group makes so much: a shard whose key is stolen stops itself, and not its neighbour."""
    state = Layer({})
    state.changes.update(crossing.begin_shard(local_group(3), 1))
    most = ShardReceipt(NATIVE, ALICE.address, BOB.address, AMOUNT_MAX)
    token = ShardReceipt(Address(b"\x70" * 20), ALICE.address, BOB.address, 5)
    twice = pay(state, ShardPage(0, 1, 0, (most, most)), ShardPage(2, 1, 0, (most,)))
    assert twice is not None and len(twice.parcels) == 1
    assert (crossing.executed_of(state, 0), crossing.executed_of(state, 2)) == (0, 1)
    more = pay(state, ShardPage(0, 1, 0, (most,)), ShardPage(2, 1, 1, (token,)))
    assert more is not None and len(more.parcels) == 1, "the other one goes on"
    assert state.number(balance_key(NATIVE, BOB.address)) == state.number(supply_key(NATIVE)) == AMOUNT_MAX
