"""Two encoders of the contract's interface, written apart from each other: the client's and the test kit's agree."""

from __future__ import annotations

from itertools import repeat
from typing import Any, cast

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from simulation.disputes import ChannelFixture
from simulation.evm import calldata
from simulation.evm_adjudicator import EvmAdjudicator, commitment
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, BalanceProof, ChannelId, Lock, SignedProof
from tallystick.settlement import chain
from tallystick.settlement.chain import Call
from tallystick.settlement.ethereum.abi import Deployment, Envelope, read_batch
from tallystick.settlement.ethereum.evm.abi import ChannelContext, HeldLocks, encode_evm_call, held_hash
from tallystick.settlement.sending.batches import CARRIED, REDEEMED_MAX

AT = Deployment(31_337, Address(b"\xad" * 20))
amounts = st.integers(0, AMOUNT_MAX)
numbers = st.integers(0, UINT64_MAX)
words = st.binary(min_size=32, max_size=32)
addresses = st.builds(Address, st.binary(min_size=20, max_size=20).filter(any))
assets = st.just(NATIVE) | addresses
sides = st.integers(0, 1)
locks = st.builds(Lock, numbers, amounts, numbers, st.integers(0, 255), words)
held = st.just(HeldLocks()) | st.builds(HeldLocks, amounts, words)
TOWER = PrivateKey(keccak(b"tower"))


class Kit:
    """What `EvmAdjudicator` wants of a chain to encode."""

    chain_id = AT.chain_id


@st.composite
def fixtures(draw: st.DrawFn) -> ChannelFixture:
    fixture = ChannelFixture(chain_id=AT.chain_id, contract=AT.contract, asset=draw(assets))
    fixture.terms = msgspec.structs.replace(fixture.terms, number=draw(numbers), close_hash=draw(words))
    fixture.id = channel_id(fixture.terms)
    return fixture


def proofs(fixture: ChannelFixture) -> st.SearchStrategy[SignedProof]:
    nothing = st.tuples(st.just(0), st.just(ZERO32))
    pending = nothing | st.tuples(amounts, st.just(ZERO32) | words) | st.tuples(st.just(0), words)
    made = st.builds(
        lambda sender, seq, paid, of, seen: BalanceProof(fixture.id, sender, seq, paid, *of, seen),
        *(sides, numbers, amounts, pending, numbers),
    )
    return made.map(fixture.sign)


def calls(fixture: ChannelFixture) -> dict[type[Any], st.SearchStrategy[Any]]:
    """Return how each call about a channel, and each other one of the contract, may look."""
    one = proofs(fixture)
    return {
        chain.OpenCall: st.builds(chain.OpenCall, st.just(fixture.terms), amounts),
        chain.DepositCall: st.builds(
            chain.DepositCall, st.just(fixture.id), sides, amounts, st.just(fixture.terms.asset)
        ),
        chain.WithdrawCall: st.builds(fixture.withdrawal, sides, amounts, numbers),
        chain.CooperativeCloseCall: st.builds(fixture.cooperative_close, amounts, amounts, numbers),
        chain.CloseCall: st.builds(chain.CloseCall, st.just(fixture.id), st.none() | one, st.none() | one, words),
        chain.ChallengeCall: st.builds(
            lambda proof, tower, victim: fixture.challenge(proof, tower=tower, victim=victim),
            *(one, st.none() | addresses, sides),
        ),
        chain.SettleCall: st.builds(chain.SettleCall, st.just(fixture.id)),
        chain.RedeemCall: st.builds(
            chain.RedeemCall, st.just(fixture.id), sides, st.lists(locks, max_size=40).map(tuple)
        ),
        chain.RegisterSecretCall: st.builds(chain.RegisterSecretCall, words),
        chain.RegisterLinkCall: st.builds(chain.RegisterLinkCall, words, numbers, words, amounts, numbers, numbers),
        chain.ClaimCall: st.builds(chain.ClaimCall, assets, addresses),
    }


ELSEWHERE = {chain.TransferCall, chain.ApproveCall, chain.RegisterProofCall, chain.ModuleCall}
"""Calls of tokens and of modules, and one that the contract has not."""
COURT = {RegisterStateCall, CourtMoveCall}
"""Calls about apps, which another contract takes (test_evm_court)."""


def by_the_kit(fixture: ChannelFixture, call: Call, standing: tuple[HeldLocks, HeldLocks]) -> Envelope:
    kit = EvmAdjudicator(cast("Any", Kit()), AT.contract)
    kit.know(fixture.terms)
    for side, each in enumerate(standing):
        if each != HeldLocks():
            kit.held[ChannelId(fixture.id), side] = (each.locked, each.root)
        elif isinstance(call, chain.RedeemCall):
            kit.held[ChannelId(fixture.id), side] = (0, ZERO32)
    data, value = kit.encode(call)
    return Envelope(AT.contract, value, data)


@settings(deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # to shrink eleven calls takes minutes
@given(st.data(), fixtures(), st.tuples(held, held))
def test_both_encoders_write_the_same_bytes(
    data: st.DataObject, fixture: ChannelFixture, standing: tuple[HeldLocks, HeldLocks]
) -> None:
    for kind, strategy in calls(fixture).items():
        call = data.draw(strategy)
        assert type(call) is kind
        ours = encode_evm_call(call, AT, ChannelContext(fixture.terms, standing))
        assert ours == by_the_kit(fixture, call, standing), kind.__name__


@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.data(), fixtures(), st.tuples(held, held))
def test_a_batch_is_written_as_its_calls_are(
    data: st.DataObject, fixture: ChannelFixture, standing: tuple[HeldLocks, HeldLocks]
) -> None:
    made = calls(fixture)
    drawn = [
        _short(data.draw(made[kind])) for kind in data.draw(st.lists(st.sampled_from(CARRIED), min_size=1, max_size=3))
    ]
    contexts = (ChannelContext(fixture.terms, standing),) * len(drawn)
    ours = encode_evm_call(chain.BatchCall(tuple(drawn)), AT, contexts)
    members = read_batch(ours, AT)
    assert members == tuple(encode_evm_call(*each) for each in zip(drawn, repeat(AT), contexts, strict=False))
    assert ours.data == calldata("batch", ("bytes[]",), ([each.data for each in members],)), "what travels fits in"
    with pytest.raises(InvalidInput, match="of its channel"):
        encode_evm_call(chain.BatchCall(tuple(drawn)), AT, contexts[0])


def _short(call: Any) -> Any:
    """Return a call with no more locks than travel in a batch."""
    return msgspec.structs.replace(call, locks=call.locks[:REDEEMED_MAX]) if hasattr(call, "locks") else call


def test_no_call_is_left_out() -> None:
    known = {kind for kind in vars(chain).values() if isinstance(kind, type) and kind.__name__.endswith("Call")}
    assert (
        known - {chain.SignedCall, chain.BatchCall, chain.FailedCall}
        == calls(ChannelFixture()).keys() | ELSEWHERE | COURT
    )


@given(held)
def test_both_know_locks_that_are_held_by_the_same_hash(each: HeldLocks) -> None:
    assert held_hash(each) == (ZERO32 if each == HeldLocks() else commitment(each.locked, each.root))
