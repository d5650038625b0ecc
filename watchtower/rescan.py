"""`rescan`: reads the chain anew, and compares what a tower holds of disputes with what there is.

It reads the tower's data as they are, also while the tower runs, and changes nothing. What it finds is told as
`comparing.Difference`s; their `corrections` are stored by whoever has the directory to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import msgspec
import trio

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.channels.storage.identity import Identity, compare_identities, read_identity
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.tables import Reader
from tallystick.channels.transport.retries import Jitter
from tallystick.settlement.chain import Challenged, Closed, Header, Settled
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.following.checked import with_checks
from tallystick.settlement.following.follower import BlockAdded, Followed, Follower, Step, headers_kept
from tallystick.settlement.port import Chain
from tallystick.settlement.sending.moments import read_followed, read_obligation
from tallystick.settlement.sending.obligations import TRIES_MAX, Obligation, ObligationStatus
from tallystick.watchtower.comparing import Difference, DifferenceKind, PlacedEvent, compare, is_open
from tallystick.watchtower.cover_schema import promised_defences
from tallystick.watchtower.disputes import ChallengeBudget, Defence, Dispute, DisputeEvent, check, duties
from tallystick.watchtower.schema import DisputeOver, DisputeSeen, read_appointments, read_disputes
from tallystick.watchtower.sealing import locator_of, unseal

ASKED_AT_ONCE = 256
"""Channels that the chain is asked for in one go."""

PATIENCE = 120.0
"""Seconds without a right answer of the chain node after which a rescan gives up."""

LAG_MAX = 6
"""A tower that is more blocks behind has not taken on what is due: it does once it is up to date."""


Snapshot: TypeAlias = Callable[[], AbstractContextManager[Reader]]
"""Gives a tower's data as they are now."""


class Rescan(msgspec.Struct, frozen=True):
    """What a rescan has found."""

    position: int
    """The block up to which was compared: the newest that the tower had followed."""
    lag: int
    """Blocks of the chain beyond it."""
    held: int
    """Disputes that can be challenged there, of those that the tower holds."""
    found: int
    """The same, of those that the chain shows."""
    differences: tuple[Difference, ...]
    repaired: int = 0
    """Disputes that were replaced by what the chain shows."""


class TowerRecord(msgspec.Struct, frozen=True):
    """What a tower's data say, all of one moment."""

    followed: Followed
    disputes: Mapping[ChannelId, Dispute]


def read_record(source: Reader, chain: Chain, start: int) -> TowerRecord:
    """Read it; raise InvalidInput if the tower has followed nothing yet."""
    followed = read_followed(source, chain.chain_id, start, kept=headers_kept(chain.figures))
    if followed.position is None:
        raise InvalidInput("this tower has followed no block yet: there is nothing to compare")
    return TowerRecord(followed, read_disputes(source))


def account_of(source: Reader, chain: Chain, place: str) -> Address:
    """Return whose data it is; raise StoreForeign if it is of another chain, InvalidInput if nobody's yet."""
    said = read_identity(source)
    if said is None or said.account is None:
        raise InvalidInput(f"no tower has run in {place} yet: there is nothing to compare")
    compare_identities(said, Identity(said.account, chain.chain_id, chain.contract), place)
    return said.account


