"""`tally app`: play apps with a peer (games, options, loans, an escrow): propose, accept, move, end, go to court."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter, Option

from tallystick.sdk.cli.app_tables import show_app, show_apps, show_rules
from tallystick.sdk.cli.options import (
    ChannelArgument,
    Data,
    Json,
    limit_option,
    parse_after,
    parse_app,
    parse_channel_or_any,
)
from tallystick.sdk.cli.screen import facts, say
from tallystick.sdk.cli.shell import ask_node, example, make_group, print_result

if TYPE_CHECKING:
    from tallystick.sdk.control.app_views import AppInfo
    from tallystick.sdk.control.client import ControlClient

DIGITS_MOST = 39
"""Of a number that an app takes; what has more is bytes in hex."""
PAGE = 1_000
"""Apps that are asked for at once."""
POLL_SECONDS = 20
"""How long one question for news stands."""

app = make_group("Play apps with a peer: games, options, loans, an escrow.", name="app")

AppArgument = Annotated[
    str, Argument(parser=parse_app, metavar="ID", help="The app's id, or an unambiguous beginning of it.")
]
WordsArgument = Annotated[
    list[str] | None,
    Argument(
        metavar="[NAME=VALUE]...",
        help="As `tally app rules` lists them: numbers, texts, bytes in hex; with commas several; +N is N seconds from "
        "now in chain time.",
        show_default=False,
    ),
]
Gets = Annotated[int, limit_option("--get", help="What this node gets of the peer's stake.")]
Pays = Annotated[int, limit_option("--pay", help="What the peer gets of this node's stake.")]


def _value(text: str, now: int) -> int | str:
    digits = text.removeprefix("+").removeprefix("-")
    if not re.fullmatch(f"[0-9]{{1,{DIGITS_MOST}}}", digits):
        return text
    return now + int(digits) if text.startswith("+") else int(text)


def parse_words(given: list[str], now: int = 0) -> dict[str, int | str | list[int | str]]:
    """Read NAME=VALUE words; raise BadParameter. A comma makes a list, also one behind a single value."""
    found: dict[str, int | str | list[int | str]] = {}
    for word in given:
        name, is_there, value = word.partition("=")
        if not is_there or not name or name in found:
            raise BadParameter(f"{word!r} must be one of several different NAME=VALUE: `tally app rules` lists names")
        several = [_value(each, now) for each in value.split(",") if each]
        found[name] = several if "," in value else _value(value, now)
    return found


async def _words(node: ControlClient, given: list[str] | None) -> dict[str, int | str | list[int | str]]:
    relative = any("=+" in word or ",+" in word for word in given or ())
    return parse_words(given or [], (await node.info()).block_time if relative else 0)


async def _all_played(node: ControlClient) -> list[AppInfo]:
    """Return all apps that are not over, page by page."""
    found = page = await node.apps.played_apps(limit=PAGE)
    while len(page) == PAGE:
        page = await node.apps.played_apps(limit=PAGE, after=page[-1].id)
        found = [*found, *page]
    return found


def _say_app(info: AppInfo, as_json: bool) -> None:
    print_result(info, as_json, show_app)


@app.command(epilog=example("app rules"))
def rules(
    name: Annotated[str, Argument(metavar="[APP]", help="One app by its name; else all.")] = "",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the apps that the node has the rules of, with their parameters and moves in words."""
    found = ask_node(data, lambda node: node.apps.app_rules())
    print_result([one for one in found if name in ("", one.app)], as_json, show_rules)


