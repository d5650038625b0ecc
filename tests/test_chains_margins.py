"""Margins between two chains: what they are made of, and that a block less is a loss, with real nodes."""

from __future__ import annotations

from itertools import product

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from simulation.two_chains import AMOUNT, CLAIM, DEPOSIT, PRICE, Hub, go_on, mine, place, play, stand_still
from tallystick.channels.errors import InvalidInput
from tallystick.channels.testing.clock import EPOCH
from tallystick.router.network.paying import LOCK_SPARE
from tallystick.sdk.chains import maker as maker_module
from tallystick.sdk.chains.assets import ChainAsset, read_asset
from tallystick.sdk.chains.margins import ChainRisk, MakerRisk, check_source, claim_seconds, margin, seen_seconds
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.testing.world import World
from tallystick.settlement.following.freshness import BOUND

CHAINS = st.builds(
    ChainRisk,
    block_seconds=st.integers(1, 60).map(float),
    depth=st.integers(1, 6),
    inclusion=st.integers(1, 6),
    stall=st.integers(0, 900).map(float),
    look=st.integers(0, 60).map(float),
)
MAKERS = st.builds(MakerRisk, absence=st.integers(0, 900), skew=st.integers(0, 120))


def settled(
    source: ChainRisk, target: ChainRisk, maker: MakerRisk, until: int, expires: int, worst: tuple[bool, ...]
) -> bool:
    """Play one crossing in whole seconds of the target's clock; return whether the maker may settle when it does.

    `worst`: which of all that may go wrong does, to the utmost: a reorganisation, the target's stall, the maker's
    absence, slow looks, clocks apart, the source's stall.
    """
    reorganised, stalled, absent, slow, apart, stood = worst
    seen = expires
    if reorganised:
        seen += int((target.depth + 1) * target.block_seconds)
    seen += int(target.stall * stalled + target.look * slow) + maker.absence * absent
    ahead = maker.skew + int(source.look) * slow + int(source.block_seconds) if apart else 0
    head = seen + ahead + int(source.stall * stood + source.look * slow) + int(source.block_seconds) * absent
    return head <= until


@given(CHAINS, CHAINS, MAKERS, st.integers(0, 2**32))
def test_no_schedule_within_what_is_taken_into_account_comes_too_late(
    source: ChainRisk, target: ChainRisk, maker: MakerRisk, expires: int
) -> None:
    until = expires + margin(source, target, maker)
    schedules = list(product((False, True), repeat=6))
    assert all(settled(source, target, maker, until, expires, worst) for worst in schedules)
    for block in (source.block_seconds, target.block_seconds):
        short = until - int(block)
        assert not all(settled(source, target, maker, short, expires, worst) for worst in schedules)


@given(CHAINS, CHAINS, MAKERS)
def test_the_slower_chain_asks_for_more_and_one_registry_for_less(
    source: ChainRisk, target: ChainRisk, maker: MakerRisk
) -> None:
    whole = margin(source, target, maker)
    assert margin(source, target, maker, one_registry=True) == seen_seconds(target, maker) < whole
    slower = ChainRisk(
        block_seconds=target.block_seconds + 1,
        depth=target.depth,
        inclusion=target.inclusion,
        stall=target.stall,
        look=target.look,
    )
    assert margin(source, slower, maker) == whole + target.depth + 1


def registered(chain: ChainRisk, worst: tuple[bool, ...]) -> int:
    """Return how long after the last moment to settle a secret is on the source to stay, in seconds of its clock.

    `worst`: which of what may go wrong does: slow looks, a block that comes as we look, full blocks, a reorganisation
    that undoes the block with the secret and shows it in its last one.
    """
    slow, between, full, reorganised = worst
    blocks = between + chain.inclusion * full + chain.depth * reorganised
    return int(chain.look) * slow + int(blocks * chain.block_seconds)


@given(CHAINS)
def test_a_secret_that_is_settled_with_at_the_last_moment_is_registered_in_time_and_with_a_block_less_it_is_not(
    chain: ChainRisk,
) -> None:
    takes = [registered(chain, worst) for worst in product((False, True), repeat=4)]
    assert max(takes) <= claim_seconds(chain)
    assert max(takes) > claim_seconds(chain) - int(chain.block_seconds)


