"""`tally ledger`: the block of docs/ledger.md as it is pasted, and what is said of values that are none."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from string import Template

import pytest
from test_chain_cli import running
from test_readme_blocks import ROOT
from typer.testing import CliRunner

from tallystick.channels.storage.sqlite.store import open_store
from tallystick.sdk.cli import ledger as command
from tallystick.sdk.cli.app import app
from tallystick.settlement.modules.table import MODULES
from tallystick.settlement.sending.sqlite import SCHEMA

(BLOCK,) = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "ledger.md").read_text("utf-8"), flags=re.M | re.S)
GOLD = "0x" + "70" * 20
FIVES = "0x" + "55" * 20


def commands(me: Callable[[], str]) -> Iterator[list[str]]:
    """Yield the words of each command of the block, but for those that start the chain and wait for it."""
    names = {"gold": GOLD}
    for line in BLOCK.splitlines():
        if line.startswith("me="):
            names["me"] = me()
        elif line.startswith("buy="):
            names |= {name: text.replace("$gold", GOLD) for name, text in re.findall(r'(\w+)="([^"]*)"', line)}
        elif line.startswith("tally ") and not line.startswith(("tally chain run", "tally chain wait")):
            words = shlex.split(line, comments=True)[1:]
            yield [Template(word).substitute(names) for word in words]


@pytest.mark.processes
def test_the_block_of_the_page_does_each_thing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with running(tmp_path / "chain", "--dev", "--interval", "0.05") as (_, hello):
        for name, value in (("PASSWORD", "example"), ("DATA", "defi/me"), ("CHAIN", hello["url"])):
            monkeypatch.setenv(f"TALLY_{name}", value)

        def tally(*words: str, fails: int = 0) -> str:
            done = CliRunner().invoke(app, words)
            assert done.exit_code == fails, (words, done.output)
            return done.output

        printed = "".join(tally(*words) for words in commands(lambda: tally("ledger", "account").strip()))
        for told in (
            *("PoolCreated", "LiquidityAdded", "Swapped", "MarketCreated", "Supplied", "CollateralAdded", "Borrowed"),
            *("Flashed", "RewardsFunded", "Staked", "Rewarded", "PayoutProposed", "Voted", "PaidOut"),
        ):
            assert re.search(rf"^(exchange|lending|staking|treasury): {told}: ", printed, flags=re.MULTILINE), printed
        proposal = json.loads(tally("ledger", "read", "treasury", "proposal", "0", "0", "--json"))
        assert proposal["paid"] is True and proposal["approving"] == 5_000 and proposal["amount"] == 250

        swap = ("ledger", "call", "exchange", "swap")
        done = json.loads(tally(*swap, GOLD, "native", "0", "1000", "1", "+60", "--json"))
        assert done["told"][0]["event"] == "Swapped" and done["told"][0]["fields"]["amountIn"] == 1_000
        assert done["expected"]["amountOut"] == done["told"][0]["fields"]["amountOut"] > 1_900
        buy = (*swap, "native", GOLD, "0", "1000", "1", "+60", "--dry-run")
        assert "this takes 1000 of the chain's own coin, and the transaction's value is 0" in tally(*buy, fails=1)
        assert re.search(r"^amountOut +4\d\d$", tally(*buy, "--value", "1000"), flags=re.MULTILINE)
        few = tally(*swap, "native", GOLD, "0", "1000", "1", fails=2)
        assert "swap takes assetIn assetOut number" in few and "6 values, not 5" in few
        lending = ("ledger", "call", "lending")
        assert "amount is no uint128: 'some'" in tally(*lending, "borrow", "0", "some", fails=2)
        assert "lending has no 'take': it has createMarket" in tally(*lending, "take", "0", "1", fails=2)
        assert "no pool 7" in tally("ledger", "read", "exchange", "pool", "native", GOLD, "7", fails=1)
        tally("ledger", "pay", FIVES, "7", "--asset", GOLD)
        assert json.loads(tally("ledger", "balance", FIVES, "--asset", GOLD, "--json"))["balance"] == 7

        with closing(open_store(tmp_path / "defi/me", [SCHEMA], owner="tally node run")):  # as if its node ran
            for words in ((*swap, GOLD, "native", "0", "1000", "1", "+60"), ("ledger", "pay", FIVES, "7")):
                said = tally(*words, fails=1)
                assert "which numbers this account's transactions" in said and "in use by tally node run" in said
            assert "the directory is in use by" in tally("chain", "send", FIVES, "7", fails=1)
            assert "amountOut" in tally(*swap, GOLD, "native", "0", "1000", "1", "+60", "--dry-run")
        tally("ledger", "pay", FIVES, "7")


def test_all_modules_are_listed_with_what_they_do_and_take() -> None:
    listed = CliRunner().invoke(command.app, ["modules"])
    assert listed.exit_code == 0
    described = json.loads(CliRunner().invoke(command.app, ["modules", "--json"]).stdout)
    assert [each["module"] for each in described] == list(MODULES)
    for module in described:
        for function in module["functions"]:
            assert function["about"].endswith(".") and function["name"] in listed.stdout
    none = CliRunner().invoke(command.app, ["modules", "bank"])
    assert none.exit_code == 2 and "there is no module 'bank': there are exchange, lending" in none.stderr


def test_where_no_chain_is_the_exit_code_is_3() -> None:
    away = CliRunner().invoke(command.app, ["read", "exchange", "pools", "0", "1", "--chain", "http://127.0.0.1:1"])
    assert away.exit_code == 3 and "does not answer" in away.stderr
