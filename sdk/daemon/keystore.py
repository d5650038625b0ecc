"""The node's key on disk: an encrypted keystore in Ethereum's "version 3" format, as wallets write it.

The file is complete and durable before `create` returns, has mode 0600, and is never overwritten. Nothing here prints a
secret. Source of the format: the Web3 Secret Storage Definition; scrypt with N = 2**18, as go-ethereum's standard.

A file that another program wrote is looked at before anything is computed. What it asks of whoever opens it is bounded,
in memory and in time: otherwise it could hang a program, or take all of its memory. Numbers may be written as 4096.0.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tallystick.channels.ports import Entropy, system_entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.values.arguments import checked
from tallystick.sdk.errors import ConfigurationError

KEYSTORE = "keystore.json"
"""Name of the file within the data directory."""

PASSWORD_VARIABLE = "TALLY_PASSWORD"
"""Environment variable that may hold the password."""

STANDARD_WORK = 2**18
"""scrypt's N: 256 MB and about a second per guess."""

LIGHT_WORK = 2**12
"""N for keys that guard nothing: 4 MB and some milliseconds per guess."""

VERSION = 3
CIPHER = "aes-128-ctr"
PRF = "hmac-sha256"
DIGEST_SIZE = 32

SCRYPT_BYTES_MAX = 2**30
"""Memory that scrypt may ask for, 128 × n × r: four times what wallets ask for as a rule."""

SCRYPT_WORK_MAX = 2**26
"""n × r × p of scrypt: 32 times as much as a rule, some ten seconds."""

ROUNDS_MAX = 10_000_000
"""Rounds of PBKDF2: some ten seconds."""

SALT_MAX = 1_024
"""Bytes of salt."""


class UnknownKeystore(Exception):
    """The text says, as the end of a sentence, what in the file cannot be used."""


@checked
def create(directory: Path, password: str, *, light: bool = False, entropy: Entropy = system_entropy) -> PrivateKey:
    """Make a new key, store it in `directory`, encrypted under `password`, and return it.

    `light` spends less work against guessing, for throw-away use. Raise ConfigurationError if there is a key already.
    """
    from tallystick.settlement.ethereum.accounts import Account  # late: it takes a third of a second

    if not password:
        raise ConfigurationError("the password is empty: choose one, it is all that protects the key on disk")
    path = directory / KEYSTORE
    key = PrivateKey(entropy(32))
    work = LIGHT_WORK if light else STANDARD_WORK
    sealed = Account.encrypt(key.reveal(), password, kdf="scrypt", iterations=work)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_new(path, json.dumps(sealed))
    except FileExistsError as error:
        raise ConfigurationError(
            f"{path} holds a key already, and it is not overwritten: choose another data directory"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"the key cannot be stored in {directory}: {error.strerror}") from error
    return key


def write_new(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole and durable or not at all; raise FileExistsError if there is one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@checked
def load_key(
    directory: Path,
    password: str | None = None,
    password_file: Path | None = None,
    *,
    ask: Callable[[], str] | None = None,
) -> PrivateKey:
    """Open the keystore in `directory` and return its key.

    The password is the first of: `password`, the content of `password_file`, TALLY_PASSWORD, an answer at the
    terminal (`ask` in its place, for programs). Raise ConfigurationError, saying what to do.
    """
    from tallystick.settlement.ethereum.accounts import Account  # late: it takes a third of a second

    path = directory / KEYSTORE
    sealed = _read_keystore(path)
    secret = find_password(password, password_file, ask=ask)
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise ConfigurationError("the password is no text in UTF-8: set the terminal or the file to UTF-8") from None
    try:
        return PrivateKey(bytes(Account.decrypt(sealed, secret)))
    except Exception as error:  # whatever a library makes of a file that somebody else wrote
        if "MAC mismatch" in str(error):  # the library has no type of its own for this
            raise ConfigurationError(f"the password does not open {path}: it is another one") from None
        raise ConfigurationError(f"{path} is damaged or of an unknown kind: restore it from a copy") from None


def _read_keystore(path: Path) -> dict[str, Any]:
    try:
        sealed = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"there is no key in {path.parent}: run `tally init` first") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{path} is damaged: restore it from a copy") from None
    try:
        return normalised(sealed)
    except UnknownKeystore as error:
        raise ConfigurationError(
            f"{path} is damaged, or of a kind that is not known here: {error}. Restore it from a copy, or seal it anew"
        ) from None


