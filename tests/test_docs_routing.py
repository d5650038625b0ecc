"""docs/routing.md says what the code does: weights, limits, pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.router.onion.payload import HOPS_MAX
from tallystick.router.pathfinding import planner
from tallystick.router.pathfinding.beliefs import BIMODAL, UNIFORM
from tallystick.router.pathfinding.flow import pieces_of
from tallystick.router.pathfinding.graph import LOCK_RATE
from tallystick.router.pathfinding.liquidity import BELIEFS_MAX, FORGET_AFTER, HALF_LIFE
from tallystick.router.pathfinding.planner import Costs

PAGE = " ".join((Path(__file__).resolve().parent.parent / "docs" / "routing.md").read_text("utf-8").split())
COSTS = Costs()


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("exp(−{} · share of the capacity)", f"{BIMODAL.slope:g}"),
        ("after {} s half of what they say is left", f"{HALF_LIFE:,.0f}"),
        ("after {} half-lives they are forgotten", FORGET_AFTER),
        ("At most {} channels are remembered", f"{BELIEFS_MAX:,}"),
        ("| a hop | {} ppm |", COSTS.hop_ppm),
        ("| a further part | {} ppm |", COSTS.part_ppm),
        ("−log P, times {} ppm", COSTS.risk_ppm),
        ("a guess of the fees ({} ppm)", f"{COSTS.guess_ppm:,}"),
        ("at most {} hops", HOPS_MAX),
        ("in up to {} straight pieces", len(pieces_of(UNIFORM).ends)),
        ("that end at {} % of what is uncertain", "25, 50, 70, 85 and 95"),
    ],
)
def test_the_figures_of_the_page_are_those_of_the_code(sentence: str, value: object) -> None:
    assert sentence.format(value) in PAGE


def test_what_the_page_says_in_words_is_so() -> None:
    assert pytest.approx(0.1) == LOCK_RATE * 365 * 86400  # a tenth per year
    assert [round(100 * end) for end in pieces_of(UNIFORM).ends] == [25, 50, 70, 85, 95]
    assert planner._RISKS == (1.0, 0.1, 0.0) and planner._CRUMB == 100
