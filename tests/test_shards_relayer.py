"""Who carries receipts between shards: over JSON-RPC, through outages, and beside others who do the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
from trio.testing import MockClock

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import ChainError, ChainUnavailable, Refusal, TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.rpc_client import open_rpc_chain
from tallystick.settlement.shards.outbox import Sending, sign_sending
from tallystick.settlement.shards.relayer import carry, relay
from tallystick.settlement.shards.rpc_shard import RpcShard, check_none_is_old
from tallystick.settlement.simulated.rpc_server import make_app
from tallystick.settlement.testing.local import LocalChain
from tallystick.settlement.testing.shards import LocalShards

ALICE = PrivateKey(keccak(b"alice"))
BOB = Address(b"\x0b" * 20)
START = 10**12


def new_shards(count: int = 2) -> LocalShards:
    return LocalShards(count, funds={ALICE.address: START})


class Gate:
    """A shard's node that may be down."""

    def __init__(self, chain: LocalChain) -> None:
        self.chain = chain
        self.down = False
        self.offered = 0

    def _ask(self) -> None:
        if self.down:
            raise ChainUnavailable("it is down")

    async def expected(self, source: int) -> int:
        await trio.lowlevel.checkpoint()
        self._ask()
        return next(other.expected for other in self.chain.others() if other.number == source)

    async def parcels(self, destination: int, first: int) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        self._ask()
        return self.chain.parcels(destination, first)

    async def offer(self, parcel: bytes) -> int:
        await trio.lowlevel.checkpoint()
        self._ask()
        self.offered += 1
        return self.chain.offer(parcel)

    async def head(self) -> bytes:
        self._ask()
        return (await self.chain.head()).hash

    async def wait(self, known: bytes) -> None:
        self._ask()
        with trio.move_on_after(20):
            await self.chain.wait(known)


@asynccontextmanager
async def over_rpc(chain: LocalChain) -> AsyncIterator[RpcShard]:
    at, transport = Deployment(chain.chain_id, chain.contract), httpx.ASGITransport(app=make_app(chain))
    async with open_rpc_chain("http://shard", jitter=lambda: 0.5, expected=at, transport=transport) as rpc:
        yield RpcShard(rpc)


async def send(shards: LocalShards, source: int, destination: int, amount: int) -> None:
    await shards.send(source, ALICE, Sending(destination, NATIVE, BOB, amount))


async def test_receipts_are_carried_over_json_rpc(autojump_clock: MockClock) -> None:
    shards = new_shards()
    shards[1].refuse(BOB, NATIVE)
    await send(shards, 0, 1, 500)
    shards[1].refuse(BOB, NATIVE, refuses=False)
    await send(shards, 0, 1, 20)
    async with over_rpc(shards[0]) as zero, over_rpc(shards[1]) as one:
        ports = (zero, one)
        assert await carry(ports, 0, 1) == 0
        shards.finish(0)
        assert await one.received(0, 1) == "pending"
        assert await carry(ports, 0, 1) == 2 and await carry(ports, 0, 1) == 0
        status = await one.status()
        assert (status.number, status.shards) == (1, 2)
        assert status.standing(0)._asdict() == {"number": 0, "sent": 0, "executed": 0, "expected": 2}
        shards[1].mine()
        assert await one.received(0, 1) == "paid" and await one.received(0, 2) == "pending"
        assert (await zero.status()).standing(1).sent == 2
        [first, _] = await zero.parcels(1, 0)
        with pytest.raises(TransactionRefused, match="is known") as refused:
            await one.offer(first)
        assert refused.value.code is Refusal.ALREADY_KNOWN
        with pytest.raises(ChainError, match="no other shard 7"):
            await one.received(7, 0)
    assert await shards[1].balance(BOB, NATIVE) == 520


async def test_a_chain_that_is_no_shard_says_so(autojump_clock: MockClock) -> None:
    async with over_rpc(LocalChain()) as port:
        for question in (port.status, lambda: port.parcels(1, 0), lambda: port.offer(b"")):
            with pytest.raises(ChainError, match="is no shard"):
                await question()


