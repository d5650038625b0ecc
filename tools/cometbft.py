"""Build CometBFT, the engine of a chain with several validators: `python tools/cometbft.py`.

Go builds it from Go's module proxy, whose sums its database vouches for, into the cache of this user: the first time
about a minute and a half of processor time, later nothing. Where Go is not there, or cannot build it, it says that
tests on it are skipped, and that is no error.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from tallystick.settlement.replicated.engine import VARIABLE, VERSION, cache_folder, find_cometbft

PACKAGE = f"github.com/cometbft/cometbft/cmd/cometbft@v{VERSION}"
SECONDS = 1_800


def main() -> int:
    found = find_cometbft()
    if found is not None:
        print(f"CometBFT is here: {found}")
        return 0
    go, folder = shutil.which("go"), cache_folder()
    if go is None:
        print(f"Go is not here, and {VARIABLE} names no CometBFT: tests on it are skipped")
        return 0
    print(f"building CometBFT {VERSION} into {folder} (go install {PACKAGE}): two minutes, the first time")
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
    found = find_cometbft()
    print(f"CometBFT is here: {found}" if found else f"Go cannot build it {said}: tests on it are skipped")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
