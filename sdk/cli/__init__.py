"""The `tally` command. Everything heavy is imported by the subcommand that needs it."""

from __future__ import annotations


def main() -> None:
    """Run the `tally` command on the process's arguments."""
    from tallystick.sdk.cli.app import app

    app(prog_name="tally")
