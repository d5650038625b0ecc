"""A channel's view is frozen, and says at any moment of any history what the channel would do then."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.pair import Pair, Party
from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput
from tallystick.channels.limits import LOCKS_MAX
from tallystick.channels.protocol.core import CloseInitiator, Phase
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.inputs import (
    ForceClose,
    RequestClose,
    RequestWithdrawal,
    RevealSecret,
    SubmitLock,
    SubmitPayment,
)
from tallystick.channels.session.view import ChannelView

SECRET = b"s" * 32
CONDITION = hashlib.sha256(SECRET).digest()


def view(party: Party) -> ChannelView:
    return party.engine.view(party.channel.id)


def figures(seen: ChannelView) -> dict[str, Any]:
    """Everything that a view says, what it works out included."""
    worked_out = [name for name, value in vars(ChannelView).items() if isinstance(value, property)]
    return {name: getattr(seen, name) for name in [*ChannelView.__struct_fields__, *worked_out]}


# --- what can happen ---------------------------------------------------------------------------------------------


def pay(pair: Pair, party: Party) -> None:
    party.apply(SubmitPayment(1 + party.session.spendable // 3))


def lock(pair: Pair, party: Party) -> None:
    party.apply(SubmitLock(7, party.chain.now + 900, CONDITION, b"onion"))


def answer(pair: Pair, party: Party) -> None:
    for pending in party.channel.theirs.simplex.locks[:1]:
        party.apply(RevealSecret(pending.id, SECRET))


def withdraw(pair: Pair, party: Party) -> None:
    party.apply(RequestWithdrawal(5))


def deposit(pair: Pair, party: Party) -> None:
    deposits = [*party.channel.deposits]
    deposits[party.channel.side] += 100
    for one in pair.parties:
        one.fund((deposits[0], deposits[1]), party.channel.withdrawn)


def close(pair: Pair, party: Party) -> None:
    party.apply(RequestClose())


def freeze(pair: Pair, party: Party) -> None:
    party.apply(ForceClose())


def cut(pair: Pair, party: Party) -> None:
    if pair.connected:
        pair.disconnect()
    else:
        pair.connect()


def step(pair: Pair, party: Party) -> None:
    party.step()


def settle(pair: Pair, party: Party) -> None:
    pair.settle()


ACTS: tuple[Callable[[Pair, Party], None], ...] = (
    pay, pay, lock, lock, answer, withdraw, deposit, close, freeze, cut, step, step, settle,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 1)), max_size=30),
    reserve_ppm=st.sampled_from([0, 50_000]),
)
def test_a_view_is_the_channel_of_its_moment_and_never_changes(
    acts: list[tuple[Callable[[Pair, Party], None], int]], reserve_ppm: int
) -> None:
    pair = Pair(reserve_ppm=reserve_ppm)
    pair.connect()
    held: list[tuple[ChannelView, dict[str, Any]]] = []
    for act, side in acts:
        with contextlib.suppress(InvalidInput):
            act(pair, pair.parties[side])
        for party in pair.parties:
            seen = view(party)
            held.append((seen, figures(seen)))
            check(party, seen)
    for seen, before in held:
        assert figures(seen) == before, "a view has changed in the hands of its holder"


def check(party: Party, seen: ChannelView) -> None:
    """Compare a fresh view with the session itself, and with what the session would take."""
    session, channel = party.session, party.channel
    assert seen.channel is channel and bytes(seen.peer) == channel.peer_key
    assert (seen.ready, seen.is_stuck, seen.payable) == (session.ready, session.is_stuck, session.payable)
    assert seen.usable is (session.ready and not session.patience.cuts)
    assert seen.payable is (channel.phase is Phase.OPEN and channel.shutdown is CloseInitiator.NONE)
    assert (seen.funding, seen.queued, seen.unsecured) == (session.funding, session.outbox.total, session.unsecured)
    assert (seen.next_lock, seen.lock_slots) == (session.next_lock, session.lock_slots)
    assert seen.signable == max(0, session.signable - session.outbox.total)
    assert seen.spendable == session.spendable
    try:
        seen.require_payable()
    except ChannelNotReady as error:
        assert not seen.payable
        with pytest.raises(ChannelNotReady, match=str(error)[:30]):
            party.apply(SubmitPayment(1))
        return
    assert seen.payable
    with pytest.raises(InsufficientFunds):
        party.apply(SubmitPayment(seen.spendable + 1))


def test_what_a_view_says_can_be_spent_and_locked_is_taken_to_the_last_unit() -> None:
    pair = Pair(reserve_ppm=10_000)
    pair.connect()
    pair.settle()
    alice, _ = pair.parties
    before = view(alice)
    number = alice.apply(SubmitLock(before.spendable - 3, alice.chain.now + 900, CONDITION, b""))
    assert number == before.next_lock and view(alice).next_lock == number + 1
    assert (view(alice).queued, view(alice).queued_locks, view(alice).spendable) == (before.spendable - 3, 1, 3)
    assert view(alice).lock_slots == LOCKS_MAX - 1
    pair.settle()
    after = view(alice)
    assert (after.queued, after.spendable, after.signable, after.unsecured) == (0, 3, 3, 0)
    assert len(after.channel.newest.locks) == 1 and not before.channel.newest.locks
    alice.apply(SubmitPayment(3))
    assert view(alice).spendable == 0 and after.spendable == 3


def test_nothing_can_be_set_in_a_view() -> None:
    pair = Pair()
    seen = view(pair.parties[0])
    for name in ChannelView.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(seen, name, None)
    assert msgspec.structs.replace(seen, queued=1) != seen


def test_a_channel_on_a_chain_that_is_lost_takes_no_payments_by_its_view_either() -> None:
    pair = Pair()
    alice, _ = pair.parties
    before = view(alice)
    alice.lost = True
    assert before.payable and not view(alice).payable
    with pytest.raises(ChannelNotReady, match="another one than this channel is on"):
        view(alice).require_payable()


def test_views_are_all_channels_and_know_no_other() -> None:
    pair = Pair()
    alice, bob = pair.parties
    views = alice.engine.views
    assert len(views) == 1 and views.ids == [alice.channel.id]
    assert [seen.channel for seen in views] == [alice.channel] == [views.of(alice.channel.id).channel]
    assert [seen.channel for seen in views.with_peer(bytes(bob.key.public))] == [alice.channel]
    assert views.with_peer(bytes(alice.key.public)) == []
    stranger = ChannelId(bytes(32))
    assert views.get(stranger) is None
    for ask in (views.of, alice.engine.view, alice.engine.session, views.undecided_locks, views.claims):
        with pytest.raises(InvalidInput, match="no channel"):
            ask(stranger)
