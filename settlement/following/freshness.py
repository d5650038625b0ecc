"""Whether a view of the chain is up to date: proven by what is known, not by the absence of an error. Pure.

A view proves itself by two clocks. *Ours* cannot be set and counts sleep (`ports.Elapsed`); the chain's own are the
times in its headers.

- **Age**: seconds of our clock since the question that brought the last new block. A block that was followed before
  is no news, nor is a head below the position: a node that repeats itself, lags, or errors only makes the view older.
  It counts from the question: an answer may have waited while this machine slept.
- **Lag**: how far the position's time is behind where the chain's clock must be by now. That is known by pace (the
  chain was in step before, and its time goes on with ours) or by the wall clock, of which only agreement with the
  chain is believed: it was read when we began, and stepping it later proves nothing. Chains that run ahead of the wall
  clock, as development chains do, are judged by their age.

A view is as old as the larger of both says; nobody has a fresh one before the chain has proven that it moves.
"""

from __future__ import annotations

import math

import msgspec

from tallystick.settlement.chain import Header

BOUND = 30.0
"""Seconds that a fresh view may be old at most. Well below the margin up to which secrets are paid for."""

DEPTH = 3
"""Blocks upon a block before its time is taken as a measure: a single answer that lies is taken back by then."""

DRIFT = 2e-4
"""Share by which our clock may run faster than the chain's: a bad quartz makes half of it."""

HASHES_KEPT = 512
"""Blocks that are remembered in order to know a repetition."""


class Arrival(msgspec.Struct, frozen=True):
    """A block, and when (by our clock) the question was asked that brought it."""

    header: Header
    asked: float

    @property
    def offset(self) -> float:
        """How far the chain's clock is ahead of ours, at least."""
        return self.header.time - self.asked


class Freshness(msgspec.Struct, frozen=True):
    """What is known of a chain's clock and of ours."""

    wall: float
    """The wall clock's offset to ours that is believed: at first as it is (-inf: there is none to compare with)."""
    agreed: bool = False
    """Whether the chain has ever agreed with it."""
    arrivals: tuple[Arrival, ...] = ()
    """The newest standing blocks that came since we began, in order."""
    anchor: Arrival | None = None
    """The block by whose arrival the chain was most in step."""
    news: float | None = None
    """When the question was asked that brought the last new block."""
    recent: tuple[bytes, ...] = ()
    """Hashes of the last blocks that were followed."""


def with_block(state: Freshness, header: Header, asked: float, wall: float) -> Freshness:
    """Take in a block that was followed; `wall` is the wall clock's offset to ours as it is now."""
    state = _agree(state, header, asked, wall)
    standing = tuple(arrival for arrival in state.arrivals if arrival.header.number < header.number)
    news = state.news
    if header.hash not in state.recent:
        news = asked if news is None else max(news, asked)
    state = msgspec.structs.replace(
        state,
        arrivals=(*standing, Arrival(header, asked))[-DEPTH - 1 :],
        news=news,
        recent=(*state.recent, header.hash)[-HASHES_KEPT:],
    )
    return _anchored(state)


def without_block(state: Freshness, header: Header) -> Freshness:
    """Take back a block that left the branch: its time measures nothing any more."""
    anchor = state.anchor if state.anchor is not None and state.anchor.header.number < header.number else None
    standing = tuple(arrival for arrival in state.arrivals if arrival.header.number < header.number)
    return msgspec.structs.replace(state, arrivals=standing, anchor=anchor)


def with_head_confirmed(state: Freshness, position: Header, asked: float, wall: float) -> Freshness:
    """Hear that the position is the head still. That is no news, but to who has just begun and finds it young."""
    state = _agree(state, position, asked, wall)
    if state.news is None and asked + state.wall - position.time <= BOUND:
        return msgspec.structs.replace(state, news=asked, recent=(*state.recent, position.hash)[-HASHES_KEPT:])
    return state


def age(state: Freshness, now: float) -> float:
    """Return the seconds of our clock since the last news; infinite before the first."""
    return math.inf if state.news is None else now - state.news


def lag(state: Freshness, position: Header, now: float) -> float:
    """Return how many seconds the position is behind the chain's own clock, as far as that is known; at least 0."""
    by_wall = now + state.wall - position.time
    if state.anchor is None:
        return max(0.0, by_wall)
    since = now - state.anchor.asked
    by_pace = state.anchor.header.time + since * (1 - DRIFT) - position.time
    return max(0.0, min(by_wall, by_pace))


def behind(state: Freshness, position: Header | None, now: float) -> float:
    """Return how old the view is, in seconds; infinite if nothing was followed or heard yet."""
    return math.inf if position is None else max(age(state, now), lag(state, position, now))


def _agree(state: Freshness, header: Header, asked: float, wall: float) -> Freshness:
    """Believe the wall clock if the chain agrees with it, and it does not contradict an agreement that there was."""
    if abs(asked + wall - header.time) > BOUND or (state.agreed and wall <= state.wall):
        return state
    return msgspec.structs.replace(state, wall=wall, agreed=True)


def _anchored(state: Freshness) -> Freshness:
    """Take the block that now has DEPTH others upon it as the measure, if it was in step, and more so than the last."""
    if len(state.arrivals) <= DEPTH:
        return state
    candidate, anchor = state.arrivals[0], state.anchor
    if anchor is None:
        in_step = candidate.asked + state.wall - candidate.header.time <= BOUND
    else:
        in_step = candidate.offset > anchor.offset - DRIFT * (candidate.asked - anchor.asked)
    return msgspec.structs.replace(state, anchor=candidate) if in_step else state
