"""Ethereum's keystore of version 3 as a value: a key sealed under a password, as wallets write it, and opened again.

Source: the Web3 Secret Storage Definition. The primitives are those of libraries (scrypt of libsodium, AES of
cryptography). eth-account, which has all of this, is the oracle of tests: its import took a quarter of
the time in which a node starts.

What another program wrote is looked at before anything is computed. What it asks of whoever opens it is bounded, in
memory and in time: otherwise it could hang a program, or take all of its memory. Numbers may be written as 4096.0.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid  # noqa: TID251 (it gives 16 bytes of our entropy their form)
from typing import Any

from nacl._sodium import ffi, lib

from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.keys import PrivateKey, keccak

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


def sealed(key: PrivateKey, password: bytes, work: int, entropy: Entropy) -> dict[str, Any]:
    """Return the keystore of `key`: what its file says, in JSON's types. `work` is scrypt's N, a power of two."""
    salt, iv = entropy(16), entropy(16)
    parameters = {"dklen": DIGEST_SIZE, "n": work, "r": 8, "p": 1, "salt": salt.hex()}
    derived = _derived({"kdf": "scrypt", "kdfparams": parameters}, password)
    ciphertext = _aes_ctr(derived, iv, key.reveal())
    return {
        "address": key.address.hex(),
        "crypto": {
            "cipher": CIPHER,
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": parameters,
            "mac": _mac(derived, ciphertext).hex(),
        },
        "id": str(uuid.UUID(bytes=entropy(16), version=4)),
        "version": VERSION,
    }


def opened(keystore: dict[str, Any], password: bytes) -> bytes | None:
    """Return the 32 bytes that a `normalised` keystore seals, or None if `password` does not open it.

    Raise UnknownKeystore if what it asks for cannot be computed here.
    """
    crypto = keystore["crypto"]
    ciphertext, mac, iv = map(_bytes, (crypto["ciphertext"], crypto["mac"], crypto["cipherparams"]["iv"]))
    derived = _derived(crypto, password)
    if not hmac.compare_digest(_mac(derived, ciphertext), mac):
        return None
    return _aes_ctr(derived, iv, ciphertext)


def _derived(crypto: dict[str, Any], password: bytes) -> bytes:
    """Return the 32 bytes that a password makes: half of them encrypt, the other half tell whether it was the one."""
    given = crypto["kdfparams"]
    salt = _bytes(given["salt"])
    if crypto["kdf"] == "pbkdf2":
        return hashlib.pbkdf2_hmac("sha256", password, salt, given["c"], DIGEST_SIZE)
    # libsodium itself: hashlib, cryptography and PyNaCl's own door refuse n = 2**18 with r = 1, as old wallets wrote.
    output = ffi.new("uint8_t[]", DIGEST_SIZE)
    costs = (given["n"], given["r"], given["p"])
    if lib.crypto_pwhash_scryptsalsa208sha256_ll(password, len(password), salt, len(salt), *costs, output, DIGEST_SIZE):
        raise UnknownKeystore(f"scrypt cannot be computed with n, r and p of {costs}")
    return bytes(ffi.buffer(output, DIGEST_SIZE))


def _mac(derived: bytes, ciphertext: bytes) -> bytes:
    return keccak(derived[16:] + ciphertext)


def _aes_ctr(derived: bytes, iv: bytes, data: bytes) -> bytes:
    """Return `data` encrypted, or decrypted, which is the same."""
    from cryptography.hazmat.primitives.ciphers import Cipher  # late: most commands open no keystore
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    cipher = Cipher(AES(derived[:16]), CTR(iv.rjust(16, b"\0"))).encryptor()
    return cipher.update(data) + cipher.finalize()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


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
