"""Who is left out when the chain moves: a full look at channels at rest finds nothing, whatever happened before."""

from __future__ import annotations

import pytest

from simulation.campaign import run_campaign
from tallystick.channels.protocol.core import Phase
from tallystick.channels.session.timing import let_pass
from tallystick.channels.storage.store import Moment
from tallystick.settlement.enforcement.enforcer import Enforcer


@pytest.mark.parametrize("seed", [3, 5, 8, 21])
def test_a_full_look_at_channels_at_rest_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    react, seen = Enforcer.react, {"resting": 0, "restless": 0}

    def react_and_look_at_all(self: Enforcer) -> list[Moment]:
        sessions = list(self._engine.sessions.values())
        resting = [session for session in sessions if self.at_rest(session.channel)]
        seen["resting"] += len(resting)
        seen["restless"] += len(sessions) - len(resting)
        moments = react(self)
        for session in resting:
            effects, before, frames = session.effects.all_moments(), session.channel, len(session.effects.frames)
            self._follow(session.channel)
            if not session.link.missed and before.phase is not Phase.GONE:  # in no other either
                let_pass(session, self._engine.chain)
            assert self.derive([session.channel.id]) == []
            assert session.channel is before
            assert session.effects.all_moments() == effects
            assert len(session.effects.frames) == frames
        return moments

    monkeypatch.setattr(Enforcer, "react", react_and_look_at_all)
    run_campaign(seed, steps=60)
    assert min(seen.values()) > 0
