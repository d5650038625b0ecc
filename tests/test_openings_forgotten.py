"""A chain that hands out a number which this node has used is another chain, and is called that."""

from __future__ import annotations

import pytest

from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.errors import OpeningFailed
from tallystick.sdk.testing.world import open_world
from tallystick.settlement.testing.local import LocalChain


@pytest.mark.parametrize("closed", [False, True])
def test_an_opening_on_a_chain_that_forgot_the_last_one_says_so(monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    async def nothing(*_: object) -> int:
        return 0

    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(bob.peer_address, 1_000)
            await channel.pay(5)
            if closed:
                await channel.close()
            monkeypatch.setattr(LocalChain, "channel_count", nothing)
            with pytest.raises(OpeningFailed, match=f"knows nothing of channel {channel.id.hex()[:8]}.*begun anew"):
                await alice.open_channel(bob.peer_address, 1_000)
            assert alice.engine.views.ids == [channel.id]

    simulate(main, 1)
