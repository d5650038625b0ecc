"""Opens a node's directory, runs the node inside a block, and closes all at its end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tallystick.channels.errors import TallystickError
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.node.loops import require_trio
from tallystick.channels.ports import Clock, Elapsed, Entropy, Network, system_clock, system_elapsed, system_entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.storage.directory import hold_identity
from tallystick.channels.storage.identity import Identity, claim_directory
from tallystick.channels.storage.schema import load_channels
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Store
from tallystick.channels.transport.links import TcpNetwork
from tallystick.channels.values.arguments import checked
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.options import Config
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.settlement.port import Chain
from tallystick.settlement.sending.moments import said_by_settlement


@checked
@asynccontextmanager
async def open_node(
    directory: str | Path,
    *,
    key: PrivateKey,
    chain: Chain,
    config: Config | None = None,
    alarm: OnAlarm = lambda alarm: None,
    at_once: bool = False,
    network: Network | None = None,
    clock: Clock = system_clock,
    elapsed: Elapsed = system_elapsed,
    entropy: Entropy = system_entropy,
    store: Store | None = None,
    inline: bool = False,
    sole: bool = False,
) -> AsyncIterator[Node]:
    """Open the node that lives in `directory`, run it inside the block, and close it at the end.

    Raise InvalidInput outside of trio, StoreInUse if another process has it open, StoreForeign if it is another key's,
    chain's or contract's, StoreDamaged if a row is not what was written, WrongChain if the chain node serves another
    chain, StoreError if its disk refuses while it runs. What the block raises comes out as it is.

    `alarm` is told of every alarm. `at_once`: do not wait for the chain node; until it is `ready`, a node speaks to no
    peer. `sole`: refuse to run beside another process of this machine that is the same node, as of a copy of the
    directory; daemons do. The six parameters before it are for simulations.
    """
    require_trio("open_node")
    own = store or open_store(Path(directory), SCHEMAS, owner=f"node 0x{key.address.hex()}")
    failure: Exception | None = None
    alone = contextlib.ExitStack()
    try:
        ours = Identity(key.address, chain.chain_id, chain.contract)
        claim_directory(own, ours, said_by_node(own), str(directory))
        if sole:
            alone.enter_context(hold_identity("node", ours))
        node = Node(
            key,
            own,
            chain,
            network or TcpNetwork(key, entropy),
            config or Config(),
            clock=clock,
            elapsed=elapsed,
            entropy=entropy,
            alarm=alarm,
            inline=inline,
        )
        for text in own.healed:
            node.news.alarm(Alarm(AlarmKind.DATA_HEALED, text))
        async with trio.open_nursery() as nursery:
            await nursery.start(_run, node)
            if not at_once:
                await node.ready.wait()
            try:
                yield node
            except Exception as error:  # whatever the block raises comes out as it is, and in no group
                failure = error
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _only(group) or group from None
    finally:
        alone.close()
        if store is None:
            own.close()
    if failure is not None:
        raise failure


def said_by_node(store: Store) -> Iterator[Identity]:
    """Return what data of version 0.1.0, which did not remember it, says about whose it is."""
    for channel in load_channels(store):
        terms = channel.terms
        yield Identity(terms.participants[channel.side], terms.chain_id, terms.contract)
    yield from said_by_settlement(store)


async def _run(node: Node, *, task_status: trio.TaskStatus[None]) -> None:
    await node.run(begun=task_status.started)


def _only(group: BaseExceptionGroup[BaseException]) -> TallystickError | None:
    """Return the one error that ended a node, None if there are several or it is none of ours."""
    inner = group
    while len(inner.exceptions) == 1:
        first = inner.exceptions[0]
        if isinstance(first, TallystickError):
            return first
        if not isinstance(first, BaseExceptionGroup):
            return None
        inner = first
    return None
