"""Joining a chain of validators: what their engines say of themselves, and homes of it; nobody is believed alone."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from nacl.signing import VerifyKey

from simulation.replicas import GENESIS
from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import system_entropy
from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.modules.validator_records import StakeRules
from tallystick.settlement.modules.validators import address_of, possession
from tallystick.settlement.replicated.engine_route import QUESTION_MAX, engine_routes
from tallystick.settlement.replicated.engine_rpc import EngineClient
from tallystick.settlement.replicated.home import GENESIS as GENESIS_FILE
from tallystick.settlement.replicated.home import (
    SETTINGS,
    EngineAddress,
    ValidatorKeys,
    with_stakes,
    write_home,
)
from tallystick.settlement.replicated.joining import join_home
from tallystick.settlement.replicated.validator import genesis_of, operator_of, prove_possession
from tallystick.settlement.simulated.rpc_server import make_app, serve_chain
from tallystick.settlement.testing.local import LocalChain

KEYS = [ValidatorKeys(*(keccak(b"%d of %d" % (part, at)) for part in range(3))) for at in range(2)]
STAKED = with_stakes(GENESIS, KEYS, StakeRules())
WHOLE = msgspec.json.decode(write_home(0, KEYS, [EngineAddress("127.0.0.1", 1)] * 2, STAKED, 1.0)[GENESIS_FILE])
HASH = "AB" * 32


def answers(**other: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "genesis": {"genesis": WHOLE},
        "status": {
            "sync_info": {"latest_block_height": "7"},
            "node_info": {"id": "ab" * 20, "listen_addr": "tcp://0.0.0.0:4000"},
        },
        "commit": {"signed_header": {"commit": {"block_id": {"hash": HASH}}}},
    }
    return said | other


@asynccontextmanager
async def engines(*said: dict[str, Any]) -> AsyncIterator[list[str]]:
    urls: list[str] = []
    async with trio.open_nursery() as nursery:
        for each in said:

            def reply(request: httpx.Request, each: dict[str, Any] = each) -> httpx.Response:
                asked = msgspec.json.decode(request.content)
                return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": each[asked["method"]]})

            client = EngineClient(httpx.AsyncClient(transport=httpx.MockTransport(reply), base_url="http://engine"))
            heard = trio.Event()

            def started(url: str, heard: trio.Event = heard) -> None:
                urls.append(url)
                heard.set()

            async def serve(client: EngineClient = client, started: Any = started) -> None:
                await serve_chain(LocalChain(), "127.0.0.1", 0, started=started, more=engine_routes(client))

            nursery.start_soon(serve)
            await heard.wait()
        yield urls
        nursery.cancel_scope.cancel()


async def test_a_home_is_made_of_what_two_nodes_agree_on(tmp_path: Path) -> None:
    async with engines(answers(), answers()) as urls:
        await join_home(tmp_path / "new", urls, 4_001, system_entropy)
    assert genesis_of(tmp_path / "new") == STAKED
    read = tomllib.loads((tmp_path / "new" / SETTINGS).read_text())
    assert read["statesync"]["enable"] and read["statesync"]["rpc_servers"] == ",".join(f"{url}/engine" for url in urls)
    assert (read["statesync"]["trust_height"], read["statesync"]["trust_hash"]) == (7, HASH)
    assert read["p2p"]["laddr"] == "tcp://127.0.0.1:4001"
    assert read["p2p"]["persistent_peers"] == ",".join([f"{'ab' * 20}@127.0.0.1:4000"] * 2)
    before = {path: path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    await join_home(tmp_path / "new", ["http://nowhere", "http://nobody"], 4_002, system_entropy)
    assert before == {path: path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in before)
    operator = operator_of(tmp_path / "new")
    public, proof, address = prove_possession(tmp_path / "new", 1337, operator.address)
    VerifyKey(public).verify(possession(1337, operator.address, public), proof)
    assert address == address_of(public)


@pytest.mark.parametrize(
    "other",
    [
        {"genesis": {"genesis": {**WHOLE, "chain_id": "another"}}},
        {"commit": {"signed_header": {"commit": {"block_id": {"hash": "CD" * 32}}}}},
        {"commit": {"signed_header": {"commit": {"block_id": {"hash": 'AB"\n'}}}}},
        {"status": {"sync_info": {"latest_block_height": "7"}, "node_info": {"id": '"', "listen_addr": "tcp://x:1"}}},
        {"status": {}},
        {"genesis": {}},
        {"genesis": []},
        {"genesis": None},
        {"status": None},
        {"commit": {"signed_header": []}},
    ],
)
async def test_nodes_that_contradict_each_other_or_say_nonsense_are_not_joined(tmp_path: Path, other: Any) -> None:
    async with engines(answers(), answers(**other)) as urls:
        with pytest.raises(InvalidInput):
            await join_home(tmp_path / "new", urls, 4_001, system_entropy)
        with pytest.raises(InvalidInput, match="2 of its nodes"):
            await join_home(tmp_path / "new", [urls[0], urls[0]], 4_001, system_entropy)
    assert not (tmp_path / "new").exists()


async def test_an_answer_without_end_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.settlement.replicated.engine_rpc.ANSWER_MAX", 1_000)
    given = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal given
        while given < 100_000:
            given += 100
            yield b" " * 100

    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=parts())

    engine = EngineClient(httpx.AsyncClient(transport=httpx.MockTransport(reply), base_url="http://engine"))
    with pytest.raises(ChainUnavailable, match="more than 1000 bytes"):
        await engine.ask("genesis")
    assert given <= 1_200


async def test_an_engine_is_asked_what_only_looks_and_nothing_else() -> None:
    asked: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(msgspec.json.decode(request.content)["method"])
        return httpx.Response(500, json={"error": {"message": "height 9 must be less"}})

    engine = EngineClient(httpx.AsyncClient(transport=httpx.MockTransport(reply), base_url="http://engine"))
    app = make_app(LocalChain(), engine_routes(engine))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://node") as http:
        for body, status in (
            ({"method": "broadcast_tx_sync", "params": {"tx": ""}}, 403),
            ({"method": "dump_consensus_state"}, 403),
            ({"method": "unsafe_flush_mempool"}, 403),
            ({"method": "commit", "params": ["x" * QUESTION_MAX]}, 413),
            ({"method": "commit", "params": [1]}, 400),
            ([{"method": "commit"}], 400),
            ({"method": "commit", "params": {"height": "9"}}, 500),
        ):
            for path in ("/engine", "/engine/"):
                answer = await http.post(path, json=body)
                assert answer.status_code == status
    assert asked == ["commit", "commit"] and "must be less" in answer.text


async def test_an_engine_is_asked_for_what_was_read_here_however_it_reads_names_itself() -> None:
    passed: list[Any] = []

    def reply(request: httpx.Request) -> httpx.Response:
        passed.append(msgspec.json.decode(request.content))
        return httpx.Response(200, json={})

    engine = EngineClient(httpx.AsyncClient(transport=httpx.MockTransport(reply), base_url="http://engine"))
    app = make_app(LocalChain(), engine_routes(engine))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://node") as http:
        asked = {"jsonrpc": "2.0", "id": 5, "method": "commit", "params": {"height": "9"}}
        answer = await http.post("/engine", json={**asked, "Method": "dump_consensus_state"})
        assert answer.status_code == 200
    assert passed == [asked]
