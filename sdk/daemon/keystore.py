"""The node's key on disk: an encrypted keystore in Ethereum's "version 3" format, as wallets write it.

The file is complete and durable before `create` returns, has mode 0600, and is never overwritten. Nothing here prints a
secret. The format is in `sdk/daemon/keystore_format.py`; scrypt with N = 2**18, as go-ethereum's standard.
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


@checked
def create(directory: Path, password: str, *, light: bool = False, entropy: Entropy = system_entropy) -> PrivateKey:
    """Make a new key, store it in `directory`, encrypted under `password`, and return it.

    `light` spends less work against guessing, for throw-away use. Raise ConfigurationError if there is a key already.
    """
    from tallystick.sdk.daemon.keystore_format import seal  # late: most commands open no key

    if not password:
        raise ConfigurationError("the password is empty: choose one, it is all that protects the key on disk")
    path = directory / KEYSTORE
    key = PrivateKey(entropy(32))
    work = LIGHT_WORK if light else STANDARD_WORK
    sealed = seal(key, password, work, entropy)
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
    from tallystick.sdk.daemon.keystore_format import WrongPassword, unseal

    path = directory / KEYSTORE
    sealed = _read_keystore(path)
    secret = find_password(password, password_file, ask=ask)
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise ConfigurationError("the password is no text in UTF-8: set the terminal or the file to UTF-8") from None
    try:
        return unseal(sealed, secret)
    except WrongPassword:
        raise ConfigurationError(f"the password does not open {path}: it is another one") from None
    except Exception:  # whatever a library makes of a file that somebody else wrote
        raise ConfigurationError(f"{path} is damaged or of an unknown kind: restore it from a copy") from None


def _read_keystore(path: Path) -> dict[str, Any]:
    from tallystick.sdk.daemon.keystore_format import UnknownKeystore, normalised

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
