"""One shard of `tally bench shards`: a process on one core that executes blocks of signed transfers onto its disk.

    python -m tallystick.sdk.bench.shard_worker OPTIONS     (JSON: `ShardWorkerOptions`)

It takes transactions at its node's door (each signature is recovered, each nonce and balance looked at), mines them in
blocks, and commits each block. What a client's request over HTTP would cost is left out. Spoken to as a `driver` is.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import trio

from tallystick.channels.ports import system_clock
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.sdk.bench.driver import obey, stay_on
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.shards.outbox import Sending, sign_sending
from tallystick.settlement.shards.receipts import Parcel
from tallystick.settlement.simulated.branch import ADJUDICATOR, ChainSettings
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.ledger import Mint
from tallystick.settlement.simulated.shard import Shard
from tallystick.settlement.simulated.sqlite import SCHEMA
from tallystick.settlement.testing.shards import local_group, shard_key

ACCOUNTS = 1_000
COINS = 10**15
PRICE = 1


class ShardWorkerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the process is told on its command line."""

    number: int
    cpu: int
    directory: str
    block: int
    """Transactions of one block."""
    blocks: int


class ShardWorker:
    """The commands: what a measurement asks of a shard."""

    def __init__(self, options: ShardWorkerOptions) -> None:
        self._options = options
        self._group = local_group(2)
        self._keys = [PrivateKey(keccak(b"bench account %d" % number)) for number in range(ACCOUNTS)]
        self._signed: dict[int, list[list[bytes]]] = {}
        self._chain: SimulatedChain | None = None
        self._runs = 0
        self._left: list[list[bytes]] = []
        self._told = 0
        """The receipts before this number were told."""

    async def do_sign(self, command: dict[str, Any]) -> dict[str, Any]:
        """Sign all transactions of a run, of which so many percent go to the other shard."""
        percent, number = command["percent"], self._options.number
        chain, other = self._group.chain_of(number), 1 - number
        blocks = []
        for block in range(self._options.blocks):
            raws = []
            for index in range(self._options.block):
                at = block * self._options.block + index
                key, to = self._keys[at % ACCOUNTS], self._keys[(at * 7 + 1) % ACCOUNTS].address
                nonce = at // ACCOUNTS
                if index % 100 < percent:
                    raws.append(sign_sending(key, chain, Sending(other, NATIVE, to, 3), nonce, PRICE))
                else:
                    raws.append(sign_call(key, chain, ADJUDICATOR, TransferCall(NATIVE, to, 3), nonce, PRICE))
            blocks.append(raws)
        self._signed[percent] = blocks
        return {}

    async def do_begin(self, command: dict[str, Any]) -> dict[str, Any]:
        """Begin a new ledger, for a run of that percentage."""
        self._runs += 1
        folder = Path(self._options.directory) / f"{self._options.number}-{self._runs}"
        shard = Shard(self._group, self._options.number, shard_key(self._options.number))
        settings = ChainSettings(
            chain_id=self._group.chain_of(self._options.number), gas_limit=10**12, pool=2 * self._options.block
        )
        genesis = [Mint(key.address, NATIVE, COINS) for key in self._keys]
        store = open_store(folder, [SCHEMA], owner="tally bench shards")
        self._chain = SimulatedChain(settings, system_clock, genesis=genesis, store=store, shard=shard)
        self._left, self._told = list(self._signed[command["percent"]]), 0
        return {}

    async def do_step(self, command: dict[str, Any]) -> dict[str, Any]:
        """Take parcels, execute the next blocks of transactions (none left: an empty one); tell what leaves."""
        chain, began = self._ledger(), time.process_time()
        for parcel in command["parcels"]:
            chain.offer(bytes.fromhex(parcel))
        for _ in range(command["blocks"]):
            for raw in self._left.pop(0) if self._left else ():
                await chain.submit(raw)
            chain.mine()
        [other] = chain.others()
        parcels = chain.parcels(other.number, self._told)
        for parcel in parcels:
            self._told = msgspec.msgpack.decode(parcel, type=Parcel).page.end
        return {
            "cpu": time.process_time() - began,
            "parcels": [parcel.hex() for parcel in parcels],
            "executed": other.executed,
        }

    async def do_count(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell what was done, once the books balance."""
        chain = self._ledger()
        chain.check_conservation()
        [other] = chain.others()
        done = [chain.record(number) for number in range(chain.newest.header.number + 1)]
        entries = [entry for record in done if record for entry in record.entries]
        return {
            "done": sum(entry.execution.success for entry in entries),
            "sent": other.sent,
            "executed": other.executed,
        }

    def _ledger(self) -> SimulatedChain:
        assert self._chain is not None
        return self._chain


async def _run(options: ShardWorkerOptions) -> None:
    stay_on(options.cpu)
    await obey({"shard": options.number}, ShardWorker(options))


if __name__ == "__main__":
    trio.run(_run, msgspec.json.decode(sys.argv[1], type=ShardWorkerOptions))
