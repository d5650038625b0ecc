"""Mutants of the replicated ledger: its state root, its application, its stakes. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

MUTANTS = (
    Mutant(
        "leave entries that are gone in the state root",
        "settlement/simulated/roots.py",
        "                bucket.pop(hashed, None)",
        "                pass",
        ("test_simulated_roots.py",),
    ),
    Mutant(
        "let looking ahead change the state root",
        "settlement/simulated/roots.py",
        "touched[number] = dict(self._buckets[number])",
        "touched[number] = self._buckets[number]",
        ("test_simulated_roots.py",),
    ),
    Mutant(
        "take a proof whose entries are cut elsewhere",
        "settlement/simulated/roots.py",
        "any(len(entry) != 64 for entry in proof.bucket)",
        "not all(proof.bucket)",
        ("test_simulated_roots.py",),
    ),
)
