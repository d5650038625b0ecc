"""What was signed counts where, when and as what it was signed, and once: attacks by replay on the contract."""

from __future__ import annotations

import msgspec
import pytest

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import EvmReverted, calldata
from simulation.evm_adjudicator import TERMS, EvmAdjudicator
from simulation.evm_twins import Twins
from simulation.evm_world import FAR, STRANGER, TOWER, EvmWorld
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.objects import NATIVE, BalanceProof
from tallystick.contracts import creation_code
from tallystick.settlement.chain import (
    Call,
    Challenged,
    DepositCall,
    OpenCall,
    SettleCall,
)
from tallystick.settlement.ethereum.abi import terms_values


def replayed(old: ChannelFixture, new: ChannelFixture) -> list[Call]:
    """All that both signed for one channel, handed in for another."""
    withdrawal, close = old.withdrawal(0, 5, FAR), old.cooperative_close(600, 400, FAR)
    proof = old.proof(1, 3, 50)
    moved = msgspec.structs.replace(proof, proof=msgspec.structs.replace(proof.proof, channel=new.id))
    return [
        msgspec.structs.replace(withdrawal, withdrawal=msgspec.structs.replace(withdrawal.withdrawal, channel=new.id)),
        msgspec.structs.replace(close, close=msgspec.structs.replace(close.close, channel=new.id)),
        new.close(None, moved),
    ]


def test_what_was_signed_for_a_channel_counts_in_no_later_one_of_the_same_pair() -> None:
    world = EvmWorld()
    old = world.open()
    world.send(old.cooperative_close(600, 400, FAR))
    new = world.open()
    for call in replayed(old, new):
        assert world.refused(call, world.parties[0]) == "bad-signature"
    world.send(new.close(), world.parties[0])
    right, foreign = new.proof(1, 1, 5), old.challenge(old.proof(1, 1, 5), tower=TOWER, victim=1)
    assert foreign.voucher is not None
    voucher = msgspec.structs.replace(foreign.voucher, channel=new.id)
    for call in (
        msgspec.structs.replace(foreign, voucher=voucher, proof=right),
        msgspec.structs.replace(new.challenge(right, tower=TOWER, victim=1), proof=replayed(old, new)[2].proof1),
        new.challenge(right, tower=TOWER, victim=0),  # the closer's own voucher
    ):
        assert world.refused(call) == "bad-signature"
    world.send(new.challenge(right, tower=TOWER, victim=1))


@pytest.mark.parametrize("field", ["chain_id", "asset"])
def test_what_was_signed_for_another_chain_or_another_asset_counts_for_nothing(field: str) -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    other = ChannelFixture(
        asset=NATIVE if field == "asset" else world.asset,
        chain_id=1 if field == "chain_id" else 1337,
        contract=world.at,
    )
    for call in replayed(other, world.channel):
        assert world.refused(call, world.parties[0]) == "bad-signature"


def test_a_proof_of_one_simplex_is_none_of_the_other_and_needs_both_signatures() -> None:
    world = EvmWorld()
    channel = world.open()
    good = channel.proof(1, 1, 100)
    other_way = channel.sign(BalanceProof(channel.id, 0, 1, 100, 0, bytes(32), 0))
    crossed = msgspec.structs.replace(good, signature=good.countersignature, countersignature=good.signature)
    alone = msgspec.structs.replace(good, countersignature=good.signature)
    twice = msgspec.structs.replace(good, signature=good.countersignature)
    renamed = msgspec.structs.replace(
        other_way, proof=good.proof, signature=other_way.countersignature, countersignature=other_way.signature
    )
    for wrong in (crossed, alone, twice, renamed):
        assert world.refused(channel.close(None, wrong), world.parties[0]) == "bad-signature"
    bytes_of = world.contract.proof(channel.id, good)
    types = (TERMS, "bytes", "bytes", "bytes32")
    for proofs in ((bytes_of, b""), (b"", bytes_of[:159]), (b"", bytes_of + b"\0"), (b"", bytes_of + bytes(47))):
        data = calldata("close", types, (terms_values(channel.terms), *proofs, channel.close().close_key))
        with pytest.raises(EvmReverted, match=r"bad-signature|bad-proof"):
            world.evm.send(world.parties[0], world.at, data)
    # Locks that are none are the same proof, in more bytes.
    data = calldata("close", types, (terms_values(channel.terms), b"", bytes_of + bytes(48), channel.close().close_key))
    world.evm.send(world.parties[0], world.at, data)
    view = world.contract.view(channel.id)
    assert view is not None and view.seqs == (0, 1) and view.held == (bytes(32), bytes(32))


