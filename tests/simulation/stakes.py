"""Stake decides, with the real engine: `PYTHONPATH=tests python -m simulation.stakes`.

Somebody delegates to a validator of four, and its power follows. Then another validator's home runs twice, as it never
must: a twin with the same key, and nothing of what was voted on. The two contradict each other, the evidence comes into
a block, the guilty one is slashed and leaves the set, and the chain goes on with the three others.
"""

from __future__ import annotations

import argparse
import base64
import random
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
from nacl.signing import SigningKey

from simulation.validators import WELL_SECONDS, Payer, Validator, Validators, check_payments, open_validators, reach
from tallystick.channels.ports import system_entropy
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.sdk.ledger import LedgerAccount
from tallystick.settlement.ethereum.module_calls import read_answer, write_call
from tallystick.settlement.modules.validator_records import StakeRules
from tallystick.settlement.replicated.home import KEY, NODE_KEY, OPERATOR, OWN_STAKE, SETTINGS, STATE
from tallystick.settlement.simulated.ledger import Mint

TWIN = Path(__file__).parent / "twin.py"
DELEGATOR = PrivateKey(keccak(b"simulation: somebody who delegates"))
DELEGATED = 3 * 10**17
"""Coins."""


def address_in(home: Path) -> Address:
    """Return by what the consensus knows the validator of a home."""
    return Address(bytes.fromhex(msgspec.json.decode((home / KEY).read_bytes())["address"]))


def operator_in(home: Path) -> PrivateKey:
    """Return the key of the account whose own stake a validator has."""
    return PrivateKey(bytes.fromhex(msgspec.json.decode((home / OPERATOR).read_bytes())["key"]))


async def look(validators: Validators, at: int, view: str, *values: Any) -> dict[str, Any]:
    """Return what a view of the module says at one validator."""
    call = write_call("validators", view, list(values))
    async with reach(validators.all[at]) as chain:
        return read_answer(call, await chain.view(call))


async def wait_validator(validators: Validators, at: int, who: Address, **wanted: int) -> dict[str, Any]:
    """Return what is said of a validator once it is so."""
    with trio.fail_after(WELL_SECONDS):
        while True:
            found = await look(validators, at, "validator", who)
            if all(found[name] >= least for name, least in wanted.items()):
                return found
            await trio.sleep(0.1)


@asynccontextmanager
async def open_twin(validators: Validators, number: int) -> AsyncIterator[Validator]:
    """Run a home for the second time, beside the first, until the end of the block."""
    home = validators.all[number].home
    twin = home.parent / f"twin{number}"
    shutil.copytree(home / "config", twin / "config")
    (twin / STATE).parent.mkdir()
    (twin / STATE).write_text('{"height": "0", "round": 0, "step": 0}')
    seed = SigningKey(system_entropy(32))
    node_key = msgspec.json.decode((twin / NODE_KEY).read_bytes())
    node_key["priv_key"]["value"] = base64.b64encode(bytes(seed) + bytes(seed.verify_key)).decode()
    (twin / NODE_KEY).write_bytes(msgspec.json.encode(node_key))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = (twin / SETTINGS).read_text().splitlines()
    lines = [f'laddr = "tcp://127.0.0.1:{port}"' if line.startswith("laddr") else line for line in lines]
    (twin / SETTINGS).write_text("\n".join(lines) + "\n")
    other = Validator(number, twin)
    other.program = TWIN
    try:
        await other.start()
        yield other
    finally:
        with trio.CancelScope(shield=True):
            await other.kill()


async def scenario(seed: int, tell: bool = True) -> None:
    """Run one: the seed says who is delegated to, and who signs twice."""
    rng = random.Random(seed)
    chosen, guilty = rng.sample(range(4), 2)

    def said(text: str) -> None:
        if tell:
            print(f"seed {seed}: {text}", flush=True)

    more = (Mint(DELEGATOR.address, NATIVE, 10**18),)
    async with open_validators(more=more) as validators, trio.open_nursery() as nursery:
        homes = [validator.home for validator in validators.all]
        other = next(each for each in range(4) if each not in (chosen, guilty))
        async with reach(validators.all[other]) as chain:
            account = LedgerAccount(chain, DELEGATOR)
            target = address_in(homes[chosen])
            made = await account.call("validators", "delegate", [target, DELEGATED], value=DELEGATED)
            doubtful = await account.call("validators", "delegate", [address_in(homes[guilty]), 10**15], value=10**15)
        rules = StakeRules()
        power = (OWN_STAKE + DELEGATED) // rules.unit
        await wait_validator(validators, other, address_in(homes[chosen]), power=power)
        said(f"validator {chosen} has a power of {power}")
        payer = Payer(validators, rng)
        nursery.start_soon(payer.run)
        await validators.goes_on(range(4))
        async with open_twin(validators, guilty):
            found = await wait_validator(validators, other, address_in(homes[guilty]), signedTwiceIn=1)
            said(f"validator {guilty} signed twice in block {found['signedTwiceIn']}, after {payer.sent} transfers")
        await validators.goes_on(range(4), blocks=4)
        found = await look(validators, other, "validator", address_in(homes[guilty]))
        assert found["power"] == 0, "it votes still"
        payer.is_done = True
        await validators.goes_on(range(4))
        await payer.ended.wait()
        await validators.goes_on(range(4))
        await validators.check_agreement()
        await check_payments(validators, payer.sent)
        async with reach(validators.all[other]) as chain:
            done = await LedgerAccount(chain, DELEGATOR).call("validators", "claim", [made.expected["delegation"]])
            assert done.expected["amount"] > 0, "no fee came to who delegated"
        left = 10**15 - 10**15 * rules.slash // 10**6
        for validator in validators.all:
            found = await look(validators, validator.number, "delegation", doubtful.expected["delegation"])
            assert found["amount"] == left
        said(f"{left} coins are left of {10**15} behind the guilty one, the same on all four; the chain went on")


def main() -> int:
    """Run scenarios from a seed on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.runs):
        trio.run(scenario, seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
