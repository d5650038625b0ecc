"""The folders on disk, the packages that are installed and the links in src/ say the same; what is in a wheel works."""

from __future__ import annotations

import tomllib
from pathlib import Path

import tallystick.channels.protocol.core

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("channels", "contracts", "paid", "router", "sdk", "settlement", "watchtower")


def packages_on_disk() -> set[str]:
    folders = {file.parent for part in PARTS for file in (ROOT / part).rglob("__init__.py")}
    return {".".join(("tallystick", *folder.relative_to(ROOT).parts)) for folder in folders}


def test_every_folder_with_code_is_a_listed_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(settings["packages"]) == {"tallystick", *packages_on_disk()}
    assert sorted(settings["packages"]) == settings["packages"]
    folders = {file.parent for part in PARTS for file in (ROOT / part).rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_the_package_is_its_own_files_and_links_to_the_folders() -> None:
    package = ROOT / "src" / "tallystick"
    links = {entry.name: entry.resolve() for entry in package.iterdir() if entry.is_symlink()}
    assert links == {part: ROOT / part for part in PARTS}
    own = {"__init__.py", "_moved.py", "py.typed"}  # one py.typed counts for all that is below it
    assert {entry.name for entry in package.iterdir()} - {"__pycache__"} == {*PARTS, *own}


def test_the_classes_in_use_are_those_of_the_installed_name() -> None:
    """From the root, `import channels` would work by accident and make a second copy of every class."""
    assert tallystick.channels.protocol.core.__name__ == "tallystick.channels.protocol.core"
    assert Path(tallystick.channels.protocol.core.__file__).resolve() == ROOT / "channels" / "protocol" / "core.py"
    offending = [
        f"{file.relative_to(ROOT)}: {line}"
        for folder in (*PARTS, "tests", "examples")
        for file in (ROOT / folder).rglob("*.py")
        for line in file.read_text().splitlines()
        if line.lstrip().startswith(tuple(f"{word} {part}" for word in ("from", "import") for part in PARTS))
        and line.split()[1].split(".")[0] in PARTS
    ]
    assert offending == []
