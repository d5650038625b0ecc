"""Onions: BOLT 4's published vector, byte for byte, and what has to hold for every path."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidOnion
from tallystick.router.objects import NodeKey
from tallystick.router.onion.sphinx import AREA_SIZE, HMAC_SIZE, PACKET_SIZE, BuiltOnion, build_onion, peel, room
from tallystick.router.onion.tlv import encode_bigsize, read_bigsize

VECTORS = Path(__file__).parents[2] / "shared" / "vectors" / "bolt04-onion-test.json"

HOPS = [PrivateKey(bytes([0x41 + i]) * 32) for i in range(5)]
SESSION, ASSOCIATED = b"\x41" * 32, b"\x42" * 32
PAYLOADS = [
    bytes.fromhex(text)
    for text in (
        "02023a98040205dc06080000000000000001",
        "020236b00402057806080000000000000002fd02013c" + "0102030405060708090a0b0c0d0e0f" * 4,
        "020230d4040204e206080000000000000003",
        "02022710040203e806080000000000000004",
        "02022710040203e8082224a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f617042710fd012de0" + "2a" * 224,
    )
]
SECRETS = [
    "53eb63ea8a3fec3b3cd433b85cd62a4b145e1dda09391b348c4e1cd36a03ea66",
    "a6519e98832a0b179f62123b3567c106db99ee37bef036e783263602f3488fae",
    "3a6b412548762f0dbccce5c7ae7bb8147d1caf9b5471c34120b30bc9c04891cc",
    "21e13c2d7cfe7e18836df50872466117a295783ab8aab0e7ecc8c725503ad02d",
    "b5756b9b542727dbafc6765a49488b023a725d631af688fc031217e90770c328",
]

private_keys = st.integers(1, 2**250).map(lambda number: PrivateKey(number.to_bytes(32, "big")))
paths = st.lists(st.tuples(private_keys, st.binary(min_size=0, max_size=60)), min_size=1, max_size=13)


def keys_of(hops: list[PrivateKey]) -> list[NodeKey]:
    return [NodeKey(bytes(hop.public)) for hop in hops]


def build(hops: list[PrivateKey], payloads: list[bytes], associated: bytes = ASSOCIATED) -> BuiltOnion:
    return build_onion(SESSION, keys_of(hops), payloads, associated)


def test_the_published_secrets_and_packet() -> None:
    onion = build(HOPS, PAYLOADS)
    assert [secret.hex() for secret in onion.secrets] == SECRETS
    assert onion.packet[:40].hex() == (
        "0002eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619f7f3416a5aa3"
    )
    assert hashlib.sha256(onion.packet).hexdigest() == (
        "92e0742510440ed2368e1c03aed09d49a2e4cb4409c88ee0ad02a35c4a4b495a"
    )


def test_the_published_vector_file() -> None:
    if not VECTORS.exists():
        pytest.skip(f"{VECTORS} is not here")
    vector = json.loads(VECTORS.read_text())
    hops = [bytes.fromhex(hop["payload"]) for hop in vector["generate"]["hops"]]
    payloads = [framed[read_bigsize(framed, 0)[1] :] for framed in hops]
    path = [NodeKey(bytes.fromhex(hop["pubkey"])) for hop in vector["generate"]["hops"]]
    session, associated = (bytes.fromhex(vector["generate"][name]) for name in ("session_key", "associated_data"))
    onion = build_onion(session, path, payloads, associated)
    assert onion.packet.hex() == vector["onion"]
    packet: bytes | None = onion.packet
    for index, secret in enumerate(vector["decode"]):
        assert packet is not None
        peeled = peel(PrivateKey(bytes.fromhex(secret)), packet, associated)
        assert peeled.payload == payloads[index] and peeled.secret == onion.secrets[index]
        packet = peeled.next_packet
    assert packet is None


@given(paths, st.binary(min_size=32, max_size=32), st.binary(max_size=64))
def test_each_hop_reads_its_own_payload_and_no_length_tells_where_it_stands(
    path: list[tuple[PrivateKey, bytes]], session: bytes, associated: bytes
) -> None:
    session = hashlib.sha256(session).digest()
    onion = build_onion(session, keys_of([key for key, _ in path]), [data for _, data in path], associated)
    packet: bytes | None = onion.packet
    for (key, data), secret in zip(path, onion.secrets, strict=True):
        assert packet is not None and len(packet) == PACKET_SIZE
        peeled = peel(key, packet, associated)
        assert (peeled.payload, peeled.secret) == (data, secret)
        packet = peeled.next_packet
    assert packet is None


@given(st.integers(0, 4), st.integers(0, PACKET_SIZE * 8 - 1))
def test_a_flipped_bit_is_refused_by_the_hop_that_sees_it(hop: int, bit: int) -> None:
    packet = build(HOPS, PAYLOADS).packet
    for key in HOPS[:hop]:
        packet = peel(key, packet, ASSOCIATED).next_packet or b""
    broken = bytearray(packet)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidOnion) as caught:
        peel(HOPS[hop], bytes(broken), ASSOCIATED)
    expected = {
        0: {Code.INVALID_ONION_VERSION},
        1: {Code.INVALID_ONION_KEY, Code.INVALID_ONION_HMAC},
        2: {Code.INVALID_ONION_HMAC},
    }[0 if bit < 8 else 1 if bit < 34 * 8 else 2]
    assert caught.value.failure in expected


def test_an_onion_is_refused_for_another_payment_another_node_and_another_length() -> None:
    packet = build(HOPS, PAYLOADS).packet
    for key, data, associated, code in (
        (HOPS[0], packet, b"\x43" * 32, Code.INVALID_ONION_HMAC),
        (HOPS[1], packet, ASSOCIATED, Code.INVALID_ONION_HMAC),
        (HOPS[0], packet[:-1], ASSOCIATED, Code.INVALID_ONION_VERSION),
        (HOPS[0], b"", ASSOCIATED, Code.INVALID_ONION_VERSION),
        (HOPS[0], b"\x01" + packet[1:], ASSOCIATED, Code.INVALID_ONION_VERSION),
        (HOPS[0], packet[:1] + b"\x05" + packet[2:], ASSOCIATED, Code.INVALID_ONION_KEY),
    ):
        with pytest.raises(InvalidOnion) as caught:
            peel(key, data, associated)
        assert caught.value.failure == code and not caught.value.secret


def test_nothing_of_two_onions_is_the_same_under_two_session_keys() -> None:
    first = build_onion(b"\x01" * 32, keys_of(HOPS), PAYLOADS, ASSOCIATED)
    second = build_onion(b"\x02" * 32, keys_of(HOPS), PAYLOADS, ASSOCIATED)
    assert not set(first.secrets) & set(second.secrets)
    assert sum(a == b for a, b in zip(first.packet, second.packet, strict=True)) < 30


@pytest.mark.parametrize("size", [0, 1, 252, 253, 1_265])
def test_payloads_of_any_length_that_fits(size: int) -> None:
    payload = bytes(size)
    assert room([size]) == AREA_SIZE - len(encode_bigsize(size)) - size - HMAC_SIZE >= 0
    assert peel(HOPS[0], build(HOPS[:1], [payload]).packet, ASSOCIATED).payload == payload


def test_what_does_not_fit_is_refused_before_anything_is_built() -> None:
    with pytest.raises(InvalidInput, match="shorter route"):
        build(HOPS[:1], [bytes(1_266)])
    with pytest.raises(InvalidInput, match="shorter route"):
        build(HOPS, [bytes(228)] * 5)
    build(HOPS, [bytes(227)] * 5)
    with pytest.raises(InvalidInput, match="at least one hop"):
        build([], [])
    with pytest.raises(InvalidInput, match="payload for each"):
        build(HOPS, PAYLOADS[:4])
    with pytest.raises(InvalidInput, match="public key must be"):
        build_onion(SESSION, [NodeKey(bytes(33))], [b""], ASSOCIATED)


def test_a_payload_beyond_the_area_is_refused_and_only_the_payer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for lie, text in ((b"\xfd\x05\x00", "more than fit"), (b"\xfd\x00\x01", "fewest bytes"), (b"\xff" * 9, "more")):
        monkeypatch.setattr("tallystick.router.onion.sphinx.encode_bigsize", lambda size, lie=lie: lie)
        onion = build(HOPS[:1], [b"x"])
        with pytest.raises(InvalidOnion, match=text) as caught:
            peel(HOPS[0], onion.packet, ASSOCIATED)
        assert (caught.value.failure, caught.value.secret) == (Code.INVALID_ONION_PAYLOAD, onion.secrets[0])


def test_the_key_for_the_next_hop_is_the_blinded_one() -> None:
    onion = build(HOPS, PAYLOADS)
    following = peel(HOPS[0], onion.packet, ASSOCIATED).next_packet
    assert following is not None
    factor = hashlib.sha256(onion.packet[1:34] + onion.secrets[0]).digest()
    assert following[1:34] == coincurve.PrivateKey(SESSION).multiply(factor).public_key.format()
