"""One process per data directory.

Two locks are taken, and both die with the process, so that a crash never leaves a directory locked: one on the file
`lock`, whose text says who holds it, and one on the directory itself, which nobody can take away by deleting a file. A
*copy* of a directory is another directory: so daemons also hold a name that only one process of a machine can have
(`hold_identity`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from tallystick.channels.errors import StoreError, StoreInUse
from tallystick.channels.storage.identity import Identity, shown
from tallystick.channels.words import plain

HELD = (errno.EAGAIN, errno.EACCES)
"""What a lock answers that another process has."""


def lock_directory(directory: Path, owner: str) -> contextlib.ExitStack:
    """Take the data directory for this process, as `owner`, making it if need be; closing what is returned gives it up.

    Raise StoreInUse, naming the holder, if it is taken, StoreError if it cannot be made, written or locked.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.ExitStack() as opened:
            folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, folder)
            file = opened.enter_context(open(directory / "lock", "a+", encoding="utf-8", errors="replace"))
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            _take(file.fileno(), directory, holder)
            _take(folder, directory, "another process, and its file `lock` was removed")
            file.truncate(0)
            file.write(f"{owner} (process {os.getpid()})")
            file.flush()
            return opened.pop_all()
    except OSError as error:
        raise StoreError(
            f"the data directory {directory} cannot be used ({error.strerror}): it must be a directory on a disk with "
            "room, that this user may write to; or choose another one"
        ) from error


def holder_of(directory: Path) -> str:
    """Return who has the data directory open, "" if nobody does (or there is none)."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, folder)
        try:
            fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in HELD:
                raise
            with contextlib.suppress(OSError):
                return plain((directory / "lock").read_text("utf-8", "replace")[:200].strip()) or "another process"
            return "another process"
    return ""


def _take(descriptor: int, directory: Path, holder: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            raise StoreError(
                f"the data directory {directory} cannot be locked ({error.strerror}): keep it on a local disk"
            ) from error
        raise StoreInUse(
            f"the data directory {directory} is in use by {holder}; stop that program first or choose another directory"
        ) from error


@contextlib.contextmanager
def hold_identity(what: str, identity: Identity) -> Iterator[None]:
    """Be the only process of this machine that is this `what` ("node", say); raise StoreInUse if there is one already.

    Of two directories that are copies of each other at most one may run: what both sign contradicts itself. It is an
    abstract socket's name, which the kernel gives away once and takes back at the process's end.
    """
    words = repr((what, identity.account, identity.chain_id, identity.contract))
    name = "\0tallystick/" + hashlib.sha256(words.encode()).hexdigest()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        try:
            held.bind(name)
            held.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StoreInUse(
                    f"{_holder(name)} of this machine is the {what} of the key {shown(identity.account)} already: stop "
                    "it first, and never run a copy of a data directory: two of one key lose each other's money"
                ) from error
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # of systems without such names
                raise StoreError(f"this process cannot make sure that it is the only {what}: {error}") from error
        yield


def _holder(name: str) -> str:
    """Return which process has an abstract socket."""
    credentials = struct.Struct("3i")
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as question:
        question.setblocking(False)
        question.connect(name)
        process, _, _ = credentials.unpack(question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size))
        return f"process {process}"
    return "another process"
