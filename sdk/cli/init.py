"""`tally init`: a data directory with a new key and commented settings."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from typer import Option, prompt

from tallystick.channels.limits import Policy
from tallystick.sdk.cli.options import Data, Json, PasswordFile
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import run_guarded
from tallystick.sdk.daemon.configuration import (
    CONFIG,
    DEFAULT_LISTEN,
    DEFAULT_URL,
    Settings,
    data_directory,
    read_settings,
    write_settings,
)


def init(
    data: Data = None,
    password_file: PasswordFile = None,
    light: Annotated[
        bool, Option("--light", help="Protect the key with little work only: for throw-away use.")
    ] = False,
    chain: Annotated[str, Option(envvar="TALLY_CHAIN", help="URL of the chain node.")] = DEFAULT_URL,
    chain_id: Annotated[int, Option(min=1, help="The chain that it must be.")] = 1337,
    rpc: Annotated[
        list[str] | None, Option(help="URL of an Ethereum node, for a real chain; may be given several times.")
    ] = None,
    start: Annotated[int, Option(min=0, help="First block to follow: that of the contract's deployment.")] = 0,
    contract: Annotated[
        str | None, Option(help="The adjudicator's address.", show_default="that of `tally chain run`")
    ] = None,
    listen: Annotated[str, Option(help="Where peers connect, host:port; port 0 takes any free one.")] = DEFAULT_LISTEN,
    announce_address: Annotated[
        str, Option(help="Where others reach the node, host:port, if not where it listens.", metavar="PLACE")
    ] = "",
    confirmations: Annotated[int, Option(min=1, help="Depth at which a block counts.")] = 3,
    challenge_period: Annotated[int, Option(min=1, help="Seconds that a unilateral close can be challenged.")] = 86_400,
    challenge_period_max: Annotated[
        int, Option("--max-challenge-period", min=1, help="The longest that a peer may choose for a channel.")
    ] = Policy().challenge_period_max,
    tower: Annotated[list[str] | None, Option(help="A watchtower's address; may be given several times.")] = None,
    as_json: Json = False,
) -> None:
    """Make a data directory: a new key, encrypted under a password, and settings to edit.

    Nothing is ever overwritten. The password comes from --password-file, TALLY_PASSWORD or a prompt.
    """

    def work() -> dict[str, str]:
        from tallystick.sdk.daemon.keystore import KEYSTORE, create, find_password
        from tallystick.sdk.errors import ConfigurationError
        from tallystick.settlement.simulated.branch import ADJUDICATOR

        directory = data_directory(data)
        if rpc and contract is None:
            raise ConfigurationError("on a real chain the adjudicator's address must be named, with --contract")
        if (directory / KEYSTORE).exists():
            raise ConfigurationError(f"{directory} holds a key already: choose another directory with --data")
        settings = Settings(
            chain_url=chain,
            rpc=tuple(rpc or ()),
            chain_id=chain_id,
            start_block=start,
            contract=contract or "0x" + ADJUDICATOR.hex(),
            listen=listen,
            announce_address=announce_address,
            confirmations=confirmations,
            challenge_period=challenge_period,
            challenge_period_max=challenge_period_max,
            towers=tuple(tower or ()),
        )
        password = find_password(None, password_file, ask=_ask if at_terminal() else None)
        if (directory / CONFIG).exists():
            read_settings(directory)  # of an init that was cut short, or written by hand: it is used as it is
        else:
            write_settings(directory, settings)
        key = create(directory, password, light=light)
        return {
            "data": str(directory),
            "address": "0x" + key.address.hex(),
            "public_key": bytes(key.public).hex(),
        }

    made = run_guarded(work)
    if as_json:
        say_json(made)
    else:
        say(f"data directory  {made['data']}", f"address         {made['address']}")
        say(f"public key      {made['public_key']}")
        where = "" if data is None else f" --data {shlex.quote(str(data))}"
        say(f"Look at {Path(made['data']) / CONFIG}, then start the node with `tally node run{where}`.")


def at_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def _ask() -> str:
    answer: str = prompt("Password for the new key", hide_input=True, confirmation_prompt=True)
    return answer
