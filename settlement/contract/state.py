"""What the adjudicator knows of one channel, as frozen values; its rules are in `adjudicator`.

Everything that a rule reads or changes of a channel is in its one `ChannelStorage`: the contract's state is a map from
channel id to it, besides a counter per pair and asset. So calls on different channels never touch the same value, and
an executor may run them in parallel.
"""

from __future__ import annotations

import enum

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ZERO32, Address, Terms
from tallystick.settlement.chain import ChannelEvent, ContractChannel

BPS = 10_000
"""Hundredths of a percent in the whole."""


class ChannelStatus(enum.IntEnum):
    """Where a channel stands on chain. The numbers are part of the contract's interface."""

    OPEN = 0
    CLOSED = 1
    """A window runs, or is over and waits for settle."""
    SETTLED = 2
    """Paid out but for the pots, which wait for pending locks."""
    GONE = 3
    """Nothing is left in it."""


class Parameters(msgspec.Struct, frozen=True):
    """What is fixed when the adjudicator is deployed."""

    chain_id: int
    contract: Address
    reward_bps: int = 1_000
    """What a voucher's beneficiary earns of a convicted closer's net, in hundredths of a percent."""

    def __post_init__(self) -> None:
        if not 0 <= self.reward_bps <= BPS:
            raise InvalidInput(f"reward_bps must be from 0 to {BPS}, not {self.reward_bps}")


class StandingProof(msgspec.Struct, frozen=True, array_like=True):
    """What counts of the proof that stands for one simplex. The default is genesis."""

    seq: int = 0
    transferred: int = 0
    locked: int = 0
    root: bytes = ZERO32


class ChannelStorage(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """All that the contract stores of a channel. Pairs are in order of side; side i writes simplex i."""

    terms: Terms
    deposits: tuple[int, int]
    status: int = ChannelStatus.OPEN
    withdrawn: tuple[int, int] = (0, 0)
    closer: int = 0
    """Side that closed alone; of meaning once `status` is CLOSED."""
    deadline: int = 0
    """Last block time at which a challenge counts."""
    standing: tuple[StandingProof, StandingProof] = (StandingProof(), StandingProof())
    own_seq: int = 0
    """Seq of the closer's own simplex that it closed with: what rule 2 of fraud compares with."""
    convicted: bool = False
    beneficiary: Address | None = None
    """Who earns the reward, as the convicting challenge's voucher said."""
    pots: tuple[int, int] = (0, 0)
    """Held back for the pending locks of each simplex, after settlement."""

    @property
    def total(self) -> int:
        """Deposits less withdrawals of both sides."""
        return sum(self.deposits) - sum(self.withdrawn)

    @property
    def held(self) -> int:
        """What the contract holds for this channel now, in its asset."""
        if self.status in (ChannelStatus.OPEN, ChannelStatus.CLOSED):
            return self.total
        return sum(self.pots)


class Payout(msgspec.Struct, frozen=True):
    """`amount` of the channel's asset leaves the contract for an account; if that refuses it, it is owed it."""

    to: Address
    amount: int


class CallOutcome(msgspec.Struct, frozen=True):
    """What a call does to one channel: its new state, the events, what the caller pays in and who is paid."""

    channel: ChannelStorage
    events: tuple[ChannelEvent, ...]
    taken: int = 0
    payouts: tuple[Payout, ...] = ()
    outgrown: tuple[int, int] | None = None
    """Deposits by side that a new one was added to: how each sum was shared is remembered."""


def view(channel: ChannelStorage) -> ContractChannel:
    """Return the state as the chain interface shows it."""
    first, second = channel.standing
    ended_alone = channel.status != ChannelStatus.OPEN and channel.deadline > 0
    return ContractChannel(
        terms=channel.terms,
        status=int(channel.status),
        deposits=channel.deposits,
        withdrawn=channel.withdrawn,
        closer=channel.closer if ended_alone else None,
        deadline=channel.deadline if ended_alone else None,
        seqs=(first.seq, second.seq),
        roots=(first.root, second.root),
        pots=channel.pots,
        convicted=channel.convicted,
    )
