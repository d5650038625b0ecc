"""Importing Tallystick leaves Python's recursion limit alone: else deeply nested messages would kill the process.

Nor does it load py_ecc, which raises that limit and takes half a second, and yet a program's own use of that goes on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib, pkgutil, sys
before = sys.getrecursionlimit()
import tallystick
for package in pkgutil.walk_packages(tallystick.__path__, "tallystick."):
    if package.name.endswith("__main__"):
        continue
    if package.name.split(".")[1] in ("channels", "settlement", "watchtower", "router", "paid", "sdk"):
        importlib.import_module(package.name)
import msgspec
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.errors import MalformedMessage
try:
    Codec(list).decode(bytes([0x91]) * 60_000)
except MalformedMessage:
    print("refused")
print(sys.getrecursionlimit() - before)
"""

OPENS_A_KEYSTORE = """
import pathlib, sys
before = sys.getrecursionlimit()
from tallystick.sdk.daemon.keystore import create, load_key
create(pathlib.Path(sys.argv[1]), "secret", light=True)
load_key(pathlib.Path(sys.argv[1]), "secret")
print(sys.getrecursionlimit() - before)
"""

A_VALIDATORS_KEYSTORE = """
import pathlib, sys
from tallystick.sdk.daemon.keystore import create, load_key
create(pathlib.Path(sys.argv[1]), "secret", light=True)
load_key(pathlib.Path(sys.argv[1]), "secret")
print(sum(name.split(".")[0] == "py_ecc" for name in sys.modules))
import eth_keyfile, json
sealed = eth_keyfile.create_keyfile_json(bytes(31) + b"7", b"secret", 4, "pbkdf2", 10)
print(eth_keyfile.decode_keyfile_json(sealed, b"secret")[-1:].decode())
import py_ecc.bls, py_ecc.bls12_381, py_ecc.secp256k1
print(sealed["pubkey"] == py_ecc.bls.G2ProofOfPossession.SkToPk(ord("7")).hex())
print(eth_keyfile.keyfile.MAX_V4_PRIVATE_KEY == py_ecc.bls12_381.curve_order - 1)
print(eth_keyfile.keyfile.MAX_V3_PRIVATE_KEY == py_ecc.secp256k1.N - 1)
"""


def test_every_module_leaves_the_recursion_limit_and_a_nested_message_is_refused() -> None:
    done = subprocess.run([sys.executable, "-Ic", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused", "0"]


def test_a_program_that_opens_a_keystore_before_anything_else_keeps_its_recursion_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-Ic", OPENS_A_KEYSTORE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0"], done.stderr


def test_a_keystore_is_opened_without_pairings_and_who_needs_them_has_them_all_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-Ic", A_VALIDATORS_KEYSTORE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0", "7", "True", "True", "True"], done.stderr