@given(CHAINS)
def test_a_source_that_gives_itself_a_second_less_is_refused(chain: ChainRisk) -> None:
    least = claim_seconds(chain)
    enough = least + int(chain.stall)
    check_source(chain, settles_before=least, registers_before=enough)
    for settles, registers in ((least - 1, enough), (least, enough - 1)):
        with pytest.raises(InvalidInput, match="raise"):
            check_source(chain, settles_before=settles, registers_before=registers)


@given(
    st.integers(1, 2**64), st.integers(1, 2**64), st.integers(1, 2**40), st.integers(0, 10**6), st.integers(0, 10**7)
)
def test_no_price_is_below_the_rate_and_none_a_unit_too_high(
    take: int, give: int, amount: int, base: int, ppm: int
) -> None:
    one, other = ChainAsset(1, read_asset("coin@1")[0]), ChainAsset(2, read_asset("coin@2")[0])
    rate = Rate(source=one, target=other, take=take, give=give, base=base, route_base=3, route_ppm=ppm)
    spent = amount + rate.route_fee(amount)
    assert spent * 10**6 >= amount * (10**6 + ppm) + 3 * 10**6
    bare = rate.price(amount) - base
    assert bare * give >= spent * take > (bare - 1) * give


@pytest.mark.parametrize("short", [0, 1])
def test_a_block_less_of_margin_is_a_loss_if_all_goes_wrong_at_once(
    short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bob registers in the last block that counts; the maker is away, then its source stands still: to the utmost."""

    async def story(zero: World, one: World, hub: Hub) -> None:
        full, block = hub.margin(), int(hub.chains[place(zero).registry].block_seconds)
        stall = int(hub.chains[place(zero).registry].stall)
        less = full - short * block
        monkeypatch.setattr(maker_module, "margin", lambda *chains, one_registry: less)
        bob, here, there = one.node("bob"), zero.node("hub"), one.node("hub")
        asked = await bob.create_invoice(AMOUNT, hold=True, lifetime=10_000)
        text = await hub.cross(asked.text)
        paying = zero.attempt("alice", lambda alice: alice.pay(text, timeout=60))  # she tries no more than once
        await here.until(lambda: asked.payment_hash in here.routing.receiving.held_payments)
        until = here.routing.receiving.held_until(asked.payment_hash)
        assert until is not None
        await trio.sleep(until - less - there.engine.chain.sure - CLAIM - LOCK_SPARE)  # the last moment to begin
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.made().run)
            await bob.until(lambda: asked.payment_hash in bob.routing.receiving.held_payments)
            nursery.cancel_scope.cancel()
        [lock] = bob.channels[0].view.channel.theirs.simplex.locks
        assert lock.expiry == until - less
        await zero.crash("hub")
        await one.crash("hub")
        one.chain.censor(lambda transaction: True)
        await bob.until(lambda: bob.engine.chain.now >= lock.expiry - CLAIM // 2 - 24)
        await bob.settle_invoice(asked.secret)
        await bob.until(lambda: bob.engine.chain.now >= lock.expiry - 12)
        one.chain.censor(None)
        await bob.until(lambda: bob.engine.chain.now >= lock.expiry)
        assert bob.engine.chain.now == lock.expiry
        stand_still(one)  # nothing confirms that block: it is enough to have seen it
        await trio.sleep(full - stall - 40)
        stand_still(zero)
        await trio.sleep(BOUND + 5)  # nobody takes its newest block for news any more
        go_on(one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            stands = lock.expiry + full - zero.chain.newest.header.time
            assert stall < stands < stall + 60
            await trio.sleep_until(lock.expiry + full - block - EPOCH)
            go_on(zero)
            zero.chain.mine()
            assert zero.chain.newest.header.time == until + (short - 1) * block
            with trio.fail_after(3_600):
                await paying.ended.wait()
            left = DEPOSIT - (0 if short else PRICE)
            assert await zero.until(lambda: mine(zero, "alice") == left)
            nursery.cancel_scope.cancel()
        assert (paying.error is None) is (short == 0)
        assert await one.until(lambda: mine(one, "bob") == AMOUNT)

    play(story)
