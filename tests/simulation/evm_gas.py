"""What each call of the contract costs, in gas, on the in-process EVM: `PYTHONPATH=tests python -m simulation.evm_gas`.

Figures of Cancun's prices, which for these calls are Osaka's; `--json` prints them as `tally bench gas` does.
"""

from __future__ import annotations

import argparse
import json
import sys

import msgspec

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import Evm, calldata
from simulation.evm_adjudicator import EvmAdjudicator
from simulation.evm_storage import slots_in_use
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.hashchain import StreamTerms, walk
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, Lock
from tallystick.contracts import creation_code
from tallystick.settlement.chain import (
    Call,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterSecretCall,
    SettleCall,
)

FAR = 2**40 - 1
AMOUNT = 10**15
MALLORY = Address(b"\x66" * 20)

LIMITS = {
    "open_later": 80_000,
    "deposit": 34_000,
    "cooperative_close": 58_000,
    "close": 76_000,
    "challenge": 48_000,
    "settle": 54_000,
    "redeem_1": 54_400,
    "redeem_10": 94_000,
    "redeem_483": 50_000 + 483 * 4_400,
    "batch_close_each": 40_000,
}
"""The most that a call may cost."""


class Meter:
    """One chain with the contract, and a new channel whenever one is wanted."""

    def __init__(self) -> None:
        self.evm = Evm()
        at = self.evm.deploy(creation_code(), MALLORY)
        self.contract = EvmAdjudicator(self.evm, at)
        self.number = 0
        self.gas: dict[str, int] = {"deploy": self.evm.deployed_gas}
        for account in (MALLORY, *(ChannelFixture().address(side) for side in (0, 1))):
            self.evm.fund(account)

    def note(self, name: str, call: Call, by: Address = MALLORY) -> None:
        """Make a call, and write down what it cost."""
        data, value = self.contract.encode(call)
        self.gas[name] = self.cold().send(by, self.contract.at, data, value).gas
        self.contract.send(call, by)

    def cold(self) -> Evm:
        """Return the chain as the next block finds it."""
        return self.evm.settled({self.contract.at: slots_in_use(self.contract)})

    def channel(self) -> ChannelFixture:
        """Return the fixture of the pair's next channel, which is not open yet."""
        fixture = ChannelFixture(contract=self.contract.at)
        fixture.terms = msgspec.structs.replace(fixture.terms, number=self.number)
        fixture.id = channel_id(fixture.terms)
        self.number += 1
        return fixture

    def opened(self) -> ChannelFixture:
        """Return one that both have paid into."""
        fixture = self.channel()
        self.contract.send(OpenCall(fixture.terms, AMOUNT), fixture.address(0))
        self.contract.send(DepositCall(fixture.id, 1, AMOUNT), fixture.address(1))
        return fixture


def measure() -> dict[str, int]:
    """Return the gas of each call."""
    meter = Meter()
    _agreed(meter)
    _alone(meter)
    for count in (1, 10, 483):
        _locks(meter, count)
    _registry(meter)
    _batches(meter)
    return meter.gas


