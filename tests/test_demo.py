"""`make demo`: that its story ends well, with the game in court and the swap between two chains (in `make soak`)."""

from __future__ import annotations

import pytest
from test_demo_evm import play

TOLD = (
    "the contract convicts Mallory",
    "Ann's 200 payments over three hops arrived, each once",
    "the game's id is on Fay's disk and on Gil's, and not a byte of it on Hal's",
    "Gil's clock has run out: by the rules, his stake is Fay's",
    "Max is back, and does what he had agreed to",
    "coins are conserved on the other chain, too",
    "Everything is as it should be.",
)


@pytest.mark.soak
@pytest.mark.processes
def test_the_story_ends_well() -> None:
    done = play(on="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout and done.stdout.count("✓") >= 22
    assert [told for told in TOLD if told not in done.stdout] == []
