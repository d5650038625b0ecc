"""A node deposits a token that takes permits without approving it: one call with a permit after the other."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.chain import ApproveCall, Call, DepositCall, OpenCall
from tallystick.settlement.simulated import ledger
from tallystick.settlement.simulated.world import Layer, allowance_key

TOKEN = Address(b"\x70" * 20)


class PermittingChain:
    """Lets the simulated chain's token take permits as a real one does: each in its turn, or it is passed over."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.taken = 0
        """Permits that the token took: the number of the next one."""
        self.signed: dict[bytes, int] = {}
        """Number of the permit in a transaction."""
        self.spoiled = 0
        """Permits that came too late: another one was taken before."""
        self.approved = 0
        self.takes = True
        self._run = ledger._run
        self._sign = world.chain.sign
        patch.setattr(ledger, "_run", self.run)
        patch.setattr(world.chain, "sign", self.sign)
        patch.setattr(world.chain, "takes_permits", self.takes_permits)

    async def takes_permits(self, asset: Address, key: PrivateKey) -> bool:
        return asset == TOKEN and self.takes

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, *rest: int) -> Any:
        if isinstance(call, OpenCall | DepositCall) and call.permit:
            plain = type(call)(*(getattr(call, name) for name in call.__struct_fields__[:-1]))
            self.signed[repr(plain).encode()] = self.taken
            call = plain
        return await self._sign(key, call, nonce, price, *rest)

    def run(self, state: Layer, rules: Any, caller: Address, call: Any, time: int, *rest: Any) -> Any:
        self.approved += isinstance(call, ApproveCall)
        number = self.signed.get(repr(call).encode())
        self.spoiled += number is not None and number != state.number(b"permits")
        if number is not None and number == state.number(b"permits"):
            state.put(b"permits", number + 1)
            self.taken = number + 1
            amount = call.deposit if isinstance(call, OpenCall) else call.amount
            state.put(allowance_key(TOKEN, caller), amount)
        return self._run(state, rules, caller, call, time, *rest)


def test_channels_are_opened_and_topped_up_at_once_without_an_approval(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(1) as world:
            world.give_everybody(TOKEN)
            permitting = PermittingChain(world, monkeypatch)
            alice = await world.start("alice")
            for name in ("bob", "carol"):
                await world.start(name)

            async def open_with(name: str, deposit: int) -> None:
                await alice.open_channel(world.address(name), deposit, asset=TOKEN)

            async with trio.open_nursery() as nursery:
                for name, deposit in (("bob", 1_000), ("carol", 5_000)):
                    nursery.start_soon(open_with, name, deposit)
            async with trio.open_nursery() as nursery:
                for channel in alice.channels:
                    nursery.start_soon(channel.deposit, 300)
            assert sorted(channel.balances[0] for channel in alice.channels) == [1_300, 5_300]
            assert permitting.taken == 4 and not permitting.approved and not permitting.spoiled
            assert alice.onchain.sender.statistics().quarantined == 0

    simulate(main, 1)


def test_no_permit_is_made_while_a_call_relies_on_an_approval(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(1) as world:
            world.give_everybody(TOKEN)
            permitting = PermittingChain(world, monkeypatch)
            permitting.takes = False
            alice = await world.start("alice")
            for name in ("bob", "carol"):
                await world.start(name)
            attempt = world.attempt("alice", lambda node: node.open_channel(world.address("bob"), 1_000, asset=TOKEN))
            assert await world.until(lambda: any(_opens(o.call) for o in alice.onchain.sender.obligations()), 60)
            permitting.takes = True
            await alice.open_channel(world.address("carol"), 5_000, asset=TOKEN)
            await attempt.ended.wait()
            assert attempt.error is None
            assert permitting.approved >= 2 and not permitting.taken
            await alice.channels[0].deposit(300)
            assert permitting.taken == 1, "and then it is"

    simulate(main, 1)


def test_what_was_begun_with_a_permit_goes_on_with_one_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(1) as world:
            world.give_everybody(TOKEN)
            permitting = PermittingChain(world, monkeypatch)
            alice, _ = await world.start("alice"), await world.start("bob")
            world.chain.congest(10**9)
            world.attempt("alice", lambda node: node.open_channel(world.address("bob"), 1_000, asset=TOKEN))
            assert await world.until(lambda: any(_opens(o.call) for o in alice.onchain.sender.obligations()), 60)
            alice = await world.restart("alice")
            world.chain.congest(0)
            assert await world.until(lambda: any(channel.balances[0] == 1_000 for channel in alice.channels), 600)
            assert permitting.taken == 1 and not permitting.approved

    simulate(main, 1)


def _opens(call: Call) -> bool:
    return isinstance(call, OpenCall)