def test_a_withdrawal_counts_once_and_only_while_the_channel_is_open() -> None:
    world = EvmWorld()
    channel = world.open()
    first, second = channel.withdrawal(0, 50, FAR), channel.withdrawal(0, 80, FAR)
    before = world.balance(world.parties[0])
    world.send(second)
    assert [world.refused(call) for call in (second, first)] == ["bad-amount"] * 2
    assert world.balance(world.parties[0]) == before + 80
    world.send(channel.close(), world.parties[1])
    assert world.refused(channel.withdrawal(0, 90, FAR)) == "wrong-status"
    assert world.refused(channel.cooperative_close(520, 400, FAR)) == "wrong-status"
    assert world.refused(DepositCall(channel.id, 0, 5), world.parties[0]) == "wrong-status"
    world.evm.time += PERIOD + 1
    world.send(SettleCall(channel.id))
    assert world.balance(world.parties[0]) == before + 600
    assert world.refused(SettleCall(channel.id)) == "wrong-status"
    assert world.refused(channel.challenge(channel.proof(0, 9, 9))) == "wrong-status"


def test_a_close_and_a_withdrawal_that_live_at_once_can_both_count_so_that_nobody_signs_both() -> None:
    """A limit of what is signed, not of the contract: a deposit of just the amount hides the withdrawal.

    `is_quiet` and FROZEN keep nodes from it.
    """
    twins = Twins()
    fixture = ChannelFixture(contract=twins.at)
    twins.send(OpenCall(fixture.terms, 600), fixture.address(0), fixture.id)
    twins.send(DepositCall(fixture.id, 1, 400), fixture.address(1), fixture.id)
    close = fixture.cooperative_close(600, 400, FAR)
    assert twins.send(fixture.withdrawal(1, 50, FAR), TOWER, fixture.id) == ""
    assert twins.send(close, TOWER, fixture.id) == "bad-balances"
    assert twins.send(DepositCall(fixture.id, 0, 50), fixture.address(0), fixture.id) == ""
    assert twins.send(close, TOWER, fixture.id) == ""
    assert twins.evm.balance(twins.at) == 0


def test_who_opens_first_with_other_terms_takes_nobodys_coins() -> None:
    world = EvmWorld()
    wanted = world.channel.terms
    assert world.refused(OpenCall(wanted, 5), STRANGER) == "not-a-participant"
    other = msgspec.structs.replace(wanted, challenge_period=1, close_hash=bytes(32))
    world.send(OpenCall(other, 0), world.parties[1])
    world.contract.know(wanted)
    before = world.balance(world.parties[0])
    assert world.refused(OpenCall(wanted, 600), world.parties[0]) == "channel-exists"
    assert world.refused(DepositCall(channel_id(wanted), 0, 600), world.parties[0]) == "unknown-channel"
    assert world.balance(world.parties[0]) == before


def test_a_cheater_that_convicts_itself_only_spares_its_victim_the_reward() -> None:
    world = EvmWorld()
    channel = world.open()
    world.send(channel.close(), world.parties[0])
    first = world.send(channel.challenge(channel.proof(0, 2, 10, seen=1)), world.parties[0])
    assert isinstance(first[0], Challenged) and first[0].convicts
    world.send(channel.challenge(channel.proof(0, 3, 20, seen=2), tower=TOWER, victim=1))
    world.evm.time += PERIOD + 1
    before = world.balance(world.parties[1]), world.balance(TOWER)
    world.send(SettleCall(channel.id))
    assert (world.balance(world.parties[1]), world.balance(TOWER)) == (before[0] + 1_000, before[1])


def test_a_voucher_for_nobody_is_none() -> None:
    twins = Twins()
    fixture = ChannelFixture(contract=twins.at)
    twins.send(OpenCall(fixture.terms, 600), fixture.address(0), fixture.id)
    twins.send(fixture.close(), fixture.address(0), fixture.id)
    for seq, victim in ((1, 0), (2, 1)):
        call = fixture.challenge(fixture.proof(1, seq, 10), tower=NATIVE, victim=victim)
        assert twins.send(call, TOWER, fixture.id) == ""
    twins.time += PERIOD + 1
    assert twins.send(SettleCall(fixture.id), TOWER, fixture.id) == ""
    assert twins.evm.balance(NATIVE) == 0


def test_a_second_deployment_on_the_same_chain_knows_nothing_of_the_first() -> None:
    world = EvmWorld()
    channel = world.open()
    twin = EvmAdjudicator(world.evm, world.evm.deploy(creation_code(), STRANGER))
    assert twin.at != world.at
    twin.know(channel.terms)
    for call in (channel.withdrawal(0, 5, FAR), channel.cooperative_close(600, 400, FAR)):
        with pytest.raises(EvmReverted, match="unknown-channel"):
            twin.send(call, TOWER)
    copied = ChannelFixture(contract=twin.at)
    twin.send(OpenCall(copied.terms, 600), world.parties[0])
    for call in replayed(channel, copied):
        with pytest.raises(EvmReverted, match=r"bad-signature|bad-balances"):
            twin.send(call, world.parties[0])
    assert world.evm.balance(twin.at) == 600 and world.balance(world.at) == 1_000
