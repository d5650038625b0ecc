"""Announcements: signed as EIP-712 says, bounded, bound to their chain; their messages are bounded too."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eth_account.messages import _hash_eip191_message, encode_typed_data  # isort: skip
from simulation.gossip_fixtures import CHAIN_ID, CONTRACT, DOMAIN, person
from tallystick.channels.errors import InvalidSignature, MalformedMessage
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.router.errors import GossipRefused
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import (
    ADDRESSES_MAX,
    TYPES,
    ChannelUpdate,
    Description,
    NodeAnnouncement,
    digest_of,
    replaces,
    sign_node,
    sign_update,
    verify_announcement,
)
from tallystick.router.gossip.reconciliation import BUCKETS, DIGEST_SIZE
from tallystick.router.objects import ForwardingPolicy, NodeKey

KEYS = st.binary(min_size=33, max_size=33).map(NodeKey)
TIMES = st.integers(0, 2**63 - 1)
AMOUNTS = st.integers(0, 2**128 - 1)
SMALL = st.integers(0, 2**32 - 1)
POLICIES = st.builds(
    ForwardingPolicy,
    base_fee=AMOUNTS,
    fee_ppm=SMALL,
    minimum=AMOUNTS,
    maximum=AMOUNTS,
    margin=SMALL,
    enabled=st.booleans(),
)
CHANNELS = st.binary(min_size=32, max_size=32).map(ChannelId)
HOSTS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
ADDRESSES = st.builds(lambda host, port: f"{host}:{port}", HOSTS, st.integers(1, 65_535))
ALIASES = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
CHANNEL = ChannelId(bytes([9]) * 32)


def official(kind: str, values: dict[str, Any]) -> bytes:
    domain = {
        "name": "Tallystick",
        "version": "1",
        "chainId": CHAIN_ID,
        "verifyingContract": "0x" + CONTRACT.hex(),
    }
    return bytes(_hash_eip191_message(encode_typed_data(domain, {kind: TYPES[kind]}, values)))


@given(CHANNELS, st.integers(0, 1), KEYS, TIMES, POLICIES)
@settings(max_examples=60, deadline=None)
def test_the_digest_of_an_update_is_that_of_eip712(
    channel: ChannelId, side: int, key: NodeKey, time: int, policy: ForwardingPolicy
) -> None:
    names = [field["name"] for field in TYPES["ChannelUpdate"]]
    values = dict(zip(names, (channel, side, key, time, *msgspec.structs.astuple(policy)), strict=True))
    assert digest_of(DOMAIN, ChannelUpdate(channel, side, key, time, policy)) == official("ChannelUpdate", values)


@given(KEYS, TIMES, ALIASES, st.lists(ADDRESSES, max_size=ADDRESSES_MAX), st.binary(max_size=32))
@settings(max_examples=60, deadline=None)
def test_the_digest_of_a_node_is_that_of_eip712(
    key: NodeKey, time: int, alias: str, addresses: list[str], features: bytes
) -> None:
    names = [field["name"] for field in TYPES["NodeAnnouncement"]]
    values = dict(zip(names, (key, time, alias, addresses, features), strict=True))
    node = NodeAnnouncement(key, time, alias, tuple(addresses), features)
    assert digest_of(DOMAIN, node) == official("NodeAnnouncement", values)


def test_a_signature_covers_every_field_and_the_chain() -> None:
    update = sign_update(person(1), DOMAIN, CHANNEL, 0, 5, ForwardingPolicy(base_fee=1))
    verify_announcement(update, digest_of(DOMAIN, update))
    others: list[dict[str, Any]] = [
        {"channel": ChannelId(bytes(32))},
        {"side": 1},
        {"key": NodeKey(bytes(person(2).public))},
        {"timestamp": 6},
        {"policy": ForwardingPolicy(base_fee=2)},
        {"signature": bytes(64)},
    ]
    for other in others:
        forged = msgspec.structs.replace(update, **other)
        with pytest.raises(InvalidSignature):
            verify_announcement(forged, digest_of(DOMAIN, forged))
    elsewhere = domain_separator(CHAIN_ID, Address(bytes(20)))
    with pytest.raises(InvalidSignature):
        verify_announcement(update, digest_of(elsewhere, update))


@pytest.mark.parametrize("alias", ["a" * 33, "ä" * 17, "line\nbreak", "bell\a", "\u202eevil"])
def test_an_alias_that_is_too_long_or_not_printable_is_refused(alias: str) -> None:
    with pytest.raises(GossipRefused, match="alias"):
        sign_node(person(1), DOMAIN, 1, Description(alias))


@pytest.mark.parametrize("address", ["nowhere", "host:", "host:0", "host:65536", "ho st:1", ":1", "h" * 256 + ":1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(GossipRefused, match="address"):
        sign_node(person(1), DOMAIN, 1, Description(addresses=(address,)))


@pytest.mark.parametrize("policy", [{"base_fee": 2**128}, {"fee_ppm": 2**32}, {"margin": 2**32}, {"minimum": -1}])
def test_a_policy_out_of_bounds_is_refused(policy: dict[str, int]) -> None:
    with pytest.raises(GossipRefused, match="policy"):
        sign_update(person(1), DOMAIN, CHANNEL, 0, 1, ForwardingPolicy(**policy))


def test_a_key_that_is_no_point_is_refused() -> None:
    update = ChannelUpdate(CHANNEL, 0, NodeKey(b"\x02" + bytes([255]) * 32), 1, ForwardingPolicy())
    with pytest.raises(GossipRefused, match="key"):
        verify_announcement(update, digest_of(DOMAIN, update))


@given(TIMES, CHANNELS, TIMES, CHANNELS)
def test_of_two_versions_exactly_one_stands(first: int, digest: bytes, second: int, other: bytes) -> None:
    if (first, digest) != (second, other):
        assert replaces(first, digest, second, other) is not replaces(second, other, first, digest)
    assert not replaces(first, digest, first, digest)


MESSAGES: list[wire.Message] = [
    wire.Updates((sign_update(person(1), DOMAIN, CHANNEL, 1, 5, ForwardingPolicy(maximum=2**127)),)),
    wire.Nodes((sign_node(person(1), DOMAIN, 6, Description("Ann's", addresses=("[::1]:5",), features=b"\1")),)),
    wire.Query(1),
    wire.Summary(2, bytes(BUCKETS * DIGEST_SIZE)),
    wire.Fill(3, BUCKETS - 1, bytes(16)),
    wire.Filled(4, 0),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_survive_the_wire_and_their_numbers_are_the_routers(message: wire.Message) -> None:
    frame = wire.encode(message)
    assert wire.decode(frame) == message
    assert frame[1] in wire.TAGS or frame[2] in wire.TAGS


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        wire.encode(wire.Query(1))[:-1],
        msgspec.msgpack.encode([36, 1, BUCKETS, b""]),
        msgspec.msgpack.encode([36, 1, 1, bytes(7)]),
        msgspec.msgpack.encode([36, 1, 1, bytes(60_008)]),
        msgspec.msgpack.encode([35, 1, bytes(15)]),
        msgspec.msgpack.encode([34, -1]),
        msgspec.msgpack.encode([34, 1, 1]),
        msgspec.msgpack.encode([38, 1]),
        msgspec.msgpack.encode([32, [sign_update(person(1), DOMAIN, CHANNEL, 1, 5, ForwardingPolicy())] * 129]),
        bytes(70_000),
    ],
)
def test_what_is_no_message_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedMessage):
        wire.decode(frame)


@given(st.binary(max_size=200))
def test_junk_is_malformed_and_nothing_else(junk: bytes) -> None:
    try:
        wire.decode(junk)
    except MalformedMessage:
        return
    assert wire.encode(wire.decode(junk))


def test_the_largest_announcements_fit_into_frames() -> None:
    policy = ForwardingPolicy(
        base_fee=2**128 - 1, fee_ppm=2**32 - 1, minimum=2**128 - 1, maximum=2**128 - 1, margin=2**32 - 1
    )
    update = sign_update(person(1), DOMAIN, CHANNEL, 1, 2**63 - 1, policy)
    addresses = ("h" * 255 + ":65535",) * ADDRESSES_MAX
    node = sign_node(person(1), DOMAIN, 2**63 - 1, Description("a" * 32, addresses=addresses, features=bytes(32)))
    frames = wire.frames([node] * 60 + [update] * 300)
    messages = [wire.decode(frame) for frame in frames]
    assert max(map(len, frames)) < 32_000
    assert sum(len(m.updates) for m in messages if isinstance(m, wire.Updates)) == 300
    assert sum(len(m.nodes) for m in messages if isinstance(m, wire.Nodes)) == 60
