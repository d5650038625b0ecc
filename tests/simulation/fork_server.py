"""A program that has imported the package, and forks a child for each start that it is asked for.

Run with `-I` by `simulation.forked_starts`, with the number of a socket's descriptor. It has one thread, opens nothing
and ends when the other end of the socket is closed. A request is JSON with the start's three standard descriptors; the
answer is the child's process id, four bytes. Each child is forked twice, so that its parent becomes who asked.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
from typing import Any

REQUEST_MAX = 1 << 20
"""Bytes of one request."""


def _import_all() -> None:
    """Import the top layer, and so everything that a command imports; what is not installed is left to the command."""
    import tallystick.sdk as top

    for module in pkgutil.walk_packages(top.__path__, f"{top.__name__}."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError:
                continue
    gc.collect()
    gc.freeze()


def _fork(go: tuple[int, int]) -> int:
    """Return 0 in a child whose parent in between has ended, else its process id; `go` is a pipe that holds it back."""
    read, write = os.pipe()
    between = os.fork()
    if between == 0:
        child = os.fork()
        if child == 0:
            for descriptor in (read, write, go[1]):
                os.close(descriptor)
            return 0
        os.write(write, child.to_bytes(4, "big"))
        os._exit(0)
    os.close(write)
    told = os.read(read, 4)
    os.close(read)
    os.waitpid(between, 0)
    return int.from_bytes(told, "big")


def _serve(asked: socket.socket) -> dict[str, Any]:
    """Answer requests for ever; return the request in each child, which has its descriptors."""
    while True:
        head, descriptors, _, _ = socket.recv_fds(asked, 4, 3)
        if len(head) < 4:
            os._exit(0)
        data = asked.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
        go = os.pipe()
        child = _fork(go)
        if child == 0:
            asked.close()
            os.read(go[0], 1)  # until who asked is the parent
            os.close(go[0])
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            request: dict[str, Any] = json.loads(data)
            return request
        for descriptor in (*go, *descriptors):
            os.close(descriptor)
        asked.sendall(child.to_bytes(4, "big"))


def _become(request: dict[str, Any]) -> None:
    """Be what the request asks for, as if it had just been started."""
    if request["session"]:
        os.setsid()
    elif request["group"] >= 0:
        os.setpgid(0, request["group"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(os.fsencode(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.orig_argv[:] = request["command"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        was = getattr(sys, name)
        line = 1 if name == "stderr" else -1
        stream = os.fdopen(number, was.mode, line, encoding=was.encoding, errors=was.errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with its socket, as the tests' clean-up may still need it
    _import_all()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    _become(request)
    _, flags, program, *words = request["command"]
    sys.argv[:] = [program, *words]
    if flags == "-Im":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")
