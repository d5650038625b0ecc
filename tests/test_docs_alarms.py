"""docs/operations.md tells of every kind of alarm what it means and what to do."""

from __future__ import annotations

import re
from pathlib import Path

from tallystick.channels.node.alarms import AlarmKind

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"


def test_every_kind_of_alarm_has_its_row_and_no_row_is_of_a_kind_that_does_not_exist() -> None:
    section = PAGE.read_text("utf-8").partition("\n## Alarms\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| (.+?) \|$", section, flags=re.MULTILINE)
    assert sorted(kind for kind, _, _ in rows) == sorted(AlarmKind)
    assert all(len(meaning) > 10 and len(remedy) > 3 for _, meaning, remedy in rows)
