"""Compile the contracts into contracts/artifacts/, which is checked in: `python tools/contracts.py [NAME …]`.

`--check` compiles and compares instead. Vyper is pinned in the extra `dev`: another version makes other bytecode.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import vyper

import tallystick.contracts
from tallystick.channels.protocol.keys import keccak

CONTRACTS = Path(tallystick.contracts.__file__).parent
EVM_VERSION = "cancun"
CODE_MAX = 24_576
"""Bytes of code that a contract may have, its immutables included (EIP-170)."""


def compiled(source: Path) -> dict[str, Any]:
    """Return what is kept of a contract's compilation."""
    formats = "abi,bytecode,bytecode_runtime,layout"
    command = [sys.executable, "-m", "vyper", "-f", formats, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    abi, bytecode, runtime, layout = done.stdout.strip().splitlines()
    return {
        "name": source.stem,
        "compiler": f"vyper {vyper.__long_version__}",
        "evm_version": EVM_VERSION,
        "source": keccak(source.read_bytes()).hex(),
        "abi": json.loads(abi),
        "bytecode": bytecode,
        "runtime": runtime,
        "layout": json.loads(layout),
    }


def code_size(contract: dict[str, Any]) -> int:
    """Return how many bytes of code are on chain."""
    immutables = contract["layout"].get("code_layout", {}).values()
    return len(contract["runtime"]) // 2 - 1 + sum(place["length"] for place in immutables)


def written(contract: dict[str, Any]) -> str:
    """Return a compilation as its file holds it."""
    return json.dumps(contract, indent=1, sort_keys=True) + "\n"


def main() -> int:
    """Write the files, or say which are not what the sources give."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("names", nargs="*", metavar="NAME", help="of contracts (Court); none: all")
    options = arguments.parse_args()
    check = options.check
    wrong = 0
    for source in sorted((*CONTRACTS.glob("*.vy"), *CONTRACTS.glob("apps/*.vy"))):
        if options.names and source.stem not in options.names:
            continue
        target = CONTRACTS / "artifacts" / f"{source.stem}.json"
        contract = compiled(source)
        text = written(contract)
        if not check:
            target.write_text(text, "utf-8")
            size = code_size(contract)
            wrong += size > CODE_MAX
            print(f"{target.name}: {size:,} bytes of code, of {CODE_MAX:,}")
        elif not target.exists() or target.read_text("utf-8") != text:
            wrong += 1
            print(f"{target.name} is not what {source.name} compiles to: run tools/contracts.py")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
