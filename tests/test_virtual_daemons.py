"""Three daemons and `tally channel open --virtual`: opened, paid in, looked at and closed without a transaction."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from test_cli_end_to_end import COINS, PASSWORD, PATIENCE, TALLY, Someone, a_chain, run, started

pytestmark = pytest.mark.processes

DEPOSIT, STAKE, PAID = 1_000_000, 150_000, 60_000


async def on_chain(someone: Someone) -> int:
    """Return what somebody owns on chain: each transaction costs a fee."""
    return int((await someone.do("balance"))["chain"])


async def test_a_virtual_channel_lives_its_life_by_the_command_and_the_chain_hears_nothing(tmp_path: Path) -> None:
    people = {name: Someone(tmp_path / name) for name in ("alice", "bob", "hub")}
    alice, bob, hub = people.values()
    settings = bob.directory / "config.toml"
    settings.write_text(settings.read_text().replace("virtual_deposit = 0", f"virtual_deposit = {STAKE}"))
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            chain = await stack.enter_async_context(a_chain(tmp_path, *people.values()))
            nodes = {name: await stack.enter_async_context(each.node(chain)) for name, each in people.items()}
            places = {name: (await node.json())["peer_address"] for name, node in nodes.items()}
            ways = {}
            for someone in (alice, bob):
                made = await someone.do("channel", "open", places["hub"], "--deposit", str(DEPOSIT))
                await hub.do("channel", "deposit", made["id"][:16], str(DEPOSIT))
                ways[someone] = made["id"][:16]
                await someone.do("channel", "wait", ways[someone], "--receivable", str(DEPOSIT // 2))
            before = [await on_chain(each) for each in people.values()]
            asked = ("channel", "open", places["bob"], "--deposit", str(STAKE), "--virtual")
            too_much = await alice.do(*asked, "--peer-deposit", str(STAKE + 1), fails=1)
            assert f"at most {STAKE}" in too_much
            asked += ("--over", ways[alice])
            opened = await alice.do(*asked, "--peer-deposit", str(STAKE))
            assert (opened["phase"], opened["virtual"], opened["balance"]) == ("open", True, STAKE)
            name = opened["id"][:16]
            while [one["phase"] for one in await bob.do("channel", "list") if one["virtual"]] != ["open"]:
                pass
            await alice.do("pay", name, str(PAID), "--memo", "unseen")
            await bob.do("pay", name, "1000")
            assert (await bob.do("incoming"))["memo"] == "unseen"
            assert (await bob.do("channel", "show", name))["balance"] == STAKE + PAID - 1_000
            assert [(await each.do("balance"))["channels"] for each in (alice, bob)] == [
                DEPOSIT + 1_000 - PAID,
                DEPOSIT + PAID - 1_000,
            ]
            assert not any(one["virtual"] for one in await hub.do("channel", "list"))
            await alice.do("channel", "close", name)
            while any(one["virtual"] for one in await bob.do("channel", "list")):
                pass
            for someone, gain in ((alice, 1_000 - PAID), (bob, PAID - 1_000)):
                while (await someone.do("channel", "show", ways[someone]))[
                    "spendable"
                ] < DEPOSIT + gain - DEPOSIT // 10:
                    pass
                assert (await someone.do("channel", "show", ways[someone]))["balance"] == DEPOSIT + gain
            assert [await on_chain(each) for each in people.values()] == before and before[0] < COINS


def again(someone: Someone, chain: str, place: str) -> tuple[str, ...]:
    """The command that runs a node where the others look for it."""
    listens = ("--listen", place.rsplit("@", 1)[1])
    return (*TALLY, "node", "run", "--json", "--data", str(someone.directory), "--chain", chain, *listens)


async def test_a_virtual_channel_over_two_hubs_outlives_the_killing_of_each_of_them(tmp_path: Path) -> None:
    """Hubs are killed while it is used, and one more time while it ends; a player, too. Nobody makes a transaction."""
    people = {name: Someone(tmp_path / name) for name in ("alice", "hub", "inn", "bob")}
    alice, hub, inn, bob = people.values()
    settings = bob.directory / "config.toml"
    settings.write_text(settings.read_text().replace("virtual_deposit = 0", f"virtual_deposit = {STAKE}"))
    with trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            chain = await stack.enter_async_context(a_chain(tmp_path, *people.values()))
            nodes = {name: await stack.enter_async_context(each.node(chain)) for name, each in people.items()}
            places = {name: (await node.json())["peer_address"] for name, node in nodes.items()}

            async def killed(name: str) -> None:
                await nodes[name].kill()

            async def back(name: str) -> None:
                command = again(people[name], chain, places[name])
                nodes[name] = await stack.enter_async_context(started(command, PASSWORD))
                await nodes[name].json()

            for one, other in itertools.pairwise(people):
                made = await people[one].do("channel", "open", places[other], "--deposit", str(DEPOSIT))
                await people[other].do("channel", "deposit", made["id"][:16], str(DEPOSIT))
                await people[one].do("channel", "wait", made["id"][:16], "--receivable", str(DEPOSIT // 2))
            for player in (alice, bob):
                while (await player.do("graph", "show"))["channels"] < 3:
                    pass
            before = [await on_chain(each) for each in people.values()]
            asked = ("channel", "open", places["bob"], "--deposit", str(STAKE), "--peer-deposit", str(STAKE))
            name = (await alice.do(*asked, "--virtual"))["id"][:16]
            await alice.do("pay", name, "1000")
            for victim in ("hub", "inn"):
                await killed(victim)
            await alice.do("pay", name, str(PAID))
            for victim in ("hub", "inn"):
                await back(victim)
            await killed("bob")
            await back("bob")
            await alice.do("pay", name, "500")
            await killed("inn")
            nursery.start_soon(run, (*TALLY, "channel", "close", name, "--data", str(alice.directory)))
            while (await alice.do("channel", "show", name))["phase"] == "open":
                pass
            await back("inn")
            while any(one["virtual"] for one in await bob.do("channel", "list")):
                pass
            gains = {"alice": -PAID - 1_500, "hub": 0, "inn": 0, "bob": PAID + 1_500}
            for player, gain in gains.items():
                expected = DEPOSIT * (2 if player in ("hub", "inn") else 1) + gain
                while sum(one["balance"] for one in await people[player].do("channel", "list")) != expected:
                    pass
            assert [await on_chain(each) for each in (hub, inn)] == before[1:3]
            assert [len(await each.do("channel", "list")) for each in people.values()] == [1, 2, 2, 1]
