"""A client that sleeps is paid for what it knows the secret of: the tower registers it in time, closed or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio

from simulation.tower_world import ALICE, CAROL, MALLORY, TOWER, TowerWorld
from tallystick.channels.protocol.conditions import HASH, STREAM, digest_of
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, StreamTerms
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Lock, SignedProof
from tallystick.settlement.chain import (
    CloseCall,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
)
from tallystick.watchtower.claims import ClaimPolicy, LockClaim
from tallystick.watchtower.offers import ClientPolicy
from tallystick.watchtower.schema import count_timely, read_timely
from tallystick.watchtower.tower import TowerPolicy

DEPOSIT = 10**9
AMOUNT = 10**8
LIFE = 1_200
SECRET = keccak(b"what Alice revealed")
MARGIN = ClaimPolicy().margin


class Night(TowerWorld):
    """Mallory owes Alice a pending lock, whose secret she has; and Alice goes to sleep."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.locks: tuple[Lock, ...] = ()
        self.claims: tuple[LockClaim, ...] = ()

    @property
    def now(self) -> int:
        return self.chain.newest.header.time

    async def open_channel(self) -> None:
        first, second = self.pair.keys
        await self.chain.call(first, OpenCall(self.pair.terms, DEPOSIT))
        await self.chain.call(second, DepositCall(self.pair.channel, 1, DEPOSIT))

    def lock(self, amount: int = AMOUNT, life: int = LIFE, secret: bytes = SECRET) -> LockClaim:
        lock = Lock(len(self.locks) + 1, amount, self.now + life, HASH, digest_of(secret))
        self.locks = (*self.locks, lock)
        self.claims = (*self.claims, LockClaim(lock, secret))
        return self.claims[-1]

    def stream(self, unit: int = 10**6, length: int = 100, life: int = LIFE) -> list[LockClaim]:
        """Add a stream; return its claims, by depth."""
        chain = HashChain.built(keccak(b"seed"), length)
        terms, expiry = StreamTerms(chain.tip, unit, length), self.now + life
        lock = Lock(len(self.locks) + 1, terms.amount, expiry, STREAM, terms.condition(expiry))
        self.locks = (*self.locks, lock)
        return [LockClaim(lock, StreamProof(chain.link(k), k, terms).encode()) for k in range(length + 1)]

    def newest(self) -> tuple[SignedProof | None, SignedProof | None]:
        proof = self.pair.proof(self.mallory, 7, 600, locks=self.locks)
        return (proof, None) if self.mallory == 0 else (None, proof)

    async def goodnight(self) -> None:
        """Alice's last upload."""
        await self.upload(*self.newest(), self.claims)

    async def until(self, time: int, step: int = 30) -> None:
        """Let chain time pass, block by block."""
        while self.now < time:
            self.chain.advance(min(step, time - self.now))
            await trio.sleep(2)

    async def end(self) -> int:
        """Mallory closes with her newest proof, all of it is settled; return what Alice has of it."""
        before = await self.chain.balance(ALICE.address, NATIVE)
        view = await self.view()
        if view.status == 0:
            await self.chain.call(MALLORY, CloseCall(self.pair.channel, *self.newest(), self.pair.close_key))
        self.chain.advance(700)
        assert (await self.chain.call(CAROL, SettleCall(self.pair.channel))).success
        await self.until(max(lock.expiry for lock in self.locks) + 1, 600)
        redeemed = await self.chain.call(CAROL, RedeemCall(self.pair.channel, self.mallory, self.locks))
        assert redeemed.success, redeemed.reason
        self.chain.check_conservation()
        return await self.chain.balance(ALICE.address, NATIVE) - before - DEPOSIT - 600


@pytest.fixture
def night(tmp_path: Path) -> AsyncIterator[Night]:
    made = Night(tmp_path)
    yield made  # type: ignore[misc]  # a plain generator fixture
    made.store.close()


