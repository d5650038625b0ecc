"""Nodes and towers on a real geth whose blocks a test decides on: who lives there, what is mined, and what it cost.

Everybody has an account with `COINS` in the genesis block, and no more than one of each name lives at a time. After
each block the world waits until all who live have followed it, and looked at what they have to send.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import PeerAddress, system_clock, system_entropy
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.transport.links import TcpNetwork
from tallystick.contracts import creation_code
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.options import Config
from tallystick.sdk.node.running import open_node
from tallystick.settlement.ethereum.abi import Deployment, Signature
from tallystick.settlement.ethereum.evm import abi
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.profiles import ChainProfile, Depth
from tallystick.settlement.ethereum.transactions import sign_creation
from tallystick.settlement.following.follower import Follower
from tallystick.settlement.go_programs import GETH
from tallystick.settlement.sending.policy import SendingPolicy
from tallystick.settlement.sending.sender import Sender
from tallystick.settlement.testing.beacon import SLOT, Beacon, MadeBlock, WaitingTransaction, start_beacon
from tallystick.settlement.testing.geth import CHAIN_ID, RICH_KEY
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import Tower, TowerPolicy

on_geth = pytest.mark.skipif(GETH.find() is None, reason=GETH.missing)
"""Marks a test that needs Ethereum's reference node."""

COINS = 10**21
PERIOD = 1_800
CONFIRMATIONS = 3
PATIENCE = 60.0
"""Seconds that anything may take that the nodes do by themselves."""

NAMES = {
    signature.selector: signature.name
    for signature in vars(abi).values()
    if isinstance(signature, Signature)  # by its first four bytes: what a call does
}


class BriskProfile(ChainProfile, frozen=True, kw_only=True):
    """A chain that is asked for its head all the time."""

    @property
    def poll_seconds(self) -> float:
        return 0.06


PROFILE = BriskProfile(
    name="geth", chain_id=CHAIN_ID, coin="ETH", block_seconds=SLOT, depths=(Depth(COINS, 3),), final_blocks=16
)


def key_of(name: str) -> PrivateKey:
    """Return somebody's key."""
    return PrivateKey(keccak(b"on geth: " + name.encode()))


class Mined(NamedTuple):
    """A transaction in a block of the best branch, as geth tells it."""

    number: int
    sender: bytes
    name: str
    """Of the call; empty if it is none of the contract's."""
    success: bool
    gas: int
    fee: int
    value: int


class Life:
    """Somebody who lives in this world."""

    def __init__(self, name: str, follower: Follower, sender: Sender, scope: trio.CancelScope) -> None:
        self.name = name
        self.follower = follower
        self.sender = sender
        self.scope = scope
        self.ended = trio.Event()

    def has_seen(self, head: MadeBlock) -> bool:
        """Whether they followed the chain to that block, and looked at what they have to send."""
        position, book = self.follower.followed.position, self.sender._book
        looked = not book.obligations or bool(book.looks and book.looks[-1].number == head.number)
        return position is not None and f"0x{position.hash.hex()}" == head.hash and looked


