"""Consumers of a chain's steps that take one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tallystick.settlement.following.follower import OnSteps, Step


def one_by_one(on_step: Callable[[Step], Awaitable[None]]) -> OnSteps:
    """Return what takes in the first of the steps only, however many there are."""

    async def on_steps(steps: Sequence[Step]) -> int:
        await on_step(steps[0])
        return 1

    return on_steps
