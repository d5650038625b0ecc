"""Act five of the demo: a swap between two chains, over a maker who dies in the midst of one.

    chain 1337    Ina ── Max     Ina has coins on one chain and wants some on the other. She pays Max on the first,
    chain 1338    Ina ── Max     and he pays her on the second, under one hash: on both, or on neither.

Ina and Max run a node on each chain, both in one process: `tally node run`, as anybody would; the demo asks them over
their control APIs.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio
from ground import FUNDS, INTERVAL, Ground
from stage import TRADE, Stage, Wrong

from tallystick import NATIVE, ControlClient, PrivateKey, TallystickError, connect_control, open_rpc_chain
from tallystick.channels.protocol.objects import Address
from tallystick.channels.transport.retries import Jitter
from tallystick.sdk.bench.launcher import DriverProcess, DriverProcesses, chain_run, tally
from tallystick.sdk.daemon.configuration import Settings, write_settings
from tallystick.sdk.daemon.keystore import KEYSTORE, create
from tallystick.settlement.port import Chain
from tallystick.settlement.simulated.ledger import MINER

CHAIN_ID = 1338
"""Of the second chain."""

DEPOSIT, GIVEN = 1_000_000, 150_000
TAKE, GIVE, BASE = 3, 2, 7
"""Max's rate: he takes three on the first chain for two on the second, and seven for each swap."""

LEAST = (GIVEN - BASE) * GIVE // TAKE - 200
"""What Ina wants to have at least: a little is left aside as the fee of the way to a maker."""

SKEW = 1_800
"""Seconds by which one chain's clock may be ahead: each has a pace of its own, about ten times the world's."""

PASSWORD = "demo"
LOOK_SECONDS = 0.02
SETTLED_SECONDS = 60


def make_traders(folder: Path) -> dict[str, PrivateKey]:
    """Make the keys of those who trade, each for both chains."""
    keys = {}
    for name in TRADE:
        keys[name] = create(folder / name, PASSWORD, light=True)
        (folder / name / "other").mkdir()
        shutil.copy2(folder / name / KEYSTORE, folder / name / "other" / KEYSTORE)
    (folder / "password").touch(mode=0o600)
    (folder / "password").write_text(PASSWORD)
    return keys


class SecondChain:
    """The chain on the other side. It runs from the beginning, so that both chains' clocks are of one time."""

    def __init__(self, chain: Chain, url: str) -> None:
        self.chain = chain
        self.url = url

    async def coins(self, stage: Stage) -> int:
        """Return the coins of all who have some there."""
        accounts = [*(stage.keys[name].address for name in TRADE), MINER, self.chain.contract]
        return sum([await self.chain.balance(account, NATIVE) for account in accounts])


@asynccontextmanager
async def open_second(stage: Stage, processes: DriverProcesses, jitter: Jitter) -> AsyncIterator[SecondChain]:
    """Run the second chain, on which those who trade have coins, too."""
    coins = {stage.keys[name].address: FUNDS for name in TRADE}
    command = [*chain_run(str(stage.folder / "second"), coins, interval=INTERVAL), f"--chain-id={CHAIN_ID}"]
    process = await processes.start("second chain", command)
    url = process.first["url"]
    async with open_rpc_chain(url, jitter=jitter) as chain:
        yield SecondChain(chain, url)


class Trader:
    """Somebody with a node on each chain. Make one with `_open`."""

    def __init__(self, process: DriverProcess, here: ControlClient, there: ControlClient) -> None:
        self.process = process
        self.nodes = (here, there)

    async def owns(self) -> tuple[int, int]:
        """Return what is this trader's in the channels on each chain."""
        return (await self.nodes[0].channels())[0].balance, (await self.nodes[1].channels())[0].balance


@asynccontextmanager
async def _open(stage: Stage, processes: DriverProcesses, name: str) -> AsyncIterator[Trader]:
    """Run somebody's nodes, and give what speaks with them."""
    home = stage.folder / name
    options = ["--data", str(home), "--password-file", str(stage.folder / "password"), "--json"]
    process = await processes.start(name, tally("node", "run", *options))
    async with connect_control(home) as here, connect_control(home / "other") as there:
        for node in (here, there):
            await _until(node, _is_ready)
        yield Trader(process, here, there)
        if process.process.returncode is None:
            await here.stop()
            await process.process.wait()


