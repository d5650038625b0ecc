"""`tally stream`: open a stream of tiny payments, pay units of it (at a rate, if need be), end it, see what pends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tallystick.sdk.cli.options import ChannelArgument, Data, Json, amount_option
from tallystick.sdk.cli.screen import say
from tallystick.sdk.cli.shell import ask_node, example, make_group, print_result
from tallystick.sdk.cli.tables import stream_line

if TYPE_CHECKING:
    from tallystick.sdk.control.client import ControlClient
    from tallystick.sdk.control.views import StreamInfo

app = make_group("Pay by the unit: open a stream, pay units of it, end it.", name="stream")

LockArgument = Annotated[int, Argument(metavar="LOCK", min=0, help="The stream's lock, as `open` showed it.")]


def _show(stream: StreamInfo) -> None:
    say(stream_line(stream))


@app.command("open", epilog=example("stream open 3f9a --unit 10 --length 5000"))
def open_(
    channel: ChannelArgument,
    unit: Annotated[int, amount_option(help="What one unit is worth, in the asset's smallest unit.")],
    length: Annotated[int, Option(min=1, max=65_536, help="How many units it has.")],
    lifetime: Annotated[int, Option(min=600, help="Seconds until it expires.")] = 86_400,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Open a stream: the worth of all its units is set aside until it ends."""
    opened = ask_node(data, lambda node: node.open_stream(channel, unit, length, lifetime=lifetime))
    print_result(opened, as_json, _show)


@app.command(epilog=example("stream pay 3f9a 0 100 --every 1"))
def pay(
    channel: ChannelArgument,
    lock: LockArgument,
    units: Annotated[int, Argument(metavar="UNITS", min=1, help="How many units.")] = 1,
    every: Annotated[
        float | None, Option(metavar="SECONDS", min=0.001, help="Pay so many again and again, until it is used up.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Pay units; returns when the payee holds them durably."""

    async def ask(node: ControlClient) -> None:
        stream = await node.pay_units(channel, lock, units)
        print_result(stream, as_json, _show)
        if every is None:
            return
        import trio

        due = trio.current_time()
        while stream.units + units <= stream.length:
            due += every
            await trio.sleep_until(due)
            stream = await node.pay_units(channel, lock, units)
            print_result(stream, as_json, _show)

    ask_node(data, ask)


@app.command(epilog=example("stream close 3f9a 0"))
def close(channel: ChannelArgument, lock: LockArgument, data: Data = None, as_json: Json = False) -> None:
    """End a stream: what was paid is in the channel's balance, and the rest can be spent again."""
    print_result(ask_node(data, lambda node: node.close_stream(channel, lock)), as_json, _show)


@app.command("list", epilog=example("stream list --json"))
def list_(data: Data = None, as_json: Json = False) -> None:
    """List the pending streams, both those that this node pays and those that it is paid."""
    print_result(ask_node(data, lambda node: node.streams()), as_json, lambda streams: say(*map(stream_line, streams)))