class GethWorld:
    """See the module. Make it with `open_geth_world`."""

    def __init__(
        self, beacon: Beacon, at: Deployment, start: int, chain: EvmChain, folder: Path, nursery: trio.Nursery
    ) -> None:
        self.beacon = beacon
        self.at = at
        self.first = start
        """Block of the contract's deployment."""
        self.chain = chain
        """A client of the world's own."""
        self.held: set[str] = set()
        """Calls that are mined by name only."""
        self.rivals = 0
        """Transactions of whoever makes others' calls."""
        self.alarms: list[tuple[str, Alarm]] = []
        self._folder = folder
        self._nursery = nursery
        self._lives: dict[str, Life] = {}

    # --- who lives -----------------------------------------------------------------------------------------------

    async def start(self, name: str, *towers: PeerAddress, data: str = "") -> Node:
        """Let a node live, with the data of that name (its own, if it is empty)."""
        node: Node = await self._nursery.start(self._live, name, towers, self._folder / (data or name))
        return node

    async def start_tower(self, name: str) -> PeerAddress:
        """Let a tower live."""
        address: PeerAddress = await self._nursery.start(self._watch, name)
        return address

    async def stop(self, name: str) -> None:
        """End somebody's life, if they live."""
        life = self._lives.pop(name, None)
        if life is not None:
            life.scope.cancel()
            await life.ended.wait()

    def copy(self, name: str, to: str) -> None:
        """Copy the data of a node that does not live."""
        shutil.copytree(self._folder / name, self._folder / to)

    async def _live(
        self, name: str, towers: Sequence[PeerAddress], folder: Path, *, task_status: trio.TaskStatus[Node]
    ) -> None:
        config = Config(
            confirmations=CONFIRMATIONS, challenge_period=PERIOD, towers=tuple(towers), start_block=self.first
        )
        with trio.CancelScope() as scope:
            async with (
                self._client() as chain,
                open_node(folder, key=key_of(name), chain=chain, config=config, alarm=self._alarm(name)) as node,
            ):
                life = self._lives[name] = Life(name, node.onchain.follower, node.onchain.sender, scope)
                task_status.started(node)
                await trio.sleep_forever()
        life.ended.set()

    async def _watch(self, name: str, *, task_status: trio.TaskStatus[PeerAddress]) -> None:
        folder = self._folder / name
        folder.mkdir()
        store = open_store(folder, SCHEMAS, owner=name)
        policy = TowerPolicy(start=self.first, lag_max=100, sending=SendingPolicy(confirmations=CONFIRMATIONS))
        with trio.CancelScope() as scope:
            async with self._client() as chain, trio.open_nursery() as nursery:
                tower = Tower(
                    key=key_of(name),
                    store=store,
                    network=TcpNetwork(key_of(name), system_entropy),
                    chain=chain,
                    clock=system_clock,
                    jitter=lambda: 0.5,
                    alarm=self._alarm(name),
                    free_space=lambda: 10**12,
                    policy=policy,
                )
                life = self._lives[name] = Life(name, tower.follower, tower.sender, scope)

                async def run() -> None:
                    await tower.run("127.0.0.1", 0, started=task_status.started)

                nursery.start_soon(run)
        store.close()
        life.ended.set()

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[EvmChain]:
        urls = (self.beacon.node.url,)
        async with open_evm_chain(urls, self.at, jitter=lambda: 0.5, profile=PROFILE, start=self.first) as chain:
            yield chain

    def _alarm(self, name: str) -> Callable[[Alarm], None]:
        return lambda alarm: self.alarms.append((name, alarm))

    # --- what is mined -------------------------------------------------------------------------------------------

    async def mine(self, transactions: Sequence[str] | None = None, *, seconds: int = SLOT) -> None:
        """Put a block onto the best branch (None: with all that waits, and is not held); return once all saw it."""
        if transactions is None:
            waiting = await self.beacon.waiting()
            held = [each for each in waiting if NAMES.get(each.data[:4]) in self.held]
            transactions = [
                each.raw
                for each in waiting
                if not any(each.sender == one.sender and each.nonce >= one.nonce for one in held)
            ]
        await self.beacon.mine(transactions, seconds=seconds)
        await self.seen()

    async def mine_until(self, condition: Callable[[], bool], *, most: int = 60) -> None:
        """Mine until something is so; raise AssertionError if it is not after so many blocks."""
        for _ in range(most):
            with trio.move_on_after(0.2):
                await _wait_until(condition)
                return
            await self.mine()
        assert condition(), f"not after {most} blocks; waiting: {await self.waiting()}; alarms: {self.alarms[-5:]}"

    async def reorganise(self, depth: int, contents: Sequence[Sequence[str]], *, seconds: int = SLOT) -> None:
        """Replace the newest blocks by others; return once all have seen it."""
        await self.beacon.reorganise(depth, contents, seconds=seconds)
        await self.seen()
        await trio.sleep(4 * PROFILE.poll_seconds)  # a head of the same number may have been looked at before

    async def seen(self) -> None:
        """Return once all who live have followed the chain to its head, and looked at what they have to send."""
        with trio.fail_after(PATIENCE):
            await _wait_until(lambda: all(life.has_seen(self.beacon.head) for life in self._lives.values()))

    async def sent(self, name: str, call: str, *, most: int = 12) -> list[WaitingTransaction]:
        """Return somebody's transactions that wait, up to such a call; blocks are mined until it is there."""
        for _ in range(most):
            with trio.move_on_after(1.0):
                while True:
                    theirs = [each for each in await self.beacon.waiting() if each.sender == key_of(name).address]
                    for at, each in enumerate(theirs):
                        if NAMES.get(each.data[:4]) == call:
                            return theirs[: at + 1]
                    await trio.sleep(0.02)
            await self.mine()
        life = self._lives[name]
        has = [(o.id, o.status.name, o.nonce, o.trouble) for o in life.sender.obligations()]
        raise AssertionError(
            f"{name} sent no {call}, has {has}; waiting: {await self.waiting()}; alarms: {self.alarms[-5:]}"
        )

    async def waiting(self) -> list[tuple[str, str, int]]:
        """Return who waits with what, under which nonce."""
        return [
            (each.sender.hex()[:6], NAMES.get(each.data[:4], ""), each.nonce) for each in await self.beacon.waiting()
        ]

    # --- what it came to -----------------------------------------------------------------------------------------

    async def balance(self, name: str) -> int:
        """Return what somebody holds, as geth says."""
        return int(await self.beacon.node.ask("eth_getBalance", f"0x{key_of(name).address.hex()}", "latest"), 16)

    async def nonce(self, name: str) -> int:
        """Return how many transactions of somebody's are on the chain, as geth says."""
        return int(
            await self.beacon.node.ask("eth_getTransactionCount", f"0x{key_of(name).address.hex()}", "latest"), 16
        )

    async def mined(self, names: Iterable[str]) -> dict[str, list[Mined]]:
        """Return what of these people is on the best branch, as geth says."""
        accounts = {bytes(key_of(name).address): name for name in names}
        found: dict[str, list[Mined]] = {name: [] for name in accounts.values()}
        for block in self.beacon.blocks:
            if not block.transactions:
                continue
            told = await self.beacon.node.ask("eth_getBlockByHash", block.hash, True)
            receipts = await self.beacon.node.ask("eth_getBlockReceipts", block.hash)
            for sent, receipt in zip(told["transactions"], receipts, strict=True):
                sender = bytes.fromhex(sent["from"][2:])
                if sender in accounts:
                    gas = int(receipt["gasUsed"], 16)
                    fee = gas * int(receipt["effectiveGasPrice"], 16)
                    call = NAMES.get(bytes.fromhex(sent["input"][2:10]), "")
                    success, value = receipt["status"] == "0x1", int(sent["value"], 16)
                    found[accounts[sender]].append(Mined(block.number, sender, call, success, gas, fee, value))
        return found


