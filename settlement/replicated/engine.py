"""CometBFT as a process beside its application (`go_programs` says where it is): starting it, ending it.

It ends by itself when its application does.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import trio

from tallystick.settlement.errors import ChainUnavailable

STOP_SECONDS = 5.0
"""How long the engine may take to end by itself."""


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
