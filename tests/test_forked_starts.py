"""Processes of tests are forked from one that has imported the package: each is as one that was started plainly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from simulation.forked_starts import _plain, forked_starts, is_possible
from simulation.processes import INSTALLED, TALLY

pytestmark = pytest.mark.processes

PROGRAM = """
import json, os, signal, sys
facts = {
    "id": os.getpid(), "parent": os.getppid(), "session": os.getsid(0) == os.getpid(), "folder": os.getcwd(),
    "environment": dict(os.environ), "words": sys.argv, "command": sys.orig_argv[1:], "name": __name__,
    "isolated": sys.flags.isolated, "input": sys.stdin.read(), "open": len(os.listdir("/proc/self/fd")),
    "streams": [(s.fileno(), s.encoding, s.errors, s.line_buffering) for s in (sys.stdin, sys.stdout, sys.stderr)],
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "signals": [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals() - {signal.SIGINT})],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "threads": len(os.listdir("/proc/self/task")),
}
print(json.dumps(facts))
print("an error", file=sys.stderr)
sys.exit(7)
"""

needs_it = pytest.mark.skipif(not is_possible(), reason="nothing is forked here")


def plainly() -> AbstractContextManager[None]:
    """Start everything as ever."""
    patch = pytest.MonkeyPatch()
    patch.setattr(subprocess, "_fork_exec", _plain)

    class Undone(nullcontext[None]):
        def __exit__(self, *_: object) -> None:
            patch.undo()

    return Undone()


@needs_it
@pytest.mark.parametrize("session", [False, True])
def test_a_forked_process_finds_what_a_plain_one_finds(tmp_path: Path, session: bool) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, "utf-8")
    found = []
    for way in (nullcontext(), plainly()):
        with way:
            process = subprocess.Popen(
                [sys.executable, "-I", str(program), "a", "b c"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={"A": "1=2", "PYTHONHASHSEED": "1"},
                start_new_session=session,
            )
        output, errors = process.communicate("some input")
        facts = json.loads(output)
        assert facts.pop("id") == process.pid
        found.append((facts, errors, process.returncode))
    assert found[0] == found[1]
    assert found[0][0]["parent"] == os.getpid()
    assert found[0][0]["session"] is session
    assert found[0][1:] == ("an error\n", 7)


@needs_it
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_forked_process_as_it_ends_a_plain_one(tmp_path: Path, number: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text("import signal\nprint('up', flush=True)\nsignal.pause()\n", "utf-8")
    ends = []
    for way in (nullcontext(), plainly()):
        with way:
            process = subprocess.Popen(
                [sys.executable, "-I", str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        _, errors = process.communicate()
        ends.append((process.returncode, errors.splitlines()[-1:]))
    assert ends[0] == ends[1]
    assert ends[0][0] == -number


@needs_it
def test_what_is_not_forked_starts_plainly_and_the_server_ends_with_its_block() -> None:
    with forked_starts() as server:
        assert subprocess.run([sys.executable, "-Ic", "raise SystemExit(3)"], check=False).returncode == 3
        assert subprocess.run(INSTALLED, capture_output=True, check=False).returncode != 0
        assert server.process is None  # it starts with what it is for
        told = subprocess.check_output([*TALLY, "--version"])
        assert server.process is not None
        assert told == subprocess.check_output([*INSTALLED, "--version"])
        left = server.process
    assert left.returncode == 0
