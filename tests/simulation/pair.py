"""Alice and Bob, wired in memory, without an event loop: for state machines that want every moment in their hands.

Both are real engines with real writers on simulated disks. Nothing happens by itself: the test says when a round begins
(what is due gets signed) and when it is finished (committed, then sent), which frame arrives next, when the connection
breaks, when a node crashes, and what each side knows of the chain.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from tallystick.channels.errors import PeerError, StoreError
from tallystick.channels.limits import Policy
from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol.core import Channel, new_channel
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, close_key, keccak
from tallystick.channels.protocol.messages import Message, decode
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Puzzle, Terms
from tallystick.channels.session.chaintime import ChainTime, StakeInCourt
from tallystick.channels.session.effects import Event
from tallystick.channels.session.inputs import Asks, FundingConfirmed
from tallystick.channels.session.session import Session
from tallystick.channels.storage.schema import CHANNELS
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.writer import Round, Writer
from tallystick.channels.testing.clock import EPOCH
from tallystick.channels.testing.disk import Disk, SimulatedDisk, SimulatedStore
from tallystick.channels.testing.memory import MemoryDisk

CHAIN_ID = 31_337
CONTRACT = Address(b"\xc0" * 20)

Sent = Callable[["Party", Message], None]
NewDisk = Callable[[Any], Disk]
"""Makes a disk, of an image if there is one."""


def sqlite_disk(image: bytes | None) -> Disk:
    """Return a disk of SQLite's."""
    return SimulatedDisk([SCHEMA], image or b"")


def memory_disk(image: Any) -> Disk:
    """Return a disk of the other engine's."""
    return MemoryDisk([CHANNELS], image)


R = TypeVar("R")


class RecordingKey(PrivateKey):
    """A key that remembers every digest that it signed."""

    __slots__ = ("signed",)

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self.signed: set[bytes] = set()

    def sign(self, digest: bytes) -> bytes:
        """Sign, and remember."""
        self.signed.add(digest)
        return super().sign(digest)


class _Wire:
    """Where one party's frames go: the queue of what is on its way to the other."""

    def __init__(self, party: Party, queue: deque[bytes], sent: Sent | None) -> None:
        self._party, self._queue, self._sent = party, queue, sent

    def put_all(self, frames: list[bytes]) -> None:
        for frame in frames:
            if self._sent is not None:
                self._sent(self._party, decode(frame))
            self._queue.append(frame)


class Party:
    """One side: its key, its disk, and, between `start` and `crash`, its engine."""

    def __init__(
        self, name: str, key: RecordingKey, policy: Policy, clock: Callable[[], float], new_disk: NewDisk
    ) -> None:
        self.name = name
        self.key = key
        self.policy = policy
        self._new_disk = new_disk
        self.disk = new_disk(None)
        self.chain = ChainTime(int(EPOCH), int(EPOCH))
        self.events: list[Event] = []
        self.incoming: deque[bytes] = deque()
        """Frames on their way here."""
        self._clock = clock
        self.pending: Round | None = None
        self.fresh = True
        """Whether its view of the chain is up to date."""
        self.lost = False
        """Whether the chain that it follows knows none of its channels."""
        self.start()

    def __repr__(self) -> str:
        return f"<{self.name} {list(self.engine.sessions.values())}>"

    def start(self) -> None:
        """Start from what is durable."""
        self.store: SimulatedStore = self.disk.open()
        self.writer = Writer(self.store, inline=True)
        self.pending = None
        self.engine = Engine(
            self.key,
            self.writer,
            self._clock,
            self.policy,
            chain_id=CHAIN_ID,
            contract=CONTRACT,
            tell=self.events.append,
            fresh=lambda: self.fresh,
            lost=lambda: self.lost,
        )
        self.engine.on_chain_moved(self.chain)

    def restore(self, image: Any) -> None:
        """Lose data: replace the disk by an older image of itself. `start` follows."""
        self.disk = self._new_disk(image)

    @property
    def session(self) -> Session:
        """The session of the only channel."""
        (session,) = self.engine.sessions.values()
        return session

    @property
    def channel(self) -> Channel:
        """The only channel as this side knows it."""
        return self.session.channel

    def apply(self, given: Asks[R]) -> R:
        """Let something happen to the only channel."""
        return self.engine.apply(self.session.channel.id, given)

    def begin(self) -> None:
        """Sign what is due; it waits for its commit. A round that waits already is finished first."""
        self.finish()
        self.pending = self.writer.gather()

    def finish(self) -> None:
        """Commit the round that waits, then send and tell."""
        if self.pending is not None:
            due, self.pending = self.pending, None
            self.writer.finish(due)

    def step(self) -> None:
        """A whole round: begin and finish."""
        self.begin()
        self.finish()

    def fund(self, deposits: tuple[int, int], withdrawn: tuple[int, int] = (0, 0)) -> None:
        """The chain confirmed these deposits and withdrawals to this side."""
        self.apply(FundingConfirmed(deposits, withdrawn))

    def time(
        self,
        now: int,
        final: int,
        proofs: Mapping[Puzzle, tuple[int, bytes]] | None = None,
        stakes: Mapping[Puzzle, StakeInCourt] | None = None,
    ) -> None:
        """Chain time moves on for this side; `proofs` and `stakes` are all that the chain has confirmed."""
        found = dict(self.chain.proofs) if proofs is None else proofs
        self.chain = ChainTime(now, final, found, dict(self.chain.stakes) if stakes is None else stakes)
        self.engine.on_chain_moved(self.chain)


