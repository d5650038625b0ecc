"""`tally chain run --shards`, `send`, `shards`: several ledgers as one group, and coins that cross between them."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from tallystick.sdk.cli.options import Data, Json, PasswordFile, parse_account
from tallystick.sdk.cli.screen import say, say_json, show_table
from tallystick.sdk.cli.shell import Result, fail, run_guarded

if TYPE_CHECKING:
    from tallystick.channels.protocol.keys import PrivateKey
    from tallystick.channels.protocol.objects import Address
    from tallystick.sdk.control.client import ControlClient
    from tallystick.settlement.chain import TransactionReceipt
    from tallystick.settlement.ethereum.rpc_client import RpcChain
    from tallystick.settlement.shards.rpc_shard import RpcShard, ShardStatus
    from tallystick.settlement.simulated.ledger import Mint

LOCAL = "http://127.0.0.1:8545"
SEND_SECONDS = 60.0
"""How long `tally chain send` waits for its block."""

Url = Annotated[str, Option("--chain", envvar="TALLY_CHAIN", help="URL of the chain node.")]


async def run_group(
    data: Path,
    shards: int,
    *,
    host: str,
    port: int,
    interval: float,
    chain_id: int,
    final: int,
    dev: bool,
    coins: Sequence[Mint],
    as_json: bool,
) -> None:
    """Run a group of shards until a signal says to stop."""
    import trio

    from tallystick.channels.ports import system_entropy
    from tallystick.sdk.daemon.shard_files import prepare_group
    from tallystick.sdk.daemon.shard_process import Coins
    from tallystick.sdk.daemon.shards import ShardServer

    group = prepare_group(data, shards, chain_id, final, system_entropy)

    def tell(event: str, facts: dict[str, Any]) -> None:
        if as_json:
            say_json({"event": event, **facts})
        elif event == "listening":
            say(f"shard {facts['shard']}: chain {facts['chain_id']} at {facts['url']}, block {facts['number']}")
        elif event == "ready":
            say(f"receipts are carried between {facts['shards']} shards")
        elif event == "ended":
            say(f"tally: shard {facts['shard']} ended (code {facts['code']}); it is started again", err=True)
        else:
            say(f"tally: shard {facts['source']} to {facts['destination']}: {facts['error']}", err=True)

    server = ShardServer(
        data,
        group,
        host=host,
        port=port,
        interval=interval,
        dev=dev,
        coins=[Coins(each.account.hex(), each.asset.hex(), each.amount) for each in coins],
        jitter=lambda: system_entropy(1)[0] / 256,
        tell=tell,
    )
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()
    tell_stopped = {"event": "stopped", "shards": shards}
    say_json(tell_stopped) if as_json else say(f"{shards} shards stopped")


def show_shards(chain: Url = LOCAL, as_json: Json = False) -> None:
    """Show what a shard knows of the others: how many receipts left for each, and how many of theirs were executed."""

    async def ask() -> ShardStatus:
        async with _open(chain) as node:
            return await node.status()

    status = run_guarded(lambda: _trio(ask))
    if as_json:
        others = [other._asdict() for other in status.others]
        say_json({"number": status.number, "shards": status.shards, "others": others})
        return
    say(f"shard {status.number} of {status.shards}")
    figures = ["sent to it", "executed of it", "next"]
    show_table(["shard"], [[str(value) for value in other] for other in status.others], figures=figures)


def send(
    to: Annotated[str, Argument(parser=parse_account, metavar="ADDRESS", help="Account that gets it.")],
    amount: Annotated[int, Argument(min=1, help="In the asset's smallest unit.")],
    to_shard: Annotated[
        int | None, Option(min=0, help="Which shard it goes to.", show_default="the account's home, on a shard")
    ] = None,
    token: Annotated[
        str | None, Option(parser=parse_account, metavar="0x…", help="The token; the chain's own coin if left out.")
    ] = None,
    expiry: Annotated[
        int, Option(min=0, help="Block time after which it comes back instead of arriving; 0: never.")
    ] = 0,
    arrival: Annotated[
        str | None, Option(metavar="URL", help="Of the other shard: wait until it is paid, or sent back.")
    ] = None,
    timeout: Annotated[float, Option(min=0, help="Seconds to wait at most.")] = SEND_SECONDS,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Send coins from the account of the key in the data directory, on this chain or to another shard.

    On the chain of a node that runs on that key, the node numbers its transactions itself: there, use another key.
    """
    from tallystick.channels.protocol.objects import NATIVE
    from tallystick.sdk.daemon.configuration import data_directory
    from tallystick.sdk.daemon.keystore import load_key
    from tallystick.settlement.ethereum.rpc_shapes import read_address

    async def act() -> dict[str, Any]:
        account = read_address(to, "account")
        asset = read_address(token, "token") if token else NATIVE
        directory = data_directory(data)
        key = load_key(directory, None, password_file)
        return await _send(chain, directory, key, account, amount, asset, to_shard, expiry, arrival, timeout)

    def work() -> dict[str, Any]:
        import trio

        try:
            return _trio(act)
        except trio.TooSlowError:
            fail(f"it was not there within {timeout:g} seconds; it may still come")

    found = run_guarded(work)
    if as_json:
        say_json(found)
        return
    say(f"transaction {found['transaction']} in block {found['block']}, for a fee of {found['fee']}")
    if "receipt" in found:
        say(f"receipt {found['receipt']} from shard {found['from_shard']} to shard {found['to_shard']}")
    if "arrival" in found:
        say(found["arrival"])


