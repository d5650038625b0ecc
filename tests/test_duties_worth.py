"""Nothing is claimed on chain that is not worth its fee; no channel is closed over what is too small or can wait."""

from __future__ import annotations

import msgspec
import pytest

from tallystick.channels.limits import Policy
from tallystick.channels.protocol.apps import APP
from tallystick.channels.protocol.conditions import HASH, STREAM, digest_of
from tallystick.channels.protocol.core import Channel, KnownSecret, Phase, SignedSimplex, new_channel
from tallystick.channels.protocol.hashchain import StreamProof, StreamTerms, walk
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, BalanceProof, Lock, Puzzle, Terms
from tallystick.channels.protocol.simplex import Simplex
from tallystick.channels.session.chaintime import MARGIN, StakeInCourt
from tallystick.settlement.chain import (
    CLOSED,
    OPEN,
    CloseCall,
    ContractChannel,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
)
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.duties import ChannelOnChain, duties, must_close
from tallystick.settlement.ethereum.transactions import GAS, LOCK_GAS

SECRET = b"s" * 32
CONDITION = digest_of(SECRET)
EXPIRY = 10_000
PRICE = 7
FEE = GAS[RegisterSecretCall] * PRICE
CLOSING = (GAS[CloseCall] + GAS[SettleCall] + 2 * GAS[RedeemCall] + LOCK_GAS) * PRICE
KEYS = sorted((PrivateKey(bytes([n]) * 32) for n in (1, 2)), key=lambda key: key.address)
POLICY = DutyPolicy()


def channel(amount: int, *, known: bool = True, asset: Address = NATIVE, phase: Phase = Phase.OPEN) -> Channel:
    """Ours is side 0; the peer has locked `amount` for us, and we revealed its secret."""
    terms = Terms(1, Address(bytes(20)), (KEYS[0].address, KEYS[1].address), asset, 0, 600, bytes(32))
    fresh = new_channel(terms, 0, bytes(KEYS[1].public), 0)
    lock = Lock(0, amount, EXPIRY, HASH, CONDITION)
    theirs = SignedSimplex(Simplex(BalanceProof(fresh.id, 1, 1, 0, amount), (lock,), 1))
    secrets = (KnownSecret(0, SECRET),) if known else ()
    return msgspec.structs.replace(fresh, theirs=theirs, secrets=secrets, phase=phase, deposits=(0, amount))


def situation(
    now: int, *, market: int | None = PRICE, registered: int | None = None, at_stake: dict[Puzzle, int] | None = None
) -> ChannelOnChain:
    terms = channel(1).terms
    view = ContractChannel(terms=terms, status=OPEN, deposits=(0, 0), withdrawn=(0, 0))
    proofs = {} if registered is None else {(HASH, CONDITION): (registered, SECRET)}
    return ChannelOnChain(view, now, proofs, ([], []), {}, market, at_stake or {}, {}, market)


def registers(of: Channel, at: ChannelOnChain, policy: DutyPolicy = POLICY) -> bool:
    found = duties(of, at, policy, lambda channel: bytes(32))
    return any(isinstance(duty.call, RegisterSecretCall) for duty in found)


def test_a_secret_is_registered_from_the_margin_on_up_to_the_expiry() -> None:
    margin = POLICY.secret_margin
    assert not registers(channel(FEE), situation(EXPIRY - margin - 1))
    assert registers(channel(FEE), situation(EXPIRY - margin))
    assert registers(channel(FEE), situation(EXPIRY))
    assert not registers(channel(FEE), situation(EXPIRY + 1))


def test_the_margin_leaves_time_for_a_secret_that_was_paid_for_at_the_last_moment() -> None:
    assert POLICY.secret_margin >= Policy().reveal_margin


def test_a_lock_that_is_not_worth_the_fee_is_left_alone() -> None:
    near = EXPIRY - 10
    assert registers(channel(FEE), situation(near))
    assert not registers(channel(FEE - 1), situation(near))
    assert registers(channel(FEE - 1), situation(near, market=PRICE - 1)), "fees have fallen"
    assert registers(channel(1), situation(near), DutyPolicy(worth_percent=0))
    assert not registers(channel(FEE), situation(near), DutyPolicy(worth_percent=200))


