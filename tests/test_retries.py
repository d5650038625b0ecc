"""Trying again: how long the pauses are, what ends them, and that they can be cancelled; in virtual time."""

from __future__ import annotations

from random import Random

import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.dialer import REDIAL
from tallystick.channels.testing.scheduling import simulate
from tallystick.channels.transport.retries import Pauses, Retry
from tallystick.router.gossip.service import LOOK_UP_AGAIN
from tallystick.settlement.enforcement.following import FIRST_ANSWER, PRICE_AGAIN
from tallystick.settlement.ethereum.rpc_client import REQUEST_AGAIN
from tallystick.settlement.following.follower import FOLLOW_AGAIN, POLL
from tallystick.settlement.following.freshness import BOUND
from tallystick.settlement.sending.sender import CHAIN_AGAIN
from tallystick.watchtower.tower import DISK_AGAIN

USED = (REDIAL, LOOK_UP_AGAIN, FIRST_ANSWER, PRICE_AGAIN, REQUEST_AGAIN, FOLLOW_AGAIN, POLL, CHAIN_AGAIN, DISK_AGAIN)
PAUSES = Pauses("a test", 0.5, 8.0)


class Fault(Exception):
    pass


class Other(Exception):
    pass


class Flaky:
    """Fails the first `failures` times, and notes when it was tried."""

    def __init__(self, failures: int, error: type[Exception] = Fault) -> None:
        self.left = failures
        self.error = error
        self.at: list[float] = []

    async def __call__(self) -> str:
        self.at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.left:
            self.left -= 1
            raise self.error(f"{self.left} to go")
        return "done"

    @property
    def pauses(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.at, self.at[1:], strict=False)]


def longest() -> float:
    return 1 - 2**-53


@pytest.mark.parametrize("pauses", [PAUSES, *USED], ids=lambda pauses: pauses.name)
def test_pauses_double_to_their_bound_and_a_random_half_to_whole_is_taken(pauses: Pauses) -> None:
    rng = Random(5)
    for failures in (*range(12), 63, 64, 65, 5_000):
        whole = min(pauses.most, pauses.first * 2 ** min(failures, 60))
        waits = [pauses.after(failures, rng.random) for _ in range(200)]
        assert all(whole / 2 <= wait <= whole for wait in waits)
        assert min(waits) < 0.6 * whole and max(waits) > 0.9 * whole, "nodes that lost the same do not return together"
    assert pauses.after(3, Random(5).random) == pauses.after(3, Random(5).random)


def test_names_tell_what_is_tried_apart_and_followers_try_again_before_their_view_is_old() -> None:
    assert all(pauses.name for pauses in USED) and len({pauses.name for pauses in USED}) == len(USED)
    assert FOLLOW_AGAIN.most < BOUND
    assert repr(Retry(PAUSES, longest)) == "<Retry of a test after 0 failures>"


@pytest.mark.parametrize(("first", "most", "tries"), [(0, 1, None), (2, 1, None), (-1, 1, None), (1, 2, 0)])
def test_pauses_that_cannot_be_are_refused(first: float, most: float, tries: int | None) -> None:
    with pytest.raises(InvalidInput):
        Pauses("nonsense", first, most, tries)


def test_it_is_tried_until_it_succeeds_after_pauses_that_grow() -> None:
    async def main() -> None:
        act, told = Flaky(7), []
        retry = Retry(PAUSES, lambda: 0.0)
        assert (
            await retry.until_done(act, Fault, on_fault=lambda error: told.append((str(error), retry.failures)))
            == "done"
        )
        assert act.pauses == pytest.approx([0.25, 0.5, 1, 2, 4, 4, 4])
        assert told == [(f"{6 - n} to go", n) for n in range(7)] and retry.failures == 0
        again = Flaky(1)
        await retry.until_done(again, Fault)
        assert again.pauses == pytest.approx([0.25]), "what has succeeded begins with the shortest pause"

    simulate(main, 1)


def test_it_is_given_up_after_as_many_tries_as_were_said() -> None:
    async def main() -> None:
        act = Flaky(9)
        with pytest.raises(Fault, match="6 to go"):
            await Retry(Pauses("a test", 0.5, 8.0, tries=3), longest).until_done(act, Fault)
        assert len(act.at) == 3 and act.pauses == pytest.approx([0.5, 1.0])

    simulate(main, 1)


def test_another_error_ends_it_at_once_and_so_does_what_is_raised_over_a_fault() -> None:
    async def main() -> None:
        act = Flaky(3, Other)
        with pytest.raises(Other):
            await Retry(PAUSES, longest).until_done(act, Fault)

        def refuse(error: Exception) -> None:
            raise Other from error

        twice = Flaky(3)
        with pytest.raises(Other):
            await Retry(PAUSES, longest).until_done(twice, Fault, on_fault=refuse)
        assert len(act.at) == len(twice.at) == 1

    simulate(main, 1)


def test_it_can_be_cancelled_in_a_pause_and_in_the_act() -> None:
    async def main() -> None:
        act = Flaky(1_000)
        with trio.move_on_after(1.0) as scope:
            await Retry(PAUSES, longest).until_done(act, Fault)
        assert scope.cancelled_caught and trio.current_time() == pytest.approx(act.at[0] + 1.0) and len(act.at) == 2

        async def hang() -> None:
            await trio.sleep_forever()

        with trio.move_on_after(1.0) as scope:
            await Retry(PAUSES, longest).until_done(hang, Fault)
        assert scope.cancelled_caught

    simulate(main, 1)


def test_a_loop_of_ones_own_counts_with_it() -> None:
    async def main() -> None:
        retry, began = Retry(PAUSES, longest), trio.current_time()
        for _ in range(3):
            await retry.pause()
        assert trio.current_time() - began == pytest.approx(0.5 + 1 + 2) and retry.failures == 3
        retry.on_success()
        began = trio.current_time()
        await retry.pause()
        assert trio.current_time() - began == pytest.approx(0.5)

    simulate(main, 1)
