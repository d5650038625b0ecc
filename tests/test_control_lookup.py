"""Channels by the beginning of their id: found, unknown, ambiguous; the control files of a data directory."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.storage.directory import lock_directory
from tallystick.sdk.control.files import announce, find_node, wait_ended
from tallystick.sdk.control.lookup import UnknownChannel, find_channel, parse_asset, parse_peer
from tallystick.sdk.errors import NodeUnreachable

KEY = PrivateKey(bytes([1]) * 32).public


def node_with(*ids: str) -> Any:
    return SimpleNamespace(channels=[SimpleNamespace(id=bytes.fromhex(text.ljust(64, "0"))) for text in ids])


def test_an_unambiguous_beginning_names_a_channel_in_any_case_and_with_0x() -> None:
    node = node_with("abcd1", "abcd2", "beef")
    for text in ("abcd1", "ABCD1", "0xabcd1", "abcd1".ljust(64, "0")):
        assert find_channel(node, text).id.hex().startswith("abcd1")


def test_a_beginning_that_names_several_channels_or_none_is_refused() -> None:
    node = node_with("abcd1", "abcd2", "beef")
    with pytest.raises(InvalidInput, match="2 channels begin with abcd"):
        find_channel(node, "abcd")
    with pytest.raises(UnknownChannel):
        find_channel(node, "abce")
    for text in ("", "bee", "0xbee", "beeg", "be ef", "beéf"):
        with pytest.raises(InvalidInput, match="at least 4 hex digits"):
            find_channel(node, text)


def test_a_peer_is_an_address_or_a_key_and_nothing_else() -> None:
    raw = bytes(KEY).hex()
    assert parse_peer(f"{raw}@host:1") == PeerAddress(bytes(KEY), "host", 1)
    assert parse_peer(raw) == PublicKey(bytes(KEY))
    for text in ("bob", raw[:-2], "04" + raw[2:], f"{raw}@host"):
        with pytest.raises(InvalidInput):
            parse_peer(text)
    for text in ("0x12", "gold", "0x" + "zz" * 20):
        with pytest.raises(InvalidInput, match="40 hex digits"):
            parse_asset(text)


def test_the_control_files_are_the_users_own_and_gone_after_a_clean_stop(tmp_path: Path) -> None:
    with pytest.raises(NodeUnreachable, match="tally node run"):
        find_node(tmp_path)
    (tmp_path / "control.token").write_text("left over from a crash")
    (tmp_path / "control.token").chmod(0o644)
    with announce(tmp_path, "http://127.0.0.1:1", "secret"):
        assert find_node(tmp_path) == ("http://127.0.0.1:1", "secret")
        assert stat.S_IMODE((tmp_path / "control.token").stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


async def test_waiting_for_the_end_lasts_as_long_as_the_directory_is_held(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    holder = lock_directory(tmp_path, "a node")
    with trio.move_on_after(1) as scope:
        await wait_ended(tmp_path)
    assert scope.cancelled_caught
    holder.close()
    with trio.fail_after(1):
        await wait_ended(tmp_path)
