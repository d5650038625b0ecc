"""A validator as one process: its ledger, the engine beside it, and the JSON-RPC node that wallets ask.

`found_validators` makes the homes of a whole set; each can then be taken to its machine. `run_validator` runs one.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.store import Store
from tallystick.settlement.execution.crew import open_crew
from tallystick.settlement.go_programs import COMETBFT
from tallystick.settlement.modules.validator_records import StakeRules
from tallystick.settlement.modules.validators import address_of, possession
from tallystick.settlement.replicated.chain import ReplicatedChain
from tallystick.settlement.replicated.engine import run_engine
from tallystick.settlement.replicated.engine_route import engine_routes
from tallystick.settlement.replicated.engine_rpc import open_engine
from tallystick.settlement.replicated.genesis import Genesis, check_stakes, read_genesis
from tallystick.settlement.replicated.home import (
    GENESIS,
    KEY,
    OPERATOR,
    EngineAddress,
    make_keys,
    with_stakes,
    write_home,
)
from tallystick.settlement.replicated.key_change import VoteKey, read_key
from tallystick.settlement.replicated.server import serve_application
from tallystick.settlement.replicated.snapshot_files import SnapshotFolder
from tallystick.settlement.replicated.snapshots import FrozenLedger
from tallystick.settlement.simulated.rpc_server import serve_chain

VALIDATORS_MAX = 16
"""That one command founds."""

SNAPSHOT_BLOCKS = 1_000
"""Blocks from one snapshot to the next, unless told otherwise."""

STANDARD_RULES = StakeRules()
"""Of stakes, unless told otherwise."""


def found_validators(
    folder: Path,
    count: int,
    genesis: Genesis,
    interval: float,
    entropy: Entropy,
    rules: StakeRules = STANDARD_RULES,
) -> list[Path]:
    """Make the homes of so many validators in a folder, for one machine; return them. What is there stays.

    Each has an equal stake at genesis, its operator's, whose key is in its home. Raise InvalidInput if there are other
    ones. The engines' ports are free ones of now; `config/config.toml` has them.
    """
    homes = [folder / f"validator{number}" for number in range(count)]
    if not 1 <= count <= VALIDATORS_MAX:
        raise InvalidInput(f"from 1 to {VALIDATORS_MAX} validators can be founded, not {count}")
    there = sorted(folder.glob("validator*"))
    if there:
        if there != homes:
            raise InvalidInput(f"{folder} holds {len(there)} validators, not {count}")
        return homes
    keys = [make_keys(entropy) for _ in homes]
    genesis = with_stakes(genesis, keys, rules)
    check_stakes(genesis)
    places = _free_places(count)
    for number, home in enumerate(homes):
        for name, text in write_home(number, keys, places, genesis, interval).items():
            file = home / name
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            file.chmod(0o600)
    return homes


def genesis_of(home: Path) -> Genesis:
    """Return the genesis in a validator's home; raise InvalidInput if there is none."""
    try:
        whole = msgspec.json.decode((home / GENESIS).read_bytes())
        return read_genesis(msgspec.json.encode(whole["app_state"]))
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise InvalidInput(f"{home} is no home of a validator: {error}") from error


def operator_of(home: Path) -> PrivateKey:
    """Return the key of the account whose own stake a validator has; raise InvalidInput if it is not in this home."""
    try:
        return PrivateKey(bytes.fromhex(msgspec.json.decode((home / OPERATOR).read_bytes())["key"]))
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{home} holds no operator's key: {type(error).__name__}") from None


def prove_possession(home: Path, chain_id: int, operator: Address, file: str = KEY) -> tuple[bytes, bytes, Address]:
    """Return the key of a home's votes, the proof that it is here, and by what address the consensus knows it.

    The proof is for that operator on that chain; `file` is where in the home the key is. Raise InvalidInput if it is
    not.
    """
    key = read_key(home / file)
    public = bytes(key.verify_key)
    return public, key.sign(possession(chain_id, operator, public)).signature, address_of(public)


async def run_validator(
    home: Path,
    store: Store,
    host: str,
    port: int,
    entropy: Entropy,
    *,
    started: Callable[[ReplicatedChain, str], None],
    stop: Callable[[], Awaitable[None]] | None = None,
    refused: Callable[[str], None] = lambda reason: None,
    make: Callable[..., ReplicatedChain] = ReplicatedChain,
    snapshots: int = SNAPSHOT_BLOCKS,
) -> None:
    """Run the validator of a home until `stop` returns; `started` is told the chain and the URL of its JSON-RPC node.

    `store` has `simulated.sqlite.SCHEMA`. After each `snapshots` blocks it keeps a snapshot for who joins; 0: never.
    Raise InvalidInput if there is no engine here, ChainUnavailable if it ends.
    """
    program = COMETBFT.find()
    if program is None:
        raise InvalidInput(COMETBFT.missing)
    genesis = genesis_of(home)
    with open_crew() as crew, ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tally-", ignore_cleanup_errors=True)))
        application, rpc = sockets / "app", sockets / "rpc"
        async with open_engine(rpc) as engine, trio.open_nursery() as nursery:
            chain = make(genesis, engine, entropy, store=store, crew=crew)
            shelf = chain.application.shelf = SnapshotFolder(home / "snapshots")
            keeper = VoteKey(home, chain.application.branch)
            frozen, taken = trio.open_memory_channel[FrozenLedger](1)

            def on_commit() -> None:
                chain.on_commit()
                keeper.look()
                if snapshots and chain.application.height % snapshots == 0:
                    with suppress(trio.WouldBlock):  # the one before is being written still
                        frozen.send_nowait(chain.application.freeze())

            serve = partial(serve_application, on_commit=on_commit, on_refused=refused)
            nursery.start_soon(keep_snapshots, shelf, taken, refused)
            await nursery.start(serve, chain.application, application)
            nursery.start_soon(keeper.keep, partial(run_engine, program, home, application, rpc), refused)
            routes = engine_routes(engine)
            await serve_chain(chain, host, port, started=lambda url: started(chain, url), stop=stop, more=routes)
            nursery.cancel_scope.cancel()


async def keep_snapshots(
    shelf: SnapshotFolder, taken: trio.MemoryReceiveChannel[FrozenLedger], refused: Callable[[str], None]
) -> None:
    """Write each snapshot; where the disk takes one not, say so and go on: a validator votes without snapshots too."""
    async for frozen in taken:
        try:
            await shelf.keep(frozen)
        except OSError as error:
            refused(f"a snapshot was not kept: {error}")


def _free_places(count: int) -> Sequence[EngineAddress]:
    with ExitStack() as stack:
        probes: list[Any] = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [EngineAddress("127.0.0.1", probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    """Return a port that nothing listens on now."""
    return _free_places(1)[0].port
