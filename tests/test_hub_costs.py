"""A node with many channels does not look at all of them for each one of them."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from simulation.hub import HUB, Star
from simulation.mallory import is_one_of
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.messages import Update, decode
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.network.routing import PaymentOptions
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import open_world
from tallystick.settlement.enforcement.claims import amounts_at_stake

SPOKES = ("s0", "s1", "s2", "s3")


def only_locks(frame: bytes) -> list[bytes]:
    """Send locks, and never pay for them."""
    update = decode(frame) if is_one_of(frame, Update) else None
    settles = isinstance(update, Update) and not any(isinstance(operation, AddLock) for operation in update.operations)
    return [] if settles else [frame]


def test_what_secrets_are_worth_is_counted_once_a_block_however_many_channels_owe_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def counted(channels: Iterable[Channel]) -> dict[bytes, int]:
        nonlocal looks
        looks += 1
        return amounts_at_stake(channels)

    async def main() -> None:
        config = Config(challenge_period=600, payments=PaymentOptions(announce=False, lock_seconds=900))
        async with open_world(1, config=config, names=(HUB, *SPOKES)) as world:
            star = Star(world, random.Random(1))
            await star.build()
            for name in SPOKES:
                world.seats[name].tamper = only_locks
            await star.pay_round()
            hub = world.node(HUB)
            assert all(handle.view.channel.secrets for handle in hub.channels), "all owe the hub for a secret"
            monkeypatch.setattr("tallystick.settlement.enforcement.enforcer.amounts_at_stake", counted)
            hub.onchain.enforcer.react()
            assert looks == 1
            for name in SPOKES:
                world.seats[name].tamper = None
                world.network.cut(world.seats[name].key.public)
            await star.rest()

    simulate(main, 1)