async def test_who_sleeps_past_the_expiry_is_paid_though_nobody_closed_before(
    night: Night, autojump_clock: trio.testing.MockClock
) -> None:
    await night.open_channel()
    claim = night.lock()
    await night.goodnight()
    async with night.house.open() as (tower, _):
        await night.until(claim.lock.expiry - MARGIN - 40)
        assert await night.chain.secret_time(claim.lock.condition) is None, "its peer may pay yet, and it costs a fee"
        await night.until(claim.lock.expiry + 100)
        registered = await night.chain.secret_time(claim.lock.condition)
        assert registered is not None and registered <= claim.lock.expiry - MARGIN + 120
        assert tower.statistics().registrations == 1
        assert await night.end() == AMOUNT
    assert night.alarms == []


async def test_what_is_only_sealed_is_registered_at_once_after_a_close_and_not_without_one(
    night: Night, autojump_clock: trio.testing.MockClock
) -> None:
    night.policy = ClientPolicy(every=0.1, timely=False)
    await night.open_channel()
    claim, other = night.lock(), night.lock(secret=keccak(b"another"), life=3 * LIFE)
    await night.goodnight()
    async with night.house.open() as (tower, _):
        await night.until(claim.lock.expiry + 10)
        assert await night.chain.secret_time(claim.lock.condition) is None
        await night.chain.call(MALLORY, CloseCall(night.pair.channel, *night.newest(), night.pair.close_key))
        await night.until(night.now + 60)
        assert await night.chain.secret_time(other.lock.condition) is not None
        assert tower.statistics().registrations == 1, "the first one pays nothing any more"
        assert await night.end() == AMOUNT


async def test_the_clients_own_close_does_not_keep_the_tower_from_registering(
    night: Night, autojump_clock: trio.testing.MockClock
) -> None:
    night.policy = ClientPolicy(every=0.1, timely=False)
    await night.open_channel()
    claim = night.lock()
    await night.goodnight()
    async with night.house.open() as (tower, _):
        await night.chain.call(ALICE, CloseCall(night.pair.channel, *night.newest(), night.pair.close_key))
        await night.until(night.now + 60)
        assert tower.statistics().challenges == 0
        assert await night.chain.secret_time(claim.lock.condition) is not None


async def test_of_a_stream_the_deepest_link_is_registered(night: Night, autojump_clock: trio.testing.MockClock) -> None:
    await night.open_channel()
    links = night.stream()
    for depth in (3, 41, 40):
        night.claims = (links[depth],)
        await night.goodnight()
    night.claims = (links[41],)
    await night.goodnight()
    async with night.house.open() as (tower, _):
        await night.until(links[0].lock.expiry + 60)
        assert tower.statistics().registrations == 1
        assert await night.end() == 41 * 10**6


@pytest.mark.parametrize(("back", "paid"), [(3_000, True), (MARGIN, True), (90, True), (-30, False)])
async def test_a_tower_that_was_down_registers_up_to_shortly_before_the_expiry(
    night: Night, back: int, paid: bool, autojump_clock: trio.testing.MockClock
) -> None:
    await night.open_channel()
    claim = night.lock(life=3_600)
    await night.goodnight()
    await night.until(claim.lock.expiry - back, 120)
    async with night.house.open() as (tower, _):
        await night.until(claim.lock.expiry + 60)
        assert tower.statistics().given_up == ({} if paid else {"too-late": 1})
    assert await night.end() == (AMOUNT if paid else 0)


async def test_a_registration_survives_a_crash_at_any_moment(
    night: Night, autojump_clock: trio.testing.MockClock
) -> None:
    await night.open_channel()
    claim = night.lock()
    await night.goodnight()
    await night.until(claim.lock.expiry - MARGIN + 1, 120)
    for pause in range(12):
        async with night.house.open():
            for _ in range(5 * pause):
                await trio.lowlevel.checkpoint()
        if pause % 3 == 2:
            night.chain.mine()
    async with night.house.open():
        await night.until(claim.lock.expiry + 30)
    assert await night.end() == AMOUNT
    assert await night.chain.nonce(TOWER.address) == 1


async def test_a_registration_that_a_reorganisation_takes_back_is_made_again(
    night: Night, autojump_clock: trio.testing.MockClock
) -> None:
    await night.open_channel()
    claim = night.lock()
    await night.goodnight()
    async with night.house.open():
        while await night.chain.secret_time(claim.lock.condition) is None:
            await night.until(night.now + 12, 12)
        night.chain.reorganise(2, keep=lambda transaction: False)
        assert await night.chain.secret_time(claim.lock.condition) is None
        await night.until(claim.lock.expiry + 30, 12)
    assert await night.end() == AMOUNT


