"""Mutants of how apps are played by commands and through the control API. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

MUTANTS = (
    Mutant(
        "take whatever the other offers by now",
        "sdk/control/app_handlers.py",
        "if handle.offered != _paid(handle, asked):",
        "if False:",
        ("test_apps_handlers.py",),
    ),
    Mutant(
        "offer what is to be got as what is to be paid",
        "sdk/control/app_handlers.py",
        "handle.offer(to_player_0=taken, to_player_1=given)",
        "handle.offer(to_player_0=given, to_player_1=taken)",
        ("test_apps_handlers.py",),
    ),
    Mutant(
        "accept a proposal by a few digits, which its peer can make another one begin with",
        "sdk/control/lookup.py",
        "if len(prefix) < PROPOSAL_MIN:",
        "if False:",
        ("test_apps_handlers.py",),
    ),
    Mutant(
        "move again when asked again",
        "sdk/control/app_handlers.py",
        "if asked.number is not None and asked.number != number + 1:",
        "if False:",
        ("test_apps_handlers.py",),
    ),
    Mutant(
        "give two proposals of one step the same terms",
        "channels/node/apps.py",
        "self._nonce = max(counted, self._nonce + 1)",
        "self._nonce = counted",
        ("test_apps_nodes.py",),
    ),
    Mutant(
        "look in memory for an app that has just left it",
        "channels/node/apps.py",
        "return step.held if now is None else now.held",
        "return self._played[instance].held",
        ("test_apps_nodes.py",),
    ),
)