def find_password(password: str | None, password_file: Path | None, *, ask: Callable[[], str] | None = None) -> str:
    """Return the password from the first place that has one; raise ConfigurationError if none does."""
    if password is not None:
        return password
    if password_file is not None:
        try:
            return password_file.read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise ConfigurationError(f"the password file {password_file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise ConfigurationError(f"the password file {password_file} is no text in UTF-8") from None
    from_environment = os.environ.get(PASSWORD_VARIABLE)
    if from_environment is not None:
        return from_environment
    if ask is not None:
        return ask()
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("Password of the keystore: ")
    raise ConfigurationError(
        f"no password: set {PASSWORD_VARIABLE}, name a file with --password-file, or run this at a terminal"
    )


def normalised(sealed: object) -> dict[str, Any]:
    """Return a keystore with all names in lower case and whole numbers as such; raise UnknownKeystore."""
    whole = _table(sealed, "the file")
    if _number(whole, "version", 1, 2**31) != VERSION:
        raise UnknownKeystore(f"only version {VERSION} of keystores is known here")
    crypto = _table(whole.get("crypto"), "crypto")
    if crypto.get("cipher") != CIPHER:
        raise UnknownKeystore(f"its cipher is not {CIPHER}")
    hex_fields = (("ciphertext", 32, 32), ("mac", 32, 32))
    for name, low, high in hex_fields:
        _hex(crypto, name, low, high)
    cipher = _table(crypto.get("cipherparams"), "cipherparams")
    _hex(cipher, "iv", 1, 16)
    return whole | {
        "version": VERSION,
        "crypto": crypto | {"cipherparams": cipher, "kdfparams": _derivation(crypto.get("kdf"), crypto)},
    }


def _derivation(kind: object, crypto: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of what makes a key of the password, each within bounds."""
    given = _table(crypto.get("kdfparams"), "kdfparams")
    _hex(given, "salt", 0, SALT_MAX)
    numbers = {"dklen": _number(given, "dklen", DIGEST_SIZE, DIGEST_SIZE)}
    if kind == "scrypt":
        numbers |= {name: _number(given, name, 1, 2**40) for name in ("n", "r", "p")}
        n, r, p = numbers["n"], numbers["r"], numbers["p"]
        if n < 2 or n & (n - 1):
            raise UnknownKeystore("n of scrypt is not a power of two from 2 on")
        if 128 * n * r > SCRYPT_BYTES_MAX or n * r * p > SCRYPT_WORK_MAX or r * p >= 2**30:
            raise UnknownKeystore(
                f"scrypt would take {128 * n * r >> 20} MiB of memory, {p} times over, and at most "
                f"{SCRYPT_BYTES_MAX >> 20} MiB (and some ten seconds) are spent: seal the key anew with less"
            )
    elif kind == "pbkdf2":
        numbers["c"] = _number(given, "c", 1, ROUNDS_MAX)
        if given.get("prf") != PRF:
            raise UnknownKeystore(f"pbkdf2 is known here with {PRF} only")
    else:
        raise UnknownKeystore("the way in which it makes a key of the password (kdf) is not known here")
    return given | numbers


def _table(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnknownKeystore(f"{name} is no table of names and values")
    return {str(key).lower(): item for key, item in value.items()}


def _number(table: dict[str, Any], name: str, low: int, high: int) -> int:
    value = table.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        span = str(low) if low == high else f"a whole number from {low} to {high}"
        raise UnknownKeystore(f"{name} is not {span}")
    return value


def _hex(table: dict[str, Any], name: str, low: int, high: int) -> None:
    value = table.get(name)
    try:
        size = len(bytes.fromhex(value.removeprefix("0x"))) if isinstance(value, str) else -1
    except ValueError:
        size = -1
    if not low <= size <= high:
        raise UnknownKeystore(f"{name} is not written in hex, or has the wrong number of bytes")
