"""Programs in Go that run beside ours, of one version each: where they are looked for.

`tools/go_programs.py` builds them, where Go is, into this user's cache. A variable of the environment may name one;
else it is looked for in the cache and on the PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple


class GoProgram(NamedTuple):
    """A program as its module names it."""

    name: str
    version: str
    package: str
    """Go's path of it."""
    variable: str
    """Environment variable that may name the program, of whatever version."""

    @property
    def folder(self) -> Path:
        """Where it is built."""
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(root) / "tallystick" / f"{self.name}-v{self.version}"

    @property
    def missing(self) -> str:
        """What to tell where it is not."""
        return f"{self.name} {self.version} is not here: python tools/go_programs.py {self.name} builds it, where Go is"

    def find(self) -> str | None:
        """Return where it is; None: it is nowhere, or it is another version where nobody named it."""
        named = os.environ.get(self.variable)
        if named:
            return named if os.access(named, os.X_OK) else None
        cached = self.folder / self.name
        if os.access(cached, os.X_OK):
            return str(cached)
        found = shutil.which(self.name)
        if found is None:
            return None
        said = subprocess.run((found, "version"), capture_output=True, text=True, check=False).stdout
        return found if re.search(rf"(?<![\d.]){re.escape(self.version)}(?![\d.])", said) else None


GETH = GoProgram("geth", "1.17.10", "github.com/ethereum/go-ethereum/cmd/geth", "TALLY_GETH")
"""Ethereum's reference node, for tests."""

COMETBFT = GoProgram("cometbft", "0.38.26", "github.com/cometbft/cometbft/cmd/cometbft", "TALLY_COMETBFT")
"""The engine of a chain with several validators: of the line 0.38, which is kept up, and which speaks ABCI 2.0."""

GO_PROGRAMS = {program.name: program for program in (GETH, COMETBFT)}
