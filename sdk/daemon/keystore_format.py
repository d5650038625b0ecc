"""Ethereum's keystores of version 3: how a key is sealed under a password, as wallets do it, and opened again. Pure.

A file that another program wrote is looked at before anything is computed. What it asks of whoever opens it is bounded,
in memory and in time: otherwise it could hang a program, or take all of its memory. Numbers may be written as 4096.0.
Source: the Web3 Secret Storage Definition. Tests compare with eth-account, which takes twice as long to load as a node.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from nacl._sodium import ffi, lib

from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.keys import PrivateKey, keccak

VERSION = 3
CIPHER = "aes-128-ctr"
PRF = "hmac-sha256"
DIGEST_SIZE = 32

SCRYPT_R = 8
"""What wallets take."""

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


class WrongPassword(Exception):
    """It does not open the keystore."""


def seal(key: PrivateKey, password: str, work: int, entropy: Entropy) -> dict[str, Any]:
    """Return the keystore of `key` under `password`; `work` is scrypt's N."""
    salt, iv = entropy(16), entropy(16)
    derivation = {"dklen": DIGEST_SIZE, "n": work, "r": SCRYPT_R, "p": 1, "salt": salt.hex()}
    derived = _derive("scrypt", derivation, password.encode())
    ciphertext = _cipher(derived, iv, key.reveal())
    return {
        "address": key.address.hex(),
        "crypto": {
            "cipher": CIPHER,
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": derivation,
            "mac": keccak(derived[16:] + ciphertext).hex(),
        },
        "id": _uuid(entropy(16)),
        "version": VERSION,
    }


def unseal(sealed: dict[str, Any], password: str) -> PrivateKey:
    """Return the key in a keystore that is as `normalised` returns it.

    Raise WrongPassword, InvalidInput if what it holds is no key, MemoryError if there is not enough for scrypt.
    """
    crypto = sealed["crypto"]
    derived = _derive(crypto["kdf"], crypto["kdfparams"], password.encode())
    ciphertext = _bytes(crypto["ciphertext"])
    if not hmac.compare_digest(keccak(derived[16:] + ciphertext), _bytes(crypto["mac"])):
        raise WrongPassword
    return PrivateKey(_cipher(derived, _bytes(crypto["cipherparams"]["iv"]), ciphertext))


def _derive(kind: str, given: dict[str, Any], password: bytes) -> bytes:
    """Return the 32 bytes that a password stands for: half of them encrypt, half prove that it is the right one."""
    salt = _bytes(given["salt"])
    if kind == "scrypt":
        return _scrypt(password, salt, given["n"], given["r"], given["p"])
    return hashlib.pbkdf2_hmac("sha256", password, salt, given["c"], DIGEST_SIZE)


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    """Return what libsodium makes of any `normalised` parameters.

    Its function is called as it is: PyNaCl's own, as OpenSSL, refuses n of 2**18 with r of 1, which is in use.
    """
    out = ffi.new("uint8_t[]", DIGEST_SIZE)
    derive = lib.crypto_pwhash_scryptsalsa208sha256_ll
    if derive(password, len(password), salt, len(salt), n, r, p, out, DIGEST_SIZE):
        raise MemoryError(f"scrypt takes {128 * n * r >> 20} MiB")
    return bytes(ffi.buffer(out))


def _cipher(derived: bytes, iv: bytes, text: bytes) -> bytes:
    """Encrypt, or decrypt: a stream is added, whose counter begins with the number `iv`."""
    return Cipher(algorithms.AES(derived[:16]), modes.CTR(iv.rjust(16, b"\0"))).encryptor().update(text)


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x"))


def _uuid(drawn: bytes) -> str:
    """Return a random UUID (RFC 4122, version 4) of 16 random bytes."""
    number = int.from_bytes(drawn, "big") & ~(0xF << 76) & ~(0x3 << 62) | 0x4 << 76 | 0x2 << 62
    text = number.to_bytes(16, "big").hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


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
