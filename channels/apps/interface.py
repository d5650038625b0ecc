"""What an app is: pure rules of a game, a contract or a custom between two players, a state and whose turn it is.

An app is a table of pure functions over bytes. Both players, every later start of their nodes, every validator and the
app's form as a contract must give the same answers for ever, so an app has no clock, no randomness, and no state of
its own: what it needs is in the state's bytes, which also carry its parameters.

In each state that is not final exactly one player moves, as two statements with one number must never be signed. Time
comes in only when somebody stalls: then the court counts, and once the clock has run out `forfeit` says what follows.
An app in which stalling has a meaning (an option that nobody exercised, an instalment that was not paid) says by `due`
before which chain time nobody can be called late.

A move may carry what somebody else signed (an arbiter, an oracle, members who vote). Such a statement is about one
instance, whose id the rules are told, or about a fact that is the same for everybody, at a time that the rules bound:
what was signed once must not count again elsewhere.

What is paid is at most each player's stake; `outcome` and `forfeit` are asked by the court, too, which clamps nothing:
it refuses. A property test holds every app that ships to that.

A state has one encoding: what is not a state of the app is refused by every function here with InvalidInput.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, TypeAlias

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak

Paid: TypeAlias = tuple[int, int]
"""How much of player 0's stake goes to player 1, and of player 1's to player 0."""

Stakes: TypeAlias = tuple[int, int]


class InvalidMove(InvalidInput):
    """The rules of the app forbid this move in this state: nothing was signed or sent."""


class App(ABC):
    """The rules of one app. Entries of the table have no state."""

    name: ClassVar[str]
    """Lower case, as `tally app open` takes it."""
    version: ClassVar[int]
    """Grows with every change of the rules: what is open goes on by those that it began with."""
    moves_most: ClassVar[int]
    """How many moves an instance can have at most: a dispute in court ends after so many periods."""
    gas: ClassVar[int]
    """What the simulated ledger charges for having the court look at one move; the cost of `play` is bounded."""

    rules: ClassVar[str]
    """keccak of the rules as `digest.digest_of` finds it in the app's source, 64 hex digits: pinned, so that a release,
    a Python or a formatter changes nothing, and a test says when rules changed under one version."""

    @property
    def id(self) -> bytes:
        """32 bytes: what terms name the app by, on the simulated ledger. Others' rules never have it."""
        return keccak(f"tallystick app {self.name}/{self.version}/{self.rules}".encode())

    @abstractmethod
    def init(self, stakes: Stakes, **parameters: Any) -> bytes:
        """Return the state to begin with; raise InvalidInput if these parameters make no sense with these stakes."""

    @abstractmethod
    def check(self, state: bytes, stakes: Stakes, expiry: int) -> None:
        """Raise InvalidInput unless `init` could have returned that state for these stakes: the peer proposes it.

        `expiry` is that of the terms. An app whose `due` would be later in any state is refused, too: after it the
        court takes up nothing that it does not know, and the stakes of others, who pass locks on, are not held.
        """

    @abstractmethod
    def turn(self, state: bytes) -> int | None:
        """Return which player moves, None if the state is final."""

    @abstractmethod
    def valid(self, state: bytes, move: bytes, by: int, instance: bytes) -> bytes:
        """Return the state that follows; raise InvalidMove if the rules forbid it, or it is not this player's turn.

        `instance` (32 bytes, `protocol.apps.instance_id`) is what statements that a move carries must be about.
        """

    @abstractmethod
    def outcome(self, state: bytes, stakes: Stakes) -> Paid:
        """Return what is paid if the app ends in this final state; raise InvalidInput if it is not final."""

    @abstractmethod
    def forfeit(self, state: bytes, stakes: Stakes) -> Paid:
        """Return what is paid if whose turn it is does not move in this state; raise InvalidInput if it is final."""

    def due(self, state: bytes) -> int:
        """Return the chain time before which whose turn it is cannot be late: 0 if the state is final."""
        return 0

    @abstractmethod
    def move(self, **words: Any) -> bytes:
        """Return a move that was said in words (`cell=4`), as bytes; raise InvalidInput."""

    @abstractmethod
    def describe(self, state: bytes) -> dict[str, Any]:
        """Return the state in words, for people and programs: plain values that JSON has."""


class AppTable:
    """All apps that this program plays, by id. Closed by the first look into it, as `conditions.kinds` says why."""

    def __init__(self, *apps: App) -> None:
        self._apps: dict[bytes, App] = {}
        self._closed = False
        for app in apps:
            self.register(app)

    def __repr__(self) -> str:
        return f"<AppTable {[app.name for app in self._apps.values()]}{' closed' if self._closed else ''}>"

    def register(self, app: App) -> None:
        """Add an app; raise InvalidInput if its id is taken, or if the table is in use already."""
        if self._closed:
            raise InvalidInput(f"the app {app.name} comes too late: register apps before a node is opened")
        if len(app.rules) != 64 or not set(app.rules) <= set("0123456789abcdef"):
            raise InvalidInput(f"the app {app.name} must pin its rules: 64 hex digits, as `rules_of` finds them")
        if app.id in self._apps:
            raise InvalidInput(f"an app {app.name}/{app.version} is registered already")
        self._apps[app.id] = app

    def find(self, app: bytes) -> App | None:
        """Return the app with that id, None if there is none."""
        self._closed = True
        return self._apps.get(app)

    def named(self, name: str) -> App:
        """Return the newest version of an app by its name; raise InvalidInput if there is none."""
        known = {app.name: app for app in sorted(self, key=lambda app: app.version)}
        if name not in known:
            raise InvalidInput(f"there is no app {name!r}: known are {', '.join(sorted(known))}")
        return known[name]

    def __iter__(self) -> Iterator[App]:
        self._closed = True
        return iter(self._apps.values())