async def test_what_somebody_has_registered_costs_the_tower_nothing(
    night: Night, autojump_clock: trio.testing.MockClock
) -> None:
    await night.open_channel()
    claim = night.lock()
    await night.goodnight()
    async with night.house.open() as (tower, _):
        await night.until(claim.lock.expiry - MARGIN - 100)
        await night.chain.call(CAROL, RegisterSecretCall(SECRET))
        await night.until(claim.lock.expiry + 30)
        assert tower.statistics().registrations == 0
        assert tower.statistics().given_up == {}
    assert await night.chain.nonce(TOWER.address) == 0


async def test_what_is_not_worth_its_fee_is_left_and_what_is_worth_most_comes_first(
    night: Night, autojump_clock: trio.testing.MockClock
) -> None:
    await night.open_channel()
    small, large = night.lock(amount=50), night.lock(amount=10 * AMOUNT // 2, secret=keccak(b"large"))
    await night.goodnight()
    night.house.policy = TowerPolicy(
        budget=10**15, fee_reserve=10**12, claims=ClaimPolicy(budget=10**12, daily=16 * 10**6)
    )
    async with night.house.open() as (tower, _):
        await night.until(small.lock.expiry + 60)
        assert await night.chain.secret_time(large.lock.condition) is not None
        assert await night.chain.secret_time(small.lock.condition) is None
        assert tower.statistics().registrations == 1
        assert tower.statistics().given_up == {"fee-above-worth": 1}


async def test_claims_that_pay_nothing_are_left(night: Night, autojump_clock: trio.testing.MockClock) -> None:
    await night.open_channel()
    good = night.lock()
    links = night.stream()
    forged = StreamProof(keccak(b"no link"), 50, StreamProof.decode(links[50].proof).terms)
    night.claims = (LockClaim(good.lock, keccak(b"a guess")), LockClaim(links[0].lock, forged.encode()))
    await night.goodnight()
    async with night.house.open() as (tower, _):
        await night.until(good.lock.expiry + 60)
        assert tower.statistics().registrations == 0
        assert tower.statistics().given_up == {"pays-nothing": 2}
    assert await night.chain.nonce(TOWER.address) == 0


async def test_a_lock_that_was_paid_is_not_registered_and_old_ones_are_forgotten(
    night: Night, autojump_clock: trio.testing.MockClock
) -> None:
    await night.open_channel()
    claim = night.lock()
    await night.goodnight()
    async with night.house.open() as (tower, at):
        assert count_timely(tower.sender.store) == 1
        (coarse,) = next(iter(read_timely(tower.sender.store).values()))[1]
        assert coarse.lock.amount == 2**26 and coarse.lock.id == 0, "no more than of what size it is"
        night.claims, locks = (), night.locks
        night.locks = ()
        async with night.client(at) as client:
            client.offer(night.pair.terms, night.pair.close_key, *night.newest(), ())
            await client.wait_covered()
        assert count_timely(tower.sender.store) == 0
        await night.until(claim.lock.expiry + 60)
        assert tower.statistics().registrations == 0
        night.locks, night.claims = locks, (LockClaim(msgspec.structs.replace(claim.lock, expiry=night.now), SECRET),)
        async with night.client(at) as client:
            client.offer(night.pair.terms, night.pair.close_key, *night.newest(), night.claims)
            await client.wait_covered()
        assert count_timely(tower.sender.store) == 1
        await night.until(night.now + 3_700, 600)
        assert count_timely(tower.sender.store) == 0


async def test_a_convicted_channel_is_settled_by_the_tower_which_is_paid_by_that(
    night: Night, autojump_clock: trio.testing.MockClock
) -> None:
    await night.appointed()
    held = await night.chain.balance(TOWER.address, NATIVE)
    async with night.house.open():
        await night.cheat()
        await night.until(night.now + 600, 60)
        assert (await night.view()).convicted
        await night.until(night.now + 300, 60)
    assert (await night.view()).status == 3
    assert await night.chain.balance(TOWER.address, NATIVE) > held + DEPOSIT // 20
