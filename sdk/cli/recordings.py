"""`tally channel record`, `export` and `replay`: what happened to a channel, for whoever has to find out why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import (
    ChannelArgument,
    Data,
    Json,
    ask_node,
    fail,
    read_file,
    require_new,
    run_guarded,
    write_file,
)
from tallystick.sdk.cli.tables import show_replay


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
