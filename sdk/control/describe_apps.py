"""Describes apps between two players in the control API's vocabulary: how one stands, and what its rules take."""

from __future__ import annotations

import inspect

from tallystick.channels.apps.instance import AppInstance, AppPhase
from tallystick.channels.apps.interface import App, Paid
from tallystick.channels.apps.table import APPS
from tallystick.channels.node.app_store import PlayedApp
from tallystick.sdk.control import app_views as views
from tallystick.sdk.control.app_words import WORDS, AppWords
from tallystick.sdk.node.app_court import held_for_court
from tallystick.sdk.node.node import Node


def app_info(node: Node, played: PlayedApp) -> views.AppInfo:
    """Describe an app that a node plays, has played, or is asked to play."""
    held, terms = played.held, played.held.terms
    us, other = held.player, held.other
    app = APPS.find(terms.app)
    court = node.onchain.court.in_court(held_for_court(held))
    turn = None if app is None or not _goes_on(held) else held.turn
    return views.AppInfo(
        id=held.instance.hex(),
        app="unknown" if app is None else app.name,
        version=0 if app is None else app.version,
        phase=held.phase.name.lower(),
        player=us,
        peer=played.peer.hex(),
        channel=played.channel.hex() or None,
        assets=("0x" + terms.assets[us].hex(), "0x" + terms.assets[other].hex()),
        stakes=(terms.stakes[us], terms.stakes[other]),
        expiry=terms.expiry,
        period=terms.period,
        number=number_of(held),
        state={} if app is None else app.describe(held.newest),
        turn=None if turn is None else "own" if turn == us else "peer",
        pending=held.move is not None and held.phase is not AppPhase.ENDED,
        due=0 if turn is None else held.app.due(held.newest),
        offered=None if held.theirs is None else _outcome(held, held.theirs.paid),
        offering=None if held.offer is None else _outcome(held, held.offer.paid),
        result=None if held.paid is None else _outcome(held, held.paid),
        in_court_until=None if court is None else court.until,
        text=held.text,
        over=node.apps.apps.is_over(held.instance),
    )


def number_of(held: AppInstance) -> int:
    """Return the number of the newest state that we signed; 0 before there is one."""
    if held.move is not None:
        return held.move.number
    return 0 if held.agreed is None else held.agreed.state.number


def _goes_on(held: AppInstance) -> bool:
    return held.agreed is not None and held.phase in (AppPhase.PLAYING, AppPhase.DISPUTED)


def _outcome(held: AppInstance, paid: Paid) -> views.Outcome:
    return views.Outcome(gets=paid[held.other], pays=paid[held.player])


def app_rules(app: App) -> views.AppRules:
    """Describe the rules of an app: in our words if it ships, else in its own."""
    words = WORDS.get(app.name) or _own_words(app)
    return views.AppRules(
        app=app.name,
        version=app.version,
        id=app.id.hex(),
        moves_most=app.moves_most,
        about=words.about,
        stakes=words.stakes,
        parameters=words.parameters,
        moves=words.moves,
    )


def _own_words(app: App) -> AppWords:
    """Return what the class of somebody's own app says of itself."""
    parameters, moves = (" ".join((inspect.getdoc(each) or "").split()) for each in (app.init, app.move))
    return AppWords(inspect.getdoc(app) or "", "see its rules", {"": parameters}, {"": moves})