async def test_what_is_sent_arrives_by_itself_while_a_shard_that_is_down_stops_only_its_own(
    autojump_clock: MockClock,
) -> None:
    shards, faults = new_shards(3), list[tuple[int, int]]()
    gates = [Gate(chain) for chain in shards]
    gates[2].down = True

    async with trio.open_nursery() as nursery:
        for chain in shards:
            nursery.start_soon(chain.run)

        async def keep_carrying() -> None:
            await relay(gates, jitter=lambda: 0.5, on_fault=lambda source, to, error: faults.append((source, to)))

        nursery.start_soon(keep_carrying)
        nursery.start_soon(keep_carrying)  # anybody may, and any number at once
        for source, to, amount in ((0, 1, 5), (1, 0, 7), (0, 2, 11), (2, 1, 13)):
            await send(shards, source, to, amount)
        await trio.sleep(30)
        balances = [await chain.balance(BOB, NATIVE) for chain in shards]
        assert balances == [7, 5, 0] and shards.in_flight() == 11 + 13
        assert {pair for pair in faults if 2 not in pair} == set()
        gates[2].down = False
        await trio.sleep(30)
        balances = [await chain.balance(BOB, NATIVE) for chain in shards]
        assert balances == [7, 18, 11] and shards.in_flight() == 0
        nursery.cancel_scope.cancel()
    shards.check_conservation(3 * START)


async def test_two_who_carry_at_once_bring_each_receipt_once(autojump_clock: MockClock) -> None:
    shards = new_shards()
    gates = [Gate(chain) for chain in shards]
    for amount in range(1, 9):
        await send(shards, 0, 1, amount)
    shards.finish(0)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(carry, gates, 0, 1)
    assert gates[1].offered >= 8
    shards[1].mine()
    assert await shards[1].balance(BOB, NATIVE) == 36


async def test_a_source_that_gives_out_nonsense_is_told_of(autojump_clock: MockClock) -> None:
    class Liar(Gate):
        async def parcels(self, destination: int, first: int) -> list[bytes]:
            return [b"nonsense"]

    shards = new_shards()
    with pytest.raises(ChainError, match="shard 1 refuses what shard 0 sends"):
        await carry([Liar(shards[0]), Gate(shards[1])], 0, 1)


async def test_what_waited_when_a_shard_crashed_is_brought_again(autojump_clock: MockClock) -> None:
    shards = new_shards()
    gates = [Gate(chain) for chain in shards]
    raw = sign_sending(ALICE, shards[0].chain_id, Sending(1, NATIVE, BOB, 9), 0, 1)
    await shards[0].submit(raw)
    shards[0].mine()
    shards.finish(0)
    assert await carry(gates, 0, 1) == 1
    gates[1].chain = LocalShards(2, funds={ALICE.address: START})[1]  # what it held in memory is gone
    assert await carry(gates, 0, 1) == 1 and await carry(gates, 0, 1) == 0


async def test_a_shard_that_goes_on_from_an_old_copy_is_told_of(autojump_clock: MockClock) -> None:
    """It would send under numbers that were executed: its new receipts would never be paid."""
    shards = new_shards()
    await send(shards, 0, 1, 500)
    shards.finish(0)
    shards.carry(0, 1)
    shards[1].mine()
    old = new_shards()[0]
    async with over_rpc(shards[0]) as zero, over_rpc(shards[1]) as one:
        check_none_is_old([await zero.status(), await one.status()])
        check_none_is_old([await one.status()])
    async with over_rpc(old) as zero, over_rpc(shards[1]) as one:
        with pytest.raises(InvalidInput, match="shard 0 are an old copy: it has sent 0 receipts to shard 1, which has"):
            check_none_is_old([await zero.status(), await one.status()])
        with pytest.raises(ChainError, match="wants receipt 1, and shard 0 has sent 0: its data are an old copy"):
            await carry((zero, one), 0, 1)
