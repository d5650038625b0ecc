"""What a receiver refuses is owed, on the simulated chain as by the contract: nobody waits, and it can be claimed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from simulation.disputes import ChannelFixture
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import (
    ApproveCall,
    ClaimCall,
    Claimed,
    CooperativelyClosed,
    DepositCall,
    OpenCall,
    Owed,
)
from tallystick.settlement.errors import Revert
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.rpc_client import RpcChain, open_rpc_chain
from tallystick.settlement.following.checked import with_checks
from tallystick.settlement.simulated.rpc_server import make_app
from tallystick.settlement.testing.local import LocalChain

TOKEN = Address(b"\x70" * 20)
ELSEWHERE = Address(b"\xee" * 20)
FAR = 2**40


async def closed(chain: LocalChain, fixture: ChannelFixture) -> None:
    first, second = fixture.keys
    assert (await chain.call(first, OpenCall(fixture.terms, 600))).success
    assert (await chain.call(second, DepositCall(fixture.id, 1, 400, fixture.terms.asset))).success
    assert (await chain.call(second, fixture.cooperative_close(700, 300, FAR))).success


def begun() -> tuple[LocalChain, ChannelFixture]:
    fixture = ChannelFixture()
    chain = LocalChain(funds={key.address: 10**12 for key in fixture.keys})
    assert (chain.chain_id, chain.contract) == (fixture.terms.chain_id, fixture.terms.contract)
    return chain, fixture


async def test_what_a_receiver_refuses_is_owed_until_it_is_claimed() -> None:
    chain, fixture = begun()
    first, second = fixture.keys
    chain.refuse(first.address)
    await closed(chain, fixture)
    (block,) = await chain.blocks((await chain.head()).number, 1)
    assert block.events == (CooperativelyClosed(fixture.id, 700, 300), Owed(first.address, NATIVE, 700))
    assert await chain.balance(chain.contract, NATIVE) == 700
    nothing = await chain.call(second, ClaimCall(NATIVE, ELSEWHERE))
    assert nothing.revert is Revert.NOTHING_OWED
    itself = await chain.call(first, ClaimCall(NATIVE, first.address))
    assert itself.revert is Revert.TRANSFER_FAILED
    assert (await chain.call(first, ClaimCall(NATIVE, ELSEWHERE))).success
    (block,) = await chain.blocks((await chain.head()).number, 1)
    assert block.events == (Claimed(first.address, NATIVE, ELSEWHERE, 700),)
    assert await chain.balance(ELSEWHERE, NATIVE) == 700
    assert (await chain.call(first, ClaimCall(NATIVE, ELSEWHERE))).revert is Revert.NOTHING_OWED


async def test_a_reorganisation_takes_back_what_is_owed_with_the_block() -> None:
    chain, fixture = begun()
    await closed(chain, fixture)
    chain.refuse(fixture.keys[0].address)
    chain.reorganise(1, keep=lambda transaction: True)
    assert await chain.balance(chain.contract, NATIVE) == 700
    chain.refuse(fixture.keys[0].address, refuses=False)
    chain.reorganise(2, keep=lambda transaction: True)
    assert await chain.balance(chain.contract, NATIVE) == 0


@asynccontextmanager
async def rpc(chain: LocalChain) -> AsyncIterator[RpcChain]:
    at, transport = Deployment(chain.chain_id, chain.contract), httpx.ASGITransport(app=make_app(chain))
    async with open_rpc_chain("http://node", jitter=lambda: 0.5, expected=at, transport=transport) as client:
        yield client


async def test_every_client_tells_what_is_owed_and_what_may_be_taken() -> None:
    chain, fixture = begun()
    first, second = fixture.keys
    chain.refuse(first.address)
    await closed(chain, fixture)
    chain.fund(first.address, 100, TOKEN)
    assert (await chain.call(first, ApproveCall(TOKEN, 33))).success
    async with rpc(chain) as remote:
        for asked in (chain, remote, with_checks(remote), with_checks(chain)):
            assert await asked.owed(NATIVE, first.address) == 700
            assert await asked.owed(NATIVE, second.address) == await asked.owed(TOKEN, first.address) == 0
            assert await asked.allowance(TOKEN, first.address) == 33
            assert await asked.allowance(TOKEN, second.address) == 0


async def test_nothing_is_claimed_for_the_contract_itself() -> None:
    """There it would be nobody's: the ledger would not add up, and the chain node would end."""
    chain, fixture = begun()
    chain.refuse(fixture.keys[0].address)
    await closed(chain, fixture)
    refused = await chain.call(fixture.keys[0], ClaimCall(NATIVE, chain.contract))
    assert refused.revert is Revert.TRANSFER_FAILED
    assert await chain.owed(NATIVE, fixture.keys[0].address) == 700


async def test_no_token_is_claimed_for_itself_or_for_nobody() -> None:
    fixture = ChannelFixture(asset=TOKEN)
    chain = LocalChain(funds={key.address: 10**12 for key in fixture.keys})
    first, second = fixture.keys
    for key, amount in ((first, 600), (second, 400)):
        chain.fund(key.address, amount, TOKEN)
        assert (await chain.call(key, ApproveCall(TOKEN, amount))).success
    chain.refuse(first.address, TOKEN)
    await closed(chain, fixture)
    for to in (TOKEN, NATIVE, chain.contract):
        assert (await chain.call(first, ClaimCall(TOKEN, to))).revert is Revert.TRANSFER_FAILED
        assert await chain.owed(TOKEN, first.address) == 700
    assert (await chain.call(first, ClaimCall(TOKEN, ELSEWHERE))).success
    assert await chain.balance(ELSEWHERE, TOKEN) == 700
