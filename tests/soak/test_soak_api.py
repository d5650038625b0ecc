"""The control API of a real node, asked for very much: every bound of every field, and what chance brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.api_fuzz import fuzz

pytestmark = pytest.mark.soak


async def test_a_node_answers_all_that_its_document_offers_as_it_says(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed, examples = request.config.getoption("--seed"), request.config.getoption("--bound")
    asked = await fuzz(tmp_path, seed=seed, examples=examples, phases="examples,coverage,fuzzing")
    assert not asked.has_failed, asked.said
