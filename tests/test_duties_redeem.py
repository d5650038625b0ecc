"""What is decided in a settled channel is redeemed when it is worth its fee: no lock that stays open holds it up."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.disputes import PERIOD, ChannelFixture, DisputeFixture
from tallystick.channels.protocol.apps import APP
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.core import Channel, Phase, SignedSimplex, new_channel
from tallystick.channels.protocol.eip712 import locks_root
from tallystick.channels.protocol.objects import BalanceProof, Lock, Puzzle
from tallystick.channels.protocol.simplex import Simplex
from tallystick.channels.session.chaintime import StakeInCourt
from tallystick.settlement.chain import SETTLED, ContractChannel, RedeemCall, Redeemed, SettleCall
from tallystick.settlement.contract.court import CourtRecord, pack
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.duties import TOGETHER, ChannelOnChain, duties, settled_locks
from tallystick.settlement.ethereum.transactions import gas_of

NOW = 10_000
PRICE = 7
FIXTURE = ChannelFixture()
POLICY = DutyPolicy()


class Made(NamedTuple):
    """A lock, and what the chain knows of it."""

    lock: Lock
    registered: int | None = None
    """When its secret was."""
    stake: StakeInCourt | None = None

    @property
    def secret(self) -> bytes:
        return bytes([self.lock.id]) * 32


def hashed(number: int, amount: int, expiry: int, registered: int | None = None) -> Made:
    return Made(Lock(number, amount, expiry, HASH, digest_of(bytes([number]) * 32)), registered)


def staked(number: int, amount: int, expiry: int, stake: StakeInCourt | None = None) -> Made:
    return Made(Lock(number, amount, expiry, APP, bytes([number]) * 32), None, stake)


def settled(*made: Made, sender: int = 1) -> Channel:
    """Ours is side 0; the locks are of side `sender`."""
    locks = tuple(each.lock for each in made)
    fresh = new_channel(FIXTURE.terms, 0, bytes(FIXTURE.keys[1].public), 0)
    signed = FIXTURE.proof(sender, 1, 0, locks)
    half = SignedSimplex(Simplex(signed.proof, locks, len(locks)), signed)
    channel = msgspec.structs.replace(fresh, phase=Phase.SETTLED, deposits=(10**9, 10**9))
    return msgspec.structs.replace(channel, **{"ours" if sender == 0 else "theirs": half})


def on_chain(*made: Made, sender: int = 1, pot: int | None = None, now: int = NOW) -> ChannelOnChain:
    pots, seqs = [0, 0], [0, 0]
    pots[sender], seqs[sender] = sum(each.lock.amount for each in made) if pot is None else pot, 1
    view = ContractChannel(
        terms=FIXTURE.terms,
        status=SETTLED,
        deposits=(10**9, 10**9),
        withdrawn=(0, 0),
        seqs=(seqs[0], seqs[1]),
        pots=(pots[0], pots[1]),
    )
    proofs: dict[Puzzle, tuple[int, bytes]] = {}
    for each in made:
        if each.registered is not None:
            proofs[each.lock.puzzle] = (each.registered, each.secret)
    stakes = {each.lock.puzzle: each.stake for each in made if each.stake is not None}
    return ChannelOnChain(view, now, proofs, ([], []), {}, PRICE, {}, {}, PRICE, stakes=stakes)


def redeem(channel: Channel, at: ChannelOnChain, policy: DutyPolicy = POLICY) -> tuple[RedeemCall, int] | None:
    """What is redeemed, and what that may cost: what it brings."""
    for duty in duties(channel, at, policy, lambda _: bytes(32)):
        if isinstance(duty.call, RedeemCall):
            return duty.call, duty.budget
    return None


def fee(*made: Made) -> int:
    return gas_of(RedeemCall(FIXTURE.id, 1, tuple(each.lock for each in made))) * PRICE


IN_COURT = StakeInCourt(NOW - 5, NOW + 20 * 86_400, 1)


@pytest.mark.parametrize("sender", [0, 1])
@pytest.mark.parametrize(
    "dust",
    [
        staked(0, 1, NOW + 9 * 86_400),
        staked(0, 1, NOW - 5, IN_COURT),
        staked(0, 1, NOW + 5),
        hashed(0, 1, NOW + TOGETHER),
    ],
)
def test_what_is_decided_does_not_wait_for_what_may_stay_open(dust: Made, sender: int) -> None:
    """A peer could hold all of it up for weeks by a lock of one unit whose app it plays with itself."""
    for amount, due in ((fee(dust, dust), True), (fee(dust, dust) - 1, False)):
        ours = hashed(1, amount, NOW - 1, registered=NOW - 9 if sender == 1 else None)
        found = redeem(settled(dust, ours, sender=sender), on_chain(dust, ours, sender=sender))
        assert (found is not None) is due
        assert found is None or found == (RedeemCall(FIXTURE.id, sender, (dust.lock, ours.lock)), amount)


def test_what_is_decided_soon_is_waited_for_and_costs_no_further_fee() -> None:
    soon, ours = hashed(0, 1, NOW + TOGETHER - 1), hashed(1, 10**9, NOW - 1, registered=NOW - 9)
    assert redeem(settled(soon, ours), on_chain(soon, ours)) is None
    assert redeem(settled(soon, ours), on_chain(soon, ours, now=NOW + TOGETHER)) is not None


def test_nothing_is_redeemed_where_all_is_open_or_nothing_is_brought() -> None:
    dust, theirs = staked(0, 10**9, NOW - 5, IN_COURT), hashed(1, 10**9, NOW - 1)
    free = DutyPolicy(worth_percent=0)
    assert redeem(settled(dust), on_chain(dust), free) is None
    assert redeem(settled(dust, theirs), on_chain(dust, theirs), free) is None
    assert redeem(settled(theirs), on_chain(theirs), free) is not None, "as it was: the owner wants all of them done"


kinds = st.tuples(st.integers(1, 99), st.sampled_from((NOW - 900, NOW - 1, NOW, NOW + 1, NOW + 9 * 86_400)))
found_in_court = st.tuples(
    st.sampled_from((1, NOW - 901)), st.sampled_from((NOW - 7, NOW, NOW + 1)), st.integers(0, 120)
)


@st.composite
def locks(draw: st.DrawFn) -> list[Made]:
    made = list[Made]()
    for number in range(draw(st.integers(1, 5))):
        amount, expiry = draw(kinds)
        if draw(st.booleans()):
            made.append(hashed(number, amount, expiry, draw(st.none() | st.integers(NOW - 950, NOW))))
        else:
            stake = draw(st.none() | found_in_court)
            made.append(staked(number, amount, expiry, StakeInCourt(*stake) if stake else None))
    return made


@given(made=locks(), sender=st.integers(0, 1), lacks=st.integers(-60, 60))
def test_what_is_redeemed_brings_what_was_reckoned_and_leaves_what_is_reckoned_next(
    made: list[Made], sender: int, lacks: int
) -> None:
    pot = max(0, sum(each.lock.amount for each in made) - lacks)
    contract = DisputeFixture(FIXTURE, time=NOW - PERIOD - 1)
    deposits = (pot, 0) if sender == 0 else (0, pot)
    contract.open(*deposits)
    locked = max(pot, sum(each.lock.amount for each in made))  # it may be more than the locks, if both signed that
    root = locks_root([each.lock for each in made])
    proof = FIXTURE.sign(BalanceProof(FIXTURE.id, sender, 1, 0, locked, root, 0))
    contract.apply(FIXTURE.close(*((proof, None) if sender == 0 else (None, proof))))
    contract.time = NOW
    for each in made:
        if each.registered is not None:
            contract.kept[each.lock.puzzle] = each.registered
        if each.stake is not None:
            record = CourtRecord(each.stake.expiry, each.stake.decides - 1, (each.stake.paid, 0))
            contract.kept[each.lock.puzzle] = pack(record, 0)
    contract.apply(SettleCall(FIXTURE.id))
    channel, at = settled(*made, sender=sender), on_chain(*made, sender=sender, pot=pot)
    found = redeem(channel, at, DutyPolicy(worth_percent=0))
    if found is None:
        return
    before = contract.received(0)
    (event,) = contract.apply(found[0])
    brought = contract.received(0) - before
    exact = redeem(channel, msgspec.structs.replace(at, lowest=0), DutyPolicy())
    assert exact is None or exact[1] == max(1, brought)
    assert isinstance(event, Redeemed)
    redeemed: tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]] = ([], [])
    redeemed[sender].append((NOW, event.root))
    left = settled_locks(channel, msgspec.structs.replace(at, redeemed=redeemed), sender)
    assert (left == ()) is (event.root == bytes(32))
