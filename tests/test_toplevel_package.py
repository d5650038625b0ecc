"""`import tallystick` offers the main names, costs nothing, and is the same from a wheel, an sdist and in place."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import tallystick
from tallystick import _moved
from tallystick.sdk.node.running import open_node

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tallystick" / "__init__.py"


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that knows nothing of this checkout; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_name_is_the_one_of_its_module() -> None:
    assert tallystick.open_node is open_node
    for name in tallystick.__all__:
        found = getattr(tallystick, name)
        home = getattr(found, "__module__", None)
        if name not in ("NATIVE", "__version__") and home is not None:
            assert getattr(importlib.import_module(home), name) is found
    assert set(tallystick.__all__) <= set(dir(tallystick))
    with pytest.raises(AttributeError, match="no attribute 'open_nodes'"):
        _ = tallystick.open_nodes


def test_type_checkers_and_python_are_told_the_same() -> None:
    (checked,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    told: dict[str, str] = {}
    for line in checked.body:
        assert isinstance(line, ast.ImportFrom) and line.module is not None
        told |= {alias.name: line.module for alias in line.names}
    assert told == {name: f"tallystick.{module}" for module, names in tallystick._HOMES.items() for name in names}
    assert sorted([*told, "__version__"]) == sorted(tallystick.__all__)


def test_the_version_is_that_of_what_is_installed() -> None:
    assert tallystick.__version__ == importlib.metadata.version("tallystick")


def test_importing_it_loads_nothing_heavy() -> None:
    program = "import sys, tallystick; print(*(name for name in sys.modules if name[:5] in ('tally', 'trio', 'sqlit')))"
    assert run(sys.executable, "-I", "-c", program, cwd=ROOT).split() == ["tallystick._moved", "tallystick"]


def test_nothing_inside_imports_from_the_top() -> None:
    """Names at the top are for users: inside, each comes from its own module. The version alone is at home there."""
    for folder in ("channels", "contracts", "paid", "router", "sdk", "settlement", "watchtower"):
        for file in (ROOT / folder).rglob("*.py"):
            found = re.findall(r"^ *(?:from|import) tallystick(?: .*)?$", file.read_text(), flags=re.MULTILINE)
            assert set(found) <= {"from tallystick import __version__"}, file


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist of this tree, and the wheel that is built from the sdist as users' pip does it."""
    folder = tmp_path_factory.mktemp("built")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree)
    for part in ("channels", "contracts", "paid", "router", "sdk", "settlement", "src", "watchtower"):
        shutil.copytree(
            ROOT / part, tree / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    build = "import sys, setuptools.build_meta as m; m.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=tree)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    wheel = "import sys, setuptools.build_meta as m; m.build_wheel(sys.argv[1])"
    run(sys.executable, "-c", wheel, folder, cwd=folder / f"tallystick-{tallystick.__version__}")
    return folder


@pytest.mark.processes
def test_a_wheel_from_the_sdist_works_in_an_environment_of_its_own(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    purelib = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(purelib)
        packed = {Path(name) for name in archive.namelist()}
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # without the links to this tree
    on_disk = {
        Path("tallystick") / file.relative_to(ROOT)
        for part in ("channels", "contracts", "paid", "router", "sdk", "settlement", "watchtower")
        for file in (ROOT / part).rglob("*")
        if file.suffix in (".py", ".vy", ".vyi") or (file.parent.name == "artifacts" and file.suffix == ".json")
    }
    own = {Path("tallystick") / name for name in ("__init__.py", "_moved.py", "py.typed")}
    assert {name for name in packed if name.parts[0] == "tallystick"} == on_disk | own
    where = (
        "import tallystick, tallystick.channels.protocol.core as core;"
        "print(tallystick.__version__, tallystick.__file__, core.__file__, tallystick.open_node.__module__)"
    )
    version, top, core, module = run(python, "-I", "-W", "error", "-c", where, cwd=tmp_path).split()
    assert version == tallystick.__version__ and module == "tallystick.sdk.node.running"
    assert Path(top).is_relative_to(purelib) and Path(core).is_relative_to(purelib)
    old = (
        "from importlib import import_module; from tallystick._moved import MODULES, NAMES;"
        "found = [import_module(f'tallystick.{name}') for name in MODULES];"
        "found += [getattr(import_module(f'tallystick.{name}'), each) for name in NAMES for each in NAMES[name]];"
        "from tallystick.channels.core import Phase; from tallystick.sdk.node import open_node;"
        "print(len(found), Phase.__module__, open_node.__module__)"
    )
    count, *modules = run(python, "-I", "-W", "ignore", "-c", old, cwd=tmp_path).split()
    assert int(count) == len(_moved.MODULES) + sum(map(len, _moved.NAMES.values()))
    assert modules == ["tallystick.channels.protocol.core", "tallystick.sdk.node.running"]
    compiled = "from tallystick.contracts import artifact; print(len(artifact().bytecode))"
    assert int(run(python, "-I", "-W", "error", "-c", compiled, cwd=tmp_path)) > 10_000
    kits = "import tallystick.sdk.cli.bench, tallystick.sdk.testing.world"
    run(python, "-I", "-W", "error", "-c", kits, cwd=tmp_path)


def test_what_is_installed_holds_no_campaign_and_no_demo(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.namelist()
    assert len(packed) > 200
    assert [name for name in packed if re.search("simulation|campaign|storm|demo|examples|test_", name)] == []
