"""config.toml: what init writes is read back, and what a hand breaks is refused with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address
from tallystick.router.network.routing import AssetOptions
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.daemon.configuration import (
    CONFIG,
    AssetSettings,
    Settings,
    data_directory,
    parse_place,
    read_settings,
    write_settings,
)
from tallystick.sdk.daemon.daemon import node_config
from tallystick.sdk.errors import ConfigurationError

TOWER = bytes(PrivateKey(bytes([1]) * 32).public).hex() + "@[::1]:7736"
TOKEN, OTHER = "0x" + 20 * "7A", "0x" + 20 * "71"
SETTINGS = Settings(
    chain_url='http://h/"\\\n',
    chain_id=5,
    contract="0x" + "12" * 20,
    listen="[::1]:0",
    confirmations=2,
    challenge_period=700,
    towers=(TOWER,),
    tower_receipts=1,
    tower_unsecured=10**30,
    base_fee=7,
    fee_ppm=250,
    announce=False,
    alias='a "hub"',
    keysend=False,
    assets={TOKEN: AssetSettings(base_fee=2, minimum=3, part_min=4, fee_units=5), OTHER: AssetSettings(fee_ppm=0)},
)


def test_what_is_written_is_read_back_and_reaches_the_node(tmp_path: Path) -> None:
    write_settings(tmp_path, SETTINGS)
    assert read_settings(tmp_path) == SETTINGS
    config = node_config(SETTINGS)
    assert (config.listen, config.confirmations, config.challenge_period) == (("::1", 0), 2, 700)
    assert [str(tower) for tower in config.towers] == [TOWER]
    assert (config.custody.receipts, config.custody.unsecured) == (1, 10**30)
    assert (config.routing.policy.base_fee, config.routing.policy.fee_ppm) == (7, 250)
    token, other = (Address(bytes.fromhex(text[2:])) for text in (TOKEN, OTHER))
    assert config.routing.policy_in(token) == ForwardingPolicy(base_fee=2, fee_ppm=250, minimum=3)
    assert config.routing.policy_in(other) == ForwardingPolicy()
    assert config.payments.assets == {token: AssetOptions(part_min=4, fee_units=5), other: AssetOptions()}
    assert (config.payments.announce, config.payments.alias, config.payments.keysend) == (False, 'a "hub"', False)


def test_every_setting_has_a_comment_and_nothing_is_overwritten(tmp_path: Path) -> None:
    text = write_settings(tmp_path, SETTINGS).read_text()
    blocks = text.split("\n\n")[1:]
    assert all(block.startswith(("# ", "[assets.")) for block in blocks)
    assert all(f"{name} = " in text or f"[{name}." in text for name in SETTINGS.__struct_fields__)
    assert all(name in text.partition("# Other assets")[2] for name in AssetSettings.__struct_fields__)
    with pytest.raises(ConfigurationError, match="not overwritten"):
        write_settings(tmp_path, SETTINGS)


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("lisen = ''", "lisen"),
        ("confirmations = '3'", "confirmations"),
        ("confirmations = 0", "confirmations must be at least 1"),
        ("challenge_period = -1", "challenge_period must be at least 1"),
        ("listen = 'here'", "<host>:<port>"),
        ("listen = 'here:65536'", "<host>:<port>"),
        ("contract = '0x12'", "contract is written 0x and 40 hex digits"),
        (f"contract = '0x{20 * 'Ab'}'", "is mistyped"),
        ("towers = ['bob']", "towers: "),
        ("towers = 'bob'", "towers"),
        ("tower_receipts = 1", "tower_receipts must be from 0 to the number of towers, 0"),
        ("tower_unsecured = -1", "tower_unsecured must be from 0"),
        ("base_fee = -1", "base_fee = -1.*below 2"),
        ("fee_ppm = 4294967296", "fee_ppm = 4294967296.*below 2"),
        ('chain_url = "localhost:8545"', "begins with http"),
        (f"alias = '{33 * 'x'}'", "alias must be printable"),
        ("keysend = 1", "keysend"),
        ("[assets.0x12]", "an asset is written 0x and 40 hex digits"),
        (f"[assets.0x{'00' * 20}]", "the chain's own coin"),
        (f"[assets.0x{'12' * 20}]\nminimun = 3", "minimun"),
        (f"[assets.0x{'12' * 20}]\nfee_units = -1", "fee_units of asset"),
        (f"[assets.0x{'12' * 20}]\nminimum = -3", "of asset 0x12.*amounts of a policy"),
        ("confirmations", "not right"),
    ],
)
def test_a_slip_of_the_pen_is_refused_by_name(tmp_path: Path, line: str, complaint: str) -> None:
    needed = ("chain_id = 5", f"contract = '0x{'12' * 20}'")
    kept = [text for text in needed if text.split()[0] != line.split(maxsplit=1)[0]]
    (tmp_path / CONFIG).write_text("\n".join([*kept, line]))
    with pytest.raises(ConfigurationError, match=complaint):
        read_settings(tmp_path)


def test_an_empty_listen_only_dials() -> None:
    assert parse_place("") is None


def test_the_data_directory_is_the_option_then_the_variable_then_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("TALLY_DATA", raising=False)
    assert data_directory(None) == Path("/home/somebody/.tallystick")
    monkeypatch.setenv("TALLY_DATA", str(tmp_path))
    assert data_directory(None) == tmp_path
    assert data_directory(Path("here")) == Path("here")
