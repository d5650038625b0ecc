"""The vocabulary of the control API for apps between two players. See `views`, whose rules hold here too.

All pairs are (own, the peer's), whichever player this node is.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from tallystick.sdk.control import kinds

Words: TypeAlias = dict[str, int | str | list[int | str]]
"""What an app takes, by name: numbers, texts (bytes in hex), and lists of these. `AppRules` says which."""

# --- requests ---------------------------------------------------------------------------------------------------


class OpenApp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An app to be proposed to the peer of a channel, in which this node's stake is locked."""

    channel: kinds.Named
    app: kinds.AppName
    stake: kinds.Size
    """This node's; 0: none."""
    peer_stake: kinds.Size | None = None
    """Null: as much as this node's."""
    parameters: Words = {}
    """The app's own: `GET /apps/rules` lists them."""
    expiry: kinds.Second | None = None
    """Chain time until which the stakes are locked at most, unless the court has heard of it; null: a day from now."""
    period: kinds.Period = 600
    """Seconds of chain time that a player has for a move in court."""
    wait: bool = False
    """Whether the answer comes once it has begun, or came to nothing; else once it is proposed."""


class AcceptApp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Yes to what a peer proposed."""

    channel: kinds.Named | None = None
    """In which this node's stake is locked; null: any with that peer that has room."""
    wait: bool = True
    """Whether the answer comes once it has begun, or came to nothing; else once that is on its way."""


class RefuseApp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No to what a peer proposed, or to what this node proposed and has not begun."""

    why: kinds.Reasons = ""
    """The peer is told."""


class MoveApp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A move in an app."""

    move: Words
    """In the app's words: `GET /apps/rules` lists them."""
    number: kinds.Count | None = None
    """Of the state that the move leads to: it is refused if the app has come that far. So it can be asked again."""
    wait: bool = True
    """Whether the answer comes once the other has it, or once it is signed and on disk."""


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an app ends."""

    gets: kinds.Size = 0
    """What this node gets of the peer's stake; the rest of that goes back."""
    pays: kinds.Size = 0
    """What the peer gets of this node's stake."""


class AskedApps(msgspec.Struct, frozen=True):
    """Which apps are asked for."""

    over: bool = False
    """Those that are over, instead of those that are not."""
    limit: kinds.PageSize = 100
    after: kinds.HashOrNone = ""
    """Only those behind this id: apps are listed in order of their ids."""


class AskedApp(msgspec.Struct, frozen=True):
    """What is waited for."""

    wait: kinds.Wait = 0
    """Seconds to wait until it is this node's turn, the peer offers something, or nobody moves any more."""
    ended: bool = False
    """Wait for its end alone."""


# --- answers ----------------------------------------------------------------------------------------------------


class AppRules(msgspec.Struct, frozen=True):
    """What an app is, in words."""

    app: kinds.AppName
    version: kinds.Sum
    id: kinds.Hash
    moves_most: kinds.Sum
    """How many moves it can have."""
    about: str
    stakes: str
    """Who stakes what."""
    parameters: dict[str, str]
    """What is agreed on at the beginning, by name."""
    moves: dict[str, str]
    """What a move can say, by name."""


class AppInfo(msgspec.Struct, frozen=True):
    """An app that this node plays, has played, or is asked to play."""

    id: kinds.Hash
    app: kinds.AppName
    version: kinds.Sum
    phase: kinds.AppPhaseName
    """Of one that is `proposed` by player 0, player 1 accepts or refuses."""
    player: kinds.Player
    """Which one this node is: 0 proposed it."""
    peer: kinds.Key
    channel: kinds.Hash | None
    """In which this node's stake is locked; null before that is known."""
    assets: tuple[kinds.Asset, kinds.Asset]
    stakes: tuple[kinds.Sum, kinds.Sum]
    expiry: kinds.Second
    period: kinds.Period
    number: kinds.Sum
    """Of the newest state that this node signed, which is `state`."""
    state: dict[str, Any]
    """In the app's words."""
    turn: kinds.Turn | None
    """Whose turn it is; null while nobody moves."""
    pending: bool
    """Whether a move of this node's is signed and not acknowledged."""
    due: kinds.Second
    """The chain time before which whose turn it is cannot be late."""
    offered: Outcome | None
    """What the peer offers to end it by."""
    offering: Outcome | None
    """What this node offers, which never lapses."""
    result: Outcome | None
    """How it ends, once that is sure."""
    in_court_until: kinds.Second | None
    """If the court has heard of it: the chain time until which it takes something; 0: it has decided."""
    text: str
    """Why it came to nothing."""
    over: bool
    """Whether nothing of it is open any more: all that is due is paid."""
