#!/usr/bin/env bash
# bolt11 (PyPI) writes an invoice for 1,000 bitcoin, as somebody may on a test network, or who tries out large amounts. What does it ask for?
#
# Guess: 1,000, written as `lnbc1000` or the like, as 999 and 1,001 are.
# What happens (2.2.0, bitstring 4.4.0): the text begins with `lnbc1`, and is read back as 1 bitcoin: the amount is divided by a thousand once
# more than there are units to name it by, without a word. So it is for each amount that is a multiple of 1,000.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 with venv; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install bolt11==2.2.0 bitstring==4.4.0
cat > program.py <<'PROGRAM'
import sys

import bolt11
from bolt11 import Bolt11, MilliSatoshi, TagChar, Tags

seen = []
for bitcoin in (1, 999, 1000, 1001, 21_000):
    tags = Tags()
    tags.add(TagChar.payment_hash, "11" * 32)
    tags.add(TagChar.payment_secret, "22" * 32)
    tags.add(TagChar.description, "a large amount")
    text = bolt11.encode(Bolt11("bc", 1_700_000_000, tags, MilliSatoshi(bitcoin * 10**11)), "e1" * 32)
    asked = bolt11.decode(text).amount_msat // 10**11
    print(f"{bitcoin} bitcoin: {text[:10]}…, read back as {asked}")
    seen.append(asked)
if seen != [1, 999, 1, 1001, 21]:
    sys.exit("it behaves otherwise now")
PROGRAM
venv/bin/python program.py
