"""`tally chain deploy`, `doctor`, `owed`, `claim`: the adjudicator on a chain, who tells of it, and what it owes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from tallystick.sdk.cli.options import Asset, Data, Json, PasswordFile, Wait, parse_account
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import FAILED, ask_node, print_result, run_guarded
from tallystick.sdk.control.kinds import NATIVE_ASSET

if TYPE_CHECKING:
    from tallystick.sdk.control.views import Owing
    from tallystick.settlement.ethereum.evm.deploy import Deployed
    from tallystick.settlement.ethereum.evm.doctor import Diagnosis
    from tallystick.settlement.ethereum.evm.endpoint import Endpoint


def deploy(
    rpc: Annotated[str, Option(envvar="TALLY_RPC", help="URL of an Ethereum node.")],
    data: Data = None,
    password_file: PasswordFile = None,
    reward: Annotated[
        int, Option(min=0, max=10_000, help="What towers earn of what a cheater forfeits, in 0.01 %.")
    ] = 1_000,
    court: Annotated[
        str,
        Option(
            help="The court that it asks about apps: its address; `new`: one is deployed, too; `none`.", metavar="…"
        ),
    ] = "new",
    timeout: Annotated[float, Option(min=1, help="Seconds to wait until a transaction is mined.")] = 600,
    as_json: Json = False,
) -> None:
    """Put the adjudicator onto a real chain, paid by the key in the data directory, and check it.

    One contract serves everybody on a chain: deploy one only where there is none that you trust. It is not audited. A
    court takes nine transactions more, and twice as much gas; one serves all adjudicators of its chain.
    """

    def work() -> tuple[Deployed, str, Deployed | None]:
        import trio

        from tallystick.sdk.daemon.configuration import data_directory
        from tallystick.sdk.daemon.keystore import load_key
        from tallystick.settlement.ethereum.evm.deploy import deploy as put
        from tallystick.settlement.ethereum.evm.deploy import deploy_court
        from tallystick.settlement.ethereum.rpc_shapes import read_address

        named = None if court in ("new", "none") else read_address(court, "--court")
        key = load_key(data_directory(data), None, password_file)

        async def run() -> tuple[Deployed, str, Deployed | None]:
            async with _endpoint(rpc) as endpoint:
                fresh = await deploy_court(endpoint, key, timeout) if court == "new" else None
                at = named if fresh is None else fresh.contract
                made = await put(endpoint, key, _bytecode(), reward, timeout, at)
                return made, "" if at is None else f"0x{at.hex()}", fresh

        return trio.run(run)

    from tallystick.settlement.ethereum.evm.profiles import profile_of

    made, asked, fresh = run_guarded(work)
    gas, fee = (made.gas, made.fee) if fresh is None else (made.gas + fresh.gas, made.fee + fresh.fee)
    contract = f"0x{made.contract.hex()}"
    if as_json:
        say_json(
            {
                "chain_id": made.chain_id,
                "contract": contract,
                "court": asked or None,
                "start": made.block,
                "transaction": f"0x{made.transaction.hex()}",
                "gas": gas,
                "fee": fee,
            }
        )
        return
    say(f"contract      {contract}, on chain {made.chain_id} since block {made.block}")
    if fresh is not None:
        say(f"court         {asked}, with the rules of all apps, {fresh.gas} units of gas for {fresh.fee}")
    say(f"transaction   0x{made.transaction.hex()}, {made.gas} units of gas for {made.fee}")
    if link := profile_of(made.chain_id).link(made.transaction):
        say(f"to look at    {link}")
    place = f"--contract {contract}{f' --court {asked}' if asked else ''} --start {made.block}"
    say(f"For a node:   tally init --rpc {rpc} --chain-id {made.chain_id} {place}")


def doctor(
    rpc: Annotated[str, Argument(envvar="TALLY_RPC", metavar="URL", help="Of an Ethereum node.")],
    contract: Annotated[str | None, Option(help="The adjudicator's address, to look at it, too.")] = None,
    start: Annotated[
        int | None,
        Option(min=0, help="With --contract: the first block to follow: is it early enough?"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what an Ethereum node can and cannot do for us. Exit code 1 if it is of no use."""

    def work() -> Diagnosis:
        import trio

        from tallystick.channels.ports import system_clock
        from tallystick.settlement.ethereum.evm.doctor import examine
        from tallystick.settlement.ethereum.rpc_shapes import read_address

        at = None if contract is None else read_address(contract, "--contract")

        async def run() -> Diagnosis:
            async with _endpoint(rpc) as endpoint:
                return await examine(endpoint, system_clock, at, _bytecode(), start)

        return trio.run(run)

    found = run_guarded(work)
    if as_json:
        say_json({**{name: getattr(found, name) for name in found.__struct_fields__}, "grade": found.grade})
    else:
        say(f"{found.url} serves {found.chain} (chain {found.chain_id}), at block {found.head}")
        for finding in found.findings:
            say(f"{finding.grade:<8}{finding.what:<15}{finding.text}")
    if found.grade == "bad":
        raise Exit(FAILED)


def show_owed(data: Data = None, as_json: Json = False) -> None:
    """Show what the contract owes this node: payouts that its account or the token refused."""

    def show(found: list[Owing]) -> None:
        say(*[f"{each.asset}  {each.amount}" for each in found] or ["nothing"])

    print_result(ask_node(data, lambda node: node.owed()), as_json, show)


def claim(
    asset: Asset = NATIVE_ASSET,
    to: Annotated[
        str | None,
        Option(parser=parse_account, metavar="0x…", help="Account that gets it.", show_default="the node's own"),
    ] = None,
    wait: Wait = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Take all that the contract owes this node of an asset, at any account that accepts it."""
    found = ask_node(data, lambda node: node.claim(asset, to, wait=wait))
    if found is None:
        say_json({"accepted": True}) if as_json else say("it is on its way")
    else:
        print_result(found, as_json, lambda done: say(f"claimed {done.amount} of {done.asset}"))


@asynccontextmanager
async def _endpoint(url: str) -> AsyncIterator[Endpoint]:
    from tallystick.settlement.ethereum.evm.endpoint import TIMEOUT, Endpoint
    from tallystick.settlement.ethereum.http import make_client

    async with make_client(url, TIMEOUT) as client:
        yield Endpoint(client)


def _bytecode() -> bytes:
    """Return what a deployment sends, before the constructor's argument."""
    from tallystick.contracts import artifact

    return artifact().code
