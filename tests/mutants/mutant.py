"""What a mutant is: one known failure, as a small change of text, and the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

FORWARDING = (
    "test_forwarding_line.py",
    "test_forwarding_refusals.py",
    "test_forwarding_waits.py",
    "test_session_locks.py",
)
CHAIN = (
    "test_chain_freshness.py",
    "test_chain_vigil.py",
    "test_chain_checked.py",
    "test_follower_lies.py",
    "test_chain_stale.py",
)
SIMULATIONS = ("test_simulation_campaigns.py", "test_simulation_regressions.py")


@dataclass(frozen=True)
class Mutant:
    """One failure: in which file, what text becomes what, and which tests must notice."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
