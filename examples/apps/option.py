"""A call option between two nodes, covered in full, exercised against a price that an oracle signed.

Alice buys from Bob, who writes it, the right to what a price rises above the strike. Both trust one oracle for the
price of one feed; it signs prices, and sees no channel. Both nodes run, and have coins in their channel. Then:

    oracle=$(python examples/apps/option.py key --data demo/oracle)
    terms="--oracle $oracle --feed wheat --strike 200"
    python examples/apps/option.py write $terms --node demo/bob --premium 40 &
    python examples/apps/option.py buy a055 $terms --node demo/alice --size 1000 --premium 50
    python examples/apps/option.py sign --data demo/oracle --feed wheat --price 250 > price.json
    python examples/apps/option.py exercise 77c20d11a90be344 price.json --node demo/alice

What makes it safe: the writer's stake covers the most that the holder can get, so nobody owes anything that is not
locked. The writer looks at all terms before it accepts: the oracle, the feed, the strike and the premium are those that
it would offer. The holder has until `due`; if its writer is away then, the node exercises in the chain's court.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import trio

from tallystick import PrivateKey, TallystickError, connect_control, keccak, load_key
from tallystick.channels.apps.statements import digest_price
from tallystick.channels.ports import system_clock
from tallystick.sdk.control.app_views import AppInfo
from tallystick.sdk.daemon.keystore import KEYSTORE, create, find_password

WAIT = 20
"""Seconds that one question for news stands."""


def feed_of(name: str) -> bytes:
    """Return a feed's id: whoever uses it must mean the same by its name."""
    return keccak(name.encode())


def open_key(directory: Path) -> PrivateKey:
    """Open the oracle's key in this directory, or make one."""
    if (directory / KEYSTORE).exists():
        return load_key(directory)
    return create(directory, find_password(None, None), light=True)


async def key(arguments: argparse.Namespace) -> None:
    """Show the oracle's address."""
    print(open_key(arguments.data).address.hex())


async def sign(arguments: argparse.Namespace) -> None:
    """Sign a price of now, or of another time: the oracle's whole work."""
    time = int(system_clock()) if arguments.time is None else arguments.time
    signature = open_key(arguments.data).sign(digest_price(feed_of(arguments.feed), arguments.price, time))
    print(json.dumps({"price": arguments.price, "time": time, "signature": signature.hex()}))


async def buy(arguments: argparse.Namespace) -> None:
    """Propose a call, of which this node is the holder."""
    async with connect_control(arguments.node) as node:
        now = (await node.info()).block_time
        terms = {"kind": "call", "holder": 0, "oracle": arguments.oracle, "feed": feed_of(arguments.feed).hex()}
        amounts = {"strike": arguments.strike, "size": arguments.size, "unit": 1}
        window = {"after": now, "before": now + arguments.seconds, "due": now + 2 * arguments.seconds}
        made = await node.apps.open_app(
            arguments.channel,
            "option",
            arguments.premium,
            peer_stake=arguments.size,
            parameters=terms | amounts | window,
            expiry=now + 4 * arguments.seconds,
            wait=True,
        )
    print(f"option {made.id} is bought", flush=True)


def objection(asked: AppInfo, arguments: argparse.Namespace) -> str:
    """Return why we do not write that; empty: we do."""
    if asked.app != "option":
        return "we write options only"
    state, (cover, premium) = asked.state, asked.stakes
    if (state["oracle"], state["feed"]) != (arguments.oracle, feed_of(arguments.feed).hex()):
        return f"we know another oracle, and the feed {arguments.feed}"
    if (state["kind"], state["unit"], state["holder"]) != ("call", 1, 1 - asked.player):
        return "we write calls only, for one unit"
    if state["strike"] < arguments.strike or premium * 1_000 < cover * arguments.premium:
        return f"we write at {arguments.strike} or more, for {arguments.premium} per thousand"
    if asked.assets[0] != asked.assets[1] or cover > arguments.most:
        return f"we cover {arguments.most} at most"
    return ""


async def write(arguments: argparse.Namespace) -> None:
    """Write what fits, for ever: what follows of each, our node does by itself."""
    async with connect_control(arguments.node) as node:
        print("ready to write", flush=True)
        while True:
            for asked in await node.apps.app_proposals(wait=WAIT):
                why = objection(asked, arguments)
                if why:
                    await node.apps.refuse_app(asked.id, why)
                else:
                    await node.apps.accept_app(asked.id, wait=False)
                print(f"option {asked.id[:16]}: {why or 'written'}", flush=True)


async def exercise(arguments: argparse.Namespace) -> None:
    """Exercise at a signed price; the rules refuse one at which the option is worth nothing, or is of another time."""
    signed = json.loads(arguments.price.read_text())
    async with connect_control(arguments.node) as node:
        option = await node.apps.move_app(arguments.option, signed, number=1, wait=False)
        while option.result is None:  # should the writer be away, our node goes to court
            option = await node.apps.app(option.id, wait=WAIT, ended=True)
        print(
            f"option {option.id[:16]} ended: {option.result.gets} for us, the premium of {option.result.pays} is paid"
        )


def main() -> None:
    """Read the command line and trade."""
    parser = argparse.ArgumentParser(description="Options that are settled in cash, by a signed price.")
    commands = parser.add_subparsers(required=True)
    for act, text in ((key, "show the oracle's address"), (sign, "sign a price, as the oracle")):
        oracle = commands.add_parser(act.__name__, help=text)
        oracle.add_argument("--data", type=Path, required=True, help="directory of the oracle's key")
        oracle.set_defaults(act=act)
    oracle.add_argument("--feed", required=True, help="what the price is of")
    oracle.add_argument("--price", type=int, required=True, help="units of cash for one of what is traded")
    oracle.add_argument("--time", type=int, help="chain time that it is of; else now")
    for act, text in ((write, "write what others want to buy"), (buy, "buy a call")):
        trade = commands.add_parser(act.__name__, help=text)
        trade.add_argument("--node", type=Path, required=True, help="data directory of the running node")
        trade.add_argument("--oracle", required=True, help="its address, 40 hex digits")
        trade.add_argument("--feed", required=True, help="what the price is of")
        trade.add_argument("--strike", type=int, required=True, help="the price; the lowest at which we write")
        trade.add_argument("--premium", type=int, required=True, help="to buy: in all; to write: per thousand of size")
        trade.set_defaults(act=act)
        if act is write:
            trade.add_argument("--most", type=int, default=1_000_000, help="what we cover at most")
    trade.add_argument("channel", help="the beginning of a channel's id")
    trade.add_argument("--size", type=int, required=True, help="how much is traded")
    trade.add_argument("--seconds", type=int, default=3_600, help="for how long prices count")
    taker = commands.add_parser("exercise", help="take what a price gives")
    taker.add_argument("option", help="the beginning of its id")
    taker.add_argument("price", type=Path, help="file with what the oracle signed")
    taker.add_argument("--node", type=Path, required=True, help="data directory of the running node")
    taker.set_defaults(act=exercise)
    arguments = parser.parse_args()
    try:
        trio.run(arguments.act, arguments)
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"option: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
