"""Starts of `tally` and of examples without their imports: they are forked from a process that has made them.

While it is installed, `subprocess` has such commands started by `simulation.fork_server`: each is a process of its own
and a child of this one, with its own id, descriptors, environment, folder, session and end; only its imports, its hash
seed and its command line in /proc are the server's. All other commands start as ever: the installed script, `-c`, other
flags, and all of them where `TALLY_PLAIN_STARTS` is set or the system is not Linux.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

COMMANDS = (("-Im", "tallystick.sdk.cli"), ("-I", ".py"))
"""The flags, and how the program's name ends, of what is forked."""

PLAIN = "TALLY_PLAIN_STARTS"
"""The environment variable that turns this off."""

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of <linux/prctl.h>

_plain = getattr(subprocess, "_fork_exec", None)
"""What `Popen` of Python 3.11 and later starts everything with."""


class ForkServer:
    """The process that is forked, started by the first start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # trio starts processes in threads
        self._asked: socket.socket | None = None
        self.process: subprocess.Popen[bytes] | None = None
        """The server, once it was needed."""
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl

    def start(self, request: dict[str, Any], descriptors: list[int]) -> int:
        """Start a process; return its id."""
        data = json.dumps(request).encode()
        with self._lock:
            asked = self._asked = self._asked or self._open()
            # What has lost its parent becomes a child of this process, for as long as the server forks.
            self._prctl(_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(asked, [len(data).to_bytes(4, "big")], descriptors)
                asked.sendall(data)
                child = asked.recv(4, socket.MSG_WAITALL)
            finally:
                self._prctl(_SUBREAPER, 0, 0, 0, 0)
        if len(child) < 4:
            raise OSError("the fork server ended: look above for why")
        return int.from_bytes(child, "big")

    def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-I", str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        return ours

    def close(self) -> None:
        """End it."""
        if self._asked is not None and self.process is not None:
            self._asked.close()
            self.process.wait()
            self._asked = self.process = None


def _is_forked(arguments: tuple[Any, ...]) -> bool:
    """Whether `arguments`, of `_fork_exec`, ask for nothing that the server cannot give."""
    command, programs, closes, kept = arguments[:4]
    words = [os.fsdecode(word) for word in command[:3]]
    return (
        len(words) == 3
        and any(words[1] == flags and words[2].endswith(end) for flags, end in COMMANDS)
        and programs == (os.fsencode(sys.executable),)
        and bool(closes)
        and len(kept) == 1  # of `Popen` itself
        and arguments[4] is None
        and bool(arguments[14])
        and arguments[17:22] == (None, None, None, -1, None)
    )


def _start(server: ForkServer, *arguments: Any) -> int:
    """Stand in for `_fork_exec`: the command's words, its descriptors, what it begins as; return its process id."""
    if not _is_forked(arguments):
        assert _plain is not None
        return int(_plain(*arguments))
    variables = [os.fsdecode(pair).partition("=") for pair in arguments[5] or ()]
    request = {
        "command": [os.fsdecode(word) for word in arguments[0]],
        "environment": dict(os.environ) if arguments[5] is None else {name: value for name, _, value in variables},
        "folder": str(Path.cwd()),
        "session": bool(arguments[15]),
        "group": arguments[16],
    }
    given = (arguments[6], arguments[9], arguments[11])
    return server.start(request, [number if told < 0 else told for number, told in enumerate(given)])


def is_possible() -> bool:
    """Whether anything is forked at all."""
    return sys.platform == "linux" and _plain is not None and not os.environ.get(PLAIN)


@contextmanager
def forked_starts() -> Iterator[ForkServer]:
    """Have `subprocess` fork what it can, until the end of the block; then the server has ended."""
    server = ForkServer()
    before = subprocess._fork_exec  # type: ignore[attr-defined]
    subprocess._fork_exec = partial(_start, server)  # type: ignore[attr-defined]
    try:
        yield server
    finally:
        subprocess._fork_exec = before  # type: ignore[attr-defined]
        server.close()