async def act_five(stage: Stage, processes: DriverProcesses, ground: Ground, second: SecondChain) -> None:
    """Ina swaps with Max; Max dies in the midst of another swap."""
    stage.act("Five. Meanwhile, Ina swaps coins of this chain for coins of another, over Max, a maker on both")
    chain_ids = (ground.chain.chain_id, second.chain.chain_id)
    one, other = (f"coin@{chain_id}" for chain_id in chain_ids)
    coins = await second.coins(stage)
    urls = (ground.place("")["chain"], second.url)
    for name in TRADE:
        _write_settings(stage.folder / name, chain_ids, urls, ground.chain.contract, maker=name == "max")
    async with _open(stage, processes, "ina") as ina:
        async with _open(stage, processes, "max") as maker:
            await _make_market(stage, ina, maker, (one, other))
            before = await ina.owns(), await maker.owns()
            made = await ina.nodes[0].swap(GIVEN, give=one, get=other, least=LEAST)
            assert made is not None
            fair = made.given == GIVEN and made.got >= LEAST
            stage.check(fair, f"Ina gave {made.given:,} here for {made.got:,} there; she wanted {LEAST:,} at least")
            moved = await _moved(before, ina, maker)
            stage.check(moved == (made.given, made.got), "Max got the one, and gave the other")
            before = await ina.owns(), await maker.owns()
            await _kill_in_a_swap(ina, maker, one, other)
        stage.tell("Max is killed (SIGKILL) in the midst of the next swap")
        async with _open(stage, processes, "max") as maker:
            stage.tell("Max is back, and does what he had agreed to, as his disk says")
            await _until(maker.nodes[0], _has_ended_all)
            gave, got = await _moved(before, ina, maker)
            told = f"it was made on both chains, {gave:,} for {got:,}" if gave else "it was made on neither chain"
            stage.check((gave == 0) == (got == 0), told)
    stage.check(await second.coins(stage) == coins, "coins are conserved on the other chain, too")


async def _make_market(stage: Stage, ina: Trader, maker: Trader, assets: tuple[str, str]) -> None:
    """Let Ina open a channel to the maker on each chain, and him say what he asks for."""
    for node, peer in zip(ina.nodes, maker.nodes, strict=True):
        place = (await peer.info()).peer_address
        assert place is not None
        await node.open_channel(place, DEPOSIT)
    (channel,) = await maker.nodes[1].channels()
    await maker.nodes[1].deposit(channel.id, DEPOSIT)
    await maker.nodes[0].set_rate(*assets, take=TAKE, give=GIVE, base=BASE)
    told = f"{TAKE} of {assets[0]} for {GIVE} of {assets[1]}, and {BASE} for each swap"
    await _until(ina.nodes[0], _knows_a_maker)
    stage.tell(f"Max asks {told}; Ina hears of it by gossip, and has a channel with him on each chain")


async def _kill_in_a_swap(ina: Trader, maker: Trader, one: str, other: str) -> None:
    """Let Ina ask for another swap, and kill the maker as soon as he has agreed to it."""

    async def swap() -> None:
        with suppress(TallystickError):  # of what became of it, the channels tell
            await ina.nodes[0].swap(GIVEN, give=one, get=other, least=LEAST)

    paid = (await maker.nodes[0].maker()).paid
    async with trio.open_nursery() as nursery:
        nursery.start_soon(swap)
        while (stands := await maker.nodes[0].maker()).open == 0 and stands.paid == paid:
            pass
        await maker.process.kill()
        nursery.cancel_scope.cancel()


async def _until(node: ControlClient, holds: Callable[[ControlClient], Awaitable[bool]]) -> None:
    """Return once that holds of a node."""
    while True:
        if await holds(node):
            return
        await trio.sleep(LOOK_SECONDS)


async def _is_ready(node: ControlClient) -> bool:
    return (await node.info()).ready


async def _has_ended_all(node: ControlClient) -> bool:
    return not (await node.maker()).open


async def _knows_a_maker(node: ControlClient) -> bool:
    return bool(await node.markets())


async def _moved(before: tuple[tuple[int, int], tuple[int, int]], ina: Trader, maker: Trader) -> tuple[int, int]:
    """Return what Ina gave on the first chain and got on the second, once both count the same; raise Wrong if never.

    That is all of a swap, or nothing.
    """
    with trio.move_on_after(SETTLED_SECONDS):
        while True:
            hers, his = await ina.owns(), await maker.owns()
            gave, got = before[0][0] - hers[0], hers[1] - before[0][1]
            alike = (his[0] - before[1][0], before[1][1] - his[1]) == (gave, got)
            if alike and ((gave, got) == (0, 0) or (gave == GIVEN and got >= LEAST)):
                return gave, got
            await trio.sleep(LOOK_SECONDS)
    raise Wrong(f"Ina gave {gave} and got {got}; Max has {his} where he had {before[1]}")


def _write_settings(
    home: Path, chain_ids: tuple[int, int], urls: tuple[str, str], contract: Address, *, maker: bool
) -> None:
    """Write the settings of somebody's two nodes."""
    for node, (chain_id, url) in enumerate(zip(chain_ids, urls, strict=True)):
        settings = Settings(
            chain_url=url,
            chain_id=chain_id,
            contract=f"0x{contract.hex()}",
            listen=f"127.0.0.1:{_free_port()}" if maker else "",
            confirmations=1,
            also=() if node else ("other",),
            maker=maker and not node,
            maker_skew=SKEW,
        )
        write_settings(home / "other" if node else home, settings)


def _free_port() -> int:
    """Return a port that nobody listens on: who restarts is found where it was."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
