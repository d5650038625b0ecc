"""Pays a salary by the second, over a stream: each second costs a hash, and who stops working has lost one second.

The employer's node and the employee's run, and have a channel in which the employer has coins. Then:

    python examples/apps/salary.py a055 --node demo/alice --rate 3 --seconds 3600
    tally stream list --data demo/bob          # what has come so far

What makes it safe: all that is to be paid is set aside at the start, and each second that was paid is signed for: the
employee can claim it on chain by itself. The node counts, not this program: after a crash, run it again, and it goes on
with the stream that is there, at the second that it had reached.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

from tallystick import ControlClient, TallystickError, connect_control
from tallystick.sdk.control.views import StreamInfo

MARGIN = 7_200
"""Seconds that a stream lives longer than it is paid: it settles itself a while before it expires."""


async def stream_of(node: ControlClient, channel: str, rate: int, seconds: int) -> StreamInfo:
    """Return the stream that a crash left, or a new one."""
    whole = await node.channel(channel)
    for stream in await node.streams():
        if (stream.channel, stream.direction, stream.unit, stream.ended) == (whole.id, "out", rate, False):
            return stream
    return await node.open_stream(channel, rate, seconds, lifetime=seconds + MARGIN)


async def pay(arguments: argparse.Namespace) -> None:
    """Pay a unit each second, until all are paid."""
    async with connect_control(arguments.node) as node:
        stream = await stream_of(node, arguments.channel, arguments.rate, arguments.seconds)
        print(f"second {stream.units} of {stream.length} is paid", flush=True)
        begun, before = trio.current_time(), stream.units
        while stream.units < stream.length:
            await trio.sleep_until(begun + (stream.units - before + 1) * arguments.second)
            stream = await node.pay_units(arguments.channel, stream.lock)
            print(f"second {stream.units} of {stream.length} is paid", flush=True)
        stream = await node.close_stream(arguments.channel, stream.lock)
        print(f"all is paid: {stream.units * stream.unit}")


def main() -> None:
    """Read the command line and pay."""
    parser = argparse.ArgumentParser(description="Pay a salary by the second.")
    parser.add_argument("channel", help="the beginning of a channel's id")
    parser.add_argument("--node", type=Path, required=True, help="data directory of the running node")
    parser.add_argument("--rate", type=int, default=1, help="for a second, in the asset's smallest unit")
    parser.add_argument("--seconds", type=int, default=3_600, help="how many are paid, 65,536 at most")
    parser.add_argument("--second", type=float, default=1.0, help="how long a second is, to try it out")
    try:
        trio.run(pay, parser.parse_args())
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"salary: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
