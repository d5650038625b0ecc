"""Whose transactions a full pool keeps: what costs its sender nothing keeps nobody out, and raises nobody's fee."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.replicas import GENESIS, KEYS, transfer
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.errors import Refusal, TransactionRefused
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.transactions import Transaction, sign_call
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.decision import ProposedBlock
from tallystick.settlement.simulated import mempool
from tallystick.settlement.simulated.branch import ADJUDICATOR, Branch, ChainSettings
from tallystick.settlement.simulated.ledger import Mint
from tallystick.settlement.simulated.mempool import NONCES_AHEAD, Mempool

HELD = 10**9
GAS = 55_000


def person(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def sent(sender: int, nonce: int, price: int = 1, value: int = 0) -> Transaction:
    hash = keccak(b"%d %d %d %d" % (sender, nonce, price, value))
    return Transaction(hash, hash, person(sender), nonce, price, GAS, Envelope(person(0), value, b""))


def refusal(act: Callable[[], object]) -> Refusal:
    with pytest.raises(TransactionRefused) as refused:
        act()
    return refused.value.code


def test_gapped_transactions_of_many_accounts_keep_no_honest_one_out() -> None:
    """157 accounts with 64 each fill a pool of 10,000, and not one of them can ever be mined."""
    pool = Mempool(10_000)
    for sender in range(1, 158):
        for nonce in range(1, NONCES_AHEAD):
            pool.add(sent(sender, nonce, price=10_000), 0, HELD)
    for sender in range(158, 300):
        pool.add(sent(sender, 1, price=10_000), 0, HELD)
    assert len(pool) == 10_000 and pool.gas == 0
    for sender in range(300, 400):
        for nonce in range(3):
            pool.add(sent(sender, nonce), 0, HELD)
            assert sent(sender, nonce).hash in pool
    assert len(pool) == 10_000 and len(list(pool.ready())) == 300 and pool.gas == 300 * GAS
    assert all(sent(sender, 1, price=10_000).hash in pool for sender in range(158, 300)), "who has most, loses"


def test_what_its_sender_cannot_pay_for_after_what_comes_before_keeps_no_honest_one_out() -> None:
    pool = Mempool(100)
    for sender in (1, 2):
        for nonce in range(50):
            pool.add(sent(sender, nonce, price=10_000, value=(HELD - GAS * 10_000) * (not nonce)), 0, HELD)
    assert len(pool) == 100 and len(list(pool.ready())) == 2
    for sender in range(3, 101):
        pool.add(sent(sender, 0), 0, HELD)
    assert len(list(pool.ready())) == 100
    assert refusal(lambda: pool.add(sent(101, 0), 0, HELD)) is Refusal.MEMPOOL_FULL
    pool.add(sent(101, 0, price=2), 0, HELD)
    assert len(pool) == 100 and sent(101, 0, price=2).hash in pool


def test_one_that_waits_for_another_takes_the_room_of_who_has_most_of_these_or_none() -> None:
    pool = Mempool(6)
    for nonce in (1, 2, 3):
        pool.add(sent(1, nonce, price=9), 0, HELD)
    for sender in (2, 3, 4):
        pool.add(sent(sender, 0), 0, HELD)
    pool.add(sent(5, 7), 0, HELD)
    assert sent(5, 7).hash in pool and sent(1, 3, price=9).hash not in pool
    pool.add(sent(6, 7), 0, HELD)
    assert refusal(lambda: pool.add(sent(6, 8), 0, HELD)) is Refusal.MEMPOOL_FULL
    assert len(pool) == 6 and [sent(6, nonce).hash in pool for nonce in (7, 8)] == [True, False]


def test_a_gap_that_is_filled_makes_ready_what_waited_behind_it() -> None:
    pool = Mempool(10)
    pool.add(sent(1, 1), 0, HELD)
    assert not list(pool.ready())
    pool.add(sent(1, 0), 0, HELD)
    assert [each.nonce for each in pool.ready()] == [0, 1] and pool.gas == 2 * GAS
    pool.forget_used(lambda account: 1, lambda account: GAS)
    assert [each.nonce for each in pool.ready()] == [1] and len(pool) == 1
    pool.forget_used(lambda account: 1, lambda account: GAS - 1)
    assert not list(pool.ready()) and pool.gas == 0 and len(pool) == 1
    pool.forget_used(lambda account: 2, lambda account: HELD)
    assert not len(pool) and not list(pool)


def test_who_offers_too_little_is_not_taken_though_an_earlier_one_of_his_is_the_cheapest() -> None:
    pool = Mempool(3)
    for transaction in (sent(1, 0), sent(1, 1, price=5), sent(2, 0, price=3)):
        pool.add(transaction, 0, HELD)
    assert refusal(lambda: pool.add(sent(1, 2, price=9), 0, HELD)) is Refusal.MEMPOOL_FULL
    assert len(pool) == 3 and sent(1, 0).hash in pool
    pool.add(sent(3, 0, price=2), 0, HELD)
    assert sorted(each.sender[-1] for each in pool) == [2, 3], "what cannot be mined without it goes with it"


STEPS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(1, 30), st.sampled_from([0, HELD // 2])), max_size=60
)


@given(STEPS, st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_the_books_are_right_whatever_comes(steps: list[tuple[int, int, int, int]], used: list[int]) -> None:
    pool = Mempool(8)
    for number, (sender, nonce, price, value) in enumerate(steps):
        before = {each.hash for each in pool}
        new = sent(sender, nonce, price, value)
        try:
            pool.add(new, 0, HELD)
        except TransactionRefused:
            assert {each.hash for each in pool} == before, "who is refused has changed nothing"
        else:
            assert new.hash in pool
        assert len(pool) <= 8 and len(list(pool)) == len(pool)
        assert pool.gas == GAS * len(list(pool.ready()))
        for each in range(1, 5):
            mine = [waiting for waiting in pool.ready() if waiting.sender == person(each)]
            assert [waiting.nonce for waiting in mine] == list(range(len(mine)))
            assert sum(waiting.cost_max for waiting in mine) <= HELD
        if number == 40:
            pool.forget_used(lambda account: used[account[-1]], lambda account: HELD)
            pool.forget_used(lambda account: 0, lambda account: HELD)


def test_a_validator_s_door_stays_open_to_who_pays_and_its_fee_price_low() -> None:
    attackers = [PrivateKey(keccak(b"attacker %d" % number)) for number in range(4)]
    mints = (*GENESIS.mints, *(Mint(key.address, NATIVE, 10**9) for key in attackers))
    genesis = replace(GENESIS, mints=mints)
    settings = ChainSettings(
        chain_id=genesis.chain_id, contract=genesis.contract, gas_limit=GENESIS.gas_limit, pool=24, dev=True
    )
    app = Application(Branch(settings, lambda: genesis.time, genesis.mints, None), genesis)
    call = TransferCall(NATIVE, KEYS[0].address, 1)
    for nonce in range(1, 7):
        for key in attackers:
            app.check(sign_call(key, 1337, ADJUDICATOR, call, nonce, 9_000))
    assert len(app.branch.pool) == 24 and app.branch.fee_price() == 1
    honest = [transfer(sender, nonce) for nonce in range(3) for sender in range(3)]
    for raw in honest:
        app.check(raw)
    assert app.branch.fee_price() == 3, "more than a block of these waits, for 2 each"
    proposed = app.prepare(ProposedBlock(1, 1_000, ()), 10**6)
    assert len(proposed) == 7 and set(proposed) < set(honest)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["add", "drop", "mine"])), max_size=60))
def test_of_a_full_pool_the_cheapest_goes_and_of_equals_the_last(moves: list[tuple[int, int, str]]) -> None:
    pool, order, mined = Mempool(6), list[bytes](), dict[Address, int]()
    for sender, price, what in moves:
        own = [each for each in pool if each.sender == person(sender)]
        if what == "drop":
            for each in own[-1:]:
                pool.drop(each)
        elif what == "mine" and own:
            mined[person(sender)] = own[0].nonce + 1
            pool.forget_used(lambda account: mined.get(account, 0), lambda account: HELD)
        else:
            new = sent(sender, mined.get(person(sender), 0) + price % 2 * len(own), price)
            with suppress(TransactionRefused):
                pool.add(new, mined.get(person(sender), 0), HELD)
                order.append(new.hash)
        assert len(pool) <= 6
        if len(pool):
            least = min(each.price for each in pool)
            last = max(
                (each for each in pool if each.price == least), key=lambda each: order[::-1].index(each.hash) * -1
            )
            assert pool._cheapest() == last


def test_a_full_pool_does_not_look_at_all_that_waits_for_each_that_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, asked = Mempool(500), 0
    for sender in range(500):
        pool.add(sent(sender, 0, price=5), 0, HELD)
    unready = mempool._AccountQueue.unready

    def counted(account: mempool._AccountQueue) -> int:
        nonlocal asked
        asked += 1
        return unready.fget(account)

    monkeypatch.setattr(mempool._AccountQueue, "unready", property(counted))
    monkeypatch.setattr(Mempool, "ready", lambda pool: pytest.fail("it looks at all"))
    for sender in range(500, 600):
        assert refusal(lambda sender=sender: pool.add(sent(sender, 0, price=5), 0, HELD)) == Refusal.MEMPOOL_FULL
        pool.add(sent(sender, 0, price=6), 0, HELD)
    assert len(pool) == 500 and asked < 2_000
