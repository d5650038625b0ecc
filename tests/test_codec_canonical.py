"""One value, one encoding: what is not written in that one way is refused, whoever wrote it and wherever it is read.

The codecs are found by looking through all modules, so that a new one is tested too. Their values are drawn from their
types; their encodings are then written in every other way that MessagePack knows.
"""

from __future__ import annotations

import base64
import importlib
import math
import pkgutil
import random
import struct
from contextlib import suppress
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

import tallystick
from tallystick.channels.errors import InvalidInput, MalformedMessage, TallystickError
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.codec import WIDE_INTEGER, Codec
from tallystick.channels.protocol.messages import Ping, Update, decode, encode
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.protocol.operations import Pay


def find_codecs() -> dict[str, Codec[Any]]:
    found: dict[str, Codec[Any]] = {}
    for part in ("channels", "settlement", "watchtower", "router", "paid", "sdk"):
        package = importlib.import_module(f"{tallystick.__name__}.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__"):
                continue
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, Codec) and value not in found.values():
                    found[f"{module.name.removeprefix('tallystick.')}.{name}"] = value
    return found


CODECS = find_codecs()

TRIES = 10_000
"""Draws until one is a value that can be."""


SIZES = {
    **dict.fromkeys(("participants", "contract", "asset", "account", "players", "assets"), 20),
    **dict.fromkeys(("close_hash", "tip", "app", "start"), 32),
    "key": 33,
}
"""Bytes that fields have which their types leave open."""

DEEP = 5
"""Structs within structs from which on lists are as short as they may be: a type that holds itself would not end."""


def value_of(kind: inspect.Type, rng: random.Random, name: str = "", depth: int = 0) -> Any:
    """Return something that fits a type of msgspec's, its bounds kept."""
    match kind:
        case inspect.IntType():
            low = kind.ge if kind.ge is not None else 0 if kind.gt is None else kind.gt + 1
            high = kind.le if kind.le is not None else AMOUNT_MAX
            return rng.randint(low, min(high, rng.choice([low + 5, UINT64_MAX, high])))
        case inspect.FloatType():
            return rng.choice([0.0, 1.5, rng.random() * 1e10, math.inf, 2.0**60])
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.StrType():
            return "".join(rng.choices("ab=é\0𝄞", k=rng.randrange(min(kind.max_length or 8, 8) + 1)))
        case inspect.BytesType():
            low, high = kind.min_length or 0, kind.max_length if kind.max_length is not None else 40
            return rng.randbytes(SIZES.get(name, rng.randint(low, min(high, low + 40))))
        case inspect.NoneType():
            return None
        case inspect.EnumType():
            return rng.choice(list(kind.cls))
        case inspect.UnionType():
            return value_of(rng.choice(kind.types), rng, name, depth)
        case inspect.VarTupleType() | inspect.ListType():
            low = kind.min_length or 0
            most = low + 2 if depth < DEEP else low
            items = [value_of(kind.item_type, rng, name, depth) for _ in range(rng.randint(low, most))]
            return tuple(items) if isinstance(kind, inspect.VarTupleType) else items
        case inspect.TupleType():
            return tuple(value_of(item, rng, name, depth) for item in kind.item_types)
        case inspect.DictType():
            many = rng.randrange(3) if depth < DEEP else 0
            return {
                value_of(kind.key_type, rng, depth=depth): value_of(kind.value_type, rng, depth=depth)
                for _ in range(many)
            }
        case inspect.StructType():
            for _ in range(TRIES):
                with suppress(TallystickError):
                    return kind.cls(
                        **{field.name: value_of(field.type, rng, field.name, depth + 1) for field in kind.fields}
                    )
        case inspect.Metadata():
            return value_of(kind.type, rng, name, depth)
    raise NotImplementedError(f"say what values {kind} has")


def wide(value: Any) -> Any:
    """Read MessagePack into builtins; integers beyond 64 bits are numbers again, maps lists of pairs."""
    extension = {"ext_hook": lambda code, data: int.from_bytes(data, "big")}
    return msgpack.unpackb(value, strict_map_key=False, object_pairs_hook=Pairs, **extension)


class Pairs(list[tuple[Any, Any]]):
    """A map as it stands on the wire."""


def otherwise(value: Any, rng: random.Random) -> bytes:
    """Write a value in MessagePack with one thing of it written in a way that is not its own, if there is any."""
    count = places(value)
    chosen = rng.randrange(count)
    return bytes(write(value, [chosen], rng))


def places(value: Any) -> int:
    inner = [part for pair in value for part in pair] if isinstance(value, Pairs) else value
    return 1 + (sum(map(places, inner)) if isinstance(inner, (list, tuple)) else 0)


