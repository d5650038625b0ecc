"""Plays noughts and crosses for stakes with whoever challenges it, and challenges others: play to earn, unattended.

It talks to nodes that run already and have a channel with coins on both sides (README: two nodes). Then:

    python examples/apps/game.py --node demo/bob serve --most 1000 &
    python examples/apps/game.py --node demo/alice challenge a055 --stake 100

What makes it safe: the node signs nothing that the rules forbid, keeps each move on disk before it is sent, and takes
who stalls to the chain's court by itself. The program keeps nothing: after a crash it goes on with what the node plays,
and each move names the state that it leads to (`number`), so that none is made twice. What it accepts, it looks at
before: the rules, both stakes, and how long they may be locked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

from tallystick import ControlClient, TallystickError, connect_control
from tallystick.sdk.control.app_views import AppInfo

WAIT = 20
"""Seconds that one question for news stands."""
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


def choose(board: str, own: str) -> int:
    """Return a cell: one that wins, or keeps the other from winning, or the best that is free."""
    for mark in (own, "XO".replace(own, "")):
        for line in LINES:
            row = [board[cell] for cell in line]
            if row.count(mark) == 2 and "." in row:
                return line[row.index(".")]
    return next(cell for cell in (4, 0, 2, 6, 8, 1, 3, 5, 7) if board[cell] == ".")


def objection(asked: AppInfo, most: int, now: int, longest: int) -> str:
    """Return why we do not play that; empty: we do."""
    if asked.app != "tictactoe":
        return "we play tictactoe only"
    own, theirs = asked.stakes
    if asked.assets[0] != asked.assets[1] or not 0 < own <= min(most, theirs):
        return f"we stake at most {most}, and no more than the other"
    return "" if asked.expiry <= now + longest else f"our stake would be locked for more than {longest} s"


async def play(node: ControlClient, name: str) -> None:
    """Play a game to its end."""
    game = await node.apps.app(name)
    while game.result is None:
        if game.turn == "own" and not game.pending:
            cell = choose("".join(game.state["rows"]), "XO"[game.player])
            game = await node.apps.move_app(game.id, {"cell": cell}, number=game.number + 1)
        else:  # once nobody moves any more, only its end is news
            ends = game.turn is None and game.phase in ("ending", "disputed")
            game = await node.apps.app(game.id, wait=WAIT, ended=ends)
    print(
        f"game {game.id[:16]} ended: {game.result.gets} won, {game.result.pays} lost {game.text}".rstrip(), flush=True
    )


async def challenge(node: ControlClient, arguments: argparse.Namespace) -> None:
    """Propose one game, and play it."""
    game = await node.apps.open_app(arguments.channel, "tictactoe", arguments.stake)
    print(f"game {game.id[:16]} for {arguments.stake} is proposed", flush=True)
    await play(node, game.id)


async def serve(node: ControlClient, arguments: argparse.Namespace) -> None:
    """Take up whatever fits, for ever; after a crash, go on with all that is played."""
    async with trio.open_nursery() as nursery:
        for game in await node.apps.played_apps():
            if game.app == "tictactoe":
                nursery.start_soon(play, node, game.id)
        print("ready to play", flush=True)
        while True:
            for asked in await node.apps.app_proposals(wait=WAIT):
                why = objection(asked, arguments.most, (await node.info()).block_time, arguments.longest)
                try:
                    if why:
                        await node.apps.refuse_app(asked.id, why)
                        continue
                    await node.apps.accept_app(asked.id, wait=False)
                except TallystickError as error:  # it was taken back, or our channel has no room: this game alone fails
                    print(f"game {asked.id[:16]}: {error}", flush=True)
                    await trio.sleep(1)
                else:
                    nursery.start_soon(play, node, asked.id)


async def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    async with connect_control(arguments.node) as node:
        await arguments.act(node, arguments)


def main() -> None:
    """Read the command line and play."""
    parser = argparse.ArgumentParser(description="Play noughts and crosses for stakes.")
    parser.add_argument("--node", type=Path, required=True, help="data directory of the running node")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("challenge", help="propose a game, and play it")
    one.add_argument("channel", help="the beginning of a channel's id")
    one.add_argument("--stake", type=int, default=100, help="of each, in the asset's smallest unit")
    one.set_defaults(act=challenge)
    all_of_them = commands.add_parser("serve", help="play with whoever proposes a game")
    all_of_them.add_argument("--most", type=int, default=1_000, help="the largest stake")
    all_of_them.add_argument("--longest", type=int, default=100_000, help="seconds that a stake may be locked")
    all_of_them.set_defaults(act=serve)
    try:
        trio.run(run, parser.parse_args())
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"game: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
