"""The folders on disk, the packages that are installed and the links for type checkers say the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

import tallystick.channels.core

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("channels", "router", "sdk", "settlement", "watchtower")


def packages_on_disk() -> set[str]:
    folders = {file.parent for part in PARTS for file in (ROOT / part).rglob("__init__.py")}
    return {".".join(("tallystick", *folder.relative_to(ROOT).parts)) for folder in folders}


def test_every_folder_with_code_is_a_listed_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(settings["packages"]) == packages_on_disk()
    assert sorted(settings["packages"]) == settings["packages"]
    folders = {file.parent for part in PARTS for file in (ROOT / part).rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_type_checkers_see_the_same_folders() -> None:
    links = {link.name: link.resolve() for link in (ROOT / ".typing" / "tallystick").iterdir()}
    assert links == {part: ROOT / part for part in PARTS}
    assert all((ROOT / part / "py.typed").exists() for part in PARTS)


def test_the_namespace_itself_has_no_file() -> None:
    assert not (ROOT / "__init__.py").exists()
    assert tallystick.__file__ is None


def test_the_classes_in_use_are_those_of_the_installed_name() -> None:
    """From the root, `import channels` would work by accident and make a second copy of every class."""
    assert tallystick.channels.core.__name__ == "tallystick.channels.core"
    assert Path(tallystick.channels.core.__file__) == ROOT / "channels" / "core.py"
    offending = [
        f"{file.relative_to(ROOT)}: {line}"
        for folder in (*PARTS, "tests", "examples")
        for file in (ROOT / folder).rglob("*.py")
        for line in file.read_text().splitlines()
        if line.lstrip().startswith(tuple(f"{word} {part}" for word in ("from", "import") for part in PARTS))
        and line.split()[1].split(".")[0] in PARTS
    ]
    assert offending == []
