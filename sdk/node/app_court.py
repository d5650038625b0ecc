"""What the chain's court says of the apps that a node plays, block by block, and when a node goes there by itself.

What is seen in court goes into the machine of its instance, as what the other player said there: all of it is signed.
"""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.channels.apps.inputs import AppInput, CourtDecided, Proven, TakeToCourt
from tallystick.channels.apps.instance import NOTHING, AppInstance, AppPhase
from tallystick.channels.node.app_store import PlayedApp
from tallystick.channels.node.apps import Apps
from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol.apps import InstanceId
from tallystick.channels.protocol.core import Phase
from tallystick.settlement.enforcement.apps import AppHeld, brings
from tallystick.settlement.enforcement.onchain import OnChain


class AppsInCourt:
    """Part of a `Node`."""

    def __init__(self, engine: Engine, apps: Apps, onchain: OnChain, patience: int) -> None:
        """`patience`: seconds of chain time that the other may stall."""
        self._engine, self._onchain = engine, onchain
        self._apps = apps
        self._patience = patience
        self._since: dict[InstanceId, tuple[AppInstance, int]] = {}
        """Since when each instance is as it is."""

    def on_block(self) -> None:
        """The chain has moved: see what is in court, what was decided, and who has stalled for too long."""
        for played in self._apps.playing:
            held, instance = played.held, played.held.instance
            for happened in self._told_by_chain(played):
                if any(each.held.instance == instance for each in self._apps.playing):
                    held = self._apps.apply(instance, happened)
            if self._must_dispute(played, held):
                self._apps.apply(instance, TakeToCourt())
        playing = {played.held.instance for played in self._apps.playing}
        self._since = {name: since for name, since in self._since.items() if name in playing}

    def _told_by_chain(self, played: PlayedApp) -> Iterator[AppInput]:
        held = held_for_court(played.held)
        onchain, final = self._onchain, self._engine.chain.final
        court, sure = onchain.court.in_court(held), onchain.court.in_court(held, final=True)
        if court is not None:
            yield from court.line
            if court.outcome is not None:
                yield Proven(court.outcome)
        if sure is not None and sure.is_decided(final):
            yield CourtDecided(sure.paid)
        elif court is None and sure is None and final > held.terms.expiry:
            yield CourtDecided(NOTHING)

    def _must_dispute(self, played: PlayedApp, held: AppInstance) -> bool:
        """Whether the other has stalled for too long, or is closing, and the court would give us something."""
        if held.phase not in (AppPhase.PLAYING, AppPhase.ENDING) or held.agreed is None:
            return False
        now = self._engine.chain.now
        before, since = self._since.get(held.instance, (None, now))
        if before != held:
            since = now
        self._since[held.instance] = held, since
        if not brings(held_for_court(held)):
            return False
        due = 0 if held.turn is None else held.app.due(held.newest)
        closing = any(channel.phase not in (Phase.OPEN, Phase.FROZEN) for channel in self._apps.stakes_in(played))
        return closing or not self._apps.stakes_in(played) or now > max(since, due) + self._patience


def held_for_court(held: AppInstance, *, split: bool = False) -> AppHeld:
    """Return what enforcement may know of an instance. `split`: see `AppHeld`."""
    return AppHeld(
        terms=held.terms,
        player=held.player,
        agreed=held.agreed,
        state=held.state,
        move=held.move,
        outcome=held.outcome,
        split=split,
        disputed=held.phase is AppPhase.DISPUTED,
    )
