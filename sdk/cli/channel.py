"""`tally channel`: open, look at, fund and close channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import (
    NATIVE,
    AmountArgument,
    Asset,
    ChannelArgument,
    Data,
    Json,
    Wait,
    ask_node,
    example,
    make_group,
    parse_amount,
    parse_channel_or_any,
    parse_fee,
    parse_peer,
    print_result,
)
from tallystick.sdk.cli.tables import show_channel, show_channels, show_policy

if TYPE_CHECKING:
    from tallystick.sdk.control.client import ControlClient
    from tallystick.sdk.control.views import ChannelInfo

MEANWHILE = "It closes once both agree, whether this command waits or not; `tally channel force-close` closes alone."

app = make_group("Open, look at, fund and close channels.")

PEER = "02a1…c3@127.0.0.1:7735"


@app.command("open", epilog=example(f"channel open {PEER} --deposit 1000000"))
def open_(
    peer: Annotated[
        str, Argument(parser=parse_peer, metavar="PEER", help="<public key>@<host>:<port>; a key if connected.")
    ],
    deposit: Annotated[int, Option(parser=parse_amount, metavar="N", help="What this node puts in.")],
    asset: Asset = NATIVE,
    challenge_period: Annotated[int | None, Option(min=1, help="Seconds.", show_default="the settings'")] = None,
    wait: Wait = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Open a channel with a peer; returns when it can be used."""
    found = ask_node(
        data,
        lambda node: node.open_channel(peer, deposit, asset=asset, challenge_period=challenge_period, wait=wait),
    )
    _show(found, as_json)


@app.command("list", epilog=example("channel list"))
def list_(
    everything: Annotated[bool, Option("--all", help="Those that are gone, too.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List this node's channels."""
    found = ask_node(data, lambda node: node.channels())
    shown = [channel for channel in found if everything or channel.phase != "gone"]
    print_result(shown, as_json, show_channels)


@app.command(epilog=example("channel show 3f9a"))
def show(channel: ChannelArgument, data: Data = None, as_json: Json = False) -> None:
    """Show one channel with all its figures."""
    _show(ask_node(data, lambda node: node.channel(channel)), as_json)


@app.command(epilog=example("channel wait 3f9a --receivable 250"))
def wait(
    channel: Annotated[
        str, Argument(parser=parse_channel_or_any, metavar="[ID]", help="The beginning of its id; else any.")
    ] = "",
    spendable: Annotated[
        int | None, Option(parser=parse_fee, metavar="N", help="What this node must be able to pay.")
    ] = None,
    receivable: Annotated[
        int | None, Option(parser=parse_fee, metavar="N", help="What the peer must be able to pay.")
    ] = None,
    timeout: Annotated[float, Option(min=0, help="Seconds to wait at most.")] = 60,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Return once a channel is open, its peer is connected, and so much can be paid or received over it."""

    async def ask(node: ControlClient) -> ChannelInfo:
        from tallystick.sdk.control.waiting import wait_for_channel

        return await wait_for_channel(
            node, channel, spendable=spendable or 0, receivable=receivable or 0, timeout=timeout
        )

    _show(ask_node(data, ask), as_json)


@app.command(epilog=example("channel deposit 3f9a 500000"))
def deposit(
    channel: ChannelArgument, amount: AmountArgument, wait: Wait = True, data: Data = None, as_json: Json = False
) -> None:
    """Add to this node's deposit; returns when the chain has confirmed it."""
    _show(ask_node(data, lambda node: node.deposit(channel, amount, wait=wait)), as_json)


@app.command(epilog=example("channel withdraw 3f9a 200000"))
def withdraw(
    channel: ChannelArgument, amount: AmountArgument, wait: Wait = True, data: Data = None, as_json: Json = False
) -> None:
    """Take an amount out with the peer's consent; the channel stays open."""
    _show(ask_node(data, lambda node: node.withdraw(channel, amount, wait=wait)), as_json)


@app.command(epilog=example("channel close 3f9a"))
def close(
    channel: ChannelArgument,
    wait: Wait = True,
    timeout: Annotated[
        float | None, Option(min=0.1, max=604_800, metavar="SECONDS", help="How long to wait.", show_default="for ever")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Close with the peer's consent: both are paid out at once.

    It waits for a peer that is away. After --timeout seconds the channel is not closed, but will be once the peer
    agrees.
    """

    async def ask(node: ControlClient) -> ChannelInfo | None:
        from tallystick.sdk.cli.patience import waiting_aloud

        return await waiting_aloud(node, channel, MEANWHILE, lambda: node.close(channel, wait=wait, timeout=timeout))

    _show(ask_node(data, ask), as_json)


@app.command("force-close", epilog=example("channel force-close 3f9a"))
def force_close(
    channel: ChannelArgument,
    wait: Annotated[
        bool, Option("--wait/--no-wait", help="Return when all is paid out, after the challenge period.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Close without the peer: for good, and paid out only after the challenge period.

    For a peer that does not answer any more. The node does all that is due on chain by itself, as long as it runs.
    """
    _show(ask_node(data, lambda node: node.force_close(channel, wait=wait)), as_json)


@app.command(epilog=example("channel policy 3f9a --base-fee 2 --ppm 500"))
def policy(
    channel: ChannelArgument,
    base_fee: Annotated[int | None, Option(parser=parse_fee, metavar="N", help="For each payment.")] = None,
    fee_ppm: Annotated[int | None, Option("--ppm", min=0, metavar="N", help="Per million units carried.")] = None,
    minimum: Annotated[int | None, Option("--min", parser=parse_fee, metavar="N", help="The smallest amount.")] = None,
    maximum: Annotated[
        int | None, Option("--max", parser=parse_fee, metavar="N", help="The largest amount of one lock; 0: any.")
    ] = None,
    margin: Annotated[
        int | None, Option(min=0, metavar="SECONDS", help="What locks must have left to their expiry.")
    ] = None,
    enabled: Annotated[bool | None, Option("--enable/--disable", help="Whether to carry payments of others.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show or change what this node asks for carrying payments of others out over a channel.

    What is not named stays as it is; the network is told of changes.
    """
    named = {
        "base_fee": base_fee,
        "fee_ppm": fee_ppm,
        "minimum": minimum,
        "maximum": maximum,
        "margin": margin,
        "enabled": enabled,
    }
    changes = {name: value for name, value in named.items() if value is not None}
    found = ask_node(data, lambda node: node.set_policy(channel, **changes) if changes else node.policy(channel))
    print_result(found, as_json, show_policy)


def _show(channel: ChannelInfo | None, as_json: bool) -> None:
    """Print a channel; None is one whose operation was not waited for."""
    if channel is not None:
        print_result(channel, as_json, show_channel)
    elif as_json:
        say_json({"accepted": True})
    else:
        say("It is on its way; `tally node info` tells if it fails.")
