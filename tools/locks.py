"""Are the lock files whole? `make check` runs this: `python tools/locks.py`, in the environment of `make setup`.

pip refuses to look for anything new only as long as everything that the pinned packages ask for is pinned by the very
name that they ask by. `pytest-cov` asks for `coverage[toml]`: a lock that pins `coverage` alone makes the pip that
Python 3.11 ships take the newest `coverage` of the day, which no hash covers. So each requirement is looked up with
its extras, in pyproject.toml and in the metadata of what is installed. A pinned package that is not installed is
named, as nobody can tell what it asks for; those of another system are left out.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {
    "requirements-build.lock": "build",
    "requirements.lock": "",
    "requirements-bench.lock": "bench",
    "requirements-pyevm.lock": "pyevm",
    "requirements-bft.lock": "bft",
    "requirements-postgres.lock": "postgres",
    "requirements-dev.lock": "dev",
}
"""For which optional dependencies each lock file is: of the package, or for `build`, of the installation itself."""
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def pinned(text: str) -> Iterator[tuple[Requirement, int]]:
    """The requirements of a lock file, each with the number of its hashes. Raises `ValueError` for any other line."""
    for entry in text.replace("\\\n", " ").splitlines():
        line = entry.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("-"):
            raise ValueError(f"option in a lock file: {line}: where packages come from is for each machine to say")
        yield Requirement(line.partition("--hash")[0]), len(HASH.findall(line))


def wanted(requirement: Requirement) -> Iterator[Requirement]:
    """What an installed package asks for, with the extras that `requirement` names.

    Raises `PackageNotFoundError` if it is not installed. Markers count as they are for this interpreter.
    """
    for line in metadata.requires(requirement.name) or []:
        asked = Requirement(line)
        if applies(asked.marker, extras=requirement.extras):
            yield asked


def applies(marker: Marker | None, *, extras: set[str]) -> bool:
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ({""} | extras))


def own(group: str) -> list[Requirement]:
    """What pyproject.toml asks for with these optional dependencies."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if group in settings["dependency-groups"]:
        return [Requirement(line) for line in settings["dependency-groups"][group]]
    project = settings["project"]
    asked = [Requirement(line) for line in project["dependencies"]]
    for each in map(Requirement, project["optional-dependencies"][group] if group else ()):
        asked += [each] if each.name != project["name"] else [part for extra in each.extras for part in own(extra)]
    return asked


def faults(text: str, group: str) -> Iterator[str]:
    """Each fault of a lock file for these optional dependencies as a sentence; none for a file that is whole."""
    try:
        entries = list(pinned(text))
    except ValueError as error:
        yield str(error)
        return
    here: dict[str, Requirement] = {}  # those of this interpreter, by name, with all extras
    for requirement, hashes in entries:
        if not re.fullmatch(r"==[^*,]+", str(requirement.specifier)):
            yield f"{requirement.name} is not pinned to one version: {requirement}"
        if not hashes:
            yield f"{requirement.name} has no hash"
        if applies(requirement.marker, extras=set()):
            known = here.setdefault(canonicalize_name(requirement.name), requirement)
            known.extras |= requirement.extras
    for asked in own(group):
        if applies(asked.marker, extras=set()):
            yield from lacking("pyproject.toml", asked, here)
    for requirement in here.values():
        try:
            for asked in wanted(requirement):
                yield from lacking(requirement.name, asked, here)
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed, so nobody knows what it asks for: run `make setup` first"


def lacking(asker: str, asked: Requirement, here: dict[str, Requirement]) -> Iterator[str]:
    known = here.get(canonicalize_name(asked.name))
    if known is None:
        yield f"{asker} asks for {asked.name}, which is not pinned"
    elif not asked.specifier.contains(str(known.specifier).removeprefix("=="), prereleases=True):
        yield f"{asker} asks for {asked}, and the lock has {known.specifier}"
    elif missing := asked.extras - known.extras:
        yield (
            f"{asker} asks for {asked.name}[{','.join(sorted(asked.extras))}], and the lock has it without "
            f"{', '.join(sorted(missing))}: pip may then take the newest one"
        )


def versions(text: str) -> set[str]:
    """Each pin of a lock file with its version and its marker, without hashes and extras."""
    found = set()
    for requirement, _ in pinned(text):
        requirement.extras = set()  # those that each file needs are looked up above
        found.add(str(requirement))
    return found


def main() -> int:
    found = [f"{file}: {fault}" for file, group in LOCKS.items() for fault in faults((ROOT / file).read_text(), group)]
    whole = versions((ROOT / "requirements-dev.lock").read_text())
    for file in [each for each in LOCKS if each not in ("requirements-build.lock", "requirements-dev.lock")]:
        for other in sorted(versions((ROOT / file).read_text()) - whole):
            if other.partition(";")[0] in whole:
                continue  # what all need, this one needs on some systems alone
            found.append(f"{file}: {other}: requirements-dev.lock has another version: run `make lock`")
    print(*found, f"{len(LOCKS)} lock files, {len(found)} faults", sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
