"""The formats on the wire and on disk, kept for ever: what was written is read, and written the same.

A change that breaks one of these needs a new message number, or a new version of the format with vectors of its own.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, get_args

import msgpack
import msgspec
import pytest

from tallystick.channels.protocol.core import Channel, CloseInitiator, Phase
from tallystick.channels.protocol.messages import PROTOCOL_VERSION, Message, decode, encode
from tallystick.channels.storage.schema import CHANNELS, ChannelSaved, load_channels
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.testing.disk import SimulatedDisk, SimulatedStore

VECTORS = Path(__file__).parent / "vectors"
WIRE: list[dict[str, Any]] = json.loads((VECTORS / "wire-v1.json").read_text())["messages"]
OLD_STORE: list[dict[str, Any]] = json.loads((VECTORS / "store-v1.json").read_text())["channels"]
STORE: list[dict[str, Any]] = json.loads((VECTORS / "store-v2.json").read_text())["channels"]


def plain(value: Any) -> Any:
    """Builtins as JSON can hold them: bytes in hex, numbers beyond 2**53 as text."""
    if isinstance(value, msgspec.Struct):
        tag = type(value).__struct_config__.tag
        fields = [plain(getattr(value, name)) for name in type(value).__struct_fields__]
        return fields if tag is None else [tag, *fields]
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, int) and value > 2**53:
        return str(int(value))
    return int(value) if isinstance(value, int) else value


def wide(code: int, data: bytes) -> int:
    assert (code, len(data)) == (1, 16)
    return int.from_bytes(data, "big")


def independent(data: bytes) -> Any:
    """What the other MessagePack library reads."""
    return plain(msgpack.unpackb(data, ext_hook=wide, use_list=True))


@pytest.mark.parametrize("vector", WIRE, ids=lambda vector: vector["name"])
def test_a_message_of_version_1_is_read_and_written_the_same(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["frame"])
    message = decode(frame)
    assert type(message).__name__ == vector["name"].split(",")[0]
    assert plain(message) == vector["value"]
    assert encode(message) == frame
    assert independent(frame) == vector["value"]


def test_every_message_has_a_vector_and_a_number_of_its_own() -> None:
    assert PROTOCOL_VERSION == 1
    kinds = {kind.__name__: kind.__struct_config__.tag for kind in get_args(Message)}
    assert {vector["name"].split(",")[0] for vector in WIRE} == set(kinds)
    assert sorted(kinds.values()) == [*range(1, len(kinds) - 2), 48, 49, 50], "32 to 47 are the payment network's"
    assert {vector["name"].split(",")[0]: vector["value"][0] for vector in WIRE} == kinds


def stored(vector: dict[str, Any]) -> SimulatedStore:
    """A store in which a channel's row has these bytes."""
    state = bytes.fromhex(vector["state"])
    disk = SimulatedDisk([SCHEMA])
    disk.open()
    connection = sqlite3.connect(":memory:")
    connection.deserialize(disk.image())
    connection.execute("INSERT INTO channels (id, state) VALUES (?, ?)", (bytes.fromhex(vector["id"]), state))
    connection.commit()
    store = SimulatedDisk([SCHEMA], bytes(connection.serialize())).open()
    connection.close()
    return store


@pytest.mark.parametrize("vector", STORE, ids=lambda vector: vector["name"])
def test_a_channel_row_of_version_2_is_read_and_written_the_same(vector: dict[str, Any]) -> None:
    store, state = stored(vector), bytes.fromhex(vector["state"])
    (channel,) = load_channels(store)
    assert plain(channel) == vector["value"] == independent(state)
    store.commit([ChannelSaved(channel)])
    assert store.read(CHANNELS.tables[0].rows(columns="state")) == [(state,)]


@pytest.mark.parametrize("vector", OLD_STORE, ids=lambda vector: vector["name"])
def test_a_channel_row_of_version_1_is_read_with_the_reserve_that_was_agreed_then(vector: dict[str, Any]) -> None:
    store = stored(vector)
    (channel,) = load_channels(store)
    assert plain(channel)[:-3] == vector["value"] == independent(bytes.fromhex(vector["state"]))
    assert (channel.reserve_ppm, channel.counted, channel.heeded) == (0, 0, 0)
    assert channel.own_reserve(10**9) == channel.peer_reserve() == channel.reserve
    store.commit([ChannelSaved(channel)])
    assert load_channels(store) == [channel]


def test_numbers_on_disk_keep_their_meaning() -> None:
    assert [phase.name for phase in Phase] == [
        "OPENING", "OPEN", "FROZEN", "CLOSING", "CLOSED", "SETTLED", "GONE", "RECOVERING",
    ]  # fmt: skip
    assert [int(phase) for phase in Phase] == list(range(8))
    assert [(wish.name, int(wish)) for wish in CloseInitiator] == [("NONE", 0), ("PEER", 1), ("OWN", 2)]
    assert Channel.__struct_fields__[-4:] == ("flight", "reserve_ppm", "counted", "heeded")
