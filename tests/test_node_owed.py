"""A payout that is refused is told to the node that it is for, shown, and claimed: once, and not where it is lost."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from simulation.refusals import TOKEN, refuse_payout
from tallystick.channels.errors import InsufficientFunds, InvalidInput, TallystickError
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import open_world
from tallystick.settlement.enforcement.owings import LOOK_AGAIN, Owings

ELSEWHERE = Address(b"\xee" * 20)


def amounts(*looks: Mapping[Address, int]) -> list[list[str]]:
    """Return of each look what was told."""
    owings, told = Owings(), []
    for seen in looks:
        owings, alarms = owings.look(seen)
        told.append([alarm.text.split(" account ")[1].split(" of ")[0] for alarm in alarms])
    return told


A, B = {TOKEN: 5}, {TOKEN: 7}


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([{}, {}], [[], []]),
        ([A, A, A], [[], ["5"], []]),
        ([A, {}, A, A], [[], [], [], ["5"]]),
        ([A, B, B], [[], [], ["7"]]),
        ([A, A, B, B, A, A], [[], ["5"], [], ["7"], [], []]),
        ([B, B, {}, {}, A, A], [[], ["7"], [], [], [], ["5"]]),
        ([{NATIVE: 1, TOKEN: 2}] * 2, [[], ["1", "2"]]),
    ],
)
def test_it_is_told_once_and_again_when_it_is_more(looks: list[Mapping[Address, int]], told: list[list[str]]) -> None:
    assert amounts(*looks) == told
    owings = Owings()
    for seen in [*looks, looks[-1], looks[-1]]:
        owings, _ = owings.look(seen)
    assert owings.pause > 10**9, "nothing is in doubt any more"


both = pytest.mark.parametrize("asset", (NATIVE, TOKEN), ids=("coin", "token"))


@both
@pytest.mark.alarm(AlarmKind.PAYOUT_OWED)
def test_a_refused_payout_is_told_shown_and_claimed(asset: Address) -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice = await refuse_payout(world, asset, 700)
            assert await alice.owed() == {asset: 700}
            await trio.sleep(2 * LOOK_AGAIN)
            (alarm,) = alice.alarms
            assert alarm.kind is AlarmKind.PAYOUT_OWED and "700" in alarm.text and "tally chain claim" in alarm.text
            assert ("--asset 0x" + TOKEN.hex() in alarm.text) == (asset == TOKEN)
            with pytest.raises(TallystickError, match="transfer-failed"):
                await alice.claim(asset)
            assert await alice.owed() == {asset: 700}, "what is refused again is owed as before"
            assert await alice.claim(asset, ELSEWHERE) == 700
            assert await alice.owed() == {} and await world.chain.balance(ELSEWHERE, asset) == 700
            with pytest.raises(InsufficientFunds, match="nothing"):
                await alice.claim(asset, ELSEWHERE)
            world.chain.check_conservation()
            await trio.sleep(10 * LOOK_AGAIN)
            assert [alarm.kind for alarm in alice.alarms].count(AlarmKind.PAYOUT_OWED) == 1

    simulate(main, 1)


def test_nothing_is_claimed_twice_at_once_or_to_where_it_is_lost() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice = await refuse_payout(world, TOKEN, 700)
            for nobody in (NATIVE, TOKEN, alice.chain.contract):
                with pytest.raises(InvalidInput, match="lost"):
                    await alice.claim(TOKEN, nobody)
            found: list[int | str] = []

            async def claim() -> None:
                try:
                    found.append(await alice.claim(TOKEN, ELSEWHERE))
                except InvalidInput as error:
                    found.append(str(error))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(claim)
                nursery.start_soon(claim)
            assert found == ["a claim of that is under way: wait for it", 700]

    simulate(main, 1)


def test_a_claim_goes_on_after_a_crash_and_what_is_owed_is_told_again() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice = await refuse_payout(world, TOKEN, 700)
            await trio.sleep(2 * LOOK_AGAIN)
            await alice.onchain.account.take_on_claim(TOKEN, ELSEWHERE)
            await world.crash("alice")
            alice = await world.start("alice")
            assert await world.until(lambda: not alice.onchain.sender.obligations(), 900)
            assert await alice.owed() == {} and await world.chain.balance(ELSEWHERE, TOKEN) == 700

    simulate(main, 1)
