"""The one door to eth-account: keystores, transactions, and the oracle of tests. Import it from here, never directly.

It takes a third of a second to import, so who needs it imports this late. On import its elliptic-curve library (py_ecc)
raises Python's recursion limit to 100,000.
"""

from __future__ import annotations

from tallystick.settlement.ethereum.recursion import kept_recursion_limit

with kept_recursion_limit():
    from eth_account import Account

__all__ = ["Account"]
