"""A node joins a chain of validators by a snapshot: `PYTHONPATH=tests python -m simulation.joining`.

Validators take a snapshot every few blocks. A newcomer is told the URLs of two of them and has nothing else: it ends up
with the state of all others, though it never saw the blocks before; it is killed, and goes on; it becomes a validator.
"""

from __future__ import annotations

import random
import sys

import msgspec
import trio

from simulation.stakes import DELEGATOR, address_in, wait_validator
from simulation.validators import PAYEE, WELL_SECONDS, Payer, Validator, Validators, open_validators, reach
from tallystick.channels.protocol.objects import NATIVE
from tallystick.sdk.ledger import LedgerAccount
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.replicated.validator import operator_of
from tallystick.settlement.simulated.ledger import Mint

EVERY = 5
"""Blocks from one snapshot to the next."""


async def wait_synced(newcomer: Validator, height: int) -> int:
    """Return the newcomer's newest block once it is this or a later one."""
    with trio.fail_after(WELL_SECONDS):
        while True:
            try:
                async with reach(newcomer) as chain:
                    number = (await chain.head()).number
                if number >= height:
                    return number
            except ChainUnavailable:
                pass
            await trio.sleep(0.1)


async def join(validators: Validators, name: str = "newcomer") -> Validator:
    """Start a node that has nothing but the URLs of two validators."""
    home = validators.all[0].home.parent / name
    home.mkdir()
    newcomer = Validator(len(validators.all), home)
    newcomer.options = ("--sync", ",".join(each.url for each in validators.all[:2]))
    await newcomer.start()
    return newcomer


async def check_equal(validators: Validators, newcomer: Validator, first: int) -> None:
    """Check that the newcomer has the blocks and balances of the others, and says so where it cannot know."""
    async with reach(validators.all[0]) as one, reach(newcomer) as other:
        height = min((await one.head()).number, (await other.head()).number)
        for number in range(first, height + 1):
            assert await one.header(number) == await other.header(number)
        nonce = await one.nonce(DELEGATOR.address)
        assert await other.nonce(DELEGATOR.address) == nonce
        try:
            await other.blocks(0, 5)
        except ChainError as error:
            assert "snapshot" in str(error), error
        else:
            raise AssertionError("it says something of blocks that it never had")


async def become_validator(validators: Validators, newcomer: Validator) -> None:
    """Let it stake, by the command that operators use; see that it votes."""
    async with reach(validators.all[0]) as chain:
        await LedgerAccount(chain, DELEGATOR).pay(operator_of(newcomer.home).address, 2 * 10**17, NATIVE)
    command = [sys.executable, "-m", "tallystick.sdk.cli", "chain"]
    register = ["register", "--data", str(newcomer.home), "--stake", str(10**17), "--chain", validators.all[0].url]
    await trio.run_process([*command, *register], capture_stdout=True)
    address = address_in(newcomer.home)
    await wait_validator(validators, 1, address, power=100_000)
    await wait_synced(newcomer, await validators.height(0) + 4)
    shown = await trio.run_process([*command, "validators", "--chain", newcomer.url, "--json"], capture_stdout=True)
    found = {each["validator"]: each for each in msgspec.json.decode(shown.stdout)}
    assert len(found) == len(validators.all) + 1
    mine = found[f"0x{address.hex()}"]
    assert mine["power"] == 100_000 and mine["absences"] <= 4, mine


async def scenario(seed: int, count: int = 4, tell: bool = True) -> None:
    """Run one."""
    more = (Mint(DELEGATOR.address, NATIVE, 10**18),)
    options = ("--snapshots", str(EVERY))

    def said(text: str) -> None:
        if tell:
            print(f"seed {seed}: {text}", flush=True)

    async with open_validators(count, more=more, options=options) as validators, trio.open_nursery() as nursery:
        payer = Payer(validators, random.Random(seed))
        nursery.start_soon(payer.run)
        await validators.wait_height(2 * EVERY + 2, range(count))
        newcomer = await join(validators)
        try:
            height = await wait_synced(newcomer, EVERY)
            async with reach(newcomer) as chain:
                first = (await chain.blocks((await chain.head()).number, 1))[0].header.number
            said(f"the newcomer came to block {height} by a snapshot")
            await wait_synced(newcomer, height + 2)
            await check_equal(validators, newcomer, first)
            await newcomer.kill()
            await newcomer.start()
            await wait_synced(newcomer, height + 4)
            payer.is_done = True
            await payer.ended.wait()
            async with reach(validators.all[0]) as chain:
                end = (await chain.head()).number
            await wait_synced(newcomer, end)
            async with reach(newcomer) as chain:
                assert await chain.balance(PAYEE, NATIVE) == payer.sent > 0
            await become_validator(validators, newcomer)
            said("it staked, and votes")
            said(f"killed and started again, it has all {payer.sent} transfers, as the others")
        finally:
            with trio.CancelScope(shield=True):
                await newcomer.kill()


if __name__ == "__main__":
    trio.run(scenario, 1)
