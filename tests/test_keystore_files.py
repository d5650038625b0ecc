"""The keystore: what is written can be opened with its password and with nothing else, and is never overwritten."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from tallystick.channels.testing.clock import seeded_entropy
from tallystick.sdk.errors import ConfigurationError
from tallystick.sdk.keystore import KEYSTORE, LIGHT_WORK, STANDARD_WORK, create, load_key

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def no_password_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLY_PASSWORD", raising=False)


def test_a_created_key_is_opened_again_by_its_password_from_any_of_the_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = create(tmp_path, PASSWORD, light=True)
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    assert load_key(tmp_path, PASSWORD, None).address == key.address
    assert load_key(tmp_path, None, file).address == key.address
    assert load_key(tmp_path, None, None, ask=lambda: PASSWORD).address == key.address
    monkeypatch.setenv("TALLY_PASSWORD", PASSWORD)
    assert load_key(tmp_path).address == key.address


def test_the_keystore_is_its_users_own_names_the_address_and_not_the_secret(tmp_path: Path) -> None:
    key = create(tmp_path, PASSWORD, light=True, entropy=seeded_entropy("k"))
    path = tmp_path / KEYSTORE
    sealed = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sealed["version"] == 3 and sealed["crypto"]["kdf"] == "scrypt"
    assert bytes.fromhex(sealed["address"]) == key.address
    assert key.reveal().hex() not in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == [KEYSTORE]


def test_light_means_less_work_and_standard_is_what_wallets_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "light", PASSWORD, light=True)
    create(tmp_path / "standard", PASSWORD)
    work = [
        json.loads((tmp_path / n / KEYSTORE).read_text())["crypto"]["kdfparams"]["n"] for n in ("light", "standard")
    ]
    assert work == [LIGHT_WORK, STANDARD_WORK] == [4_096, 262_144]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    create(tmp_path, PASSWORD, light=True)
    before = (tmp_path / KEYSTORE).read_bytes()
    with pytest.raises(ConfigurationError, match="not overwritten"):
        create(tmp_path, PASSWORD, light=True)
    assert (tmp_path / KEYSTORE).read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [KEYSTORE]


def test_a_wrong_password_is_said_to_be_wrong_and_is_not_shown(tmp_path: Path) -> None:
    create(tmp_path, PASSWORD, light=True)
    with pytest.raises(ConfigurationError, match="does not open") as caught:
        load_key(tmp_path, "battery staple", None)
    assert "battery" not in str(caught.value) and caught.value.__cause__ is None


def test_an_empty_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        create(tmp_path, "", light=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"crypto": {}}', "\x00", '{"version": 9, "crypto": {"kdf": "x"}}']
)
def test_a_damaged_keystore_is_called_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / KEYSTORE).write_text(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        load_key(tmp_path, PASSWORD, None)


def test_without_a_key_or_a_password_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tally init"):
        load_key(tmp_path, PASSWORD, None)
    create(tmp_path, PASSWORD, light=True)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_key(tmp_path, None, tmp_path / "no such file")


def test_without_a_terminal_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    create(tmp_path, PASSWORD, light=True)
    with pytest.raises(ConfigurationError, match="TALLY_PASSWORD"):
        load_key(tmp_path)


def test_a_directory_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be stored"):
        create(tmp_path / "file" / "below", PASSWORD, light=True)
