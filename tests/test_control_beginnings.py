"""What a user names by its beginning or looks up is found, however much is newer, and whatever the disk does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from typer.testing import CliRunner

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.storage.directory import holder_of, lock_directory
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.objects import NodeKey
from tallystick.router.receiving.issued import InvoiceIssued, KeysendClaimed
from tallystick.router.sending.payments import Order, PaymentOrdered
from tallystick.router.sqlite import INVOICES_SCHEMA, PAYMENTS_SCHEMA
from tallystick.sdk.cli.app import app
from tallystick.sdk.cli.payments import _beginning
from tallystick.sdk.control.lookup import UnknownHash, find_invoice_of, find_payment_of
from tallystick.sdk.errors import ControlError

HELD = "036a1c07" + "ab" * 28
NEWER = 1_500


def node_with_newer_records() -> Any:
    """Return a node with one old invoice and payment of the hash HELD, and very many newer ones."""
    store = SimulatedDisk([INVOICES_SCHEMA, PAYMENTS_SCHEMA]).open()
    target = NodeKey(b"\x02" + bytes(32))

    def order(payment_hash: bytes) -> PaymentOrdered:
        paid = Order(
            payment_hash=payment_hash, target=target, amount=5, max_fee=5, lock_seconds=60, gives_up=9.0, created=1.0
        )
        return PaymentOrdered(paid)

    held = bytes.fromhex(HELD)
    store.commit([InvoiceIssued(held, bytes(32), b"", 777, True, 1, 10**9, "held", "tally1"), order(held)])
    for number in range(NEWER):
        secret = number.to_bytes(32, "big")
        store.commit([KeysendClaimed(digest_of(secret), secret, 5, 7), order(digest_of(secret))])
    return SimpleNamespace(store=store)


def test_a_record_is_found_by_its_beginning_however_many_are_newer() -> None:
    node = node_with_newer_records()
    for name in ("036a", "036a1c07", "036A1C0", "0x036a1c07a", HELD):
        assert find_invoice_of(node, name).payment_hash.hex() == HELD
        assert find_payment_of(node, name).order.payment_hash.hex() == HELD
    for finder in (find_invoice_of, find_payment_of):
        with pytest.raises(UnknownHash):
            finder(node, "036a1c08")
        with pytest.raises(InvalidInput, match="at least 4 hex digits"):
            finder(node, "03")
    two = [digest_of(number.to_bytes(32, "big")).hex() for number in range(NEWER)]
    double = next(one[:4] for one in two if sum(other.startswith(one[:4]) for other in two) > 1)
    with pytest.raises(InvalidInput, match="give more digits"):
        find_invoice_of(node, double)


# --- incoming, when history was pruned ------------------------------------------------------------------------------


class Pruned:
    """A node's client whose older history is gone."""

    def __init__(self, code: str) -> None:
        self._code = code

    async def incoming(self, after: str, **more: object) -> list[Any]:
        raise ControlError("payments were pruned", self._code)


def test_a_list_without_a_cursor_begins_with_what_is_left_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    pruned: Any = Pruned("history-gone")
    assert trio.run(_beginning, pruned, "") == "oldest"
    assert "pruned" in capsys.readouterr().err
    other: Any = Pruned("stopping")
    with pytest.raises(ControlError):
        trio.run(_beginning, other, "")


# --- a tower that cannot write ----------------------------------------------------------------------------------------


def test_who_holds_a_directory_is_told_and_it_is_not_taken(tmp_path: Path) -> None:
    assert holder_of(tmp_path) == holder_of(tmp_path / "nowhere") == ""
    with lock_directory(tmp_path, "tally tower run"):
        assert holder_of(tmp_path).startswith("tally tower run (process ")
        (tmp_path / "lock").unlink()
        assert holder_of(tmp_path) == "another process"
    assert holder_of(tmp_path) == ""
    lock_directory(tmp_path, "the next").close()


def test_a_tower_that_runs_and_cannot_write_its_status_is_not_said_to_be_stopped(tmp_path: Path) -> None:
    ask = ["tower", "status", "--data", str(tmp_path)]
    with lock_directory(tmp_path, "tally tower run"):
        silent = CliRunner().invoke(app, ask)
        assert silent.exit_code == 1 and "its disk is full or failing" in silent.stderr
        assert silent.stderr.startswith("tally: tally tower run (process ")
        (tmp_path / "status.json").write_text("{}")
        assert CliRunner().invoke(app, ask).exit_code == 1
    (tmp_path / "status.json").unlink()
    stopped = CliRunner().invoke(app, ask)
    assert stopped.exit_code == 3 and "no tower is running" in stopped.stderr
