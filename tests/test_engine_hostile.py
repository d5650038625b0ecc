"""Mallory holds the peer's key and says what she likes. The node names the fault, does not crash and loses no coin."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.court_bench import START, TERMS
from simulation.pair import CHAIN_ID, CONTRACT, Pair
from tallystick.channels.errors import ChannelNotReady, EngineStopped, Fault, InvalidInput, PeerError
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.node.peers import error_frame
from tallystick.channels.protocol.app_messages import AppAnswer, AppMove, AppOffer, AppProposal, AppSigned
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.eip712 import (
    channel_id,
    digest_cooperative_close,
    digest_proof,
    digest_withdrawal,
    domain_separator,
)
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.messages import (
    Ack,
    CloseAccept,
    CloseOffer,
    CloseRequest,
    Counts,
    Error,
    Funding,
    Hello,
    Links,
    LinksAck,
    LinksHeld,
    Message,
    OpenAccept,
    OpenProposal,
    OpenRefuse,
    OpenRequest,
    Ping,
    Pong,
    Reestablish,
    Reject,
    Reveal,
    Shutdown,
    Update,
    WithdrawGrant,
    WithdrawRequest,
    decode,
    encode,
)
from tallystick.channels.protocol.objects import (
    Address,
    BalanceProof,
    ChannelId,
    CooperativeClose,
    Lock,
    SignedProof,
    Withdrawal,
)
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Pay, Unlock
from tallystick.channels.protocol.simplex import extend
from tallystick.channels.protocol.virtual import VirtualTerms, WayIn
from tallystick.channels.protocol.virtual_messages import VirtualAnswer, VirtualEnding, VirtualProposal
from tallystick.channels.session.effects import OpenRequested, PeerNotice
from tallystick.channels.session.inputs import RequestClose, RequestWithdrawal, SubmitLock
from tallystick.channels.testing.clock import EPOCH

NOW = int(EPOCH)
STRANGER = PrivateKey(keccak(b"mallory"))


@pytest.fixture
def pair() -> Pair:
    return ready()


def ready() -> Pair:
    pair = Pair()
    pair.connect()
    pair.settle()
    return pair


def update(pair: Pair, operations: tuple[Operation, ...], *, key: PrivateKey | None = None, seq: int = 1) -> Update:
    """Alice's update, signed as it should be unless told otherwise."""
    session = pair.alice.session
    simplex = extend(session.channel.ours.simplex, operations, 0)
    signature = (key or session.key).sign(digest_proof(session.domain, simplex.proof))
    return Update(pair.id, seq, 0, operations, signature)


def faults(pair: Pair, *messages: Message) -> list[Fault]:
    """What Bob finds wrong with these messages of Alice's."""
    for message in messages:
        pair.inject(pair.bob, encode(message))
    return [fault.code for _, fault in pair.faults]


def errors(pair: Pair) -> list[int]:
    """The codes of the Errors that Bob sent to Alice."""
    pair.settle()
    return [event.code for event in pair.alice.events if isinstance(event, PeerNotice)]


def test_an_honest_update_for_comparison(pair: Pair) -> None:
    assert faults(pair, update(pair, (Pay(0, (5,)),))) == []
    assert pair.bob.channel.theirs.simplex.proof.transferred == 5


