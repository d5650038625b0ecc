"""What is against the structure is told by `make check`, each kind of it in a tree that was made up for it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulation.tools import load

ROOT = Path(__file__).resolve().parent.parent


structure = load("structure")

RULES: dict[str, Any] = {
    "packages": ["shop", "base"],
    "folders": ["tests"],
    "lines": 20,
    "kits": ["shop.bench"],
    "outside": ["trio", "sqlite3"],
    "shells": [],
    "entries": {"shop": 5, "base": 5},
    "floors": {"shop": ["bench", "till | stock", "errors"], "base": ["testing", "words"]},
}

Faults = Callable[..., list[str]]


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    """A function that writes files into an empty tree and returns what the tool says of it."""

    def write(files: dict[str, str], **rules: Any) -> list[str]:
        for folder in ("shop", "base", "tests"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "__init__.py").touch()
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text + "\n")
        return list(structure.faults(tmp_path, RULES | rules))

    return write


def test_what_goes_down_is_in_order(faults: Faults) -> None:
    files = {
        "shop/till/open.py": "from tallystick.shop import errors\nfrom tallystick.base.words import hello, bye",
        "shop/stock.py": "import tallystick.shop.errors\nimport trio",
        "shop/errors.py": "from tallystick.base import words",
        "shop/bench.py": "from tallystick.base.testing.clock import Clock\nfrom tallystick.shop.till.open import work",
        "base/testing/clock.py": "from ..words import hello",
        "base/words.py": "import trio",
        "tests/test_all.py": "from simulation import world",
    }
    assert faults(files, shells=["shop", "base"]) == []


@pytest.mark.parametrize(
    ("late", "text"),
    [
        ("", "from tallystick.shop.till.work import close"),
        ("", "import tallystick.shop.till.work"),
        ("", "from .work import close"),
        ("", "from tallystick.shop.till import work"),
        ("~", "def later():\n    from . import work"),
        ("~", "class Later:\n    async def work(self):\n        import tallystick.shop.till.work as work"),
        ("~", "if TYPE_CHECKING:\n    from tallystick.shop.till.work import close"),
        ("~", "if typing.TYPE_CHECKING:\n    from tallystick.shop.till.work import close"),
    ],
)
def test_a_ring_of_modules_is_told_whatever_the_import_looks_like(faults: Faults, late: str, text: str) -> None:
    files = {"shop/till/open.py": text, "shop/till/work.py": "from tallystick.shop.till.open import begin"}
    (told,) = faults(files)
    line = text.count("\n") + 1
    assert told == (
        f"a ring in shop.till: shop.till.open:{line} -> shop.till.work{late}; shop.till.work:1 -> shop.till.open"
    )


def test_a_ring_of_three_is_told_and_nothing_beside_it(faults: Faults) -> None:
    told = faults(
        {
            "shop/till/one.py": "from tallystick.shop.till import two",
            "shop/till/two.py": "from tallystick.shop.till import three",
            "shop/till/three.py": "from tallystick.shop.till import one, aside",
            "shop/till/above.py": "from tallystick.shop.till import one",
            "shop/till/aside.py": "",
        }
    )
    assert len(told) == 1 and told[0].startswith("a ring in shop.till: ")
    assert told[0].count("->") == 3 and "above" not in told[0] and "aside" not in told[0]


def test_rooms_in_a_ring_are_told_though_no_module_is(faults: Faults) -> None:
    files = {
        "base/testing/clock.py": "from tallystick.base.words.bye import bye",
        "base/testing/disk.py": "",
        "base/words/bye.py": "",
        "base/words/hello.py": "from tallystick.base.testing.disk import Disk",
    }
    ring = "a ring in base: base.testing.clock:1 -> base.words.bye; base.words.hello:1 -> base.testing.disk"
    assert ring in faults(files)


def test_rooms_within_a_room_go_in_no_ring_either(faults: Faults) -> None:
    told = faults(
        {
            "shop/till/drawer/coins.py": "from tallystick.shop.till.open import work",
            "shop/till/open.py": "from tallystick.shop.till.drawer.notes import count",
            "shop/till/drawer/notes.py": "",
        }
    )
    assert told == [
        "a ring in shop.till: shop.till.drawer.coins:1 -> shop.till.open; shop.till.open:1 -> shop.till.drawer.notes"
    ]


def test_an_arrow_to_a_package_above_is_told(faults: Faults) -> None:
    told = faults({"base/words.py": "def later():\n    from tallystick.shop.errors import Wrong", "shop/errors.py": ""})
    assert told == ["base.words:2 -> shop.errors~: base is below shop"]


def test_packages_in_a_ring_are_told(faults: Faults) -> None:
    told = faults(
        {
            "base/words.py": "from tallystick.shop.errors import Wrong",
            "shop/errors.py": "",
            "shop/stock.py": "from tallystick.base.words import hello",
        }
    )
    assert "a ring in packages: shop.stock:1 -> base.words; base.words:1 -> shop.errors" in told


def test_an_arrow_to_a_floor_above_or_to_the_side_is_told(faults: Faults) -> None:
    assert faults({"shop/errors.py": "from tallystick.shop import stock", "shop/stock.py": ""}) == [
        "shop.errors:1 -> shop.stock: errors is on floor 0, stock on 1"
    ]
    assert faults(
        {"shop/errors.py": "", "shop/stock.py": "import tallystick.shop.till.open", "shop/till/open.py": ""}
    ) == ["shop.stock:1 -> shop.till.open: stock is on floor 1, till on 1"]


def test_a_room_that_is_on_no_floor_is_told(faults: Faults) -> None:
    (told,) = faults({"shop/cellar.py": "from tallystick.shop import errors", "shop/errors.py": ""})
    assert told.startswith("shop.cellar is on no floor")


def test_a_module_that_is_no_shell_reaches_nothing_outside_by_whatever_it_imports(faults: Faults) -> None:
    files = {
        "shop/bench.py": "from tallystick.shop.till import open",
        "shop/till/open.py": "def later():\n    from tallystick.shop.till import drawer\n    import random, trios",
        "shop/till/drawer/__init__.py": "from tallystick.base import words",
        "shop/errors.py": "import random",
        "base/words.py": "from trio.abc import Clock",
    }
    way = "base.words -> trio.abc.Clock"
    assert faults(files, shells=["base.words"]) == [
        f"shop.bench is pure, but reaches what is outside: shop.till.open -> shop.till.drawer.__init__ -> {way}",
        f"shop.till.drawer.__init__ is pure, but reaches what is outside: {way}",
        f"shop.till.open is pure, but reaches what is outside: shop.till.drawer.__init__ -> {way}",
    ]
    assert faults(files, shells=["base", "shop.bench", "shop.till"]) == []
    assert faults(files, shells=["base", "shop"]) == []


def test_a_shell_that_reaches_nothing_outside_is_told(faults: Faults) -> None:
    files = {"shop/errors.py": "import random", "base/words.py": "import sqlite3"}
    assert faults(files, shells=["shop", "base.words", "base.gone"]) == [
        "base.gone reaches nothing outside: take it out of `shells`",
        "shop reaches nothing outside: take it out of `shells`",
    ]


@pytest.mark.parametrize("what", ["simulation.world", "tests.test_all"])
def test_the_product_imports_no_tests(faults: Faults, what: str) -> None:
    assert faults({"base/testing/world.py": f"import {what}"}) == [f"base.testing.world:1 imports {what}"]


def test_the_product_uses_no_test_kit(faults: Faults) -> None:
    told = faults({"shop/stock.py": "from tallystick.base.testing.clock import Clock", "base/testing/clock.py": ""})
    assert told == ["shop.stock:1 -> base.testing.clock: the product uses a test kit"]


def test_a_folder_that_holds_too_much_is_told(faults: Faults) -> None:
    assert faults({"shop/errors.py": "", "shop/more.txt": ""}, entries={"shop": 2}) == [
        "shop/ has 3 entries, more than 2: __init__.py errors.py more.txt"
    ]


def test_a_long_file_is_told_wherever_it_is(faults: Faults) -> None:
    files = {"shop/errors.py": 20 * "\n", "tests/unit/test_long.py": 21 * "\n", "base/words.py": 19 * "\n"}
    told = ["shop/errors.py has 21 lines, more than 20", "tests/unit/test_long.py has 22 lines, more than 20"]
    assert faults(files) == told


def test_lines_of_the_product_are_those_without_kits_and_benchmarks(faults: Faults, tmp_path: Path) -> None:
    faults(
        {"shop/till/open.py": "1\n2", "shop/stock.py": "1", "shop/bench/direct.py": "1", "base/testing/disk.py": "1"}
    )
    assert structure.product(tmp_path, RULES["packages"]) == {"shop": 3, "base": 0}


def test_every_kit_is_one_that_users_are_told_of_or_that_these_and_the_benchmark_use() -> None:
    tree = structure.read(ROOT, ("channels", "paid", "router", "sdk", "settlement", "watchtower"))
    kits = {place for place in tree.lines if "testing" in place and place[-1] != "__init__"}
    told = "".join((ROOT / "docs" / "sdk.md").read_text("utf-8").split("## Testing your program")[1:])
    names = {place: place[-2] if place[-1] == "__main__" else place[-1] for place in kits}
    needed = {place for place, name in names.items() if re.search(rf"\b{name}\b", told)}
    assert len(needed) > 6
    needed |= {place for place in tree.lines if place[:2] == ("sdk", "bench")}
    for _ in tree.lines:
        needed |= {arrow.target for arrow in tree.arrows if arrow.source in needed}
    assert kits - needed == set()


def test_this_tree_is_as_it_is_drawn() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["structure"]
    assert list(structure.faults(ROOT, rules)) == []
    drawn = list(structure.drawn(ROOT, rules))
    assert [line.split(":")[0] for line in drawn if line[0] != " "] == rules["packages"]
    assert len(drawn) == len(rules["packages"]) + len(structure.floors(rules))
