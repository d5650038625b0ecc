"""One rule book, two executions: the simulated ledger and the contract's bytecode say the same to every call.

A slice of `python -m simulation.evm_histories`, and what is small enough to be tried in full.
"""

from __future__ import annotations

from itertools import product

import msgspec
import pytest

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm_histories import campaign
from simulation.evm_twins import STRANGER, TOWER, Differs, Twins
from tallystick.channels.limits import LOCKS_MAX
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.hashchain import StreamTerms, walk
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Address, Lock, SignedProof
from tallystick.settlement.chain import (
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterSecretCall,
    SettleCall,
)
from tallystick.settlement.simulated.world import balance_key


def opened(twins: Twins, number: int, deposits: tuple[int, int] = (600, 400)) -> ChannelFixture:
    """Return a channel that both paid into."""
    fixture = ChannelFixture(contract=twins.at)
    fixture.terms = msgspec.structs.replace(fixture.terms, number=number)
    fixture.id = channel_id(fixture.terms)
    assert twins.send(OpenCall(fixture.terms, deposits[0]), fixture.address(0), fixture.id) == ""
    if deposits[1]:
        assert twins.send(DepositCall(fixture.id, 1, deposits[1]), fixture.address(1), fixture.id) == ""
    return fixture


@pytest.mark.parametrize("seed", range(20, 24))
def test_random_histories_come_out_the_same(seed: int) -> None:
    twins = campaign(seed, 1_000)
    done = {call for call, verdict in twins.verdicts if not verdict and "batch" not in call}
    assert len(done) == 11  # every call did something
    together = {bool(verdict) for call, verdict in twins.verdicts if "batch" in call}
    assert together == {True, False}, "in batches, some were done and some failed"


def test_every_pair_of_stale_proofs_is_judged_the_same_and_every_challenge() -> None:
    """Either side closes with any pair of what was signed; then somebody challenges with what is newest, or nobody."""
    twins = Twins()
    cases = product((0, 1), range(4), range(4), ((), (0,), (1,), (0, 1)))
    for number, (closer, first, second, answers) in enumerate(cases):
        fixture = opened(twins, number)
        signed: list[list[SignedProof | None]] = [
            [None, *(fixture.proof(side, seq, 100 * seq + side, seen=max(0, seq - 1)) for seq in (1, 2, 3))]
            for side in (0, 1)
        ]
        close = fixture.close(signed[0][first], signed[1][second])
        assert twins.send(close, fixture.address(closer), fixture.id) == ""
        for side in answers:
            newest = signed[side][3]
            assert newest is not None
            challenge = fixture.challenge(newest, tower=TOWER, victim=1 - closer)
            expected = "not-newer" if (first, second)[side] == 3 else ""
            assert twins.send(challenge, STRANGER, fixture.id) == expected
        twins.time += PERIOD + 1
        assert twins.send(SettleCall(fixture.id), STRANGER, fixture.id) == ""


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_at_each_boundary_of_time_both_say_the_same(late: int) -> None:
    twins = Twins()
    fixture = opened(twins, 0)
    until = twins.time + 50
    secret = keccak(b"in time")
    locks = (Lock(1, 100, until + 10 + 2 * PERIOD, 0, digest_of(secret)), Lock(2, 50, until, 0, digest_of(bytes(32))))
    twins.time = until + late
    verdict = "expired" if late > 0 else ""
    assert twins.send(fixture.withdrawal(0, 10, until), TOWER, fixture.id) == verdict
    other = opened(twins, 1)
    twins.time = until + late
    assert twins.send(other.cooperative_close(600, 400, until), TOWER, other.id) == verdict
    assert twins.send(fixture.close(fixture.proof(0, 1, 0, locks)), fixture.address(1), fixture.id) == ""
    deadline = until + late + PERIOD
    twins.time = deadline + late
    challenge = fixture.challenge(fixture.proof(0, 2, 5, locks))
    assert twins.send(challenge, TOWER, fixture.id) == ("window-over" if late > 0 else "")
    assert twins.send(SettleCall(fixture.id), TOWER, fixture.id) == ("" if late > 0 else "window-open")
    twins.time = deadline + 1
    if late <= 0:
        assert twins.send(SettleCall(fixture.id), TOWER, fixture.id) == ""
    twins.time = locks[0].expiry + late
    assert twins.send(RegisterSecretCall(secret), TOWER, fixture.id) == ""
    assert twins.send(RedeemCall(fixture.id, 0, locks), TOWER, fixture.id) == ""


