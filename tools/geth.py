"""Build geth, Ethereum's reference node, for the tests that need one: `python tools/geth.py`.

Go builds it from Go's module proxy, into the cache of this user: the first time about four minutes of processor time
and 1.6 GB in Go's own caches, later nothing. Where Go is not there, or cannot build it, it says that the tests on geth
are skipped, and that is no error. Users need none of this.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from tallystick.settlement.testing.geth import VARIABLE, VERSION, cache_folder, find_geth

PACKAGE = f"github.com/ethereum/go-ethereum/cmd/geth@v{VERSION}"
SECONDS = 1_800


def main() -> int:
    found = find_geth()
    if found is not None:
        print(f"geth is here: {found}")
        return 0
    go, folder = shutil.which("go"), cache_folder()
    if go is None:
        print(f"Go is not here, and {VARIABLE} names no geth: tests on geth are skipped")
        return 0
    print(f"building geth {VERSION} into {folder} (go install {PACKAGE}): some minutes, the first time")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            (go, "install", PACKAGE),
            env={**os.environ, "GOBIN": str(folder)},
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired:
        said = [f"not done after {SECONDS} s"]
    found = find_geth()
    print(f"geth is here: {found}" if found else f"Go cannot build it {said}: tests on geth are skipped")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
