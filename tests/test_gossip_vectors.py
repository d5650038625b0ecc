"""The messages of gossip, kept for ever: what was written is read, written the same, and signed by whom it says."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from test_codec_vectors import VECTORS, independent, plain

from simulation.gossip_fixtures import DOMAIN
from tallystick.channels.errors import InvalidSignature
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import Announcement, digest_of, verify_announcement

WIRE: list[dict[str, Any]] = json.loads((VECTORS / "gossip-v1.json").read_text())["messages"]


def announced(message: wire.Message) -> tuple[Announcement, ...]:
    """Return the announcements in a message."""
    match message:
        case wire.Updates():
            return message.updates
        case wire.Nodes():
            return message.nodes
        case wire.Markets():
            return message.markets
    return ()


@pytest.mark.parametrize("vector", WIRE, ids=lambda vector: vector["name"])
def test_a_message_of_gossip_is_read_written_the_same_and_signed(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["frame"])
    message = wire.decode(frame)
    assert type(message).__name__ == vector["name"].split(",")[0]
    assert plain(message) == vector["value"] == independent(frame)
    assert wire.encode(message) == frame
    for announcement in announced(message):
        digest = digest_of(DOMAIN, announcement)
        assert digest.hex() in vector["digests"], "what is signed is part of the format"
        verify_announcement(announcement, digest)
        with pytest.raises(InvalidSignature):
            verify_announcement(announcement, digest_of(bytes(32), announcement))
    assert len(vector["digests"]) == len(announced(message))


def test_every_message_of_gossip_has_a_vector() -> None:
    kinds = {kind.__name__: kind.__struct_config__.tag for kind in get_args(wire.Message)}
    assert {vector["name"].split(",")[0]: vector["value"][0] for vector in WIRE} == kinds
    assert sorted(kinds.values()) == [*range(32, 38), 43], "38 to 42 are others'"
