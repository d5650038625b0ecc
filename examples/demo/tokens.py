"""An act of `make demo-evm` alone: a channel in a token (ERC-20), whose balances the node itself tells."""

from __future__ import annotations

from ground import TOKENS, RealGround
from stage import Stage

from tallystick.sdk.bench.launcher import DriverProcesses

DEPOSIT, COUNT, AMOUNT, TASKS = 1_000_000, 2_000, 7, 100


async def act_tokens(stage: Stage, processes: DriverProcesses, ground: RealGround) -> None:
    """Alice pays Bob in a token, over a channel of its own."""
    stage.act("Between. Alice pays Bob in a token, too")
    pair = await processes.start_parties({"alice": stage.role("alice"), "bob": stage.role("bob")})
    alice, bob = pair["alice"], pair["bob"]
    opened = await alice.ask("open", peer=bob.first["peer"], deposit=DEPOSIT, asset=f"0x{ground.token.hex()}")
    channel = opened["channel"]
    locked = await ground.reader.tokens(ground.token, ground.chain.contract)
    stage.check(locked == DEPOSIT, f"the token says that the contract holds {locked:,} of it")
    await alice.ask("pay", channel=channel, count=COUNT, tasks=TASKS, amount=AMOUNT, prefix="token")
    await alice.ask("close", channel=channel)
    await bob.ask("wait_gone", channel=channel)
    await alice.stop()
    await bob.stop()
    accounts = (stage.keys["alice"].address, stage.keys["bob"].address, ground.chain.contract)
    hers, his, left = [await ground.reader.tokens(ground.token, account) for account in accounts]
    paid = COUNT * AMOUNT
    whole = (hers, his, left) == (TOKENS - paid, TOKENS + paid, 0)
    stage.check(whole, f"after {COUNT:,} payments, the token says that Bob has {paid:,} more, and the contract nothing")
