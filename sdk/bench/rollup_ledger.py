"""Closes on the simulated ledger, one by one and as a rollup's batch: how many bytes, and how long."""

from __future__ import annotations

import time

from tallystick.channels.protocol.eip712 import channel_id, digest_cooperative_close, domain_separator
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, CooperativeClose, Terms
from tallystick.sdk.bench.rollup_load import BOND, EXPIRY, FEE, TIMES, Load
from tallystick.settlement.chain import Call, CooperativeCloseCall, DepositCall, ModuleCall, OpenCall
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.ethereum.abi import Signature
from tallystick.settlement.ethereum.transactions import decode_transaction, sign_call
from tallystick.settlement.modules.rollups import ROLLUPS, Books
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.packing import pack_data
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint, execute, mint
from tallystick.settlement.simulated.module_calls import ModuleRun
from tallystick.settlement.simulated.world import Layer

RULES = Parameters(1337, ADJUDICATOR)
NOW = 1_800_000_000
AMOUNT = 10**15
FEE_PRICE = 10**9


class LedgerMeter:
    """A ledger, and two parties of many channels; the first is a rollup's operator too."""

    def __init__(self) -> None:
        keys = sorted((PrivateKey(keccak(b"tally bench rollup %s" % name)) for name in (b"a", b"b")), key=_address)
        self.keys = keys
        self.state = Layer({})
        self._nonces = [0, 0]
        for key in keys:
            mint(self.state, RULES, Mint(key.address, NATIVE, 10**30))

    def sign(self, side: int, call: Call) -> bytes:
        """Return the next raw transaction of a side."""
        self._nonces[side] += 1
        return sign_call(self.keys[side], 1337, ADJUDICATOR, call, self._nonces[side] - 1, FEE_PRICE)

    def run(self, raw: bytes) -> float:
        """Check and carry out a transaction, which must succeed; return how many seconds that took."""
        began = time.perf_counter()
        done = execute(self.state, RULES, decode_transaction(raw, 1337), NOW)
        took = time.perf_counter() - began
        if not done.success:
            raise RuntimeError(done.reason)
        return took

    def module(self, name: str, *values: object, value: int = 0) -> bytes:
        """Return a raw transaction of the operator's that calls the module."""
        signature = Signature(name, ROLLUPS.functions[name].form.types)
        return self.sign(0, ModuleCall(ROLLUPS.address, signature.encode_call(*values), value))

    def post(self, batch: Batch) -> bytes:
        """Return the raw transaction that posts a batch."""
        return self.module(
            "post", 0, batch.time, batch.queue_end, batch.accounts, batch.channels, *pack_data(batch.data)
        )

    def close(self, number: int) -> bytes:
        """Return the raw transaction that closes one of the channels alone, once it is open and funded."""
        first, second = (key.address for key in self.keys)
        terms = Terms(1337, ADJUDICATOR, (first, second), NATIVE, number, 60, keccak(b""))
        self.run(self.sign(0, OpenCall(terms, AMOUNT)))
        self.run(self.sign(1, DepositCall(channel_id(terms), 1, AMOUNT)))
        close = CooperativeClose(channel_id(terms), AMOUNT // 2, AMOUNT + AMOUNT // 2, EXPIRY)
        digest = digest_cooperative_close(domain_separator(1337, ADJUDICATOR), close)
        return self.sign(0, CooperativeCloseCall(close, *(key.sign(digest) for key in self.keys)))


def measure_ledger(closes: int) -> dict[str, float]:
    """Return what a close costs alone and in a batch of so many, and what the batch costs its operator."""
    meter = LedgerMeter()
    alone = seconds_alone = 0.0
    for number in range(closes):
        raw = meter.close(number)
        alone += len(raw)
        seconds_alone += meter.run(raw)
    meter.run(meter.module("createRollup", 1337, BOND, *TIMES, FEE))
    place = Books(ModuleRun(meter.state, ROLLUPS, NATIVE, NOW, [], 1, ADJUDICATOR), 0).place
    meter.run(meter.module("bond", 0, place.contract, BOND, value=BOND))
    load = Load(place, closes)
    for owner, amount in load.deposits:
        meter.run(meter.module("deposit", 0, place.contract, owner, amount, value=amount))
    for steps in load.preparing():
        meter.run(meter.post(load.batch(steps, NOW)))
    began = time.perf_counter()
    batch = load.batch(load.closes(), NOW)
    operator = time.perf_counter() - began
    raw = meter.post(batch)
    seconds = meter.run(raw)
    return {
        "bytes_alone": alone / closes,
        "bytes_each": len(raw) / closes,
        "us_alone": seconds_alone * 1e6 / closes,
        "us_each": seconds * 1e6 / closes,
        "operator_us_each": operator * 1e6 / closes,
    }


def _address(key: PrivateKey) -> bytes:
    return key.address
