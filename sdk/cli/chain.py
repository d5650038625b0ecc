"""`tally chain`: run a simulated chain as a node of its own, and speak to one."""

from __future__ import annotations

import errno
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import trio
from typer import Argument, Exit, Option

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import system_clock, system_entropy
from tallystick.channels.protocol.objects import NATIVE
from tallystick.sdk.cli.options import LOCAL_CHAIN, ChainUrl
from tallystick.sdk.cli.real_chain import claim, deploy, doctor, show_owed
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shards import run_group, send, show_shards
from tallystick.sdk.cli.shell import FAILED, MISUSED, UNREACHABLE, example, make_group, run_guarded
from tallystick.sdk.cli.stakes import register, replace_key, show_validators
from tallystick.sdk.cli.validators import found_homes, run_validators, validate
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.ethereum.rpc_client import RpcChain, open_rpc_chain
from tallystick.settlement.ethereum.rpc_shapes import read_address
from tallystick.settlement.shards.group import FINAL_BLOCKS, SHARDS_MAX
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.ledger import Mint

MINT_SECONDS = 30.0
"""How long `tally chain mint` waits for a block, which development chains may have mined on demand only."""

POLL_SECONDS = 0.1
"""Between two looks whether a chain node answers."""

app = make_group("Run a simulated chain, or speak to one; put the contract onto a real one.")
app.command(epilog=example("chain deploy --rpc http://127.0.0.1:8545"))(deploy)
app.command(epilog=example("chain doctor http://127.0.0.1:8545"))(doctor)
app.command(epilog=example("chain send 0x2b762adcd8360d8a9f63cf729909279f768d7962 1000 --to-shard 1"))(send)
app.command("shards", epilog=example("chain shards --chain http://127.0.0.1:8546"))(show_shards)
app.command("owed", epilog=example("chain owed"))(show_owed)
app.command(epilog=example("chain claim --to 0x2b762adcd8360d8a9f63cf729909279f768d7962"))(claim)

app.command(epilog=example("chain validate --data ./net/validator0"))(validate)
app.command("validators", epilog=example("chain validators"))(show_validators)
app.command(epilog=example("chain register --data ./net/new --stake 1000000000000000000"))(register)
app.command(epilog=example("chain replace-key --data ./net/validator0"))(replace_key)

Json = Annotated[bool, Option("--json", help="Print lines of JSON for programs.")]