@pytest.mark.parametrize(
    ("fault", "make"),
    [
        (Fault.BAD_SIGNATURE, lambda pair: update(pair, (Pay(0, (5,)),), key=STRANGER)),
        (Fault.BAD_SIGNATURE, lambda pair: msgspec.structs.replace(update(pair, (Pay(0, (5,)),)), signature=bytes(64))),
        (
            Fault.BAD_SIGNATURE,
            lambda pair: msgspec.structs.replace(update(pair, (Pay(0, (5,)),)), operations=(Pay(0, (6,)),)),
        ),
        (Fault.WRONG_SEQ, lambda pair: update(pair, (Pay(0, (5,)),), seq=2)),
        (Fault.WRONG_SEQ, lambda pair: update(pair, (Pay(0, (5,)),), seq=0)),
        (Fault.WRONG_SEQ, lambda pair: update(pair, (Pay(0, (5,)),), seq=AMOUNT_MAX)),
        (Fault.WRONG_SEQ, lambda pair: Ack(pair.id, 1, bytes(64))),
        (Fault.WRONG_SEQ, lambda pair: Ack(pair.id, AMOUNT_MAX, bytes(64))),
        (Fault.OVER_CAPACITY, lambda pair: update(pair, (Pay(0, (1_001,)),))),
        (Fault.UNKNOWN_MESSAGE, lambda pair: Ping(1)),
        (Fault.UNKNOWN_MESSAGE, lambda pair: Hello(1, 1, Address(bytes(20)))),
        (Fault.BAD_SIGNATURE, lambda pair: CloseOffer(CooperativeClose(pair.id, 1, 1, NOW), bytes(64))),
        (Fault.BAD_SIGNATURE, lambda pair: WithdrawRequest(Withdrawal(pair.id, 0, 1, NOW), bytes(64))),
    ],
)
def test_each_fault_ends_the_connection_by_name_and_harms_no_channel(
    pair: Pair, fault: Fault, make: Callable[[Pair], Message]
) -> None:
    assert faults(pair, make(pair)) == [fault]
    pair.faults.clear()
    pair.connect()
    pair.settle()
    ticket = pair.alice.engine.pay(pair.id, 5)
    pair.settle()
    assert ticket.receipt is not None and pair.faults == []


def test_a_replayed_update_counts_once(pair: Pair) -> None:
    again = update(pair, (Pay(0, (5,)),))
    assert faults(pair, again, again) == []
    pair.bob.step()
    assert faults(pair, again) == []
    pair.bob.step()
    assert pair.bob.channel.theirs.simplex.proof.transferred == 5


def test_an_ack_by_another_key_acknowledges_nothing(pair: Pair) -> None:
    pair.bob.engine.pay(pair.id, 5)
    pair.bob.step()
    assert faults(pair, Ack(pair.id, 1, STRANGER.sign(bytes(32)))) == [Fault.BAD_SIGNATURE]
    assert len(pair.bob.channel.flight) == 1


@pytest.mark.parametrize(
    "close",
    [
        lambda pair: CooperativeClose(pair.id, 1_001, 999, NOW + 60),
        lambda pair: CooperativeClose(pair.id, 1_000, 1_000, NOW - 1),
        lambda pair: CooperativeClose(pair.id, 1_000, 1_000, NOW + 10**6),
    ],
)
def test_a_close_on_other_balances_or_times_is_not_signed(
    pair: Pair, close: Callable[[Pair], CooperativeClose]
) -> None:
    offer = close(pair)
    digest = digest_cooperative_close(pair.alice.session.domain, offer)
    before = set(pair.bob.key.signed)
    assert faults(pair, CloseOffer(offer, pair.alice.key.sign(digest))) == []
    assert errors(pair) == [Fault.BAD_OFFER]
    assert pair.bob.key.signed == before and pair.bob.channel.phase is Phase.OPEN


@pytest.mark.parametrize(
    ("fault", "withdrawal"),
    [
        (Fault.BAD_OFFER, lambda pair: Withdrawal(pair.id, 1, 10, NOW + 60)),
        (Fault.BAD_OFFER, lambda pair: Withdrawal(pair.id, 0, 10, NOW + 10**6)),
        (Fault.OVER_CAPACITY, lambda pair: Withdrawal(pair.id, 0, 0, NOW + 60)),
        (Fault.OVER_CAPACITY, lambda pair: Withdrawal(pair.id, 0, 1_001, NOW + 60)),
        (Fault.OVER_CAPACITY, lambda pair: Withdrawal(pair.id, 0, AMOUNT_MAX, NOW + 60)),
    ],
)
def test_a_withdrawal_of_what_is_not_free_is_not_signed(
    pair: Pair, fault: Fault, withdrawal: Callable[[Pair], Withdrawal]
) -> None:
    wanted = withdrawal(pair)
    before = set(pair.bob.key.signed)
    signature = pair.alice.key.sign(digest_withdrawal(pair.alice.session.domain, wanted))
    assert faults(pair, WithdrawRequest(wanted, signature)) == []
    assert errors(pair) == [fault]
    assert pair.bob.key.signed == before and pair.bob.channel.withdrawals == (None, None)


