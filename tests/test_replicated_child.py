"""A child that is bound to its parent: it ends with it, and not before it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.replicated.child import open_child
from tallystick.settlement.replicated.engine import run_engine

pytestmark = pytest.mark.processes

FOREVER = (sys.executable, "-I", "-S", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(1e6)")

PARENT = f"""
import sys, trio
from tallystick.settlement.replicated.child import open_child

async def main():
    async with open_child({FOREVER!r}, sys.stdout.buffer):
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has ended")
@pytest.mark.parametrize("stopped", [False, True])
async def test_a_child_ends_when_its_parent_is_killed_even_if_it_is_stopped(stopped: bool) -> None:
    parent = await trio.lowlevel.open_process(
        [sys.executable, "-c", PARENT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    with trio.fail_after(60):
        line = b""
        while not line.endswith(b"\n"):
            line += await parent.stdout.receive_some()
        child = int(line)
        ended = os.pidfd_open(child)
        if stopped:
            os.kill(child, signal.SIGSTOP)
        parent.kill()
        await parent.wait()
        await trio.lowlevel.wait_readable(ended)
    os.close(ended)
    await parent.stdout.aclose()


async def test_a_child_lives_as_long_as_it_is_wanted_and_is_stopped_then(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as output, trio.fail_after(60):
        async with open_child(FOREVER, output) as child:
            with trio.move_on_after(0):
                await child.wait()
            assert child.returncode is None and str(child.pid) in repr(child)
        assert child.returncode == -signal.SIGTERM
        async with open_child((sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"), output) as brief:
            assert await brief.wait() == 3 == await brief.wait()


async def test_an_engine_that_ends_by_itself_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    program = tmp_path / "engine"
    program.write_text("#!/bin/sh\necho the home $3 is not mine\nexit 7\n")
    program.chmod(0o700)
    with pytest.raises(ChainUnavailable, match=r"\(7\)") as told, trio.fail_after(60):
        await run_engine(str(program), tmp_path, tmp_path / "app", tmp_path / "rpc")
    assert f"the home {tmp_path} is not mine" in str(told.value)
