"""State channels and a payment network: lock funds once, then pay off chain as often and as fast as you like.

The names that most programs need are here; `docs/sdk.md` tells of them. Each is loaded when it is first asked for, so
that `import tallystick` and `tally --help` are quick, and nothing that is not used costs anything. The packages:
`tallystick.sdk` (nodes), `tallystick.paid` (paid HTTP calls), `tallystick.channels`, `tallystick.router` (payments
over several hops), `tallystick.settlement` (the chain), `tallystick.watchtower`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tallystick import _moved

if TYPE_CHECKING:  # what type checkers and editors see; `_HOMES` says the same to Python, and a test compares the two
    from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput, TallystickError
    from tallystick.channels.node.alarms import Alarm, AlarmKind
    from tallystick.channels.ports import PeerAddress
    from tallystick.channels.protocol.keys import PrivateKey, PublicKey, keccak
    from tallystick.channels.protocol.objects import NATIVE
    from tallystick.paid.buying.auth import PaidAuth
    from tallystick.paid.buying.budget import Budget
    from tallystick.paid.selling.middleware import PaidCalls
    from tallystick.router.errors import NoRoute, PaymentFailed
    from tallystick.router.invoices.invoice import Invoice, decode_invoice
    from tallystick.sdk.control.client import ControlClient, connect_control
    from tallystick.sdk.daemon.keystore import load_key
    from tallystick.sdk.errors import CallFailed, ControlError, NodeUnreachable, OpeningFailed
    from tallystick.sdk.ledger import LedgerAccount, module_call
    from tallystick.sdk.node.handle import ChannelHandle
    from tallystick.sdk.node.incoming import IncomingPayment
    from tallystick.sdk.node.node import Config, Node
    from tallystick.sdk.node.running import open_node
    from tallystick.settlement.ethereum.evm.client import open_evm_chain
    from tallystick.settlement.ethereum.rpc_client import open_rpc_chain
    from tallystick.settlement.testing.local import LocalChain

__version__ = "0.1.0"

__all__ = [
    "NATIVE",
    "Alarm",
    "AlarmKind",
    "Budget",
    "CallFailed",
    "ChannelHandle",
    "ChannelNotReady",
    "Config",
    "ControlClient",
    "ControlError",
    "IncomingPayment",
    "InsufficientFunds",
    "InvalidInput",
    "Invoice",
    "LedgerAccount",
    "LocalChain",
    "NoRoute",
    "Node",
    "NodeUnreachable",
    "OpeningFailed",
    "PaidAuth",
    "PaidCalls",
    "PaymentFailed",
    "PeerAddress",
    "PrivateKey",
    "PublicKey",
    "TallystickError",
    "__version__",
    "connect_control",
    "decode_invoice",
    "keccak",
    "load_key",
    "module_call",
    "open_evm_chain",
    "open_node",
    "open_rpc_chain",
]

_HOMES = {
    "channels.node.alarms": ("Alarm", "AlarmKind"),
    "channels.errors": ("ChannelNotReady", "InsufficientFunds", "InvalidInput", "TallystickError"),
    "channels.protocol.keys": ("PrivateKey", "PublicKey", "keccak"),
    "channels.protocol.objects": ("NATIVE",),
    "channels.ports": ("PeerAddress",),
    "paid.buying.auth": ("PaidAuth",),
    "paid.buying.budget": ("Budget",),
    "paid.selling.middleware": ("PaidCalls",),
    "router.errors": ("NoRoute", "PaymentFailed"),
    "router.invoices.invoice": ("Invoice", "decode_invoice"),
    "sdk.control.client": ("ControlClient", "connect_control"),
    "sdk.errors": ("CallFailed", "ControlError", "NodeUnreachable", "OpeningFailed"),
    "sdk.ledger": ("LedgerAccount", "module_call"),
    "sdk.node.handle": ("ChannelHandle",),
    "sdk.node.incoming": ("IncomingPayment",),
    "sdk.daemon.keystore": ("load_key",),
    "sdk.node.node": ("Config", "Node"),
    "sdk.node.running": ("open_node",),
    "settlement.ethereum.evm.client": ("open_evm_chain",),
    "settlement.ethereum.rpc_client": ("open_rpc_chain",),
    "settlement.testing.local": ("LocalChain",),
}
_HOME = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}


_moved.install()


def __getattr__(name: str) -> Any:
    """Load the name from its module, once."""
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
