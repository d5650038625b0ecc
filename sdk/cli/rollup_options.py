"""What the commands of `tally rollup` have in common: the group, options, and how one runs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Option

from tallystick.sdk.cli.options import limit_option, parse_account
from tallystick.sdk.cli.screen import facts as show_facts
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import make_group, run_guarded
from tallystick.sdk.control.kinds import NATIVE_ASSET

if TYPE_CHECKING:
    from tallystick.channels.protocol.keys import PrivateKey
    from tallystick.channels.protocol.objects import Address
    from tallystick.sdk.rollup.calls import RollupPlace
    from tallystick.sdk.rollup.chain import RollupChain
    from tallystick.sdk.rollup.channels import RollupChannels
    from tallystick.sdk.rollup.promises import Promise
    from tallystick.sdk.rollup.user import RollupUser
    from tallystick.settlement.rollup.steps import Step

app = make_group("Settle by the thousand: operate a rollup, watch one, pay and close in one.")


def parse_rollup(text: str) -> str:
    """Return what names a rollup, as it was given; raise BadParameter if it names none."""
    if not re.fullmatch(r"[0-9]{1,18}(@0x[0-9a-fA-F]{40})?|0x[0-9a-fA-F]{40}", text):
        raise BadParameter(
            f"{text!r} is no rollup: on the ledger it is a number (or number@0x…, with the vault that it must have), "
            "on an EVM a contract's address"
        )
    return text


def parse_signature(text: str) -> str:
    """Return a signature of 64 bytes as hex digits; raise BadParameter if it is none."""
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{128}", text):
        raise BadParameter("a signature has 128 hex digits")
    return text.removeprefix("0x")


Rollup = Annotated[
    str,
    Option(
        "--rollup", parser=parse_rollup, metavar="ROLLUP", envvar="TALLY_ROLLUP", help="Its number, or its contract."
    ),
]
DeskUrl = Annotated[str, Option("--desk", envvar="TALLY_DESK", help="URL of the operator's desk.")]
Start = Annotated[int, Option("--start", min=0, help="A block not after the rollup's first one; never change it.")]
ToArgument = Annotated[str, Argument(parser=parse_account, metavar="0x…", help="An account of the rollup.")]
ChannelNumber = Annotated[int, Argument(min=0, max=2**32 - 1, metavar="CHANNEL", help="The channel's number.")]
Until = Annotated[int, Option("--until", min=1, max=2**40 - 1, help="Until when it counts, in Unix seconds.")]
Listen = Annotated[str, Option("--listen", help="host:port; port 0 takes a free one.")]
FeeMax = Annotated[
    int, limit_option("--fee-max", envvar="TALLY_FEE_MAX", help="What the operator may take for a step, at most.")
]
StepKey = Annotated[
    str | None,
    Option("--key", metavar="TEXT", help="Makes it safe to ask again, also after a crash: one step under one key."),
]
AcceptTerms = Annotated[
    bool,
    Option(
        "--accept-terms",
        envvar="TALLY_ACCEPT_TERMS",
        help="Go on though the rollup's times or fee make no sense for real money.",
    ),
]
DESK = "http://127.0.0.1:9921"
"""Where `tally rollup operate` listens, unless told otherwise."""


def rollup_place(text: str | None) -> RollupPlace:
    """Return where a rollup is; None: where one is to be made."""
    from tallystick.sdk.rollup.calls import RollupPlace

    return RollupPlace() if text is None else RollupPlace.read(text)


def parse_token_fee(text: str) -> str:
    """Return a token and what a step costs in it, as they were given; raise BadParameter if they are none."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}=[0-9]{1,26}", text):
        raise BadParameter(f"{text!r} is no fee in a token: it is written 0x…=N, with the token's address")
    return text


def token_fees_of(given: list[str] | None) -> dict[Address, int]:
    """Return what a step costs in each token, of the options given."""
    from tallystick.channels.protocol.objects import to_address

    return {to_address(token): int(fee) for token, _, fee in (each.partition("=") for each in given or ())}


