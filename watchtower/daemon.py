"""`run_tower`: a tower as a process of its own, with the real clock, disk, network and chain node.

While it runs it keeps `status.json` in its data directory up to date, which `read_status` reads: so anybody who may
read the directory can see how the tower does, and nobody can slow it down by asking.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import trio

from tallystick.channels.errors import MalformedMessage
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.node.loops import require_trio
from tallystick.channels.ports import Clock, Entropy, PeerAddress, system_clock, system_elapsed, system_entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.storage.directory import hold_identity
from tallystick.channels.storage.identity import Identity, claim_directory
from tallystick.channels.storage.sqlite.snapshots import open_snapshot
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.tables import Reader
from tallystick.channels.transport.descriptors import raise_descriptor_limit
from tallystick.channels.transport.links import TcpNetwork
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.channels.values.arguments import checked
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.evm.client import EvmChain, EvmPlace, open_evm_chain
from tallystick.settlement.ethereum.rpc_client import open_rpc_chain
from tallystick.settlement.following.vigil import TICK, Sight, begin_vigil, kind_of, look, spell
from tallystick.settlement.port import Chain, LedgerChain
from tallystick.watchtower.figures import STATUS_OLD, TowerStatus
from tallystick.watchtower.ledger_registry import LedgerRegistry
from tallystick.watchtower.monitoring import Board, open_door, serve_monitor
from tallystick.watchtower.rescan import Rescan, account_of, corrections, read_record, rescan
from tallystick.watchtower.schema import DisputeOver, said_by_tower
from tallystick.watchtower.sqlite import SCHEMAS
from tallystick.watchtower.tower import Tower, TowerPolicy

STATUS = "status.json"
STATUS_EVERY = 2.0
"""Seconds between two writings of the status."""

CHAIN_AGAIN = Pauses("the chain node's first answer", 1.0, 1.0)


@checked
async def run_tower(
    directory: Path,
    key: PrivateKey,
    *,
    chain_url: str = "",
    evm: EvmPlace | None = None,
    host: str,
    port: int,
    ready: Callable[[TowerStatus], None],
    alarm: OnAlarm,
    policy: TowerPolicy | None = None,
    metrics: tuple[str, int] | None = None,
    told: Callable[[TowerStatus], None] = lambda status: None,
    clock: Clock = system_clock,
    entropy: Entropy = system_entropy,
) -> None:
    """Run the tower whose data is in `directory` until cancelled; `ready` is called once clients can connect.

    `told` is called with each status, every two seconds. `metrics`: the host and port at which to serve metrics,
    health and readiness (`monitoring`); None: nowhere.
    `chain_url` is a node of a simulated chain; `evm` a real one, with the contract on it: one of both is given.
    A chain node that does not answer, or not as one does, is waited for. Raise StoreInUse if another process has the
    directory, or is this tower, StoreForeign if it is another tower's.
    """

    address = "0x" + key.address.hex()

    def jitter() -> float:
        return entropy(1)[0] / 256

    def waiting(why: str) -> TowerStatus:
        at = str(PeerAddress(bytes(key.public), host, port)) if port else ""  # clients will reach it there
        return TowerStatus(clock(), address, at, 0, "", None, why, metrics_url=metrics_url)

    require_trio("run_tower")
    raise_descriptor_limit()
    store = open_store(directory, SCHEMAS, owner="tally tower run")
    alone, board, metrics_url = contextlib.ExitStack(), Board(), ""
    keep = partial(_keep_status, directory, board, told)
    try:
        door = open_door(*metrics) if metrics is not None else None
        if door is not None:
            alone.enter_context(door)
            name, number = door.getsockname()[:2]
            metrics_url = f"http://{f'[{name}]' if ':' in name else name}:{number}/metrics"
        async with (
            _monitor(board, door),
            _patient_chain(chain_url, evm, jitter, alarm, keep, waiting) as chain,
            trio.open_nursery() as nursery,
        ):
            ours = Identity(key.address, chain.chain_id, chain.contract)
            claim_directory(store, ours, said_by_tower(store), str(directory))
            alone.enter_context(hold_identity("tower", ours))
            tower = Tower(
                key=key,
                store=store,
                network=TcpNetwork(key, entropy),
                chain=chain,
                clock=clock,
                jitter=jitter,
                alarm=alarm,
                free_space=lambda: shutil.disk_usage(directory).free,
                policy=policy,
                registry=None if isinstance(chain, EvmChain) else LedgerRegistry(cast("LedgerChain", chain)),
            )

            def started(at: PeerAddress) -> None:
                def status() -> TowerStatus:
                    told, figures = (chain.chain_id, "0x" + chain.contract.hex()), tower.statistics()
                    return TowerStatus(clock(), address, str(at), *told, figures, metrics_url=metrics_url)

                nursery.start_soon(keep, status)
                ready(status())

            if isinstance(chain, EvmChain):
                nursery.start_soon(chain.tell_if_late, alarm)
            await tower.run(host, port, started=started)
    finally:
        alone.close()
        store.close()


@checked
async def rescan_tower(
    directory: Path,
    *,
    chain_url: str = "",
    evm: EvmPlace | None = None,
    start: int = 0,
    repair: bool = False,
    entropy: Entropy = system_entropy,
) -> Rescan:
    """Compare what the tower whose data is in `directory` holds of disputes with what the chain shows; return that.

    It may run meanwhile, and nothing is changed. With `repair` it must not, and what differs is replaced by what the
    chain shows. Where its chain is, and `start`, is as for `run_tower`. Raise StoreError, StoreForeign if it is the
    tower of another chain, ChainError or ChainUnavailable.
    """
    require_trio("rescan_tower")

    def jitter() -> float:
        return entropy(1)[0] / 256

    async with contextlib.AsyncExitStack() as stack:
        store = open_store(directory, SCHEMAS, owner="tally tower rescan --repair") if repair else None
        if store is not None:
            stack.callback(store.close)

        def snapshot() -> contextlib.AbstractContextManager[Reader]:
            return open_snapshot(directory, SCHEMAS) if store is None else contextlib.nullcontext(store)

        if evm is not None:
            opened = open_evm_chain(evm.urls, evm.at, jitter=jitter, start=evm.start)
            chain: Chain = await stack.enter_async_context(opened)
        else:
            chain = await stack.enter_async_context(open_rpc_chain(chain_url, jitter=jitter))
        with snapshot() as source:
            account = account_of(source, chain, str(directory))
            record = read_record(source, chain, start)
        found, rebuilding = await rescan(record, snapshot, chain, account, start, jitter)
        if store is None or not found.differences:
            return found
        moments = corrections(found.differences, rebuilding.disputes, rebuilding.events)
        store.commit(moments)
        return msgspec.structs.replace(found, repaired=sum(isinstance(one, DisputeOver) for one in moments))


@contextlib.asynccontextmanager
async def _monitor(board: Board, door: socket.socket | None) -> AsyncIterator[None]:
    """Answer on that socket, if there is one, what is on the board, within the block."""
    if door is None:
        yield
        return
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_monitor, board, door)
        yield
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _patient_chain(
    url: str,
    evm: EvmPlace | None,
    jitter: Jitter,
    alarm: OnAlarm,
    keep: Callable[[Callable[[], TowerStatus]], Awaitable[None]],
    waiting: Callable[[str], TowerStatus],
) -> AsyncIterator[Chain]:
    """Give the chain node's chain, once it answers. Until then keep the status that `waiting` makes of the reason."""
    vigil, fault = begin_vigil(system_elapsed()), f"the first answer of its chain node at {evm.urls[0] if evm else url}"
    async with contextlib.AsyncExitStack() as stack:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, lambda: waiting(fault))
            retry = Retry(CHAIN_AGAIN, jitter)
            while True:
                try:
                    if evm is not None:
                        opened = open_evm_chain(evm.urls, evm.at, jitter=jitter, start=evm.start)
                        chain: Chain = await stack.enter_async_context(opened)
                        await chain.head()
                    else:
                        chain = await stack.enter_async_context(open_rpc_chain(url, jitter=jitter))
                    break
                except (ChainUnavailable, ChainError) as error:
                    fault, now = f"its chain node: {error}", system_elapsed()
                    if vigil.told is None:
                        alarm(Alarm(kind_of(error), f"the tower watches nothing, as it waits for {fault}"))
                        vigil = begin_vigil(now, kind_of(error))
                    elif now - vigil.looked >= TICK:
                        seen = Sight(now, math.inf, now - vigil.well, error)
                        vigil, alarms = look(vigil, seen, "this tower watches nothing")
                        for found in alarms:
                            alarm(found)
                await retry.pause()
            nursery.cancel_scope.cancel()
        if vigil.told is not None:
            alarm(Alarm(AlarmKind.CHAIN_BACK, f"the chain node answers, after {spell(system_elapsed() - vigil.well)}"))
        yield chain


async def _keep_status(
    directory: Path, board: Board, told: Callable[[TowerStatus], None], status: Callable[[], TowerStatus]
) -> None:
    while True:
        board.put(now := status())
        told(now)
        _write_status(directory, now)
        await trio.sleep(STATUS_EVERY)


def _write_status(directory: Path, status: TowerStatus) -> None:
    draft, path = directory / f".{STATUS}", directory / STATUS
    with contextlib.suppress(OSError):  # a full disk: the tower raises that alarm itself
        draft.write_bytes(msgspec.json.encode(status))
        os.replace(draft, path)


def read_status(directory: Path, *, clock: Clock = system_clock, oldest: float = STATUS_OLD) -> TowerStatus | None:
    """Return what the tower that runs in `directory` says of itself, None if it said nothing for `oldest` seconds.

    That mostly means that none runs there. But one whose disk is full says nothing either: see `holder_of`.
    """
    try:
        status = msgspec.json.decode((directory / STATUS).read_bytes(), type=TowerStatus)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"{directory / STATUS} is no tower's status; is this a tower's data?") from error
    return status if abs(clock() - status.time) <= oldest else None
