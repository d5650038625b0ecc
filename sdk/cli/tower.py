"""`tally tower`: run a watchtower, ask how it does."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import BadParameter, Exit, Option

from tallystick.sdk.cli.options import (
    LOCAL_CHAIN,
    ChainUrl,
    Json,
    PasswordFile,
    amount_option,
    limit_option,
    parse_level,
)
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import FAILED, UNREACHABLE, example, fail, run_guarded, show_alarm
from tallystick.sdk.cli.tower_options import TowerData, app

if TYPE_CHECKING:
    from tallystick.channels.node.alarms import Alarm
    from tallystick.channels.protocol.keys import PrivateKey
    from tallystick.settlement.ethereum.evm.client import EvmPlace
    from tallystick.watchtower.covers import CoverPolicy
    from tallystick.watchtower.figures import TowerStatus

DAY = 86_400


Rpc = Annotated[
    list[str] | None,
    Option("--rpc", help="URL of an Ethereum node instead, for a real chain; may be given several times."),
]
RealChain = Annotated[int, Option("--chain-id", min=1, help="With --rpc: the chain that it must be.")]
Contract = Annotated[str | None, Option("--contract", help="With --rpc: the adjudicator's address.")]
Start = Annotated[int, Option("--start", min=0, help="First block to follow; never change it.")]


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
    chain: ChainUrl = LOCAL_CHAIN,
    rpc: Rpc = None,
    chain_id: RealChain = 1,
    contract: Contract = None,
    listen: Annotated[str, Option(help="host:port; port 0 takes a free one.")] = "127.0.0.1:9911",
    start: Start = 0,
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
    log: Annotated[
        Path | None, Option(help="File for a log of JSON lines; SIGHUP opens it anew.", show_default="none")
    ] = None,
    log_level: Annotated[
        str, Option(parser=parse_level, metavar="LEVEL", help="With --log: info, warning or error, and above.")
    ] = "info",
    cover_most: Annotated[
        int, limit_option(help="The largest cover of its bond that it offers a client; 0: none.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Watch the chain and defend clients until Ctrl-C or SIGTERM.

    Once clients can connect it prints its addresses; its alarms go to stderr. With --json, one line of JSON for each.
    """

    def work() -> None:
        import signal

        import trio

        from tallystick.sdk.daemon.keystore import load_key
        from tallystick.sdk.daemon.log_files import LogFile
        from tallystick.sdk.daemon.supervisor import supervisor
        from tallystick.sdk.daemon.tower_log import TowerLog
        from tallystick.watchtower.claims import ClaimPolicy
        from tallystick.watchtower.daemon import run_tower
        from tallystick.watchtower.log_lines import LogLevel
        from tallystick.watchtower.tower import TowerPolicy

        host, port = _parse_place(listen, "--listen")
        covers = _covers(cover_most, rpc)
        claims = ClaimPolicy(margin=claim_margin, budget=claim_budget, daily=claims_daily)
        key = _read_key(key_file) if key_file is not None else load_key(keystore or data, None, password_file)

        manager = supervisor()
        lines = None if log is None else TowerLog(LogFile(log), LogLevel(log_level))

        def on_alarm(alarm: Alarm) -> None:
            show_alarm(alarm, as_json=as_json, err=False)
            if lines is not None:
                lines.on_alarm(alarm)

        def ready(status: TowerStatus) -> None:
            manager.tell("READY=1")
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
            alarm=on_alarm,
            told=lines.on_status if lines is not None else lambda status: None,
            policy=TowerPolicy(start=start, budget=budget, fee_reserve=fee_reserve, claims=claims, covers=covers),
            metrics=None if metrics is None else _parse_place(metrics, "--metrics"),
        )

        async def daemon() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tower)
                    nursery.start_soon(manager.keep_alive)
                    if lines is not None:
                        nursery.start_soon(lines.file.heed_hangups)
                    await anext(signals)
                    manager.tell("STOPPING=1")
                    nursery.cancel_scope.cancel()

        try:
            trio.run(daemon)
        finally:
            if lines is not None:
                lines.close()

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


def _covers(most: int, rpc: list[str] | None) -> CoverPolicy:
    from tallystick.channels.errors import InvalidInput
    from tallystick.watchtower.covers import CoverPolicy

    if most and rpc:
        raise InvalidInput("a tower offers covers on a simulated ledger alone yet: leave --cover-most out with --rpc")
    return CoverPolicy(most=most)


@app.command(epilog=example("tower rescan --data ~/.tally-tower"))
def rescan(
    data: TowerData,
    chain: ChainUrl = LOCAL_CHAIN,
    rpc: Rpc = None,
    chain_id: RealChain = 1,
    contract: Contract = None,
    start: Start = 0,
    repair: Annotated[
        bool, Option("--repair", help="Replace what differs by what the chain shows. The tower must not run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare what the tower holds of disputes with what the chain shows, read anew from its start.

    It may run meanwhile, and nothing is changed. Exit code 0 if both are the same, and what is due is on its way; 1 if
    not, with a sentence for each difference. After --repair, start the tower: it takes on what is due.
    """
    import trio

    from tallystick.watchtower.daemon import rescan_tower

    place = run_guarded(lambda: _place(rpc, chain_id, contract, start))
    asked = partial(rescan_tower, data, chain_url=chain, evm=place, start=start, repair=repair)
    found = run_guarded(lambda: trio.run(asked))
    if as_json:
        say_json(found)
    else:
        say(f"compared up to block {found.position}, {found.lag} behind the chain")
        say(f"disputes that can be challenged: the tower holds {found.held}, the chain shows {found.found}")
        for difference in found.differences:
            say(f"difference    {difference.text} ({difference.kind})")
        if found.repaired:
            say(f"repaired      {found.repaired}; start the tower, and it takes on what is due")
    if found.differences:
        raise Exit(FAILED)
    if not as_json:
        say("The tower knows what the chain shows.")


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


from tallystick.sdk.cli import tower_bond  # noqa: E402 (its commands are made on `app`)

__all__ = ("app", "tower_bond")
