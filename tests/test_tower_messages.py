"""What client and tower say to each other, byte for byte, for ever: what was written is read and written the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from test_codec_vectors import independent, plain

from tallystick.watchtower.messages import Message, decode, encode

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors" / "tower-v1.json").read_text())[
    "messages"
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_message_of_version_1_is_read_and_written_the_same(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["frame"])
    message = decode(frame)
    assert type(message).__name__ == vector["name"].split(",")[0]
    assert plain(message) == vector["value"] == independent(frame)
    assert encode(message) == frame


def test_every_message_has_a_vector_and_a_number_of_its_own() -> None:
    kinds = {kind.__name__: kind.__struct_config__.tag for kind in get_args(Message)}
    assert sorted(kinds.values()) == [*range(64, 64 + len(kinds))]
    assert {vector["name"].split(",")[0]: vector["value"][0] for vector in VECTORS} == kinds
