"""Starts the node as a process, and ends it."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator

VERSION = "0.12.1b1"
"""Of py-evm, by which this was written; a pre-release, as its newer ones all are."""


def has_pyevm() -> bool:
    """Whether py-evm is installed for this interpreter."""
    return importlib.util.find_spec("eth") is not None  # the import name of py-evm


@contextlib.contextmanager
def start_pyevm(*flags: str) -> Iterator[str]:
    """Start the node, and give its URL; end it at the end. `flags` are those of `__main__`.

    Raise FileNotFoundError if py-evm is not installed, or the node does not start.
    """
    command = (sys.executable, "-m", __package__, "--port", "0", *flags)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise FileNotFoundError("the node in Python does not start: pip install 'tallystick[pyevm]'")
            yield url
        finally:
            process.stdin.close()
            process.terminate()
