"""A program that evens out two pools of the ledger's exchange with borrowed coins, and keeps what that gains.

First, as in docs/ledger.md: a chain, a key, two pools of a pair with the chain's own coin, and a market of `lending`
that has some of that coin. Then:

    tally init --data shop/trader --light
    python examples/arbitrage.py --data shop/trader --token 0x7070707070707070707070707070707070707070

It buys in the pool where the token is cheap, sells in the other one, and pays the loan back, all in one call: either
the whole of it gains, or nothing is done. What to copy from here:

- `value` is left at 0: no coin of the account's own may leave it, so the ledger itself refuses a trade that would lose;
- a call is tried before it is sent, so that looking costs nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import trio

from tallystick import NATIVE, CallFailed, LedgerAccount, load_key, module_call, open_rpc_chain
from tallystick.channels.ports import system_entropy

LATE = 2**63
"""A deadline that is never over: the call is good as long as it gains."""


async def gain(account: LedgerAccount, token: str, market: int, pools: tuple[int, int], amount: int) -> int | None:
    """Buy for `amount` in the first pool, sell in the second one; return what was gained, None if nothing would be."""
    cheap, dear = pools
    try:
        bought = (await account.read("exchange", "quote", [NATIVE, token, cheap, amount]))["amountOut"]
        calls = [
            module_call("exchange", "swap", [NATIVE, token, cheap, amount, bought, LATE]),
            module_call("exchange", "swap", [token, NATIVE, dear, bought, 1, LATE]),
        ]
        done = await account.call("lending", "flash", [market, amount], then=calls)
    except CallFailed:
        return None
    sold = next(told.fields["amountOut"] for told in done.told[1:] if told.event == "Swapped")
    return int(sold - amount - done.told[-1].fields["fee"])


async def even_out(account: LedgerAccount, token: str, market: int, first: int, second: int, most: int) -> int:
    """Trade between two pools until nothing is to be gained, with less each time; return what was gained in all."""
    total, amount = 0, most
    while amount:
        gains = [await gain(account, token, market, pools, amount) for pools in ((first, second), (second, first))]
        found = [each for each in gains if each is not None]
        total += sum(found)
        if not found:
            amount //= 2
    return total


async def main(options: argparse.Namespace) -> None:
    """Even out the pools once, and say what was gained."""
    key = load_key(options.data)
    async with open_rpc_chain(options.chain, jitter=lambda: system_entropy(1)[0] / 256) as chain:
        account = LedgerAccount(chain, key)
        first, second = options.pools
        total = await even_out(account, options.token, options.market, first, second, options.most)
        print(f"gained {total} with coins of others; fees of transactions came out of {await account.balance()} left")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with the key (tally init)")
    parser.add_argument("--token", required=True, help="address of the token")
    parser.add_argument("--pools", type=int, nargs=2, default=(0, 1), help="numbers of the two pools")
    parser.add_argument("--market", type=int, default=0, help="market of lending that has the chain's own coin")
    parser.add_argument("--most", type=int, default=1_000_000, help="the most to borrow at once")
    parser.add_argument("--chain", default="http://127.0.0.1:8545", help="URL of the chain node")
    trio.run(main, parser.parse_args())
