"""ABCI on the wire: frames, messages as the engine sends them, and a server that strangers do not upset."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from simulation.replicas import GENESIS, application, transfer
from tallystick.channels.errors import MalformedMessage
from tallystick.settlement.errors import LedgerBroken
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.frames import MESSAGE_MAX, FrameReader, write_frame
from tallystick.settlement.replicated.schema import MESSAGES, read_request, write_response
from tallystick.settlement.replicated.server import serve_application


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(1, 90), max_size=30))
def test_frames_come_out_as_they_went_in_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(write_frame, messages))
    reader, found = FrameReader(), []
    for cut in cuts:
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    found += reader.feed(stream)
    assert found == messages and reader.is_between


def test_a_length_is_bounded_and_has_one_way_to_be_written() -> None:
    for wrong in (b"\x80\x80\x80\x80\x01", b"\xff\xff\xff\x7f", b"\x81\x00"):
        with pytest.raises(MalformedMessage):
            list(FrameReader().feed(wrong))
    reader = FrameReader()
    assert list(reader.feed(write_frame(b"x" * 200)[:150])) == [] and not reader.is_between
    assert MESSAGE_MAX < 2**28


TRANSFER = transfer(0, 0)

ENGINE: dict[str, str] = msgspec.json.decode((Path(__file__).parent / "vectors" / "abci.json").read_bytes())
"""Requests of each kind, as CometBFT 0.38.26 sent them."""


@pytest.mark.parametrize("name", ENGINE)
def test_what_the_engine_sends_is_read_and_written_byte_for_byte(name: str) -> None:
    raw = bytes.fromhex(ENGINE[name])
    (frame,) = FrameReader().feed(raw)
    found, request = read_request(frame)
    assert found == name
    whole = MESSAGES["Request"]()
    getattr(whole, name).CopyFrom(request)
    assert write_frame(whole.SerializeToString(deterministic=True)) == raw


def test_answers_are_what_the_engine_reads() -> None:
    assert write_response("flush") == bytes.fromhex("1a00")
    assert write_response("commit") == bytes.fromhex("6200")
    assert write_response("info", data="x", last_block_height=3) == bytes.fromhex("22050a01782003")
    result = MESSAGES["ExecTxResult"](code=1)
    answer = write_response("finalize_block", tx_results=[result], app_hash=b"abc")
    assert answer == bytes.fromhex("aa0109120208012a03616263")


@asynccontextmanager
async def served(app: Application, refused: list[str]) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            path = Path(folder) / "app"
            serve = partial(serve_application, on_commit=lambda: None, on_refused=refused.append)
            await nursery.start(serve, app, path)
            yield path
            nursery.cancel_scope.cancel()


def request(name: str, **fields: Any) -> bytes:
    whole = MESSAGES["Request"]()
    getattr(whole, name).SetInParent()
    for field, value in fields.items():
        part = getattr(getattr(whole, name), field)
        part.CopyFrom(value) if hasattr(part, "CopyFrom") else setattr(getattr(whole, name), field, value)
    return write_frame(whole.SerializeToString())


async def talk(path: Path, data: bytes) -> list[Any]:
    """Send it, end, and return what is answered."""
    stream = await trio.open_unix_socket(path)
    async with stream:
        await stream.send_all(data)
        await stream.send_eof()
        reader, answers = FrameReader(), []
        async for part in stream:
            answers += [MESSAGES["Response"].FromString(frame) for frame in reader.feed(bytes(part))]
        return answers


async def test_requests_are_answered_in_order_on_each_of_four_connections() -> None:
    app = application()
    block = MESSAGES["RequestFinalizeBlock"](txs=[TRANSFER], height=1, time=MESSAGES["Timestamp"](seconds=1_000))
    whole = MESSAGES["Request"](finalize_block=block)
    async with served(app, []) as path:
        (echo, flush) = await talk(path, request("echo", message="x") + request("flush"))
        assert echo.echo.message == "x" and flush.WhichOneof("value") == "flush"
        (taken, again) = await talk(path, request("check_tx", tx=TRANSFER) + request("check_tx", tx=b"junk"))
        assert taken.check_tx.code == 0 and again.check_tx.code and again.check_tx.codespace == "malformed"
        (done, committed) = await talk(path, write_frame(whole.SerializeToString()) + request("commit"))
        assert done.finalize_block.tx_results[0].code == 0 and committed.HasField("commit")
        (info, entry) = await talk(path, request("info") + request("query", path="entry", data=b"nothing"))
        assert (info.info.last_block_height, info.info.last_block_app_hash) == (1, app.app_hash)
        assert done.finalize_block.app_hash == app.app_hash and entry.query.value == b""
        (extended, vote) = await talk(
            path, request("extend_vote") + request("verify_vote_extension", vote_extension=b"x")
        )
        assert extended.extend_vote.vote_extension == b"" and vote.verify_vote_extension.status == 2


@pytest.mark.parametrize(
    "junk", [b"\x80\x80\x80\x80\x80", write_frame(b"\xff\xff"), write_frame(b""), write_frame(b"\x22\x00")]
)
async def test_what_is_no_abci_ends_its_connection_loudly_and_no_other(junk: bytes) -> None:
    refused: list[str] = []
    async with served(application(), refused) as path:
        answers = await talk(path, request("echo", message="x") + junk + request("echo", message="y"))
        assert [answer.WhichOneof("value") for answer in answers] == ["echo", "exception"] and len(refused) == 1
        assert len(await talk(path, request("flush"))) == 1
        await talk(path, request("flush") + b"\x09\x01")
        assert refused[1] == "the engine's connection ended in the midst of a message"


async def test_a_fault_of_the_ledger_ends_the_server() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(LedgerBroken), flatten_subgroups=True, allow_unwrapped=True):
        async with served(application(), []) as path:
            await talk(path, request("commit"))
            await trio.sleep_forever()


def test_the_genesis_is_the_consensus_s_too() -> None:
    written = msgspec.json.encode(GENESIS.written())
    app = application()
    _, asked = read_request(
        MESSAGES["Request"](
            init_chain=MESSAGES["RequestInitChain"](app_state_bytes=written, initial_height=1)
        ).SerializeToString()
    )
    assert app.begin(asked.app_state_bytes, asked.initial_height) == app.app_hash
