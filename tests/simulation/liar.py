"""A validator that lies in its proposals: the `tally` command, with an application that proposes what has no place.

In its turn it puts a transaction into its block that nobody has signed; the others refuse the block, and it is the next
one's turn. It judges its own proposals by its own standard.
"""

from __future__ import annotations

from tallystick.sdk.cli import main
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.decision import ProposedBlock

LIE = b"\x02 a transaction that nobody has signed"


def _prepare(self: Application, block: ProposedBlock, bytes_max: int) -> tuple[bytes, ...]:
    return (*block.transactions, LIE)


if __name__ == "__main__":
    Application.prepare = _prepare  # type: ignore[method-assign]
    Application.accepts = lambda self, block: True  # type: ignore[method-assign]
    main()
