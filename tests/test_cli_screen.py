"""What strangers say never commands a terminal, forges a line or an alarm; and what is long is never cut off."""

from __future__ import annotations

import ast
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.channels.errors import InvalidInput, LinkClosed, PeerError, StoreError, TallystickError
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.words import plain
from tallystick.router.objects import Hop, NodeKey, Route
from tallystick.sdk.cli import graph, tables
from tallystick.sdk.cli.screen import facts, say, say_as_it_is, say_json, show_table, warn
from tallystick.sdk.control.kinds import NATIVE_ASSET
from tallystick.sdk.control.network_views import InvoiceInfo
from tallystick.sdk.control.views import IncomingInfo
from tallystick.sdk.errors import ControlError, OpeningFailed
from tallystick.settlement.errors import ChainError

EVIL = "\x1b[2J\x1b]0;owned\x07PAID\nThe node has stopped.\r\x9b31m\x7f\u202e\u2066\u2028\u200b\ud800"
ROOT = Path(__file__).resolve().parent.parent
LARGE = 2**128 - 1


def harmless(text: str) -> bool:
    """Whether each line of a text is printable, and none of them was made by a stranger."""
    return all(line.isprintable() for line in text.split("\n")) and "\nThe node has stopped." not in text


def test_every_letter_that_acts_on_a_terminal_is_written_as_an_escape() -> None:
    acting = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F)]
    acting += [*range(0x2060, 0x2070), 0xFEFF, 0xD800, 0xDFFF, 0xE0001]
    for code in acting:
        assert plain(f"a{chr(code)}b").isascii() and plain(chr(code)).startswith("\\"), hex(code)
    for text in ("", "a tin of tea", "Grüße, 茶, чай ☕", r"a \n that was one"):
        assert plain(text) == text


@pytest.mark.parametrize("kind", [TallystickError, InvalidInput, PeerError, LinkClosed, StoreError, ChainError])
def test_no_error_carries_what_a_stranger_commands(kind: type[TallystickError]) -> None:
    assert harmless(str(kind(f"the peer said: {EVIL}"))) and "PAID" in str(kind(EVIL))


def test_errors_of_the_sdk_and_alarms_carry_none_either() -> None:
    for said in (OpeningFailed(EVIL), ControlError(EVIL, "failed"), Alarm(AlarmKind.DISK, EVIL)):
        assert harmless(str(said))
    assert harmless(Alarm(AlarmKind.DISK, EVIL).text)


def test_all_that_is_printed_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    memo = IncomingInfo("3f9a" * 16, 0, 5, EVIL, "00", 0.0, "1.1")
    fields = dict.fromkeys(InvoiceInfo.__struct_fields__, 5)
    words = {"payment_hash": "ab" * 32, "state": "paid", "asset": NATIVE_ASSET, "memo": EVIL, "invoice": "tally1"}
    invoice = InvoiceInfo(**{**fields, **words, "secret": None, "refused": EVIL})  # type: ignore[arg-type]
    say(EVIL, f"of ours: {EVIL}")
    say(tables.incoming_line(memo), tables.paid_line(invoice), err=True)
    tables.show_invoice(invoice)
    tables.show_invoices([invoice])
    tables.show_asked({"created": 0, "expires": 0, "amount": 5, "asset": NATIVE_ASSET, "memo": EVIL})
    graph.show_routes([Route((Hop(ChannelId(bytes(32)), NodeKey(bytes(33)), 5),))], {NodeKey(bytes(33)): EVIL})
    show_table(("alias",), [(EVIL,)])
    facts({EVIL: EVIL})
    warn(EVIL)
    say_json({EVIL.removesuffix("\ud800"): "\U000e0001"})
    shown = capsys.readouterr()
    assert harmless(shown.out) and harmless(shown.err)
    assert json.loads(shown.out.splitlines()[-1]) == {EVIL.removesuffix("\ud800"): "\U000e0001"}


def calls(path: Path) -> Iterator[tuple[str, int]]:
    """Yield how a file prints: by which function, in which line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("print", "typer.echo", "click.echo", "Console", "Text", "sys.stdout.write", "sys.stderr.write"):
                yield name, node.lineno


def test_no_command_prints_but_through_the_screen() -> None:
    own_figures = {
        "bench.py",
        "bench_apps.py",
        "bench_chain.py",
        "bench_gas.py",
        "bench_tower.py",
        "bench_virtual.py",
        "screen.py",
    }  # all but the last print what they measured
    loading = {("__init__.py", "sys.stderr.write")}
    files = [path for path in (ROOT / "sdk" / "cli").glob("*.py") if path.name not in own_figures]
    assert len(files) > 12
    found = [
        (path.name, name, line) for path in files for name, line in calls(path) if (path.name, name) not in loading
    ]
    assert found == []


def test_examples_print_no_words_of_strangers_as_they_are() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                words = ast.unparse(node)
                assert "memo" not in words, f"{path.name}:{node.lineno}"
                assert "order_of(" not in words or "plain(order_of(" in words, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("columns", ["20", "80"])
def test_amounts_and_ids_stand_in_one_piece_however_narrow_the_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    rows = [("ab" * 32, "cd" * 32, LARGE, LARGE - 1)]
    show_table(("channel", "peer"), rows, figures=("balance", "spendable"))
    facts({"invoice": "tally1" * 60})
    words = capsys.readouterr().out.split()
    assert {"ab" * 32, "cd" * 32, str(LARGE), str(LARGE - 1), "tally1" * 60} <= set(words)


def test_an_output_of_few_letters_gets_escapes_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", output)
    say("café … ☕")
    say_json({"memo": "café ☕"})
    assert not say_as_it_is("█▀▄") and say_as_it_is("as it is\n")
    facts({"memo": "茶"})
    written = output.buffer.getvalue().decode("latin-1").splitlines()  # type: ignore[attr-defined]
    assert written[:3] == ["café \\u2026 \\u2615", '{"memo":"café \\u2615"}', "as it is"]
    assert "\\u8336" in written[3]