def test_a_close_while_something_is_pending_is_not_signed(pair: Pair) -> None:
    pair.bob.engine.pay(pair.id, 5)
    offer = CooperativeClose(pair.id, 1_000, 1_000, NOW + 60)
    signature = pair.alice.key.sign(digest_cooperative_close(pair.alice.session.domain, offer))
    faults(pair, CloseOffer(offer, signature))
    assert errors(pair) == [Fault.WRONG_PHASE]
    assert pair.bob.channel.offer is None


def test_a_wrong_signature_under_our_own_offers_is_noticed(pair: Pair) -> None:
    withdrawal = pair.bob.apply(RequestWithdrawal(5))
    assert faults(pair, WithdrawGrant(withdrawal, bytes(64))) == [Fault.BAD_SIGNATURE]
    other = msgspec.structs.replace(withdrawal, total=6)
    pair.connect()
    pair.settle()
    nobody_asked = CloseAccept(CooperativeClose(pair.id, 1, 1, 1), bytes(64))
    assert faults(pair, WithdrawGrant(other, bytes(64)), nobody_asked) == [Fault.BAD_SIGNATURE]


def test_a_wrong_signature_under_our_closing_offer_is_noticed() -> None:
    pair = ready()
    pair.alice.apply(RequestClose())
    pair.inject(pair.alice, encode(Shutdown(pair.id, 0)))
    pair.alice.step()
    offer = pair.alice.channel.offer
    assert offer is not None
    pair.inject(pair.alice, encode(CloseAccept(offer.close, bytes(64))))
    assert [fault.code for _, fault in pair.faults] == [Fault.BAD_SIGNATURE]


def test_before_the_greeting_nothing_is_taken() -> None:
    pair = Pair()
    pair.connect()
    assert faults(pair, update(pair, (Pay(0, (5,)),))) == []
    assert pair.bob.channel.theirs.seq == 0
    assert errors(pair) == [Fault.WRONG_PHASE]


@pytest.mark.parametrize("phase", [Phase.CLOSING, Phase.CLOSED, Phase.SETTLED, Phase.GONE])
def test_a_channel_that_is_closing_says_so_to_a_greeting(pair: Pair, phase: Phase) -> None:
    pair.bob.session.change(msgspec.structs.replace(pair.bob.channel, phase=phase))
    pair.connect()
    assert Fault.WRONG_PHASE in errors(pair)
    assert not pair.bob.session.ready and pair.faults == []


def test_a_stranger_cannot_speak_about_a_channel_or_answer_for_its_peer(pair: Pair) -> None:
    engine, mallory = pair.bob.engine, bytes(STRANGER.public)
    answers: list[str | None] = []
    terms = msgspec.structs.replace(pair.terms, number=1)
    engine.opening.request(bytes(pair.alice.key.public), OpenProposal(terms, 5), answers.append)
    identity = channel_id(terms)
    for message in (OpenAccept(identity), OpenRefuse(identity, "no"), Error(identity, 1, "no"), CloseRequest(pair.id)):
        engine.receive(mallory, message, encode(message))
    assert answers == [] and pair.bob.channel.phase is Phase.OPEN
    for reply in (OpenRefuse(identity, "too small"), OpenAccept(identity)):
        engine.receive(bytes(pair.alice.key.public), reply, encode(reply))
    assert answers == ["too small"]
    engine.opening.request(bytes(pair.alice.key.public), OpenProposal(terms, 5), answers.append)
    engine.opening.forget(identity)
    engine.receive(bytes(pair.alice.key.public), OpenAccept(identity), b"")
    assert answers == ["too small"]
    with pytest.raises(ChannelNotReady):
        engine.opening.request(mallory, OpenProposal(terms, 5), answers.append)


