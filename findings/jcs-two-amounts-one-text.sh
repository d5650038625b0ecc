#!/usr/bin/env bash
# jcs writes JSON in the canonical form of RFC 8785, for signatures and digests. A document holds an amount in wei, as an integer.
#
# Guess: an integer that no double holds is refused, as rfc8785 does, or else written digit by digit, as canonicaljson does.
# What happens (jcs 0.2.1): it is made a double without a word, so that one ether and one ether and a wei have the same canonical text,
# and whoever signs the one has signed the other. Up to 2**53 all three agree.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 with venv; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install jcs==0.2.1 rfc8785==0.1.4 canonicaljson==2.0.0
cat > program.py <<'PROGRAM'
import sys

import canonicaljson
import jcs
import rfc8785

ETHER = 10**18


def told(write, amount: int) -> str:
    try:
        return write({"amount": amount}).decode()
    except rfc8785.IntegerDomainError:
        return "refused"


seen = [
    [told(write, amount) for amount in (1_000_000, ETHER, ETHER + 1)]
    for write in (jcs.canonicalize, rfc8785.dumps, canonicaljson.encode_canonical_json)
]
for name, texts in zip(("jcs", "rfc8785", "canonicaljson"), seen):
    print(f"{name}: a million {texts[0]}, an ether {texts[1]}, a wei more {texts[2]}")
exact = ['{"amount":%d}' % amount for amount in (1_000_000, ETHER, ETHER + 1)]
if seen != [[exact[0], exact[1], exact[1]], [exact[0], "refused", "refused"], exact]:
    sys.exit("it behaves otherwise now")
PROGRAM
venv/bin/python program.py
