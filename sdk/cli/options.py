"""What commands can be given: the options and arguments that several take, and how what is given is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from tallystick.channels.limits import AMOUNT_MAX


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

    def text(given: str) -> str:  # help calls what it takes by this name
        if not re.fullmatch(pattern, given):
            raise BadParameter(f"{given!r} {otherwise}")
        return given

    return text


parse_place = _form(
    r"(coin|0x[0-9a-fA-F]{40})@(0|[1-9][0-9]{0,19})", "is no asset of a chain: write coin@NUMBER, or 0x…@NUMBER"
)
parse_account = _form(r"0x[0-9a-fA-F]{40}", "is no account: give its address, 0x and 40 hex digits")
parse_asset = _form(r"0x[0-9a-fA-F]{40}", "is no asset: give its address, 0x and 40 hex digits")
parse_app = _form(r"(0x)?[0-9a-fA-F]{4,64}", "names no app: give at least 4 hex digits of its id")
parse_channel = _form(r"(0x)?[0-9a-fA-F]{4,64}", "names no channel: give at least 4 hex digits of its id")
parse_hub = _form(r"(0x)?[0-9a-fA-F]{4,64}", "names no hub: give its address, or the beginning of a channel's id")
parse_channel_or_any = _form(r"((0x)?[0-9a-fA-F]{4,64})?", "names no channel: give at least 4 hex digits of its id")
parse_hash = _form(r"[0-9a-fA-F]{4,64}", "names no payment: give at least 4 hex digits of its payment hash")
parse_peer = _form(
    r"0[23][0-9a-fA-F]{64}(@.+:[0-9]{1,5})?", "is no peer: it is written <public key, 66 hex digits>@<host>:<port>"
)
parse_after = _form(r"[0-9a-fA-F]{64}", "is no whole id: 64 hex digits, as --json shows them")
parse_secret = _form(r"([0-9a-fA-F]{64})?", "is not right: secrets and payment hashes have 64 hex digits")

parse_level = _form(r"info|warning|error", "is no level of a log: info, warning or error")


def parse_node(text: str) -> str:
    """Return the public key in a key or an address; raise BadParameter if it is neither."""
    return parse_peer(text).partition("@")[0]


amount_option = partial(Option, parser=parse_amount, metavar="N")
limit_option = partial(Option, parser=parse_fee, metavar="N")
secret_option = partial(Option, parser=parse_secret, metavar="HEX")

Data = Annotated[
    Path | None, Option("--data", envvar="TALLY_DATA", help="The node's data directory.", show_default="~/.tallystick")
]
ChainUrl = Annotated[str, Option("--chain", envvar="TALLY_CHAIN", help="URL of the chain node.")]
LOCAL_CHAIN = "http://127.0.0.1:8545"
"""Where `tally chain run` serves, unless told otherwise."""
Json = Annotated[bool, Option("--json", help="Print JSON, for programs.")]
Wait = Annotated[bool, Option("--wait/--no-wait", help="Return when it is confirmed, or as soon as it is on its way.")]
Asset = Annotated[
    str, Option("--asset", parser=parse_asset, metavar="0x…", help="The asset.", show_default="the chain's own coin")
]
AmountArgument = Annotated[int, Argument(parser=parse_amount, metavar="AMOUNT", help="In the asset's smallest unit.")]
ChannelArgument = Annotated[
    str, Argument(parser=parse_channel, metavar="ID", help="The channel's id, or an unambiguous beginning of it.")
]
PasswordFile = Annotated[
    Path | None,
    Option("--password-file", help="File with the keystore's password; else TALLY_PASSWORD, else a prompt."),
]
NodeArgument = Annotated[str, Argument(parser=parse_node, metavar="NODE", help="A node's public key, or its address.")]
MaxFee = Annotated[
    int | None, limit_option("--max-fee", help="The most it may cost.", show_default="5 %, and 5 of the coin")
]
Timeout = Annotated[
    float | None,
    Option("--timeout", min=0.1, max=604_800, metavar="SECONDS", help="How long to try.", show_default="60"),
]
Limit = Annotated[int, Option("--limit", min=1, max=1_000, help="At most so many.")]
Before = Annotated[int | None, Option("--before", min=0, metavar="POSITION", help="Only those before this position.")]
WaitForIt = Annotated[
    bool, Option("--wait/--no-wait", help="Return when it is paid or has failed, or as soon as it is on its way.")
]
HashArgument = Annotated[
    str, Argument(parser=parse_hash, metavar="HASH", help="The payment hash, or the beginning of it.")
]
