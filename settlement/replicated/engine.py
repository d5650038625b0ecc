"""CometBFT as a process beside its application (`go_programs` says where it is): starting it, ending it.

It ends by itself when its application does, if it has found it by then; and it is a child that ends with its parent.
"""

from __future__ import annotations

from pathlib import Path

import trio

from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.replicated.child import open_child


async def run_engine(program: str, home: Path, application: Path, rpc: Path) -> None:
    """Run the engine on a home until cancelled; raise ChainUnavailable if it ends before, as it must not.

    `application` and `rpc` are Unix sockets: where it finds its application, and where it listens to it.
    """
    command = (
        *(program, "start", "--home", str(home)),
        *("--proxy_app", f"unix://{application}", "--rpc.laddr", f"unix://{rpc}"),
    )
    await trio.Path(rpc).unlink(missing_ok=True)  # of an engine before, which was killed
    log = home / "engine.log"
    with log.open("ab") as output:
        async with open_child(command, output) as engine:
            code = await engine.wait()
    tail = log.read_text("utf-8", "replace")[-300:].strip()
    raise ChainUnavailable(f"the validator's engine ended ({code}); the end of {log}: {tail}")
