"""Breaks the product on purpose, one known failure at a time, and shows that the fast tests notice each.

    python tests/mutants/run.py [NAME …]

A mutant is a small change of text in a copy of the tree; the tests run against the copy. A mutant that survives, or
whose text is no longer there, fails the run. The failures are those that other payment channels and towers have had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import of_app_commands
import of_app_hubs
import of_app_machine
import of_app_rules
import of_batches
import of_chains
import of_channels
import of_contracts
import of_court
import of_court_word
import of_enforcement
import of_ethereum
import of_evm_court
import of_execution
import of_modules
import of_paid
import of_replicated
import of_rollup
import of_rollup_channels
import of_rollup_users
import of_router
import of_sdk
import of_session
import of_settlement
import of_shards
import of_stakes
import of_towers
import of_validator_changes
import of_virtual
import of_watchtower
from mutant import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 300


TABLES = (
    *(of_channels, of_session, of_settlement, of_ethereum, of_contracts),
    *(of_enforcement, of_batches, of_watchtower, of_router, of_sdk, of_chains, of_shards, of_execution),
    *(of_rollup, of_rollup_channels, of_rollup_users),
    *(of_modules, of_replicated, of_stakes, of_validator_changes, of_court, of_evm_court, of_app_rules, of_app_machine),
    *(of_virtual, of_court_word, of_app_commands, of_app_hubs, of_towers, of_paid),
)
MUTANTS: tuple[Mutant, ...] = tuple(mutant for table in TABLES for mutant in table.MUTANTS)


def stands_once(mutant: Mutant) -> bool:
    """Return whether the text that a mutant changes is in its file exactly once."""
    file = ROOT / mutant.file
    return file.exists() and file.read_text().count(mutant.before) == 1


def copy_tree(target: Path) -> None:
    """Lay out the tree so that `tallystick` is imported from it."""
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "tallystick", target / "tallystick", ignore=without)  # its links become folders
    shutil.copytree(ROOT / "tests", target / "tests", ignore=without)
    for folder in ("docs", "tools"):
        shutil.copytree(ROOT / folder, target / folder, ignore=without)
    shutil.copy(ROOT / "pyproject.toml", target)


def run_tests(target: Path, tests: tuple[str, ...]) -> bool:
    """Return whether these tests pass against the copy."""
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)]
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=target, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False  # a mutant that makes the product hang was noticed
    if done.returncode not in (0, 1):
        raise SystemExit(f"the tests could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def compile_contract(target: Path, name: str) -> None:
    """Compile a contract of the copy: what the tests run is the bytecode."""
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, target / "tools" / "contracts.py", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} could not be compiled:\n{done.stdout}{done.stderr}")


def main(names: list[str]) -> int:
    """Try the mutants (all, or those whose names contain one of `names`); return how many survived."""
    survivors = 0
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.name for name in names)]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        copy_tree(target)
        for mutant in chosen:
            file = target / "tallystick" / mutant.file
            text = file.read_text()
            if not stands_once(mutant):
                print(f"GONE      {mutant.name}: its text is not in {mutant.file} exactly once", flush=True)
                survivors += 1
                continue
            file.write_text(text.replace(mutant.before, mutant.after))
            if file.suffix == ".vy":
                compile_contract(target, file.stem)
            survived = run_tests(target, mutant.tests)
            file.write_text(text)
            if file.suffix == ".vy":  # else what comes next would run the broken bytecode
                shutil.copytree(ROOT / "contracts" / "artifacts", file.parent / "artifacts", dirs_exist_ok=True)
            survivors += survived
            print(f"{'SURVIVED' if survived else 'killed  '}  {mutant.name}", flush=True)
    print(f"{len(chosen)} mutants, {survivors} not killed")
    return survivors


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 100))
