"""`tally init`: make a data directory, with a new key and with settings to edit."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from typer import Option, prompt

from tallystick.channels.limits import Policy
from tallystick.sdk.cli.options import Data, Json, PasswordFile, amount_option
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import run_guarded
from tallystick.sdk.daemon.configuration import (
    CONFIG,
    DEFAULT_CHAIN_ID,
    DEFAULT_LISTEN,
    DEFAULT_URL,
    Settings,
    data_directory,
    read_settings,
    write_settings,
)

LONGEST_PERIOD = Policy().challenge_period_max

Light = Annotated[bool, Option("--light", help="Protect the key with little work only: for throw-away use.")]
ChainUrl = Annotated[str, Option(envvar="TALLY_CHAIN", help="URL of the chain node.")]
ChainId = Annotated[
    int | None, Option(min=1, help="The chain that it must be.", show_default="that of `tally chain run`, 1337")
]
RpcUrls = Annotated[
    list[str] | None, Option(help="URL of an Ethereum node, for a real chain; may be given several times.")
]
Start = Annotated[int, Option(min=0, help="First block to follow: that of the contract's deployment.")]
Contract = Annotated[str | None, Option(help="The adjudicator's address.", show_default="that of `tally chain run`")]
Court = Annotated[
    str, Option(help="On a real chain: the court that the adjudicator asks about apps.", show_default="none: no apps")
]
Listen = Annotated[str, Option(help="Where peers connect, host:port; port 0 takes any free one.")]
Announced = Annotated[
    str, Option(help="Where others reach the node, host:port, if not where it listens.", metavar="PLACE")
]
Confirmations = Annotated[
    int | None,
    Option(min=1, help="Depth at which a block counts, at the least.", show_default="3; on a real chain, by --at-risk"),
]
AtRisk = Annotated[
    int,
    amount_option(
        help="On a real chain: what any lock may be worth, in the chain's coin; deposits count by their own worth."
    ),
]
Period = Annotated[int, Option(min=1, help="Seconds that a unilateral close can be challenged.")]
LongestPeriod = Annotated[
    int, Option("--max-challenge-period", min=1, help="The longest that a peer may choose for a channel.")
]
Towers = Annotated[list[str] | None, Option(help="A watchtower's address; may be given several times.")]


def init(
    data: Data = None,
    password_file: PasswordFile = None,
    light: Light = False,
    chain: ChainUrl = DEFAULT_URL,
    chain_id: ChainId = None,
    rpc: RpcUrls = None,
    start: Start = 0,
    contract: Contract = None,
    court: Court = "",
    listen: Listen = DEFAULT_LISTEN,
    announce_address: Announced = "",
    confirmations: Confirmations = None,
    at_risk: AtRisk = 10**18,
    challenge_period: Period = 86_400,
    challenge_period_max: LongestPeriod = LONGEST_PERIOD,
    tower: Towers = None,
    as_json: Json = False,
) -> None:
    """Make a data directory: a new key, encrypted under a password, and settings to edit.

    Nothing is ever overwritten. The password comes from --password-file, TALLY_PASSWORD or a prompt.
    """

    def work() -> dict[str, str]:
        from tallystick.sdk.errors import ConfigurationError
        from tallystick.settlement.simulated.branch import ADJUDICATOR

        directory, number = data_directory(data), chain_id or DEFAULT_CHAIN_ID
        if rpc and contract is None:
            raise ConfigurationError("on a real chain the adjudicator's address must be named, with --contract")
        if rpc and chain_id is None:
            raise ConfigurationError("of a real chain, its number must be named, with --chain-id")
        _require_keyless(directory)
        settings = Settings(
            chain_url=chain,
            rpc=tuple(rpc or ()),
            chain_id=number,
            start_block=start,
            contract=contract or "0x" + ADJUDICATOR.hex(),
            court=court,
            listen=listen,
            announce_address=announce_address,
            confirmations=confirmations or _depth(number, at_risk, real=bool(rpc)),
            challenge_period=challenge_period,
            challenge_period_max=challenge_period_max,
            towers=tuple(tower or ()),
        )
        if rpc:
            _require_right(settings)
        return _make(directory, settings, password_file, light=light)

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


def _require_keyless(directory: Path) -> None:
    """Raise ConfigurationError if a directory is a node's already."""
    from tallystick.sdk.daemon.keystore import KEYSTORE
    from tallystick.sdk.errors import ConfigurationError

    if (directory / KEYSTORE).exists():
        raise ConfigurationError(f"{directory} holds a key already: choose another directory with --data")


def _depth(chain_id: int, at_risk: int, *, real: bool) -> int:
    """Return how deep a block has to be."""
    if not real:
        return 3
    from tallystick.settlement.ethereum.evm.profiles import profile_of

    return profile_of(chain_id).depth(at_risk)


def _require_right(settings: Settings) -> None:
    """Raise ConfigurationError if a node says that it is another chain, without the contract, or with it before.

    Say it if only one provider tells of the chain.
    """
    import trio

    from tallystick.sdk.daemon.providers import lone_word
    from tallystick.sdk.errors import ConfigurationError
    from tallystick.settlement.ethereum.evm.starting import what_is_wrong

    if lone := lone_word(settings.rpc, settings.chain_id):
        say(f"tally: {lone}.", err=True)
    contract, start = settings.contract_address, settings.start_block
    if wrong := trio.run(what_is_wrong, settings.rpc, settings.chain_id, contract, start):
        raise ConfigurationError(wrong)


def _make(directory: Path, settings: Settings, password_file: Path | None, *, light: bool) -> dict[str, str]:
    """Make the directory, its settings and its key; return what to tell of them."""
    from tallystick.sdk.daemon.keystore import create, find_password

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


def _ask() -> str:
    answer: str = prompt("Password for the new key", hide_input=True, confirmation_prompt=True)
    return answer
