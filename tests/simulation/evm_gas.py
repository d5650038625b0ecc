"""What each call of the contract costs, in gas, on the in-process EVM: `PYTHONPATH=tests python -m simulation.evm_gas`.

Figures of Cancun's prices, which for these calls are Osaka's; `--json` prints them as `tally bench gas` does.
"""

from __future__ import annotations

import argparse
import json
import sys

import msgspec

from simulation.court_bench import KEYS, TERMS, agreed, played, signed
from simulation.court_bench import move as move_of
from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import Evm, calldata
from simulation.evm_adjudicator import EvmAdjudicator
from simulation.evm_court import COURT_CALLS, deploy_court, encode
from simulation.evm_storage import court_slots, slots_in_use
from tallystick.channels.protocol.apps import (
    APP,
    AppOutcome,
    AppTerms,
    OutcomeProof,
    digest_outcome,
    instance_id,
    stake_condition,
)
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
    RegisterProofCall,
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
    "register_state": 155_000,
    "move_in_court": 140_000,
    "register_outcome": 100_000,
    "redeem_10_stakes": 110_000,
}
"""The most that a call may cost."""


class Meter:
    """One chain with the contract, and a new channel whenever one is wanted."""

    def __init__(self) -> None:
        self.evm = Evm()
        self.court = deploy_court(self.evm, MALLORY)
        self.gas: dict[str, int] = {"deploy_court": self.court.gas}
        at = self.evm.deploy(creation_code(court=self.court.at), MALLORY)
        self.contract = EvmAdjudicator(self.evm, at, self.court.at)
        self.number = 0
        self.gas["deploy"] = self.evm.deployed_gas
        self.instances: list[AppTerms] = []
        """Of which something may be in court."""
        for account in (MALLORY, *(ChannelFixture().address(side) for side in (0, 1))):
            self.evm.fund(account)

    def note(self, name: str, call: Call, by: Address = MALLORY) -> None:
        """Make a call, and write down what it cost."""
        if isinstance(call, COURT_CALLS):
            self.gas[name] = self.cold().send(by, self.court.at, encode(call)).gas
            self.evm.send(by, self.court.at, encode(call))
            return
        data, value = self.contract.encode(call)
        self.gas[name] = self.cold().send(by, self.contract.at, data, value).gas
        self.contract.send(call, by)

    def cold(self) -> Evm:
        """Return the chain as the next block finds it."""
        in_court = [slot for terms in self.instances for slot in court_slots(terms)]
        return self.evm.settled({self.contract.at: slots_in_use(self.contract), self.court.at: in_court})

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
    for count in (1, 10):
        _stakes(meter, count)
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


def _stakes(meter: Meter, count: int) -> None:
    """Locks of as many instances of noughts and crosses, each decided in court after one move there."""
    fixture, now, moved = meter.opened(), meter.evm.time, False
    locks = []
    for number in range(count):
        terms = msgspec.structs.replace(
            TERMS, contract=meter.contract.at, expiry=now + PERIOD, nonce=number + 100 * count
        )
        meter.instances.append(terms)
        first, move = agreed(terms=terms), msgspec.structs.replace(move_of(4), terms=terms)
        move = msgspec.structs.replace(move, signature=signed(0, 1, played(4), terms))
        meter.note("register_state", first)
        meter.note("move_in_court", move)
        meter.note("register_state_again", agreed(4, 0, terms=terms))
        meter.note(
            "move_in_court_again",
            msgspec.structs.replace(move_of(4, 0, 8), terms=terms, signature=signed(0, 3, played(4, 0, 8), terms)),
        )
        locks.append(Lock(number, terms.stakes[1], terms.expiry, APP, stake_condition(instance_id(terms), 1)))
        if not moved:
            other = msgspec.structs.replace(terms, nonce=10**6 + count)
            meter.instances.append(other)
            meter.note("register_outcome", outcome_of(other))
            moved = True
    meter.contract.send(fixture.close(None, fixture.proof(1, 1, 0, tuple(locks))), fixture.address(0))
    meter.evm.time = now + 10 * PERIOD
    meter.contract.send(SettleCall(fixture.id), MALLORY)
    meter.note(f"redeem_{count}_stakes", RedeemCall(fixture.id, 1, tuple(locks)))


def outcome_of(terms: AppTerms) -> RegisterProofCall:
    """Return an outcome that both players signed."""
    paid = (0, terms.stakes[1])
    digest = digest_outcome(terms, AppOutcome(instance_id(terms), paid))
    proof = OutcomeProof(terms, paid, (KEYS[0].sign(digest), KEYS[1].sign(digest)))
    return RegisterProofCall(APP, stake_condition(instance_id(terms), 0), proof.encode())


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
