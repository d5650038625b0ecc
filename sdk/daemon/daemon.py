"""The node as a daemon: key, chain, node and control API together, from a data directory, until somebody stops it.

Of one owner's nodes on several chains, each has a data directory of its own; the settings of one name the others.
It stops on SIGTERM, on SIGINT and when a client of the control API asks; in any case nothing is lost, for everything
that matters is durable before it has consequences.
"""

from __future__ import annotations

import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import msgspec
import trio

from tallystick.channels.limits import Policy
from tallystick.channels.node.alarms import OnAlarm
from tallystick.channels.node.custody import CustodyPolicy
from tallystick.channels.ports import Entropy, system_entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.transport.descriptors import raise_descriptor_limit
from tallystick.channels.transport.retries import Jitter
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.network.routing import AssetOptions, PaymentOptions
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.chains.company import Company
from tallystick.sdk.chains.maker import Maker, source_config
from tallystick.sdk.chains.sqlite import MAKER_SCHEMA
from tallystick.sdk.control.server import open_control
from tallystick.sdk.daemon.configuration import Settings
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.running import open_node
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.rpc_client import open_rpc_chain
from tallystick.settlement.port import Chain

MAKER_DIRECTORY = "maker"
"""Where a maker keeps its word, within the data directory of the node that is first."""


class Ready(msgspec.Struct, frozen=True):
    """What a started node tells the outside."""

    address: str
    public_key: str
    peer_address: str | None
    """What others connect to; None if the node only dials."""
    control_url: str


def node_config(settings: Settings) -> Config:
    """Return the node's configuration for these settings."""
    assets = settings.asset_settings
    return Config(
        listen=settings.place,
        announce_address=settings.announce_address,
        confirmations=settings.confirmations,
        depths=settings.depth_policy,
        challenge_period=settings.challenge_period,
        start_block=settings.start_block,
        channels=Policy(
            history=None if settings.history < 0 else settings.history,
            challenge_period_max=settings.challenge_period_max,
        ),
        towers=settings.tower_addresses,
        custody=CustodyPolicy(receipts=settings.tower_receipts, unsecured=settings.tower_unsecured),
        virtual_deposit=settings.virtual_deposit,
        routing=RoutingOptions(
            policy=ForwardingPolicy(base_fee=settings.base_fee, fee_ppm=settings.fee_ppm),
            policies={asset: own.policy(settings.fee_ppm) for asset, own in assets.items()},
        ),
        payments=PaymentOptions(
            announce=settings.announce,
            alias=settings.alias,
            keysend=settings.keysend,
            compiled=settings.compiled,
            assets={
                asset: AssetOptions(part_min=own.part_min, fee_units=own.fee_units) for asset, own in assets.items()
            },
        ),
    )


class NodeHome(msgspec.Struct, frozen=True):
    """A data directory, and what was read there."""

    directory: Path
    key: PrivateKey
    settings: Settings


def _open_chain(settings: Settings, jitter: Jitter) -> AbstractAsyncContextManager[Chain]:
    """Give the chain that the settings name: a real one if they name Ethereum nodes, else a simulated one."""
    at = Deployment(settings.chain_id, settings.contract_address)
    if settings.rpc:
        start, court = settings.start_block, settings.court_address
        return open_evm_chain(settings.rpc, at, jitter=jitter, start=start, court=court)
    return open_rpc_chain(settings.chain_url, jitter=jitter, expected=at)


@asynccontextmanager
async def open_configured_node(
    directory: Path,
    key: PrivateKey,
    settings: Settings,
    *,
    alarm: OnAlarm,
    entropy: Entropy = system_entropy,
    as_source: bool = False,
) -> AsyncIterator[Node]:
    """Open the node of a data directory on the chain that its settings name, and close it at the end.

    It is given at once, also without a chain node: wait for its `ready`. `alarm` is told of every alarm. `as_source`:
    it gives itself the time that a maker's node needs.
    """
    rng = random.Random(int.from_bytes(entropy(16), "big"))
    config = node_config(settings)
    async with (
        _open_chain(settings, rng.random) as chain,
        open_node(
            directory,
            key=key,
            chain=chain,
            config=source_config(config, settings.chain_risk(chain.figures)) if as_source else config,
            alarm=alarm,
            at_once=True,
            entropy=entropy,
            sole=True,
        ) as node,
        trio.open_nursery() as nursery,
    ):
        if isinstance(chain, EvmChain):
            nursery.start_soon(chain.tell_if_late, node.news.alarm)
        yield node
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_maker(
    homes: Sequence[NodeHome], nodes: Sequence[Node], entropy: Entropy
) -> AsyncIterator[Maker | None]:
    """Give the maker of these nodes, if the first one's settings want one, with its store in that directory."""
    home = homes[0]
    if not home.settings.maker:
        yield None
        return
    owner = f"maker 0x{home.key.address.hex()}"
    with closing(open_store(home.directory / MAKER_DIRECTORY, [MAKER_SCHEMA], owner=owner)) as store:
        chains = {
            (node.chain.chain_id, node.chain.contract): each.settings.chain_risk(node.chain.figures)
            for node, each in zip(nodes, homes, strict=True)
        }
        yield Maker(nodes, store, risk=home.settings.maker_risk, chains=chains, entropy=entropy)


async def run_daemon(
    home: NodeHome,
    *,
    also: Sequence[NodeHome] = (),
    ready: Callable[[Ready], None],
    alarm: OnAlarm,
    entropy: Entropy = system_entropy,
) -> None:
    """Run the nodes until one is asked to stop; call `ready` for each once peers can connect, `home`'s first.

    Each has a control API of its own, which is up before; any of them pays and swaps over the chains of all. `also` are
    the owner's other nodes, on other chains. `alarm` is told of every alarm.
    """
    raise_descriptor_limit()
    homes = (home, *also)
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
        async with AsyncExitStack() as inner:
            nodes = [
                await inner.enter_async_context(
                    open_configured_node(
                        each.directory,
                        each.key,
                        each.settings,
                        alarm=alarm,
                        entropy=entropy,
                        as_source=home.settings.maker,
                    )
                )
                for each in homes
            ]
            company = Company(nodes, await inner.enter_async_context(_open_maker(homes, nodes, entropy)))
            own = await inner.enter_async_context(trio.open_nursery())
            controls = [
                await inner.enter_async_context(open_control(node, each.directory, entropy=entropy, company=company))
                for node, each in zip(nodes, homes, strict=True)
            ]
            own.start_soon(company.run)
            own.start_soon(_tell_ready, nodes, [control.url for control in controls], ready)
            await _any_of([control.stop_asked for control in controls])
            own.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def _any_of(events: Sequence[trio.Event]) -> None:
    """Return once one of these is set."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


async def _tell_ready(nodes: Sequence[Node], urls: Sequence[str], ready: Callable[[Ready], None]) -> None:
    for node, url in zip(nodes, urls, strict=True):
        await node.ready.wait()
        peer_address = str(node.listening) if node.listening else None
        ready(Ready("0x" + node.address.hex(), bytes(node.key.public).hex(), peer_address, url))


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()
