"""Ledgers as validators hold them, without a consensus: for tests of what blocks do."""

from __future__ import annotations

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.store import Store
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.execution.prepared import ALONE, Crew
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.genesis import Genesis
from tallystick.settlement.simulated.branch import ADJUDICATOR, Branch
from tallystick.settlement.simulated.ledger import Mint

KEYS = tuple(PrivateKey(keccak(b"replicated %d" % number)) for number in range(3))
GENESIS = Genesis(
    time=1_000,
    chain_id=1337,
    contract=ADJUDICATOR,
    reward_bps=1_000,
    gas_limit=400_000,
    dev=True,
    mints=tuple(Mint(key.address, NATIVE, 10**9) for key in KEYS),
)


def application(store: Store | None = None, genesis: Genesis = GENESIS, crew: Crew = ALONE) -> Application:
    return Application(Branch(genesis.settings(), lambda: genesis.time, genesis.mints, store), genesis, crew)


def transfer(sender: int, nonce: int, amount: int = 5, price: int = 2) -> bytes:
    call = TransferCall(NATIVE, Address(bytes([7]) * 20), amount)
    return sign_call(KEYS[sender], 1337, ADJUDICATOR, call, nonce, price)
