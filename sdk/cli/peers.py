"""`tally peers`: who is known and connected; connect to somebody."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context

from tallystick.sdk.cli.options import Data, Json, parse_peer
from tallystick.sdk.cli.screen import say
from tallystick.sdk.cli.shell import ask_node, example, make_group, print_result
from tallystick.sdk.cli.tables import show_peers

app = make_group("List peers, connect to one.", name="peers", invoke_without_command=True)


@app.callback()
def default(context: Context, data: Data = None, as_json: Json = False) -> None:
    """List peers (without a subcommand), connect to one."""
    if context.invoked_subcommand is None:
        list_(data, as_json)


@app.command("list", epilog=example("peers list --json"))
def list_(data: Data = None, as_json: Json = False) -> None:
    """List the peers that this node knows, and whether they are connected."""
    print_result(ask_node(data, lambda node: node.peers()), as_json, show_peers)


@app.command(epilog=example("peers connect 02a1…c3@127.0.0.1:7735"))
def connect(
    address: Annotated[str, Argument(parser=parse_peer, metavar="ADDR", help="<public key>@<host>:<port>.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Connect to a peer, and stay connected."""
    found = ask_node(data, lambda node: node.connect(address))
    print_result(found, as_json, lambda peer: say(f"Connected to {peer.public_key}."))
