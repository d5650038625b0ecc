"""The one door to eth-account, the oracle of keystores, signatures and transactions: import it from here alone.

On import its elliptic-curve library (py_ecc) raises Python's recursion limit to 100,000.
"""

from __future__ import annotations

from tallystick.settlement.testing.pyevm.recursion import kept_recursion_limit

with kept_recursion_limit():
    from eth_account import Account

__all__ = ["Account"]
