"""What the contract takes for a signature, and whose: compact (EIP-2098), with a low s, never the zero address's."""

from __future__ import annotations

import msgspec
import pytest

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import EvmReverted, calldata
from simulation.evm_adjudicator import SIGNATURE, TERMS
from simulation.evm_world import FAR, STRANGER, TOWER, EvmWorld
from tallystick.channels.protocol.eip712 import channel_id, digest_cooperative_close
from tallystick.channels.protocol.keys import keccak, with_recovery_id
from tallystick.channels.protocol.objects import CooperativeClose, Terms
from tallystick.settlement.chain import OpenCall
from tallystick.settlement.ethereum.abi import terms_values

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
TYPES = (TERMS, "uint128", "uint128", "uint64", SIGNATURE, SIGNATURE)


def signatures(world: EvmWorld) -> list[tuple[bytes, int, int]]:
    """Both signatures of a cooperative close: r, s and the bit that says which point."""
    close = CooperativeClose(world.channel.id, 600, 400, FAR)
    digest = digest_cooperative_close(world.contract.domain, close)
    found = []
    for key in world.channel.keys:
        full = with_recovery_id(digest, key.sign(digest), key.address)
        found.append((full[:32], int.from_bytes(full[32:64], "big"), full[64] - 27))
    return found


def close(world: EvmWorld, *pairs: tuple[bytes, int]) -> None:
    values = (terms_values(world.channel.terms), 600, 400, FAR, *pairs)
    world.evm.send(TOWER, world.at, calldata("cooperativeClose", TYPES, values))


@pytest.mark.parametrize("side", [0, 1])
def test_a_high_s_is_refused_although_the_precompile_takes_it(side: int) -> None:
    world = EvmWorld()
    world.open()
    right = [(r, s | odd << 255) for r, s, odd in signatures(world)]
    r, s, odd = signatures(world)[side]
    for wrong in (
        (r, (ORDER - s) | (1 - odd) << 255),
        (r, s | (1 - odd) << 255),
        (r, odd << 255),
        (bytes(32), s),
        (r, (s + 1) | odd << 255),
    ):
        pairs = [*right]
        pairs[side] = wrong
        with pytest.raises(EvmReverted, match="bad-signature"):
            close(world, *pairs)
    with pytest.raises(EvmReverted, match="bad-signature"):
        close(world, right[1], right[0])
    close(world, *right)


def test_nobody_signs_for_the_zero_address() -> None:
    """The precompile answers a broken signature by nothing, which reads as that address."""
    world = EvmWorld()
    fixture = ChannelFixture(contract=world.at)
    owner = world.parties[1]
    old = fixture.terms
    terms = Terms(old.chain_id, world.at, (type(owner)(bytes(20)), owner), old.asset, 0, PERIOD, old.close_hash)
    world.contract.know(terms)
    world.send(OpenCall(terms, 500), owner)
    close = CooperativeClose(channel_id(terms), 0, 500, FAR)
    digest = digest_cooperative_close(world.contract.domain, close)
    full = with_recovery_id(digest, fixture.keys[1].sign(digest), owner)
    right = (full[:32], int.from_bytes(full[32:64], "big") | (full[64] - 27) << 255)
    for nothing in ((bytes(32), 0), (bytes(32), 1), (b"\xff" * 32, 5)):
        values = (terms_values(terms), 0, 500, FAR, nothing, right)
        with pytest.raises(EvmReverted, match="bad-signature"):
            world.evm.send(owner, world.at, calldata("cooperativeClose", TYPES, values))


def test_wrong_terms_find_no_channel() -> None:
    world = EvmWorld()
    world.open()
    offer = world.channel.cooperative_close(600, 400, FAR)
    right = world.channel.terms
    for change in ({"challenge_period": PERIOD + 1}, {"close_hash": bytes(32)}, {"number": 1}):
        world.contract.terms[world.channel.id] = msgspec.structs.replace(right, **change)
        assert world.refused(offer) == "unknown-channel"
    world.contract.terms[world.channel.id] = right
    world.send(offer)


def test_a_signature_for_another_contract_counts_for_nothing() -> None:
    world, other = EvmWorld(), EvmWorld()
    world.open()
    foreign = ChannelFixture(contract=type(other.at)(keccak(b"elsewhere")[:20]))
    foreign.id = world.channel.id
    assert world.refused(foreign.cooperative_close(600, 400, FAR), STRANGER) == "bad-signature"
    assert world.refused(foreign.withdrawal(0, 5, FAR), STRANGER) == "bad-signature"
    world.send(world.channel.close(), world.parties[0])
    assert world.refused(foreign.challenge(foreign.proof(0, 1, 5)), STRANGER) == "bad-signature"
