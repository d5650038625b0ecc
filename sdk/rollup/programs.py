"""`run_operator`, `run_watcher`, `open_rollup_user`: a rollup's programs, with real disk, network and chain."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import trio

from tallystick.channels.errors import InvalidInput, StoreError, TallystickError
from tallystick.channels.node.loops import require_trio
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, AnyAddress, to_address
from tallystick.channels.storage.directory import hold_identity
from tallystick.channels.storage.identity import Identity, claim_directory
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.values.arguments import checked
from tallystick.sdk.rollup.asking import open_desk
from tallystick.sdk.rollup.calls import RollupCall, RollupFacts, RollupPlace
from tallystick.sdk.rollup.chain import RollupChain, open_rollup_chain
from tallystick.sdk.rollup.desk import serve_desk
from tallystick.sdk.rollup.follower import RollupFollower
from tallystick.sdk.rollup.operating import Operating, OperatorPolicy
from tallystick.sdk.rollup.sqlite import OPERATOR_SCHEMAS, USER_SCHEMAS, WATCHER_SCHEMAS
from tallystick.sdk.rollup.terms import check_terms
from tallystick.sdk.rollup.user import RollupUser
from tallystick.sdk.rollup.watching import WatcherPolicy, Watching
from tallystick.settlement.rollup.rules import Place

RECORDS = "rollups"
"""Where in a user's directory is recorded what was signed, for each rollup and key."""

PAUSE = 1.0
"""Seconds after which something is tried again."""

Say = Callable[[str], None]


@checked
async def run_operator(
    directory: Path,
    key: PrivateKey,
    *,
    url: str,
    rollup: RollupPlace,
    host: str,
    port: int,
    ready: Callable[[str], None],
    say: Say,
    pay_bond: bool = False,
    start: int = 0,
    policy: OperatorPolicy | None = None,
) -> None:
    """Operate a rollup whose data is in `directory` until cancelled; `ready` is told the URL of its desk.

    `url` is the chain's node, `start` a block not after the rollup's first one, and never to be changed. `pay_bond`:
    pay in what is wanting of the bond. Raise StoreInUse, StoreForeign, ChainUnavailable, or InvalidInput if the key is
    not the operator's or it promises later than the chain orders.
    """
    require_trio("run_operator")
    store = open_store(directory, OPERATOR_SCHEMAS, owner="tally rollup operate")
    with contextlib.ExitStack() as alone:
        alone.callback(store.close)
        async with open_rollup_chain(url, rollup) as chain:
            facts = await chain.facts()
            promised = (policy or OperatorPolicy()).promise
            if promised > facts.order_time:
                raise InvalidInput(
                    f"users of this rollup take no promise of {promised} seconds: the chain orders as much within "
                    f"{facts.order_time}"
                )
            ours = Identity(key.address, facts.chain_id, facts.vault)
            claim_directory(store, ours, (), str(directory))
            alone.enter_context(hold_identity("rollup operator", ours))
            follower = RollupFollower(chain, store, Place(facts.chain_id, facts.vault), start)
            if pay_bond and facts.bonded < facts.bond:
                await chain.act(key, RollupCall("bond", (), facts.bond - facts.bonded))
                say(f"paid {facts.bond - facts.bonded} into the bond")
            if policy is not None and policy.fee and (await chain.account(key.address))[0] is None:
                await chain.act(key, RollupCall("deposit", (key.address,), 1))
                say("deposited 1 unit: the operator has an account in the rollup now, which fees go to")
            for token in policy.token_fees if policy is not None else ():
                if (await chain.account(key.address, token))[0] is None:
                    await chain.allow(key, token, 1)
                    await chain.act(key, RollupCall("depositToken", (key.address, token, 1)))
                    say(f"deposited 1 unit of 0x{token.hex()}: the operator has an account of it now, which fees go to")
            await follower.follow()
            operating = Operating(chain, follower, store, key, facts, say, policy)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_keep, operating.step, chain, follower, say)
                await serve_desk(operating, str(rollup), host, port, started=ready)