def place_of(listen: str) -> tuple[str, int]:
    """Return host and port of `host:port`; raise BadParameter."""
    host, _, port = listen.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise BadParameter(f"{listen!r} is no place to listen at: it is written host:port")
    return host.strip("[]"), int(port)


def directory_of(data: Any) -> Path:
    """Return the data directory of an option."""
    from tallystick.sdk.daemon.configuration import data_directory

    return data_directory(data)


def key_of(data: Any, password_file: Any) -> PrivateKey:
    """Return the key in a data directory."""
    from tallystick.sdk.daemon.keystore import load_key

    return load_key(directory_of(data), None, password_file)


def tell(as_json: bool, event: str, text: str, **more: str) -> None:
    """Say what has happened, as a line or as JSON."""
    say_json({"event": event, "text": text, **more}) if as_json else say(text)


def print_fields(fields: dict[str, Any], as_json: bool) -> None:
    """Print facts, as a table or as JSON."""
    say_json(fields) if as_json else show_facts(fields)


def show_promise(step: Step, promise: Promise | None, as_json: bool) -> None:
    """Print a step and the operator's promise of it; without one a batch on the chain has it already."""
    from tallystick.settlement.rollup.steps import encode_step

    fields: dict[str, Any] = {"step": f"0x{(promise.step if promise else encode_step(step)).hex()}"}
    if promise is None:
        fields["is"] = "in a batch"
    else:
        fields |= {"until": promise.until, "promise": f"0x{promise.signature.hex()}"}
    print_fields(fields, as_json)


def until_stopped(run: Callable[[], Awaitable[None]]) -> None:
    """Run until Ctrl-C or SIGTERM."""
    import signal

    import trio

    async def work() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await anext(signals)
                nursery.cancel_scope.cancel()

    trio.run(work)


def run_act(
    act: Callable[[RollupChain, Any], Awaitable[None]],
    url: str,
    rollup: str | None,
    data: Any,
    password_file: Any,
    *,
    with_key: bool = True,
) -> None:
    """Do something with a rollup on its chain, with a key or without."""

    def work() -> None:
        import trio

        key = key_of(data, password_file) if with_key else None

        async def run() -> None:
            from tallystick.sdk.rollup.chain import open_rollup_chain

            async with open_rollup_chain(url, rollup_place(rollup)) as node:
                await act(node, key)

        trio.run(run)

    run_guarded(work)


def as_channels(
    act: Callable[[RollupChannels], Awaitable[None]],
    url: str,
    rollup: str,
    data: Any,
    password_file: Any,
    *,
    start: int = 0,
    asset: str = NATIVE_ASSET,
) -> None:
    """Do something with the channels of a key's account in a rollup."""

    def work() -> None:
        import trio

        key = key_of(data, password_file)

        async def run() -> None:
            from tallystick.channels.protocol.objects import to_address
            from tallystick.sdk.rollup.channels import open_rollup_channels

            async with open_rollup_channels(
                directory_of(data), key, url=url, rollup=rollup_place(rollup), start=start, asset=to_address(asset)
            ) as channels:
                await act(channels)

        trio.run(run)

    run_guarded(work)


def as_user(
    act: Callable[[RollupUser], Awaitable[None]],
    url: str,
    rollup: str,
    desk: str,
    data: Any,
    password_file: Any,
    *,
    fee_max: int = 0,
    start: int = 0,
    accept_terms: bool = False,
    asset: str = NATIVE_ASSET,
) -> None:
    """Do something as a user of a rollup; without a desk's URL it is done by the chain alone."""

    def work() -> None:
        import trio

        key = key_of(data, password_file)

        async def run() -> None:
            from tallystick.channels.protocol.objects import to_address
            from tallystick.sdk.rollup.programs import open_rollup_user

            async with open_rollup_user(
                directory_of(data),
                key,
                url=url,
                rollup=rollup_place(rollup),
                desk=desk,
                fee_max=fee_max,
                start=start,
                accept_terms=accept_terms,
                asset=to_address(asset),
            ) as user:
                await act(user)

        trio.run(run)

    run_guarded(work)
