"""Another revision of Tallystick, built beside this one, so that both can be measured on this machine in turn.

The revision comes out of the git repository as it was committed, with what its own locks pin, on this very Python.
Nothing of the repository is touched: no branch is switched, no work tree is added.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CalledProcessError, CompletedProcess

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.sdk.errors import MeasurementVoid

LOCKS = ("requirements-build.lock", "requirements.lock")
"""What a revision needs to be installed and to run; early ones had but one, with everything in it.

A lock names all that it needs, so pip is told to look for no more (`--no-deps`): by the early ones it would find what
they do not pin.
"""

TAIL = 600
"""Characters of what a failed command said last that are repeated."""


async def resolve(repository: Path, revision: str) -> str:
    """Return the commit that `revision` names in that git repository; raise InvalidInput if it names none."""
    try:
        found = await ran(["git", "-C", str(repository), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"])
    except MeasurementVoid as error:
        raise InvalidInput(
            f"{revision!r} is no commit of a git repository at {repository}: run this in a checkout of Tallystick, "
            "or name one by --repository"
        ) from error
    return found.strip()


async def build(repository: Path, commit: str, folder: Path, say: Callable[[str], None]) -> Path:
    """Build a commit in `folder`, which is made, or was by an earlier call; return its `tally`.

    Raise MeasurementVoid if it cannot be built.
    """
    tally = folder / ".venv" / "bin" / "tally"
    if tally.exists():
        say(f"{commit[:12]} was built before, in {folder}")
        return tally
    say(f"building {commit[:12]} in {folder}: half a minute, and longer if its wheels must be fetched")
    await trio.Path(folder).mkdir(parents=True, exist_ok=True)
    archive = trio.Path(folder / "source.tar")
    await ran(["git", "-C", str(repository), "archive", "--output", str(archive), commit])
    await ran(["tar", "--extract", "--file", str(archive), "--directory", str(folder)])
    await archive.unlink()
    pip = str(tally.with_name("pip"))
    await ran([sys.executable, "-m", "venv", str(folder / ".venv")])
    for lock in filter(Path.exists, (folder / name for name in LOCKS)):
        await ran([pip, "install", "--quiet", "--require-hashes", "--no-deps", "--requirement", str(lock)])
    await ran([pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(folder)])
    return tally


async def ran(command: Sequence[str]) -> str:
    """Run a command and return what it printed; raise MeasurementVoid with its last words if it fails."""
    try:
        done: CompletedProcess[bytes] = await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    except CalledProcessError as error:
        words = (error.stderr or error.output).decode(errors="replace").strip()[-TAIL:]
        raise MeasurementVoid(f"{' '.join(command)} failed with {error.returncode}: {words}") from error
    return done.stdout.decode()
