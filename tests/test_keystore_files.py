"""The keystore: what is written can be opened with its password and with nothing else, and is never overwritten."""

from __future__ import annotations

import io
import json
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.testing.clock import seeded_entropy
from tallystick.sdk.daemon.keystore import (
    KEYSTORE,
    LIGHT_WORK,
    STANDARD_WORK,
    UnknownKeystore,
    create,
    load_key,
    normalised,
)
from tallystick.sdk.errors import ConfigurationError

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def no_password_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLY_PASSWORD", raising=False)


@pytest.mark.parametrize("password", [PASSWORD, "Schlüssel", "Schlu\u0308ssel", "密码\t\u200b"], ids=ascii)
def test_a_created_key_is_opened_again_by_its_password_from_any_of_the_places(
    password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever script it is in: it counts as it was typed, to the last character, and has one form when it is read."""
    key = create(tmp_path, password, light=True)
    file = tmp_path / "password"
    file.write_text(password + "\n", "utf-8")
    assert load_key(tmp_path, password, None).address == key.address
    assert load_key(tmp_path, None, file).address == key.address
    assert load_key(tmp_path, None, None, ask=lambda: password).address == key.address
    monkeypatch.setenv("TALLY_PASSWORD", password)
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


def altered(directory: Path, kdf: str = "", **changes: object) -> None:
    """Change what a light keystore asks for."""
    path = directory / KEYSTORE
    sealed = json.loads(path.read_text())
    crypto = sealed["crypto"]
    if kdf:
        crypto["kdf"] = kdf
    for name, value in changes.items():
        place = next(
            (table for table in (crypto, crypto["cipherparams"], sealed) if name in table), crypto["kdfparams"]
        )
        place[name] = value
    path.write_text(json.dumps(sealed))


FOREIGN: dict[str, dict[str, Any]] = {
    "r of 0": {"r": 0},
    "n of 0": {"n": 0},
    "n no power of two": {"n": 4_097},
    "n a fraction": {"n": 4_096.5},
    "n true": {"n": True},
    "n text": {"n": "4096"},
    "n of ages": {"n": 2**40},
    "n beyond all bounds": {"n": 10**400},
    "gigabytes of memory": {"n": 2**21},
    "r of ages": {"r": 2**22},
    "p of ages": {"p": 2**30},
    "another prf": {"kdf": "pbkdf2", "prf": "hmac-sha512", "c": 1_000},
    "no prf": {"kdf": "pbkdf2", "c": 1_000},
    "prf a number": {"kdf": "pbkdf2", "prf": 5, "c": 1_000},
    "rounds of ages": {"kdf": "pbkdf2", "prf": "hmac-sha256", "c": 10**12},
    "rounds of 0": {"kdf": "pbkdf2", "prf": "hmac-sha256", "c": 0},
    "a longer key": {"dklen": 64},
    "another kdf": {"kdf": "argon2id"},
    "kdf a list": {"kdf": [1]},
    "another cipher": {"cipher": "aes-128-cbc"},
    "salt no hex": {"salt": "zz"},
    "salt of megabytes": {"salt": "00" * 2**20},
    "mac a number": {"mac": 5},
    "mac short": {"mac": "00"},
    "iv missing": {"iv": None},
    "ciphertext short": {"ciphertext": "00" * 31},
    "version 4": {"version": 4},
    "params no table": {"kdfparams": [1]},
}


@pytest.mark.parametrize("changes", FOREIGN.values(), ids=FOREIGN)
def test_what_a_keystore_of_another_program_asks_for_is_bounded_and_said_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    create(tmp_path, PASSWORD, light=True)
    altered(tmp_path, **changes)
    began = time.process_time()
    with pytest.raises(ConfigurationError, match="not known here") as refused:
        load_key(tmp_path, PASSWORD)
    assert time.process_time() - began < 1 and str(refused.value).isprintable() and len(str(refused.value)) < 500


def test_whole_numbers_may_be_written_as_fractions_and_names_in_capitals(tmp_path: Path) -> None:
    key = create(tmp_path, PASSWORD, light=True)
    altered(tmp_path, n=4_096.0, r=8.0, version=3.0)
    path = tmp_path / KEYSTORE
    path.write_text(path.read_text().replace('"crypto"', '"Crypto"').replace('"kdf"', '"KDF"'))
    assert load_key(tmp_path, PASSWORD).address == key.address


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_any_value_in_any_place_of_a_keystore_is_an_unknown_keystore_or_a_good_one(value: Any) -> None:
    sealed = {
        "version": 3,
        "crypto": {"cipher": "aes-128-ctr", "ciphertext": "00" * 32, "mac": "00" * 32, "kdf": "scrypt"},
    }
    sealed["crypto"] |= {
        "cipherparams": {"iv": "00" * 16},
        "kdfparams": {"n": 2, "r": 8, "p": 1, "dklen": 32, "salt": "00"},
    }  # type: ignore[operator]
    assert normalised(sealed)["crypto"]["kdfparams"]["n"] == 2
    tables: list[dict[str, Any]] = [sealed, sealed["crypto"]]  # type: ignore[list-item]
    for table in [*tables, tables[1]["kdfparams"], tables[1]["cipherparams"]]:
        for name in list(table):
            kept, table[name] = table[name], value
            with suppress(UnknownKeystore):
                normalised(sealed)
            table[name] = kept
