"""The control API of a real node, asked by schemathesis for all that its document offers, rightly and wrongly.

The node stands on the simulated chain and on real sockets, with a peer, channels, a stream and invoices. schemathesis
runs in a process of its own, with the hooks of `api_hooks`. The document is taken at its word: a field of an answer
that it does not tell of is a fault, as is a status or a code that it does not name, 500, and a wrong request taken.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.sdk.control import handlers
from tallystick.sdk.control.openapi import document
from tallystick.sdk.control.server import serve_control
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.running import open_node
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.testing.local import LocalChain

ALICE, BOB = PrivateKey(bytes([1]) * 32), PrivateKey(bytes([2]) * 32)
TOKEN = "a token"
TESTS = Path(__file__).resolve().parent.parent

SETTINGS = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "4xx", 502, 503, 504]

# What stands in a body can be well-formed and still refused: an amount as 5.0, a peer that is none, two channels that
# are one. The words of a query mean nothing beyond their types.
[[operations]]
include-method = "POST"
checks.positive_data_acceptance.enabled = false
"""


class Asked(NamedTuple):
    """How schemathesis ended, what it said, and which operations were asked for and done (method and path)."""

    has_failed: bool
    said: str
    asked: set[str]
    done: set[str]


@asynccontextmanager
async def real_node(directory: Path) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Give the address of a node's control API, and the names of what it has."""
    chain = LocalChain(
        funds={ALICE.address: 10**24, BOB.address: 10**24}, settings=ChainSettings(dev=True, interval=0.1)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chain.run)
        async with (
            open_node(directory / "alice", key=ALICE, chain=chain) as alice,
            open_node(directory / "bob", key=BOB, chain=chain) as bob,
            serve_control(alice, TOKEN) as control,
        ):
            assert bob.listening is not None
            channel, ending, forced = [await alice.open_channel(bob.listening, 10**12) for _ in range(3)]
            alice.engine.recordings.begin(channel.id)
            for _ in range(2):
                await channel.open_stream(10, 1_000, expiry=alice.engine.chain.sure + 86_400)
            asked = await alice.create_invoice(5, "asked for")
            paid = await alice.pay((await bob.create_invoice(6)).text)
            apps = await games(alice, bob)
            yield (
                control.url,
                apps
                | {
                    "channel": channel.id.hex(),
                    "ending": ending.id.hex(),
                    "forced": forced.id.hex(),
                    "place": str(bob.listening),
                    "peer": bytes(bob.key.public).hex(),
                    "invoice": (await bob.create_invoice(7)).text,
                    "paid": paid.payment_hash.hex(),
                    "payment_hash": asked.payment_hash.hex(),
                },
            )
            assert (await channel.pay(5)).amount == 5
        nursery.cancel_scope.cancel()


async def games(alice: Node, bob: Node) -> dict[str, str]:
    """Begin a game for each thing that can be asked of one, at Alice's turn; return their ids by the path for it."""
    channel, found = alice.channels[0].id, {}
    for name in ("", "/move", "/offer", "/take", "/resign", "/dispute"):
        game = alice.apps.propose(channel, "tictactoe", (50, 0), parameters={})
        while not bob.apps.proposed:
            await bob.apps.until(lambda: bool(bob.apps.proposed))
        bob.apps.proposed[0].agree()
        await game.wait_begun()
        found[f"/apps/{{app}}{name}"] = game.instance.hex()
    taken = found["/apps/{app}/take"]
    bob.apps.find(bytes.fromhex(taken)).offer(to_player_0=0, to_player_1=3)
    await alice.apps.until(lambda: alice.apps.find(bytes.fromhex(taken)).offered is not None)
    for name in ("/accept", "/refuse"):
        asked = bob.apps.propose(channel, "tictactoe", (0, 50), parameters={})
        found[f"/apps/{{app}}{name}"] = asked.instance.hex()
    await alice.apps.until(lambda: len(alice.apps.proposed) == 2)
    return found


async def fuzz(directory: Path, seed: int, examples: int, phases: str) -> Asked:
    """Ask a new node for so many examples of each operation; see schemathesis for its phases."""
    told = copy.deepcopy(document())
    for schema in told["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    (directory / "openapi.json").write_text(json.dumps(told))
    (directory / "schemathesis.toml").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handlers, "CONNECT_SECONDS", 0.1)
        async with real_node(directory) as (url, names):
            ended = await trio.run_process(
                [
                    *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", "schemathesis.toml"),
                    *("run", "openapi.json", "--url", url, "--header", f"Authorization: Bearer {TOKEN}"),
                    *("--phases", phases, "--max-examples", str(examples), "--seed", str(seed)),
                    *("--request-timeout", "60", "--continue-on-failure", "--warnings", "off", "--no-color"),
                ],
                cwd=directory,
                env=os.environ
                | {"SCHEMATHESIS_HOOKS": "simulation.api_hooks", "PYTHONPATH": str(TESTS)}
                | {"REAL_NAMES": json.dumps(names)},
                check=False,
                capture_stdout=True,
                stderr=subprocess.STDOUT,
            )
    answers = [line.rpartition(" ") for line in (directory / "answers").read_text().splitlines()]
    done = {operation for operation, _, status in answers if status in ("200", "202")}
    return Asked(ended.returncode != 0, ended.stdout.decode(), {operation for operation, _, _ in answers}, done)
