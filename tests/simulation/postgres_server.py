"""A PostgreSQL server of a test's own: made in a folder, reached by a socket in it, and gone at the end.

PostgreSQL refuses to run as root: who is root runs it as `nobody`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = "nobody"
PATIENCE = "60"
"""Seconds that its start and its end may take."""

MISSING = (
    "no PostgreSQL server is here: install one (Debian: apt install postgresql), or name its programs' folder in PATH"
)


def programs() -> Path | None:
    """Return the folder of the newest server's programs, None if there is none."""
    found = shutil.which("initdb")
    if found is not None and (Path(found).resolve().parent / "pg_ctl").exists():
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: int(each.parts[-3]))
    return folders[-1].parent if folders else None


class PostgresServer:
    """A server. Make it with `run_postgres`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"host={folder} user=tally dbname=postgres"

    def start(self, **settings: str) -> None:
        """Start it with these settings; return when it answers."""
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._control("start", "-l", str(self._folder / "log"), "-o", f"-k {self._folder} -h '' {options}")

    def stop(self, how: str = "immediate") -> None:
        """End it: at once, as a crash does, or "fast", which rolls back what is under way, or "smart"."""
        self._control("stop", "-m", how)

    def _control(self, *arguments: str) -> None:
        self.call("pg_ctl", "-D", str(self._folder / "data"), "-w", "-t", PATIENCE, *arguments)

    def call(self, program: str, *arguments: str) -> None:
        """Run one of its programs."""
        place = programs()
        assert place is not None, MISSING
        other = ("setpriv", f"--reuid={NOBODY}", "--clear-groups") if os.geteuid() == 0 else ()
        done = subprocess.run(
            [*other, place / program, *arguments],
            cwd=self._folder,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}")


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Run a new server inside the block."""
    folder = Path(tempfile.mkdtemp(prefix="tally-pg-"))  # short: it holds a socket
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, NOBODY)
        server = PostgresServer(folder)
        server.call(
            "initdb",
            "-D",
            str(folder / "data"),
            "-U",
            "tally",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--data-checksums",
            "--no-sync",
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