class Pair:
    """Alice (side 0) and Bob (side 1) with one channel between them."""

    def __init__(
        self,
        deposits: tuple[int, int] = (1_000, 1_000),
        *,
        reserve: int = 0,
        reserve_ppm: int = 0,
        policy: Policy | None = None,
        sent: Sent | None = None,
        new_disk: NewDisk = sqlite_disk,
    ) -> None:
        """Both know the channel and, unless `deposits` are zero, its confirmed deposits. Not connected yet.

        `sent` is called for every message at the moment at which it leaves its node.
        """
        self.now = EPOCH
        self._sent = sent
        self.faults: list[tuple[Party, PeerError]] = []
        """Who found fault with the other, and why."""
        self.connected = False
        policy = policy or Policy()
        first, second = sorted((RecordingKey(keccak(bytes([n]))) for n in range(2)), key=lambda key: key.address)
        self.alice = Party("alice", first, policy, lambda: self.now, new_disk)
        self.bob = Party("bob", second, policy, lambda: self.now, new_disk)
        self.terms = self._terms()
        for side, party in enumerate(self.parties):
            other = self.parties[1 - side]
            party.engine.add_channel(self._channel(side, other, reserve, reserve_ppm))
            if any(deposits):
                party.fund(deposits)
            party.step()

    def _channel(self, side: int, other: Party, reserve: int, reserve_ppm: int) -> Channel:
        return new_channel(self.terms, side, bytes(other.key.public), reserve, reserve_ppm)

    def _terms(self) -> Terms:
        addresses = (self.alice.key.address, self.bob.key.address)
        blank = Terms(CHAIN_ID, CONTRACT, addresses, NATIVE, 0, 86_400, bytes(32))
        opener = close_key(self.alice.key, self.bob.key.public, channel_id(blank))
        return msgspec.structs.replace(blank, close_hash=keccak(opener))

    @property
    def parties(self) -> tuple[Party, Party]:
        """Alice and Bob, in the order of their sides."""
        return self.alice, self.bob

    @property
    def id(self) -> ChannelId:
        """The channel's id."""
        return self.alice.channel.id

    def other(self, party: Party) -> Party:
        """The party that is not this one."""
        return self.bob if party is self.alice else self.alice

    def connect(self) -> None:
        """Connect both anew; what was on its way is lost."""
        self.disconnect()
        self.connected = True
        for party in self.parties:
            other = self.other(party)
            party.engine.on_connected(bytes(other.key.public), _Wire(party, other.incoming, self._sent))

    def disconnect(self) -> None:
        """Break the connection; what was on its way is lost."""
        self.connected = False
        for party in self.parties:
            party.incoming.clear()
            party.engine.on_disconnected(bytes(self.other(party).key.public))

    def crash(self, party: Party) -> None:
        """End a node at once, whatever it was about to do, and start it again from what is durable. Disconnects."""
        party.store.kill()
        self.disconnect()
        party.start()

    def crash_at_commit(self, party: Party, *, takes_effect: bool) -> None:
        """Let a node die in the commit of its next round, before or after it is durable, and start it again."""
        if party.pending is None:
            party.begin()
        party.store.fail_at(0, takes_effect=takes_effect)
        with contextlib.suppress(StoreError):
            party.finish()
        self.crash(party)

    def deliver(self, party: Party) -> bool:
        """Let the next frame arrive at `party`; return whether there was one. A fault ends the connection."""
        if not party.incoming:
            return False
        self.inject(party, party.incoming.popleft())
        return True

    def inject(self, party: Party, frame: bytes) -> None:
        """Let `party` receive this frame as if the other had sent it."""
        try:
            party.engine.receive(bytes(self.other(party).key.public), decode(frame), frame)
        except PeerError as fault:
            self.faults.append((party, fault))
            self.disconnect()

    def settle(self, rounds: int = 1_000) -> None:
        """Run rounds and deliver frames until nothing moves any more."""
        for _ in range(rounds):
            for party in self.parties:
                party.step()
            moved = False
            for party in self.parties:
                while self.deliver(party):
                    moved = True
            if not moved:
                return
        raise AssertionError("the pair does not come to rest")
