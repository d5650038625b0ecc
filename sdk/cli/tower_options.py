"""What the commands of `tally tower` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from tallystick.sdk.cli.shell import make_group

app = make_group("Run a watchtower, or ask one.")

TowerData = Annotated[Path, Option("--data", envvar="TALLY_TOWER", help="The tower's data directory.")]
