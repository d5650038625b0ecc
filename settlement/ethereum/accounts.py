"""The one door to eth-account: keystores, transactions, and the oracle of tests. Import it from here, never directly.

It takes a third of a second to import, so who needs it imports this late. On import its elliptic-curve library (py_ecc)
raises Python's recursion limit to 100,000 for the whole process. With that limit, a hostile message of many nested
arrays overflows a decoder's C stack and kills the process, where it should be a RecursionError that is answered with a
refusal. So the limit is put back right after the import.
"""

from __future__ import annotations

import sys

_limit = sys.getrecursionlimit()

from eth_account import Account  # noqa: E402 (between reading the limit and putting it back)

sys.setrecursionlimit(_limit)

__all__ = ["Account"]
