"""How results look to people: every figure whole, every key in one piece, whatever the terminal's width."""

from __future__ import annotations

import msgspec
import pytest

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.sdk.cli import tables
from tallystick.sdk.control.kinds import NATIVE_ASSET
from tallystick.sdk.control.network_views import (
    ForwardInfo,
    HopInfo,
    InvoiceInfo,
    PartInfo,
    PaymentInfo,
    PolicyInfo,
    RouteInfo,
)
from tallystick.sdk.control.views import Awaited, ChannelInfo, IncomingInfo, NodeInfo, PeerInfo
from tallystick.sdk.control.waiting import _lacking
from tallystick.sdk.node.recovering import ChannelBack, Recovery

KEY, OTHER = "02" + "ab" * 32, "0x" + "cd" * 20
LARGE = 340_282_366_920_938_463_463_374_607_431_768_211_455
CHANNEL = ChannelInfo(
    id="3f9a" * 16,
    peer=KEY,
    peer_address=OTHER,
    asset=NATIVE_ASSET,
    phase="open",
    connected=True,
    balance=LARGE,
    peer_balance=2,
    spendable=3,
    reserve=4,
    deposits=(LARGE, 6),
    withdrawn=(7, 8),
    payments_sent=9,
    payments_received=10,
    challenge_period=11,
)


@pytest.fixture(autouse=True)
def a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "dumb")