@app.command(epilog=example("chain run --data ./chain --dev"))
def run(
    data: Annotated[Path, Option(help="Directory that keeps the chain.")],
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 8545,
    interval: Annotated[
        float, Option(min=0.01, help="Seconds between two blocks; below 1, chain time runs ahead.")
    ] = 1.0,
    chain_id: Annotated[int, Option(min=1, max=2**63 - 1, help="EIP-155 chain id.")] = 1337,
    mint: Annotated[
        list[str] | None,
        Option(help="ADDRESS=AMOUNT, or ADDRESS=AMOUNT@TOKEN: coins in the genesis block. May be repeated."),
    ] = None,
    dev: Annotated[bool, Option("--dev", help="Let anybody mint coins and mine blocks on demand.")] = False,
    shards: Annotated[
        int,
        Option(
            min=1,
            max=SHARDS_MAX,
            help="Run so many shards, each a process: from this port and this chain id on, each with what is minted.",
        ),
    ] = 1,
    final: Annotated[
        int, Option(min=1, max=1_000, help="With --shards: blocks after which a shard replaces none.")
    ] = FINAL_BLOCKS,
    validators: Annotated[
        int, Option(min=0, help="Run so many validators, each a process, from this port on; CometBFT must be here.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Run a chain node until it is told to stop (Ctrl-C or SIGTERM). What is in --data goes on where it ended."""
    settings = ChainSettings(chain_id=chain_id, interval=interval, dev=dev)
    if validators and shards > 1:
        _guarded(_refuse_both, as_json)
    elif validators:
        _guarded(lambda: _run_validators(data, settings, mint or (), validators, host, port, as_json), as_json)
    elif shards > 1:
        _guarded(lambda: _run_shards(data, settings, mint or (), host, port, shards, final, as_json), as_json)
    else:
        _guarded(lambda: _run(data, settings, mint or (), host, port, as_json), as_json)


@app.command(epilog=example("chain mine 5"))
def mine(
    count: Annotated[int, Argument(min=1, help="How many blocks.")] = 1,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Have blocks mined now (development chains only)."""

    async def act() -> None:
        async with _node_at(chain) as node:
            head = await node.mine(count)
        _say(as_json, f"block {head.number}  0x{head.hash.hex()}", number=head.number, hash=f"0x{head.hash.hex()}")

    _guarded(act, as_json)


@app.command(name="mint", epilog=example("chain mint 0x2b762adcd8360d8a9f63cf729909279f768d7962 1000000000000000000"))
def mint_coins(
    account: Annotated[str, Argument(help="Address that gets them.")],
    amount: Annotated[int, Argument(min=1, help="In the asset's smallest unit.")],
    token: Annotated[str | None, Option(help="Address of the token; the chain's own coin if left out.")] = None,
    wait: Annotated[bool, Option("--wait/--no-wait", help="Return when they are there, or at once.")] = True,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Make coins or tokens; returns when they are there, after the next block (development chains only)."""

    async def act() -> None:
        to, asset = read_address(account, "account"), read_address(token, "token") if token else NATIVE
        async with _node_at(chain) as node:
            await node.mint(to, amount, asset)
            with trio.move_on_after(MINT_SECONDS if wait else 0) as scope:
                await node.wait((await node.head()).hash)
        there = wait and not scope.cancelled_caught
        text = f"{account} got {amount}" if there else f"{amount} for {account} in the next block"
        _say(as_json, text, account=account, amount=amount)

    _guarded(act, as_json)


@app.command("wait", epilog=example("chain wait --timeout 30"))
def wait_for_chain(
    timeout: Annotated[float, Option(min=0, help="Seconds to wait at most.")] = 60,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Return once the chain node that was just started answers: `tally chain run … & tally chain wait`."""

    async def act() -> None:
        missing: Exception = ChainUnavailable(f"the chain node at {chain} does not answer")
        with trio.move_on_after(timeout):
            while True:
                try:
                    async with _node_at(chain) as node:
                        number = (await node.head()).number
                        told = f"chain {node.chain_id} is at block {number}"
                        return _say(as_json, told, chain_id=node.chain_id, number=number)
                except ChainUnavailable as error:
                    missing = error
                await trio.sleep(POLL_SECONDS)
        raise missing

    _guarded(act, as_json)


@app.command(epilog=example("chain status --json"))
def status(chain: ChainUrl = LOCAL_CHAIN, as_json: Json = False) -> None:
    """Show which chain a node serves and how far it is."""

    async def act() -> None:
        async with _node_at(chain) as node:
            head, price = await node.head(), await node.fee_price()
        _say(
            as_json,
            f"chain {node.chain_id}, adjudicator 0x{node.contract.hex()}, block {head.number} of time {head.time}, "
            f"fee price {price}",
            chain_id=node.chain_id,
            contract=f"0x{node.contract.hex()}",
            number=head.number,
            hash=f"0x{head.hash.hex()}",
            time=head.time,
            fee_price=price,
        )

    _guarded(act, as_json)


async def _run(data: Path, settings: ChainSettings, mint: Sequence[str], host: str, port: int, as_json: bool) -> None:
    # Late: whoever only speaks to a chain serves none.
    from tallystick.channels.storage.sqlite.store import open_store
    from tallystick.settlement.simulated.chain import SimulatedChain
    from tallystick.settlement.simulated.rpc_server import serve_chain
    from tallystick.settlement.simulated.sqlite import SCHEMA

    genesis = [_parse_mint(text) for text in mint]
    store = open_store(data, [SCHEMA], owner="tally chain run")
    try:
        chain = SimulatedChain(settings, system_clock, genesis=genesis, store=store)

        def started(url: str) -> None:
            head = chain.newest.header
            _say(
                as_json,
                f"chain {chain.chain_id} at {url}, adjudicator 0x{chain.contract.hex()}, block {head.number}",
                event="listening",
                url=url,
                chain_id=chain.chain_id,
                contract=f"0x{chain.contract.hex()}",
                number=head.number,
            )

        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chain.run)
                await serve_chain(chain, host, port, started=started, stop=lambda: _next(signals))
                nursery.cancel_scope.cancel()
        number = chain.newest.header.number
        _say(as_json, f"stopped at block {number}", event="stopped", number=number)
    finally:
        store.close()


async def _refuse_both() -> None:
    raise InvalidInput("choose --validators or --shards: a shard has no validators of its own")


async def _run_validators(
    data: Path, settings: ChainSettings, mint: Sequence[str], count: int, host: str, port: int, as_json: bool
) -> None:
    homes = found_homes(data, count, settings, [_parse_mint(text) for text in mint])
    await run_validators(homes, host, port, as_json)


async def _run_shards(
    data: Path,
    settings: ChainSettings,
    mint: Sequence[str],
    host: str,
    port: int,
    shards: int,
    final: int,
    as_json: bool,
) -> None:
    await run_group(
        data,
        shards,
        host=host,
        port=port,
        interval=settings.interval,
        chain_id=settings.chain_id,
        final=final,
        dev=settings.dev,
        coins=[_parse_mint(text) for text in mint],
        as_json=as_json,
    )


async def _next(signals: Any) -> None:
    async for _ in signals:
        return


def _node_at(url: str) -> AbstractAsyncContextManager[RpcChain]:
    return open_rpc_chain(url, jitter=lambda: system_entropy(1)[0] / 256)


def _parse_mint(text: str) -> Mint:
    account, equals, rest = text.partition("=")
    amount, at, token = rest.partition("@")
    if not equals or not amount.isascii() or not amount.isdigit() or len(amount) > 80:
        raise InvalidInput(f"--mint takes ADDRESS=AMOUNT or ADDRESS=AMOUNT@TOKEN, not {text!r}")
    return Mint(read_address(account, "account"), read_address(token, "token") if at else NATIVE, int(amount))


def _guarded(action: Callable[[], Awaitable[None]], as_json: bool) -> None:
    """Run it under trio; turn what Tallystick or the system refuses into a sentence and an exit code."""

    def refuse(error: Exception) -> NoReturn:
        say_json({"error": _worded(error)}, err=True) if as_json else say(f"tally: {_worded(error)}", err=True)
        codes = {InvalidInput: MISUSED, ChainUnavailable: UNREACHABLE}
        raise Exit(next((code for kind, code in codes.items() if isinstance(error, kind)), FAILED))

    run_guarded(lambda: trio.run(action), refuse)


def _worded(error: Exception) -> str:
    """Return what went wrong and what to do: the system's own words say only half of it."""
    if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
        return f"cannot listen there, choose another --port or --host: {error.strerror}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used, choose another --data: {error.strerror}"
    return str(error)


def _say(as_json: bool, text: str, **fields: Any) -> None:
    say_json(fields) if as_json else say(text)
