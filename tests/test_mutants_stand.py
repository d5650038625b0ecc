"""Every mutant's text stands where its table says: one whose text is gone tries nothing, and nobody would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def test_the_text_of_every_mutant_is_in_its_file_exactly_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE / "mutants")
    import run  # found on the path of its own folder, as it is when it is run

    assert len(run.MUTANTS) > 170 and len({mutant.name for mutant in run.MUTANTS}) == len(run.MUTANTS)
    assert [mutant.name for mutant in run.MUTANTS if not run.stands_once(mutant)] == []
    assert [test for mutant in run.MUTANTS for test in mutant.tests if not (HERE / test).exists()] == []
