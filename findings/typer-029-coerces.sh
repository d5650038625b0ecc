#!/usr/bin/env bash
# typer 0.29 reads options with pydantic. What does an option that is declared as `int` or as `datetime` take now?
#
# Guess: what it took in 0.28, when click's types read it: whole numbers; dates in three formats without a time zone.
# What happens (0.29.2): `int` takes "5.0" as 5, and "9007199254740993.0" exactly; it no longer takes digits of other scripts.
# `datetime` takes seconds since 1970 ("1700000000", "1.5") and time zones; what has one is an aware datetime, what has none a
# naive one, so two values of one option may not be comparable. No signature or call changes, and no warning is given:
# an amount "5.0" that was a usage error is now 5 of the smallest units.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/program.py" <<'PROGRAM'
import sys
from datetime import datetime

import typer
from typer.testing import CliRunner

app = typer.Typer()


@app.command()
def show(amount: int = 0, at: datetime = datetime(2026, 1, 1)) -> None:
    print(f"{amount} {at.isoformat()} {'aware' if at.tzinfo else 'naive'}")


def attempt(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    return done.output.strip() if done.exit_code == 0 else f"exit {done.exit_code}"


print("typer", typer.__version__)
CASES = [
    ("--amount", "5.0"),
    ("--amount", "9007199254740993.0"),
    ("--amount", "1e3"),
    ("--amount", "1_000"),
    ("--at", "1700000000"),
    ("--at", "2026-12-01T10:00:00Z"),
    ("--at", "2026-12-01T10:00:00"),
]
seen = [attempt(*case) for case in CASES]
for case, result in zip(CASES, seen, strict=True):
    print(f"{' '.join(case):32} {result}")
day, refused = "2026-01-01T00:00:00 naive", "exit 2"
naive = "0 2026-12-01T10:00:00 naive"
EXPECTED = {
    "before": [refused, refused, refused, f"1000 {day}", refused, refused, naive],
    "after": [
        *(f"5 {day}", f"9007199254740993 {day}", refused, f"1000 {day}"),
        *("0 2023-11-14T22:13:20+00:00 aware", "0 2026-12-01T10:00:00+00:00 aware", naive),
    ],
}
raise SystemExit(0 if seen == EXPECTED[sys.argv[1]] else "it behaves otherwise now")
PROGRAM
for each in 0.28.0:before 0.29.2:after; do
    "${PYTHON:-python3}" -m venv --clear "$folder/env"
    "$folder/env/bin/pip" install --quiet "typer==${each%:*}"
    "$folder/env/bin/python" "$folder/program.py" "${each#*:}"
done