@pytest.mark.parametrize("order", list(product((0, 1), repeat=4)))
@pytest.mark.parametrize("opening", [0, 7])
def test_a_cooperative_close_gives_back_what_was_deposited_since_for_every_order_of_deposits(
    opening: int, order: tuple[int, ...]
) -> None:
    """Whoever deposits when, a close that was signed at any moment is right, and one for any other sum is not."""
    twins = Twins()
    fixtures = []
    for number in range(len(order) + 1):
        fixture = opened(twins, number, (opening, 0))
        held = [opening, 0]
        offers = [fixture.cooperative_close(held[0], held[1], twins.time + 900)]
        for place, side in enumerate(order):
            amount = 10 ** (place + 1)
            assert twins.send(DepositCall(fixture.id, side, amount), STRANGER, fixture.id) == ""
            held[side] += amount
            offers.append(fixture.cooperative_close(held[0], held[1], twins.time + 900))
        fixtures.append((fixture, offers))
    for number, (fixture, offers) in enumerate(fixtures):
        for wrong in (1, opening + 1, 100, 110 + opening, 11_110 + opening + 1):
            sums = {offer.close.balance0 + offer.close.balance1 for offer in offers}
            if wrong not in sums:
                offer = fixture.cooperative_close(wrong, 0, twins.time + 900)
                assert twins.send(offer, STRANGER, fixture.id) == "bad-balances"
        assert twins.send(offers[number], STRANGER, fixture.id) == ""


def settled(twins: Twins, *locks: Lock) -> ChannelFixture:
    """Return a channel that waits for these locks of simplex 0 alone."""
    fixture = opened(twins, 0)
    assert twins.send(fixture.close(fixture.proof(0, 1, 0, locks)), fixture.address(1), fixture.id) == ""
    twins.time += PERIOD + 1
    assert twins.send(SettleCall(fixture.id), TOWER, fixture.id) == ""
    return fixture


@pytest.mark.parametrize("kind", [0, 1, 2, 77])
@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_lock_that_nothing_satisfies_goes_back_after_its_expiry_and_no_earlier(late: int, kind: int) -> None:
    twins = Twins()
    lock = Lock(1, 100, twins.time + 2 * PERIOD, kind, keccak(b"of nothing"))
    fixture = settled(twins, lock)
    twins.time = lock.expiry + late
    expected = "" if late > 0 else "nothing-to-redeem"
    assert twins.send(RedeemCall(fixture.id, 0, (lock,)), TOWER, fixture.id) == expected


def test_a_link_pays_locks_of_its_own_kind_alone() -> None:
    twins = Twins()
    seed, expiry = keccak(b"a seed"), twins.time + 3 * PERIOD
    terms = StreamTerms(walk(seed, 10), 5, 10)
    locks = tuple(Lock(kind, 50, expiry, kind, terms.condition(expiry)) for kind in (0, 1, 2, 3, 77))
    fixture = settled(twins, *locks)
    link = RegisterLinkCall(walk(seed, 2), 8, terms.tip, terms.unit, terms.length, expiry)
    assert twins.send(link, TOWER) == ""
    twins.time = expiry + 1
    before = twins.evm.balance(fixture.address(1))
    assert twins.send(RedeemCall(fixture.id, 0, locks), TOWER, fixture.id) == ""
    assert twins.evm.balance(fixture.address(1)) == before + 40


