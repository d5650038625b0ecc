"""Obligations as 0.1.0 wrote them: what their ids and their receipts' texts said then is typed now."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.sdk.node.running import SCHEMAS
from tallystick.settlement.chain import Header
from tallystick.settlement.enforcement.duties import is_moot, judge
from tallystick.settlement.errors import Revert, read_revert
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_receipt, to_hex
from tallystick.settlement.sending.moments import ObligationStored, read_book, read_obligation
from tallystick.settlement.sending.obligations import Duty, Obligation, ObligationBook, ObligationStatus, Observation
from tallystick.settlement.sending.policy import SendingPolicy
from tallystick.settlement.sending.rounds import decide

VECTORS = Path(__file__).parent / "vectors"
ROWS = json.loads((VECTORS / "obligations-v1.json").read_text())
ACCOUNT = Address(b"a" * 20)
CHAIN = 1337
PAST = "window-closed-on-mars: a code of a later contract"


def old_book(directory: Path) -> tuple[ObligationBook, Obligation]:
    """Read a directory of 0.1.0 that holds these rows; return the book, and the row of it that was written anew."""
    directory.mkdir()
    with closing(sqlite3.connect(directory / "tally.db")) as database:
        database.executescript(gzip.decompress((VECTORS / "data-0.1.0-alice.sql.gz").read_bytes()).decode())
        for row in ROWS:
            values = (CHAIN, ACCOUNT, row["id"], 0, -1, bytes.fromhex(row["data"]))
            database.execute("INSERT INTO obligations VALUES (?, ?, ?, ?, ?, ?)", values)
        database.commit()
    store = open_store(directory, SCHEMAS, owner="test", durable=False)
    book = read_book(store, CHAIN, ACCOUNT)
    for obligation in book.obligations.values():
        assert read_obligation(store, CHAIN, ACCOUNT, obligation.id) == obligation
        store.commit([ObligationStored(CHAIN, ACCOUNT, obligation)])
        assert read_obligation(store, CHAIN, ACCOUNT, obligation.id) == obligation
    assert read_book(store, CHAIN, ACCOUNT) == book
    store.close()
    return book, book.obligations[ROWS[2]["id"]]


def test_rows_of_the_first_version_say_what_they_are(tmp_path: Path) -> None:
    book, _ = old_book(tmp_path / "alice")
    found = [(o.duty, o.attempt, o.name, o.receipt.revert if o.receipt else None) for o in book.obligations.values()]
    assert found == [
        (Duty.SETTLE, 2, "settle:6363636363636363:1750058600", None),
        (Duty.USE_NONCE, 0, "filler:7:6868686868686868", None),
        (Duty.REGISTER_SECRET, 0, "register-secret:6363636363636363:4", Revert.ALREADY_REGISTERED),
        (None, 0, "deposit:8f82e06c42c787a7", None),
    ]
    deposit = list(book.obligations.values())[-1]
    assert deposit.receipt is not None and deposit.receipt.why == deposit.receipt.reason == deposit.reason == PAST


def test_a_receipt_that_was_stored_then_is_the_one_that_the_chain_shows_now(tmp_path: Path) -> None:
    """Else its failure would have to be seen once more: two looks that say the same are needed."""
    book, claim = old_book(tmp_path / "alice")
    assert claim.receipt is not None
    text = "already-registered: this secret is public since block time 5; nothing is to do"
    shown = {"transactionHash": to_hex(b"t" * 32), "gasUsed": quantity(48_000), "effectiveGasPrice": "0x1"}
    receipt = read_receipt({**shown, "status": "0x0", "tallyReason": text}, claim.receipt.block)
    assert receipt == claim.receipt and receipt.why == text
    head = Header(claim.receipt.block.number + 2, b"n" * 32, b"m" * 32, claim.receipt.block.time + 24)
    seen = Observation(head, head.time - 24, 9, 1, {receipt.transaction: receipt})
    after = decide(book, seen, account=ACCOUNT, gas=lambda call: 48_000, policy=SendingPolicy(), judge=judge)
    ended = next(o for o in after.changed if o.id == claim.id)
    assert (ended.status, ended.reason) == (ObligationStatus.SUPERSEDED, text)


@pytest.mark.parametrize("code", list(Revert))
def test_a_code_and_its_sentence_are_read_back(code: Revert) -> None:
    assert read_revert(f"{code}: two: parts") == (code, "two: parts")
    assert read_revert(code.value) == (code, "")


@pytest.mark.parametrize("text", ["", "nonsense", "expiredly: no", " expired: no", "EXPIRED: no", PAST])
def test_a_text_without_a_code_that_we_know_is_a_sentence(text: str) -> None:
    assert read_revert(text) == (None, text)


def test_further_attempts_have_names_of_their_own_and_go_back_to_one() -> None:
    first = msgspec.structs.replace(
        msgspec.msgpack.decode(bytes.fromhex(ROWS[0]["data"]), type=Obligation), id="settle:x"
    )
    third = first.again(3, 5)
    assert (third.id, third.name, third.budget, third.again(0, 7).id) == ("settle:x/3", "settle:x", 5, "settle:x")


def test_only_a_duty_that_waits_and_is_not_due_is_moot(tmp_path: Path) -> None:
    book, _ = old_book(tmp_path / "alice")
    settle, filler, claim, deposit = book.obligations.values()
    assert is_moot(settle, set()) and not is_moot(settle, {"settle:6363636363636363:1750058600"})
    assert is_moot(settle, {settle.id}), "what is due has no number of an attempt"
    waiting = msgspec.structs.replace(deposit, status=ObligationStatus.WAITING)
    assert not any(is_moot(one, set()) for one in (filler, claim, deposit, waiting))
