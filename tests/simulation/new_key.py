"""Validators' keys are replaced, with the real engine: `PYTHONPATH=tests python -m simulation.new_key`.

Under payments, the operators of two of four validators replace the keys of their votes by the command. One validator
runs on and puts its key in place by itself; the other one is killed while its key is on its way, and started again.
Then a third one is paused, so that no block comes without the votes of both new keys.
"""

from __future__ import annotations

import random
import sys

import trio

from simulation.stakes import DELEGATOR, address_in, look, wait_validator
from simulation.validators import WELL_SECONDS, Payer, Validators, check_payments, open_validators, reach
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.sdk.ledger import LedgerAccount
from tallystick.settlement.replicated.home import NEXT
from tallystick.settlement.replicated.validator import operator_of
from tallystick.settlement.simulated.ledger import Mint


async def replace_key(validators: Validators, number: int) -> None:
    """Replace a validator's key, by the command that operators use, asking another validator's node."""
    home, other = validators.all[number].home, validators.all[(number + 1) % 4]
    command = [sys.executable, "-m", "tallystick.sdk.cli", "chain", "replace-key", "--data", str(home)]
    await trio.run_process([*command, "--chain", other.url], capture_stdout=True)


async def wait_in_place(validators: Validators, number: int, before: Address) -> Address:
    """Return by what the consensus knows a validator, once its home has its new key."""
    home = validators.all[number].home
    with trio.fail_after(WELL_SECONDS):
        while address_in(home) == before or await trio.Path(home / NEXT).exists():  # noqa: ASYNC110 (files tell nobody)
            await trio.sleep(0.1)
    return address_in(home)


async def scenario(seed: int, tell: bool = True) -> None:
    """Run one: the seed says whose keys are replaced, and when the second one is killed."""
    rng = random.Random(seed)
    running, killed, paused, _ = rng.sample(range(4), 4)

    def said(text: str) -> None:
        if tell:
            print(f"seed {seed}: {text}", flush=True)

    async with (
        open_validators(more=(Mint(DELEGATOR.address, NATIVE, 10**18),)) as validators,
        trio.open_nursery() as nursery,
    ):
        payer = Payer(validators, rng)
        nursery.start_soon(payer.run)
        async with reach(validators.all[paused]) as chain:
            account = LedgerAccount(chain, DELEGATOR)
            for number in (running, killed):
                await account.pay(operator_of(validators.all[number].home).address, 10**16, NATIVE)
        before = {number: address_in(validators.all[number].home) for number in (running, killed)}
        await replace_key(validators, running)
        after = {running: await wait_in_place(validators, running, before[running])}
        said(f"validator {running} votes by a new key, and was never stopped by a person")
        async with trio.open_nursery() as both:
            both.start_soon(replace_key, validators, killed)
            await trio.sleep(rng.uniform(0.2, 3))
            await validators.all[killed].kill()
        await trio.sleep(rng.uniform(0, 2))
        await validators.all[killed].start()
        after[killed] = await wait_in_place(validators, killed, before[killed])
        said(f"validator {killed} was killed meanwhile, and votes by a new key, too")
        await validators.goes_on(range(4), blocks=4)
        validators.all[paused].pause()
        await validators.goes_on([number for number in range(4) if number != paused], blocks=3)
        validators.all[paused].resume()
        await validators.goes_on(range(4), blocks=3)
        payer.is_done = True
        await validators.goes_on(range(4))
        await payer.ended.wait()
        await validators.goes_on(range(4))
        for number, address in after.items():
            found = await wait_validator(validators, paused, address, power=1)
            assert not found["signedTwiceIn"] and not found["jailedUntil"], found
            assert (await look(validators, paused, "key", before[number]))["validator"] == address
        await validators.check_agreement()
        await check_payments(validators, payer.sent)
        said(f"{payer.sent} transfers were made, and three of four went on where both new keys were needed")


def main() -> int:
    """Run scenarios from seed 1 on."""
    for seed in range(1, 1 + int(sys.argv[1]) if sys.argv[1:] else 2):
        trio.run(scenario, seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
