"""When a person must be told that the chain is not followed: early enough for what is at stake, and again. Pure.

up to date ──▶ not, for `first` ──▶ alarm ──▶ still not, after `again` ──▶ alarm ──▶ … ──▶ up to date: a notice
"""

from __future__ import annotations

import msgspec

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.settlement.errors import ChainError
from tallystick.settlement.following.freshness import BOUND

TICK = 30.0
"""Seconds between two looks."""

FIRST = 120.0
"""Seconds without an up-to-date view until the first alarm, at most."""

AGAIN = 3 * 3_600.0
"""Seconds until it is raised again, at most."""

SHARE = 8
"""Both are at most this part of the shortest time that is at stake."""

SLEPT = 60.0
"""Seconds that a look may come too late, until it is told that this process stood still."""


class Sight(msgspec.Struct, frozen=True):
    """How the following goes at one look."""

    now: float
    """Our clock, which counts sleep."""
    behind: float
    """How old the view is (`freshness.behind`)."""
    silent: float
    """Seconds since the chain node's last right answer."""
    fault: Exception | None
    """What went wrong last; None if the last answer was right."""
    lost: bool = False
    """Whether it is another chain than was followed, for certain."""
    at_stake: float | None = None
    """The shortest time within which something may have to be done on chain: a challenge period, a lock's expiry."""


class FollowerStatistics(msgspec.Struct, frozen=True):
    """How the following goes."""

    position: int
    """Number of the newest block that was followed, -1 if none."""
    lag: int
    """Blocks between the position and the head, as last seen."""
    silent: float
    """Seconds since the chain node last answered."""
    removed: int
    """Blocks removed by reorganisations."""
    faults: int
    """Times that the chain node did not answer, or not with anything that could be right."""
    behind: float | None = None
    """How old the view of the chain is, in seconds (`freshness`); None if nothing is known yet."""
    fault: str = ""
    """What went wrong last with the chain node; empty if its last answer was right."""


class Vigil(msgspec.Struct, frozen=True):
    """Since when the view is old, and what was told of it."""

    looked: float
    well: float
    """When it was last up to date."""
    told: AlarmKind | None = None
    told_at: float = 0.0
    times: int = 0
    """How often it was told."""


def begin_vigil(now: float, told: AlarmKind | None = None) -> Vigil:
    """Begin; `told` is what was told just now, if anything was."""
    return Vigil(now, now, told, now, int(told is not None))


def look(vigil: Vigil, sight: Sight, means: str) -> tuple[Vigil, tuple[Alarm, ...]]:
    """Look; return the alarms to raise. `means` says what follows for whoever is told: "this node forwards nothing"."""
    alarms: list[Alarm] = []
    late = sight.now - vigil.looked - TICK
    if late > SLEPT:
        text = f"this process stood still for {spell(late)} (or its machine slept): what expired meanwhile is lost, if"
        alarms.append(Alarm(AlarmKind.NODE_SLEPT, f"{text} no other one guarded it; keep the machine awake"))
        vigil = msgspec.structs.replace(vigil, well=vigil.well + late, told_at=vigil.told_at + late)
    vigil = msgspec.structs.replace(vigil, looked=sight.now)
    if sight.behind <= BOUND:
        if vigil.told is not None:
            text = f"the chain is followed again, after {spell(sight.now - vigil.well)}"
            alarms.append(Alarm(AlarmKind.CHAIN_BACK, text))
        return Vigil(sight.now, sight.now), tuple(alarms)
    kind, text = _what(sight, sight.now - vigil.well)
    first, again = first_after(sight.at_stake), again_after(sight.at_stake, vigil.times)
    since = vigil.well if vigil.told is None else vigil.told_at
    if sight.lost and vigil.told is not kind:
        first = 0.0  # that does not pass by itself
    if sight.now - since >= (again if kind is vigil.told else first):
        stake = "" if sight.at_stake is None else f" It must be well within {spell(sight.at_stake)}."
        alarms.append(Alarm(kind, f"{text}: {means} until that ends.{stake}"))
        vigil = msgspec.structs.replace(vigil, told=kind, told_at=sight.now, times=vigil.times + 1)
    return vigil, tuple(alarms)


def first_after(at_stake: float | None) -> float:
    """Return after how many seconds without an up-to-date view the first alarm is due."""
    return FIRST if at_stake is None else min(FIRST, max(BOUND, at_stake / SHARE))


def again_after(at_stake: float | None, times: int) -> float:
    """Return after how many seconds more it is raised again, when it was raised so many times: less and less often."""
    return AGAIN if at_stake is None else min(AGAIN, max(FIRST, at_stake / SHARE) * 2.0 ** min(max(times - 1, 0), 16))


def spell(seconds: float) -> str:
    """Write a time as people say it: 45 s, 12 min, 3.5 h, 2.1 d."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"


def kind_of(error: Exception | None) -> AlarmKind:
    """Return what to tell of a chain node that met one of our questions with this, or has not answered it yet."""
    return AlarmKind.CHAIN_NONSENSE if isinstance(error, ChainError) else AlarmKind.CHAIN_UNREACHABLE


def _what(sight: Sight, away: float) -> tuple[AlarmKind, str]:
    """Return what is wrong, as a kind and in words."""
    kind, silent = kind_of(sight.fault), spell(sight.silent)
    if sight.lost:
        return AlarmKind.CHAIN_RESET, f"this chain is not the one that was followed ({sight.fault})"
    if sight.silent <= BOUND:
        still = f"for {spell(away)} its newest block has not been a new one"
        return AlarmKind.CHAIN_STANDS_STILL, f"the chain stands still, as its node tells it: {still}"
    if kind is AlarmKind.CHAIN_NONSENSE:
        return kind, f"the chain cannot be followed, for {silent} now ({sight.fault})"
    return kind, f"the chain node has not answered for {silent} ({sight.fault or ''})"
