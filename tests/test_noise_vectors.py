"""BOLT 8's own test vectors, appendix A. The figures of the success cases stand here; the rest is read as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tallystick.channels.errors import HandshakeFailed
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.transport.noise import Decryptor, Encryptor, Initiator, NoiseSession, Responder

VECTORS = Path(__file__).parents[2] / "shared" / "vectors" / "bolt08-handshake.json"

ALICE, ALICE_EPHEMERAL = PrivateKey(b"\x11" * 32), PrivateKey(b"\x12" * 32)
BOB, BOB_EPHEMERAL = PrivateKey(b"\x21" * 32), PrivateKey(b"\x22" * 32)
ACT_ONE = bytes.fromhex(
    "00036360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c6a"
)
ACT_TWO = bytes.fromhex(
    "0002466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730ae"
)
ACT_THREE = bytes.fromhex(
    "00b9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c46"
    "6263b47fdf31e560e139ba"
)
CHAINING = bytes.fromhex("919219dbb2920afa8db80f9a51787a840bcf111ed8d588caf9ab4be716e42b01")
INITIATOR_SENDS = bytes.fromhex("969ab31b4d288cedf6218839b27a3e2140827047f2c0f01bf5c04435d43511a9")
RESPONDER_SENDS = bytes.fromhex("bb9020b8965f4df047e07f955f3c4b88418984aadc5cdb35096b9ea8fa5c3442")

FRAMES = {
    0: "cf2b30ddf0cf3f80e7c35a6e6730b59fe802473180f396d88a8fb0db8cbcf25d2f214cf9ea1d95",
    1: "72887022101f0b6753e0c7de21657d35a4cb2a1f5cde2650528bbc8f837d0f0d7ad833b1a256a1",
    500: "178cb9d7387190fa34db9c2d50027d21793c9bc2d40b1e14dcf30ebeeeb220f48364f7a4c68bf8",
    501: "1b186c57d44eb6de4c057c49940d79bb838a145cb528d6e8fd26dbe50a60ca2c104b56b60e45bd",
    1000: "4a2f3cc3b5e78ddb83dcb426d9863d9d9a723b0337c89dd0b005d89f8d3c05c52b76b29b740f09",
    1001: "2ecd8c8a5629d0d02ab457a0fdd0f7b90a192cd46be5ecb6ca570bfc5e268338b1a16cf4ef2d36",
}


def has_keys(session: NoiseSession, sending: bytes, receiving: bytes) -> bool:
    """Whether a session encrypts with one key and decrypts with the other, across a rotation."""
    messages = [b"hello"] * 1001
    sent = session.encrypt_all(messages) == Encryptor(CHAINING, sending).encrypt_all(messages)
    return sent and session.feed(Encryptor(CHAINING, receiving).encrypt_all(messages)) == messages


def test_initiator_makes_the_published_handshake() -> None:
    handshake = Initiator(ALICE, BOB.public, ALICE_EPHEMERAL)
    assert handshake.act_one == ACT_ONE
    act_three, session = handshake.read_act_two(ACT_TWO)
    assert act_three == ACT_THREE
    assert session.peer == BOB.public
    assert has_keys(session, INITIATOR_SENDS, RESPONDER_SENDS)


def test_responder_makes_the_published_handshake() -> None:
    handshake = Responder(BOB, BOB_EPHEMERAL)
    assert handshake.read_act_one(ACT_ONE) == ACT_TWO
    session = handshake.read_act_three(ACT_THREE)
    assert session.peer == ALICE.public
    assert has_keys(session, RESPONDER_SENDS, INITIATOR_SENDS)


def test_frames_are_the_published_ones_across_two_key_rotations() -> None:
    encryptor = Encryptor(CHAINING, INITIATOR_SENDS)
    frames = [encryptor.encrypt_all([b"hello"]) for _ in range(1002)]
    assert {number: frames[number].hex() for number in FRAMES} == FRAMES
    assert Decryptor(CHAINING, INITIATOR_SENDS).feed(b"".join(frames)) == [b"hello"] * 1002


def cases() -> list[dict[str, Any]]:
    """The published cases; none where the data is not there."""
    if not VECTORS.exists():
        return []
    found: list[dict[str, Any]] = json.loads(VECTORS.read_text())["cases"]
    return found


def play(case: dict[str, Any]) -> list[str]:
    """Give a case's inputs to the side it is about; return what that side answers, in the data's words."""
    inputs = [bytes.fromhex(step["input"]) for step in case["steps"] if "input" in step]
    key, ephemeral = PrivateKey(bytes.fromhex(case["ls_priv"])), PrivateKey(bytes.fromhex(case["e_priv"]))
    answers = []
    try:
        if "initiator" in case["name"]:
            initiator = Initiator(key, PublicKey(bytes.fromhex(case["rs_pub"])), ephemeral)
            answers.append(initiator.act_one.hex())
            act_three, session = initiator.read_act_two(inputs[0])
            answers.append(act_three.hex())
            order = "sk,rk"
        else:
            responder = Responder(key, ephemeral)
            answers.append(responder.read_act_one(inputs[0]).hex())
            session = responder.read_act_three(inputs[1])
            order = "rk,sk"
    except HandshakeFailed:
        return [*answers, "ERROR"]
    keys = (INITIATOR_SENDS, RESPONDER_SENDS) if order == "sk,rk" else (RESPONDER_SENDS, INITIATOR_SENDS)
    if has_keys(session, *keys):
        answers.append(f"{order}={INITIATOR_SENDS.hex()},{RESPONDER_SENDS.hex()}")
    return answers


@pytest.mark.skipif(not VECTORS.exists(), reason="the published vectors are not beside the project (../shared/vectors)")
def test_the_published_cases_are_all_there() -> None:
    names = [case["name"] for case in cases()]
    assert len(names) == 15
    assert sum("successful" not in name for name in names) == 13


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"].replace(" ", "-"))
def test_every_published_case_ends_as_published(case: dict[str, Any]) -> None:
    expected = [step["output"].partition(" (")[0] for step in case["steps"] if "output" in step]
    assert play(case) == expected
