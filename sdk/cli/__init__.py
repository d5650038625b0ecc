"""The `tally` command. Everything heavy is imported by the subcommand that needs it."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the `tally` command on the process's arguments."""
    try:
        from tallystick.sdk.cli.app import app

        app(prog_name="tally")
    except KeyboardInterrupt:  # while the command was still being loaded
        sys.stderr.write("tally: interrupted\n")
        sys.exit(130)
