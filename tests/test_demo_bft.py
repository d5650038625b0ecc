"""`make demo-bft`: what it says without the engine, and (in `make soak`) that its story ends well on four of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.settlement.go_programs import COMETBFT

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo"


def play(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO), *options],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=700,
        check=False,
    )


@pytest.mark.processes
def test_without_the_engine_it_is_skipped_with_a_word(tmp_path: Path) -> None:
    done = play("--bft", TALLY_COMETBFT=str(tmp_path / "cometbft"))
    assert done.returncode == 0 and done.stdout.startswith("skipped:")
    assert "tools/go_programs.py cometbft" in done.stdout
    assert play("--bft", "--evm").returncode == 2


@pytest.mark.soak
@pytest.mark.processes
@pytest.mark.skipif(COMETBFT.find() is None, reason=COMETBFT.missing)
def test_the_story_ends_well_though_one_is_killed_and_one_signs_twice() -> None:
    done = play("--bft")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout and done.stdout.count("✓") >= 18
    assert "validator 3 is back, and has them all" in done.stdout
    assert "50,000,000,000,000,000 coins are slashed, 5 % of its stake, and it votes no more" in done.stdout
    assert "all four validators have the same block" in done.stdout
    assert "Everything is as it should be." in done.stdout
