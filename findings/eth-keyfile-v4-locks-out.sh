#!/usr/bin/env bash
# eth-keyfile writes and reads keystores, those of version 4 (EIP-2335) too. A password with an umlaut protects one: is it opened again?
#
# Guess: yes, by the same password and the same package.
# What happens (0.10.0): not with that password. EIP-2335 wants it in the form NFKD, without control characters, before the key is derived;
# the package does so when it writes and not when it reads, so that "ValueError: Checksum mismatch" is what its owner meets. Who puts
# the password into that form first gets in. Of plain ASCII nothing is noticed, and version 3 has no such step.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 with venv; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install eth-keyfile==0.10.0
cat > program.py <<'PROGRAM'
import sys
from unicodedata import normalize

from eth_keyfile import create_keyfile_json, decode_keyfile_json

KEY = bytes(31) + b"\1"
PASSWORD = "Schlüssel"


def opens(version: int, written: str, read: str) -> bool:
    stored = create_keyfile_json(KEY, written.encode(), version=version, iterations=1_000)
    try:
        return decode_keyfile_json(stored, read.encode()) == KEY
    except ValueError:
        return False


seen = {
    "version 4, ASCII": opens(4, "key", "key"),
    "version 4, an umlaut": opens(4, PASSWORD, PASSWORD),
    "version 4, an umlaut, read in the form NFKD": opens(4, PASSWORD, normalize("NFKD", PASSWORD)),
    "version 3, an umlaut": opens(3, PASSWORD, PASSWORD),
}
for what, opened in seen.items():
    print(f"{what}: {'opened' if opened else 'refused'}")
if list(seen.values()) != [True, False, True, True]:
    sys.exit("it behaves otherwise now")
PROGRAM
venv/bin/python program.py
