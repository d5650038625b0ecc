"""A cooperative close holds whatever anybody deposits meanwhile, and that goes to whom it was deposited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.disputes import ChannelFixture, DisputeFixture
from simulation.invariants import histories
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import open_world
from tallystick.settlement.chain import CooperativelyClosed, DepositCall, OpenCall
from tallystick.settlement.contract.state import ChannelStatus
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.testing.local import LocalChain

FIXTURE = ChannelFixture()
STRANGER = Address(b"\x66" * 20)
Deposits = list[tuple[int, int]]
DEPOSITS = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 50)), max_size=8)


@given(st.tuples(st.integers(0, 100), st.integers(0, 100)), DEPOSITS, DEPOSITS, st.integers(0, 40), st.data())
def test_what_comes_after_the_signatures_neither_gives_nor_takes_anything(
    opened: tuple[int, int],
    before: Deposits,
    after: Deposits,
    taken: int,
    data: st.DataObject,
) -> None:
    dispute = DisputeFixture(FIXTURE)
    dispute.open(*opened)
    for side, amount in before:
        dispute.apply(DepositCall(FIXTURE.id, side, amount), STRANGER)
    taken = min(taken, dispute.state.total)
    if taken:
        dispute.apply(FIXTURE.withdrawal(1, taken, dispute.time), STRANGER)
    total = dispute.state.total
    balance0 = data.draw(st.integers(0, total))
    close = FIXTURE.cooperative_close(balance0, total - balance0, dispute.time)
    for side, amount in after:
        dispute.apply(DepositCall(FIXTURE.id, side, amount), STRANGER)
    late = [sum(amount for side, amount in after if side == which) for which in (0, 1)]
    received = dispute.received(1)
    (event,) = dispute.apply(close, STRANGER)
    assert event == CooperativelyClosed(FIXTURE.id, balance0 + late[0], total - balance0 + late[1])
    assert dispute.received(0) == balance0 + late[0] and dispute.received(1) - received == total - balance0 + late[1]
    assert dispute.state.status == ChannelStatus.GONE and dispute.state.held == 0
    assert sum(dispute.paid.values()) == sum(dispute.state.deposits)


@given(DEPOSITS, st.integers(1, 400))
def test_balances_that_the_channel_never_held_are_refused(deposits: Deposits, total: int) -> None:
    dispute = DisputeFixture(FIXTURE)
    dispute.open(30, 20)
    sums = {50}
    for side, amount in deposits:
        dispute.apply(DepositCall(FIXTURE.id, side, amount), STRANGER)
        sums.add(dispute.state.total)
    close = FIXTURE.cooperative_close(total // 2, total - total // 2, dispute.time)
    if total in sums:
        dispute.apply(close)
        assert sum(dispute.paid.values()) == dispute.state.total
    else:
        with pytest.raises(Reverted) as refused:
            dispute.apply(close)
        assert refused.value.code is Revert.BAD_BALANCES and dispute.state.status == ChannelStatus.OPEN


def test_a_withdrawal_that_is_mined_in_between_makes_it_void_rather_than_pay_twice() -> None:
    dispute = DisputeFixture(FIXTURE)
    dispute.open(100, 50)
    close = FIXTURE.cooperative_close(90, 60, dispute.time)
    dispute.apply(FIXTURE.withdrawal(0, 40, dispute.time))
    with pytest.raises(Reverted) as refused:
        dispute.apply(close)
    assert refused.value.code is Revert.BAD_BALANCES


def test_the_ledger_remembers_how_deposits_were_shared_through_a_reorganisation() -> None:
    keys = sorted((PrivateKey(keccak(name)) for name in (b"paper one", b"paper two")), key=lambda key: key.address)

    async def main() -> None:
        chain = LocalChain(funds={key.address: 10**18 for key in keys})
        fixture = ChannelFixture(chain_id=chain.chain_id, contract=chain.contract)
        await chain.send(keys[0], OpenCall(fixture.terms, 1_000))
        chain.mine()
        for side, amount in ((1, 500), (0, 7), (1, 8)):
            await chain.send(keys[1], DepositCall(fixture.id, side, amount, NATIVE))
            chain.mine()
        chain.reorganise(2)
        chain.mine(1)
        close = fixture.cooperative_close(300, 1_200, chain.newest.header.time + 600)
        await chain.send(keys[1], close)
        chain.mine()
        view = await chain.channel(fixture.id)
        assert view is not None and view.status == ChannelStatus.GONE
        assert chain.newest.block.events == (CooperativelyClosed(fixture.id, 307, 1_208),)

    simulate(main, 1)


def test_a_stranger_cannot_keep_two_nodes_from_closing() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, _ = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 10_000_000)
            await channel.pay(5)
            attempt = world.attempt("alice", lambda node: node.channel(channel.id).close())
            assert await world.until(lambda: channel.phase is Phase.FROZEN, 60)
            await world.chain.send(world.seats["carol"].key, DepositCall(channel.id, 0, 1, NATIVE), price=10**6)
            await attempt.ended.wait()
            assert attempt.error is None and channel.phase is Phase.GONE
            found, _ = histories(world)
            side = channel.view.channel.side
            own = 10_000_000 - 5 + (side == 0)
            assert found[channel.id].paid == ([own, 5 + (side == 1)] if side == 0 else [5 + 1, own])

    simulate(main, 1)