def test_keys_and_ids_are_printed_in_one_piece(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_channel(CHANNEL)
    tables.show_peers([PeerInfo(KEY, OTHER, f"{KEY}@[::1]:7735", True, 1), PeerInfo(KEY, OTHER, None, False, 0)])
    tables.show_node(
        NodeInfo(
            OTHER,
            KEY,
            f"{KEY}@127.0.0.1:1",
            5,
            OTHER,
            6,
            7,
            8,
            9,
            (Alarm(AlarmKind.DISK, "a fault of [bold]x[/bold]"),),
        )
    )
    words = capsys.readouterr().out.split()
    for whole in (CHANNEL.id, KEY, OTHER, str(LARGE), f"{KEY}@[::1]:7735", f"{KEY}@127.0.0.1:1", "[bold]x[/bold]"):
        assert whole in words


def test_a_node_that_waits_for_its_chain_tells_no_block(capsys: pytest.CaptureFixture[str]) -> None:
    waits = NodeInfo(OTHER, KEY, None, 5, OTHER, -1, 0, 0, 0, (), waiting_for="its chain node")
    tables.show_node(waits)
    assert "no block seen yet" in " ".join(capsys.readouterr().out.split())


def test_no_amount_is_cut_off_in_the_table_of_channels(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_channels([CHANNEL])
    out = capsys.readouterr().out
    assert "…" not in out and "3f9a3f9a" in out
    assert str(LARGE) in out.split(), "an amount stands in one piece, however narrow the terminal is"


def test_a_memo_that_is_no_text_is_shown_as_hex_and_control_characters_never_reach_the_terminal() -> None:
    text = IncomingInfo("3f9a" * 16, 0, 5, "a\x1b[2J", "611b5b324a", 0.0, "1.1")
    raw = IncomingInfo("3f9a" * 16, 0, 5, None, "ff00", 0.0, "1.1")
    assert "\x1b" not in tables.incoming_line(text)
    assert "0xff00" in tables.incoming_line(raw)


def test_statistics_of_several_parts_are_all_shown(capsys: pytest.CaptureFixture[str]) -> None:
    off = {"receipts": 0, "unsecured": 0, "deferred": 0, "since": 0.0, "exposed": {}}
    tables.show_towers([], off)
    tower = {"tower": KEY, "connected": False, "last_fault": "no route", "dirty": 2, "exposed": LARGE}
    tables.show_towers([{**tower, "channels": 3, "uploads": 4, "refused": 5}], off)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("no tower guards this node", KEY, "no route", str(LARGE)))
    tables.show_statistics({"engine": {"in_flight": 5}, "towers": [{"receipts": 6}, {"receipts": 7}]})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in (["engine", "in", "flight", "5"], ["towers", "receipts", "6"], ["towers", "receipts", "7"]):
        assert row in rows


def test_what_waits_for_receipts_of_towers_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    tower = {"tower": KEY, "connected": True, "last_fault": "", "dirty": 0, "exposed": 0}
    towers = [{**tower, "channels": 3, "uploads": 4, "refused": 5}]
    off = {"receipts": 0, "unsecured": 0, "deferred": 0, "since": 0.0, "exposed": {}}
    tables.show_towers(towers, off)
    assert "what peers pay waits for no tower" in " ".join(capsys.readouterr().out.split())
    on = {"receipts": 2, "unsecured": LARGE, "deferred": 7, "since": 5.0, "exposed": {"0x" + 20 * "ab": 9}}
    tables.show_towers(towers, on)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"waits for receipts of 2 towers, beyond {LARGE} of an asset" in shown
    assert "waiting now in 7 channels" in shown and f"unsecured 9 of 0x{20 * 'ab'}" in shown


def test_what_was_brought_back_from_towers_is_shown_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    back = ChannelBack("3f9a" * 16, KEY, 7, 9, 5, LARGE, 6, restored=True, phase="recovering", locks_missing=True)
    kept = msgspec.structs.replace(back, channel="ab" * 32, restored=False, phase="closed", locks_missing=False)
    tables.show_recovery(Recovery(2, 1, (back, kept), ("no route",)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 towers answered, and told of 2 channels" in shown
    row = f"3f9a3f9a {KEY[:8]} brought back some unknown 7 9 5 {LARGE} 6"
    assert row in shown and "as new here, or closed all" in shown and "Start the node now" in shown
    tables.show_recovery(Recovery(1, 1, (kept,), ()))
    assert "Start the node now" not in capsys.readouterr().out


HOSTILE = "[bold]tea[/bold] \x1b[2J"
INVOICE = InvoiceInfo("ab" * 32, "claimed", LARGE, LARGE, HOSTILE, "tally1" + 80 * "q", 1, 2, 3, False, "cd" * 32, 1, 1)
ROUTE = RouteInfo(5, 1, (HopInfo("3f9a" * 16, KEY, 5),))
PAYMENT = PaymentInfo(
    *("ab" * 32, "paid", "invoice", KEY, LARGE, 5, 6, HOSTILE, "tally1", "cd" * 32, None, "", 1.0, 2.0, 7),
    parts=(PartInfo("paid", ROUTE),),
)


def test_invoices_and_payments_are_printed_whole_and_memos_never_command_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tables.show_invoice(INVOICE)
    tables.show_payment(PAYMENT)
    out = capsys.readouterr().out
    for whole in (INVOICE.payment_hash, INVOICE.invoice, "cd" * 32, KEY, str(LARGE)):
        assert whole in out.split()
    assert "\x1b" not in tables.paid_line(INVOICE) and str(LARGE) in tables.paid_line(INVOICE)
    tables.show_invoices([INVOICE])
    tables.show_payments([PAYMENT])
    tabled = capsys.readouterr().out
    assert "\x1b" not in out + tabled and "[bold]tea[/bold] \\x1b[2J" in out
    assert "[bold" in tabled and "…" not in tabled


def test_forwards_are_added_up_and_times_that_no_calendar_has_are_shown_as_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    tables.show_forwards([ForwardInfo(1, "3f9a" * 16, "77c2" * 16, 6, 5, 1, "paid", 0, 10**15)])
    out = capsys.readouterr().out
    assert str(10**15) in out.split() and "1 of 1 were paid, and earned 1." in out


def test_a_policy_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_policy(PolicyInfo("3f9a" * 16, 2, 500, 1, 0, 0, False))
    out = capsys.readouterr().out
    for said in ("2 for each payment", "500 per million", "as much as there is", "for own payments only"):
        assert said in out


@pytest.mark.parametrize(
    ("awaited", "uncounted", "said"),
    [
        (Awaited(3, 12, 500), 0, "3 of 12 confirmations, as 500 could be lost to a reorganisation"),
        (Awaited(40, None, 500), 0, "40 confirmations, until the chain calls it final"),
        (None, 7, "its peer does not count 7 of ours yet"),
        (None, 0, ""),
    ],
)
def test_a_channel_says_which_confirmations_it_waits_for(
    capsys: pytest.CaptureFixture[str], awaited: Awaited | None, uncounted: int, said: str
) -> None:
    channel = msgspec.structs.replace(CHANNEL, phase="opening", awaited=awaited, uncounted=uncounted)
    assert said in tables.depth_line(channel) and bool(tables.depth_line(channel)) == bool(said)
    tables.show_channel(channel)
    assert ("It waits:" in capsys.readouterr().out) == bool(said)
    tables.show_channels([channel])
    shown = " ".join(capsys.readouterr().out.split())
    assert ("confirmations" in shown) == (awaited is not None)
    lacking = _lacking(channel, 0, 0)
    assert lacking.startswith("is opening") and ("confirmations of" in lacking) == (awaited is not None)
