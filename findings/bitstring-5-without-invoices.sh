#!/usr/bin/env bash
# Two packages read and write Lightning invoices in Python: bolt11, and pyln-proto of Core Lightning. Both are installed as they are,
# with what pip finds for them, and write and read one.
#
# Guess: both work; pyln-proto was released this year, and bolt11 is what wallets such as LNbits use.
# What happens (bolt11 2.2.0, pyln-proto 26.6.9, bitstring 5.0.0): both take any bitstring from some version on, and 5.0.0 has neither
# `ConstBitStream` nor `BitArray.len`. bolt11 cannot be imported; pyln-proto can, and fails with AttributeError once it writes an
# invoice. lnurl 2.0.2, which stands on bolt11, cannot be imported either. With bitstring 4.4.0, which pip does not choose by itself,
# bolt11 works.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 with venv; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv first
python3 -m venv second
first/bin/pip --quiet --disable-pip-version-check install bolt11==2.2.0 lnurl==2.0.2 bitstring==5.0.0
second/bin/pip --quiet --disable-pip-version-check install pyln-proto==26.6.9 bitstring==5.0.0
cat > bolt11_program.py <<'PROGRAM'
from importlib import import_module

for name in ("bolt11", "lnurl"):
    try:
        import_module(name)
        print(f"{name}: imported")
    except ImportError as error:
        print(f"{name}:", str(error).partition(" (")[0])
PROGRAM
cat > pyln_program.py <<'PROGRAM'
from pyln.proto import Invoice

invoice = Invoice(paymenthash=b"\1" * 32, tags=[("d", "coffee")], date=1)
try:
    print("pyln-proto:", Invoice.decode(invoice.encode("e1" * 32)).date)
except AttributeError as error:
    print("pyln-proto:", error)
PROGRAM
seen=$(first/bin/python bolt11_program.py; second/bin/python pyln_program.py)
first/bin/pip --quiet --disable-pip-version-check install bitstring==4.4.0
seen="$seen
with 4.4.0: $(first/bin/python bolt11_program.py)"
echo "$seen"
expected="bolt11: cannot import name 'ConstBitStream' from 'bitstring'
lnurl: cannot import name 'ConstBitStream' from 'bitstring'
pyln-proto: 'BitArray' object has no attribute 'len'.
with 4.4.0: bolt11: imported
lnurl: imported"
[ "$seen" = "$expected" ] || { echo "it behaves otherwise now"; exit 1; }
