"""Compile the contracts into contracts/artifacts/, which is checked in: `python tools/contracts.py`.

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

from tallystick.channels.protocol.keys import keccak

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
EVM_VERSION = "cancun"


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


def written(contract: dict[str, Any]) -> str:
    """Return a compilation as its file holds it."""
    return json.dumps(contract, indent=1, sort_keys=True) + "\n"


def main() -> int:
    """Write the files, or say which are not what the sources give."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true")
    check = arguments.parse_args().check
    wrong = 0
    for source in sorted(CONTRACTS.glob("*.vy")):
        target = CONTRACTS / "artifacts" / f"{source.stem}.json"
        text = written(compiled(source))
        if not check:
            target.write_text(text, "utf-8")
            print(f"{target.relative_to(ROOT)}: {len(json.loads(text)['runtime']) // 2 - 1:,} bytes of code")
        elif not target.exists() or target.read_text("utf-8") != text:
            wrong += 1
            print(f"{target.relative_to(ROOT)} is not what {source.name} compiles to: run tools/contracts.py")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
