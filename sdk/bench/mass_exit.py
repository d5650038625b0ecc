"""A mass exit, in virtual time: as many stale closes as asked for in one block, under a congested fee market.

One tower, the real one but for its disk's thread and its sockets, holds an appointment for each channel. All peers
close with old states in the same block, and others fill the blocks at many times the usual price. Counted is in how
many channels both proofs that the tower holds stand in the end, and at which share of the window the last came to.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import trio

from tallystick.channels.node.alarms import Alarm
from tallystick.channels.protocol.eip712 import channel_id, digest_proof, digest_voucher, domain_separator, locks_root
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, BalanceProof, ChannelId, SignedProof, Terms, Voucher
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.testing.clock import seeded_entropy, virtual_clock
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.chain import Challenged, CloseCall, Closed, DepositCall, OpenCall
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.schema import AppointmentStored
from tallystick.watchtower.sealing import Appointment, locator_of, seal
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import Tower, TowerPolicy

PERIOD = 86_400
"""Seconds of the window."""

BLOCK_SECONDS = 12
"""Between two blocks."""

CONGESTION = 50 * 10**9
"""What others pay for a unit of gas, while the exit lasts."""

GAS_LIMIT = 10**9
"""Of a block: all closes are to fit into one."""

DEPOSIT = 10**18
SEED = 14


class MassExit(msgspec.Struct, frozen=True):
    """How a mass exit went."""

    closes: int
    answered: int
    """Channels in which both proofs that the tower holds stand, and the closer is convicted."""
    latest_share_of_window: float
    """Of the window, how much was over when the last of them was answered."""
    block_seconds: float
    """Real seconds that the tower's loop took until it had followed the block of the closes, challenges taken on."""


_Sides: TypeAlias = tuple[SignedProof | None, SignedProof | None]


class _Exit(NamedTuple):
    """A channel of a client of the tower's and somebody who cheats."""

    client: PrivateKey
    cheat: PrivateKey
    terms: Terms
    close_key: bytes

    def proof(self, by: PrivateKey, seq: int, transferred: int) -> SignedProof:
        """Return a statement of one of the two, with both signatures."""
        sender = self.terms.participants.index(by.address)
        bare = BalanceProof(channel_id(self.terms), sender, seq, transferred, 0, locks_root(()), 0)
        digest = digest_proof(domain_separator(self.terms.chain_id, self.terms.contract), bare)
        other = self.cheat if by is self.client else self.client
        return SignedProof(bare, by.sign(digest), other.sign(digest))

    def sides(self, cheats: SignedProof, clients: SignedProof | None = None) -> _Sides:
        """Return statements of both in their places."""
        return (cheats, clients) if cheats.proof.sender == 0 else (clients, cheats)

    @property
    def newest(self) -> _Sides:
        """What the tower holds."""
        return self.sides(self.proof(self.cheat, 7, DEPOSIT // 2), self.proof(self.client, 3, 40))


def _keys(number: int) -> tuple[PrivateKey, PrivateKey]:
    client, cheat = (PrivateKey(keccak(b"%s %d" % (who, number))) for who in (b"client", b"cheat"))
    return client, cheat


def _exit(number: int, client: PrivateKey, cheat: PrivateKey, chain: LocalChain) -> _Exit:
    close_key = keccak(b"close key %d" % number)
    low, high = sorted((client.address, cheat.address))
    terms = Terms(chain.chain_id, chain.contract, (low, high), NATIVE, 0, PERIOD, keccak(close_key))
    return _Exit(client, cheat, terms, close_key)


def run_mass_exit(closes: int, directory: str | None = None) -> MassExit:
    """Let that many channels be closed with old states in one block; return how their tower did."""
    with tempfile.TemporaryDirectory(prefix="tally-bench-", dir=directory) as folder:
        return simulate(_run, SEED, closes, Path(folder))


async def _run(closes: int, folder: Path) -> MassExit:
    key = PrivateKey(keccak(b"the tower of a mass exit"))
    keys = [_keys(number) for number in range(closes)]
    funds = {each.address: 10 * DEPOSIT for pair in keys for each in pair} | {key.address: 10**24}
    chain = LocalChain(settings=ChainSettings(dev=True, gas_limit=GAS_LIMIT), funds=funds)
    store = open_store(folder, SCHEMAS, owner="tally bench tower", durable=False)
    alarms: list[Alarm] = []
    try:
        exits = [_exit(number, *pair, chain) for number, pair in enumerate(keys)]
        await _open(chain, exits)
        domain = domain_separator(chain.chain_id, chain.contract)
        entropy = seeded_entropy("mass exit")
        for each in exits:
            signature = each.client.sign(digest_voucher(domain, Voucher(channel_id(each.terms), key.address)))
            appointment = Appointment(each.terms, *each.newest, signature)
            party = each.client.address
            blob = seal(appointment, each.close_key, key.address, party, entropy)
            locator = locator_of(each.close_key, key.address, party)
            store.commit([AppointmentStored(party, locator, 1, blob, 0)])
        tower = Tower(
            key=key,
            store=store,
            network=MemoryNetwork(SEED).endpoint(key),
            chain=chain,
            clock=virtual_clock(),
            elapsed=trio.current_time,
            jitter=lambda: 0.5,
            alarm=alarms.append,
            free_space=lambda: 2**40,
            policy=TowerPolicy(),
            inline=True,
        )
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await tower.run("tower", 9911, started=lambda address: None)

            nursery.start_soon(run)
            await tower.follower.wait_reached(chain.newest.header.number)
            found = await _cheat(chain, tower, exits)
            nursery.cancel_scope.cancel()
        return found
    finally:
        store.close()


async def _open(chain: LocalChain, exits: list[_Exit]) -> None:
    for each in exits:
        await chain.send(each.client, OpenCall(each.terms, DEPOSIT))
    chain.mine()
    for each in exits:
        side = each.terms.participants.index(each.cheat.address)
        await chain.send(each.cheat, DepositCall(channel_id(each.terms), side, DEPOSIT))
    chain.mine()


async def _cheat(chain: LocalChain, tower: Tower, exits: list[_Exit]) -> MassExit:
    for each in exits:
        old = each.sides(each.proof(each.cheat, 1, 10))
        await chain.send(each.cheat, CloseCall(channel_id(each.terms), *old, each.close_key))
    await trio.sleep(BLOCK_SECONDS)
    began, block = chain.mine(), time.process_time()
    closed = [event for event in chain.newest.block.events if isinstance(event, Closed)]
    if len(closed) != len(exits):
        raise MeasurementVoid(f"of {len(exits)} closes {len(closed)} are in the block: its gas does not suffice")
    chain.congest(CONGESTION)
    await tower.follower.wait_reached(began.number)
    block = time.process_time() - block
    waiting: set[ChannelId] = {channel_id(each.terms) for each in exits}
    latest = began.time
    while waiting and chain.newest.header.time < began.time + PERIOD:
        await trio.sleep(BLOCK_SECONDS)
        chain.mine()
        for event in chain.newest.block.events:
            if isinstance(event, Challenged) and event.channel in waiting:
                view = await chain.channel(event.channel)
                if view is not None and view.convicted and sorted(view.seqs) == [3, 7]:
                    waiting.discard(event.channel)
                    latest = chain.newest.header.time
    share = (latest - began.time) / PERIOD
    return MassExit(len(exits), len(exits) - len(waiting), round(share, 4), round(block, 3))
