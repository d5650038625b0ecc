"""A node that was restored from an old backup learns it from its peer, and from then on signs nothing."""

from __future__ import annotations

import msgspec
import pytest

from simulation.pair import Pair, Party
from tallystick.channels.errors import ChannelNotReady, Fault
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.eip712 import digest_proof
from tallystick.channels.protocol.messages import CloseRequest, Error, Message, Reestablish, decode, encode
from tallystick.channels.protocol.objects import SignedProof
from tallystick.channels.session.effects import CloseRequested
from tallystick.channels.session.inputs import SubmitPayment


def pay(pair: Pair, party: Party, amount: int) -> None:
    party.apply(SubmitPayment(amount))
    pair.settle()


@pytest.fixture
def sent() -> list[tuple[str, Message]]:
    return []


@pytest.fixture
def pair(sent: list[tuple[str, Message]]) -> Pair:
    pair = Pair(sent=lambda party, message: sent.append((party.name, message)))
    pair.connect()
    pair.settle()
    return pair


def lose(pair: Pair, party: Party, image: bytes) -> None:
    pair.disconnect()
    party.restore(image)
    party.start()


@pytest.mark.parametrize("payer", [0, 1])
def test_newer_proofs_of_either_simplex_make_a_restored_node_recover(
    pair: Pair, sent: list[tuple[str, Message]], payer: int
) -> None:
    image = pair.bob.disk.image()
    for _ in range(3):
        pay(pair, pair.parties[payer], 5)
    lose(pair, pair.bob, image)
    pair.bob.key.signed.clear()
    sent.clear()
    pair.connect()
    pair.settle()
    assert pair.bob.channel.phase is Phase.RECOVERING
    assert ("bob", CloseRequest(pair.id)) in sent
    assert CloseRequested(pair.id) in pair.alice.events
    pay(pair, pair.alice, 7)
    with pytest.raises(ChannelNotReady):
        pair.bob.apply(SubmitPayment(1))
    pair.crash(pair.bob)
    pair.connect()
    pair.settle()
    assert pair.bob.channel.phase is Phase.RECOVERING
    assert pair.bob.key.signed == set()
    assert pair.faults == []


@pytest.mark.parametrize("phase", [Phase.OPENING, Phase.FROZEN])
def test_loss_is_recognised_in_every_phase_that_greets(pair: Pair, phase: Phase) -> None:
    image = pair.bob.disk.image()
    pay(pair, pair.alice, 5)
    lose(pair, pair.bob, image)
    pair.bob.session.change(msgspec.structs.replace(pair.bob.channel, phase=phase))
    pair.connect()
    pair.settle()
    assert pair.bob.channel.phase is Phase.RECOVERING
    assert pair.faults == []


def greeting(pair: Pair, party: Party) -> Reestablish:
    """What `party` would say now."""
    channel = party.channel
    return Reestablish(channel.id, channel.newest.proof.seq, channel.ours.statement, channel.theirs.statement, 1_000)


@pytest.mark.parametrize("field", ["ours", "theirs"])
def test_forged_proofs_do_not_make_a_node_recover(pair: Pair, field: str) -> None:
    pay(pair, pair.alice, 5)
    pay(pair, pair.bob, 6)
    honest = greeting(pair, pair.alice)
    statement = honest.ours if field == "ours" else honest.theirs
    assert statement is not None
    newer = msgspec.structs.replace(statement.proof, seq=9)
    digest = digest_proof(pair.alice.session.domain, newer)
    by_alice_alone = pair.alice.key.sign(digest)
    forged = SignedProof(newer, by_alice_alone, by_alice_alone)
    pair.connect()
    pair.inject(pair.bob, encode(msgspec.structs.replace(honest, **{field: forged})))
    assert [fault.code for _, fault in pair.faults] == [Fault.BAD_SIGNATURE]
    assert pair.bob.channel.phase is Phase.OPEN
    pair.connect()
    pair.settle()
    pay(pair, pair.alice, 5)
    assert pair.bob.channel.theirs.simplex.proof.transferred == 10


def test_a_proof_of_the_same_number_that_differs_is_a_mismatch(pair: Pair) -> None:
    pay(pair, pair.alice, 5)
    honest = greeting(pair, pair.alice)
    assert honest.ours is not None
    other = SignedProof(msgspec.structs.replace(honest.ours.proof, transferred=6), bytes(64), bytes(64))
    swapped = SignedProof(msgspec.structs.replace(honest.ours.proof, sender=1), bytes(64), bytes(64))
    for wrong in (other, swapped):
        pair.inject(pair.bob, encode(msgspec.structs.replace(honest, ours=wrong)))
        pair.connect()
    assert [fault.code for _, fault in pair.faults] == [Fault.STATE_MISMATCH] * 2


def test_a_channel_that_was_lost_entirely_is_recognised_by_our_own_signature(
    pair: Pair, sent: list[tuple[str, Message]]
) -> None:
    pay(pair, pair.alice, 5)
    proof = greeting(pair, pair.alice)
    lose(pair, pair.bob, b"")
    sent.clear()
    pair.connect()
    pair.settle()
    assert ("bob", CloseRequest(pair.id)) in sent
    assert CloseRequested(pair.id) in pair.alice.events
    assert proof.ours is not None
    sent.clear()
    unsigned = SignedProof(proof.ours.proof, bytes(64), bytes(64))
    pair.inject(pair.bob, encode(msgspec.structs.replace(proof, ours=unsigned)))
    pair.bob.step()
    (answer,) = [message for name, message in sent if name == "bob"]
    assert isinstance(answer, Error) and answer.code == Fault.UNKNOWN_CHANNEL


def test_what_was_signed_before_the_loss_was_noticed_is_not_signed_differently(pair: Pair) -> None:
    """The restored node may not sign a second update number 1 before it has heard its peer."""
    image = pair.bob.disk.image()
    pay(pair, pair.bob, 5)
    lose(pair, pair.bob, image)
    pair.bob.apply(SubmitPayment(6))
    before = set(pair.bob.key.signed)
    pair.bob.step()
    pair.connect()
    pair.settle()
    assert pair.bob.key.signed == before


def test_the_frames_of_a_flight_survive_a_restart_unchanged(pair: Pair) -> None:
    pair.alice.apply(SubmitPayment(5, b"memo"))
    pair.alice.step()
    frame = pair.bob.incoming[-1]
    pair.crash(pair.alice)
    pair.connect()
    pair.alice.step()
    pair.bob.step()
    while pair.deliver(pair.alice):
        pass
    pair.alice.step()
    assert frame in pair.bob.incoming
    assert decode(frame) == decode(pair.bob.incoming[-1])
    pair.settle()
    assert pair.bob.channel.theirs.simplex.next_payment == 1
