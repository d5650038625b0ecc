"""Mutants of stakes that go over hubs to players without a channel between them. See `run`."""

from __future__ import annotations

from mutant import Mutant

TESTS = ("test_apps_hubs.py",)
PLACES, APPS = "channels/node/app_stakes.py", "channels/node/apps.py"
SENT = "router/sending/expected_locks.py"

MUTANTS = tuple(
    Mutant(f"over hubs: {name}", file, before, after, TESTS)
    for name, file, before, after in (
        (
            "begin for a stake that was given back",
            PLACES,
            " and lock.id not in given_back",
            "",
        ),
        (
            "take a stake from who does not know the instance",
            APPS,
            "if word is None else word == stake_word(held.instance)",
            "if word is None else True",
        ),
        (
            "hand over what nobody expects",
            "router/forwarding/service.py",
            "self._channels.expected.objection(state, lock, payload.payment_secret) is not None",
            "False",
        ),
        (
            "send a refused stake again and again",
            SENT,
            "tried.refused |= failure.attribution is Attribution.REFUSED",
            "pass",
        ),
        (
            "hear any number of proposals of a stranger",
            APPS,
            "else STRANGER_MOST):",
            "else HEARD_MOST):",
        ),
        (
            "leave what comes back to its expiry",
            APPS,
            "            self._came_back(played)\n",
            "            pass\n",
        ),
        (
            "hold against its way that a stake came back from a game",
            PLACES,
            "held.agreed is not None or held.phase is AppPhase.ENDED",
            "False",
        ),
        (
            "bring no part to court",
            "settlement/enforcement/apps.py",
            "if court is not None or held.split:",
            "if court is not None:",
        ),
        (
            "let a hub pay before it was paid",
            "router/network/routing.py",
            "if self.router.stands_for(identity, lock):",
            "if False:",
        ),
    )
)
