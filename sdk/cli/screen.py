"""How the commands write: whatever strangers said, it commands no terminal, forges no line and breaks no figure.

Everything that a command prints passes through here (a test looks for others), and so through `plain`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

from tallystick.channels.words import plain

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDTH_MAX = 10_000
"""Columns of the widest table. One that is wider than the terminal is broken there by the terminal, not by us."""


def say(*lines: str, err: bool = False) -> None:
    """Print lines of text at once, on stderr if `err`. What the output's encoding lacks is written as an escape."""
    stream = sys.stderr if err else sys.stdout
    stream.write("".join(_encodable(plain(line), stream) + "\n" for line in lines))
    stream.flush()


def say_as_it_is(text: str) -> bool:
    """Print text of our own, line ends included; return False, with nothing printed, if the output cannot show it."""
    if _encodable(text, sys.stdout) != text:
        return False
    sys.stdout.write(text)
    sys.stdout.flush()
    return True


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say_json(value: Any, *, err: bool = False) -> None:
    """Print one line of JSON, at once."""
    import msgspec

    text = msgspec.json.encode(value).decode()
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write("".join(_json(letter, encoding) for letter in text) + "\n")
    stream.flush()


def _json(letter: str, encoding: str) -> str:
    """Return a letter of JSON text, escaped as JSON does it if it is not printable: it then stands in a string."""
    if letter.isascii() and letter.isprintable():
        return letter
    if letter.isprintable():
        try:
            letter.encode(encoding)
        except UnicodeEncodeError:
            pass
        else:
            return letter
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def show_table(names: Sequence[str], rows: Iterable[Sequence[object]], *, figures: Sequence[str] = ()) -> None:
    """Print a table in its full width: nothing in it is cut off or broken, amounts and ids least of all.

    The columns of `figures` are behind the others, and to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in (*names, *figures):
        justify: Literal["left", "right"] = "right" if name in figures else "left"
        table.add_column(name, no_wrap=True, min_width=len(name), justify=justify)
    for row in rows:
        table.add_row(*(Text(plain(str(cell))) for cell in row))
    natural = Console(width=WIDTH_MAX).measure(table).maximum
    console = Console()
    _print(table, width=max(natural, 1) if natural > console.width else None)


def facts(rows: dict[str, object]) -> None:
    """Print names and values. Values are never broken by a line end of ours, so that they can be copied."""
    from rich.text import Text

    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        _print(Text.assemble((plain(name).ljust(width), "bold"), plain(str(value))))


def warn(text: str) -> None:
    """Print a line in red."""
    from rich.text import Text

    _print(Text(plain(text), style="red"))


def _print(what: Table | Text, width: int | None = None) -> None:
    """Print with rich, which knows whether the output is a terminal that has colours."""
    from rich.console import Console

    sys.stdout.flush()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    Console(width=width).print(what, soft_wrap=width is None, highlight=False)
