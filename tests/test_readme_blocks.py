"""Every block of commands in the README runs as it is pasted, and does what the text says.

They name fixed ports. So each runs in a network namespace of its own, where the system allows that; elsewhere with the
machine's ports, and not at all if somebody has one of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
PORTS = (8545, 7735, 7736)
SECONDS = 400  # for machines that have much else to do
TAKEN = 77


ALONE = f"""
import ctypes, fcntl, os, socket, struct, sys
libc = ctypes.CDLL(None)
if hasattr(libc, "unshare") and not all(libc.unshare(flags) for flags in (0x40000000, 0x50000000)):  # net; user and net
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running
for port in {PORTS}:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            sys.exit({TAKEN})
os.execvp("bash", ["bash", sys.argv[1]])
"""
"""Becomes a shell in a network of its own, if the system allows one; ends with TAKEN if the ports are not free."""


@contextlib.contextmanager
def shell(folder: Path, name: str, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Paste a script into a shell in `folder`, where the README's commands find what they name."""
    for link, target in ((".venv", Path(sys.prefix)), ("examples", ROOT / "examples")):
        if not (folder / link).exists():
            (folder / link).symlink_to(target)
    (folder / f"{name}.sh").write_text(f"set -euo pipefail\n{script}")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TALLY_")}
    environment["COLUMNS"] = "160"
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-Ic", ALONE, f"{name}.sh"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def paste(folder: Path, script: str, *, after: str = "") -> str:
    """Paste a script, then what the text says to do afterwards; return all that was printed."""
    with shell(folder, "terminal", script + after + "\n{ kill $(jobs -p) || true; }\nwait\n") as process:
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
    if code == TAKEN:
        pytest.skip(f"one of the ports {PORTS} is taken, and the system gives no network of its own")
    printed = (folder / "terminal.log").read_text("utf-8")
    assert code == 0, printed
    return printed


def block(beginning: str) -> str:
    """Return the one block that contains this."""
    (found,) = [each for each in BLOCKS if beginning in each]
    return found


def test_these_are_all_blocks_and_none_waits_by_the_clock() -> None:
    """The first one sets up and runs the tests themselves: `.ci/run` does what it says."""
    assert len(BLOCKS) == 5 and block("make test")
    assert not any("sleep" in each for each in BLOCKS)


@pytest.mark.processes
def test_the_merchant_and_the_customer_in_two_terminals(tmp_path: Path) -> None:
    first, second = block("examples/merchant.py"), block("examples/customer.py")
    again = second.splitlines()[-1] + "\n"
    script = (
        f"({first}) > merchant.log 2>&1 &\n{second}"
        f"{again.replace('tea-1', 'tea-2')}{again}"
        "tally node stop --data shop/merchant\n"
    )
    paste(tmp_path, script)
    sold = [json.loads(line) for line in (tmp_path / "shop" / "merchant" / "shipped.jsonl").read_text().splitlines()]
    assert [(line["action"], line["order"]) for line in sold] == [("ship", "tea-1"), ("ship", "tea-2")]
    assert "customers connect to 0" in (tmp_path / "merchant.log").read_text()


ASYNCIO = """
import asyncio
from pathlib import Path
from tallystick import connect_control

async def main() -> None:
    async with connect_control(Path("demo/alice")) as node:
        (channel,) = await node.channels()
        print("asyncio pays", (await node.pay(channel.id, 7, memo="from asyncio", key="a")).amount)

asyncio.run(main())
"""


@pytest.mark.processes
def test_a_node_from_the_command_line_and_a_program_on_asyncio_beside_it(tmp_path: Path) -> None:
    (tmp_path / "asyncio_program.py").write_text(ASYNCIO)
    after = (
        "tally channel wait --spendable 1000 --json > channel.json\n"
        'tally channel wait --spendable 1000000 --timeout 0.2 || echo "exit code $?"\n'
        "python asyncio_program.py\n"
        "tally incoming --data demo/bob --json\n"
    )
    printed = paste(tmp_path, block("demo/alice"), after=after)
    assert "The node runs, at block" in printed
    assert "asyncio pays 7" in printed
    received = [json.loads(line) for line in printed.splitlines() if line.startswith('{"channel"')]
    assert [(each["amount"], each["memo"]) for each in received] == [(250, "order 17"), (7, "from asyncio")]
    channel = json.loads((tmp_path / "channel.json").read_text())
    assert channel["phase"] == "open" and channel["peer_balance"] == 250 > channel["receivable"]
    assert "no channel is usable so after 0.2 s" in printed and "exit code 1" in printed


@pytest.mark.processes
def test_a_payment_over_a_hub(tmp_path: Path) -> None:
    printed = paste(tmp_path, block("examples/hub.py"))
    assert re.search(r"^Paid 250 for a fee of 1, in one part\.$", printed, flags=re.MULTILINE), printed
    assert re.search("paid .* a tin of tea", printed), printed
