"""A validator that runs for the second time: the `tally` command, with an application that proposes empty blocks.

So, when it is the validator's turn, the two propose different blocks, and each votes for its own.
"""

from __future__ import annotations

from tallystick.sdk.cli import main
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.decision import ProposedBlock


def _prepare(self: Application, block: ProposedBlock, bytes_max: int) -> tuple[bytes, ...]:
    return ()


if __name__ == "__main__":
    Application.prepare = _prepare  # type: ignore[method-assign]
    main()
