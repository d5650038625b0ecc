"""The home of a validator, or of a node that only follows, which joins a chain that runs already.

It is told the URLs of two chain nodes of validators at least. They must agree on the genesis and on a recent block,
which is what the newcomer trusts from then on: its engine takes a snapshot from its peers, and checks it by a light
client.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Entropy
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.replicated.engine_route import PATH
from tallystick.settlement.replicated.engine_rpc import EngineClient, open_remote_engine
from tallystick.settlement.replicated.genesis import read_genesis
from tallystick.settlement.replicated.home import GENESIS, EngineAddress, TrustedBlock, make_keys, write_joining_home

SOURCES_LEAST = 2
"""Nodes that are asked: what one says alone, nobody contradicts."""


async def join_home(home: Path, urls: Sequence[str], port: int, entropy: Entropy) -> None:
    """Make a home that joins the chain which these nodes serve, unless there is one; its engine listens on this port.

    Raise InvalidInput if they do not agree, ChainUnavailable if one does not answer.
    """
    if (home / GENESIS).exists():
        return
    sources = [f"{url.rstrip('/')}{PATH}" for url in urls]
    if len(set(sources)) < SOURCES_LEAST:
        raise InvalidInput(f"a chain is joined by {SOURCES_LEAST} of its nodes at least, not {len(set(sources))}")
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(open_remote_engine(source)) for source in sources]
        try:
            geneses = [(await each.ask("genesis"))["genesis"] for each in engines]
            statuses = [await each.ask("status") for each in engines]
            latest = min(int(status["sync_info"]["latest_block_height"]) for status in statuses)
            trusted = [await _hash_of(each, latest) for each in engines]
            peers = [_peer(status, url) for status, url in zip(statuses, urls, strict=True)]
            genesis = read_genesis(msgspec.json.encode(geneses[0]["app_state"]))
        except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"this is no engine of a chain's: {error}") from error
    if any(each != geneses[0] for each in geneses) or len(set(trusted)) > 1:
        raise InvalidInput(f"{' and '.join(urls)} do not serve one chain")
    seconds = genesis.staking.evidence_seconds if genesis.staking else 172_800
    trust = TrustedBlock(latest, trusted[0], seconds)
    files = write_joining_home(make_keys(entropy), EngineAddress("127.0.0.1", port), peers, geneses[0], sources, trust)
    for name, text in files.items():
        file = home / name
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(text, "utf-8")


async def _hash_of(engine: EngineClient, height: int) -> str:
    answer = await engine.ask("commit", height=str(height))
    if answer is None:
        raise ChainUnavailable(f"an engine has no block {height}")
    found = str(answer["signed_header"]["commit"]["block_id"]["hash"])
    if re.fullmatch(r"[0-9A-F]{64}", found) is None:
        raise ValueError("a block's hash is none")
    return found


def _peer(status: Any, url: str) -> str:
    """Return by what an engine is found: the host is that of the chain node, unless the engine listens on another."""
    id, listens = status["node_info"]["id"], status["node_info"]["listen_addr"]
    place = re.fullmatch(r"(?:tcp://)?\[?([0-9A-Za-z.:-]+?)\]?:(\d{1,5})", listens)
    if re.fullmatch(r"[0-9a-f]{40}", id) is None or place is None:
        raise ValueError("an engine says no place where it listens")
    host = urlsplit(url).hostname if place[1] in ("0.0.0.0", "::") else place[1]
    return f"{id}@{host}:{place[2]}"
