"""`tally tower`: run a watchtower, ask how it does."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import BadParameter, Option

from tallystick.sdk.cli.options import Json, PasswordFile, amount_option, limit_option
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import UNREACHABLE, example, fail, make_group, run_guarded, show_alarm

if TYPE_CHECKING:
    from tallystick.channels.protocol.keys import PrivateKey
    from tallystick.settlement.ethereum.evm.client import EvmPlace
    from tallystick.watchtower.figures import TowerStatus

app = make_group("Run a watchtower, or ask one.")

DAY = 86_400

TowerData = Annotated[Path, Option("--data", envvar="TALLY_TOWER", help="The tower's data directory.")]


@app.command(epilog=example("tower run --data ~/.tally-tower --listen 127.0.0.1:9911"))
def run(
    data: TowerData,
    key_file: Annotated[
        Path | None, Option(help="File with the private key in hex, mode 0600, instead of a keystore.")
    ] = None,
    keystore: Annotated[
        Path | None, Option(help="Directory of the keystore.", show_default="the data directory")
    ] = None,
    password_file: PasswordFile = None,
    chain: Annotated[str, Option(envvar="TALLY_CHAIN", help="URL of the chain node.")] = "http://127.0.0.1:8545",
    rpc: Annotated[
        list[str] | None, Option(help="URL of an Ethereum node instead, for a real chain; may be given several times.")
    ] = None,
    chain_id: Annotated[int, Option(min=1, help="With --rpc: the chain that it must be.")] = 1,
    contract: Annotated[str | None, Option(help="With --rpc: the adjudicator's address.")] = None,
    listen: Annotated[str, Option(help="host:port; port 0 takes a free one.")] = "127.0.0.1:9911",
    start: Annotated[int, Option(min=0, help="First block to follow; never change it.")] = 0,
    budget: Annotated[int, amount_option(help="The most to pay in fees per challenge.")] = 10**17,
    fee_reserve: Annotated[int, limit_option(help="With less in its account the tower takes nothing new.")] = 10**16,
    claim_margin: Annotated[
        int, Option(min=1, max=DAY, metavar="SECONDS", help="How long before a lock expires its secret is registered.")
    ] = 240,
    claim_budget: Annotated[
        int, limit_option(help="The most to pay in fees for registering what pays for one lock; 0: nothing is.")
    ] = 10**16,
    claims_daily: Annotated[int, limit_option(help="The same for all locks in a day of chain time.")] = 10**17,
    metrics: Annotated[
        str | None,
        Option(
            help="host:port at which to serve /metrics, /healthz and /readyz, to anybody who reaches it.",
            show_default="nowhere",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch the chain and defend clients until Ctrl-C or SIGTERM.

    Once clients can connect it prints its addresses; its alarms go to stderr. With --json, one line of JSON for each.
    """

    def work() -> None:
        import signal

        import trio

        from tallystick.sdk.daemon.keystore import load_key
        from tallystick.watchtower.claims import ClaimPolicy
        from tallystick.watchtower.daemon import run_tower
        from tallystick.watchtower.tower import TowerPolicy

        host, port = _parse_place(listen, "--listen")
        claims = ClaimPolicy(margin=claim_margin, budget=claim_budget, daily=claims_daily)
        key = _read_key(key_file) if key_file is not None else load_key(keystore or data, None, password_file)

        def ready(status: TowerStatus) -> None:
            if as_json:
                say_json({"event": "listening", "status": status})
            else:
                say(f"clients reach {status.peer_address}", f"fee account   {status.address}")
                if status.metrics_url:
                    say(f"metrics       {status.metrics_url}")
                say("The tower is watching; Ctrl-C stops it.")

        tower = partial(
            run_tower,
            data,
            key,
            chain_url=chain,
            evm=_place(rpc, chain_id, contract, start),
            host=host,
            port=port,
            ready=ready,
            alarm=partial(show_alarm, as_json=as_json, err=False),
            policy=TowerPolicy(start=start, budget=budget, fee_reserve=fee_reserve, claims=claims),
            metrics=None if metrics is None else _parse_place(metrics, "--metrics"),
        )

        async def daemon() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tower)
                    await anext(signals)
                    nursery.cancel_scope.cancel()

        trio.run(daemon)

    run_guarded(work)


@app.command(epilog=example("tower status --data ~/.tally-tower --json"))
def status(data: TowerData, as_json: Json = False) -> None:
    """Show how the tower that runs in the data directory does. Exit code 3 if none runs there."""
    import math

    from tallystick.channels.storage.directory import holder_of
    from tallystick.watchtower.daemon import read_status

    found = run_guarded(lambda: read_status(data))
    holder = "" if found is not None else run_guarded(lambda: holder_of(data))
    if found is None and not holder:
        fail(f"no tower is running in {data}: start one with `tally tower run`", UNREACHABLE)
    last = found or run_guarded(lambda: read_status(data, oldest=math.inf))
    if last is not None:
        _show(last, as_json)
    if holder:
        fail(
            f"{holder} runs in {data}, but cannot write its status any more: its disk is full or failing. Free space, "
            "and see its alarms"
        )


def _show(found: TowerStatus, as_json: bool) -> None:
    """Print what a tower said of itself."""
    if as_json:
        say_json(found)
        return
    figures = found.statistics
    if figures is None:
        say(f"{'fee account':<14}{found.address}", f"{'trouble':<14}it waits for {found.waiting_for}")
        return
    for name, value in (
        ("clients reach", found.peer_address),
        ("fee account", found.address),
        ("chain", f"{found.chain_id}, contract {found.contract}"),
        ("block", f"{figures.follower.position}, {figures.follower.lag} behind"),
        ("appointments", figures.appointments),
        ("open cases", figures.cases),
        ("challenges", f"{figures.challenges} taken on, {figures.sender.done} done since the start"),
    ):
        say(f"{name:<14}{value}")
    for trouble in (*figures.troubles, *figures.sender.troubled):
        say(f"trouble       {trouble}")


def _place(rpc: list[str] | None, chain_id: int, contract: str | None, start: int) -> EvmPlace | None:
    """Return which real chain it is, None if it is none."""
    from tallystick.channels.errors import InvalidInput
    from tallystick.sdk.daemon.providers import lone_word
    from tallystick.settlement.ethereum.abi import Deployment
    from tallystick.settlement.ethereum.evm.client import EvmPlace
    from tallystick.settlement.ethereum.rpc_shapes import read_address

    if lone := lone_word(rpc or (), chain_id):
        say(f"tally: {lone}.", err=True)
    if not rpc:
        return None
    if contract is None:
        raise InvalidInput("on a real chain the adjudicator's address must be named, with --contract")
    return EvmPlace(tuple(rpc), Deployment(chain_id, read_address(contract, "--contract")), start)


def _parse_place(text: str, option: str) -> tuple[str, int]:
    from tallystick.channels.errors import InvalidInput
    from tallystick.sdk.node.places import parse_place

    try:
        return parse_place(text)
    except InvalidInput as error:
        raise BadParameter(f"{option}: {error}") from error


def _read_key(path: Path) -> PrivateKey:
    from tallystick.channels.errors import InvalidInput
    from tallystick.channels.protocol.keys import PrivateKey

    try:
        if path.stat().st_mode & 0o077:
            raise InvalidInput(f"{path} holds a private key and others may read it: chmod 600 {path}")
        return PrivateKey(bytes.fromhex(path.read_text("utf-8").strip().removeprefix("0x")))
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path} is no file with a private key of 64 hex digits") from error
