"""A call or a put between a writer and a holder, covered in full, settled in cash by a price that an oracle signed.

The writer's stake is the cover, in what it is settled in: of a call on `size` units those units, of a put what they
cost at the strike. The holder's stake is the premium, which the writer gets in every ending. Prices are units of cash
for `unit` units of what is traded. The holder shows a price of the feed whose time is within the window and has the
difference: of a call `size * (price - strike) // price`, of a put `size * (strike - price) // unit`, never more than
the cover. Who does not by `due` lets the option lapse. The writer never moves, so it can stall nothing.

State: kind (1: 0 call, 1 put) ‖ holder (1) ‖ oracle (20) ‖ feed (32) ‖ strike, size, unit (16 each) ‖ window: after,
before (8 each) ‖ due (8) ‖ stage (1: 0 open, 1 exercised, 2 lapsed) ‖ price (16: 0 unless exercised).
Move: time (8) ‖ price (16) ‖ signature (64) to exercise, nothing to let it lapse.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tallystick.channels.apps.fields import Words, number, packed, seat, split
from tallystick.channels.apps.interface import App, InvalidMove, Paid, Stakes
from tallystick.channels.apps.statements import digest_price
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.keys import is_signed
from tallystick.channels.protocol.objects import Address

_CALL, _PUT = 0, 1
_OPEN, _EXERCISED, _LAPSED = 0, 1, 2
_KINDS, _STAGES = ("call", "put"), ("open", "exercised", "lapsed")


class _OptionState(NamedTuple):
    kind: int
    holder: int
    oracle: Address
    feed: bytes
    strike: int
    size: int
    unit: int
    after: int
    before: int
    due: int
    stage: int
    price: int

    @property
    def worth(self) -> int:
        """What the writer owes at this price."""
        if self.kind == _CALL:
            return self.size * (self.price - self.strike) // self.price
        return self.size * (self.strike - self.price) // self.unit

    @property
    def cover(self) -> int:
        """The most that it can owe."""
        return self.size if self.kind == _CALL else self.size * self.strike // self.unit


class Option(App):
    """One move of the holder, or none."""

    name = "option"
    version = 1
    moves_most = 1
    gas = 120_000
    rules = "9a79f1b659c536ef3203baf6c65747aca0da7cbf5e02e047804b654b22ebefc9"

    def init(self, stakes: Stakes, **parameters: Any) -> bytes:
        """Take `kind` (call, put), `holder`, `oracle`, `feed`, `strike`, `size`, `unit`, `after`, `before`, `due`.

        Amounts in the assets' units, times in chain time. Raise InvalidInput if the writer's stake is not the cover.
        """
        words = Words(parameters)
        state = _OptionState(
            kind=words.choice("kind", *_KINDS),
            holder=words.number("holder", 1),
            oracle=Address(words.data("oracle", 20)),
            feed=words.data("feed", 32),
            strike=words.number("strike", AMOUNT_MAX),
            size=words.number("size", AMOUNT_MAX),
            unit=words.number("unit", AMOUNT_MAX, default=1),
            after=words.number("after", UINT64_MAX),
            before=words.number("before", UINT64_MAX),
            due=words.number("due", UINT64_MAX),
            stage=_OPEN,
            price=0,
        )
        words.end()
        self.check(_write(state), stakes, state.due)
        return _write(state)

    def check(self, state: bytes, stakes: Stakes, expiry: int) -> None:
        """The writer's stake must be the cover, and nothing may be due after the expiry."""
        seen = _read(state)
        if seen.stage != _OPEN or seen.due > expiry:
            raise InvalidInput("an option begins unexercised, and is due before its terms expire")
        if stakes[1 - seen.holder] != seen.cover:
            raise InvalidInput(f"the writer of this option stakes its cover, {seen.cover}")

    def turn(self, state: bytes) -> int | None:
        """Return the holder, until it has exercised or given up."""
        seen = _read(state)
        return seen.holder if seen.stage == _OPEN else None

    def valid(self, state: bytes, move: bytes, by: int, instance: bytes) -> bytes:
        """Exercise at a price that is signed, of the feed and the window, and worth something; or let it lapse."""
        seen = _read(state)
        if seen.stage != _OPEN or by != seen.holder:
            raise InvalidMove(f"it is not player {by}'s turn")
        if not move:
            return _write(seen._replace(stage=_LAPSED))
        if len(move) != 88:
            raise InvalidMove("a move is a signed price, or nothing")
        time, price = number(move[:8]), number(move[8:24])
        if not seen.after <= time <= seen.before:
            raise InvalidMove(f"the price is of {time}, not from {seen.after} to {seen.before}")
        if not _is_worth(seen, price):
            raise InvalidMove(f"at {price} the option is worth nothing")
        if not is_signed(digest_price(seen.feed, price, time), move[24:], seen.oracle):
            raise InvalidMove("the price is not signed by the oracle")
        return _write(seen._replace(stage=_EXERCISED, price=price))

    def outcome(self, state: bytes, stakes: Stakes) -> Paid:
        """The premium, and what the option is worth if it was exercised."""
        seen = _read(state)
        if seen.stage == _OPEN:
            raise InvalidInput("the option is open")
        return _settled(seen, seen.worth if seen.stage == _EXERCISED else 0, stakes)

    def forfeit(self, state: bytes, stakes: Stakes) -> Paid:
        """The option has lapsed: the premium alone."""
        seen = _read(state)
        if seen.stage != _OPEN:
            raise InvalidInput("the option has ended")
        return _settled(seen, 0, stakes)

    def due(self, state: bytes) -> int:
        """Return until when the holder may exercise."""
        seen = _read(state)
        return seen.due if seen.stage == _OPEN else 0

    def move(self, **words: Any) -> bytes:
        """`price`, `time`, `signature` to exercise; nothing to let it lapse."""
        if not words:
            return b""
        said = Words(words)
        price, time = said.number("price", AMOUNT_MAX), said.number("time", UINT64_MAX)
        signature = said.data("signature", 64)
        said.end()
        return packed((time, 8), (price, 16)) + signature

    def describe(self, state: bytes) -> dict[str, Any]:
        """Return the terms, and what came of them."""
        seen = _read(state)
        words = seen._asdict() | {"kind": _KINDS[seen.kind], "stage": _STAGES[seen.stage], "cover": seen.cover}
        return words | {"oracle": seen.oracle.hex(), "feed": seen.feed.hex(), "turn": self.turn(state)}