def test_openings_that_cannot_be_are_refused_at_the_door(pair: Pair) -> None:
    terms = msgspec.structs.replace(pair.terms, number=1)
    others = tuple(sorted((STRANGER.address, pair.alice.key.address)))
    for fault, wrong in (
        (Fault.WRONG_CHAIN, msgspec.structs.replace(terms, chain_id=1)),
        (Fault.WRONG_CHAIN, msgspec.structs.replace(terms, contract=Address(bytes(20)))),
        (Fault.REFUSED, msgspec.structs.replace(terms, participants=others)),
    ):
        assert faults(pair, OpenProposal(wrong, 1))[-1] is fault
    pair.connect()
    request = OpenProposal(terms, 7)
    faults(pair, request)
    pair.bob.step()
    (asked,) = [event for event in pair.bob.events if isinstance(event, OpenRequested)]
    pair.bob.engine.opening.answer(asked.peer, asked.request, "x" * 10_000)
    pair.bob.engine.opening.answer(asked.peer, asked.request, None)
    pair.bob.step()
    texts = [message for message in map(decode, pair.alice.incoming) if isinstance(message, (OpenRefuse, OpenAccept))]
    assert [type(message) for message in texts] == [OpenRefuse, OpenAccept]
    assert pair.bob.engine.session(channel_id(terms)).channel.reserve_ppm == 7
    assert pair.bob.engine.add_channel(pair.bob.engine.session(pair.id).channel).channel.phase is Phase.OPEN


def test_what_an_engine_says_of_itself(pair: Pair) -> None:
    engine = pair.bob.engine
    pair.alice.engine.pay(pair.id, 5)
    pair.settle()
    assert engine.is_connected(bytes(pair.alice.key.public)) and engine.has_business_with(bytes(pair.alice.key.public))
    assert not engine.has_business_with(bytes(STRANGER.public))
    known = engine.statistics()
    assert (known.channels, known.peers, known.payments_received, known.in_flight) == (1, 1, 1, 0)
    with pytest.raises(InvalidInput):
        engine.session(ChannelId(bytes(32)))
    message = decode(error_frame(5, "x" * 10_000))
    assert isinstance(message, Error) and message.code == 5
    ticket = engine.pay(pair.id, 5)
    engine.stop()
    assert isinstance(ticket.error, EngineStopped)
    with pytest.raises(EngineStopped):
        engine.pay(pair.id, 5)


# --- anything at all --------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(0, 3), st.sampled_from([NOW, NOW + 60, UINT64_MAX, AMOUNT_MAX]))
SIGNERS = st.sampled_from(["alice", "mallory", "nobody"])
IDS = st.sampled_from(["this", "another"])


@st.composite
def anything(draw: st.DrawFn) -> tuple[type[Message], str, str, list[int], list[int]]:
    """A kind of message, whose channel it names, who signs it, and numbers to fill it with."""
    kind = draw(st.sampled_from(get_args(Message)))
    return (
        kind,
        draw(IDS),
        draw(SIGNERS),
        draw(st.lists(NUMBERS, min_size=12, max_size=12)),
        draw(st.lists(st.integers(0, 3), min_size=3, max_size=3)),
    )


def _hub(number: int) -> bytes:
    return b"\2" + bytes([number]) * 32


