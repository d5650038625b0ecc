"""How apps between two players look to people: their rules, a list of them, and one with what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tallystick.sdk.cli.screen import facts, say, show_table

if TYPE_CHECKING:
    from tallystick.sdk.control.app_views import AppInfo, AppRules, Outcome

ID_SHOWN = 16
"""Digits of an id: so many name a proposal."""


def _when(time: int) -> str:
    try:
        return datetime.fromtimestamp(time, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    except (OverflowError, ValueError, OSError):
        return str(time)


def show_rules(found: list[AppRules]) -> None:
    """Print what apps take."""
    for one in found:
        say(f"{one.app}: {one.about}")
        rows: dict[str, object] = {"  stakes": one.stakes}
        rows |= {f"  with {name}": text for name, text in one.parameters.items()}
        rows |= {f"  move {name}": text for name, text in one.moves.items()}
        facts(rows)
    if not found:
        say("There is no such app: `tally app rules` lists all.")


def show_apps(found: list[AppInfo]) -> None:
    """Print a table of apps."""
    rows: list[Sequence[object]] = [
        (one.id[:ID_SHOWN], one.app, one.peer[:8], stands(one), _when(one.expiry), *one.stakes) for one in found
    ]
    show_table(("app", "rules", "peer", "state", "expires"), rows, figures=("stake", "peer's"))


def stands(one: AppInfo) -> str:
    """Return in a few words how an app stands."""
    if one.phase == "proposed":
        return "proposed by the peer" if one.player == 1 else "proposed, not answered"
    if one.result is not None:
        return f"ended: {_outcome(one.result)}" + ("" if one.over else ", to be paid")
    if one.phase in ("agreed", "locking"):
        return "stakes are being locked"
    court = "in court: " if one.phase == "disputed" or one.in_court_until is not None else ""
    if one.pending:
        return f"{court}our move is on its way"
    if one.turn is None:
        return f"{court}{'begins' if one.phase == 'playing' else 'ends'}"
    return f"{court}{'our turn' if one.turn == 'own' else 'their turn'}"


def _outcome(outcome: Outcome) -> str:
    got = [f"{verb} {amount}" for verb, amount in (("got", outcome.gets), ("paid", outcome.pays)) if amount]
    return " and ".join(got) or "nothing is paid"


def _offer(outcome: Outcome) -> str:
    return f"--get {outcome.gets} --pay {outcome.pays}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def show_app(one: AppInfo) -> None:
    """Print one app, and what to do with it."""
    rows: dict[str, object] = {
        "app": one.id,
        "rules": f"{one.app}, version {one.version}",
        "peer": f"{one.peer}, player {1 - one.player}",
        "stakes": f"{one.stakes[0]} own, {one.stakes[1]} the peer's",
        "expires": f"{_when(one.expiry)} ({one.expiry})",
        "in court": f"{one.period} s for a move",
        "stands": stands(one),
    }
    rows |= {f"  {name}": _plain(value) for name, value in one.state.items()}
    if one.in_court_until:
        rows["court waits"] = f"until {_when(one.in_court_until)}"
    if one.offered is not None and one.result is None:
        rows["offered"] = f"by the peer: {_offer(one.offered)}"
    if one.offering is not None and one.result is None:
        rows["offering"] = _offer(one.offering)
    if one.text:
        rows["why"] = one.text
    facts(rows)
    for line in to_do(one):
        say(line)


def to_do(one: AppInfo) -> list[str]:
    """Return what a person can do next."""
    name = one.id[:ID_SHOWN]
    if one.phase == "proposed" and one.player == 1:
        return [] if one.over else [f"Say `tally app accept {name}`, or `tally app refuse {name}`."]
    if one.result is not None or one.phase in ("proposed", "agreed", "locking", "ending"):
        return []
    found = []
    if one.turn == "own" and not one.pending:
        found.append(f"It is your turn: `tally app move {name} …`, as `tally app rules {one.app}` says.")
    if one.offered is not None:
        found.append(f"To end it as the peer offers: `tally app take {name} {_offer(one.offered)}`.")
    return found
