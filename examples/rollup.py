"""Merchants whose channels with a customer are closed in one batch of a rollup, and who then take their coins out.

First, a chain, a rollup and its operator, as in docs/rollup.md. Each of all parties needs a key file and some coins:

    tally rollup operate --data ./operator --rollup 0 --pay-bond &
    python examples/rollup.py --chain http://127.0.0.1:8545 --rollup 0 --desk http://127.0.0.1:9921 \\
        --customer ./customer.key --merchant ./merchant.key --channels 10

The customer opens so many channels to the merchant and pays in each; what is paid within a channel costs nothing and
asks nobody. In the end all are closed at once: each close is 32 bytes of one record. What to copy from here:

- a step is signed by those whom it costs, and handed in with all signatures: for a close that is both;
- the operator's promise is checked (`hand_in` does that) and kept; what it breaks, the chain orders (`force_close`);
- a payment within a channel is a balance proof that both sign and keep; whoever is left alone closes by the newest one,
  on the chain (`close_alone`), and answers who closes by an old one. Here both sides are in one program;
- steps of one account have numbers, so they are signed in a row, without waiting for batches, and each number once:
  what was signed is recorded beside the key, and must not be lost.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from tallystick import CallFailed, PrivateKey
from tallystick.channels.protocol.objects import SignedProof
from tallystick.sdk.rollup.calls import RollupPlace
from tallystick.sdk.rollup.programs import open_rollup_user
from tallystick.sdk.rollup.user import RollupUser
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.rollup.steps import Step

DEPOSIT = 1_000
"""What the customer puts into each channel."""

PRICE = 7
FAR = 2**39
PATIENCE = 60.0
"""Seconds for which an operator may be away."""

PAUSE = 0.3
"""Seconds between two looks at what became of a step."""


def read_key(path: Path) -> PrivateKey:
    """Return the key in a file of 64 hex digits."""
    return PrivateKey(bytes.fromhex(path.read_text().strip()))


async def wait_in_batch(user: RollupUser, step: Step) -> int:
    """Return the number of the batch that has a step."""
    while (found := await user.where(step)).batch is None:
        if found.what == "refused":
            raise SystemExit(f"the step came to nothing: {step}")
        await trio.sleep(PAUSE)
    return found.batch


async def wait_account(user: RollupUser) -> None:
    """Return once the operator has seen the account's deposit."""
    while True:
        try:
            await user.account()
            return
        except CallFailed:
            await trio.sleep(PAUSE)


async def trade(customer: RollupUser, merchant: RollupUser, channels: int, first: int) -> set[int]:
    """Open channels, pay in each, close all; return the numbers of the batches with the closes."""
    opened = [(await customer.open_channel(first + at, merchant.address, DEPOSIT))[0] for at in range(channels)]
    await wait_in_batch(customer, opened[-1])
    print(f"opened {channels} channels", flush=True)
    closes = []
    for at in range(channels):
        left = DEPOSIT - PRICE * (1 + at % 100)  # after some payments within the channel
        signature = await merchant.sign_close(first + at, left, FAR)
        closes.append((await customer.close(first + at, left, FAR, signature))[0])
    return {await wait_in_batch(customer, close) for close in closes}


async def close_alone(customer: RollupUser, merchant: RollupUser, channel: int) -> int:
    """Have a channel closed by the merchant, whose customer has paid in it and is gone; return what that was."""
    opened, _ = await customer.open_channel(channel, merchant.address, DEPOSIT)
    await wait_in_batch(customer, opened)
    parties, newest = await merchant.disputes.parties(channel), None
    for _ in range(2):
        proof = customer.disputes.next_proof(parties, PRICE, newest)
        newest = SignedProof(proof, customer.disputes.sign(parties, proof), merchant.disputes.sign(parties, proof))
    assert newest is not None
    before = (await merchant.account()).balance
    while True:
        try:
            await merchant.disputes.close(channel, newest)
            break
        except Reverted as error:
            if error.code != Revert.WINDOW_OPEN:  # no final batch has the channel yet
                raise
            await trio.sleep(3 * PAUSE)
    print(f"the customer is gone: the merchant closes channel {channel} alone, by proof {proof.seq}", flush=True)
    while not await merchant.disputes.answer(channel, newest):  # noqa: ASYNC110 (the window runs)
        await trio.sleep(3 * PAUSE)
    while (await merchant.account()).balance < before + proof.transferred:  # noqa: ASYNC110
        await trio.sleep(PAUSE)
    return proof.transferred


async def main(options: argparse.Namespace) -> None:
    """Trade once, and take out what the merchant earned."""
    rollup = RollupPlace.read(options.rollup)

    def account(key: Path) -> AbstractAsyncContextManager[RollupUser]:
        """Give an account; what it signs is recorded beside its key."""
        return open_rollup_user(
            key.parent,
            read_key(key),
            url=options.chain,
            rollup=rollup,
            desk=options.desk,
            patience=PATIENCE,
            fee_max=options.fee_max,
            start=options.start,
            accept_terms=options.accept_terms,
        )

    async with account(options.customer) as customer, account(options.merchant) as merchant:
        await customer.deposit((DEPOSIT + options.fee_max) * (options.channels + 1))
        await merchant.deposit(1 + options.fee_max)
        for user in (customer, merchant):
            await wait_account(user)
        batches = await trade(customer, merchant, options.channels, options.first)
        print(f"closed {options.channels} channels in batches {sorted(batches)}", flush=True)
        if options.wait:
            got = await close_alone(customer, merchant, options.first + options.channels)
            print(f"closed a channel alone: the merchant got {got}", flush=True)
        earned = (await merchant.account()).balance
        leaving, _ = await merchant.exit(earned)
        print(f"the merchant takes out {earned}, by batch {await wait_in_batch(merchant, leaving)}", flush=True)
        if options.wait:
            await take_out(merchant)
            print(f"paid {earned} to 0x{merchant.address.hex()} on the chain", flush=True)


async def take_out(merchant: RollupUser) -> None:
    """Wait until the batch is final, and have the chain pay."""
    while await merchant.withdraw() is None:  # noqa: ASYNC110 (the chain tells nobody that a window is over)
        await trio.sleep(3 * PAUSE)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--chain", default="http://127.0.0.1:8545")
    arguments.add_argument("--rollup", required=True)
    arguments.add_argument("--desk", default="http://127.0.0.1:9921")
    arguments.add_argument("--customer", type=Path, required=True)
    arguments.add_argument("--merchant", type=Path, required=True)
    arguments.add_argument("--channels", type=int, default=10)
    arguments.add_argument("--first", type=int, default=1, help="the number of the first channel")
    arguments.add_argument("--fee-max", type=int, default=0, help="what the operator may take for a step")
    arguments.add_argument("--accept-terms", action="store_true", help="deposit though its terms make no sense")
    arguments.add_argument("--start", type=int, default=0, help="a block not after the rollup's first one")
    arguments.add_argument(
        "--wait", action="store_true", help="wait for windows' ends: close one alone, take the coins out"
    )
    trio.run(main, arguments.parse_args())
