"""`tally bench gas` and `tally bench rollup`: what things cost on a chain."""

from __future__ import annotations

from typing import Annotated

from typer import Exit, Option

from tallystick.sdk.cli.options import Json
from tallystick.sdk.cli.screen import say
from tallystick.sdk.cli.shell import print_result, run_guarded

Url = Annotated[str | None, Option(help="URL of a development node. Default: one is started.")]
Client = Annotated[
    str | None, Option(help="Which one: anvil, geth or pyevm. Default: the first of them that is there.")
]
Fork = Annotated[
    str | None, Option(help="By whose rules: osaka, amsterdam (geth alone), prague or cancun. Default: osaka.")
]


def gas(
    rpc: Url = None,
    client: Client = None,
    fork: Fork = None,
    as_json: Json = False,
) -> None:
    """What each call of the contract costs on a real node, by its receipts. Exit code 1 if one costs too much.

    Example: tally bench gas --json
    Example: tally bench gas --client geth --fork amsterdam
    Example: tally bench gas --rpc http://127.0.0.1:8545
    """
    from rich.console import Console

    from tallystick.sdk.bench.gas import gas_table, run_gas

    result = run_guarded(lambda: run_gas(rpc, client, fork))
    print_result(result, as_json, lambda found: Console().print(gas_table(found)))
    for call in result.dear:
        say(f"too dear: {call}", err=True)
    if result.dear:
        raise Exit(1)


def rollup(rpc: Url = None, client: Client = None, fork: Fork = None, as_json: Json = False) -> None:
    """What a close costs as one of 1,000 in a rollup's batch. Exit code 1 if that is more than a tenth.

    Example: tally bench rollup --json
    """
    from rich.console import Console

    from tallystick.sdk.bench.rollup import rollup_table, run_rollup

    result = run_guarded(lambda: run_rollup(rpc, client, fork))
    print_result(result, as_json, lambda found: Console().print(rollup_table(found)))
    for what in result.dear:
        say(f"too dear: {what}", err=True)
    if result.dear:
        raise Exit(1)
