"""Shards as processes: coins cross, killed processes come back and go on, and no coin is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from simulation.processes import TALLY, Running, run, started
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.sdk.daemon.keystore import create
from tallystick.sdk.daemon.shard_files import prepare_group, read_group, read_shard_key
from tallystick.sdk.errors import ConfigurationError
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.shards.outbox import Sending, sign_sending
from tallystick.settlement.shards.rpc_shard import RpcShard, open_rpc_shard

BOB = Address(b"\x0b" * 20)
COINS = 10**9
PASSWORD = {"TALLY_PASSWORD": "a password"}


def entropy(size: int) -> bytes:
    return os.urandom(size)


@asynccontextmanager
async def group(data: Path, account: Address) -> AsyncIterator[tuple[Running, dict[int, dict[str, object]]]]:
    """Two shards on free ports, once they carry for each other; with what each said of itself."""
    options = ("--shards", "2", "--final", "1", "--port", "0", "--interval", "0.05", "--json")
    command = (*TALLY, "chain", "run", "--data", str(data), *options, "--mint", f"0x{account.hex()}={COINS}")
    async with started(command) as server:
        said: dict[int, dict[str, object]] = {}
        while (line := await server.json())["event"] != "ready":
            said[line["shard"]] = line
        yield server, said


@asynccontextmanager
async def shard_at(said: dict[str, object]) -> AsyncIterator[RpcShard]:
    async with open_rpc_shard(str(said["url"]), jitter=lambda: 0.5) as shard:
        yield shard


async def wait_paid(said: dict[str, object], source: int, number: int) -> None:
    state = "pending"
    while state == "pending":
        try:
            async with shard_at(said) as shard:
                while (state := await shard.received(source, number)) == "pending":
                    await shard.wait(await shard.head())
        except ChainUnavailable:
            await trio.lowlevel.checkpoint()
    assert state == "paid"


async def sent_from(shard: RpcShard, key: PrivateKey) -> tuple[int, int] | None:
    """Send coins to Bob on shard 1, without the command; return where they went, and their receipt's number."""
    chain = shard.chain
    raw = sign_sending(key, chain.chain_id, Sending(1, NATIVE, BOB, 1_000), await chain.nonce(key.address), 1)
    transaction = await chain.submit(raw)
    while (found := await shard.sent(transaction)) is None:
        await shard.wait(await shard.head())
    return found


def is_gone(pid: object) -> bool:
    assert isinstance(pid, int)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.processes
async def test_coins_cross_between_processes_that_are_killed(tmp_path: Path) -> None:
    key = create(tmp_path / "alice", PASSWORD["TALLY_PASSWORD"], light=True)

    async def send(said: dict[int, dict[str, object]], *options: str) -> dict[str, object]:
        common = ("--data", str(tmp_path / "alice"), "--chain", str(said[0]["url"]), "--json", "--to-shard", "1")
        code, out, error = await run((*TALLY, "chain", "send", f"0x{BOB.hex()}", "1000", *common, *options), PASSWORD)
        assert code == 0, error
        found: dict[str, object] = json.loads(out)
        return found

    with trio.fail_after(120):
        async with group(tmp_path / "shards", key.address) as (server, said):
            sent = await send(said, "--arrival", str(said[1]["url"]))
            assert (sent["to_shard"], sent["receipt"], sent["arrival"]) == (1, 0, "paid")
            os.kill(int(str(said[1]["pid"])), signal.SIGKILL)
            async with shard_at(said[0]) as zero:  # the other shard does not care
                assert await sent_from(zero, key) == (1, 1)
            again = json.loads(await server.line_with('"listening"'))
            assert again["url"] == said[1]["url"] and again["pid"] != said[1]["pid"]
            await wait_paid(said[1], 0, 1)
            await server.kill()  # and with it, its shards stop by themselves
            while not all(is_gone(pid) for pid in (said[0]["pid"], again["pid"])):
                await trio.to_thread.run_sync(os.sched_yield)
        shutil.copytree(tmp_path / "shards" / "shard-0", tmp_path / "old")
        async with group(tmp_path / "shards", key.address) as (server, said):
            async with shard_at(said[0]) as zero, shard_at(said[1]) as one:
                assert await sent_from(zero, key) == (1, 2)
                await wait_paid(said[1], 0, 2)
                assert await one.chain.balance(BOB, NATIVE) == 3_000
                assert (await zero.status()).standing(1).sent == (await one.status()).standing(0).executed == 3
                held = await zero.chain.balance(key.address, NATIVE)
                assert COINS - held - 3_000 == 3 * int(str(sent["fee"]))
                with pytest.raises(ChainError, match="no other shard 5"):
                    await one.received(5, 0)
            assert await server.terminate() == 0
        shutil.rmtree(tmp_path / "shards" / "shard-0")
        shutil.move(tmp_path / "old", tmp_path / "shards" / "shard-0")
        options = ("--shards", "2", "--final", "1", "--port", "0", "--interval", "0.05", "--json")
        code, out, error = await run((*TALLY, "chain", "run", "--data", str(tmp_path / "shards"), *options))
        assert code == 1 and '"ready"' not in out, out
        assert "the data of shard 0 are an old copy: it has sent 2 receipts to shard 1" in error


def test_a_group_on_disk_stays_what_it_is(tmp_path: Path) -> None:
    made = prepare_group(tmp_path, 3, 500, 4, entropy)
    assert read_group(tmp_path) == made == prepare_group(tmp_path, 3, 500, 4, entropy)
    assert read_shard_key(tmp_path, 2).public == made.public_keys[2]
    assert (tmp_path / "shard-1" / "key").stat().st_mode & 0o777 == 0o600
    for other in ((2, 500, 4), (3, 501, 4), (3, 500, 5)):
        with pytest.raises(ConfigurationError, match="that cannot be changed"):
            prepare_group(tmp_path, *other, entropy)
    (tmp_path / "shards.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="does not say which shards"):
        read_group(tmp_path)
    (tmp_path / "shard-1" / "key").write_text("none")
    with pytest.raises(ConfigurationError, match="does not hold a key"):
        read_shard_key(tmp_path, 1)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_shard_key(tmp_path, 9)


def test_a_start_that_was_cut_short_keeps_its_keys(tmp_path: Path) -> None:
    made = prepare_group(tmp_path, 2, 500, 4, entropy)
    (tmp_path / "shards.json").unlink()
    assert prepare_group(tmp_path, 2, 500, 4, entropy) == made
