"""Commands beside a node: who numbers an account's transactions, and where its coins are if a deposit lacks some."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from tallystick.channels.errors import StoreInUse
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.sdk.cli.shards import telling_of_shards
from tallystick.sdk.daemon.configuration import Settings, write_settings
from tallystick.sdk.daemon.numbering import hold_numbers
from tallystick.sdk.errors import ConfigurationError, ControlError
from tallystick.sdk.node.sqlite import SCHEMAS as NODE_SCHEMAS
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.sending.moments import ObligationStored
from tallystick.settlement.sending.obligations import Obligation, ObligationStatus
from tallystick.settlement.sending.sqlite import SCHEMA
from tallystick.settlement.simulated.rpc_server import serve_chain
from tallystick.settlement.testing.shards import local_group, local_shard
from tallystick.watchtower.sqlite import SCHEMAS as TOWER_SCHEMAS

ACCOUNT = PrivateKey(keccak(b"alice")).address
CHAIN = 1337


def store_in(directory: Path, *obligations: Obligation) -> None:
    """Leave behind what a node of that directory would."""
    with closing(open_store(directory, [SCHEMA], owner="a node")) as store:
        store.commit([ObligationStored(CHAIN, ACCOUNT, each) for each in obligations])


def test_a_directory_with_a_key_alone_is_nobodys_and_stays_as_it_is(tmp_path: Path) -> None:
    with hold_numbers(tmp_path, ACCOUNT, CHAIN):
        assert list(tmp_path.iterdir()) == []


def test_a_running_node_keeps_commands_off_its_numbers_on_its_own_chain(tmp_path: Path) -> None:
    write_settings(tmp_path, Settings(chain_id=CHAIN, contract="0x" + "22" * 20))
    with closing(open_store(tmp_path, [SCHEMA], owner="tally node run")):
        with (
            pytest.raises(ConfigurationError, match=r"in use by tally node run"),
            hold_numbers(tmp_path, ACCOUNT, CHAIN),
        ):
            pass
        with hold_numbers(tmp_path, ACCOUNT, CHAIN + 1):
            pass
    with hold_numbers(tmp_path, ACCOUNT, CHAIN), pytest.raises(Exception, match=r"in use by a command that sends"):
        open_store(tmp_path, [SCHEMA], owner="tally node run")


def test_what_a_node_has_under_way_keeps_commands_off_its_numbers(tmp_path: Path) -> None:
    call = TransferCall(NATIVE, ACCOUNT, 1)
    sent = Obligation(id="o", call=call, purpose="pay the tower", budget=9, status=ObligationStatus.SENT, nonce=4)
    store_in(tmp_path, sent)
    under_way = pytest.raises(ConfigurationError, match=r"1 transactions under way, the first for: pay the tower")
    with under_way, hold_numbers(tmp_path, ACCOUNT, CHAIN):
        pass
    done = Obligation(id="o", call=call, purpose="pay the tower", budget=9, status=ObligationStatus.DONE, ended=7)
    store_in(tmp_path, done)
    with hold_numbers(tmp_path, ACCOUNT, CHAIN):
        pass


@pytest.mark.parametrize("schemas", [NODE_SCHEMAS, TOWER_SCHEMAS], ids=["node", "tower"])
def test_commands_send_for_a_node_or_a_tower_that_is_stopped(tmp_path: Path, schemas: Sequence[Schema]) -> None:
    """They keep much more than their transactions, which is no reason to refuse."""
    call = TransferCall(NATIVE, ACCOUNT, 1)
    sent = Obligation(id="o", call=call, purpose="challenge", budget=9, status=ObligationStatus.SENT, nonce=4)
    open_store(tmp_path, schemas, owner="a daemon").close()
    with hold_numbers(tmp_path, ACCOUNT, CHAIN), pytest.raises(StoreInUse):
        open_store(tmp_path, schemas, owner="a daemon")
    with closing(open_store(tmp_path, schemas, owner="a daemon")) as store:
        store.commit([ObligationStored(CHAIN, ACCOUNT, sent)])
    under_way = pytest.raises(ConfigurationError, match=r"1 transactions under way, the first for: challenge")
    with under_way, hold_numbers(tmp_path, ACCOUNT, CHAIN):
        pass


async def test_a_deposit_that_lacks_coins_on_a_shard_says_how_some_come_from_another(tmp_path: Path) -> None:
    group = local_group(2)
    shard, asked = local_shard(group, 1), list[str]()

    async def info() -> Any:
        return SimpleNamespace(address=f"0x{ACCOUNT.hex()}")

    async def fails(code: str) -> None:
        asked.append(code)
        raise ControlError("account 0x12 holds 3, not 5", code)

    node: Any = SimpleNamespace(info=info)
    async with trio.open_nursery() as nursery:
        url = trio.Event()
        said: list[str] = []

        def started(text: str) -> None:
            said.append(text)
            url.set()

        nursery.start_soon(lambda: serve_chain(shard, "127.0.0.1", 0, started=started))
        await url.wait()
        settings = Settings(chain_url=said[0], chain_id=group.chain_of(1), contract=f"0x{group.contract.hex()}")
        write_settings(tmp_path, settings)
        with pytest.raises(ControlError, match=r"holds 3, not 5. This is shard 1 of 2") as caught:
            await telling_of_shards(tmp_path, node, lambda: fails("insufficient-funds"))
        assert f"tally chain send 0x{ACCOUNT.hex()} AMOUNT --to-shard 1" in str(caught.value)
        assert f"--arrival {said[0]} --data {tmp_path}" in str(caught.value)
        with pytest.raises(ControlError, match=r"not 5$"):
            await telling_of_shards(tmp_path, node, lambda: fails("peer-error"))
        nursery.cancel_scope.cancel()
    with pytest.raises(ControlError, match=r"not 5$") as plain:
        await telling_of_shards(tmp_path, node, lambda: fails("insufficient-funds"))
    assert plain.value.code == "insufficient-funds" and len(asked) == 3