def test_withdrawals_take_what_is_there_and_no_more() -> None:
    twins = Twins()
    fixture = opened(twins, 0)
    steps = ((0, 600, ""), (1, 401, "bad-amount"), (1, 100, ""), (1, 401, "bad-amount"), (0, 901, "bad-amount"))
    for side, total, verdict in (*steps, (0, 600, "bad-amount"), (1, 400, ""), (0, 601, "bad-amount")):
        assert twins.send(fixture.withdrawal(side, total, twins.time), TOWER, fixture.id) == verdict
    assert twins.send(fixture.cooperative_close(0, 0, twins.time), TOWER, fixture.id) == ""


def test_a_channel_takes_deposits_below_two_to_the_120() -> None:
    twins = Twins()
    fixture = ChannelFixture(contract=twins.at)
    rich = 2**129
    for account in (fixture.address(0), STRANGER):
        twins.evm.fund(account, rich)
        twins.state.put(balance_key(NATIVE, account), rich)
    assert twins.send(OpenCall(fixture.terms, 2**120), fixture.address(0), fixture.id) == "bad-amount"
    assert twins.send(OpenCall(fixture.terms, 2**120 - 5), fixture.address(0), fixture.id) == ""
    assert twins.send(DepositCall(fixture.id, 1, 5), STRANGER, fixture.id) == "bad-amount"
    assert twins.send(DepositCall(fixture.id, 0, 2**128 - 1), STRANGER, fixture.id) == "bad-amount"
    assert twins.send(DepositCall(fixture.id, 1, 1), STRANGER, fixture.id) == ""
    assert twins.send(DepositCall(fixture.id, 0, 3), STRANGER, fixture.id) == ""
    assert twins.send(DepositCall(fixture.id, 1, 1), STRANGER, fixture.id) == "bad-amount"
    offer = fixture.cooperative_close(0, 2**120 - 5, twins.time + 9)
    assert twins.send(offer, STRANGER, fixture.id) == ""


@pytest.mark.parametrize("count", [0, 1, 32, 33, LOCKS_MAX])
def test_so_many_locks_are_redeemed_the_same(count: int) -> None:
    twins = Twins()
    fixture = opened(twins, 0)
    secrets = [keccak(number.to_bytes(4, "big")) for number in range(5)]
    far = twins.time + 10_000
    locks = tuple(Lock(i, i % 4, far, 0, digest_of(secrets[i % 5])) for i in range(count))
    assert twins.send(fixture.close(fixture.proof(0, 1, 0, locks)), fixture.address(1), fixture.id) == ""
    twins.time += PERIOD + 1
    assert twins.send(SettleCall(fixture.id), TOWER, fixture.id) == ""
    expected = "" if count > 1 else "wrong-status" if count == 0 or not locks[0].amount else "nothing-to-redeem"
    for secret in secrets[:2]:
        twins.send(RegisterSecretCall(secret), TOWER)
    assert twins.send(RedeemCall(fixture.id, 0, locks), TOWER, fixture.id) == expected
    if expected:
        return
    kept = tuple(lock for lock in locks if lock.condition not in {digest_of(secret) for secret in secrets[:2]})
    assert twins.send(RedeemCall(fixture.id, 0, kept), TOWER, fixture.id) == "nothing-to-redeem"
    twins.time = far + 1
    assert twins.send(RedeemCall(fixture.id, 0, locks), TOWER, fixture.id) == "bad-locks"
    assert twins.send(RedeemCall(fixture.id, 0, kept), TOWER, fixture.id) == ""


def test_a_difference_is_noticed() -> None:
    twins = Twins()
    fixture = opened(twins, 0)
    twins.evm.fund(Address(fixture.address(0)), 5)
    with pytest.raises(Differs, match="balances"):
        twins.send(fixture.withdrawal(0, 10, twins.time), TOWER, fixture.id)
