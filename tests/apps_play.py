"""What players of each app that ships can do: a game to begin with, and every kind of move that is legal in a state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from hypothesis import strategies as st

from tallystick.channels.apps.interface import App, Stakes
from tallystick.channels.apps.rps import commitment_of
from tallystick.channels.apps.statements import digest_decision, digest_price, digest_vote
from tallystick.channels.apps.table import SHIPPED
from tallystick.channels.protocol.keys import PrivateKey, keccak

INSTANCE = keccak(b"an instance")
KEYS = [PrivateKey(bytes([byte]) * 32) for byte in range(1, 6)]
ORACLE = ARBITER = KEYS[0]
FEED = keccak(b"EUR/USD")
FOR_ALL = 10_000
"""A time by which everything here is due."""
APPS: dict[str, App] = {app.name: app for app in SHIPPED}
PARAMETERS = {
    "option": ("kind", "holder", "oracle", "feed", "strike", "size", "unit", "after", "before", "due"),
    "escrow": ("buyer", "arbiter", "default", "deadline", "decide"),
    "loan": ("borrower", "worth", "lend", "first", "every", "principal", "instalments"),
    "payout": ("payee", "members", "needed", "due"),
    "raffle": ("holder", "odds", "commitment"),
    "rps": ("commitment",),
    "tictactoe": (),
    "connectfour": (),
}
"""What `init` takes, by the names under which `describe` tells it."""


class Legal(Protocol):
    """Returns moves of whose turn it is in a state, of an instance that what they carry is about."""

    def __call__(self, state: bytes, instance: bytes = INSTANCE) -> list[bytes]: ...


class Game(NamedTuple):
    """A game that can be played."""

    app: App
    stakes: Stakes
    start: bytes
    legal: Legal


def seated(player: int, stake: int, other: int) -> Stakes:
    return (stake, other) if player == 0 else (other, stake)


def option(draw: Any, **fixed: Any) -> Game:
    app = APPS["option"]
    amounts = st.integers(1, 50) | st.integers(1, 2**60)
    holder, strike, size, unit = draw(st.integers(0, 1)), draw(amounts), draw(amounts), draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["call", "put"]))
    size = size * unit
    cover = size if kind == "call" else size * strike // unit
    after = draw(st.integers(0, 100))
    before = after + draw(st.integers(0, 100))
    stakes = seated(holder, draw(st.integers(0, 9)), cover)
    terms = {"kind": kind, "holder": holder, "oracle": ORACLE.address, "feed": FEED, "strike": strike, "size": size}
    start = app.init(stakes, **terms, unit=unit, after=after, before=before, due=before + 50)
    prices = [strike + draw(amounts)] if kind == "call" else [draw(st.integers(0, strike - 1)), 0]

    def legal(state: bytes, instance: bytes = INSTANCE) -> list[bytes]:
        times = {after, before}
        return [b"", *(price_move(price, time) for price in prices for time in sorted(times))]

    return Game(app, stakes, start, legal)


def price_move(price: int, time: int, feed: bytes = FEED, key: PrivateKey = ORACLE) -> bytes:
    return APPS["option"].move(price=price, time=time, signature=key.sign(digest_price(feed, price, time)))


def escrow(draw: Any) -> Game:
    app = APPS["escrow"]
    price, buyer = draw(st.integers(1, 2**128 - 1) | st.integers(1, 9)), draw(st.integers(0, 1))
    stakes = seated(buyer, price, 0)
    decided, default = draw(st.integers(0, price)), draw(st.integers(0, price))
    start = app.init(stakes, buyer=buyer, arbiter=ARBITER.address, default=default, deadline=100, decide=200)

    def legal(state: bytes, instance: bytes = INSTANCE) -> list[bytes]:
        said = app.describe(state)["moves"]
        return [decision_move(decided, instance) if each == "decision" else app.move(do=each) for each in said]

    return Game(app, stakes, start, legal)


def decision_move(paid: int, instance: bytes = INSTANCE, key: PrivateKey = ARBITER) -> bytes:
    return APPS["escrow"].move(do="decision", paid=paid, signature=key.sign(digest_decision(instance, paid)))


def loan(draw: Any) -> Game:
    app = APPS["loan"]
    count, borrower, worth = draw(st.integers(1, 16)), draw(st.integers(0, 1)), draw(st.integers(1, 2**100))
    secrets = [keccak(bytes([place])) for place in range(count + 1)]
    hashes = [hashlib.sha256(secret).digest() for secret in secrets]
    stakes = seated(borrower, worth * count + draw(st.integers(0, 3)), 0)
    terms: dict[str, Any] = {"borrower": borrower, "worth": worth, "principal": hashes[0], "instalments": hashes[1:]}
    start = app.init(stakes, **terms, lend=100, first=200, every=draw(st.integers(0, 300)))

    def legal(state: bytes, instance: bytes = INSTANCE) -> list[bytes]:
        said = app.describe(state)
        return [secrets[said["drawn"] + said["repaid"]]]

    return Game(app, stakes, start, legal)


def payout(draw: Any) -> Game:
    app = APPS["payout"]
    payee, most = draw(st.integers(0, 1)), draw(st.integers(1, 2**128 - 1) | st.integers(1, 3))
    members = sorted(KEYS[: draw(st.integers(1, 5))], key=lambda key: key.address)
    needed, paid = draw(st.integers(1, len(members))), draw(st.integers(1, most))
    stakes = seated(1 - payee, most, 0)
    start = app.init(stakes, payee=payee, members=[key.address for key in members], needed=needed, due=300)
    who = draw(st.permutations(range(len(members))))[:needed]

    def legal(state: bytes, instance: bytes = INSTANCE) -> list[bytes]:
        return [votes_move(paid, {place: members[place] for place in who}, instance)]

    return Game(app, stakes, start, legal)


def votes_move(paid: int, voters: dict[int, PrivateKey], instance: bytes = INSTANCE) -> bytes:
    signatures = [key.sign(digest_vote(instance, paid)) for key in voters.values()]
    return APPS["payout"].move(paid=paid, members=list(voters), signatures=signatures)


def raffle(draw: Any) -> Game:
    app = APPS["raffle"]
    holder, odds = draw(st.integers(0, 1)), draw(st.integers(2, 5) | st.integers(2, 2**32 - 1))
    price, secret = draw(st.integers(1, 9)), draw(st.binary(min_size=32, max_size=32))
    named = draw(st.binary(min_size=32, max_size=32).filter(any))
    stakes = seated(holder, price, price * (odds - 1))
    start = app.init(stakes, holder=holder, odds=odds, commitment=keccak(secret))

    def legal(state: bytes, instance: bytes = INSTANCE) -> list[bytes]:
        return [named if app.turn(state) else secret]

    return Game(app, stakes, start, legal)


def rps(draw: Any) -> Game:
    app, salt = APPS["rps"], draw(st.binary(min_size=32, max_size=32))
    hands = ["rock", "paper", "scissors"]
    mine = draw(st.sampled_from(hands))

    def legal(state: bytes, instance: bytes = INSTANCE) -> list[bytes]:
        return [app.move(hand=hand) for hand in hands] if app.turn(state) else [app.move(hand=mine, salt=salt)]

    stakes = draw(st.sampled_from([(5, 5), (0, 3), (2**128 - 1, 1)]))
    return Game(app, stakes, app.init(stakes, commitment=commitment_of(mine, salt)), legal)


def board(name: str, moves: int) -> Callable[[Any], Game]:
    """Return a game on a board, of which a move is one byte: where."""

    def play(draw: Any) -> Game:
        app, stakes = APPS[name], draw(st.sampled_from([(5, 7), (0, 3), (2**128 - 1, 1)]))

        def legal(state: bytes, instance: bytes = INSTANCE) -> list[bytes]:
            full = {place for place in range(moves) if state[place if moves == 9 else place * 6 + 5]}
            return [bytes([place]) for place in range(moves) if place not in full]

        return Game(app, stakes, app.init(stakes), legal)

    return play


_PLAYS: dict[str, Callable[[Any], Game]] = {
    "option": option,
    "escrow": escrow,
    "loan": loan,
    "payout": payout,
    "raffle": raffle,
    "rps": rps,
    "tictactoe": board("tictactoe", 9),
    "connectfour": board("connectfour", 7),
}
assert set(_PLAYS) == set(APPS), "each app that ships can be played here"


@st.composite
def games(draw: Any, name: str) -> Game:
    """A game of that app, with any parameters."""
    return _PLAYS[name](draw)


@st.composite
def states(draw: Any, name: str) -> tuple[Game, bytes]:
    """A game, and a state that it can come to."""
    game = draw(games(name))
    state = game.start
    for _ in range(draw(st.integers(0, game.app.moves_most))):
        if game.app.turn(state) is None:
            break
        state = game.app.valid(state, draw(st.sampled_from(game.legal(state))), game.app.turn(state), INSTANCE)
    return game, state


@st.composite
def damaged(draw: Any, data: bytes) -> bytes:
    """Bytes that are much like these, or not at all."""
    how = draw(st.sampled_from(["flip", "set", "cut", "longer", "any"]))
    if how == "any" or not data:
        other: bytes = draw(st.binary(max_size=2 * len(data) + 4))
        return other
    at: int = draw(st.integers(0, len(data) - 1))
    if how == "cut":
        return data[:at]
    if how == "longer":
        more: bytes = draw(st.binary(min_size=1, max_size=40))
        return data + more
    byte = data[at] ^ (1 << draw(st.integers(0, 7))) if how == "flip" else draw(st.integers(0, 255))
    return data[:at] + bytes([byte]) + data[at + 1 :]
