"""Two daemons play apps by `tally app` alone: games, refusals, offers, a kill in the middle, a stall and the court."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from apps_play import APPS, PARAMETERS
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli_end_to_end import PATIENCE, Someone, a_chain
from typer import BadParameter
from typer.testing import CliRunner

from simulation.processes import Running
from tallystick.channels.errors import InvalidInput
from tallystick.sdk.cli.app import app
from tallystick.sdk.cli.apps import parse_words
from tallystick.sdk.control.app_words import WORDS

STAKE, DEPOSIT = "100_000_000_000_000", 10**16
WON = 10**14


class Table:
    """Alice and Bob, whose nodes run, and a channel in which both have coins."""

    def __init__(self, chain: str, alice: Someone, bob: Someone) -> None:
        self.chain, self.alice, self.bob = chain, alice, bob
        self.channel = self.app = ""

    async def open(self, *words: str) -> str:
        """Let Alice propose something, and return its id."""
        made = await self.alice.do("app", "open", self.channel, *words)
        assert made["phase"] == "proposed" and made["player"] == 0 and not made["over"]
        self.app = made["id"]
        return self.app

    async def begin(self, *words: str) -> None:
        """Let Bob accept what Alice proposes."""
        await self.open(*words)
        (proposal,) = await self.bob.do("app", "proposals", "--wait", "60")
        assert proposal["id"] == self.app and proposal["phase"] == "proposed"
        begun = await self.bob.do("app", "accept", self.app[:16])
        assert begun["phase"] == "playing" and begun["player"] == 1

    async def play(self, *cells: int, first: int = 0) -> None:
        """Make these moves of tictactoe in turn."""
        for count, cell in enumerate(cells, first):
            mover = (self.alice, self.bob)[count % 2]
            assert (await mover.do("app", "wait", self.app))["turn"] == "own"
            moved = await mover.do("app", "move", self.app[:8], f"cell={cell}", "--number", str(count + 1))
            assert moved["number"] == count + 1

    async def ended(self, gets: int, pays: int) -> None:
        """Wait until both know the end, and everything is paid: so much to Alice, so much from her."""
        for someone, result in ((self.alice, (gets, pays)), (self.bob, (pays, gets))):
            end = await someone.do("app", "wait", self.app, "--end")
            assert (end["result"]["gets"], end["result"]["pays"]) == result
            while not (await someone.do("app", "show", self.app))["over"]:
                pass
        assert (await self.balance(self.alice)) == DEPOSIT + gets - pays

    async def balance(self, someone: Someone) -> int:
        return int((await someone.do("channel", "show", self.channel))["balance"])


@asynccontextmanager
async def table(directory: Path) -> AsyncIterator[tuple[Table, Running]]:
    """Give the table, and the process of Bob's node."""
    alice, bob = Someone(directory / "alice"), Someone(directory / "bob")
    async with a_chain(directory, alice, bob) as chain, alice.node(chain) as alices, bob.node(chain) as bobs:
        await alices.json()
        address = (await bobs.json())["peer_address"]
        found = Table(chain, alice, bob)
        found.channel = (await alice.do("channel", "open", address, "--deposit", str(DEPOSIT)))["id"]
        await bob.do("channel", "deposit", found.channel, str(DEPOSIT))
        await alice.do("channel", "wait", found.channel, "--receivable", STAKE)
        yield found, bobs


@pytest.mark.processes
async def test_whole_games_are_played_by_commands_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, _):
            alice, bob = game.alice, game.bob
            await game.open("tictactoe", "--stake", STAKE)
            await bob.do("app", "proposals", "--wait", "60")
            assert "at least 16 hex digits" in await bob.do("app", "accept", game.app[:8], fails=1)
            assert "only proposed yet" in await bob.do("app", "move", game.app[:8], "cell=1", fails=1)
            await bob.do("app", "refuse", game.app, "--why", "not today")
            assert (await alice.do("app", "wait", game.app, "--end"))["text"] == "not today"
            assert "nobody proposes an app" in await bob.do("app", "accept", game.app, fails=1)

            await game.open("tictactoe", "--stake", STAKE)
            await alice.do("app", "refuse", game.app, "--why", "I thought again")
            while await bob.do("app", "proposals"):
                pass

            await game.begin("tictactoe", "--stake", STAKE)
            assert (await alice.do("app", "wait", game.app))["turn"] == "own"
            assert "there is no app 'chess': known are" in await alice.do(
                "app", "open", game.channel, "chess", "--stake", "5", fails=1
            )
            assert "expire too soon" in await alice.do(
                "app", "open", game.channel, "tictactoe", "--stake", "5", "--lifetime", "60", fails=1
            )
            assert "is too long for an app of up to 9 moves" in await alice.do(
                "app", "open", game.channel, "tictactoe", "--stake", "5", "--period", "86400", fails=1
            )
            assert "does not fit" in await alice.do(
                "app", "open", game.channel, "tictactoe", "--stake", str(DEPOSIT), fails=1
            )
            assert "it is the other player's turn" in await bob.do("app", "move", game.app, "cell=1", fails=1)
            assert "cell" in await alice.do("app", "move", game.app, "cell=9", fails=1)
            assert "cell" in await alice.do("app", "move", game.app, "row=9", fails=1)
            assert "no app 00000000" in await alice.do("app", "show", "00000000", fails=1)
            await game.play(0, 3)
            assert "leads to state 3, not 2" in await alice.do(
                "app", "move", game.app, "cell=1", "--number", "2", fails=1
            )
            assert "a move is an empty cell" in await alice.do("app", "move", game.app, "cell=3", fails=1)
            await game.play(1, 4, 2, first=2)
            await game.ended(WON, 0)
            listed = await bob.do("app", "list", "--all")
            assert [one["result"] for one in listed if one["id"] == game.app] == [{"gets": 0, "pays": WON}]
            assert await bob.do("app", "list") == []
            paged, after = [], "0" * 64
            while page := await bob.do("app", "list", "--all", "--limit", "1", "--after", after):
                paged, after = [*paged, *page], page[0]["id"]
            assert paged == listed and len(paged) == 1
            assert "give --all" in await bob.do("app", "list", "--after", game.app, fails=2)


