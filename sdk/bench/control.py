"""The machine's own say: how much two processes do against one, and what each primitive costs, now and here.

Shared machines drift. Every figure of two processes is bracketed by a *capacity control*: two pinned busy processes
against one, 2.0 on an idle pair of cores. Below 1.75 a run does not count. The *floor* is what the primitives of one
update cost on the busier side, measured in the same run: no engine of this design can be faster.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tallystick.channels.protocol.eip712 import digest_proof, domain_separator
from tallystick.channels.protocol.hashchain import walk
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import Update, decode, encode
from tallystick.channels.protocol.objects import Address, BalanceProof, ChannelId
from tallystick.channels.protocol.operations import Pay
from tallystick.channels.storage.schema import UpdateSigned
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.sqlite.store import open_store

CONTROL_MIN = 1.75
"""Below this, the machine was busy with something else: repeat."""

BUSY_SECONDS = 0.4
"""For which a control keeps the processes busy, at most; twice."""

CONTROL_SECONDS = 0.9
"""What a control takes, about, at most."""

_BUSY = """
import hashlib, os, sys, time
try: os.sched_setaffinity(0, {int(sys.argv[1])})
except OSError: pass
sys.stdin.readline()
end, count, data = time.perf_counter() + float(sys.argv[2]), 0, b"x" * 32
while time.perf_counter() < end:
    for _ in range(1000): data = hashlib.sha256(data).digest()
    count += 1
print(count)
"""


def _busy(cpus: list[int], seconds: float) -> int:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _BUSY, str(cpu), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for cpu in cpus
    ]
    for process in processes:
        if process.stdin is not None:
            process.stdin.write(b"\n")
            process.stdin.flush()
    return sum(int(process.communicate()[0]) for process in processes)


def capacity_control(beside: float = BUSY_SECONDS) -> float:
    """Return how many times as much two pinned processes do as one; it takes as long as what it stands beside."""
    seconds = min(BUSY_SECONDS, beside)
    alone = max(1, _busy([0], seconds))
    return _busy([0, 1], seconds) / alone


class Primitives(msgspec.Struct, frozen=True):
    """Microseconds of one call, one core."""

    sign: float
    verify: float
    commit: float
    codec_per_payment: float
    sha256: float

    def floor_per_second(self, batch: float) -> float:
        """Return payments/s if each update of `batch` payments cost its busier side (the payer) primitives only.

        The payer signs, verifies the ack, and commits twice; each side encodes or decodes every payment once.
        """
        batch = max(1.0, batch)
        update = self.sign + self.verify + 2 * self.commit + batch * self.codec_per_payment
        return batch * 1e6 / update

    def stream_floor_per_second(self, payments: int, updates: int, commits: int) -> float:
        """Return payments/s of streams if their payer did these updates and commits, and hashed, and nothing else.

        Either side hashes once per link: the payer when it makes the chain, the payee when it checks it.
        """
        payments = max(1, payments)
        spent = payments * self.sha256 + updates * (self.sign + self.verify) + commits * self.commit
        return payments * 1e6 / spent


def measure_primitives(directory: str | None = None) -> Primitives:
    """Measure them on this machine, in a throw-away store under `directory`."""
    key = PrivateKey(hashlib.sha256(b"bench").digest())
    domain = domain_separator(1, Address(bytes(20)))
    proof = BalanceProof(ChannelId(bytes(32)), 0, 1, 5)
    digest = digest_proof(domain, proof)
    signature = key.sign(digest)
    update = Update(ChannelId(bytes(32)), 1, 0, (Pay(0, (1,) * 1000),), signature)
    frame = encode(update)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        store = open_store(Path(folder), [SCHEMA], owner="bench")
        moments = [UpdateSigned(ChannelId(bytes(32)), seq, 0, 1, frame[:400], 0.0) for seq in range(400)]
        commits = iter(moments)
        commit = _time(lambda: store.commit([next(commits)]), 400)
        store.close()
    return Primitives(
        sign=_time(lambda: key.sign(digest_proof(domain, proof)), 1000),
        verify=_time(lambda: key.public.verify(digest_proof(domain, proof), signature), 1000),
        commit=commit,
        codec_per_payment=_time(lambda: decode(encode(update)), 200) / 1000,
        sha256=_time(lambda: walk(bytes(32), 1_000), 20) / 1000,
    )


def _time(act: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        act()
    return (time.perf_counter() - began) * 1e6 / count
