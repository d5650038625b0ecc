"""What holds of every app that ships, in every state that it can come to, and for whatever bytes it is asked about."""

from __future__ import annotations

import json
from typing import Any

import pytest
from apps_play import APPS, FOR_ALL, INSTANCE, PARAMETERS, Game, damaged, games, states
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.apps.interface import App, InvalidMove
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.apps import MOVE_MAX, STATE_MAX
from tallystick.channels.protocol.keys import keccak

every_app = pytest.mark.parametrize("name", sorted(APPS))


def asked(app: App, state: bytes, stakes: tuple[int, int]) -> dict[str, Any]:
    """Return what the rules say of a state: a value, or the class of the error."""
    questions: dict[str, Any] = {
        "turn": lambda: app.turn(state),
        "due": lambda: app.due(state),
        "outcome": lambda: app.outcome(state, stakes),
        "forfeit": lambda: app.forfeit(state, stakes),
        "describe": lambda: json.dumps(app.describe(state)),
        "check": lambda: app.check(state, stakes, FOR_ALL),
    }
    answers = {}
    for name, question in questions.items():
        try:
            answers[name] = question()
        except InvalidInput:
            answers[name] = InvalidInput
    return answers


@every_app
@given(data=st.data())
@settings(max_examples=25)
def test_what_the_rules_say_of_a_state(name: str, data: st.DataObject) -> None:
    """To its end: who moves, what is paid within the stakes, how many moves it takes; and nobody else may move."""
    game: Game = data.draw(games(name))
    app, state = game.app, game.start
    app.check(state, game.stakes, FOR_ALL)
    for number in range(app.moves_most + 1):
        assert len(state) <= STATE_MAX
        said = asked(app, state, game.stakes)
        assert said == asked(app, state, game.stakes)
        final = app.turn(state) is None
        assert app.turn(state) in (0, 1, None) and 0 <= said["due"] <= (0 if final else FOR_ALL)
        assert (said["forfeit"] if final else said["outcome"]) is InvalidInput
        paid = said["outcome"] if final else said["forfeit"]
        assert all(0 <= each <= stake for each, stake in zip(paid, game.stakes, strict=True)), paid
        assert (said["check"] is None) == (number == 0)
        assert isinstance(said["describe"], str)
        if final:
            return
        mover = app.turn(state)
        move = data.draw(st.sampled_from(game.legal(state)))
        assert len(move) <= MOVE_MAX
        with pytest.raises(InvalidMove):
            app.valid(state, move, 1 - mover, INSTANCE)
        followed = app.valid(state, move, mover, INSTANCE)
        assert followed == app.valid(state, move, mover, INSTANCE) != state
        state = followed
    raise AssertionError("the game takes more moves than it may")


@every_app
@given(data=st.data())
@settings(max_examples=40)
def test_bytes_that_are_no_move_are_refused_and_no_error_is_another_one(name: str, data: st.DataObject) -> None:
    game, state = data.draw(states(name))
    app, mover = game.app, game.app.turn(state)
    move = data.draw(st.just(b"") | st.sampled_from(game.legal(state)) if mover is not None else st.binary(max_size=90))
    move = data.draw(damaged(move))
    for player in (0, 1):
        try:
            followed = app.valid(state, move, player, INSTANCE)
        except InvalidMove:
            continue
        assert player == mover, "nobody moves out of turn"
        assert asked(app, followed, game.stakes)["turn"] is not InvalidInput


@every_app
@given(data=st.data())
@settings(max_examples=40)
def test_bytes_that_are_no_state_are_refused_by_every_rule_alike(name: str, data: st.DataObject) -> None:
    """And what `check` takes is what `init` makes: the parameters that it describes give the same bytes again."""
    game, state = data.draw(states(name))
    state = data.draw(damaged(state))
    app, said = game.app, asked(game.app, state, game.stakes)
    assert said["due"] == 0 or (said["turn"] is InvalidInput) == (said["due"] is InvalidInput)
    assert (said["turn"] is InvalidInput) == (said["describe"] is InvalidInput)
    assert (said["outcome"] is InvalidInput) == (said["turn"] is not None)
    assert (said["forfeit"] is InvalidInput) == (said["turn"] not in (0, 1))
    if said["check"] is None:
        words = app.describe(state)
        assert app.init(game.stakes, **{each: words[each] for each in PARAMETERS[name]}) == state
    for player in (0, 1):
        try:
            app.valid(state, data.draw(st.binary(max_size=90)), player, INSTANCE)
        except InvalidInput as error:
            assert said["turn"] is InvalidInput or isinstance(error, InvalidMove)


@every_app
@given(data=st.data(), changes=st.tuples(st.sampled_from([-1, 0, 1]), st.sampled_from([-1, 0, 1])))
@settings(max_examples=25)
def test_stakes_that_are_agreed_to_are_enough_for_all_that_can_follow(
    name: str, data: st.DataObject, changes: tuple[int, int]
) -> None:
    """A peer proposes the first state with other stakes: it is refused, or nothing is paid beyond them."""
    game, state = data.draw(states(name))
    stakes = max(0, game.stakes[0] + changes[0]), max(0, game.stakes[1] + changes[1])
    try:
        game.app.check(game.start, stakes, FOR_ALL)
    except InvalidInput:
        return
    if name in ("escrow", "payout"):
        assert stakes == game.stakes
    said = asked(game.app, state, stakes)
    paid = said["outcome"] if said["turn"] is None else said["forfeit"]
    assert all(0 <= each <= stake for each, stake in zip(paid, stakes, strict=True))


@every_app
@given(data=st.data())
@settings(max_examples=15)
def test_what_is_due_is_due_before_the_terms_expire(name: str, data: st.DataObject) -> None:
    game, state = data.draw(states(name))
    latest = game.app.due(state)
    if latest:
        with pytest.raises(InvalidInput):
            game.app.check(game.start, game.stakes, latest - 1)


@every_app
@given(data=st.data())
@settings(max_examples=15)
def test_words_make_the_bytes_or_are_refused(name: str, data: st.DataObject) -> None:
    """Parameters and moves that nobody knows, or of other types, are refused in a sentence."""
    game: Game = data.draw(games(name))
    values = st.sampled_from([None, True, -1, 2, 2**128, "call", "0xfg", b"", b"\0" * 32, [None], [b"\1" * 20]])
    words = st.dictionaries(st.sampled_from([*PARAMETERS[name], "do", "cell", "hand", "paid", "members"]), values)
    for make in (lambda **said: game.app.init(game.stakes, **said), game.app.move):
        with pytest.raises(InvalidInput):
            make(**data.draw(words), unknown=1)
        try:
            made = make(**data.draw(words))
        except InvalidInput:
            continue
        assert isinstance(made, bytes)


@pytest.mark.parametrize("name", ["escrow", "payout"])
@given(data=st.data())
@settings(max_examples=10)
def test_what_was_signed_for_one_instance_counts_in_no_other(name: str, data: st.DataObject) -> None:
    game: Game = data.draw(games(name))
    move = game.legal(game.start)[-1]
    assert game.app.valid(game.start, move, game.app.turn(game.start), INSTANCE)
    with pytest.raises(InvalidMove):
        game.app.valid(game.start, move, game.app.turn(game.start), keccak(INSTANCE))
