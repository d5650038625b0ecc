"""A raffle among all who have a channel with a hub: each ticket is drawn between its holder and the hub, provably fair.

The hub's node and the players' run; each player has a channel with the hub with coins on both sides, as `hub.py` makes
them (net/hub, net/alice). Then:

    python examples/apps/raffle.py draw --node net/hub --price 10 --odds 5 &
    python examples/apps/raffle.py play 3f9a --node net/alice --price 10 --odds 5 --tickets 3 --secrets net/tickets

A ticket costs its price and wins `price * (odds - 1)` with a chance of one in `odds`; the hub can lose several at once,
so it says how many it draws at a time (`--most`).

What makes it fair and safe: the player commits to a secret, the hub names a number, the player shows the secret;
neither can choose the draw. Whoever stops there loses by the rules what the draw can cost. So the player keeps each
secret on disk before it commits to it, and after a crash `play` shows those that are due: who loses its secret loses
the price.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import trio

from tallystick import ControlClient, TallystickError, connect_control, keccak
from tallystick.channels.ports import system_entropy
from tallystick.sdk.control.app_views import AppInfo

WAIT = 20
"""Seconds that one question for news stands."""


def keep(directory: Path) -> str:
    """Make a secret, and return the commitment to it once it is on disk for good."""
    secret = system_entropy(32)
    commitment = keccak(secret).hex()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / commitment).open("x") as file:
        file.write(secret.hex())
        file.flush()
        os.fsync(file.fileno())
    handle = os.open(directory, os.O_RDONLY)
    os.fsync(handle)  # the file's name, too
    os.close(handle)
    return commitment


async def play(arguments: argparse.Namespace) -> None:
    """Buy tickets, and see them drawn, those that a crash left undrawn as well."""
    results: list[AppInfo] = []

    async def see(node: ControlClient, name: str) -> None:
        ticket = await node.apps.app(name)
        while ticket.result is None:
            if ticket.turn == "own" and not ticket.pending:
                secret = (arguments.secrets / ticket.state["commitment"]).read_text()
                ticket = await node.apps.move_app(name, {"secret": secret}, number=ticket.number + 1)
            else:
                ends = ticket.turn is None and ticket.phase in ("ending", "disputed")
                ticket = await node.apps.app(name, wait=WAIT, ended=ends)
        results.append(ticket)
        said = f"wins {ticket.result.gets}" if ticket.result.gets else ticket.text or "does not win"
        print(f"ticket {name[:16]} {said}", flush=True)

    async with connect_control(arguments.node) as node, trio.open_nursery() as nursery:
        for ticket in await node.apps.played_apps():
            if ticket.app == "raffle" and (arguments.secrets / ticket.state["commitment"]).exists():
                nursery.start_soon(see, node, ticket.id)
        for _ in range(arguments.tickets):
            made = await node.apps.open_app(
                arguments.channel,
                "raffle",
                arguments.price,
                peer_stake=arguments.price * (arguments.odds - 1),
                parameters={"holder": 0, "odds": arguments.odds, "commitment": keep(arguments.secrets)},
            )
            nursery.start_soon(see, node, made.id)
    ends = [ticket.result for ticket in results if ticket.result is not None]
    print(f"{len(ends)} tickets: {sum(end.gets for end in ends)} won, {sum(end.pays for end in ends)} paid")


def objection(asked: AppInfo, arguments: argparse.Namespace, drawing: int) -> str:
    """Return why we do not draw that; empty: we do."""
    if asked.app != "raffle" or asked.state["holder"] == asked.player:
        return "we draw tickets only"
    if asked.state["odds"] != arguments.odds or asked.assets != ("0x" + 40 * "0",) * 2:
        return f"our odds are one in {arguments.odds}, for the chain's own coin"
    if asked.stakes != (arguments.price * (arguments.odds - 1), arguments.price):
        return f"a ticket is {arguments.price}, the prize {arguments.price * (arguments.odds - 1)}"
    return "too many tickets are being drawn: try again later" if drawing >= arguments.most else ""


async def draw(arguments: argparse.Namespace) -> None:
    """Draw whatever tickets are bought, for ever; after a crash, go on with those that are not drawn."""
    async with connect_control(arguments.node) as node, trio.open_nursery() as nursery:
        drawing = set[str]()

        async def see(name: str) -> None:
            ticket = await node.apps.app(name)
            while ticket.result is None:
                if ticket.turn == "own" and not ticket.pending:
                    number = {"number": system_entropy(32).hex()}
                    ticket = await node.apps.move_app(name, number, number=ticket.number + 1)
                else:
                    ends = ticket.turn is None and ticket.phase in ("ending", "disputed")
                    ticket = await node.apps.app(name, wait=WAIT, ended=ends)
            drawing.discard(name)
            print(f"ticket {name[:16]}: {ticket.result.gets} for us, {ticket.result.pays} for its holder", flush=True)

        def begin(name: str) -> None:
            drawing.add(name)
            nursery.start_soon(see, name)

        for ticket in await node.apps.played_apps(limit=1_000):
            if ticket.app == "raffle":
                begin(ticket.id)
        print("ready to draw", flush=True)
        while True:
            for asked in await node.apps.app_proposals(wait=WAIT):
                why = objection(asked, arguments, len(drawing))
                try:
                    if why:
                        await node.apps.refuse_app(asked.id, why)
                        continue
                    await node.apps.accept_app(asked.id, wait=False)
                except (
                    TallystickError
                ) as error:  # it was taken back, or our channel has no room: this ticket alone fails
                    print(f"ticket {asked.id[:16]}: {error}", flush=True)
                    await trio.sleep(1)
                else:
                    begin(asked.id)


def main() -> None:
    """Read the command line, and draw or play."""
    parser = argparse.ArgumentParser(description="A raffle through a hub's channels.")
    commands = parser.add_subparsers(required=True)
    for act, text in ((draw, "sell tickets and draw them, as the hub"), (play, "buy tickets")):
        side = commands.add_parser(act.__name__, help=text)
        side.add_argument("--node", type=Path, required=True, help="data directory of the running node")
        side.add_argument("--price", type=int, default=10, help="of a ticket, in the coin's smallest unit")
        side.add_argument("--odds", type=int, default=5, help="one ticket in so many wins")
        side.set_defaults(act=act)
        if act is draw:
            side.add_argument("--most", type=int, default=50, help="tickets at a time: so many prizes can be lost")
    side.add_argument("channel", help="the beginning of the id of the channel with the hub")
    side.add_argument("--tickets", type=int, default=1)
    side.add_argument("--secrets", type=Path, required=True, help="directory of the tickets' secrets")
    arguments = parser.parse_args()
    try:
        trio.run(arguments.act, arguments)
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"raffle: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
