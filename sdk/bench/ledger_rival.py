"""Another revision of this ledger, taken from git, that executes transfers beside: what was possible before."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tallystick.sdk.bench.ledger_workloads import Workload
from tallystick.sdk.errors import MeasurementVoid


class Rival:
    """Another revision, in a process of its own, that decodes and executes transfers one by one when it is told to."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def load(self, workload: Workload) -> None:
        """Give it the transactions of the next measurements."""
        self._say(msgspec.json.encode([[raw.hex() for raw in workload.raws], [a.hex() for a in workload.accounts]]))

    def run(self) -> float:
        """Return in how many seconds it made a block of them."""
        return float(self._say(b""))

    def _say(self, line: bytes) -> bytes:
        if self._process.stdin is None or self._process.stdout is None:
            raise MeasurementVoid("the other revision's process has no pipes")
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise MeasurementVoid("the other revision's process has ended: see what it printed above")
        return answer


_RIVAL = """
import json, os, sys, time
try: os.sched_setaffinity(0, {0})
except OSError: pass
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.ethereum.transactions import decode_transaction
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint, Plan, build_block, mint
from tallystick.settlement.simulated.world import Layer, apply_changes
rules = Parameters(1337, ADJUDICATOR)
for line in sys.stdin:
    if line.strip():
        raws, accounts = ([bytes.fromhex(each) for each in part] for part in json.loads(line))
        world, genesis = {}, Layer({})
        for account in accounts: mint(genesis, rules, Mint(account, NATIVE, 10**15))
        apply_changes(world, genesis.changes)
        print("loaded", flush=True)
        continue
    began = time.perf_counter()
    transactions = [decode_transaction(raw, 1337) for raw in raws]
    block = build_block(Layer(world), Plan(rules, None, 1000, 10**12), (), transactions)
    took = time.perf_counter() - began
    assert len(block.entries) == len(raws) and all(entry.execution.success for entry in block.entries)
    print(took, flush=True)
"""


@contextmanager
def open_rival(repository: Path, revision: str) -> Iterator[Rival | None]:
    """Give that revision of a git repository; None if it is not there."""
    with tempfile.TemporaryDirectory(prefix="tally-ledger-") as folder:
        archive = subprocess.run(["git", "-C", str(repository), "archive", revision], capture_output=True, check=False)
        if archive.returncode:
            yield None
            return
        subprocess.run(["tar", "--extract", "--directory", folder], input=archive.stdout, check=True)
        environment = {**os.environ, "PYTHONPATH": str(Path(folder) / "src")}
        command = [sys.executable, "-c", _RIVAL]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder
        ) as process:
            try:
                yield Rival(process)
            finally:
                process.kill()
