"""An app's id is the hash of its rules: it changes with them, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.channels.apps import tictactoe
from tallystick.channels.apps.digest import digest_of
from tallystick.channels.apps.interface import App, AppTable
from tallystick.channels.apps.table import SHIPPED
from tallystick.channels.errors import InvalidInput
from tallystick.sdk.testing.apps import rules_of

SOURCE = Path(str(tictactoe.__file__)).read_text("utf-8")


def digest(source: str) -> str:
    return digest_of({"here": source}, "here", "TicTacToe")


@pytest.mark.parametrize("app", SHIPPED, ids=lambda app: f"{app.name}-{app.version}")
def test_the_rules_are_those_that_are_pinned(app: App) -> None:
    """They are what players signed for: nobody may find other rules under the same id.

    Where this fails, rules changed. Leave the old class as it was (its module may move, and must be importable as
    long as an instance may be open), give the new one `version` + 1 and this digest, and put both into the table.
    If nothing has been released under this version yet, pinning the new digest is enough.
    """
    assert app.rules == rules_of(type(app)), f"{app.name}/{app.version}: its rules now are {rules_of(type(app))}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A game of at most nine moves.", "Nine moves."),
        ("it is not player {by}'s turn", "wait, {by}"),
        ("drawn = ", "shown = "),
        ("return _EMPTY", "return bytes(9)"),
        ("def _look(state: bytes) -> None:", "def _look(state):  # strictly"),
        ("\n\n\ndef _winner", "\n\n\nclass Unused:\n    pass\n\n\ndef _winner"),
    ],
)
def test_words_forms_and_types_are_no_rules(before: str, after: str) -> None:
    assert before in SOURCE
    assert digest(SOURCE.replace(before, after)) == digest(SOURCE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("(2, 4, 6))", "(2, 4, 7))"),
        ("move[0] > 8", "move[0] > 7"),
        ("_EMPTY = bytes(9)", "_EMPTY = bytes(8)"),
        ("== state[second]", "!= state[second]"),
        ("return _lost(loser, stakes)", "return _lost(1 - loser, stakes)"),
        ("raise InvalidMove(f", "raise InvalidInput(f"),
        ("moves_most = 9", "moves_most = 8"),
        ("stakes[1] if loser == 1", "stakes[0] if loser == 1"),
    ],
)
def test_any_rule_changes_it(before: str, after: str) -> None:
    assert before in SOURCE
    assert digest(SOURCE.replace(before, after)) != digest(SOURCE)


def test_a_rule_in_another_module_of_apps_counts() -> None:
    """What a class imports from a module that is followed is a rule, by what it does and not by where it stands."""
    own = "from there import helper as aid\nclass Game:\n    def valid(self): return aid(1)\n"
    first, second = "def helper(x): return x + 1\n", "def helper(x): return x + 2\n"
    assert digest_of({"here": own, "there": first}, "here", "Game") == digest_of(
        {"here": own, "there": first + "def other(): pass\n"}, "here", "Game"
    )
    assert digest_of({"here": own, "there": first}, "here", "Game") != digest_of(
        {"here": own, "there": second}, "here", "Game"
    )


def test_no_two_apps_have_one_id_and_none_is_without_pinned_rules() -> None:
    assert len({app.id for app in SHIPPED}) == len(SHIPPED)

    class Loose(tictactoe.TicTacToe):
        rules = "as I like"

    class Newer(tictactoe.TicTacToe):
        version = 2

    class Other(tictactoe.TicTacToe):
        rules = "0" * 64

    assert len({app.id for app in (Newer(), Other(), tictactoe.TicTacToe())}) == 3
    with pytest.raises(InvalidInput, match="pin its rules"):
        AppTable(Loose())
    with pytest.raises(InvalidInput, match="there is no"):
        digest_of({"here": "x = 1"}, "here", "Game")
