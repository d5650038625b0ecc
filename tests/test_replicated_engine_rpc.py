"""Handing transactions to the engine: many in one request, each answered for itself, in the order of their coming."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
import trio

from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.replicated.engine_rpc import BATCH_BYTES, BATCH_MAX, EngineClient


class AnsweringEngine:
    """Takes requests, one at a time, and answers each transaction by itself."""

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []
        self.gate = trio.Event()
        self.came = trio.Event()
        self.answer: Callable[[bytes], dict[str, Any]] = lambda raw: {"result": {"code": 0}}

    async def handle(self, request: httpx.Request) -> httpx.Response:
        calls = msgspec.json.decode(request.content)
        self.requests.append([base64.b64decode(call["params"]["tx"]) for call in calls])
        self.came.set()
        await self.gate.wait()
        said = [{"id": call["id"], **self.answer(base64.b64decode(call["params"]["tx"]))} for call in calls]
        return httpx.Response(200, content=msgspec.json.encode(said[0] if len(said) == 1 else said[::-1]))

    def client(self) -> EngineClient:
        return EngineClient(httpx.AsyncClient(transport=httpx.MockTransport(self.handle), base_url="http://engine"))


async def test_what_comes_while_a_request_is_on_its_way_goes_with_the_next_in_order() -> None:
    engine = AnsweringEngine()
    client = engine.client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.broadcast, b"first")
        await engine.came.wait()
        raws = [b"%d" % number for number in range(BATCH_MAX + 3)]
        for raw in raws:
            nursery.start_soon(client.broadcast, raw)
            await trio.testing.wait_all_tasks_blocked()
        engine.gate.set()
    assert engine.requests == [[b"first"], raws[:BATCH_MAX], raws[BATCH_MAX:]]


async def test_each_is_answered_for_itself() -> None:
    engine = AnsweringEngine()
    client = engine.client()
    said: dict[bytes, dict[str, Any]] = {
        b"taken": {"result": {"code": 0}},
        b"known": {"error": {"message": "Internal error", "data": "tx already exists in cache"}},
        b"full": {"error": {"message": "Internal error", "data": "mempool is full"}},
    }
    engine.answer = said.__getitem__
    found: dict[bytes, Exception | None] = {}

    async def hand_in(raw: bytes) -> None:
        try:
            await client.broadcast(raw)
            found[raw] = None
        except ChainUnavailable as error:
            found[raw] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hand_in, b"taken")
        await engine.came.wait()
        for raw in said:
            nursery.start_soon(hand_in, raw)
        await trio.testing.wait_all_tasks_blocked()
        engine.gate.set()
    assert len(engine.requests) == 2 and len(engine.requests[1]) == len(said)
    assert found[b"taken"] is found[b"known"] is None
    assert "mempool is full" in str(found[b"full"])


async def test_who_goes_away_takes_nobody_else_with_him() -> None:
    engine = AnsweringEngine()
    client = engine.client()
    async with trio.open_nursery() as nursery, trio.open_nursery() as leaving:
        leaving.start_soon(client.broadcast, b"sender who goes")
        await engine.came.wait()
        leaving.start_soon(client.broadcast, b"waiter who goes")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client.broadcast, b"waiter who stays")
        await trio.testing.wait_all_tasks_blocked()
        engine.gate.set()
        leaving.cancel_scope.cancel()
    assert engine.requests == [[b"sender who goes"], [b"waiter who stays"]]


async def test_who_goes_away_while_his_transaction_is_on_its_way_takes_nobody_else_with_him() -> None:
    engine = AnsweringEngine()
    client = engine.client()
    going = trio.CancelScope()

    async def go_away() -> None:
        with going:
            await client.broadcast(b"goes")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.broadcast, b"first")
            await engine.came.wait()
            nursery.start_soon(client.broadcast, b"second")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(go_away)
            await trio.testing.wait_all_tasks_blocked()
            arrived, engine.gate = engine.gate, trio.Event()
            arrived.set()
            await trio.testing.wait_all_tasks_blocked()
            assert engine.requests[1:] == [[b"second", b"goes"]]
            nursery.start_soon(client.broadcast, b"third")
            await trio.testing.wait_all_tasks_blocked()
            going.cancel()
            await trio.testing.wait_all_tasks_blocked()
            engine.gate.set()
    assert engine.requests == [[b"first"], [b"second", b"goes"], [b"third"]]


async def test_an_engine_that_does_not_answer_is_told_to_all_who_wait() -> None:
    engine = AnsweringEngine()
    engine.gate.set()
    client = engine.client()
    engine.answer = lambda raw: {"id": "another"}
    with pytest.raises(ChainUnavailable, match="without an answer"):
        await client.broadcast(b"x")
    gone = EngineClient(httpx.AsyncClient(transport=httpx.MockTransport(_refuse), base_url="http://engine"))
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(_expect_unavailable, gone, b"%d" % number)
    with pytest.raises(ChainUnavailable):
        await gone.ask("status")


def _refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody is there")


async def _expect_unavailable(client: EngineClient, raw: bytes) -> None:
    with pytest.raises(ChainUnavailable):
        await client.broadcast(raw)


async def test_a_request_is_no_larger_than_the_engine_takes() -> None:
    engine = AnsweringEngine()
    client = engine.client()
    large = [bytes([number]) * (BATCH_BYTES // 2) for number in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.broadcast, b"first")
        await engine.came.wait()
        for raw in (*large, bytes(BATCH_BYTES + 1)):
            nursery.start_soon(client.broadcast, raw)
            await trio.testing.wait_all_tasks_blocked()
        engine.gate.set()
    assert [len(request) for request in engine.requests] == [1, 2, 1, 1]