def _agreed(meter: Meter) -> None:
    fixture = meter.channel()
    meter.note("open", OpenCall(fixture.terms, AMOUNT), fixture.address(0))
    meter.note("deposit", DepositCall(fixture.id, 1, AMOUNT), fixture.address(1))
    meter.note("deposit_again", DepositCall(fixture.id, 1, AMOUNT), fixture.address(1))
    meter.note("deposit_third", DepositCall(fixture.id, 1, AMOUNT), fixture.address(1))
    meter.note("withdraw", fixture.withdrawal(1, AMOUNT, FAR))
    meter.note("cooperative_close_withdrawn", fixture.cooperative_close(AMOUNT // 2, AMOUNT * 2 + AMOUNT // 2, FAR))
    fixture = meter.channel()
    meter.note("open_later", OpenCall(fixture.terms, AMOUNT), fixture.address(0))
    meter.contract.send(DepositCall(fixture.id, 1, AMOUNT), fixture.address(1))
    close = fixture.cooperative_close(AMOUNT // 2, AMOUNT + AMOUNT // 2, FAR)
    meter.note("cooperative_close", close, fixture.address(0))  # who asked for it submits it


def _alone(meter: Meter) -> None:
    fixture = meter.opened()
    proofs = fixture.proof(0, 1_000, 10**12, seen=999), fixture.proof(1, 1_001, 2 * 10**12, seen=1_000)
    meter.note("close", fixture.close(*proofs), fixture.address(0))
    meter.note("challenge", fixture.challenge(fixture.proof(0, 2_000, 10**12 + 5, seen=1_999)))
    meter.evm.time += PERIOD + 1
    meter.note("settle_convicted", SettleCall(fixture.id))
    fixture = meter.opened()
    proofs = fixture.proof(0, 1_000, 10**12, seen=999), fixture.proof(1, 1_001, 2 * 10**12, seen=1_000)
    meter.contract.send(fixture.close(*proofs), fixture.address(0))
    meter.evm.time += PERIOD + 1
    meter.note("settle", SettleCall(fixture.id))
    fixture = meter.opened()
    meter.note("close_genesis", fixture.close(), fixture.address(0))
    voucher = fixture.challenge(fixture.proof(1, 2_000, 10**12, seen=1_999), tower=MALLORY, victim=1)
    meter.note("challenge_voucher", voucher)
    meter.evm.time += PERIOD + 1
    meter.note("settle_rewarded", SettleCall(fixture.id))


def _locks(meter: Meter, count: int) -> None:
    fixture = meter.opened()
    secrets = [keccak(b"%d of %d" % (number, count)) for number in range(count)]
    locks = tuple(Lock(number, 10**9 + number, FAR, 0, digest_of(secret)) for number, secret in enumerate(secrets))
    meter.note(
        f"close_{count}_locks", fixture.close(fixture.proof(0, 1_000, 10**12, locks, seen=999)), fixture.address(0)
    )
    for secret in secrets:
        meter.contract.send(RegisterSecretCall(secret), MALLORY)
        meter.contract.puzzles.add(digest_of(secret))
    meter.evm.time += PERIOD + 1
    meter.note(f"settle_{count}_locks", SettleCall(fixture.id))
    meter.note(f"redeem_{count}", RedeemCall(fixture.id, 0, locks))


def _registry(meter: Meter) -> None:
    meter.note("register_secret", RegisterSecretCall(keccak(b"a secret")))
    seed, unit, length = keccak(b"a stream"), 5, 65_536
    tip = walk(seed, length)
    meter.contract.puzzles.add(StreamTerms(tip, unit, length).condition(FAR))

    def link(depth: int) -> RegisterLinkCall:
        return RegisterLinkCall(walk(seed, length - depth), depth, tip, unit, length, FAR)

    meter.note("register_link_100", link(100))
    meter.note("register_link_32768", link(32_768))
    meter.note("register_link_next_1000", link(33_768))
    meter.note("register_link_to_65536", link(65_536))
    other = StreamTerms(walk(keccak(b"another"), length), unit, length)
    meter.note("register_link_65536", RegisterLinkCall(keccak(b"another"), length, other.tip, unit, length, FAR))


def _batches(meter: Meter) -> None:
    for count in (2, 10, 100):
        calls = []
        for _ in range(count):
            fixture = meter.opened()
            data, _ = meter.contract.encode(fixture.cooperative_close(AMOUNT // 2, AMOUNT + AMOUNT // 2, FAR))
            calls.append(data)
        data = calldata("batch", ("bytes[]",), (calls,))
        gas = meter.cold().send(MALLORY, meter.contract.at, data).gas
        events, _ = meter.contract.batch(calls, MALLORY)
        if len(events) != count:
            raise RuntimeError(f"{len(events)} of {count} closed")
        meter.gas[f"batch_of_{count}_each"] = gas // count
    meter.gas["batch_close_each"] = meter.gas["batch_of_100_each"]


def main() -> int:
    """Print the table; return how many calls cost too much."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    as_json = arguments.parse_args().json
    gas = measure()
    if as_json:
        print(json.dumps({"client": "pyrevm", "fork": "cancun", "calls": gas}, indent=1))
    for name, used in gas.items() if not as_json else ():
        limit = LIMITS.get(name)
        print(f"{name:30} {used:>10,}" + (f"  of {limit:>9,}{'' if used <= limit else '  TOO MUCH'}" if limit else ""))
    return sum(gas[name] > limit for name, limit in LIMITS.items())


if __name__ == "__main__":
    sys.exit(main())
