"""docs/watchtower.md: each test that it names is there, and the threats that it lists each have one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = " ".join((ROOT / "docs" / "watchtower.md").read_text("utf-8").splitlines())
NAMED = re.compile(r"`(test_\w+\.py)`: ((?:`test_\w+`(?:, +)?)+)")


def named(text: str) -> list[tuple[str, str]]:
    """Return (file, test) of each test that a text names."""
    return [(file, test) for file, tests in NAMED.findall(text) for test in re.findall(r"`(test_\w+)`", tests)]


def missing(text: str) -> list[tuple[str, str]]:
    """Return what of that is not there."""
    sources = {file: (ROOT / "tests" / file).read_text("utf-8") for file, _ in named(text)}
    return [(file, test) for file, test in named(text) if not re.search(rf"def {test}\(", sources[file])]


def test_every_test_that_the_page_names_exists() -> None:
    assert len(named(TEXT)) > 20
    assert missing(TEXT) == []
    assert missing("`test_docs_watchtower.py`: `test_nothing_of_the_kind`") != []


def test_every_threat_has_a_test() -> None:
    page = (ROOT / "docs" / "watchtower.md").read_text("utf-8")
    table = page.partition("## Threats\n")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("| who", "| ---"))]
    assert len(rows) > 15
    assert [row for row in rows if not named(row)] == []