@app.command("list", epilog=example("app list"))
def list_(
    everything: Annotated[bool, Option("--all", help="Those that are over, too.")] = False,
    limit: Annotated[int, Option(min=1, max=1_000, help="Of those that are over, at most so many.")] = 100,
    after: Annotated[
        str | None, Option(metavar="ID", parser=parse_after, help="Of those that are over alone: only behind this id.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the apps that this node plays, and what peers propose.

    Those that are over come in order of their ids. If there are as many as --limit, ask for the next ones with --all
    --after and the last id, all 64 digits of it (--json shows them).
    """
    if after is not None and not everything:
        raise BadParameter("--after goes on with the apps that are over: give --all, too")

    async def ask(node: ControlClient) -> list[AppInfo]:
        if after is not None:
            return await node.apps.played_apps(over=True, limit=limit, after=after)
        found = [*await node.apps.app_proposals(), *await _all_played(node)]
        return [*found, *await node.apps.played_apps(over=True, limit=limit)] if everything else found

    print_result(ask_node(data, ask), as_json, show_apps)


@app.command(epilog=example("app proposals"))
def proposals(
    wait: Annotated[int, Option(min=0, max=60, metavar="SECONDS", help="Wait for one, if there is none.")] = 0,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List what peers propose: it waits here until you accept or refuse it, or it is too late."""
    print_result(ask_node(data, lambda node: node.apps.app_proposals(wait=wait)), as_json, show_apps)


@app.command(epilog=example("app show 3f9a"))
def show(app: AppArgument, data: Data = None, as_json: Json = False) -> None:
    """Show one app: who is to move, what is offered, how it stands, and what to do."""
    _say_app(ask_node(data, lambda node: node.apps.app(app)), as_json)


@app.command("open", epilog=example("app open 3f9a tictactoe --stake 100"))
def open_(
    channel: ChannelArgument,
    name: Annotated[str, Argument(metavar="APP", help="Its name, as `tally app rules` lists it.")],
    stake: Annotated[int, limit_option(help="What this node stakes; 0: nothing.")],
    words: WordsArgument = None,
    peer_stake: Annotated[
        int | None, limit_option(help="What the peer stakes.", show_default="as much as this node")
    ] = None,
    lifetime: Annotated[
        int, Option(min=0, metavar="SECONDS", help="How long the stakes are locked at most, short of a dispute.")
    ] = 86_400,
    period: Annotated[int, Option(min=0, metavar="SECONDS", help="What a player has for a move in court.")] = 600,
    wait: Annotated[
        bool, Option("--wait/--no-wait", help="Return when it has begun, or as soon as it is proposed.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Propose an app to the peer of a channel. The peer's owner accepts or refuses it."""

    async def ask(node: ControlClient) -> AppInfo:
        expiry = (await node.info()).block_time + lifetime
        parameters = await _words(node, words)
        return await node.apps.open_app(
            channel,
            name,
            stake,
            peer_stake=peer_stake,
            parameters=parameters,
            expiry=expiry,
            period=period,
            wait=wait,
        )

    _say_app(ask_node(data, ask), as_json)


@app.command(epilog=example("app accept 3f9a8c1102aa7be4"))
def accept(
    app: Annotated[str, Argument(parser=parse_app, metavar="ID", help="The first 16 digits of its id at least.")],
    channel: Annotated[
        str,
        Option("--channel", parser=parse_channel_or_any, metavar="ID", help="Where to lock our stake; else any."),
    ] = "",
    wait: Annotated[
        bool, Option("--wait/--no-wait", help="Return when it has begun, or as soon as it is on its way.")
    ] = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say yes to what a peer proposed, and lock this node's stake. Look at it before, with `tally app show`."""
    _say_app(ask_node(data, lambda node: node.apps.accept_app(app, channel=channel, wait=wait)), as_json)


@app.command(epilog=example("app refuse 3f9a --why 'not today'"))
def refuse(
    app: AppArgument,
    why: Annotated[str, Option("--why", metavar="TEXT", help="The peer is told.")] = "",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say no to what a peer proposed, or take back what this node proposed and has not begun."""
    _say_app(ask_node(data, lambda node: node.apps.refuse_app(app, why)), as_json)


@app.command(epilog=example("app move 3f9a cell=4"))
def move(
    app: AppArgument,
    words: WordsArgument = None,
    number: Annotated[
        int | None, Option(min=1, metavar="N", help="Of the state that it leads to: then a repeated move is refused.")
    ] = None,
    wait: Annotated[
        bool, Option("--wait/--no-wait", help="Return when the peer has it, or as soon as it is signed.")
    ] = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Move, in the app's words."""

    async def ask(node: ControlClient) -> AppInfo:
        return await node.apps.move_app(app, await _words(node, words), number=number, wait=wait)

    _say_app(ask_node(data, ask), as_json)


@app.command(epilog=example("app wait 3f9a"))
def wait(
    app: AppArgument,
    ended: Annotated[bool, Option("--end", help="Wait for its end alone.")] = False,
    timeout: Annotated[float, Option(min=0, help="Seconds to wait at most.")] = 3_600,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Return when it is this node's turn, the peer offers something, or nobody moves any more."""

    async def ask(node: ControlClient) -> AppInfo:
        import trio

        deadline = trio.current_time() + timeout
        while True:
            left = max(0, min(POLL_SECONDS, int(deadline - trio.current_time())))
            asked = trio.current_time()
            info = await node.apps.app(app, wait=left, ended=ended)
            if trio.current_time() - asked < left or info.phase == "ended" or trio.current_time() >= deadline - 1:
                return info

    _say_app(ask_node(data, ask), as_json)


@app.command(epilog=example("app offer 3f9a --get 50"))
def offer(app: AppArgument, gets: Gets = 0, pays: Pays = 0, data: Data = None, as_json: Json = False) -> None:
    """Offer to end it so. Once: the peer can take an offer at any later time, whatever is played since."""
    _say_app(ask_node(data, lambda node: node.apps.offer_outcome(app, gets=gets, pays=pays)), as_json)


@app.command(epilog=example("app take 3f9a --get 50"))
def take(app: AppArgument, gets: Gets = 0, pays: Pays = 0, data: Data = None, as_json: Json = False) -> None:
    """End it as the peer offers, if that is exactly what is said here."""
    _say_app(ask_node(data, lambda node: node.apps.take_offer(app, gets=gets, pays=pays)), as_json)


@app.command(epilog=example("app resign 3f9a"))
def resign(app: AppArgument, data: Data = None, as_json: Json = False) -> None:
    """Give it up at this node's turn: it ends as the rules say of a player that does not move."""
    _say_app(ask_node(data, lambda node: node.apps.resign_app(app)), as_json)


@app.command(epilog=example("app dispute 3f9a"))
def dispute(app: AppArgument, data: Data = None, as_json: Json = False) -> None:
    """Let the chain's court decide, from the newest state that both signed. A node does so by itself, too."""
    _say_app(ask_node(data, lambda node: node.apps.dispute_app(app)), as_json)


@app.command(epilog=example("app secret --hand rock"))
def secret(
    hand: Annotated[str, Option("--hand", metavar="HAND", help="For rps: rock, paper or scissors.")] = "",
    as_json: Json = False,
) -> None:
    """Make a random secret and the commitment to it, for one app alone. Keep it: who loses its own loses its stake."""
    from tallystick.channels.apps.rps import commitment_of
    from tallystick.channels.ports import system_entropy
    from tallystick.channels.protocol.keys import keccak
    from tallystick.sdk.cli.shell import run_guarded

    made = system_entropy(32)
    commitment = run_guarded(lambda: commitment_of(hand, made)) if hand else keccak(made)
    found = {"hand": hand, "salt": made.hex()} if hand else {"secret": made.hex()}
    print_result(found | {"commitment": commitment.hex()}, as_json, lambda shown: facts(dict(shown)))
    if not as_json:
        say("Nobody may see it before its move, and it is for one app.")
