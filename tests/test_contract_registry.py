"""Secrets and streams in the contract: a long chain can be registered in steps, and only a link of it."""

from __future__ import annotations

import hashlib

import pytest

from simulation.evm import GAS_LIMIT, EvmReverted, calldata
from simulation.evm_world import FAR, TOWER, EvmWorld
from tallystick.channels.limits import STREAM_LENGTH_MAX
from tallystick.channels.protocol.hashchain import StreamTerms, walk
from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.chain import LinkRegistered, RegisterLinkCall, RegisterSecretCall

SEED = keccak(b"the seed of a stream")
LENGTH = STREAM_LENGTH_MAX
TERMS = StreamTerms(walk(SEED, LENGTH), 7, LENGTH)
EXPIRY = 2_000_000


def link(depth: int, seed: bytes = SEED) -> RegisterLinkCall:
    return RegisterLinkCall(walk(seed, LENGTH - depth), depth, TERMS.tip, TERMS.unit, LENGTH, EXPIRY)


def worth(world: EvmWorld) -> int:
    data = calldata("streamWorth", ("bytes32",), (TERMS.condition(EXPIRY),))
    return int.from_bytes(world.evm.call(world.at, data), "big")


def checkpoint(world: EvmWorld) -> tuple[int, bytes]:
    answer = world.evm.call(world.at, calldata("streamCheckpoint", ("bytes32",), (TERMS.condition(EXPIRY),)))
    return int.from_bytes(answer[:32], "big"), answer[32:]


def gas_of(world: EvmWorld, call: RegisterLinkCall) -> int:
    data, _ = world.contract.encode(call)
    return world.evm.send(TOWER, world.at, data).gas


def test_the_longest_stream_is_registered_within_one_transaction() -> None:
    world = EvmWorld()
    assert gas_of(world, link(LENGTH)) < GAS_LIMIT
    assert worth(world) == LENGTH * 7


def test_a_link_need_only_lead_to_the_last_checkpoint() -> None:
    world = EvmWorld()
    assert world.send(link(30_000)) == (
        LinkRegistered(TERMS.condition(EXPIRY), link(30_000).link, 30_000, TERMS.tip, 7, LENGTH, world.evm.time),
    )
    assert checkpoint(world) == (30_000, link(30_000).link)
    for depth, kept in ((30_127, 30_000), (30_128, 30_128), (30_129, 30_128), (31_000, 31_000)):
        assert gas_of(world, link(depth)) < 300_000
        assert worth(world) == depth * 7
        assert checkpoint(world) == (kept, link(kept).link)
    assert gas_of(world, link(LENGTH)) < 8_000_000
    assert worth(world) == LENGTH * 7


def test_a_shallow_link_leaves_the_tip_as_the_end() -> None:
    world = EvmWorld()
    world.send(link(1))
    assert checkpoint(world) == (0, bytes(32))
    world.send(link(127))
    assert checkpoint(world) == (0, bytes(32))
    world.send(link(128))
    assert checkpoint(world) == (128, link(128).link)


def test_only_a_link_of_the_chain_and_a_deeper_one_is_taken() -> None:
    world = EvmWorld()
    world.send(link(500))
    assert world.refused(link(500)) == "not-newer"
    assert world.refused(link(499)) == "not-newer"
    assert world.refused(link(900, keccak(b"another"))) == "bad-proof"
    shifted = link(900)
    assert world.refused(RegisterLinkCall(shifted.link, 901, TERMS.tip, 7, LENGTH, EXPIRY)) == "bad-proof"
    assert world.refused(RegisterLinkCall(link(500).link, 501, TERMS.tip, 7, LENGTH, EXPIRY)) == "bad-proof"
    assert worth(world) == 3_500
    world.evm.time = EXPIRY + 1
    assert world.refused(link(900)) == "expired"


def test_streams_on_one_tip_with_other_terms_are_streams_of_their_own() -> None:
    world = EvmWorld()
    world.send(link(500))
    cheaper = RegisterLinkCall(link(3).link, 3, TERMS.tip, 1, LENGTH, EXPIRY)
    world.send(cheaper)
    assert worth(world) == 3_500


def test_a_secret_is_public_since_its_first_registration() -> None:
    world = EvmWorld()
    world.send(RegisterSecretCall(b"s" * 32))
    begun = world.evm.time
    world.evm.time += 5
    assert world.refused(RegisterSecretCall(b"s" * 32)) == "already-registered"
    data = calldata("secretTime", ("bytes32",), (hashlib.sha256(b"s" * 32).digest(),))
    assert int.from_bytes(world.evm.call(world.at, data), "big") == begun
    assert begun < FAR


def test_calldata_that_is_none_is_refused() -> None:
    world = EvmWorld()
    data, _ = world.contract.encode(RegisterSecretCall(b"s" * 32))
    for wrong in (data[:-1], data[:3], b"\xff" * 36):
        with pytest.raises(EvmReverted):
            world.evm.send(TOWER, world.at, wrong)
