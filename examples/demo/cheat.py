"""A validator that is run for the second time, and votes against every block: the `tally` command, changed."""

from __future__ import annotations

from tallystick.sdk.cli import main
from tallystick.settlement.replicated.application import Application

if __name__ == "__main__":
    Application.accepts = lambda self, block: False  # type: ignore[method-assign]
    main()
