"""`tally bench apps`: moves of apps, measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Option

from tallystick.channels.limits import LOCKS_MAX
from tallystick.sdk.cli.options import Json
from tallystick.sdk.cli.shell import print_result, run_guarded


def apps(
    games: Annotated[int, Option(min=1, max=LOCKS_MAX, help="Games that are played at once.")] = 100,
    seconds: Annotated[float, Option(min=0.1, max=600, help="How long to measure each, at least.")] = 3.0,
    tries: Annotated[int, Option(min=1, max=10, help="How often to try for a good capacity control.")] = 3,
    directory: Annotated[
        Path | None, Option(help="Where to keep the throw-away stores: put them on the disk that counts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """How many moves per second two nodes make in games, and how long a lone move takes beside a lone payment.

    Example: tally bench apps --games 100 --json
    """
    import trio
    from rich.console import Console

    from tallystick.sdk.bench.apps import apps_table, run_apps

    say = Console(stderr=True).print
    run = partial(run_apps, games, seconds, tries=tries, directory=str(directory or Path.cwd()), say=say)
    print_result(run_guarded(lambda: trio.run(run)), as_json, lambda found: Console().print(apps_table(found)))