async def _wait_until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (nothing tells all at once of a follower, a sender and what a test asks)
        await trio.sleep(0.01)


def calls(mined: Iterable[Mined]) -> Counter[str]:
    """Return how often each call was made, and did what it was to."""
    return Counter(each.name for each in mined if each.success)


@asynccontextmanager
async def open_geth_world(folder: Path, names: Iterable[str]) -> AsyncIterator[GethWorld]:
    """Start geth, deploy the adjudicator, and give these people coins. Raise FileNotFoundError if geth is not there."""
    funds = {f"0x{key_of(name).address.hex()}": COINS for name in names}
    async with start_beacon(funds=funds) as beacon:
        raw = sign_creation(PrivateKey(RICH_KEY), CHAIN_ID, creation_code(), 0, 10**10, 10**6, 8_000_000)
        made = await beacon.mine([f"0x{raw.hex()}"])
        (receipt,) = await beacon.node.ask("eth_getBlockReceipts", made.hash)
        assert receipt["status"] == "0x1", receipt
        at = Deployment(CHAIN_ID, Address(bytes.fromhex(receipt["contractAddress"][2:])))
        async with (
            open_evm_chain((beacon.node.url,), at, jitter=lambda: 0.5, profile=PROFILE, start=made.number) as chain,
            trio.open_nursery() as nursery,
        ):
            yield GethWorld(beacon, at, made.number, chain, folder, nursery)
            nursery.cancel_scope.cancel()
