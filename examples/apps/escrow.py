"""Sells something whose price is held until the buyer lets it go; an arbiter decides what they cannot agree on.

Both nodes run, and have a channel in which the buyer has coins. The arbiter has a key, and neither node nor channel:

    arbiter=$(python examples/apps/escrow.py key --data demo/arbiter)
    python examples/apps/escrow.py sell --node demo/bob --price 250 --arbiter $arbiter &
    python examples/apps/escrow.py buy a055 --node demo/alice --price 250 --arbiter $arbiter
    python examples/apps/escrow.py say 77c20d11a90be344 release --node demo/alice

Or, if nothing comes (the seller must answer a dispute: it passes, gives the money back, or brings a decision):

    python examples/apps/escrow.py say 77c20d11a90be344 dispute --node demo/alice
    python examples/apps/escrow.py decide 77c20d11a90be344… 100 --data demo/arbiter > decision.json
    python examples/apps/escrow.py say 77c20d11a90be344 decision.json --node demo/bob

What makes it safe: the price is locked before anything is shipped, and the seller's unless it is disputed in time. A
decision names this very escrow by its whole id, so it counts for no other. Who is silent loses: see docs/apps.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import trio

from tallystick import PrivateKey, TallystickError, connect_control, load_key
from tallystick.channels.apps.statements import digest_decision
from tallystick.sdk.control.app_views import AppInfo
from tallystick.sdk.daemon.keystore import KEYSTORE, create, find_password

WAIT = 20
"""Seconds that one question for news stands."""


def open_key(directory: Path) -> PrivateKey:
    """Open the arbiter's key in this directory, or make one."""
    if (directory / KEYSTORE).exists():
        return load_key(directory)
    return create(directory, find_password(None, None), light=True)


async def key(arguments: argparse.Namespace) -> None:
    """Show the arbiter's address."""
    print(open_key(arguments.data).address.hex())


async def decide(arguments: argparse.Namespace) -> None:
    """Sign how much of the price the seller gets: the arbiter's whole work. It should sign one for each escrow."""
    instance = bytes.fromhex(arguments.escrow)
    if len(instance) != 32:
        sys.exit("escrow: a decision is about one escrow: give its whole id, 64 hex digits")
    signature = open_key(arguments.data).sign(digest_decision(instance, arguments.paid))
    print(json.dumps({"do": "decision", "paid": arguments.paid, "signature": signature.hex()}))


async def buy(arguments: argparse.Namespace) -> None:
    """Lock the price; return once it is."""
    async with connect_control(arguments.node) as node:
        now = (await node.info()).block_time
        terms = {"buyer": 0, "arbiter": arguments.arbiter, "default": 0}
        times = {"deadline": now + arguments.seconds, "decide": now + 2 * arguments.seconds}
        made = await node.apps.open_app(
            arguments.channel,
            "escrow",
            arguments.price,
            peer_stake=0,
            parameters=terms | times,
            expiry=now + 4 * arguments.seconds,
            wait=True,
        )
    print(f"escrow {made.id} holds {arguments.price}", flush=True)


def objection(asked: AppInfo, arguments: argparse.Namespace, now: int) -> str:
    """Return why we do not sell by that; empty: we do."""
    state = asked.state
    if asked.app != "escrow" or state["buyer"] == asked.player:
        return "we sell by escrow only"
    if state["arbiter"] != arguments.arbiter or state["price"] != arguments.price:
        return f"the price is {arguments.price}, and the arbiter {arguments.arbiter}"
    if asked.assets[1] != "0x" + 40 * "0":
        return "we take the chain's own coin"
    return "" if state["deadline"] <= now + arguments.longest else "that is too long to wait for our money"


async def sell(arguments: argparse.Namespace) -> None:
    """Accept what fits, for ever, and tell what becomes of it."""
    async with connect_control(arguments.node) as node, trio.open_nursery() as nursery:

        async def follow(name: str) -> None:
            escrow = await node.apps.app(name)
            while escrow.result is None:
                if escrow.state["stage"] == "disputed" and escrow.turn == "own":
                    print(f"escrow {name} is disputed: ask the arbiter, then say what it decided, or pass", flush=True)
                    escrow = await node.apps.app(name, wait=WAIT, ended=True)
                else:
                    escrow = await node.apps.app(name, wait=WAIT)
            print(f"escrow {name} ended: {escrow.result.gets} for us", flush=True)

        for escrow in await node.apps.played_apps():
            nursery.start_soon(follow, escrow.id)
        print("ready to sell", flush=True)
        while True:
            for asked in await node.apps.app_proposals(wait=WAIT):
                if why := objection(asked, arguments, (await node.info()).block_time):
                    await node.apps.refuse_app(asked.id, why)
                    continue
                escrow = await node.apps.accept_app(asked.id)  # from now on the price is locked
                print(f"escrow {asked.id} holds {escrow.stakes[1]}: ship it", flush=True)
                nursery.start_soon(follow, asked.id)


def words(what: str) -> dict[str, str | int]:
    """Read what somebody says: a word, or a file with what the arbiter signed."""
    if not what.endswith(".json"):
        return {"do": what}
    found: dict[str, str | int] = json.loads(Path(what).read_text())
    return found


async def say(arguments: argparse.Namespace) -> None:
    """Make a move: release, dispute, pass, refund, accept, or what the arbiter decided."""
    async with connect_control(arguments.node) as node:
        escrow = await node.apps.move_app(arguments.escrow, arguments.what, wait=False)
    print(f"escrow {escrow.id[:16]} is {escrow.state['stage']}")


def main() -> None:
    """Read the command line, and buy, sell or judge."""
    parser = argparse.ArgumentParser(description="An escrow with an arbiter.")
    commands = parser.add_subparsers(required=True)
    for act, text in ((key, "show the arbiter's address"), (decide, "sign a decision, as the arbiter")):
        judge = commands.add_parser(act.__name__, help=text)
        judge.add_argument("--data", type=Path, required=True, help="directory of the arbiter's key")
        judge.set_defaults(act=act)
    judge.add_argument("escrow", help="its whole id")
    judge.add_argument("paid", type=int, help="what the seller gets")
    for act, text in ((sell, "sell by escrow, for ever"), (buy, "lock a price")):
        trade = commands.add_parser(act.__name__, help=text)
        trade.add_argument("--node", type=Path, required=True, help="data directory of the running node")
        trade.add_argument("--price", type=int, required=True, help="in the coin's smallest unit")
        trade.add_argument("--arbiter", required=True, help="its address, 40 hex digits")
        trade.set_defaults(act=act)
        if act is sell:
            trade.add_argument(
                "--longest", type=int, default=100_000, help="seconds that the buyer may take to dispute"
            )
    trade.add_argument("channel", help="the beginning of a channel's id")
    trade.add_argument("--seconds", type=int, default=3_600, help="to dispute it, and as many to decide then")
    speaker = commands.add_parser("say", help="make a move")
    speaker.add_argument("escrow", help="the beginning of its id")
    speaker.add_argument(
        "what", type=words, help="release, dispute, pass, refund, accept, or a decision's file, *.json"
    )
    speaker.add_argument("--node", type=Path, required=True, help="data directory of the running node")
    speaker.set_defaults(act=say)
    arguments = parser.parse_args()
    try:
        trio.run(arguments.act, arguments)
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"escrow: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
