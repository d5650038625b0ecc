"""What Mallory can do: her node is an honest one with a good memory, and she goes behind its back.

She remembers every doubly signed proof that her node ever held, closes and challenges with whichever she likes, and
tampers with what her node sends. Crash her node before she sends transactions herself: they share one account.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import msgspec
import trio

from tallystick.channels.node.peers import EXTENSION_TAGS, number_of
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.keys import close_key
from tallystick.channels.protocol.messages import Ack, Message, Reject, Reveal, Update, channel_of, decode, encode
from tallystick.channels.protocol.objects import ChannelId, SignedProof
from tallystick.channels.protocol.operations import AddLock
from tallystick.router.gossip.announcements import Announcement, sign_update
from tallystick.router.gossip.wire import frames as gossip_frames
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.testing.world import World
from tallystick.settlement.chain import ChallengeCall, CloseCall

Tamper: TypeAlias = Callable[[bytes], list[bytes]]
"""What becomes of a frame that is about to leave."""


class Mallory:
    """Mallory in a world, with one victim."""

    def __init__(self, world: World, victim: str = "alice") -> None:
        self._world = world
        self._seat = world.seats["mallory"]
        self._victim = world.seats[victim]

    def proof(self, channel: ChannelId, sender: int, seq: int) -> SignedProof | None:
        """Return the doubly signed proof of that number, None for genesis."""
        return self._seat.audit.statements[channel][sender, seq] if seq else None

    def newest(self, channel: ChannelId, sender: int) -> int:
        """Return the highest number of which she holds a doubly signed proof."""
        known = self._seat.audit.statements.get(channel, {})
        return max((seq for side, seq in known if side == sender), default=0)

    async def close(self, channel: ChannelId, seq0: int, seq1: int) -> bytes:
        """Hand in a close with these two proofs; return the transaction's hash."""
        key = close_key(self._seat.key, self._victim.key.public, channel)
        call = CloseCall(channel, self.proof(channel, 0, seq0), self.proof(channel, 1, seq1), key)
        return await self._world.chain.send(self._seat.key, call)

    async def challenge(self, channel: ChannelId, sender: int, seq: int) -> bytes:
        """Hand in a challenge with a proof; return the transaction's hash."""
        proof = self.proof(channel, sender, seq)
        if proof is None:
            raise LookupError("nobody can challenge with genesis")
        return await self._world.chain.send(self._seat.key, ChallengeCall(proof))

    def withhold_acks(self) -> None:
        """Countersign, and never say so."""
        self._seat.tamper = lambda frame: [] if is_one_of(frame, Ack) else [frame]

    def replay(self) -> None:
        """Say every update, ack and reveal twice, and every older update again with the next one."""
        self._seat.tamper = repeat()


async def ready_to_cheat(world: World, deposit: int = 10_000_000) -> tuple[ChannelId, Mallory, tuple[int, int]]:
    """Let Mallory pay Alice nine tenths of her deposit, and be gone; return also the numbers of the proofs before."""
    await world.start("alice")
    mallory = await world.start("mallory")
    channel = await mallory.open_channel(world.address("alice"), deposit)
    await channel.pay(1, b"")
    await world.blocks(2)
    villain = Mallory(world)
    old = villain.newest(channel.id, 0), villain.newest(channel.id, 1)
    await channel.pay(deposit // 10 * 9, b"")
    await world.blocks(2)
    await world.crash("mallory")
    return channel.id, villain, old


def is_one_of(frame: bytes, *kinds: type[Message]) -> bool:
    """Whether a frame is a channel message of one of these kinds; what an extension says is none."""
    return number_of(frame) not in EXTENSION_TAGS and isinstance(decode(frame), kinds)


def withhold(*kinds: type[Message]) -> Tamper:
    """Return a way of tampering: messages of these kinds never leave."""
    return lambda frame: [] if is_one_of(frame, *kinds) else [frame]


def repeat() -> Tamper:
    """Return a way of tampering: updates, acks and reveals leave twice, with older ones before them again."""
    said: list[bytes] = []

    def tamper(frame: bytes) -> list[bytes]:
        if not is_one_of(frame, Update, Ack, Reveal):
            return [frame]
        said.append(frame)
        return [*said[-4:-1], frame, frame]

    return tamper


def garble_onions(frame: bytes) -> list[bytes]:
    """Damage the onion of each lock that is passed on."""
    if not is_one_of(frame, Update):
        return [frame]
    update = decode(frame)
    assert isinstance(update, Update)
    damaged = tuple(
        msgspec.structs.replace(operation, onion=operation.onion[:-1] + bytes([operation.onion[-1] ^ 1]))
        if isinstance(operation, AddLock) and operation.onion
        else operation
        for operation in update.operations
    )
    return [encode(msgspec.structs.replace(update, operations=damaged))]


def garble_reasons(frame: bytes) -> list[bytes]:
    """Damage the reason for which each lock comes back."""
    if not is_one_of(frame, Reject):
        return [frame]
    reject = decode(frame)
    assert isinstance(reject, Reject)
    return [encode(msgspec.structs.replace(reject, reason=bytes(255 - byte for byte in reject.reason)))]


def drop_locks(frame: bytes) -> list[bytes]:
    """Let no lock out: what this node takes on for others, it forwards to nobody, and says nothing."""
    if not is_one_of(frame, Update):
        return [frame]
    update = decode(frame)
    assert isinstance(update, Update)
    return [] if any(isinstance(operation, AddLock) for operation in update.operations) else [frame]


def play_late(seconds: float, *kinds: type[Message]) -> Tamper:
    """Return a way of tampering: messages of these kinds leave so much later, behind another one of their channel."""
    held: dict[bytes, deque[tuple[float, bytes]]] = {}

    def tamper(frame: bytes) -> list[bytes]:
        channel = None if number_of(frame) in EXTENSION_TAGS else channel_of(decode(frame))
        if channel is None:
            return [frame]
        now, waiting = trio.current_time(), held.setdefault(channel, deque())
        if is_one_of(frame, *kinds):
            waiting.append((now + seconds, frame))
            return []
        due = [waiting.popleft()[1] for _ in range(sum(at <= now for at, _ in waiting))]
        return [frame, *due]

    return tamper


def flood(world: World, name: str, rng: random.Random, junk: int = 20) -> Tamper:
    """Return a way of tampering: with each piece of gossip come so many signed ones of channels that do not exist."""
    key, chain = world.seats[name].key, world.chain
    domain = domain_separator(chain.chain_id, chain.contract)

    def tamper(frame: bytes) -> list[bytes]:
        if number_of(frame) not in EXTENSION_TAGS:
            return [frame]
        now = chain.newest.header.time
        lies: list[Announcement] = [
            sign_update(key, domain, ChannelId(rng.randbytes(32)), rng.randrange(2), now, ForwardingPolicy())
            for _ in range(junk)
        ]
        return [frame, *gossip_frames(lies)]

    return tamper