def _read(state: bytes) -> _OptionState:
    kind, holder, oracle, feed, strike, size, unit, after, before, due, stage, price = split(
        state, 1, 1, 20, 32, 16, 16, 16, 8, 8, 8, 1, 16
    )
    numbers = tuple(number(field) for field in (strike, size, unit, after, before, due, stage, price))
    seen = _OptionState(number(kind), seat(holder), Address(oracle), feed, *numbers)
    if seen.kind > _PUT or seen.stage > _LAPSED or oracle == bytes(20):
        raise InvalidInput("this is no state of an option")
    if not (seen.strike and seen.size and seen.unit and seen.after <= seen.before <= seen.due):
        raise InvalidInput("an option has a strike, a size, a unit, and a window that ends before it is due")
    if not 1 <= seen.cover <= AMOUNT_MAX:
        raise InvalidInput("the cover of an option is an amount")
    if not (_is_worth(seen, seen.price) if seen.stage == _EXERCISED else seen.price == 0):
        raise InvalidInput("an option holds a price if it was exercised at it")
    return seen


def _write(state: _OptionState) -> bytes:
    window = packed((state.after, 8), (state.before, 8), (state.due, 8))
    amounts = packed((state.strike, 16), (state.size, 16), (state.unit, 16))
    head = packed((state.kind, 1), (state.holder, 1)) + state.oracle + state.feed
    return head + amounts + window + packed((state.stage, 1), (state.price, 16))


def _is_worth(state: _OptionState, price: int) -> bool:
    return price > state.strike if state.kind == _CALL else price < state.strike


def _settled(state: _OptionState, worth: int, stakes: Stakes) -> Paid:
    premium = stakes[state.holder]
    return (premium, worth) if state.holder == 0 else (worth, premium)