@checked
async def run_watcher(
    directory: Path,
    key: PrivateKey,
    *,
    url: str,
    rollup: RollupPlace,
    desk: str = "",
    ready: Callable[[RollupFacts], None],
    say: Say,
    start: int = 0,
    policy: WatcherPolicy | None = None,
    accept_terms: bool = False,
) -> None:
    """Watch a rollup until cancelled; `key` pays for what is sent, and earns. `desk`: the operator's, for signatures.

    Raise StoreInUse, StoreForeign, ChainUnavailable, or InvalidInput if its terms make no sense and are not accepted.
    """
    require_trio("run_watcher")
    store = open_store(directory, WATCHER_SCHEMAS, owner="tally rollup watch")
    with contextlib.ExitStack() as alone:
        alone.callback(store.close)
        async with open_rollup_chain(url, rollup) as chain, contextlib.AsyncExitStack() as stack:
            facts = await chain.facts()
            check_terms(*facts.terms, accept=accept_terms)
            claim_directory(store, Identity(key.address, facts.chain_id, facts.vault), (), str(directory))
            follower = RollupFollower(chain, store, Place(facts.chain_id, facts.vault), start)
            asked = await stack.enter_async_context(open_desk(desk)) if desk else None
            watching = Watching(chain, follower, key, say, asked.signatures if asked else None, policy)
            await follower.follow()
            ready(facts)
            await _keep(watching.step, chain, follower, say)


@checked
@contextlib.asynccontextmanager
async def open_rollup_user(
    directory: Path,
    key: PrivateKey,
    *,
    url: str,
    rollup: RollupPlace,
    desk: str = "",
    patience: float = 0.0,
    fee_max: int = 0,
    start: int = 0,
    accept_terms: bool = False,
    asset: AnyAddress = NATIVE,
) -> AsyncIterator[RollupUser]:
    """Give the account of a key in a rollup. What it signs is recorded in `directory`, which must not be lost.

    Without the URL of the operator's `desk` it leaves by the chain alone, and keeps nothing. An operator that is away
    is asked again for `patience` seconds. `fee_max` is what it may take for a step, `start` a block not after the
    rollup's first one. `accept_terms` is for deposits where its terms make no sense. `asset` is what the account holds:
    who has several has several accounts. Raise StoreInUse, StoreForeign, ChainUnavailable or ChainError.
    """
    held = to_address(asset)
    async with open_rollup_chain(url, rollup) as chain, contextlib.AsyncExitStack() as stack:
        place = await chain.rules_of()
        if not desk:
            yield RollupUser(chain, place, key, start=start, accept_terms=accept_terms, asset=held)
            return
        of_token = f"-{held.hex()}" if held != NATIVE else ""
        kept = directory / RECORDS / f"{place.chain_id}-{place.contract.hex()}-{key.address.hex()}{of_token}"
        store = open_store(kept, USER_SCHEMAS, owner="a user of a rollup")
        stack.callback(store.close)
        ours = Identity(key.address, place.chain_id, place.contract)
        claim_directory(store, ours, (), str(kept))
        stack.enter_context(hold_identity(f"rollup user{of_token}", ours))
        asked = await stack.enter_async_context(open_desk(desk, patience))
        yield RollupUser(
            chain, place, key, asked, store, fee_max=fee_max, start=start, accept_terms=accept_terms, asset=held
        )


async def _keep(step: Callable[[], Awaitable[None]], chain: RollupChain, follower: RollupFollower, say: Say) -> None:
    """Take one step after the other, one with each block; what a chain node refuses is said once, and tried again."""
    said = ""
    while True:
        try:
            await step()
            said = ""
            await chain.wait(follower.head.hash)
        except StoreError:
            raise
        except (TallystickError, trio.TooSlowError) as error:
            text = str(error) or "the chain took nothing in time"
            if text != said:
                say(text)
            said = text
            await trio.sleep(PAUSE)