def build(pair: Pair, plan: tuple[type[Message], str, str, list[int], list[int]]) -> Message:
    kind, which, signer, numbers, choices = plan
    identity = pair.id if which == "this" else ChannelId(b"x" * 32)
    domain = domain_separator(CHAIN_ID, CONTRACT)
    key = {"alice": pair.alice.key, "mallory": STRANGER}.get(signer)

    def sign(digest: bytes) -> bytes:
        return key.sign(digest) if key is not None else bytes(64)

    proof = BalanceProof(identity, choices[0] % 2, *numbers[:3], bytes(32), numbers[3])
    statement = SignedProof(proof, sign(digest_proof(domain, proof)), sign(digest_proof(domain, proof)))
    lock = Lock(numbers[4], numbers[5], numbers[6], numbers[7] % 3, bytes(32))
    operations: tuple[Operation, ...] = (
        Pay(numbers[8], (max(1, numbers[9]),)),
        AddLock(lock),
        Unlock(numbers[8], bytes(32), numbers[9]),
        Cancel(numbers[8]),
    )
    operation = operations[choices[1]]
    close = CooperativeClose(identity, *numbers[:3])
    withdrawal = Withdrawal(identity, choices[0] % 2, *numbers[:2])
    terms = pair.terms
    stakes = (1 + numbers[0] % 2**64, numbers[1] % 2**64)
    life, nonce = numbers[2] % 2**32, numbers[3] % 2**32
    way = WayIn(_hub(choices[0]), identity)
    virtual = VirtualTerms(CHAIN_ID, CONTRACT, terms.participants, terms.asset, stakes, NOW + life, 3_600, nonce)
    simple: dict[type, Callable[[], Message]] = {
        Hello: lambda: Hello(numbers[0], numbers[1], Address(bytes(20))),
        Error: lambda: Error(identity, numbers[0], "text"),
        Reestablish: lambda: Reestablish(
            identity, numbers[0], statement if choices[1] else None, statement if choices[2] else None, numbers[10]
        ),
        Update: lambda: Update(identity, numbers[0], numbers[1], (operation,), sign(digest_proof(domain, proof))),
        Ack: lambda: Ack(identity, numbers[0], sign(digest_proof(domain, proof))),
        Reveal: lambda: Reveal(identity, numbers[0], bytes(32)),
        Reject: lambda: Reject(identity, numbers[0], b"reason"),
        Funding: lambda: Funding(identity, numbers[0]),
        Links: lambda: Links(identity, numbers[0], numbers[1], bytes(32)),
        LinksAck: lambda: LinksAck(identity, numbers[0], numbers[1]),
        LinksHeld: lambda: LinksHeld(identity, numbers[0], numbers[1], bytes(32)),
        Counts: lambda: Counts(identity, numbers[0], numbers[1]),
        OpenProposal: lambda: OpenProposal(pair.terms, numbers[0]),
        OpenRequest: lambda: OpenRequest(pair.terms, numbers[0], numbers[1]),
        OpenRefuse: lambda: OpenRefuse(identity, "no"),
        Shutdown: lambda: Shutdown(identity, numbers[0]),
        CloseOffer: lambda: CloseOffer(close, sign(digest_cooperative_close(domain, close))),
        CloseAccept: lambda: CloseAccept(close, sign(digest_cooperative_close(domain, close))),
        WithdrawRequest: lambda: WithdrawRequest(withdrawal, sign(digest_withdrawal(domain, withdrawal))),
        WithdrawGrant: lambda: WithdrawGrant(withdrawal, sign(digest_withdrawal(domain, withdrawal))),
        AppProposal: lambda: AppProposal(TERMS, START),
        AppAnswer: lambda: AppAnswer(bytes(32), bool(choices[1])),
        AppMove: lambda: AppMove(bytes(32), numbers[0], b"move", bytes(64)),
        AppSigned: lambda: AppSigned(bytes(32), numbers[0], bytes(32), bytes(64)),
        AppOffer: lambda: AppOffer(bytes(32), (numbers[0], numbers[1]), bytes(64)),
        VirtualProposal: lambda: VirtualProposal(virtual, (_hub(choices[1]),) * choices[0], (way,)),
        VirtualAnswer: lambda: VirtualAnswer(bytes(32), bool(choices[1]), (way,), "text"),
        VirtualEnding: lambda: VirtualEnding(bytes(32), (0, 0, numbers[0], numbers[1]), bytes(64)),
    }
    if kind in simple:
        return simple[kind]()
    return msgspec.convert([kind.__struct_config__.tag, numbers[0] if kind in (Ping, Pong) else identity], kind)


@given(st.lists(anything(), min_size=1, max_size=8), st.sampled_from(list(Phase)))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_is_taken_answered_or_named_and_no_coin_is_lost(
    plans: list[tuple[type[Message], str, str, list[int], list[int]]], phase: Phase
) -> None:
    pair = ready()
    pair.bob.engine.pay(pair.id, 5)
    pair.bob.apply(SubmitLock(3, NOW + 900, bytes(32)))
    pair.bob.step()
    pair.bob.session.change(msgspec.structs.replace(pair.bob.channel, phase=phase))
    for plan in plans:
        frame = encode(build(pair, plan))
        try:
            pair.bob.engine.receive(bytes(pair.alice.key.public), decode(frame), frame)
        except PeerError as fault:
            assert fault.code in Fault and str(fault)
        pair.bob.step()
    channel = pair.bob.channel
    incoming, outgoing = channel.theirs.simplex.proof, channel.newest.proof
    assert outgoing.transferred == 5 and outgoing.locked == 3
    assert channel.funding(1) + incoming.transferred - outgoing.transferred >= 995
    pair.crash(pair.bob)
