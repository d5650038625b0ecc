"""`tally init` and `tally node`: make a data directory, run a node, wait until it is ready, ask what it is, stop it."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option, prompt

from tallystick.channels.limits import Policy
from tallystick.sdk.cli.options import Data, Json, PasswordFile, amount_option
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import ask_node, example, fail, make_group, print_result, run_guarded, show_alarm
from tallystick.sdk.cli.tables import show_node
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

if TYPE_CHECKING:
    from tallystick.sdk.control.views import NodeInfo
    from tallystick.sdk.daemon.daemon import Ready

app = make_group("Run a node, wait until it is ready, ask what it is, stop it.")


@app.command(epilog=example("node run --password-file ~/.tally-password"))
def run(
    data: Data = None,
    password_file: PasswordFile = None,
    listen: Annotated[str | None, Option(help="host:port, instead of the settings'.")] = None,
    chain: Annotated[str | None, Option(help="URL of the chain node, likewise.")] = None,
    as_json: Json = False,
) -> None:
    """Run the node in the foreground until SIGTERM, Ctrl-C or `tally node stop`.

    Once it is ready it prints its addresses; with --json as one line: address, public_key, peer_address, control_url.
    Alarms go to stderr, each with its time and kind. The other commands answer while it still waits for its chain node.
    """

    def work() -> None:
        import msgspec
        import trio

        from tallystick.sdk.daemon.daemon import run_daemon
        from tallystick.sdk.daemon.garbage import look_rarely
        from tallystick.sdk.daemon.keystore import load_key
        from tallystick.sdk.daemon.providers import lone_word

        directory = data_directory(data)
        settings = read_settings(directory)
        named = (
            {"listen": listen, "rpc": chain and (chain,)} if settings.rpc else {"listen": listen, "chain_url": chain}
        )
        changes = {name: value for name, value in named.items() if value is not None}
        settings = msgspec.structs.replace(settings, **changes)
        if lone := lone_word(settings.rpc, settings.chain_id):
            say(f"tally: {lone}.", err=True)
        key = load_key(directory, None, password_file)

        def tell(ready: Ready) -> None:
            look_rarely()
            print_result(ready, as_json, _show_ready)

        async def daemon() -> None:
            await run_daemon(
                directory,
                key,
                settings,
                ready=tell,
                alarm=partial(show_alarm, as_json=as_json),
            )

        trio.run(daemon)

    run_guarded(work)


@app.command(epilog=example("node wait --timeout 30"))
def wait(
    data: Data = None,
    timeout: Annotated[float, Option(min=0, help="Seconds to wait at most.")] = 60,
    as_json: Json = False,
) -> None:
    """Return once the node that was just started answers and knows the chain as it is now.

    For scripts that start it in the background: `tally node run & tally node wait`.
    """

    import trio

    from tallystick.sdk.control.waiting import wait_for_node

    found = run_guarded(lambda: trio.run(wait_for_node, data_directory(data), timeout))
    print_result(found, as_json, _show_running)


def _show_ready(node: Ready) -> None:
    say(f"address       {node.address}", f"public key    {node.public_key}")
    say(f"peers reach   {node.peer_address or 'nothing here: it only dials'}")
    say(f"control API   {node.control_url}", "The node is running; Ctrl-C stops it.")


def _show_running(node: NodeInfo) -> None:
    say(f"The node runs, at block {node.block}; {node.peer_address or 'it only dials'}")


@app.command(epilog=example("node info --json"))
def info(data: Data = None, as_json: Json = False) -> None:
    """Show what the running node is: addresses, chain, alarms."""
    print_result(ask_node(data, lambda node: node.info()), as_json, show_node)


@app.command(epilog=example("node stop"))
def stop(
    data: Data = None,
    timeout: Annotated[float, Option(min=0, help="Seconds to wait for its end.")] = 30,
) -> None:
    """Stop the running node cleanly, and return when it has ended."""
    import trio

    from tallystick.sdk.control.files import wait_ended

    async def wait() -> bool:
        with trio.move_on_after(timeout) as scope:
            await wait_ended(data_directory(data))
        return not scope.cancelled_caught

    ask_node(data, lambda node: node.stop())
    if not run_guarded(lambda: trio.run(wait)):
        fail(f"the node has not ended within {timeout:g} s: see its output")
    say("The node has stopped.")


def init(
    data: Data = None,
    password_file: PasswordFile = None,
    light: Annotated[
        bool, Option("--light", help="Protect the key with little work only: for throw-away use.")
    ] = False,
    chain: Annotated[str, Option(envvar="TALLY_CHAIN", help="URL of the chain node.")] = DEFAULT_URL,
    chain_id: Annotated[
        int | None, Option(min=1, help="The chain that it must be.", show_default="that of `tally chain run`, 1337")
    ] = None,
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
    confirmations: Annotated[
        int | None,
        Option(
            min=1, help="Depth at which a block counts, at the least.", show_default="3; on a real chain, by --at-risk"
        ),
    ] = None,
    at_risk: Annotated[
        int,
        amount_option(
            help="On a real chain: what any lock may be worth, in the chain's coin; deposits count by their own worth."
        ),
    ] = 10**18,
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
        from tallystick.sdk.daemon.providers import lone_word
        from tallystick.sdk.errors import ConfigurationError
        from tallystick.settlement.simulated.branch import ADJUDICATOR

        directory = data_directory(data)
        if rpc and contract is None:
            raise ConfigurationError("on a real chain the adjudicator's address must be named, with --contract")
        if rpc and chain_id is None:
            raise ConfigurationError("of a real chain, its number must be named, with --chain-id")
        number = chain_id or DEFAULT_CHAIN_ID
        if (directory / KEYSTORE).exists():
            raise ConfigurationError(f"{directory} holds a key already: choose another directory with --data")
        settings = Settings(
            chain_url=chain,
            rpc=tuple(rpc or ()),
            chain_id=number,
            start_block=start,
            contract=contract or "0x" + ADJUDICATOR.hex(),
            listen=listen,
            announce_address=announce_address,
            confirmations=confirmations or _depth(number, at_risk, real=bool(rpc)),
            challenge_period=challenge_period,
            challenge_period_max=challenge_period_max,
            towers=tuple(tower or ()),
        )
        if lone := lone_word(settings.rpc, number):
            say(f"tally: {lone}.", err=True)
        if rpc:
            _require_right(settings)
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


def _require_right(settings: Settings) -> None:
    """Raise ConfigurationError if a node says that it is another chain, without the contract, or with it before."""
    import trio

    from tallystick.sdk.errors import ConfigurationError
    from tallystick.settlement.ethereum.evm.starting import what_is_wrong

    contract, start = settings.contract_address, settings.start_block
    if wrong := trio.run(what_is_wrong, settings.rpc, settings.chain_id, contract, start):
        raise ConfigurationError(wrong)


def _depth(chain_id: int, at_risk: int, *, real: bool) -> int:
    """Return how deep a block has to be."""
    from tallystick.settlement.ethereum.evm.profiles import profile_of

    return profile_of(chain_id).depth(at_risk) if real else 3


def _ask() -> str:
    answer: str = prompt("Password for the new key", hide_input=True, confirmation_prompt=True)
    return answer
