"""What each app that ships promises its honest player, whatever the other one does, its silence included."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from apps_play import APPS, FEED, INSTANCE, KEYS, Game, decision_move, games, price_move, seated, states, votes_move
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.apps.interface import InvalidMove, Paid
from tallystick.channels.apps.rps import commitment_of
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions.hash_lock import digest_of
from tallystick.channels.protocol.keys import keccak


def net(paid: Paid) -> int:
    """What player 0 has gained."""
    return paid[1] - paid[0]


def ending(game: Game, state: bytes) -> int:
    """Return what player 0 gains if both do what is best for them from here on: moving, or staying silent."""
    app, mover = game.app, game.app.turn(state)
    if mover is None:
        return net(app.outcome(state, game.stakes))
    gains = [net(app.forfeit(state, game.stakes))]
    gains += [ending(game, app.valid(state, move, mover, INSTANCE)) for move in game.legal(state)]
    return min(gains) if mover else max(gains)


@pytest.mark.parametrize("name", ["escrow", "option", "payout", "raffle", "rps"])
@given(data=st.data())
@settings(max_examples=15)
def test_nobody_gains_by_silence(name: str, data: st.DataObject) -> None:
    """Of whoever can move something better or as good is left, in every state; a secret that is kept back loses."""
    game, state = data.draw(states(name))
    mover = game.app.turn(state)
    if mover is None:
        return
    sign = -1 if mover else 1
    after = [ending(game, game.app.valid(state, move, mover, INSTANCE)) for move in game.legal(state)]
    assert sign * net(game.app.forfeit(state, game.stakes)) <= max(sign * gain for gain in after)


@pytest.mark.parametrize("name", ["connectfour", "raffle", "rps", "tictactoe"])
@given(data=st.data())
@settings(max_examples=15)
def test_who_is_silent_in_a_game_loses_its_stake(name: str, data: st.DataObject) -> None:
    game, state = data.draw(states(name))
    mover = game.app.turn(state)
    if mover is not None:
        assert game.app.forfeit(state, game.stakes) == seated(mover, game.stakes[mover], 0)


@given(data=st.data(), decided=st.integers(0, 20) | st.none(), default=st.integers(0, 20), buyer=st.integers(0, 1))
@settings(max_examples=40)
def test_an_escrow_ends_as_the_arbiter_says_or_as_agreed_if_it_is_silent(
    data: st.DataObject, decided: int | None, default: int, buyer: int
) -> None:
    """Once it is disputed, neither gets less than that by its best moves, or can hold a decision back."""
    app, stakes = APPS["escrow"], seated(buyer, 20, 0)
    terms = {"buyer": buyer, "arbiter": KEYS[0].address, "default": default, "deadline": 1, "decide": 2}
    start = app.init(stakes, **terms)

    def legal(state: bytes) -> list[bytes]:
        said = [each for each in app.describe(state)["moves"] if each != "decision"]
        return [app.move(do=each) for each in said] + ([] if decided is None else [decision_move(decided)])

    game = Game(app, stakes, start, legal)
    disputed = app.valid(start, app.move(do="dispute"), buyer, INSTANCE)
    to_seller = ending(game, disputed) * (1 if buyer else -1)
    assert to_seller == (default if decided is None else decided)
    assert app.forfeit(start, stakes) == seated(buyer, 20, 0), "a buyer that is silent has consented"


def test_a_decision_is_for_one_escrow_by_its_arbiter_and_within_the_price() -> None:
    app = APPS["escrow"]
    start = app.init((20, 0), buyer=0, arbiter=KEYS[0].address, default=5, deadline=1, decide=2)
    for move in (decision_move(7, keccak(b"another")), decision_move(7, key=KEYS[1]), decision_move(21)):
        with pytest.raises(InvalidMove):
            app.valid(start, move, 0, INSTANCE)
    assert app.outcome(app.valid(start, decision_move(7), 0, INSTANCE), (20, 0)) == (7, 0)
    with pytest.raises(InvalidInput, match="seller"):
        app.check(start, (20, 1), 2)
    changed = decision_move(7)[:16] + b"\x08" + decision_move(7)[17:]
    with pytest.raises(InvalidMove):
        app.valid(start, changed, 0, INSTANCE)


@given(data=st.data())
@settings(max_examples=60)
def test_an_option_pays_its_worth_rounded_down_and_always_the_premium(data: st.DataObject) -> None:
    """Never more than the cover; the writer has the premium whether it was exercised, given up or forgotten."""
    game: Game = data.draw(games("option"))
    app, terms = game.app, game.app.describe(game.start)
    premium, cover = game.stakes[terms["holder"]], game.stakes[1 - terms["holder"]]
    move = data.draw(st.sampled_from(game.legal(game.start)))
    state = app.valid(game.start, move, terms["holder"], INSTANCE)
    price = app.describe(state)["price"]
    exact = Fraction(0)
    if move:
        call = terms["kind"] == "call"
        difference = price - terms["strike"] if call else terms["strike"] - price
        exact = Fraction(terms["size"] * difference, price if call else terms["unit"])
    paid = app.outcome(state, game.stakes)
    assert paid[terms["holder"]] == premium == app.forfeit(game.start, game.stakes)[terms["holder"]]
    assert 0 <= exact - paid[1 - terms["holder"]] < 1 and paid[1 - terms["holder"]] <= cover
    assert app.forfeit(game.start, game.stakes)[1 - terms["holder"]] == 0


@pytest.mark.parametrize(
    ("price", "time", "words"),
    [
        (120, 9, {}),
        (120, 21, {}),
        (100, 15, {}),
        (99, 15, {}),
        (120, 15, {"feed": keccak(b"USD/EUR")}),
        (120, 15, {"key": KEYS[1]}),
    ],
    ids=["an old price", "a late price", "at the strike", "out of the money", "another feed", "another oracle"],
)
def test_an_option_is_exercised_at_a_price_of_its_oracle_feed_and_window_alone(
    price: int, time: int, words: dict[str, Any]
) -> None:
    app = APPS["option"]
    terms = {"kind": "call", "holder": 0, "oracle": KEYS[0].address, "feed": FEED, "strike": 100, "size": 60}
    start = app.init((3, 60), **terms, after=10, before=20, due=30)
    with pytest.raises(InvalidMove):
        app.valid(start, price_move(price, time, **words), 0, INSTANCE)
    for moment in (10, 20):
        assert app.outcome(app.valid(start, price_move(120, moment), 0, INSTANCE), (3, 60)) == (3, 10)
    for stakes in ((3, 59), (3, 61)):
        with pytest.raises(InvalidInput, match="cover"):
            app.check(start, stakes, 30)
    early = price_move(120, 9)
    with pytest.raises(InvalidMove):
        app.valid(start, (10).to_bytes(8, "big") + early[8:], 0, INSTANCE)


@given(data=st.data())
@settings(max_examples=25)
def test_a_loan_costs_the_borrower_what_is_owed_and_the_lender_nothing_more(data: st.DataObject) -> None:
    """What was paid back and what the collateral pays are all instalments, in every state; before it, nothing."""
    game, state = data.draw(states("loan"))
    app, terms = game.app, game.app.describe(state)
    count, borrower = len(terms["instalments"]), terms["borrower"]
    if terms["turn"] is None:
        assert terms["repaid"] == count and app.outcome(state, game.stakes) == (0, 0)
        return
    paid = app.forfeit(state, game.stakes)
    assert paid[1 - borrower] == 0
    whole = terms["worth"] * count if terms["drawn"] else 0
    assert terms["repaid"] * terms["worth"] + paid[borrower] == whole <= game.stakes[borrower]
    assert app.due(state) == (terms["first"] + terms["repaid"] * terms["every"] if terms["drawn"] else terms["lend"])


def test_a_receipt_counts_once_and_in_its_turn() -> None:
    app, secrets = APPS["loan"], [keccak(bytes([each])) for each in range(3)]
    hashes = [digest_of(each) for each in secrets]
    terms: dict[str, Any] = {"borrower": 0, "worth": 5, "lend": 1, "first": 2, "every": 1, "principal": hashes[0]}
    state = app.init((10, 0), **terms, instalments=hashes[1:])
    for player, place in ((1, 0), (0, 1)):
        for wrong in {0, 1, 2} - {place}:
            with pytest.raises(InvalidMove):
                app.valid(state, secrets[wrong], player, INSTANCE)
        state = app.valid(state, secrets[place], player, INSTANCE)
    with pytest.raises(InvalidMove):
        app.valid(state, secrets[1], 0, INSTANCE)
    with pytest.raises(InvalidInput, match="differ"):
        app.init((10, 0), **terms, instalments=[hashes[1], hashes[1]])
    with pytest.raises(InvalidInput, match="collateral"):
        app.init((9, 0), **terms, instalments=hashes[1:])


def test_a_pay_out_takes_as_many_votes_as_it_needs_for_this_amount_of_this_instance() -> None:
    app = APPS["payout"]
    with pytest.raises(InvalidInput, match="once"):
        app.init((100, 0), payee=1, members=[KEYS[0].address] * 3, needed=2, due=9)
    members = sorted(KEYS, key=lambda key: key.address)
    start = app.init((100, 0), payee=1, members=[key.address for key in KEYS], needed=3, due=9)
    voters = {0: members[0], 2: members[2], 4: members[4]}
    assert app.outcome(app.valid(start, votes_move(60, voters), 1, INSTANCE), (100, 0)) == (60, 0)
    right = votes_move(60, voters)
    wrong = [
        votes_move(60, {0: members[0], 2: members[2]}),
        votes_move(60, {**voters, 3: members[3]}),
        votes_move(101, voters),
        votes_move(0, voters),
        votes_move(60, voters, keccak(b"another")),
        votes_move(60, {0: members[0], 2: members[2], 4: members[2]}),
        votes_move(60, {0: members[0], 2: members[2], 3: members[4]}),
        votes_move(60, {0: members[0], 2: members[2], 5: members[4]}),
        right[:18] + votes_move(61, voters)[18:],
        right[:17] + b"\x05" + right[18:],
    ]
    for move in wrong:
        with pytest.raises(InvalidMove):
            app.valid(start, move, 1, INSTANCE)


@pytest.mark.parametrize("odds", [2, 3, 7])
def test_a_ticket_wins_once_in_as_many_draws_as_it_says(odds: int) -> None:
    """Over 3,000 numbers against one secret, within four standard deviations; it pays the prize or costs the price."""
    app, stakes, secret, draws = APPS["raffle"], (2, 2 * (odds - 1)), keccak(b"a secret"), 3_000
    start = app.init(stakes, holder=0, odds=odds, commitment=keccak(secret))
    gains = []
    for place in range(draws):
        state = app.valid(start, keccak(place.to_bytes(4, "big")), 1, INSTANCE)
        gains.append(net(app.outcome(app.valid(state, secret, 0, INSTANCE), stakes)))
    assert set(gains) == {-2, 2 * (odds - 1)}
    wins = sum(gain > 0 for gain in gains)
    assert abs(wins - draws / odds) < 4 * (draws * (odds - 1)) ** 0.5 / odds
    with pytest.raises(InvalidMove):
        app.valid(state, keccak(b"another secret"), 0, INSTANCE)


@pytest.mark.parametrize("mine", ["rock", "paper", "scissors"])
@pytest.mark.parametrize("other", ["rock", "paper", "scissors"])
def test_hands_beat_each_other_as_children_know(mine: str, other: str) -> None:
    app, salt = APPS["rps"], b"s" * 32
    beats = {("paper", "rock"), ("rock", "scissors"), ("scissors", "paper")}
    state = app.valid(app.init((5, 7), commitment=commitment_of(mine, salt)), app.move(hand=other), 1, INSTANCE)
    for hand in {"rock", "paper", "scissors"} - {mine}:
        with pytest.raises(InvalidMove):
            app.valid(state, app.move(hand=hand, salt=salt), 0, INSTANCE)
    state = app.valid(state, app.move(hand=mine, salt=salt), 0, INSTANCE)
    expected = (0, 7) if (mine, other) in beats else (5, 0) if (other, mine) in beats else (0, 0)
    assert app.outcome(state, (5, 7)) == expected


def test_a_column_that_is_full_takes_no_more_and_its_neighbour_does() -> None:
    app = APPS["connectfour"]
    state = app.init((1, 1))
    for number in range(6):
        state = app.valid(state, app.move(column=2), number % 2, INSTANCE)
    with pytest.raises(InvalidMove, match="not full"):
        app.valid(state, app.move(column=2), 0, INSTANCE)
    assert app.describe(app.valid(state, app.move(column=3), 0, INSTANCE))["rows"][-1] == "..XX..."


@given(st.data())
@settings(max_examples=30)
def test_connect_four_is_won_by_who_has_four_in_a_line(data: st.DataObject) -> None:
    """By an oracle of another kind: the board as a number, and shifts of it."""
    game, state = data.draw(states("connectfour"))

    def has_four(player: int) -> bool:
        bits = sum(1 << (7 * (cell // 6) + cell % 6) for cell in range(42) if state[cell] == 1 + player)
        return any(bits & bits >> by & bits >> 2 * by & bits >> 3 * by for by in (1, 6, 7, 8))

    winners = [player for player in (0, 1) if has_four(player)]
    assert game.app.describe(state)["winner"] == (winners[0] if winners else None)
    assert (game.app.turn(state) is None) == bool(winners or 0 not in state)
