"""The examples in `examples/apps`, as real processes beside two daemons and a real chain node."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import trio
from test_apps_commands import DEPOSIT, Table, table
from test_cli_end_to_end import PASSWORD, PATIENCE, Someone

from simulation.processes import run, started

APPS = Path(__file__).resolve().parent.parent / "examples" / "apps"
pytestmark = pytest.mark.processes


def example(name: str, *words: object) -> tuple[str, ...]:
    return (sys.executable, "-I", str(APPS / f"{name}.py"), *map(str, words))


async def out(name: str, *words: object, fails: bool = False) -> str:
    """Run an example to its end, and return what it printed."""
    code, output, errors = await run(example(name, *words), PASSWORD)
    assert (code != 0) == fails, output + errors
    return errors if fails else output


async def settled(game: Table, someone: Someone, balance: int) -> None:
    """Wait until somebody owns so much in the channel, and nothing of an app is open."""
    while await game.balance(someone) != balance or await someone.do("app", "list"):
        pass


async def test_a_game_is_played_unattended_also_by_one_that_is_killed_and_no_stake_is_too_large(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, _):
            alice, bob = game.alice.directory, game.bob.directory
            serve = example("game", "--node", bob, "serve", "--most", 1_000)
            challenge = example("game", "--node", alice, "challenge", game.channel)
            async with started(serve, PASSWORD) as server:
                await server.line_with("ready to play")
                dear = await out("game", "--node", alice, "challenge", game.channel, "--stake", 1_001)
                assert "we stake at most 1000" in dear
                async with started((*challenge, "--stake", "700"), PASSWORD) as player:
                    await player.line_with("is proposed")
                    await server.kill()
                    async with started(serve, PASSWORD) as again:
                        ended = await player.line_with("ended:")
                        await again.line_with("ended:")
            won, lost = map(int, re.findall(r"([0-9]+) (?:won|lost)", ended))
            assert (won, lost) == (0, 0), "who plays well on both sides draws"
            await settled(game, game.alice, DEPOSIT)


async def test_an_option_is_written_at_its_writers_terms_and_exercised_at_a_signed_price(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, _):
            alice, bob, oracle = game.alice.directory, game.bob.directory, tmp_path / "oracle"
            terms = ("--feed", "wheat", "--oracle", (await out("option", "key", "--data", oracle)).strip())
            writer = example("option", "write", "--node", bob, *terms, "--strike", 200, "--premium", 40)
            async with started(writer, PASSWORD) as server:
                await server.line_with("ready to write")
                buy = ("buy", game.channel, "--node", alice, *terms, "--size", 1_000, "--seconds", 50_000)
                assert "for 40 per thousand" in await out("option", *buy, "--strike", 200, "--premium", 39, fails=True)
                bought = await out("option", *buy, "--strike", 200, "--premium", 50)
                name = bought.split()[1]
                time = (await game.alice.do("node", "info"))["block_time"]
                for price, feed in ((250, "rye"), (200, "wheat")):
                    signed = await out(
                        "option", "sign", "--data", oracle, "--feed", feed, "--price", price, "--time", time
                    )
                    (tmp_path / "price.json").write_text(signed)
                    await out("option", "exercise", name[:16], tmp_path / "price.json", "--node", alice, fails=True)
                signed = await out(
                    "option", "sign", "--data", oracle, "--feed", "wheat", "--price", 250, "--time", time
                )
                (tmp_path / "price.json").write_text(signed)
                ended = await out("option", "exercise", name[:16], tmp_path / "price.json", "--node", alice)
            assert "200 for us, the premium of 50 is paid" in ended  # 1000 * (250 - 200) // 250
            await settled(game, game.alice, DEPOSIT + 150)


async def test_an_escrow_is_released_or_divided_by_its_arbiter_alone(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, _):
            alice, bob, judge = game.alice.directory, game.bob.directory, tmp_path / "arbiter"
            arbiter = (await out("escrow", "key", "--data", judge)).strip()
            terms = ("--price", 250, "--arbiter", arbiter)
            seller = example("escrow", "sell", "--node", bob, *terms)
            buy = ("escrow", "buy", game.channel, "--node", alice, "--arbiter", arbiter, "--seconds", 50_000, "--price")
            async with started(seller, PASSWORD) as server:
                await server.line_with("ready to sell")
                assert "the price is 250" in await out(*buy, 249, fails=True)
                first = (await out(*buy, 250)).split()[1]
                await server.line_with("ship it")
                await out("escrow", "say", first[:16], "release", "--node", alice)
                await server.line_with("ended: 250 for us")
                second = (await out(*buy, 250)).split()[1]
                await out("escrow", "say", second[:16], "dispute", "--node", alice)
                await server.line_with("is disputed")
                for about, fails in ((first, True), (second, False)):  # one about another escrow counts for nothing
                    decision = await out("escrow", "decide", about, 100, "--data", judge)
                    (tmp_path / "decision.json").write_text(decision)
                    say = ("escrow", "say", second[:16], str(tmp_path / "decision.json"), "--node", bob)
                    await out(*say, fails=fails)
                await server.line_with("ended: 100 for us")
            await settled(game, game.bob, DEPOSIT + 350)


async def test_a_loan_is_lent_against_collateral_and_paid_back_by_receipts(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, _):
            alice, bob = game.alice.directory, game.bob.directory
            quote, loan = tmp_path / "quote.json", tmp_path / "loan.json"
            quote.write_text(await out("loan", "quote", "--node", bob, "--each", 350, "--count", 2, "--seconds", 9_000))
            borrow = ("loan", "borrow", game.channel, quote, loan, "--node", alice, "--amount", 600, "--worth")
            await out(*borrow, 300)
            await game.bob.do("app", "proposals", "--wait", "60")
            lend = ("loan", "lend", quote, loan, "--node", bob, "--amount", 600)
            assert "an instalment is worth 350" in await out(*lend, fails=True)
            await out(*borrow, 400)
            name = json.loads(loan.read_text())["id"]
            while name not in [one["id"] for one in await game.bob.do("app", "proposals")]:
                pass
            assert "not an invoice for 500" in await out(*lend[:-1], 500, fails=True)
            assert "600 is lent, 800 is owed" in await out(*lend)
            assert "600 is lent, 800 is owed" in await out(*lend), "nothing is lent twice"
            repay = ("loan", "repay", quote, loan, "--node", alice)
            assert "instalment 1 is paid, 400 is owed" in await out(*repay)
            assert "the collateral is free" in await out(*repay)
            while await game.balance(game.bob) != DEPOSIT + 100:
                pass


async def test_tickets_of_several_players_are_drawn_by_a_hub_also_after_it_was_killed(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, _):
            hub, terms = game.bob.directory, ("--price", 10, "--odds", 2)
            draw = example("raffle", "draw", "--node", hub, *terms)
            play = ("raffle", "play", game.channel, "--node", game.alice.directory, "--secrets", tmp_path / "tickets")
            async with started(draw, PASSWORD) as server:
                await server.line_with("ready to draw")
                assert "a ticket is 10" in await out(*play, "--price", 9, "--odds", 2)
                async with started(example(*play, *terms, "--tickets", 6), PASSWORD) as player:
                    await server.line_with("for its holder")
                    await server.kill()
                    async with started(draw, PASSWORD):
                        end = await player.line_with("6 tickets:")
            won, paid = map(int, re.findall(r"([0-9]+) (?:won|paid)", end))
            assert won + paid == 60 and len(list((tmp_path / "tickets").iterdir())) == 7
            await settled(game, game.alice, DEPOSIT + won - paid)


async def test_a_treasury_pays_what_enough_members_sign_and_not_less_or_more(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, _):
            alice, bob = game.alice.directory, game.bob.directory
            members = [
                (await out("payout", "key", "--data", tmp_path / name)).strip() for name in ("ann", "ben", "cid")
            ]
            terms = ("--needed", 2, "--members", *members)
            async with started(example("payout", "accept", "--node", bob, "--least", 500, *terms), PASSWORD) as payee:
                fund = ("payout", "fund", game.channel, "--node", alice, "--seconds", 50_000)
                assert "that we agreed on" in await out(*fund, "--most", 400, *terms, fails=True)
                name = (await out(*fund, "--most", 900, *terms)).split()[1]
                await payee.line_with("holds 900")
            for voter, paid in (("ann", 600), ("ben", 700), ("cid", 600)):
                vote = await out("payout", "vote", name, paid, "--data", tmp_path / voter)
                (tmp_path / f"{voter}.json").write_text(vote)
            collect = ("payout", "collect", name[:16], "--node", bob)
            await out(*collect, tmp_path / "ann.json", fails=True)
            await out(*collect, tmp_path / "ann.json", tmp_path / "ben.json", fails=True)
            assert "ended: 600 for us" in await out(*collect, tmp_path / "cid.json", tmp_path / "ann.json")
            await settled(game, game.bob, DEPOSIT + 600)


async def test_a_salary_goes_on_where_it_was_when_its_payer_is_killed(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with table(tmp_path) as (game, _):
            terms = (game.channel, "--node", game.alice.directory, "--rate", 3, "--seconds", 40, "--second", 0.02)
            async with started(example("salary", *terms), PASSWORD) as payer:
                await payer.line_with("second 5 of 40")
                await payer.kill()
            again = await out("salary", *terms)
            assert "second 5 of 40" in again or "second 6 of 40" in again
            assert "second 0 of" not in again and "all is paid: 120" in again
            await settled(game, game.bob, DEPOSIT + 120)
