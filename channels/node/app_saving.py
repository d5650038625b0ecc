"""What is on disk of the apps that a node plays, and what follows once more of it is: part of `apps`. Sans-IO.

All that is saved in one round is of one commit; afterwards it is told once that something has changed, however many
instances did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from tallystick.channels.node.app_store import AppSaved, PlayedApp
from tallystick.channels.protocol.apps import InstanceId
from tallystick.channels.session.effects import AppChanged
from tallystick.channels.storage.store import Moment


class SavingPort(Protocol):
    """What is asked of the engine."""

    def store(self, moments: list[Moment]) -> None:
        """Write moments in the commit of this step."""

    def emit(self, event: AppChanged) -> None:
        """Tell an event, after the next commit."""

    def then(self, act: Callable[[], None]) -> None:
        """Do something after the next commit, before events are told."""


class AppSaving:
    """See the module's docstring."""

    def __init__(self, engine: SavingPort, stored: Iterable[PlayedApp], changed: Callable[[], None]) -> None:
        """`changed` is called after each commit that saved anything."""
        self._engine = engine
        self._changed = changed
        self.durable = {played.held.instance: played for played in stored}
        """What is not over, as it is on disk."""
        self.leaving: dict[InstanceId, PlayedApp] = {}
        """What is over, and not on disk as such yet."""
        self._round: list[tuple[PlayedApp, bool]] | None = None
        """What was saved in this round, None before anything."""

    def save(self, played: PlayedApp, *, over: bool) -> None:
        """Store an instance with this round, and tell that it has changed."""
        if over:
            self.leaving[played.held.instance] = played
        if self._round is None:
            self._round = saved = list[tuple[PlayedApp, bool]]()
            self._engine.then(lambda: self._stored(saved))
        self._round.append((played, over))
        self._engine.store([AppSaved(played, over)])
        self._engine.emit(AppChanged(played.held.instance, played.held.phase))

    def end_round(self) -> None:
        """What is saved from now on is of another commit."""
        self._round = None

    def _stored(self, saved: list[tuple[PlayedApp, bool]]) -> None:
        if self._round is saved:
            self._round = None
        for played, over in saved:
            if over:
                self.durable.pop(played.held.instance, None)
                self.leaving.pop(played.held.instance, None)
            else:
                self.durable[played.held.instance] = played
        self._changed()