class Rebuilding:
    """Reads the chain from its start to a block, and keeps what can be challenged there."""

    def __init__(self, chain: Chain, until: Header, start: int, jitter: Jitter) -> None:
        self.disputes: dict[ChannelId, Dispute] = {}
        self.events: dict[ChannelId, list[PlacedEvent]] = {}
        self._chain = chain
        self._until = until
        kept = headers_kept(chain.figures)
        self._follower = Follower(chain, Followed(start, kept=kept), self._on_steps, jitter=jitter)

    async def run(self) -> None:
        """Return once the block was reached; raise ChainUnavailable if the chain node does not answer for long."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follower.run)
            nursery.start_soon(self._give_up)
            await self._follower.wait_reached(self._until.number)
            nursery.cancel_scope.cancel()

    async def _give_up(self) -> None:
        while True:
            await trio.sleep(max(PATIENCE - self._follower.silent, 1.0))
            if self._follower.silent >= PATIENCE:
                why = f"the chain node does not answer as it must ({self._follower.fault}); try another one"
                raise ChainUnavailable(why)

    async def _on_steps(self, steps: Sequence[Step]) -> int:
        for step in steps:
            if not isinstance(step, BlockAdded):
                self._remove(step.header)
            elif step.block.header.number <= self._until.number:
                terms = await self._terms([event for event in step.block.events if isinstance(event, Closed)])
                for position, event in enumerate(step.block.events):
                    if isinstance(event, Closed) and event.channel in terms:
                        self.disputes[event.channel] = Dispute(terms[event.channel])
                        self.events[event.channel] = []
                    if isinstance(event, Closed | Challenged | Settled) and event.channel in self.disputes:
                        seen = DisputeEvent(step.block.header, event)
                        self.disputes[event.channel] = self.disputes[event.channel].with_event(*_parts(seen))
                        self.events[event.channel].append(PlacedEvent(position, seen))
        return len(steps)

    async def _terms(self, closes: Sequence[Closed]) -> dict[ChannelId, Terms]:
        """Return the terms of the channels that were closed so that they can be challenged yet."""
        asked = [event.channel for event in closes if event.deadline >= self._until.time]
        found = set[Terms]()
        for first in range(0, len(asked), ASKED_AT_ONCE):
            views = await self._chain.channels(asked[first : first + ASKED_AT_ONCE])
            found.update(view.terms for view in views if view is not None)
        terms = {channel_id(each): each for each in found}
        if any(channel not in terms for channel in asked):
            raise ChainUnavailable("the chain node does not know a channel that was closed; it is out of step")
        return terms

    def _remove(self, header: Header) -> None:
        for channel, dispute in list(self.disputes.items()):
            left = dispute.without_block(header.number)
            self.events[channel] = [one for one in self.events[channel] if one.seen.block.number < header.number]
            self.disputes[channel] = left
            if not left.sightings:
                del self.disputes[channel], self.events[channel]


def _parts(seen: DisputeEvent) -> tuple[Header, Closed | Challenged | Settled]:
    return seen.block, seen.event


async def rescan(
    record: TowerRecord, now: Snapshot, chain: Chain, account: Address, start: int, jitter: Jitter
) -> tuple[Rescan, Rebuilding]:
    """Compare what a tower held with what the chain shows up to the same block; raise ChainError or ChainUnavailable.

    `now` gives its data as they are by then: whether what is due is on its way is judged by those.
    """
    chain = with_checks(chain)
    position = record.followed.position
    assert position is not None
    rebuilding = Rebuilding(chain, position, start, jitter)
    head = await chain.head()
    if head.number < position.number:
        raise ChainUnavailable(f"the chain node is at block {head.number}, behind the tower, at {position.number}")
    await rebuilding.run()
    found: list[Difference] = []
    if await chain.header(position.number) != position:
        known = [await chain.header(one.number) == one for one in record.followed.headers]
        if not any(known):
            text = f"block {position.number}, up to which the tower has followed the chain, is none of its blocks"
            found.append(Difference(DifferenceKind.POSITION_GONE, f"{text}: is it another chain?"))
        else:  # it follows that by itself: compare what is before
            raise ChainUnavailable("the newest blocks that the tower followed have just left the chain: try again")
    found += compare(record.disputes, rebuilding.disputes, position)
    lag = head.number - position.number
    if lag <= LAG_MAX:
        with now() as source:
            found += _duties_missing(rebuilding.disputes, source, chain, account, position)
    held, shown = (
        sum(is_open(dispute, position.time) for dispute in some.values())
        for some in (record.disputes, rebuilding.disputes)
    )
    return Rescan(position.number, lag, held, shown, tuple(found)), rebuilding


def _duties_missing(
    disputes: Mapping[ChannelId, Dispute], source: Reader, chain: Chain, account: Address, position: Header
) -> list[Difference]:
    found = []
    for channel, dispute in sorted(disputes.items()):
        if not is_open(dispute, position.time):
            continue
        defences = _defences(dispute, source, account)
        for duty in duties(dispute, defences, ChallengeBudget(1, 1, 0)):
            if not _is_taken_on(duty, source, chain, account):
                text = f"channel {channel.hex()[:8]}: to {duty.purpose} is due, and nothing is on its way"
                found.append(Difference(DifferenceKind.DUTY_MISSING, text, channel))
    return found


def _defences(dispute: Dispute, source: Reader, account: Address) -> list[Defence]:
    closed, found = dispute.closed, []
    if closed is None:
        return []
    for party in dispute.terms.participants:
        for row in read_appointments(source, locator_of(closed.close_key, account, party)):
            if row.client == party:
                try:
                    opened = unseal(row.blob, closed.close_key, account, party)
                    found.append(check(opened, dispute.terms, party, account))
                except (MalformedMessage, InvalidInput):
                    continue  # it defends nothing: the tower has said so
    return [*found, *promised_defences(source, dispute.channel)]


def _is_taken_on(duty: Obligation, source: Reader, chain: Chain, account: Address) -> bool:
    """Whether an attempt at a duty is on its way, or was given up for a person to see to."""
    names = (duty.again(attempt, 1).id for attempt in range(TRIES_MAX))
    tried = (read_obligation(source, chain.chain_id, account, name) for name in names)
    return any(one is not None and one.status is not ObligationStatus.SUPERSEDED for one in tried)


def corrections(
    differences: Iterable[Difference],
    rebuilt: Mapping[ChannelId, Dispute],
    events: Mapping[ChannelId, Sequence[PlacedEvent]],
) -> list[Moment]:
    """Return what to store so that the disputes that differ are what the chain shows: what is due follows from them."""
    moments: list[Moment] = []
    for difference in differences:
        channel = difference.channel
        if channel is None or difference.kind is DifferenceKind.DUTY_MISSING:
            continue
        moments.append(DisputeOver(channel, ()))
        if channel in rebuilt:
            terms = rebuilt[channel].terms
            moments += [DisputeSeen(channel, terms, one.position, one.seen) for one in events[channel]]
    return moments
