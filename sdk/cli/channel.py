"""`tally channel`: open, look at, fund and close channels; record what happens to one, to find out why."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tallystick.sdk.cli.files import read_file, require_new, write_file
from tallystick.sdk.cli.options import (
    AmountArgument,
    Asset,
    ChannelArgument,
    Data,
    Json,
    Wait,
    amount_option,
    limit_option,
    parse_channel_or_any,
    parse_hub,
    parse_peer,
)
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shards import telling_of_shards
from tallystick.sdk.cli.shell import (
    MISUSED,
    ask_node,
    example,
    fail,
    make_group,
    print_result,
    run_guarded,
    telling_depth,
    waiting_aloud,
)
from tallystick.sdk.cli.tables import show_channel, show_channels, show_policy, show_replay
from tallystick.sdk.control.kinds import NATIVE_ASSET

if TYPE_CHECKING:
    from tallystick.sdk.control.client import ControlClient
    from tallystick.sdk.control.views import ChannelInfo

MEANWHILE = "It closes once both agree, whether this command waits or not; `tally channel force-close` closes alone."

app = make_group("Open, look at, fund and close channels.", name="channel")

PEER = "02a1…c3@127.0.0.1:7735"


@app.command("open", epilog=example(f"channel open {PEER} --deposit 1000000"))
def open_(
    peer: Annotated[
        str, Argument(parser=parse_peer, metavar="PEER", help="<public key>@<host>:<port>; a key if connected.")
    ],
    deposit: Annotated[int, amount_option(help="What this node puts in.")],
    asset: Asset = NATIVE_ASSET,
    challenge_period: Annotated[int | None, Option(min=1, help="Seconds.", show_default="the settings'")] = None,
    virtual: Annotated[bool, Option("--virtual", help="Over hubs, without a transaction.")] = False,
    over: Annotated[
        str,
        Option(
            metavar="HUB[,HUB]",
            help="Virtual: the hubs to the peer, by address or our channel with the first.",
            show_default="the node finds a way",
        ),
    ] = "",
    peer_deposit: Annotated[int, limit_option(help="Virtual: what the peer puts in.")] = 0,
    seconds: Annotated[
        int | None, Option(min=1, help="Virtual: how long it lasts at most.", show_default="half a day")
    ] = None,
    wait: Wait = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Open a channel with a peer; returns when it can be used.

    With --virtual it goes over hubs: nothing is sent to the chain, and hubs neither see nor carry what is paid in it.
    What is put in is locked in the channels with hubs until this one ends.
    """
    if virtual:
        if challenge_period is not None or not wait:
            fail("a virtual channel has no period of its own, and opens at once", MISUSED)
        hubs = [parse_hub(each) for each in over.split(",") if each]
        made = ask_node(
            data,
            lambda node: node.open_virtual(peer, deposit, peer_deposit, hubs=hubs, asset=asset, seconds=seconds),
        )
        _show(made, as_json)
        return
    if over or peer_deposit or seconds is not None:
        fail("--over, --peer-deposit and --seconds are of virtual channels: say --virtual, too", MISUSED)
    if asset != NATIVE_ASSET and deposit and not as_json:
        by_permit = ask_node(data, lambda node: node.balance(asset)).by_permit
        way = "takes a permit: it goes in one transaction" if by_permit else "is approved first: two transactions"
        say(f"The deposit of this token {way}.")

    async def ask(node: ControlClient) -> ChannelInfo:
        return await telling_depth(
            node,
            peer,
            lambda: telling_of_shards(
                data,
                node,
                lambda: node.open_channel(peer, deposit, asset=asset, challenge_period=challenge_period, wait=wait),
            ),
        )

    _show(ask_node(data, ask), as_json)


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
    spendable: Annotated[int | None, limit_option(help="What this node must be able to pay.")] = None,
    receivable: Annotated[int | None, limit_option(help="What the peer must be able to pay.")] = None,
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

    async def ask(node: ControlClient) -> ChannelInfo | None:
        return await telling_depth(
            node,
            channel,
            lambda: telling_of_shards(data, node, lambda: node.deposit(channel, amount, wait=wait)),
        )

    _show(ask_node(data, ask), as_json)


