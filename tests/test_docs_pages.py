"""What the pages show works: programs run, commands parse, links lead somewhere, and nothing is undocumented."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tallystick.sdk.bench.direct import CLASSES
from tallystick.sdk.cli.app import DEFERRED, app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PARTS = ("channels", "paid", "router", "sdk", "settlement", "watchtower")
EXAMPLE_SECONDS = 60


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def programs() -> list[tuple[str, str]]:
    """Return (page, source) of each complete example: one that runs something."""
    return [
        (page.name, code)
        for page in PAGES
        for code in blocks(page, "python")
        if re.search(r"^ *(?:trio\.run|simulate)\(", code, flags=re.MULTILINE)
    ]


def commands() -> list[tuple[str, str]]:
    """Return (page, command line) of each `tally …` in the shell blocks and in the text."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for line in "".join(blocks(page, "sh")).splitlines():
            found += [(page.name, match) for match in re.findall(r"(?:^|\()(tally .*?)(?: *[&|]| *#.*| *\)|$)", line)]
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        found += [(page.name, match) for match in re.findall(r"`(tally [^`]*)`", text)]
    return found


def test_the_readme_shows_a_program_and_commands() -> None:
    assert [page for page, _ in programs()].count("README.md") == 1
    assert len([page for page, _ in commands() if page == "README.md"]) > 10


@pytest.mark.processes
@pytest.mark.parametrize(("page", "code"), programs(), ids=lambda value: value[:12])
def test_every_program_in_the_pages_runs_and_prints_what_its_page_says(page: str, code: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=EXAMPLE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    text = next(path for path in PAGES if path.name == page).read_text("utf-8")
    printed = ended.stdout.splitlines()
    assert printed and all(f"`{line}`" in text for line in printed)


def test_every_other_python_block_is_valid_python() -> None:
    for page in PAGES:
        for code in blocks(page, "python"):
            ast.parse(code)


made = functools.cache(typer.main.get_command)
"""A command, made of its functions once: that takes a while."""


def complaint(line: str) -> str | None:
    """Return what of a command line does not exist, None if all does."""
    words = shlex.split(line.replace("…", ""))[1:]
    found: Any = made(app)
    parent = None
    while words and not words[0].startswith("-") and hasattr(found, "get_command"):
        name = words.pop(0)
        if parent is None and name in DEFERRED:
            command = made(importlib.import_module(DEFERRED[name][0]).app)
        else:
            command = found.get_command(None, name)
        if command is None:
            return f"there is no command {name}"
        parent, found = found, command
    options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in options | {"--help"}]
    return f"{found.name} has no {unknown[0]}" if unknown else None


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_in_the_pages_exists_with_these_options(page: str, line: str) -> None:
    assert complaint(line) is None, page


@pytest.mark.parametrize(
    "line", ["tally fly", "tally node fly", "tally chain fly", "tally pay --fast", "tally tower run --fast=1"]
)
def test_a_command_that_does_not_exist_would_be_noticed(line: str) -> None:
    assert complaint(line) is not None


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[Path, str]]:
    """Yield (page, target) of each link within the project."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if not target.startswith("http"):
                yield page, target


def test_every_link_between_the_pages_leads_somewhere() -> None:
    assert len(list(links())) > 10
    for page, target in links():
        name, _, anchor = target.partition("#")
        where = (page.parent / name).resolve() if name else page
        assert where.exists(), f"{page.name} points to {target}"
        if anchor:
            assert anchor in anchors(where), f"{page.name} points to {target}"


def test_no_page_holds_both_sides_of_a_merge() -> None:
    for page in PAGES:
        assert not re.search(r"^(<<<<<<<|=======|>>>>>>>)( |$)", page.read_text("utf-8"), flags=re.MULTILINE), page.name


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = set(re.findall(rf"`((?:{'|'.join((*PARTS, 'examples', 'tests', 'docs'))})/[\w/.]*)`", text))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_dependency_has_its_reason_in_the_architecture() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = settings["project"]
    listed = {re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]}
    groups = (*project["optional-dependencies"].values(), *settings["dependency-groups"].values())
    optional = [line for lines in groups for line in lines]
    development = {re.split(r"[\[<>=]", line)[0] for line in optional} - {"tallystick"}
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \|", text, flags=re.MULTILINE)
    given = {name for row in rows for name in re.findall(r"[\w-]+", row)}
    assert given == listed | development


def test_every_module_and_every_public_class_and_function_is_documented() -> None:
    missing = []
    for part in PARTS:
        for file in sorted((ROOT / part).rglob("*.py")):
            tree = ast.parse(file.read_text("utf-8"))
            if tree.body and ast.get_docstring(tree) is None:
                missing.append(str(file.relative_to(ROOT)))
            missing += [
                f"{file.relative_to(ROOT)}: {node.name}"
                for node in tree.body
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and not node.name.startswith("_")
                and ast.get_docstring(node) is None
            ]
    assert missing == []


def test_the_classes_of_the_benchmark_are_explained() -> None:
    text = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE) == list(CLASSES)


def test_pages_do_not_name_places_of_one_machine() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        assert not re.search(r"/(?:home|root|work|Users)/", text), page.name
