"""What a payer makes of failures: a node's word about its neighbour counts only as far as it can be checked."""

from __future__ import annotations

import hashlib

import pytest

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.codes import Code
from tallystick.router.objects import NodeKey
from tallystick.router.onion.failures import Failure, first_wrap, notice, wrap
from tallystick.router.onion.payload import FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import BuiltOnion, build_onion, onions_of, peel
from tallystick.router.sending.attribution import Attribution, PartFailure, attribution_of

KEYS = [PrivateKey(bytes([number]) * 32) for number in (1, 2, 3)]
CONDITION = b"\x2a" * 32
BAD = [Code.INVALID_ONION_VERSION, Code.INVALID_ONION_HMAC, Code.INVALID_ONION_KEY]


def built() -> BuiltOnion:
    forward = encode_payload(ForwardPayload(1_000, 10**9, ChannelId(b"\x07" * 32)))
    payloads = [forward, forward, encode_payload(FinalPayload(1_000, 10**9, bytes(32), 1_000))]
    return build_onion(b"\x11" * 32, [NodeKey(bytes(key.public)) for key in KEYS], payloads, CONDITION)


ONION = built()


def received() -> list[bytes]:
    """What each hop really gets, peeled by those before it."""
    packets = [ONION.packet]
    for key in KEYS[:-1]:
        packets.append(peel(key, packets[-1], CONDITION).next_packet or b"")
    return packets


def told(hop: int, code: Code, packet: bytes) -> bytes:
    """The reason as it reaches the payer if `hop` says of the next one that it could not open `packet`."""
    reason = first_wrap(ONION.secrets[hop], Failure(code, onion_hash=hashlib.sha256(packet).digest()))
    for before in reversed(range(hop)):
        reason = wrap(ONION.secrets[before], reason)
    return reason


def blame(reason: bytes, onion: BuiltOnion = ONION) -> tuple[Attribution, int]:
    found: PartFailure = attribution_of(onion, reason)
    return found.attribution, found.at


def test_a_payer_knows_what_each_hop_must_have_received() -> None:
    assert list(onions_of(ONION)) == received()


@pytest.mark.parametrize("code", BAD)
def test_a_peer_that_says_it_cannot_open_what_we_sent_blames_itself(code: Code) -> None:
    for packet in (ONION.packet, b"another one"):
        assert blame(notice(code, packet)) == (Attribution.NODE, 0), "nobody but the peer has touched that onion"


@pytest.mark.parametrize("code", BAD)
@pytest.mark.parametrize("hop", [0, 1])
def test_a_node_that_passed_the_right_onion_on_is_believed_that_the_next_one_did_not_open_it(
    code: Code, hop: int
) -> None:
    assert blame(told(hop, code, received()[hop + 1])) == (Attribution.CHANNEL, hop)


@pytest.mark.parametrize("code", BAD)
@pytest.mark.parametrize("hop", [0, 1])
@pytest.mark.parametrize("packet", [b"damaged", received()[0]])
def test_a_node_that_names_another_onion_than_the_next_one_must_have_got_blames_itself(
    code: Code, hop: int, packet: bytes
) -> None:
    assert blame(told(hop, code, packet)) == (Attribution.NODE, hop), "it damaged the onion, or made the failure up"


def test_a_payee_has_nobody_behind_it_to_blame() -> None:
    assert blame(told(2, Code.INVALID_ONION_HMAC, b"no next one"))[0] is Attribution.REFUSED


def test_what_cannot_be_checked_after_a_restart_is_not_believed() -> None:
    forgotten = BuiltOnion(b"", ONION.secrets)
    assert blame(told(0, Code.INVALID_ONION_HMAC, received()[1]), forgotten) == (Attribution.NODE, 0)
