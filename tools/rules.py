"""What may happen to a channel when, as docs/protocol.md prints it: made from the table in `channels/session/rules.py`.

python tools/rules.py            prints the tables
python tools/rules.py --write    puts them into docs/protocol.md; a test compares
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tallystick.channels.protocol.core import Phase
from tallystick.channels.session.rules import RULES, Rule

PAGE = Path(__file__).resolve().parent.parent / "docs" / "protocol.md"
BEGIN, END = "<!-- made by tools/rules.py -->\n", "<!-- end -->\n"


def tables() -> str:
    """Return both tables: what a peer may send, and what else happens."""
    messages = [kind for kind in RULES if kind.__module__.endswith(".messages")]
    others = [kind for kind in RULES if kind not in messages]
    heads = ("message of the peer's | in which phases | in others", "input | in which phases | in others")
    return "\n".join(
        [f"| {heads[0]} | before both have greeted |", "| --- | --- | --- | --- |"]
        + [_row(kind.__name__, RULES[kind], messages=True) for kind in messages]
        + ["", f"| {heads[1]} |", "| --- | --- | --- |"]
        + [_row(kind.__name__, RULES[kind], messages=False) for kind in others]
        + [""]
    )


def _row(name: str, rule: Rule, *, messages: bool) -> str:
    all_of_them = set(rule.phases) == set(Phase)
    phases = "all" if all_of_them else ", ".join(phase.name for phase in rule.phases)
    cells = [f"`{name}`", phases, "" if all_of_them else rule.otherwise.value]
    if messages:
        cells.append("as then" if rule.unlinked is None else rule.unlinked.value)
    return f"| {' | '.join(cells)} |"


def written(page: str) -> str:
    """Return the page with the tables as they are now."""
    return re.sub(f"{BEGIN}.*?{END}", lambda found: f"{BEGIN}\n{tables()}\n{END}", page, flags=re.DOTALL)


def main() -> None:
    """Print the tables, or write them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--write", action="store_true")
    if arguments.parse_args().write:
        PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    else:
        print(tables())


if __name__ == "__main__":
    main()
