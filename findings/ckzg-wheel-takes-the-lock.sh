#!/usr/bin/env bash
# ckzg: a program on the interpreter without the lock (3.14t) installs ckzg, which has a wheel for it by name, `cp314t`. What
# does importing it do? eth-account imports it.
#
# Guess: nothing, as with the wheels of msgspec, cffi and cytoolz for 3.14t. What happens (2.1.8): the lock is turned on, for the
# whole process and for good, with a RuntimeWarning that an ordinary filter hides: the module does not declare that it runs
# without. All threads run one at a time from then on.
#
# Exits with 0 if it is still so, and fails if not. Needs python3.14t (or PYTHON) and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.14t}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --only-binary :all: ckzg==2.1.8 msgspec==0.22.0 cffi==2.1.1 cytoolz==1.2.0
env -u PYTHON_GIL "$folder/env/bin/python" -W ignore - <<'PROGRAM'
import importlib
import sys

if sys._is_gil_enabled():
    raise SystemExit("this interpreter has the lock: name one without by PYTHON")
seen = []
for name in ("msgspec", "_cffi_backend", "cytoolz", "ckzg"):
    importlib.import_module(name)
    seen.append(sys._is_gil_enabled())
    print(f"  after import {name:14} the lock is", "on" if seen[-1] else "off")
raise SystemExit(0 if seen == [False, False, False, True] else "it behaves otherwise now")
PROGRAM
