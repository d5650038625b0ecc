#!/usr/bin/env bash
# A wallet's keystore is opened with cryptography's scrypt: the example of the format's own definition, N = 2**18, r = 1, p = 8.
#
# Guess: it derives the key, as libsodium and eth-account do; 32 MB is what it takes, and there is plenty.
# What happens (cryptography 49.0.0): MemoryError, "Not enough memory to derive key. These parameters require 32MB of memory.", on a
# machine with gigabytes to spare. RFC 7914 allows N below 2**(16 r) only, and OpenSSL keeps to that; the wrapper takes any
# refusal for a lack of memory. So a program that opens wallets' keystores by it blames the machine, where the file is one of those
# that other programs wrote and open. With r = 8 and the same N, which takes eight times the memory, it works.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 (3.11 or later) and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "cryptography==49.0.0" "eth-account==0.14.0"
"$folder/env/bin/python" - <<'PROGRAM'
from importlib.metadata import version

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from eth_account import Account

SALT = bytes.fromhex("ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19")
KEYSTORE = {  # the test vector of the Web3 Secret Storage Definition; its password is "testpassword"
    "version": 3,
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {"dklen": 32, "n": 2**18, "p": 8, "r": 1, "salt": SALT.hex()},
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
}


def derived(r: int, p: int) -> str:
    try:
        return f"{len(Scrypt(salt=SALT, length=32, n=2**18, r=r, p=p).derive(b'testpassword'))} bytes"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


print("cryptography", version("cryptography"))
key = bytes(Account.decrypt(KEYSTORE, "testpassword")).hex()
print("eth-account opens it:", key == "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d")
seen = derived(1, 8), derived(8, 1)
print("cryptography, r = 1, p = 8:", seen[0])
print("cryptography, r = 8, p = 1:", seen[1])
same = key.startswith("7a28b5ba") and seen[0].startswith("MemoryError") and seen[1] == "32 bytes"
raise SystemExit(0 if same else "it behaves otherwise now")
PROGRAM
