"""A rollup whose times or fee make no sense takes nobody's coins unless that is accepted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from trio.testing import MockClock

from simulation.rollup_world import OPERATOR, STRANGER, WATCHER, RollupWorld, open_world
from tallystick.channels.errors import InvalidInput
from tallystick.sdk.rollup.calls import _FORMS, MODULE, RollupPlace
from tallystick.sdk.rollup.terms import DAY, HOUR, check_terms, odd_terms
from tallystick.sdk.rollup.user import RollupUser
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.module_calls import write_call

USUAL = (10**18, 3 * DAY, DAY, 4 * HOUR, 10**15)
"""What `tally rollup create` takes unless told otherwise."""


def test_the_usual_terms_make_sense_and_each_bound_is_one() -> None:
    assert odd_terms(*USUAL) == []
    assert odd_terms(10, HOUR, 600, 300, 1) == odd_terms(10, 30 * DAY, 7 * DAY, 7 * DAY, 1) == []
    for at, least, most in ((1, HOUR, 30 * DAY), (2, 600, 7 * DAY), (3, 300, 7 * DAY)):
        for seconds, words in ((least - 1, "too short"), (most + 1, "held up")):
            (found,) = odd_terms(*[seconds if place == at else number for place, number in enumerate(USUAL)])
            assert words in found
    (found,) = odd_terms(10, HOUR, 600, 300, 2)
    assert "nobody can afford to ask" in found
    with pytest.raises(InvalidInput, match="--accept-terms"):
        check_terms(10, 2**63, 600, 300, 1)
    check_terms(10, 2**63, 600, 300, 1, accept=True)


async def odd(world: RollupWorld) -> None:
    """Let the world's users look at a rollup that nobody can leave; somebody made it without our programs."""
    call = write_call(MODULE.name, "createRollup", [world.rollup.chain_id, 1, 2**62, 600, 300, 0])
    await world.rollup._mined(await world.rollup._send(STRANGER, Envelope(call.module, 0, call.data)))
    world.rollup.at = RollupPlace(1)


async def test_nobody_makes_a_rollup_or_deposits_into_one_that_nobody_can_leave(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        with pytest.raises(InvalidInput, match="coins may be held up for so long"):
            await world.rollup.create(OPERATOR, (1, 2**62, 600, 300, 0))
        await odd(world)
        place = await world.rollup.rules_of()
        with pytest.raises(InvalidInput, match="coins may be held up for so long"):
            await RollupUser(world.rollup, place, WATCHER).deposit(5)
        assert (await world.rollup.account(WATCHER.address))[0] is None
        await RollupUser(world.rollup, place, WATCHER, accept_terms=True).deposit(5)
        assert (await world.rollup.account(WATCHER.address))[0] == 0
        assert json.dumps(odd_terms(*(await world.rollup.facts()).terms)).count("held up") == 1


def test_the_page_names_what_calls_each_function_of_a_rollup() -> None:
    page = (Path(__file__).parent.parent / "docs" / "rollup.md").read_text("utf-8")
    (table,) = re.findall(r"^\| functions \|.*?\n\n", page, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.split("\n") if row)))
    assert named == _FORMS.keys() == MODULE.functions.keys() - {"createRollup", "rollup", "accountOf"}