async def _send(
    url: str,
    directory: Path,
    key: PrivateKey,
    account: Address,
    amount: int,
    asset: Address,
    to_shard: int | None,
    expiry: int,
    arrival: str | None,
    timeout: float,
) -> dict[str, Any]:
    """Send, and wait until it is mined and, with `arrival`, paid there or sent back; return what is told."""
    import trio

    from tallystick.sdk.daemon.numbering import hold_numbers

    async with _open(url) as node:
        here, there = await _where(node, account, to_shard)
        other_shard = there if there != here else None
        with hold_numbers(directory, key.address, node.chain.chain_id):
            transaction = await _submit(node.chain, key, account, amount, asset, other_shard, expiry)
            with trio.fail_after(timeout):
                receipt = await _mined(node, transaction)
        if not receipt.success:
            fail(f"the transaction failed: {receipt.why}")
        found = {"transaction": f"0x{transaction.hex()}", "block": receipt.block.number, "fee": receipt.fee}
        crossed = await node.sent(transaction) if there != here else None
    if crossed is not None:
        found |= {"from_shard": here, "to_shard": crossed[0], "receipt": crossed[1]}
        if arrival is not None:
            async with _open(arrival) as other:
                with trio.fail_after(timeout):
                    found["arrival"] = await _arrived(other, here or 0, crossed[1])
    return found


async def _where(node: RpcShard, account: Address, to_shard: int | None) -> tuple[int | None, int | None]:
    """Return the number of the shard that is spoken to, and of the one that the coins are for; None if it is none."""
    from tallystick.settlement.errors import ChainError
    from tallystick.settlement.shards.group import home_of

    try:
        status = await node.status()
    except ChainError:
        if to_shard is not None:
            raise
        return None, None
    return status.number, home_of(account, status.shards) if to_shard is None else to_shard


async def _submit(
    chain: RpcChain, key: Any, to: Address, amount: int, asset: Address, shard: int | None, expiry: int
) -> bytes:
    from tallystick.settlement.chain import TransferCall
    from tallystick.settlement.shards.outbox import Sending, sign_sending

    nonce, price = await chain.nonce(key.address), await chain.fee_price()
    if shard is None:
        raw = (await chain.sign(key, TransferCall(asset, to, amount), nonce, price)).raw
    else:
        raw = sign_sending(key, chain.chain_id, Sending(shard, asset, to, amount, expiry), nonce, price)
    return await chain.submit(raw)


async def _mined(shard: RpcShard, transaction: bytes) -> TransactionReceipt:
    """Return what became of a transaction once it is in a block."""
    while True:
        head = await shard.head()
        receipt = await shard.chain.receipt(transaction)
        if receipt is not None:
            return receipt
        await shard.wait(head)


async def _arrived(shard: RpcShard, source: int, number: int) -> str:
    """Return what became of a receipt once its shard has executed it."""
    while True:
        head = await shard.head()
        state = await shard.received(source, number)
        if state != "pending":
            return state
        await shard.wait(head)


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[RpcShard]:
    from tallystick.channels.ports import system_entropy
    from tallystick.settlement.shards.rpc_shard import open_rpc_shard

    async with open_rpc_shard(url, jitter=lambda: system_entropy(1)[0] / 256) as shard:
        yield shard


def _trio(work: Callable[[], Awaitable[Result]]) -> Result:
    import trio

    return trio.run(work)


async def telling_of_shards(data: Path | None, node: ControlClient, work: Callable[[], Awaitable[Result]]) -> Result:
    """Do something that takes coins; if they are missing on a shard, say in the error how some come from another."""
    from tallystick.sdk.errors import ControlError

    try:
        return await work()
    except ControlError as error:
        way = await _way_from_others(data, node) if error.code == "insufficient-funds" else ""
        if way:
            raise ControlError(f"{error}{way}", error.code) from error
        raise


async def _way_from_others(data: Path | None, node: ControlClient) -> str:
    from tallystick.channels.errors import TallystickError
    from tallystick.sdk.daemon.configuration import data_directory, read_settings

    directory = data_directory(data)
    try:
        url = read_settings(directory).chain_url
        async with _open(url) as shard:
            status = await shard.status()
        account = (await node.info()).address
    except TallystickError:  # no shard, or one that cannot be asked: there is nothing to add
        return ""
    return (
        f". This is shard {status.number} of {status.shards}; the account's coins on another one come here with: tally "
        f"chain send {account} AMOUNT --to-shard {status.number} --chain URL_OF_THE_OTHER --arrival {url} --data "
        f"{directory}; then do this again"
    )
