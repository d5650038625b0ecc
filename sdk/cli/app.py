"""The root of the `tally` command: its own subcommands, and those that other parts mount lazily."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from typing import Annotated, Any

from typer import BadParameter, Exit, Option
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from tallystick import __version__
from tallystick.channels.words import plain
from tallystick.sdk.cli import init, payments, swaps
from tallystick.sdk.cli.screen import say
from tallystick.sdk.cli.shell import EXIT_CODES, Commands, example

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""

GROUPS = ("node", "channel", "stream", "peers", "invoice", "rate", "towers")
"""Groups of subcommands, each in a module of that name: made when one of theirs is called, or all are listed."""

DEFERRED = {
    "app": ("tallystick.sdk.cli.apps", "Play apps with a peer: games, options, loans, an escrow."),
    "chain": (
        "tallystick.sdk.cli.chain",
        "Run a simulated chain for development; put the contract onto a real one.",
    ),
    "ledger": (
        "tallystick.sdk.cli.ledger",
        "Trade, lend, stake and vote on a simulated chain, by its built-in modules.",
    ),
    "rollup": (
        "tallystick.sdk.cli.rollup",
        "Settle by the thousand: operate a rollup, watch one, pay and close in one.",
    ),
    "tower": ("tallystick.sdk.cli.tower", "Run a watchtower, or ask one."),
    "graph": ("tallystick.sdk.cli.graph", "Show what is known of the network; read graphs of others."),
    "api": ("tallystick.sdk.cli.api", "Show what programs can ask a node over HTTP, as a page or as OpenAPI."),
    "fetch": ("tallystick.sdk.cli.fetch", "Get what is at an address, and pay for it within a budget."),
    "bench": ("tallystick.sdk.cli.bench", "Measure how fast payments are."),
}
"""Subcommands that are imported only when they are called: name to (module with an `app`, one line of help)."""


class Deferred(TyperCommand):
    """Stands for a command until it is called; then the real one takes over."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return a context of the real command."""
        module = importlib.import_module(DEFERRED[str(self.name)][0])
        return get_command(module.app).make_context(info_name, args, parent, **extra)


class Root(TyperGroup):
    """Adds the deferred commands to its own, and gives words to what every command may meet."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return a context; raise BadParameter for words that no text can hold."""
        context = super().make_context(info_name, [], parent, resilient_parsing=True) if _torn(args) else None
        if context is not None:
            raise BadParameter(
                f"{plain(_torn(args))} is not in UTF-8, as it must be: check the encoding of the terminal or script",
                ctx=context,
            )
        with _interruptible():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            with _interruptible():
                return super().invoke(ctx)
        except Exception as error:  # of whichever click typer brings along: its parser tells of an option
            option = str(getattr(error, "option_name", ""))  # the parser takes it for one
            if re.match(r"-[0-9]", option):
                raise BadParameter(
                    f"{option}… is no option, and no amount either: those are whole numbers from 1 on, without a sign"
                ) from None
            raise

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return [*super().list_commands(ctx), *GROUPS, *DEFERRED]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by name."""
        if cmd_name in GROUPS:
            return get_command(importlib.import_module(f"tallystick.sdk.cli.{cmd_name}").app)
        if cmd_name in DEFERRED:
            return Deferred(name=cmd_name, help=DEFERRED[cmd_name][1])
        return super().get_command(ctx, cmd_name)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Say what Ctrl-C means, wherever in the block it comes, and end with its exit code."""
    try:
        yield
    except (KeyboardInterrupt, BaseExceptionGroup) as ended:
        if isinstance(ended, BaseExceptionGroup) and ended.split(KeyboardInterrupt)[0] is None:
            raise
        say("tally: interrupted; what a node was asked to do it may still do", err=True)
        raise Exit(INTERRUPTED) from None


def _torn(words: list[str]) -> str:
    """Return the first word with bytes that are no UTF-8 (Python keeps them as surrogates), "" if there is none."""
    return next((word for word in words if any("\ud800" <= letter <= "\udfff" for letter in word)), "")


app = Commands(
    cls=Root,
    help="Tallystick: lock funds once, then pay off chain as often and as fast as you like.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        say(f"tally {__version__}")
        raise Exit


@app.callback()
def root(
    version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="Show the version, and do nothing else.")
    ] = False,
) -> None:
    """Tallystick: lock funds once, then pay off chain as often and as fast as you like."""


app.command(epilog=example("init --chain http://127.0.0.1:8545"))(init.init)
app.command(epilog=example("pay tally1337… --max-fee 10, or tally pay 3f9a 250 --key order-17"))(payments.pay)
app.command(epilog=example("swap 1000 coin@1337 for coin@1338 --min 600"))(swaps.swap)
app.command(epilog=example("markets --give coin@1337"))(swaps.markets)
app.command(epilog=example("maker --json"))(swaps.maker)
app.command(epilog=example("keysend 02a1…c3 250 --max-fee 10"))(payments.keysend)
app.command(epilog=example("payments --json"))(payments.payments)
app.command(epilog=example("forwards --limit 20"))(payments.forwards)
app.command(epilog=example("probe 02a1…c3 250000"))(payments.probe)
app.command(epilog=example("rebalance 3f9a 77c2 100000 --max-fee 50"))(payments.rebalance)
app.command(epilog=example("incoming --follow --json"))(payments.incoming)
app.command(epilog=example("balance"))(payments.balance)
app.command(epilog=example("statistics --json"))(payments.statistics)
