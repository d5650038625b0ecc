"""`tally tower bond`, `unbond` and `claims`: a tower's bond by commands, on a chain that runs as a process."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from test_chain_cli import running
from typer.testing import CliRunner

from simulation.tower_house import Pair
from simulation.tower_world import ALICE, MALLORY
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.sdk.cli.app import app
from tallystick.settlement.modules.covers import TowerCover
from tallystick.watchtower.cover_schema import CoverOffered
from tallystick.watchtower.sqlite import SCHEMAS

BOND = 10**9


@pytest.mark.processes
def test_a_bond_is_paid_in_looked_at_and_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "tower"
    with running(tmp_path / "chain", "--dev", "--interval", "0.05") as (_, hello):
        for name, value in (("PASSWORD", "example"), ("TOWER", str(data)), ("CHAIN", hello["url"])):
            monkeypatch.setenv(f"TALLY_{name}", value)

        def tally(*words: str, fails: int = 0) -> str:
            done = CliRunner().invoke(app, words)
            assert done.exit_code == fails, (words, done.output)
            return done.output

        tally("init", "--data", str(data), "--light")
        me = tally("ledger", "account", "--data", str(data)).strip()
        tally("chain", "mint", me, str(10**18))
        assert "bond" in tally("tower", "bond", str(BOND))
        said = json.loads(tally("tower", "bond", "5", "--json"))
        assert said == {"bond": BOND + 5, "reserved": 0, "free": BOND + 5}
        assert json.loads(tally("tower", "claims", "--json")) == {**said, "covers": []}

        pair = Pair(ALICE, MALLORY, chain_id=1337, contract=Address(b"\1" * 20))
        cover = TowerCover(pair.channel, Address(bytes.fromhex(me[2:])), ALICE.address, 7, 2**40, 600, 1, 2**40)
        with closing(open_store(data, SCHEMAS, owner="tally tower run", durable=False)) as store:
            store.commit([CoverOffered(b"n" * 32, pair.terms, cover)])
            assert "in use by tally tower run" in tally("tower", "unbond", fails=1)
            assert "in use by tally tower run" in tally("tower", "bond", "1", fails=1)
            (offered,) = json.loads(tally("tower", "claims", "--json"))["covers"]
        assert offered["state"] == "offered" and (offered["amount"], offered["promised"]) == (7, False)
        assert f"offered  7 to 0x{ALICE.address.hex()}" in tally("tower", "claims")

        assert json.loads(tally("tower", "unbond", "6", "--json"))["bond"] == BOND - 1
        assert "is free" in tally("tower", "unbond", str(BOND), fails=1)
        assert json.loads(tally("tower", "unbond", "--json")) == {"bond": 0, "reserved": 0, "free": 0}
        assert "nothing of the bond is free" in tally("tower", "unbond", fails=2)
