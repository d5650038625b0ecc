"""CometBFT as a process beside its application: where the program is, starting it, ending it.

`tools/cometbft.py` builds it, where Go is; TALLY_COMETBFT may name it; else it is looked for in this user's cache and
on the PATH. It ends by itself when its application does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import trio

from tallystick.settlement.errors import ChainUnavailable

VARIABLE = "TALLY_COMETBFT"
"""Environment variable that may name the program."""

VERSION = "0.38.26"
"""The version of CometBFT that this was written for: the line of 0.38, which is kept up, and which speaks ABCI 2.0."""

STOP_SECONDS = 5.0
"""How long the engine may take to end by itself."""


def cache_folder() -> Path:
    """Return where `tools/cometbft.py` puts the program."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tallystick" / f"cometbft-v{VERSION}"


def find_cometbft() -> str | None:
    """Return where the program is; None: it is nowhere, or it is another version where nobody named it."""
    named = os.environ.get(VARIABLE)
    if named:
        return named if os.access(named, os.X_OK) else None
    cached = cache_folder() / "cometbft"
    if os.access(cached, os.X_OK):
        return str(cached)
    found = shutil.which("cometbft")
    if found is None:
        return None
    said = subprocess.run((found, "version"), capture_output=True, text=True, check=False).stdout
    return found if said.strip().removeprefix("v").startswith(VERSION) else None


async def run_engine(program: str, home: Path, application: Path, rpc: Path) -> None:
    """Run the engine on a home until cancelled; raise ChainUnavailable if it ends before, as it must not.

    `application` and `rpc` are Unix sockets: where it finds its application, and where it listens to it.
    """
    command = (
        *(program, "start", "--home", str(home)),
        *("--proxy_app", f"unix://{application}", "--rpc.laddr", f"unix://{rpc}"),
    )
    log = home / "engine.log"
    with log.open("ab") as output:
        process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        await process.wait()
    finally:
        await _end(process)
    tail = log.read_text("utf-8", "replace")[-300:].strip()
    raise ChainUnavailable(f"the validator's engine ended ({process.returncode}); the end of {log}: {tail}")


async def _end(process: trio.Process) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    with trio.CancelScope(shield=True):
        with trio.move_on_after(STOP_SECONDS):
            await process.wait()
        if process.poll() is None:
            process.kill()
            await process.wait()
