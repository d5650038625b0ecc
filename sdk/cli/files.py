"""Files that commands read and write: none is overwritten, and what cannot be done is said in a sentence."""

from __future__ import annotations

from pathlib import Path

from tallystick.sdk.cli.shell import fail


def read_file(path: Path) -> bytes:
    """Return what is in a file, or say why it cannot be read, and exit."""
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")


def require_new(path: Path) -> None:
    """Exit, with what to do, if there is such a file: none is overwritten."""
    if path.exists():
        fail(f"{path} exists already; give another name, or delete it first")


def write_file(path: Path, data: bytes, otherwise: str = "") -> None:
    """Write a new file, or say why it cannot be written, and exit."""
    require_new(path)
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}{otherwise}")
