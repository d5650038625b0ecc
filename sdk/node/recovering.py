"""Brings a node's channels back from its towers into a data directory that has lost them, or holds an old copy.

The node must not run meanwhile. Afterwards it is started as ever: in each channel that was brought back it signs and
closes nothing, asks the peer to close, challenges what is older, registers, settles, redeems (`watchtower.recovery`).
Everything is stored in one commit at the end: until then nothing was done, and asking again changes nothing more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Entropy, Network, PeerAddress, system_entropy
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.storage.directory import hold_identity
from tallystick.channels.storage.identity import Identity, claim_directory
from tallystick.channels.storage.schema import load_channels, load_flight
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.transport.links import TcpNetwork
from tallystick.sdk.node.running import said_by_node
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.sdk.node.whereabouts import PeerKnown, known_peers
from tallystick.watchtower.inventory import ask_tower, coverage_of
from tallystick.watchtower.recovery import (
    Holdings,
    Recovered,
    has_all,
    moments_of,
    newest_of,
    restored,
)
from tallystick.watchtower.schema import Coverage, read_coverage

TOWER_SECONDS = 30.0
"""How long a tower may take for each answer."""


class ChannelBack(msgspec.Struct, frozen=True):
    """What became of one channel that towers told of."""

    channel: str
    peer: str
    """The peer's public key."""
    own_seq: int
    """Number of our newest statement that the peer signed, too: 0 if there is none."""
    peer_seq: int
    sent: int
    """Units that we had paid by it, and that the peer had paid us; in the channel's asset."""
    received: int
    secured: int
    """Units of the peer's pending locks that what was found pays us."""
    restored: bool
    """Whether it was brought back; if not, the data has as much already, or the channel is being closed."""
    phase: str
    """Of the channel, as the data has it now."""
    locks_missing: bool
    """Whether no tower told all pending locks: those that are missing only the peer can show."""


class Recovery(msgspec.Struct, frozen=True):
    """What was found, and what was not."""

    asked: int
    """Towers."""
    answered: int
    channels: tuple[ChannelBack, ...]
    faults: tuple[str, ...]


async def recover(
    directory: str | Path,
    *,
    key: PrivateKey,
    chain_id: int,
    contract: Address,
    towers: Sequence[PeerAddress],
    within: float = TOWER_SECONDS,
    network: Network | None = None,
    entropy: Entropy = system_entropy,
    store: Store | None = None,
) -> Recovery:
    """Bring back what the towers hold of this key's channels on that chain; return what was found.

    `within`: seconds that each answer of a tower may take. Raise InvalidInput if no tower is named, StoreInUse if the
    node runs, be it in another directory, StoreForeign if the directory is another's. The last three parameters are
    for simulations.
    """
    if not towers:
        raise InvalidInput("no tower is named: without one nothing can be brought back")
    place = Path(directory)
    ours = Identity(key.address, chain_id, contract)
    own = store or open_store(place, SCHEMAS, owner=f"recovery of 0x{key.address.hex()}")
    alone = contextlib.ExitStack()
    try:
        claim_directory(own, ours, said_by_node(own), str(place))
        if store is None:
            alone.enter_context(hold_identity("node", ours))
        holdings: dict[int, Holdings] = {}

        async def ask(number: int, tower: PeerAddress) -> None:
            own_network = network or TcpNetwork(key, entropy)
            holdings[number] = await ask_tower(own_network, tower, key, (chain_id, contract), within)

        async with trio.open_nursery() as nursery:
            for number, tower in enumerate(towers):
                nursery.start_soon(ask, number, tower)
        answers = [holdings[number] for number in sorted(holdings)]
        backs, moments = _take_in(own, key, answers)
        if moments:
            own.commit(moments)
    finally:
        alone.close()
        if store is None:
            own.close()
    faults = tuple(fault for held in answers for fault in held.faults)
    return Recovery(len(towers), sum(held.answered for held in answers), tuple(backs), faults)


def _take_in(store: Store, key: PrivateKey, answers: Sequence[Holdings]) -> tuple[list[ChannelBack], list[Moment]]:
    """Return what became of each channel, and what to store."""
    known = {channel.id: channel for channel in load_channels(store)}
    peers = {address.key for address in known_peers(store)}
    backs: list[ChannelBack] = []
    moments: list[Moment] = []
    whole: set[ChannelId] = set()
    for one in newest_of(key, answers):
        identity, before = channel_id(one.terms), known.get(channel_id(one.terms))
        flight = load_flight(store, before) if before is not None else []
        channel = restored(one, one.terms.side_of(key.address), before, max((row.seq for row in flight), default=0))
        if channel is not None:
            known[identity] = channel
            moments += moments_of(channel, one)
            for text in one.places[:1] if one.peer_key not in peers else ():
                with contextlib.suppress(InvalidInput):
                    moments.append(PeerKnown(one.peer_key, str(PeerAddress.parse(f"{one.peer_key.hex()}@{text}"))))
        if has_all(known[identity], one):
            whole.add(identity)
        backs.append(_told(known[identity], one, was_restored=channel is not None))
    for held in answers:
        moments += _newer_coverage(store, coverage_of(held, whole, known))
    return backs, moments


def _newer_coverage(store: Store, moments: Sequence[Coverage]) -> list[Moment]:
    there = read_coverage(store, moments[0].tower) if moments else {}
    return [each for each in moments if each.channel not in there or there[each.channel].revision < each.revision]


def _told(channel: Channel, one: Recovered, *, was_restored: bool) -> ChannelBack:
    ours, theirs = one.proofs[channel.side], one.proofs[channel.peer_side]
    return ChannelBack(
        channel.id.hex(),
        one.peer_key.hex(),
        0 if ours is None else ours.proof.seq,
        0 if theirs is None else theirs.proof.seq,
        0 if ours is None else ours.proof.transferred,
        0 if theirs is None else theirs.proof.transferred,
        sum(claim.worth for claim in one.claims),
        was_restored,
        channel.phase.name.lower(),
        not one.is_whole,
    )
