"""`tally bench hostile`: what a lone payment takes while strangers flood each door of a node and its tower.

A payer, a node as `tally node run` runs it, a tower and a chain are processes. One payment at a time goes from the
payer to the node, first in quiet, then while attackers (`attackers`, processes of the lowest priority) flood one door
after another. Beside it, somebody new connects; and the memory of what is attacked is looked at.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.channels.errors import LinkClosed, PeerError
from tallystick.channels.ports import PeerAddress, system_entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import PROTOCOL_VERSION, Hello, Ping, Pong, decode, encode
from tallystick.channels.protocol.objects import Address
from tallystick.channels.transport.links import TcpNetwork
from tallystick.sdk.bench.attackers import AttackOptions
from tallystick.sdk.bench.control import capacity_control
from tallystick.sdk.bench.driver import DriverOptions
from tallystick.sdk.bench.launcher import DriverProcess, DriverProcesses, chain_run, driver, open_processes, tally
from tallystick.sdk.bench.stage import DEPOSIT, FUNDS, Say
from tallystick.sdk.daemon.configuration import Settings, write_settings
from tallystick.sdk.daemon.keystore import create
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.watchtower import messages as tower_messages
from tallystick.watchtower.sealing import BLOB_SIZE

CHAIN_ID = 1337
PASSWORD = "of a measurement"
SETTLE = 1.5
"""Seconds of an attack before anything is measured."""

NEWCOMERS = 3
"""New peers that connect, one after the other, while each attack lasts."""

CONNECT_MAX = 30.0
"""Seconds after which somebody new has not got in."""

ATTACKS: dict[str, tuple[int, float]] = {
    "idle": (400, 400),
    "handshakes": (32, 400),
    "pings": (8, 20_000),
    "junk": (16, 100),
    "unknown": (8, 4_000),
    "gossip": (8, 4_000),
    "openings": (8, 200),
    "tower": (8, 100),
    "control": (64, 300),
}
"""For each attack: connections, and messages (of some, connections) per second of all of them together."""


class HostileRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one attack did."""

    attack: str
    p50_ms: float
    p99_ms: float
    rss_mb: float
    """How much more memory the attacked process had than in quiet, at most."""
    new_peer_connects_s: float
    """The longest that somebody new took to connect and be answered (of a tower: to get a receipt)."""
    connections: int
    """Connections that the attackers made."""
    messages: int
    """Messages that they sent."""


class HostileResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `tally bench hostile --json` prints."""

    control: float
    quiet_p50_ms: float
    quiet_rss_mb: float
    quiet_connects_s: float
    seconds: float
    rows: list[HostileRow]


class _Processes:
    """The processes of the measurement."""

    def __init__(self, payer: DriverProcess, node: DriverProcess, tower: DriverProcess) -> None:
        self.payer = payer
        self.node = node
        self.tower = tower

    @property
    def node_address(self) -> str:
        return str(self.node.first["peer_address"])

    @property
    def tower_address(self) -> str:
        return str(self.tower.first["status"]["peer_address"])

    async def pay(self, seconds: float) -> dict[str, Any]:
        return await self.payer.ask("bench", kind="alone", seconds=seconds)

    def attacked(self, kind: str) -> DriverProcess:
        return self.tower if kind == "tower" else self.node

    def target(self, kind: str) -> str:
        if kind == "control":
            return str(self.node.first["control_url"])
        return self.tower_address if kind == "tower" else self.node_address


async def run_hostile(
    attacks: Sequence[str], seconds: float, *, directory: str | None = None, say: Say
) -> HostileResult:
    """Measure in quiet, then under each of these attacks, for `seconds` each."""
    before = await trio.to_thread.run_sync(capacity_control, seconds)
    with tempfile.TemporaryDirectory(prefix="tally-bench-", dir=directory) as folder:
        async with open_processes() as processes:
            stage = await _build(Path(folder), processes, say)
            await stage.pay(1.0)
            quiet = await stage.pay(seconds)
            connects = await _newcomers(stage, "idle")
            calm = {actor.name: memory_mb(actor) for actor in (stage.node, stage.tower)}
            say(f"quiet: p50 {quiet['p50_ms']:.1f} ms, somebody new connects in {connects:.2f} s")
            rows = []
            for kind in attacks:
                rows.append(await _attack(stage, processes, kind, seconds, calm[stage.attacked(kind).name]))
                say(f"{kind}: p50 {rows[-1].p50_ms:.1f} ms, new peer {rows[-1].new_peer_connects_s:.2f} s")
    control = min(before, await trio.to_thread.run_sync(capacity_control, seconds))
    return HostileResult(
        control=control,
        quiet_p50_ms=quiet["p50_ms"],
        quiet_rss_mb=calm["node"],
        quiet_connects_s=connects,
        seconds=seconds,
        rows=rows,
    )


async def _build(folder: Path, processes: DriverProcesses, say: Say) -> _Processes:
    keys = {name: PrivateKey(bytes([number]) * 32) for number, name in enumerate(("payer", "tower"), 1)}
    coins = {key.address: FUNDS * 1_000 for key in keys.values()}
    chain = await processes.start("chain", chain_run(str(folder / "chain"), coins, interval=0.5))
    url = str(chain.first["url"])
    key_file = folder / "tower.key"
    key_file.touch(mode=0o600)
    key_file.write_text(keys["tower"].reveal().hex())
    command = ["tower", "run", "--data", str(folder / "tower"), "--key-file", str(key_file), "--chain", url]
    tower = await processes.start("tower", tally(*command, "--listen", "127.0.0.1:0", "--fee-reserve", "1", "--json"))
    node_folder, password = folder / "node", folder / "password"
    node_folder.mkdir()
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    create(node_folder, PASSWORD, light=True)
    settings = Settings(
        chain_url=url,
        chain_id=CHAIN_ID,
        contract="0x" + ADJUDICATOR.hex(),
        listen="127.0.0.1:0",
        confirmations=1,
        towers=(tower.first["status"]["peer_address"],),
    )
    write_settings(node_folder, settings)
    node = await processes.start(
        "node", tally("node", "run", "--data", str(node_folder), "--password-file", str(password), "--json")
    )
    role = DriverOptions(
        data=str(folder / "payer"),
        chain=url,
        key=keys["payer"].reveal().hex(),
        cpu=0,
        listen=False,
        challenge_period=86_400,
    )
    payer = await processes.start("payer", driver(role))
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(node.process.pid, {1})
    say("a payer, a node, its tower and a chain; the channel is being opened")
    await payer.ask("open", peer=node.first["peer_address"], deposit=DEPOSIT)
    return _Processes(payer, node, tower)


async def _attack(stage: _Processes, processes: DriverProcesses, kind: str, seconds: float, calm: float) -> HostileRow:
    connections, rate = ATTACKS[kind]
    attack = AttackOptions(
        kind=kind,
        seconds=SETTLE + seconds + NEWCOMERS * CONNECT_MAX,
        connections=connections,
        rate=rate,
        target=stage.target(kind),
        chain_id=CHAIN_ID,
        contract=ADJUDICATOR.hex(),
    )
    attacker = await processes.start(
        f"attack {kind}", ["-m", "tallystick.sdk.bench.attackers", msgspec.json.encode(attack).decode()]
    )
    most = 0.0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, memory_mb(stage.attacked(kind)))
            await trio.sleep(0.2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.sleep(SETTLE)
        paid = await stage.pay(seconds)
        connects = await _newcomers(stage, kind)
        done = await attacker.ask("stop")
        nursery.cancel_scope.cancel()
    await attacker.stop()
    return HostileRow(
        attack=kind,
        p50_ms=paid["p50_ms"],
        p99_ms=paid["p99_ms"],
        rss_mb=max(0.0, most - calm),
        new_peer_connects_s=connects,
        connections=done["connections"],
        messages=done["messages"],
    )


async def _newcomers(stage: _Processes, kind: str) -> float:
    """Connect as somebody new, some times; return the longest that it took."""
    meet = _upload_once if kind == "tower" else _greet_once
    place = PeerAddress.parse(stage.tower_address if kind == "tower" else stage.node_address)
    longest = 0.0
    for _ in range(NEWCOMERS):
        began = trio.current_time()
        with trio.move_on_after(CONNECT_MAX) as patience:
            while True:
                try:
                    await meet(place)
                    break
                except (LinkClosed, PeerError):
                    await trio.sleep(random.uniform(0.05, 0.15))
        longest = max(longest, trio.current_time() - began)
        if patience.cancelled_caught:
            return CONNECT_MAX
    return longest


async def _greet_once(place: PeerAddress) -> None:
    """Connect, greet, and have a ping answered."""
    link = await TcpNetwork(PrivateKey(system_entropy(32)), system_entropy).dial(place)
    try:
        await link.send([encode(Hello(PROTOCOL_VERSION, CHAIN_ID, Address(ADJUDICATOR))), encode(Ping(1))])
        while Pong(1) not in [decode(frame) for frame in await link.receive() if frame[:2] == encode(Pong(1))[:2]]:
            pass
    finally:
        await link.aclose()


async def _upload_once(place: PeerAddress) -> None:
    """Leave an appointment, and get a receipt."""
    link = await TcpNetwork(PrivateKey(system_entropy(32)), system_entropy).dial(place)
    try:
        upload = tower_messages.Upload(tower_messages.VERSION, system_entropy(32), 1, system_entropy(BLOB_SIZE))
        await link.send([tower_messages.encode(upload)])
        answer = tower_messages.decode((await link.receive())[0])
        if not isinstance(answer, tower_messages.TowerReceipt):
            raise LinkClosed("no receipt")
    finally:
        await link.aclose()


def memory_mb(actor: DriverProcess) -> float:
    """Return the memory that a process has now, in MB. Linux only: raise MeasurementVoid elsewhere."""
    try:
        pages = Path(f"/proc/{actor.process.pid}/statm").read_text().split()[1]
    except OSError as error:
        raise MeasurementVoid("memory of other processes is read from /proc, which this system lacks") from error
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6