def test_what_cannot_be_held_against_a_fee_is_claimed() -> None:
    near = EXPIRY - 10
    assert registers(channel(1), situation(near, market=None)), "what gas costs is not known"
    assert registers(channel(1, asset=Address(b"t" * 20)), situation(near)), "a token has no price here"


def test_parts_of_one_payment_are_worth_their_fee_together() -> None:
    assert registers(channel(FEE // 2), situation(EXPIRY - 10, at_stake={(HASH, CONDITION): FEE}))


def test_a_peer_that_does_not_pay_for_what_the_chain_shows_is_closed_on_after_a_while() -> None:
    late = EXPIRY + POLICY.unlock_patience
    assert must_close(channel(CLOSING), situation(late + 1, registered=EXPIRY), POLICY)
    assert not must_close(channel(CLOSING), situation(late, registered=EXPIRY), POLICY)


@pytest.mark.parametrize("known", [True, False])
def test_whoever_learned_the_secret_from_the_chain_is_owed_as_well(known: bool) -> None:
    late = EXPIRY + POLICY.unlock_patience + 1
    assert must_close(channel(CLOSING, known=known), situation(late, registered=EXPIRY), POLICY)


def test_no_channel_is_closed_over_what_is_not_owed_or_not_worth_it() -> None:
    late = EXPIRY + POLICY.unlock_patience + 1_000
    assert not must_close(channel(CLOSING - 1), situation(late, registered=EXPIRY), POLICY)
    assert not must_close(channel(CLOSING), situation(late, registered=EXPIRY + 1), POLICY), "registered too late"
    assert not must_close(channel(CLOSING), situation(late), POLICY), "never registered"
    assert not must_close(channel(CLOSING), situation(late, registered=EXPIRY, market=None), POLICY)
    assert not must_close(channel(CLOSING, phase=Phase.CLOSING), situation(late, registered=EXPIRY), POLICY)
    closed = msgspec.structs.replace(situation(late, registered=EXPIRY).view, status=CLOSED)
    on_chain = msgspec.structs.replace(situation(late, registered=EXPIRY), view=closed)
    assert not must_close(channel(CLOSING), on_chain, POLICY)


@pytest.mark.parametrize(("paid", "owed"), [(CLOSING, True), (CLOSING - 1, False)])
def test_what_the_court_gave_is_owed_up_to_what_the_lock_holds(paid: int, owed: bool) -> None:
    """The court says it of the stake: a lock may be of less, and a channel is not closed over what it does not hold."""
    of = channel(CLOSING, known=False)
    late = EXPIRY + POLICY.unlock_patience + MARGIN
    for amount, of_stake, closes in ((CLOSING, paid, owed), (paid, 10 * CLOSING, owed)):
        stake = Lock(0, amount, EXPIRY, APP, CONDITION)
        theirs = SignedSimplex(msgspec.structs.replace(of.theirs.simplex, locks=(stake,)))
        decided = {(APP, CONDITION): StakeInCourt(EXPIRY, EXPIRY, of_stake)}
        at = msgspec.structs.replace(situation(late + 900), stakes=decided, final=late)
        assert must_close(msgspec.structs.replace(of, theirs=theirs), at, POLICY) is closes
        soon = msgspec.structs.replace(at, final=late - 1)
        assert not must_close(msgspec.structs.replace(of, theirs=theirs), soon, POLICY), "it may yet be unlocked"


def test_a_link_that_the_chain_shows_for_a_stream_of_other_terms_owes_nothing() -> None:
    """The peer made a lock whose amount is not its stream's: we rejected it, and it put a link of it on the chain."""
    terms = StreamTerms(walk(b"x" * 32, 10), 1, 10)
    of = channel(CLOSING, known=False)
    odd = Lock(0, CLOSING, EXPIRY, STREAM, terms.condition(EXPIRY))
    of = msgspec.structs.replace(of, theirs=SignedSimplex(msgspec.structs.replace(of.theirs.simplex, locks=(odd,))))
    proof = StreamProof(walk(b"x" * 32, 6), 4, terms)
    assert proof.holds()
    at = situation(EXPIRY + POLICY.unlock_patience + 1)
    at = msgspec.structs.replace(at, proofs={odd.puzzle: (EXPIRY, proof.encode())})
    for policy in (POLICY, DutyPolicy(worth_percent=0)):
        assert not must_close(of, at, policy)
