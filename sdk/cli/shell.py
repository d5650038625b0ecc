"""What all subcommands share: options, exit codes, how errors and results are printed.

| exit code | means                                                            |
| --------- | ---------------------------------------------------------------- |
| 0         | done                                                             |
| 1         | the operation failed; one sentence on stderr says why            |
| 2         | wrong usage: unknown options, amounts or names that are none     |
| 3         | no node is running, or it could not be reached                   |
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from typer import Exit, Typer

from tallystick.sdk.cli.screen import say, say_json

if TYPE_CHECKING:
    from tallystick.channels.node.alarms import Alarm
    from tallystick.sdk.control.client import ControlClient

FAILED = 1
MISUSED = 2
"""Exit code when the command line cannot be what was meant."""
UNREACHABLE = 3

SILENT_SECONDS = 2.0
"""How long a command waits for a peer that is away without a word."""

EXIT_CODES = (
    "Exit codes: 0 done; 1 the operation failed; 2 wrong usage; 3 no node is running or it cannot be reached. "
    "Amounts are whole numbers in the asset's smallest unit."
)

Result = TypeVar("Result")


def example(command: str) -> str:
    """Return a help text's last line."""
    return f"Example: tally {command}"


def flowing(text: str) -> str:
    """Return a docstring as paragraphs of one line each, for any width; examples keep lines of their own."""
    found = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = list[str]()
        for line in paragraph.splitlines():
            if lines and not line.startswith("Example:"):
                lines[-1] += f" {line.strip()}"
            else:
                lines.append(line)
        found.append("\n".join(lines))
    return "\n\n".join(found)


class Commands(Typer):
    """A group whose commands have their docstrings as help, `flowing`: typer would keep each end of a line."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Register a function as a command, as `Typer.command` does."""
        register = super().command

        def decorate(function: Any) -> Any:
            return register(name, **{"help": flowing(function.__doc__ or ""), **options})(function)

        return decorate


def make_group(help: str, **options: Any) -> Typer:
    """Return a group of subcommands in the house's style. Tracebacks never show variables: they may hold secrets."""
    options.setdefault("no_args_is_help", not options.get("invoke_without_command"))
    return Commands(help=help, add_completion=False, pretty_exceptions_enable=False, **options)


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Print a sentence on stderr and exit."""
    say(f"tally: {text}", err=True)
    raise Exit(code)


def run_guarded(work: Callable[[], Result], refuse: Callable[[Exception], NoReturn] | None = None) -> Result:
    """Do something; turn what Tallystick or the machine refuses into a sentence and an exit code (`refuse`)."""
    from tallystick.channels.errors import TallystickError

    refused: BaseException
    try:
        return work()
    except (TallystickError, OSError) as error:
        refused = error
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[0] is not None:
            raise KeyboardInterrupt from None
        expected, others = group.split((TallystickError, OSError))
        if expected is None or others is not None:
            raise
        refused = expected
        while isinstance(refused, BaseExceptionGroup):
            refused = refused.exceptions[0]
    assert isinstance(refused, Exception)
    return (refuse or _refuse)(refused)


def _refuse(error: Exception) -> NoReturn:
    """Say why something was refused; the machine's own words say only half of it."""
    from tallystick.sdk.errors import NodeUnreachable

    if isinstance(error, OSError):
        what = f"{error.filename} cannot be used" if error.filename else "the machine refuses"
        fail(f"{what}: {error.strerror or error}; see to its permissions and to free space, then try again")
    fail(str(error), UNREACHABLE if isinstance(error, NodeUnreachable) else FAILED)


def ask_node(data: Path | None, question: Callable[[ControlClient], Awaitable[Result]]) -> Result:
    """Put a question to the node that runs in the data directory and return its answer, or exit."""
    import trio

    from tallystick.sdk.control.client import connect_control
    from tallystick.sdk.daemon.configuration import data_directory

    async def run() -> Result:
        async with connect_control(data_directory(data)) as node:
            return await question(node)

    return run_guarded(lambda: trio.run(run))


async def waiting_aloud(
    node: ControlClient, name: str, meanwhile: str, work: Callable[[], Awaitable[Result]]
) -> Result:
    """Do something in the channel (or with the peer) of that name; say so on stderr if its peer is away meanwhile."""
    import trio

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell, node, name, meanwhile)
        result = await work()
        nursery.cancel_scope.cancel()
    return result


async def _tell(node: ControlClient, name: str, meanwhile: str) -> None:
    import trio

    await trio.sleep(SILENT_SECONDS)
    wanted = name.partition("@")[0].lower().removeprefix("0x")
    named = [
        channel
        for channel in await node.channels()
        if wanted in (channel.peer, channel.peer_address.removeprefix("0x")) or channel.id.startswith(wanted)
    ]
    usable = [channel for channel in named if channel.phase == "open" and not channel.closing] or named
    if usable and not any(channel.connected for channel in usable):
        say(f"tally: the peer {usable[0].peer} is away; waiting for it. {meanwhile}", err=True)


async def telling_depth(node: ControlClient, peer: str, work: Callable[[], Awaitable[Result]]) -> Result:
    """Do something on chain with a peer; say on stderr meanwhile how deep it is, and how deep it must be."""
    import trio

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell_depth, node, peer.partition("@")[0].lower())
        result = await work()
        nursery.cancel_scope.cancel()
    return result


async def _tell_depth(node: ControlClient, named: str) -> None:
    import trio

    from tallystick.sdk.cli.tables import depth_line

    said = set[str]()
    while True:
        await trio.sleep(SILENT_SECONDS)
        for channel in await node.channels():
            if channel.id.startswith(named) or channel.peer == named:
                line = f"tally: channel {channel.id[:8]} is {channel.phase}: {depth_line(channel)}"
                if depth_line(channel) and line not in said:
                    say(line, err=True)
                    said.add(line)


def print_result(found: Result, as_json: bool, to_people: Callable[[Result], None]) -> None:
    """Print a result: as JSON for programs, or as people read it."""
    if as_json:
        say_json(found)
    else:
        to_people(found)


def show_alarm(alarm: Alarm, *, as_json: bool, err: bool = True) -> None:
    """Print an alarm as one line, with its time (UTC) and kind: on stderr, or as JSON on stdout unless `err`."""
    from datetime import UTC, datetime

    from tallystick.channels.ports import system_clock

    time = datetime.fromtimestamp(system_clock(), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if as_json:
        say_json({"event": "alarm", "time": time, "kind": alarm.kind, "text": alarm.text}, err=err)
    else:
        say(f"{time} alarm: {alarm.text} ({alarm.kind})", err=True)
