"""The one door to eth-account: keystores, transactions, and the oracle of tests. Import it from here, never directly.

It takes a third of a second to import, so who needs it imports this late. It would take three times that: eth-keyfile
loads the pairings of py_ecc, which compute their tables on import, for keystores of Ethereum's validators. They are
left until somebody in this process opens one. On import py_ecc also raises Python's recursion limit to 100,000.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from tallystick.settlement.ethereum.recursion import kept_recursion_limit

BLS_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""Order of the groups of BLS12-381 (draft-irtf-cfrg-pairing-friendly-curves, section 4.2.1)."""

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order of the group of secp256k1 (SEC 2, section 2.4.1)."""


class _Pairings:
    """Stands for `py_ecc.bls.G2ProofOfPossession`, and loads it when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        with kept_recursion_limit():
            from py_ecc.bls.ciphersuites import G2ProofOfPossession
        return getattr(G2ProofOfPossession, name)


def _stand_ins() -> dict[str, ModuleType]:
    """Return what eth-keyfile takes from py_ecc on import, as modules by name."""
    contents: dict[str, dict[str, Any]] = {
        "py_ecc": {"__path__": []},
        "py_ecc.bls": {"G2ProofOfPossession": _Pairings()},
        "py_ecc.bls12_381": {"curve_order": BLS_ORDER},
        "py_ecc.secp256k1": {"N": SECP256K1_ORDER},
    }
    made = {}
    for name, content in contents.items():
        made[name] = ModuleType(name)
        vars(made[name]).update(content)
    return made


def _import_account() -> Any:
    """Import eth-account without py_ecc, unless that is loaded already, or eth-keyfile takes more of it than this."""
    if not any(name == "py_ecc" or name.startswith(("py_ecc.", "eth_keyfile")) for name in sys.modules):
        stand_ins = _stand_ins()
        sys.modules.update(stand_ins)
        try:
            import eth_keyfile  # noqa: F401  # now, while what it takes stands in for py_ecc
        except ImportError:  # another release, which takes more
            for name in [name for name in sys.modules if name.startswith("eth_keyfile")]:
                del sys.modules[name]
        finally:
            for name in stand_ins:
                sys.modules.pop(name, None)
    from eth_account import Account

    return Account


with kept_recursion_limit():
    Account = _import_account()

__all__ = ["Account"]