def write(value: Any, chosen: list[int], rng: random.Random) -> bytes:
    other, chosen[0] = chosen[0] == 0, chosen[0] - 1
    if isinstance(value, Pairs):
        body = [write(key, chosen, rng) + write(item, chosen, rng) for key, item in value]
        if other and body and rng.random() < 0.5:  # a key that comes twice
            body.append(body[0])
            other = False
        size = len(body)
        return (b"\xdf" + struct.pack(">I", size) if other else map_head(size)) + b"".join(body)
    if isinstance(value, (list, tuple)):
        body = [write(item, chosen, rng) for item in value]
        if other and body and rng.random() < 0.5:
            body, other = body[:-1], False
        size = len(body)
        return (b"\xdd" + struct.pack(">I", size) if other else array_head(size)) + b"".join(body)
    if not other:
        return pack(value)
    if isinstance(value, bytes):
        text = base64.b64encode(value).decode()
        return rng.choice([b"\xc6" + struct.pack(">I", len(value)) + value, pack(text)])
    if isinstance(value, str):
        raw = value.encode()
        return rng.choice([b"\xdb" + struct.pack(">I", len(raw)) + raw, pack(raw)])
    if isinstance(value, bool):
        return pack(int(value))
    if isinstance(value, int):
        ways = [b"\xd8" + bytes([WIDE_INTEGER]) + value.to_bytes(16, "big", signed=value < 0)]
        if value <= UINT64_MAX:
            ways += [b"\xcf" + struct.pack(">Q", value)] if value >= 0 else []
            ways += [pack(float(value)), pack(value == 1)]
        return rng.choice(ways)
    if isinstance(value, float):
        return b"\xca" + struct.pack(">f", value if math.isfinite(value) and abs(value) < 3e38 else 0.0)
    return b"\x00"  # for nil


def pack(value: Any) -> bytes:
    if isinstance(value, int) and not isinstance(value, bool) and value > UINT64_MAX:
        return msgspec.msgpack.encode(msgspec.msgpack.Ext(WIDE_INTEGER, value.to_bytes(16, "big")))
    return msgspec.msgpack.encode(value)


def array_head(size: int) -> bytes:
    return msgpack.Packer(autoreset=True).pack_array_header(size)


def map_head(size: int) -> bytes:
    return msgpack.Packer(autoreset=True).pack_map_header(size)


def draw_value(codec: Codec[Any], rng: random.Random) -> Any:
    for _ in range(TRIES):
        value = value_of(inspect.type_info(codec.kind), rng)
        with suppress(InvalidInput):
            codec.encode(value)
            return value
    raise NotImplementedError("say how to make a value that can be")


@pytest.mark.parametrize("name", CODECS)
@given(rng=st.randoms(use_true_random=True))
@settings(max_examples=60, deadline=None)
def test_no_value_has_a_second_encoding(name: str, rng: random.Random) -> None:
    codec = CODECS[name]
    value = draw_value(codec, rng)
    encoded = codec.encode(value)
    assert codec.decode(encoded) == value
    other = otherwise(wide(encoded), rng)
    try:
        read = codec.decode(other)
    except MalformedMessage:
        return
    if codec.canonical:
        assert codec.encode(read) == other
    else:  # a row of an older version may lack fields; but nothing is taken for what it is not
        assert type(read) is type(value)
        assert_typed(read, inspect.type_info(codec.kind))


def assert_typed(value: Any, kind: inspect.Type) -> None:
    match kind:
        case inspect.IntType():
            assert type(value) is int
        case inspect.BytesType():
            assert type(value) is bytes
        case inspect.StructType():
            for field in kind.fields:
                assert_typed(getattr(value, field.encode_name), field.type)


def test_text_is_never_read_as_bytes() -> None:
    memo = [6, b"c" * 32, 1, 0, [[1, 0, [5], ["tea1"]]], bytes(64)]
    for amount in (5, 2**64):  # a wide number sends the whole message down the other way
        memo[4] = [[1, 0, [amount], ["tea1"]]]
        packed = msgpack.packb(memo, default=lambda number: msgpack.ExtType(1, number.to_bytes(16, "big")))
        with pytest.raises(MalformedMessage):
            decode(packed)


def test_text_in_a_row_of_a_store_is_never_read_as_bytes() -> None:
    row: Codec[tuple[bytes, int]] = Codec(tuple[bytes, int], canonical=False)
    for number in (5, 2**64):
        wide_number = msgpack.packb(number, default=lambda value: msgpack.ExtType(1, value.to_bytes(16, "big")))
        assert row.decode(b"\x92" + msgpack.packb(b"tea1") + wide_number) == (b"tea1", number)
        with pytest.raises(MalformedMessage):
            row.decode(b"\x92" + msgpack.packb("tea1") + wide_number)


WRONG = {
    "text for bytes": Update(ChannelId(b"c" * 32), 1, 0, (Pay(0, (5,), ("tea1",)),), bytes(64)),  # type: ignore[arg-type]
    "text that is no base64": Update(ChannelId(b"c" * 32), 1, 0, (Pay(0, (5,), ("order 17",)),), bytes(64)),  # type: ignore[arg-type]
    "a list for bytes": Update(ChannelId(b"c" * 32), 1, 0, (Pay(0, (5,), ([1, 2],)),), bytes(64)),  # type: ignore[arg-type]
    "a fraction": Update(ChannelId(b"c" * 32), 1, 0, (Pay(0, (2.5,)),), bytes(64)),  # type: ignore[arg-type]
    "a whole number as a fraction": Update(ChannelId(b"c" * 32), 1, 0, (Pay(0, (2.0,)),), bytes(64)),  # type: ignore[arg-type]
    "true": Ping(True),
    "out of bounds": Update(ChannelId(b"c" * 32), 1, 0, (Pay(0, (0,)),), bytes(64)),
    "beyond 128 bits": Ping(2**128),
    "below 64 bits": Ping(-(2**70)),
    "a lone surrogate": Ping("\ud800"),  # type: ignore[arg-type]
    "an object": Ping(object()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("message", WRONG.values(), ids=WRONG)
def test_nothing_is_written_that_would_be_read_as_something_else(message: Any) -> None:
    with pytest.raises(InvalidInput):
        encode(message)


def test_every_place_that_decodes_is_here() -> None:
    assert len(CODECS) >= 18 and {"channels.protocol.messages._CODEC", "router.gossip.wire._CODEC"} <= CODECS.keys()
