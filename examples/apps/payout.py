"""Pays out of a treasury what m of n members vote for, without a transaction for a vote or a payment.

The treasurer's node and the payee's run, and have a channel in which the treasurer has coins. Members have keys only:

    ann=$(python examples/apps/payout.py key --data demo/ann)          # and so on for ben and cid
    python examples/apps/payout.py fund a055 --node demo/alice --most 900 --needed 2 --members $ann $ben $cid
    python examples/apps/payout.py accept --node demo/bob --least 500 --needed 2 --members $ann $ben $cid
    python examples/apps/payout.py vote 77c20d11…8e 600 --data demo/ann > ann.json      # its whole id
    python examples/apps/payout.py vote 77c20d11…8e 600 --data demo/cid > cid.json
    python examples/apps/payout.py collect 77c20d11a90be344 ann.json cid.json --node demo/bob

What makes it safe: the most that can be paid is locked before anybody works for it, and a vote is for this pay-out and
an amount, so it counts nowhere else. A member signs one amount only: of two that enough signed, the payee shows the one
it likes. Should the treasurer be away, the payee's node brings the votes to the chain's court.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import trio

from tallystick import PrivateKey, TallystickError, connect_control, load_key
from tallystick.channels.apps.statements import digest_vote
from tallystick.sdk.control.app_views import AppInfo
from tallystick.sdk.daemon.keystore import KEYSTORE, create, find_password

WAIT = 20
"""Seconds that one question for news stands."""


def open_key(directory: Path) -> PrivateKey:
    """Open a member's key in this directory, or make one."""
    if (directory / KEYSTORE).exists():
        return load_key(directory)
    return create(directory, find_password(None, None), light=True)


async def key(arguments: argparse.Namespace) -> None:
    """Show a member's address."""
    print(open_key(arguments.data).address.hex())


async def vote(arguments: argparse.Namespace) -> None:
    """Sign what is to be paid: a member's whole work."""
    instance, member = bytes.fromhex(arguments.payout), open_key(arguments.data)
    if len(instance) != 32:
        sys.exit("payout: a vote is about one pay-out: give its whole id, 64 hex digits")
    signature = member.sign(digest_vote(instance, arguments.paid)).hex()
    print(json.dumps({"member": member.address.hex(), "paid": arguments.paid, "signature": signature}))


async def fund(arguments: argparse.Namespace) -> None:
    """Lock the most that can be paid, as the treasurer; return once it is."""
    async with connect_control(arguments.node) as node:
        due = (await node.info()).block_time + arguments.seconds
        made = await node.apps.open_app(
            arguments.channel,
            "payout",
            arguments.most,
            peer_stake=0,
            parameters={"payee": 1, "members": sorted(arguments.members), "needed": arguments.needed, "due": due},
            expiry=due + arguments.seconds,
            wait=True,
        )
    print(f"pay-out {made.id} holds {arguments.most}", flush=True)


def fits(asked: AppInfo, arguments: argparse.Namespace) -> bool:
    """Whether that is what the payee was promised: who votes, how many must, and what can be paid."""
    state = asked.state
    return (
        asked.app == "payout"
        and (state["payee"], state["needed"]) == (asked.player, arguments.needed)
        and state["members"] == sorted(arguments.members)
        and state["most"] >= arguments.least
        and asked.assets[1] == "0x" + 40 * "0"
    )


async def accept(arguments: argparse.Namespace) -> None:
    """Accept the one pay-out that fits, as the payee, and refuse all others."""
    async with connect_control(arguments.node) as node:
        while True:
            for asked in await node.apps.app_proposals(wait=WAIT):
                if fits(asked, arguments):
                    made = await node.apps.accept_app(asked.id)
                    print(f"pay-out {made.id} holds {made.stakes[1]}", flush=True)
                    return
                await node.apps.refuse_app(asked.id, "these are not the members, or the amount, that we agreed on")


async def collect(arguments: argparse.Namespace) -> None:
    """Show the votes, as the payee; return once it is paid."""
    votes = {each["member"]: each for each in (json.loads(file.read_text()) for file in arguments.votes)}
    async with connect_control(arguments.node) as node:
        payout = await node.apps.app(arguments.payout)
        members: list[str] = payout.state["members"]
        voters = [member for member in members if member in votes]  # in their order, as the rules want it
        move = {
            "paid": votes[voters[0]]["paid"] if voters else 0,
            "members": [members.index(member) for member in voters],
            "signatures": [votes[member]["signature"] for member in voters],
        }
        payout = await node.apps.move_app(payout.id, move, number=1, wait=False)
        while payout.result is None:  # should the treasurer be away, our node goes to court
            payout = await node.apps.app(payout.id, wait=WAIT, ended=True)
    print(f"pay-out {payout.id[:16]} ended: {payout.result.gets} for us")


def main() -> None:
    """Read the command line, and vote, pay or be paid."""
    parser = argparse.ArgumentParser(description="Pay what members vote for.")
    commands = parser.add_subparsers(required=True)
    for act, text in ((key, "show a member's address"), (vote, "sign what is to be paid, as a member")):
        member = commands.add_parser(act.__name__, help=text)
        member.add_argument("--data", type=Path, required=True, help="directory of the member's key")
        member.set_defaults(act=act)
    member.add_argument("payout", help="its whole id")
    member.add_argument("paid", type=int)
    for act, text in ((fund, "lock the money, as the treasurer"), (accept, "accept that, as the payee")):
        side = commands.add_parser(act.__name__, help=text)
        side.add_argument("--node", type=Path, required=True, help="data directory of the running node")
        side.add_argument("--members", nargs="+", required=True, help="their addresses, 40 hex digits each")
        side.add_argument("--needed", type=int, required=True, help="how many must sign")
        side.set_defaults(act=act)
        if act is fund:
            side.add_argument("channel", help="the beginning of a channel's id")
            side.add_argument("--most", type=int, required=True, help="that can be paid")
            side.add_argument("--seconds", type=int, default=3_600, help="until the votes must be shown")
    side.add_argument("--least", type=int, required=True, help="that must be locked for us")
    taker = commands.add_parser("collect", help="show the votes, as the payee")
    taker.add_argument("payout", help="the beginning of its id")
    taker.add_argument("votes", nargs="+", type=Path, help="files with what members signed")
    taker.add_argument("--node", type=Path, required=True, help="data directory of the running node")
    taker.set_defaults(act=collect)
    arguments = parser.parse_args()
    try:
        trio.run(arguments.act, arguments)
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"payout: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
