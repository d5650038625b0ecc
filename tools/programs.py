"""Do the programs that users copy pass `mypy --strict`, as their editors see them? `make check` runs this.

Those are the examples, and the programs in the README and in docs/. They are checked in a folder of their own, with
nothing of this tree's settings, against what `make setup` installed: so it fails, too, if the editable package shows
its types to nobody.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".mypy_cache" / "programs"


def programs(page: str) -> list[str]:
    """Return the blocks of a page that are whole programs: those that run something, with the types of a program."""
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    return [code for code in blocks if re.search(r"^ *(?:trio\.run|simulate)\(", code, flags=re.MULTILINE)]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
            for number, code in enumerate(programs(page.read_text("utf-8"))):
                files.append(Path(folder) / f"{page.stem.lower()}_{number}.py")
                files[-1].write_text(code, "utf-8")
        for example in sorted((ROOT / "examples").rglob("*.py")):
            files.append(Path(folder) / example.relative_to(ROOT / "examples"))
            files[-1].parent.mkdir(exist_ok=True)
            files[-1].write_text(example.read_text("utf-8"), "utf-8")
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", CACHE]
        return subprocess.run([*command, *files], cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
