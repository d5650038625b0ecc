"""Nodes and a tower live on a real EVM: anvil, with the adjudicator as it is shipped."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from simulation.evm_tokens import code_of
from simulation.local_evm import TRANSFER, LocalEvm, on_a_node, open_local_evm
from tallystick.channels.errors import TallystickError
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.options import Config
from tallystick.sdk.node.running import open_node
from tallystick.settlement.ethereum.abi import Signature
from tallystick.settlement.ethereum.evm.client import EvmPlace, open_evm_chain
from tallystick.settlement.testing.anvil import RICH
from tallystick.watchtower.daemon import rescan_tower, run_tower
from tallystick.watchtower.figures import TowerStatus
from tallystick.watchtower.tower import TowerPolicy

pytestmark = [pytest.mark.processes, on_a_node]

ALICE, BOB = (PrivateKey(keccak(name)) for name in (b"alice", b"bob"))
BLOCK_TO = Signature("block_to", ("address", "bool"))
APPROVE = Signature("approve", ("address", "uint256"))
COIN = 10**18
PERIOD = 600


@pytest.fixture(scope="module")
def evm() -> Iterator[LocalEvm]:
    with open_local_evm("--block-time", "0.25", funded=(ALICE, BOB)) as node:
        yield node


@asynccontextmanager
async def living(
    evm: LocalEvm, directory: Path, key: PrivateKey, towers: tuple[PeerAddress, ...] = ()
) -> AsyncIterator[Node]:
    """Open a node with a chain client of its own."""
    config = Config(confirmations=2, challenge_period=PERIOD, towers=towers, start_block=evm.start)

    def alarm(raised: Alarm) -> None:
        print(key.address.hex()[:6], raised.kind, raised.text)

    async with (
        open_evm_chain((evm.anvil.url,), evm.at, jitter=lambda: 0.5, start=evm.start) as chain,
        open_node(directory, key=key, chain=chain, config=config, alarm=alarm) as node,
    ):
        yield node


both = pytest.mark.parametrize("token", (False, True), ids=("coin", "token"))


@both
async def test_open_pay_and_close_together(evm: LocalEvm, tmp_path: Path, token: bool) -> None:
    asset, amount = (evm.token, 10**6) if token else (NATIVE, COIN)
    with trio.fail_after(120):
        async with living(evm, tmp_path / "alice", ALICE) as alice, living(evm, tmp_path / "bob", BOB) as bob:
            before = await bob.balance(asset)
            channel = await alice.open_channel(str(bob.peer_address), deposit=amount, asset=asset)
            await channel.pay(amount // 4, b"a tin of tea")
            await channel.pay_many([7] * 50)
            await channel.deposit(amount)
            await channel.withdraw(amount // 2)
            await channel.close()
            await channel.wait_gone()
            await bob.until(lambda: bob.channels[0].phase is Phase.GONE)
            assert await bob.balance(asset) - before == amount // 4 + 7 * 50


@pytest.mark.parametrize("kind", ("silent", "strict"))
async def test_tokens_that_say_nothing_or_change_no_allowance_are_deposited(
    evm: LocalEvm, tmp_path: Path, kind: str
) -> None:
    token = Address(evm.anvil.create(code_of(kind)))
    rich = bytes.fromhex(RICH.removeprefix("0x"))
    evm.anvil.send(rich, token, TRANSFER.encode_call(ALICE.address, 10**9))
    evm.anvil.send(ALICE.address, token, APPROVE.encode_call(evm.at.contract, 5))  # left over, as of a failed opening
    with trio.fail_after(120):
        async with living(evm, tmp_path / "alice", ALICE) as alice, living(evm, tmp_path / "bob", BOB) as bob:
            assert await alice.chain.allowance(token, ALICE.address) == 5
            channel = await alice.open_channel(str(bob.peer_address), deposit=10**6, asset=token)
            await channel.pay(10**5)
            await channel.deposit(10**6)
            assert await alice.chain.allowance(token, ALICE.address) == 0
            await channel.close()
            await channel.wait_gone()
            await bob.until(lambda: bob.channels[0].phase is Phase.GONE)
            assert (await alice.balance(token), await bob.balance(token)) == (10**9 - 10**5, 10**5)


async def test_what_a_token_refuses_is_owed_and_claimed_elsewhere(evm: LocalEvm, tmp_path: Path) -> None:
    token, elsewhere = Address(evm.anvil.create(code_of("false"))), Address(b"\xee" * 20)
    rich = bytes.fromhex(RICH.removeprefix("0x"))
    evm.anvil.send(rich, token, TRANSFER.encode_call(ALICE.address, 10**9))
    with trio.fail_after(120):
        async with living(evm, tmp_path / "alice", ALICE) as alice, living(evm, tmp_path / "bob", BOB) as bob:
            channel = await alice.open_channel(str(bob.peer_address), deposit=10**6, asset=token)
            await channel.pay(10**5)
            evm.anvil.send(rich, token, BLOCK_TO.encode_call(ALICE.address, True))
            await channel.close()
            await channel.wait_gone()
            assert await alice.owed() == {token: 9 * 10**5}
            with pytest.raises(TallystickError, match="transfer-failed"):
                await alice.claim(token)
            assert await alice.claim(token, elsewhere) == 9 * 10**5
            assert await alice.owed() == {} and await alice.balance(token) == 10**9 - 10**6
            assert (await alice.chain.balance(elsewhere, token), await bob.balance(token)) == (9 * 10**5, 10**5)


@both
async def test_an_old_state_is_challenged_by_the_tower_while_its_client_is_away(
    evm: LocalEvm, tmp_path: Path, token: bool
) -> None:
    asset, amount = (evm.token, 10**6) if token else (NATIVE, COIN)
    alice_home, bob_home, old = tmp_path / "alice", tmp_path / "bob", tmp_path / "old"
    with trio.fail_after(180):
        async with towering(evm, tmp_path / "tower") as tower:
            async with living(evm, alice_home, ALICE, (tower,)) as alice:
                async with living(evm, bob_home, BOB) as bob:
                    before, first = await alice.balance(asset), (await alice.chain.head()).number + 1
                    channel = await alice.open_channel(str(bob.peer_address), deposit=amount, asset=asset)
                    await channel.pay(amount // 2)
                shutil.copytree(bob_home, old)  # when half of it was Bob's
                async with living(evm, bob_home, BOB) as bob:
                    await alice.connect(str(bob.peer_address))
                    await bob.channels[0].wait_usable()
                    for _ in range(4):  # what was said to each payment before, the next one proves
                        await bob.channels[0].pay(amount // 16)
                    await alice.tower_manager.wait_covered()
            async with living(evm, old, BOB) as mallory:  # with the state of then, and nobody but the tower looks
                await mallory.channels[0].force_close()
                await wait_convicted(evm, channel.id)
                place = EvmPlace((evm.anvil.url,), evm.at, evm.start)
                while (seen := await rescan_tower(tmp_path / "tower", evm=place, start=evm.start)).held == 0:
                    continue  # it is about to take the close in
                assert seen.differences == () and seen.held == seen.found == 1
                evm.anvil.advance(PERIOD + 1)
                await mallory.channels[0].wait_gone()
        async with living(evm, alice_home, ALICE) as alice:
            await alice.until(lambda: alice.channels[0].phase is Phase.GONE)
            # Bob had a quarter left, which he forfeits: a tenth of that is the tower's.
            lost = before - await alice.balance(asset)
            assert lost - amount // 40 == (0 if token else fees_of(evm, ALICE.address, first))


async def test_a_secret_is_registered_by_the_tower_while_who_revealed_it_sleeps_past_the_expiry(
    evm: LocalEvm, tmp_path: Path
) -> None:
    secret = keccak(b"what Bob has revealed")
    with trio.fail_after(180):
        async with towering(evm, tmp_path / "tower") as tower:
            async with living(evm, tmp_path / "bob", BOB, (tower,)) as bob:
                async with living(evm, tmp_path / "alice", ALICE) as alice:
                    channel = await alice.open_channel(str(bob.peer_address), deposit=COIN)
                    expiry = (await alice.chain.head()).time + 3_600
                    number = await channel.lock(COIN // 4, expiry, digest_of(secret))
                    await bob.until(lambda: bool(bob.channels[0].view.channel.theirs.simplex.locks))
                bob.channels[0].reveal(number, secret)  # Alice is gone, and means to let it expire
                await trio.sleep(0.1)
                await bob.tower_manager.wait_covered()
            async with open_evm_chain((evm.anvil.url,), evm.at, jitter=lambda: 0.5, start=evm.start) as chain:
                assert await chain.secret_time(digest_of(secret)) is None
                evm.anvil.advance(3_600 - 200)
                while (registered := await chain.secret_time(digest_of(secret))) is None:
                    await chain.wait((await chain.head()).hash)
                assert registered <= expiry


def fees_of(evm: LocalEvm, account: Address, first: int) -> int:
    """Return what an account paid for its transactions from a block on, as the chain's node tells it."""
    fees = 0
    for number in range(first, int(evm.anvil.ask("eth_blockNumber"), 16) + 1):
        for sent in evm.anvil.ask("eth_getBlockByNumber", hex(number), True)["transactions"]:
            if sent["from"] == f"0x{account.hex()}":
                receipt = evm.anvil.ask("eth_getTransactionReceipt", sent["hash"])
                fees += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    return fees


