"""Where a running node tells its own user how to reach its control API: two files in its data directory.

`control.token` (mode 0600) holds the bearer token, new at every start; `control.url` the address, for as long as the
node runs. Who can read the token can spend the node's money: it is for the node's own user only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import trio

from tallystick.channels.errors import StoreInUse
from tallystick.channels.storage.directory import lock_directory
from tallystick.sdk.errors import ConfigurationError, NodeUnreachable

POLL_SECONDS = 0.05
"""Between two looks at a lock, which cannot be waited for without a thread."""

TOKEN_FILE = "control.token"
URL_FILE = "control.url"


@contextlib.contextmanager
def announce(directory: Path, url: str, token: str) -> Iterator[None]:
    """Write both files, whole, and take them away at the end. Only the holder of the directory's lock may do that."""
    paths = directory / TOKEN_FILE, directory / URL_FILE
    try:
        for path, text in zip(paths, (token, url), strict=True):
            _replace(path, text + "\n")
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        for path in reversed(paths):
            path.unlink(missing_ok=True)


def find_node(directory: Path) -> tuple[str, str]:
    """Return (URL, token) of the node that runs in `directory`; raise NodeUnreachable or ConfigurationError."""
    try:
        url = (directory / URL_FILE).read_text("utf-8").strip()
        token = (directory / TOKEN_FILE).read_text("utf-8").strip()
    except FileNotFoundError:
        raise NodeUnreachable(f"no node runs in {directory}: start it with `tally node run`") from None
    except OSError as error:
        raise ConfigurationError(f"the node's control files cannot be read: {error}") from error
    return url, token


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


async def wait_ended(directory: Path) -> None:
    """Return when no process holds the data directory any more."""
    while True:
        try:
            lock_directory(directory, "a look whether the node has ended").close()
        except StoreInUse:
            await trio.sleep(POLL_SECONDS)
        else:
            return
