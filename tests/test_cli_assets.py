"""Tokens over several hops through the `tally` command and the control API: named where they are, and never guessed."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio
from typer.testing import CliRunner, Result

from simulation.neighbours import DEPOSIT, a_line
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.router.network.routing import AssetOptions, PaymentOptions
from tallystick.sdk.cli.app import app
from tallystick.sdk.control.files import announce
from tallystick.sdk.control.server import serve_control
from tallystick.sdk.node.node import Config

TOKEN = Address(b"\x70" * 20)
NAME = "0x" + TOKEN.hex()
COIN = "0x" + 40 * "0"


async def test_people_ask_pay_carry_and_look_in_tokens(tmp_path: Path) -> None:
    config = Config(payments=PaymentOptions(assets={TOKEN: AssetOptions()}))
    async with a_line(tmp_path, (NATIVE, TOKEN), config) as nodes, AsyncExitStack() as stack:
        for name, node in zip(("alice", "bob", "carol"), nodes, strict=True):
            control = await stack.enter_async_context(serve_control(node, "a token"))
            stack.enter_context(announce(tmp_path / name, control.url, "a token"))

        async def do(who: str, *arguments: str, words: bool = False) -> Any:
            command = [*arguments, "--data", str(tmp_path / who), *([] if words else ["--json"])]
            done: Result = await trio.to_thread.run_sync(
                lambda: CliRunner().invoke(app, command, env={"COLUMNS": "200", "TERM": "dumb"})
            )
            assert done.exit_code == 0, done.output
            return done.stdout if words else json.loads(done.stdout)

        carol = bytes(nodes[2].key.public).hex()
        asked = await do("carol", "invoice", "create", "50_000", "--asset", NAME)
        assert (asked["asset"], asked["amount"]) == (NAME, 50_000)
        assert f"Paid 50000 of {NAME} for a fee of 50" in await do("alice", "pay", asked["invoice"], words=True)
        paid = await do("alice", "payments", asked["payment_hash"])
        assert (paid["asset"], paid["parts"][0]["route"]["asset"]) == (NAME, NAME)
        shown = await do("carol", "invoice", "show", asked["payment_hash"], words=True)
        assert NAME in shown and "50000" in shown

        for asset, name in ((NAME, f"300 of {NAME}"), (COIN, "300")):
            to = (carol, "300", "--asset", asset)
            assert f"{name} over 2 hops, for a fee of 0:" in await do("alice", "probe", *to, "--estimate", words=True)
            assert f"{name} over 2 hops, for a fee of 0:" in await do("alice", "probe", *to, words=True)
            assert f"Paid {name} for a fee of 0" in await do("alice", "keysend", *to, words=True)
        assert [one["asset"] for one in await do("carol", "invoice", "list")] == [COIN, NAME, NAME]
        assert f"300 of {NAME[:10]}…" in await do("carol", "invoice", "list", words=True)
        assert f"300 of {NAME[:10]}…" in await do("alice", "payments", words=True)

        carried = await do("bob", "forwards")
        assert sorted(one["asset"] for one in carried if one["outcome"] == "paid") == [COIN, NAME, NAME]
        assert f"earned 0 and 50 of {NAME}." in await do("bob", "forwards", words=True)
        channel = next(one for one in await do("bob", "channel", "list") if one["asset"] == NAME and one["deposits"][0])
        assert (await do("bob", "channel", "policy", channel["id"][:8]))["asset"] == NAME
        changed = await do("bob", "channel", "policy", channel["id"][:8], "--base-fee", "2")
        assert (changed["base_fee"], changed["fee_ppm"]) == (2, 1_000)
        assert NAME in await do("bob", "channel", "policy", channel["id"][:8], words=True)
        assert f"{DEPOSIT - 50_300} of {NAME[:10]}…" in await do("bob", "channel", "list", words=True)

        graph = await do("alice", "graph", "show")
        assert [(one["asset"], one["nodes"], one["directions"]) for one in graph["assets"]] == [
            (COIN, 3, 4),
            (NAME, 3, 4),
        ]
        assert f"{NAME}  3 nodes, 4 directions" in " ".join((await do("alice", "graph", "show", words=True)).split(" "))

        bob = bytes(nodes[1].key.public).hex()
        for asset, said in ((NAME, True), (COIN, False)):
            again = await do(
                "alice", "channel", "open", bob, "--deposit", "1000", "--asset", asset, "--no-wait", words=True
            )
            assert ("The deposit of this token is approved first: two transactions." in again) is said
