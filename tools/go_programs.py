"""Build programs in Go that ours run beside: `python tools/go_programs.py geth cometbft`.

Go builds them from Go's module proxy, whose sums its database vouches for, into the cache of this user. The first time
geth takes about four minutes of processor time, and 1.6 GB in Go's own caches, CometBFT a minute and a half; later they
take nothing. Where Go is not there, or cannot build one, it says that tests on it are skipped, and that is no error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tallystick.settlement.go_programs import GO_PROGRAMS, GoProgram

SECONDS = 1_800


def build(program: GoProgram) -> str:
    """Build a program unless it is here; return what came of it."""
    found = program.find()
    if found is not None:
        return f"{program.name} is here: {found}"
    go = shutil.which("go")
    if go is None:
        return f"Go is not here, and {program.variable} names no {program.name}: tests on it are skipped"
    package = f"{program.package}@v{program.version}"
    print(f"go install {package} into {program.folder}: some minutes, the first time", flush=True)
    program.folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            (go, "install", package),
            env={**os.environ, "GOBIN": str(program.folder)},
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired:
        said = [f"not done after {SECONDS} s"]
    found = program.find()
    return f"{program.name} is here: {found}" if found else f"Go cannot build {package} {said}: tests on it are skipped"


def main() -> int:
    names = sys.argv[1:]
    if not names or not set(names) <= GO_PROGRAMS.keys():
        print(f"name what to build: {', '.join(GO_PROGRAMS)}", file=sys.stderr)
        return 2
    for name in names:
        print(build(GO_PROGRAMS[name]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