@pytest.mark.processes
async def test_an_offer_is_taken_only_as_it_was_seen_and_who_resigns_loses(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, _):
            await game.begin("connectfour", "--stake", STAKE)
            await game.bob.do("app", "offer", game.app, "--get", "7")
            assert (await game.alice.do("app", "wait", game.app))["turn"] == "own"
            while (await game.alice.do("app", "show", game.app))["offered"] is None:
                pass
            for wrong in ((), ("--pay", "6"), ("--get", "7")):
                refused = await game.alice.do("app", "take", game.app, *wrong, fails=1)
                assert "the other offers that we get 0 and pay 7" in refused
            await game.alice.do("app", "take", game.app, "--pay", "7")
            assert (await game.bob.do("app", "wait", game.app, "--end"))["result"] == {"gets": 7, "pays": 0}
            before = await game.balance(game.bob)
            made = CliRunner().invoke(app, ["app", "secret", "--hand", "rock", "--json"])
            secret = json.loads(made.stdout)
            await game.begin("rps", f"commitment={secret['commitment']}", "--stake", STAKE)
            assert "only whose turn it is can resign" in await game.alice.do("app", "resign", game.app, fails=1)
            await game.bob.do("app", "resign", game.app)
            assert (await game.bob.do("app", "wait", game.app, "--end"))["result"] == {"gets": 0, "pays": WON}
            while (await game.balance(game.bob)) != before - WON:
                pass


@pytest.mark.processes
async def test_a_game_goes_on_after_a_kill_and_who_stalls_loses_in_court(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, bobs):
            await game.begin("tictactoe", "--stake", STAKE, "--period", "60")
            await game.play(0, 3)
            await bobs.kill()
            sent = await game.alice.do("app", "move", game.app, "cell=1", "--no-wait")
            assert sent["pending"] and sent["number"] == 3
            async with game.bob.node(game.chain) as again:
                address = (await again.json())["peer_address"]
                await game.alice.do("peers", "connect", address)
                assert (await game.bob.do("app", "wait", game.app))["number"] == 3
                await game.play(4, first=3)
                await again.kill()
            assert (await game.alice.do("app", "dispute", game.app))["phase"] == "disputed"
            await game.alice.do("app", "move", game.app, "cell=8", "--no-wait")
            while (await game.alice.do("app", "show", game.app))["in_court_until"] is None:
                pass
            end = await game.alice.do("app", "wait", game.app, "--end")  # twenty blocks, of a second or more, a second
            assert end["result"] == {"gets": WON, "pays": 0}


# --- words ------------------------------------------------------------------------------------------------------


def test_each_app_that_ships_has_words_for_all_that_it_takes() -> None:
    assert WORDS.keys() == APPS.keys()
    for name, words in WORDS.items():
        assert set(words.parameters) == set(PARAMETERS[name])
        told = inspect.getsource(type(APPS[name]).move) + inspect.getsource(type(APPS[name]).init)
        assert all(f'"{each}"' in told for each in words.moves)


def test_words_of_commands_are_read_as_apps_take_them() -> None:
    given_words = ["a=4", "b=0x12", "c=call", "d=1,2", "e=ab,", "f=+60", "g=" + "1" * 64, "h="]
    expected = {"a": 4, "b": "0x12", "c": "call", "d": [1, 2], "e": ["ab"], "f": 1_060, "g": "1" * 64, "h": ""}
    assert parse_words(given_words, now=1_000) == expected
    for wrong in (["cell"], ["=4"], ["a=1", "a=2"]):
        with pytest.raises(BadParameter):
            parse_words(wrong)


JSON_WORDS = st.dictionaries(
    st.sampled_from([*{each for names in PARAMETERS.values() for each in names}, "cell", "column", "hand", "do", "x"]),
    st.integers(-5, 2**130) | st.text(max_size=70) | st.lists(st.integers(0, 3) | st.text(max_size=9), max_size=20),
)


@given(JSON_WORDS, st.sampled_from(sorted(APPS)))
@settings(deadline=None)
def test_no_words_break_the_rules_of_an_app(words: dict[str, Any], name: str) -> None:
    for ask in (lambda: APPS[name].init((5, 5), **words), lambda: APPS[name].move(**words)):
        try:
            ask()
        except InvalidInput:
            continue
