"""All modules of the ledger, by name and by address. A new one is a file beside this one, and an entry here."""

from __future__ import annotations

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.modules.exchange_routes import EXCHANGE
from tallystick.settlement.modules.interface import Function, Module
from tallystick.settlement.modules.lending import LENDING
from tallystick.settlement.modules.rollup_disputes import ROLLUPS
from tallystick.settlement.modules.staking import STAKING
from tallystick.settlement.modules.towers import TOWERS
from tallystick.settlement.modules.treasury import TREASURY
from tallystick.settlement.modules.validator_changes import VALIDATORS

MODULES: dict[str, Module] = {
    module.name: module for module in (EXCHANGE, LENDING, ROLLUPS, STAKING, TOWERS, TREASURY, VALIDATORS)
}
"""By name."""

MODULES_AT: dict[Address, Module] = {module.address: module for module in MODULES.values()}
"""By address."""

_FUNCTIONS: dict[bytes, Function] = {
    module.address + function.selector: function
    for module in MODULES.values()
    for function in module.functions.values()
}


def find_function(module: Address, data: bytes) -> Function | None:
    """Return the function that calldata to an address calls."""
    return _FUNCTIONS.get(module + data[:4])
