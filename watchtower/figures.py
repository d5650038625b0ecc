"""What a tower says of itself: one frozen value, of which status, metrics and readiness are made. Pure.

Nothing in it tells one client, or one channel, from another: amounts of work, of time and of its own fees, by kinds.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from itertools import accumulate

import msgspec

from tallystick.settlement.following.vigil import FollowerStatistics
from tallystick.settlement.sending.figures import SenderStatistics

STATUS_OLD = 15.0
"""A status older than this many seconds is of a tower that does not run any more."""

COUNTING_PART = 0.01
"""Of the time, what counting appointments takes at most."""

COMMIT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds that commits are counted by."""


class SparingCount:
    """A count that takes long where there is much: it is made anew so rarely that it takes a hundredth of the time."""

    def __init__(self, count: Callable[[], int], clock: Callable[[], float]) -> None:
        """`clock` returns seconds."""
        self._count = count
        self._clock = clock
        self._last = 0
        self._again = -math.inf

    def look(self) -> int:
        """Return how many there are, or were a short while ago."""
        began = self._clock()
        if began >= self._again:
            self._last, ended = self._count(), self._clock()
            self._again = ended + (ended - began) / COUNTING_PART
        return self._last


class Trouble(enum.StrEnum):
    """Why a tower takes nothing new, and may not be able to defend what it has."""

    CHAIN_NONSENSE = "chain-nonsense"
    """Its chain node's answers are errors, or cannot be right."""
    CHAIN_BEHIND = "chain-behind"
    """Too many blocks wait to be followed."""
    CHAIN_SILENT = "chain-silent"
    """Its chain node has not answered for long."""
    CHAIN_STANDS_STILL = "chain-stands-still"
    """Its chain node answers, and shows old blocks alone."""
    DISK = "disk"
    """Its disk is full, or refuses to write."""
    FEES = "fees"
    """Its account holds too little for fees."""


class CommitTimes(msgspec.Struct, frozen=True):
    """How long commits took, waiting for those before them included: a histogram."""

    counts: tuple[int, ...] = (0,) * (len(COMMIT_BOUNDS) + 1)
    """How many took no longer than each of COMMIT_BOUNDS, but longer than the one before; those beyond the last one
    come last."""
    seconds: float = 0.0
    """All of them together."""

    def with_one(self, seconds: float) -> CommitTimes:
        """Return the same with one more."""
        place = next((at for at, bound in enumerate(COMMIT_BOUNDS) if seconds <= bound), len(COMMIT_BOUNDS))
        counts = tuple(count + (at == place) for at, count in enumerate(self.counts))
        return CommitTimes(counts, self.seconds + seconds)

    @property
    def up_to(self) -> tuple[int, ...]:
        """How many took no longer than each bound; all of them, last."""
        return tuple(accumulate(self.counts))


class TowerStatistics(msgspec.Struct, frozen=True):
    """How the tower does."""

    appointments: int
    accepted: int
    refused: int
    cases: int
    challenges: int
    registrations: int
    """Of what pays for clients' locks, since the start."""
    troubles: tuple[str, ...]
    alarms: int
    follower: FollowerStatistics
    sender: SenderStatistics
    trouble_kinds: tuple[Trouble, ...] = ()
    """Of which kinds `troubles` are, in the same order."""
    at_work: int = 0
    """Of the cases, those for which something may have to be done."""
    margin: int | None = None
    """Seconds of chain time to the nearest deadline of what has to be done; below 0 if it is over, None without any."""
    clients: int = 0
    """Different clients whose appointments it holds, as counted lately."""
    connections: int = 0
    """Clients that are connected, whose appointments it holds."""
    strangers: int = 0
    """Others that are connected."""
    useless: int = 0
    """Appointments that defended nothing when they were opened, since the start."""
    given_up: Mapping[str, int] = {}
    """Lock claims that expired without having been registered, since the start, by why (`ClaimLeft`)."""
    alarm_kinds: Mapping[str, int] = {}
    """Alarms since the start, by kind."""
    commits: Mapping[str, CommitTimes] = {}
    """By what was committed: `chain` (blocks, and what follows from them) or `appointments`."""
    fee_account: int | None = None
    """What its account holds, in the native coin; None if that is not known yet."""
    fees_needed: int | None = None
    """What it has to hold for the tower to take new appointments."""


class TowerStatus(msgspec.Struct, frozen=True):
    """What a running tower tells about itself."""

    time: float
    """Unix seconds by the tower's clock."""
    address: str
    """0x and 40 hex digits: the account that pays its fees, and that vouchers name."""
    peer_address: str
    """What clients connect to. This and the next two are empty, or 0, while it waits for its chain node."""
    chain_id: int
    contract: str
    statistics: TowerStatistics | None
    """None while it waits for its chain node."""
    waiting_for: str = ""
    """What it waits for before it watches anything; empty once it does."""
    metrics_url: str = ""
    """Where its metrics are served, empty if nowhere; beside them are `/healthz` and `/readyz`."""


def unready(status: TowerStatus | None) -> tuple[str, ...]:
    """Return why nobody should rely on the tower now, a sentence each, for anybody to read; empty if all is well.

    What its chain node said is left out: that may name its URL, which may hold the key of an account with a provider.
    """
    if status is None:
        return ("it is starting",)
    figures = status.statistics
    if figures is None:
        return ("it waits for its chain node, and watches nothing yet",)
    hidden = "its chain node's answers are errors, or cannot be right; its alarms say more"
    told = zip(figures.trouble_kinds, figures.troubles, strict=False)
    return tuple(hidden if kind is Trouble.CHAIN_NONSENSE else text for kind, text in told)
