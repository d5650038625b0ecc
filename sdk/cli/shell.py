"""What all subcommands share: options, exit codes, how errors and results are printed.

| exit code | means                                                            |
| --------- | ---------------------------------------------------------------- |
| 0         | done                                                             |
| 1         | the operation failed; one sentence on stderr says why            |
| 2         | wrong usage: unknown options, amounts or names that are none     |
| 3         | no node is running, or it could not be reached                   |
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

from typer import Argument, BadParameter, Exit, Option, Typer

from tallystick.sdk.cli.screen import say, say_json

if TYPE_CHECKING:
    from tallystick.channels.node.alarms import Alarm
    from tallystick.sdk.control.client import ControlClient

FAILED = 1
UNREACHABLE = 3

EXIT_CODES = (
    "Exit codes: 0 done; 1 the operation failed; 2 wrong usage; 3 no node is running or it cannot be reached. "
    "Amounts are whole numbers in the asset's smallest unit."
)

AMOUNT_MAX = 2**128 - 1

Result = TypeVar("Result")


def example(command: str) -> str:
    """Return a help text's last line."""
    return f"Example: tally {command}"


def make_group(help: str, **options: Any) -> Typer:
    """Return a group of subcommands in the house's style. Tracebacks never show variables: they may hold secrets."""
    options.setdefault("no_args_is_help", not options.get("invoke_without_command"))
    return Typer(help=help, add_completion=False, pretty_exceptions_enable=False, **options)


def parse_amount(text: str | int) -> int:
    """Read an amount, digit by digit; raise BadParameter if it is none. Options' defaults come as integers.

    An option that is declared as an integer alone takes "5.0", from typer 0.29 on.
    """
    return _whole(str(text), 1, "amount")


def parse_fee(text: str | int) -> int:
    """Read the most that something may cost, which may be 0; raise BadParameter if it is no amount."""
    return _whole(str(text), 0, "limit")


def _whole(text: str, least: int, what: str) -> int:
    if not re.fullmatch(r"[0-9][0-9_]{0,63}", text) or not least <= int(text.replace("_", "")) <= AMOUNT_MAX:
        raise BadParameter(
            f"{text!r} is no {what}: give a whole number from {least} to 2**128 - 1, in the asset's smallest unit"
        )
    return int(text.replace("_", ""))


def _form(pattern: str, otherwise: str) -> Callable[[str], str]:
    """Return what checks the form of an argument; it raises BadParameter, with `otherwise`, if that is another one."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise BadParameter(f"{text!r} {otherwise}")
        return text

    return parse


parse_asset = _form(r"0x[0-9a-fA-F]{40}", "is no asset: give its address, 0x and 40 hex digits")
parse_channel = _form(r"(0x)?[0-9a-fA-F]{4,64}", "names no channel: give at least 4 hex digits of its id")
parse_channel_or_any = _form(r"((0x)?[0-9a-fA-F]{4,64})?", "names no channel: give at least 4 hex digits of its id")
parse_hash = _form(r"[0-9a-fA-F]{4,64}", "names no payment: give at least 4 hex digits of its payment hash")
parse_peer = _form(
    r"0[23][0-9a-fA-F]{64}(@.+:[0-9]{1,5})?", "is no peer: it is written <public key, 66 hex digits>@<host>:<port>"
)
parse_secret = _form(r"([0-9a-fA-F]{64})?", "is not right: secrets and payment hashes have 64 hex digits")


def parse_node(text: str) -> str:
    """Return the public key in a key or an address; raise BadParameter if it is neither."""
    return parse_peer(text).partition("@")[0]


def amount_in(asset: str, amount: int) -> str:
    """Return an amount as people read it: with its asset, unless that is the chain's own coin."""
    return str(amount) if asset == NATIVE else f"{amount} of {asset}"


Data = Annotated[
    Path | None,
    Option("--data", envvar="TALLY_DATA", help="The node's data directory.", show_default="~/.tallystick"),
]
Json = Annotated[bool, Option("--json", help="Print JSON, for programs.")]
Wait = Annotated[bool, Option("--wait/--no-wait", help="Return when it is confirmed, or as soon as it is on its way.")]
Asset = Annotated[
    str,
    Option("--asset", parser=parse_asset, metavar="0x…", help="The asset.", show_default="the chain's own coin"),
]
AmountArgument = Annotated[int, Argument(parser=parse_amount, metavar="AMOUNT", help="In the asset's smallest unit.")]
ChannelArgument = Annotated[
    str, Argument(parser=parse_channel, metavar="ID", help="The channel's id, or an unambiguous beginning of it.")
]
NATIVE = "0x" + 40 * "0"
PasswordFile = Annotated[
    Path | None,
    Option("--password-file", help="File with the keystore's password; else TALLY_PASSWORD, else a prompt."),
]


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Print a sentence on stderr and exit."""
    say(f"tally: {text}", err=True)
    raise Exit(code)


def read_file(path: Path) -> bytes:
    """Return what is in a file, or say why it cannot be read, and exit."""
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")


def require_new(path: Path) -> None:
    """Exit, with what to do, if there is such a file: none is overwritten."""
    if path.exists():
        fail(f"{path} exists already; give another name, or delete it first")


def write_file(path: Path, data: bytes, otherwise: str = "") -> None:
    """Write a new file, or say why it cannot be written, and exit."""
    require_new(path)
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}{otherwise}")


def run_guarded(work: Callable[[], Result]) -> Result:
    """Do something; turn Tallystick's errors into a sentence and an exit code."""
    from tallystick.channels.errors import TallystickError
    from tallystick.sdk.errors import NodeUnreachable

    try:
        return work()
    except NodeUnreachable as error:
        fail(str(error), UNREACHABLE)
    except TallystickError as error:
        fail(str(error))
    except OSError as error:
        fail(_of_the_machine(error))
    except BaseExceptionGroup as group:
        interrupted, _ = group.split(KeyboardInterrupt)
        if interrupted is not None:
            raise KeyboardInterrupt from None
        expected, others = group.split((TallystickError, OSError))
        if expected is None or others is not None:
            raise
        first: BaseException = expected
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        if isinstance(first, OSError):
            fail(_of_the_machine(first))
        fail(str(first), UNREACHABLE if isinstance(first, NodeUnreachable) else FAILED)


def _of_the_machine(error: OSError) -> str:
    """Return a sentence for what the machine refused: a full disk, a file of somebody else."""
    what = f"{error.filename} cannot be used" if error.filename else "the machine refuses"
    return f"{what}: {error.strerror or error}; see to its permissions and to free space, then try again"


def ask_node(data: Path | None, question: Callable[[ControlClient], Awaitable[Result]]) -> Result:
    """Put a question to the node that runs in the data directory and return its answer, or exit."""
    import trio

    from tallystick.sdk.control.client import connect_control
    from tallystick.sdk.daemon.configuration import data_directory

    async def run() -> Result:
        async with connect_control(data_directory(data)) as node:
            return await question(node)

    return run_guarded(lambda: trio.run(run))


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
