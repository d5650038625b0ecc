"""Small payment networks in random storms, a few of them; and that what a storm excuses is that loss and no other."""

from __future__ import annotations

import msgspec
import pytest

from simulation.journeys import AMOUNT, LINE, LOCK_SECONDS, Journey, configuration
from simulation.solvency import check_payments, losses
from simulation.storm import run_storm
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import CLAIM_ALL, open_world


@pytest.mark.parametrize("seed", [4])
def test_whatever_happens_every_payment_ends_paid_or_refunded(seed: int) -> None:
    report = run_storm(seed)
    assert report.paid > 5 and report.forwarded and report.unpaid


@pytest.mark.parametrize("seed", [9, 10, 15, 27, 30])
def test_neither_lies_of_chain_nodes_nor_strangers_nor_wrong_clocks_cost_anybody_anything(seed: int) -> None:
    report = run_storm(seed, small=True)
    assert sum(report.lies.values()) > 20 and (report.strangers or report.counts["clock"])


def test_one_seed_gives_one_storm() -> None:
    assert run_storm(25, small=True).trace == run_storm(25, small=True).trace


def test_who_claims_and_stays_away_past_the_expiry_has_the_only_loss_that_can_be_excused() -> None:
    async def main() -> None:
        config = msgspec.structs.replace(configuration(), duties=CLAIM_ALL)
        async with open_world(1, config=config, interval=20.0, names=LINE) as world:
            journey = Journey(world)
            await journey.build()
            invoice = await journey.held()
            dave = journey.node("dave")
            world.network.partition(world.seats["dave"].key.public)
            await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)
            claimed_at = world.chain.newest.header.time
            await world.crash("dave")
            await world.until(lambda: False, LOCK_SECONDS + 100)
            world.network.heal()
            await world.start("dave")
            await world.until(journey.at_rest, 1_000)
            (loss,) = losses(world)
            assert (loss.name, loss.lock.amount, loss.lock.condition) == ("dave", AMOUNT, invoice.payment_hash)
            assert loss.since <= claimed_at < loss.lock.expiry
            with pytest.raises(Violation, match="is said to be unpaid"):
                check_payments(world)
            check_payments(world, excused=[loss])

    simulate(main, 1)


def test_whoever_was_away_past_the_expiry_of_what_it_claimed_blames_no_peer_for_it() -> None:
    async def main() -> None:
        config = msgspec.structs.replace(configuration(), duties=CLAIM_ALL)
        async with open_world(1, config=config, interval=20.0, names=LINE) as world:
            journey = Journey(world)
            await journey.build()
            invoice = await journey.held()
            carol, dave = journey.node("carol"), journey.node("dave")
            bob = world.seats["bob"].key.public
            world.network.partition(world.seats["carol"].key.public, bob)
            await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)
            (channel,) = world.channels_between("carol", "bob")
            assert await world.until(lambda: bool(carol.channel(channel).view.channel.secrets), 60)
            await world.crash("carol")
            await world.until(lambda: False, LOCK_SECONDS + 100)
            world.network.heal()
            carol = await world.start("carol")
            await world.until(journey.at_rest, 1_000)
            assert [loss.name for loss in losses(world)] == ["carol"]
            assert not [alarm for alarm in carol.alarms if "did not pay" in alarm.text]
            await journey.insist(await journey.invoice())

    simulate(main, 1)
