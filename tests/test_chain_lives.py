"""Whole lives of channels on a chain, from opening to the last unit, in transactions."""

from __future__ import annotations

import msgspec
import pytest

from simulation.disputes import PERIOD, ChannelFixture
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import locks_root
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, Lock
from tallystick.settlement.chain import (
    ApproveCall,
    Call,
    CooperativelyClosed,
    DepositCall,
    OpenCall,
    RedeemCall,
    Redeemed,
    RegisterSecretCall,
    SettleCall,
    Settled,
)
from tallystick.settlement.errors import Revert
from tallystick.settlement.testing.local import LocalChain

TOKEN = Address(b"\x70" * 20)
TOWER = PrivateKey(keccak(b"tower"))
FUNDS = 10**12


async def opened(asset: Address) -> tuple[LocalChain, ChannelFixture]:
    """A chain with a channel of 1,000 and 500, whose parties hold nothing else of a token."""
    fixture = ChannelFixture(asset=asset)
    chain = LocalChain(funds={key.address: FUNDS for key in (*fixture.keys, TOWER)})
    if asset != NATIVE:
        for side, amount in ((0, 1_000), (1, 500)):
            chain.fund(fixture.address(side), amount, asset)
            await act(chain, fixture.keys[side], ApproveCall(asset, amount))
    await act(chain, fixture.keys[0], OpenCall(fixture.terms, 1_000))
    await act(chain, fixture.keys[1], DepositCall(fixture.id, 1, 500, asset))
    return chain, fixture


async def act(chain: LocalChain, key: PrivateKey, call: Call) -> int:
    """Make a call that must succeed; return its fee."""
    receipt = await chain.call(key, call)
    assert receipt.success, receipt.reason
    chain.check_conservation()
    return receipt.fee


@pytest.mark.parametrize("asset", [NATIVE, TOKEN])
async def test_locks_are_settled_by_the_registry_to_the_last_unit(asset: Address) -> None:
    chain, fixture = await opened(asset)
    now = chain.newest.header.time
    secrets = (b"1" * 32, b"2" * 32)
    locks = tuple(Lock(i + 1, 100 + i, now + PERIOD // 2, 0, digest_of(secret)) for i, secret in enumerate(secrets))
    await act(chain, fixture.keys[1], RegisterSecretCall(secrets[0]))
    await act(chain, fixture.keys[0], fixture.close(fixture.proof(0, 4, 300, locks), fixture.proof(1, 2, 50)))
    chain.advance(PERIOD + 1)
    await act(chain, TOWER, RegisterSecretCall(secrets[1]))  # too late: the lock has expired
    await act(chain, TOWER, SettleCall(fixture.id))
    assert Settled(fixture.id, 1_000 - 300 - 201 + 50, 500 + 300 - 50, 0, 201, 0, False) in chain.newest.block.events
    seen = await chain.channel(fixture.id)
    assert seen is not None and (seen.status, seen.pots, seen.roots[0]) == (2, (201, 0), locks_root(locks))
    await act(chain, TOWER, RedeemCall(fixture.id, 0, locks))
    assert chain.newest.block.events == (Redeemed(fixture.id, 0, 100, 101, ZERO32),)
    assert await chain.balance(chain.contract, asset) == 0
    if asset == TOKEN:
        assert await chain.balance(fixture.address(0), asset) == 650
        assert await chain.balance(fixture.address(1), asset) == 850


async def test_a_tower_earns_its_reward_in_the_channels_asset() -> None:
    chain, fixture = await opened(TOKEN)
    await act(chain, fixture.keys[0], fixture.close(fixture.proof(0, 1, 10)))
    newest = fixture.proof(0, 9, 400, seen=8)
    await act(chain, TOWER, fixture.challenge(newest, tower=TOWER.address, victim=1))
    chain.advance(PERIOD + 1)
    await act(chain, TOWER, SettleCall(fixture.id))
    assert await chain.balance(TOWER.address, TOKEN) == 60
    assert await chain.balance(fixture.address(1), TOKEN) == 1_440
    assert await chain.balance(fixture.address(0), TOKEN) == 0


async def test_a_cooperative_close_pays_at_once_and_the_pair_can_open_its_next_channel() -> None:
    chain, fixture = await opened(TOKEN)
    await act(chain, TOWER, fixture.cooperative_close(1, 1_499, 2**40))
    assert chain.newest.block.events == (CooperativelyClosed(fixture.id, 1, 1_499),)
    assert await chain.balance(fixture.address(1), TOKEN) == 1_499
    again = await chain.call(fixture.keys[0], OpenCall(fixture.terms, 0))
    assert again.revert is Revert.CHANNEL_EXISTS
    await act(chain, fixture.keys[0], OpenCall(msgspec.structs.replace(fixture.terms, number=1), 0))
    assert await chain.channel_count(fixture.address(0), fixture.address(1), TOKEN) == 2
