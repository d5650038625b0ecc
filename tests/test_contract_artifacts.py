"""What is checked in of the contracts is what their sources compile to, fits on a chain, and is documented."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.evm import Evm, calldata
from simulation.evm_gas import LIMITS, measure
from simulation.evm_tokens import COMPILED, compile_all
from simulation.evm_world import DEPLOYER
from tallystick.channels.apps.table import SHIPPED
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.keys import keccak
from tallystick.contracts import RULES, artifact, creation_code
from tallystick.settlement.errors import Revert

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "contracts.md"
CODE_MAX = 24_576
"""Bytes of code that a contract may have (EIP-170)."""


@pytest.mark.soak  # `make contract`, which CI runs, does it, too
def test_the_artifact_is_what_the_source_compiles_to() -> None:
    command = [sys.executable, "tools/contracts.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contracts_of_tests_are_what_their_sources_compile_to() -> None:
    assert compile_all() == json.loads(COMPILED.read_text())


def test_the_contract_fits_on_a_chain_and_knows_where_it_is() -> None:
    evm = Evm(chain_id=99)
    evm.fund(DEPLOYER)
    at = evm.deploy(creation_code(250), DEPLOYER)
    assert evm.call(at, calldata("domainSeparator", (), ())) == domain_separator(99, at)
    assert int.from_bytes(evm.call(at, calldata("rewardBps", (), ())), "big") == 250
    immutables = artifact().layout["code_layout"]
    size = len(artifact().runtime) // 2 - 1 + sum(place["length"] for place in immutables.values())
    assert size <= CODE_MAX


def test_each_app_that_ships_has_rules_that_a_court_can_ask_and_that_keep_nothing() -> None:
    assert RULES.keys() == {(app.name, app.version) for app in SHIPPED}
    for name in RULES.values():
        made = artifact(name)
        assert made.layout.get("code_layout", {}) == {} == made.layout.get("storage_layout", {})
        assert {entry["stateMutability"] for entry in made.abi} == {"pure"}


def test_what_each_call_costs_is_within_bounds_and_as_the_page_says() -> None:
    gas = measure()
    assert {name: gas[name] for name, limit in LIMITS.items() if gas[name] > limit} == {}
    told = PAGE.read_text("utf-8")
    others = ("open", "deposit_again", "deposit_third", "challenge_voucher", "register_secret", "register_link_65536")
    assert [name for name in (*LIMITS, *others) if f"{gas[name]:,}" not in told] == []


def test_the_page_says_what_is_stored_where() -> None:
    told = re.findall(r"^\| (\d+) \| `(\w+)\[", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    layout = artifact().layout["storage_layout"]
    assert {name: int(slot) for slot, name in told} == {name: place["slot"] for name, place in layout.items()}


@pytest.mark.parametrize("name", ["Adjudicator", "Court", "Towers"])
def test_the_contract_says_no_word_that_the_rule_book_does_not_know(name: str) -> None:
    source = (ROOT / "contracts" / f"{name}.vy").read_text()
    lines = [line for line in source.splitlines() if "assert" in line or "raise" in line]
    said = {word for line in lines for word in line.split('"')[1::2] if word}  # "" is no word
    assert said <= {str(code) for code in Revert}
    assert said >= {"bad-signature", *({"out-of-gas", "nothing-owed"} if name == "Adjudicator" else {"not-allowed"})}


def test_the_artifact_names_its_compiler_and_its_source() -> None:
    made = artifact()
    assert made.compiler == "vyper 0.4.3+commit.bff19ea2"
    assert made.source == keccak((ROOT / "contracts" / "Adjudicator.vy").read_bytes()).hex()
    names = {entry["name"] for entry in made.abi if entry["type"] == "function"}
    assert names >= {"open", "close", "challenge", "settle", "redeem", "redeemMany", "batch", "claim"}
