"""Being paid: the invoices that were issued, and the locks that end here."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Names of the module that this package was in 0.1.0, for one release more."""
    from tallystick._moved import moved_name  # nobody else needs it

    return moved_name(__name__, name)
