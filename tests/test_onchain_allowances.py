"""Several calls of one node may spend one token at once: what one was allowed is not taken by, or from, another.

So with tokens that change no allowance but to 0 and from 0, as USDT does.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tallystick.channels.protocol.objects import Address
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.chain import ApproveCall, Call
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.simulated import ledger
from tallystick.settlement.simulated.world import Layer, allowance_key

TOKEN = Address(b"\x70" * 20)


class StrictToken:
    """Makes the simulated ledger's tokens as strict as USDT is: an allowance goes to 0, or from 0, and nothing else."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.approved: list[int] = []
        self.refused = 0
        self._run = ledger._run
        patch.setattr(ledger, "_run", self.run)

    def run(self, state: Layer, rules: Any, caller: Address, call: Call, time: int, *rest: Any) -> Any:
        if isinstance(call, ApproveCall):
            if call.amount and state.number(allowance_key(call.asset, caller)):
                self.refused += 1
                raise Reverted(Revert.UNKNOWN_CALL, "take it back to 0 before")
            self.approved.append(call.amount)
        return self._run(state, rules, caller, call, time, *rest)


async def leave_over(world: World, name: str, amount: int) -> None:
    """Let an account have allowed so much before, as after an opening that failed."""
    assert (await world.chain.call(world.seats[name].key, ApproveCall(TOKEN, amount))).success


def test_a_strict_token_is_taken_back_to_zero_only_if_something_is_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = StrictToken(monkeypatch)

    async def main() -> None:
        async with open_world(1) as world:
            world.give_everybody(TOKEN)
            await leave_over(world, "alice", 7)
            alice, _ = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 1_000, asset=TOKEN)
            await channel.deposit(300)
            assert channel.balances[0] == 1_300
            assert strict.approved == [7, 0, 1_000, 300] and not strict.refused

    simulate(main, 1)


@pytest.mark.parametrize("is_strict", (False, True))
def test_channels_in_one_token_are_opened_and_topped_up_at_once(
    is_strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = StrictToken(monkeypatch) if is_strict else None

    async def main() -> None:
        async with open_world(1) as world:
            world.give_everybody(TOKEN)
            alice = await world.start("alice")
            for name in ("bob", "carol", "mallory"):
                await world.start(name)

            async def open_with(name: str, deposit: int) -> None:
                await alice.open_channel(world.address(name), deposit, asset=TOKEN)

            async with trio.open_nursery() as nursery:
                for name, deposit in (("bob", 1_000), ("carol", 5_000)):
                    nursery.start_soon(open_with, name, deposit)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_with, "mallory", 70)
                for channel in alice.channels:
                    nursery.start_soon(channel.deposit, 300)
            assert sorted(channel.balances[0] for channel in alice.channels) == [70, 1_300, 5_300]
            world.chain.check_conservation()
            assert strict is None or (not strict.refused and strict.approved)

    simulate(main, 1)
