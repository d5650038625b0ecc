"""What an owner asks for payments over a channel: refused while it is only a wish, never once it is stored."""

from __future__ import annotations

import pytest

from tallystick.channels.errors import InvalidInput
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.testing.world import open_world


@pytest.mark.parametrize(
    "policy",
    [ForwardingPolicy(fee_ppm=2**32), ForwardingPolicy(base_fee=-1), ForwardingPolicy(maximum=2**128)],
    ids=["fee_ppm", "base_fee", "maximum"],
)
def test_a_policy_that_cannot_be_announced_is_refused_and_the_node_starts_again(policy: ForwardingPolicy) -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, _ = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 10_000_000)
            before = alice.policy(channel.id)
            with pytest.raises(InvalidInput, match="of a policy"):
                await alice.set_policy(channel.id, policy)
            assert alice.policy(channel.id) == before
            alice = await world.restart("alice")
            assert alice.policy(channel.id) == before

    simulate(main, 1)