async def wait_convicted(evm: LocalEvm, channel: ChannelId) -> None:
    """Wait until the contract says that the closer cheated."""
    async with open_evm_chain((evm.anvil.url,), evm.at, jitter=lambda: 0.5, start=evm.start) as chain:
        while True:
            view, head = await chain.channel(channel), await chain.head()
            if view is not None and view.convicted:
                return
            await chain.wait(head.hash)


@asynccontextmanager
async def towering(evm: LocalEvm, directory: Path) -> AsyncIterator[PeerAddress]:
    """Run a tower on the chain, with a key of its own: of one key there is one tower on a machine."""
    key = PrivateKey(keccak(bytes(directory)))
    evm.fund(key.address)
    found: list[TowerStatus] = []
    ready = trio.Event()

    def on_ready(status: TowerStatus) -> None:
        found.append(status)
        ready.set()

    async with trio.open_nursery() as nursery:
        run = partial(
            run_tower,
            directory,
            key,
            evm=EvmPlace((evm.anvil.url,), evm.at, evm.start),
            host="127.0.0.1",
            port=0,
            ready=on_ready,
            alarm=lambda alarm: print("tower", alarm.kind, alarm.text),
            policy=TowerPolicy(start=evm.start, lag_max=100),
        )
        nursery.start_soon(run)
        await ready.wait()
        yield PeerAddress.parse(found[0].peer_address)
        nursery.cancel_scope.cancel()