@app.command(epilog=example("channel withdraw 3f9a 200000"))
def withdraw(
    channel: ChannelArgument, amount: AmountArgument, wait: Wait = True, data: Data = None, as_json: Json = False
) -> None:
    """Take an amount out with the peer's consent; the channel stays open."""
    _show(ask_node(data, lambda node: node.withdraw(channel, amount, wait=wait)), as_json)


@app.command(epilog=example("channel close 3f9a"))
def close(
    channel: Annotated[
        str, Argument(parser=parse_channel_or_any, metavar="[ID]", help="The channel's id, or its beginning.")
    ] = "",
    every: Annotated[bool, Option("--all", help="Close all channels that are open.")] = False,
    wait: Wait = True,
    timeout: Annotated[
        float | None, Option(min=0.1, max=604_800, metavar="SECONDS", help="How long to wait.", show_default="for ever")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Close with the peer's consent: both are paid out at once.

    It waits for a peer that is away. After --timeout seconds the channel is not closed, but will be once the peer
    agrees. With --all, what is agreed upon goes to the chain in few transactions.
    """
    if every == bool(channel):
        fail("name one channel, or say --all", MISUSED)
    if every:
        from tallystick.sdk.control.waiting import close_all

        found = ask_node(data, lambda node: close_all(node, wait=wait, timeout=timeout or math.inf))
        print_result(found, as_json, show_channels)
        return

    async def ask(node: ControlClient) -> ChannelInfo | None:
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
    base_fee: Annotated[int | None, limit_option(help="For each payment.")] = None,
    fee_ppm: Annotated[int | None, Option("--ppm", min=0, metavar="N", help="Per million units carried.")] = None,
    minimum: Annotated[int | None, limit_option("--min", help="The smallest amount.")] = None,
    maximum: Annotated[int | None, limit_option("--max", help="The largest amount of one lock; 0: any.")] = None,
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


@app.command(epilog=example("channel record 3f9a"))
def record(
    channel: ChannelArgument,
    stop: Annotated[bool, Option("--stop", help="Record it no longer, and forget what was recorded.")] = False,
    data: Data = None,
) -> None:
    """Take down what happens to a channel from now on: for support, in the node's memory, until the node ends.

    It costs each payment some time. What is taken down is bounded; `tally channel export` writes it into a file.
    """
    ask_node(data, lambda node: node.record(channel, on=not stop))
    say(
        "It is not recorded any more." if stop else "It is recorded from now on; `tally channel export` writes it down."
    )


@app.command(epilog=example("channel export 3f9a channel.recording"))
def export(
    channel: ChannelArgument,
    file: Annotated[Path, Argument(metavar="FILE", help="A new file.")],
    data: Data = None,
) -> None:
    """Write what was recorded of a channel into a file that may be given away.

    It has no key, secret, signature or memo in it; it does tell who pays whom how much in this channel.
    """
    require_new(file)
    write_file(file, ask_node(data, lambda node: node.recording(channel)).file.encode())
    say(f"{file} holds what was recorded so far; `tally channel replay {file}` shows it.")


@app.command(epilog=example("channel replay channel.recording"))
def replay(
    file: Annotated[Path, Argument(metavar="FILE", help="What `tally channel export` wrote.")],
    as_json: Json = False,
) -> None:
    """Live through what happened to a channel again, and show it state by state. No node, key or data is needed.

    It exits with 1 if a state is not what it was: then this release does something else than the one that recorded it.
    """
    import msgspec

    from tallystick.channels.session.recording.document import read
    from tallystick.channels.session.recording.replay import Replay

    recording = run_guarded(lambda: read(read_file(file)))
    lived = run_guarded(lambda: Replay(recording))
    start = lived.start
    steps = run_guarded(lambda: list(lived.run()))
    if as_json:
        say_json(msgspec.to_builtins({"start": start, "steps": steps, "whole": recording.whole}))
    else:
        show_replay(start, steps, whole=recording.whole)
    wrong = next((step for step in steps if not step.agrees), None)
    if wrong is not None:
        fail(f"from step {wrong.number} on, the states are not those that were recorded: use the release that made it")


def _show(channel: ChannelInfo | None, as_json: bool) -> None:
    """Print a channel; None is one whose operation was not waited for."""
    if channel is not None:
        print_result(channel, as_json, show_channel)
    elif as_json:
        say_json({"accepted": True})
    else:
        say("It is on its way; `tally node info` tells if it fails.")
