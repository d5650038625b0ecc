"""Which event loop this is: everything here runs on trio, and says so where a program of asyncio comes in."""

from __future__ import annotations

import trio

from tallystick.channels.errors import InvalidInput


def require_trio(what: str) -> None:
    """Raise InvalidInput unless this is called from a task of trio; `what` is what the caller wanted."""
    if not trio.lowlevel.in_trio_run():
        raise InvalidInput(
            f"{what} runs on trio, and this is no task of trio: call it below trio.run(main). From a program on "
            "asyncio, run the node beside it (`tally node run`) and use tallystick.connect_control"
        )
