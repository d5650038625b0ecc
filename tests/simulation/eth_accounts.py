"""eth-account, the oracle of tests for keystores, transactions and digests. Import it from here, never directly.

On import its elliptic-curve library (py_ecc) raises Python's recursion limit to 100,000 for the whole process. With
that limit, a hostile message of many nested arrays overflows a decoder's C stack and kills the process, where it should
be a RecursionError that is answered with a refusal. So the limit is put back right after the import.
"""

from __future__ import annotations

import sys
from typing import Any

_limit = sys.getrecursionlimit()

from eth_account import Account  # noqa: E402 (between reading the limit and putting it back)
from eth_account.messages import _hash_eip191_message, encode_typed_data  # noqa: E402

sys.setrecursionlimit(_limit)


__all__ = ["Account", "typed_digest"]


def typed_digest(domain: dict[str, Any], types: dict[str, Any], message: dict[str, Any]) -> bytes:
    """Return what is signed of typed data (EIP-712), 32 bytes."""
    return bytes(_hash_eip191_message(encode_typed_data(domain, types, message)))
