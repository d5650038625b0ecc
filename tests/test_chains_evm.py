"""A payment between a simulated ledger and a real Ethereum node, both ways: one secret counts on both chains."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio

from simulation.local_evm import on_a_node, open_local_evm
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.router.sending.payments import find_payment
from tallystick.sdk.chains.assets import ChainAsset
from tallystick.sdk.chains.crossings import CrossingEnd
from tallystick.sdk.chains.maker import Maker, source_config
from tallystick.sdk.chains.margins import risk_of
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.chains.sqlite import MAKER_SCHEMA
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.running import open_node
from tallystick.settlement.chain import RegisterSecretCall
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.ethereum.evm.client import open_evm_chain
from tallystick.settlement.port import Chain
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.testing.local import LocalChain

pytestmark = [pytest.mark.processes, on_a_node]

ALICE, HUB, BOB = (PrivateKey(keccak(name)) for name in (b"alice", b"hub", b"bob"))
DEPOSIT, AMOUNT, PRICE = 10**15, 10**9, 15 * 10**8 + 7
AT_ONCE = DutyPolicy(worth_percent=0, secret_margin=50_000)
"""A secret goes on chain as soon as a peer is not there to pay for it."""


def place(node: Node) -> ChainAsset:
    return ChainAsset(node.chain.chain_id, node.chain.contract)


@asynccontextmanager
async def living(directory: Path, key: PrivateKey, chain: Chain, start: int, port: int = 0) -> AsyncIterator[Node]:
    config = Config(
        confirmations=2, challenge_period=600, start_block=start, duties=AT_ONCE, listen=("127.0.0.1", port)
    )
    config = source_config(config, risk_of(chain.figures, config.confirmations))
    async with open_node(directory, key=key, chain=chain, config=config) as node:
        yield node


@pytest.mark.parametrize("real_source", [False, True], ids=["the payee's", "the payer's"])
async def test_a_secret_that_one_chain_shows_is_registered_on_the_other_with_a_real_node_on_one_side(
    real_source: bool, tmp_path: Path
) -> None:
    """Bob shows it to his chain alone, and Alice is away: the maker reads it there, and claims what is its own."""
    ledger = LocalChain(
        funds={key.address: 10**20 for key in (ALICE, HUB, BOB)}, settings=ChainSettings(dev=True, interval=0.25)
    )
    with (
        open_local_evm("--block-time", "0.25", chain_id=31_339, funded=(ALICE, HUB, BOB)) as evm,
        closing(open_store(tmp_path / "maker", [MAKER_SCHEMA], owner="maker")) as store,
        trio.fail_after(90),
    ):
        async with (
            trio.open_nursery() as nursery,
            open_evm_chain((evm.anvil.url,), evm.at, jitter=lambda: 0.5, start=evm.start) as first,
            open_evm_chain((evm.anvil.url,), evm.at, jitter=lambda: 0.5, start=evm.start) as second,
        ):
            nursery.start_soon(ledger.run)
            source, source_start = (first, evm.start) if real_source else (ledger, 0)
            target, target_start = (ledger, 0) if real_source else (first, evm.start)
            alices, bobs = (second, ledger) if real_source else (ledger, second)
            async with (
                living(tmp_path / "here", HUB, source, source_start) as here,
                living(tmp_path / "there", HUB, target, target_start) as there,
                living(tmp_path / "bob", BOB, bobs, target_start) as bob,
            ):
                maker = Maker([here, there], store)
                maker.set_rate(Rate(source=place(here), target=place(there), take=3, give=2, base=7))
                nursery.start_soon(maker.run)
                await there.open_channel(str(bob.peer_address), deposit=DEPOSIT)
                asked = await bob.create_invoice(AMOUNT, hold=True)
                text = await maker.cross(asked.text)
                digest = asked.payment_hash
                async with living(tmp_path / "alice", ALICE, alices, source_start) as alice:
                    port = alice.peer_address.port
                    await alice.open_channel(str(here.peer_address), deposit=DEPOSIT)
                    async with trio.open_nursery() as paying:
                        paying.start_soon(alice.pay, text)
                        await bob.until(lambda: digest in bob.routing.receiving.held_payments)
                        paying.cancel_scope.cancel()
                assert await here.chain.secret_time(digest) is None
                await bob.onchain.account.transact("show a secret", RegisterSecretCall(asked.secret))
                assert await target.secret_time(digest) is not None
                while await source.secret_time(digest) is None:
                    await source.wait((await source.head()).hash)
                async with living(tmp_path / "alice", ALICE, alices, source_start, port) as alice:

                    def paid() -> bool:
                        known = find_payment(alice.store, digest)
                        return known is not None and known.is_paid

                    await alice.until(paid)
                    await here.until(lambda: here.channels[0].balances[0] == PRICE)
                    await there.until(lambda: there.channels[0].balances[0] == DEPOSIT - AMOUNT)
                    await alice.until(lambda: alice.channels[0].balances[0] == DEPOSIT - PRICE)
                    await bob.until(lambda: bob.channels[0].balances[0] == AMOUNT)
                    ends, _, _ = maker.counts()
                    assert ends[CrossingEnd.PAID] == 1
                    for channel in (here.channels[0], there.channels[0]):
                        await channel.close()
            nursery.cancel_scope.cancel()
    ledger.check_conservation()
