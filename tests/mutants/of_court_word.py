"""Mutants of what is unlocked by the word of the court. See `run`."""

from __future__ import annotations

from mutant import Mutant

SESSION, CORE = ("test_session_court.py",), ("test_core_accept.py",)
HUBS = ("test_forwarding_stakes_virtual.py",)

MUTANTS = tuple(
    Mutant(f"court's word: {name}", file, before, after, tests)
    for name, file, before, after, tests in (
        (
            "leave to the chain what the court gave",
            "channels/session/timing.py",
            "        elif given := chain.given_in_court(lock, MARGIN):\n",
            "        elif given := 0:\n",
            SESSION,
        ),
        (
            "unlock before the other can have seen it",
            "channels/session/timing.py",
            "chain.given_in_court(lock, MARGIN)",
            "chain.given_in_court(lock)",
            SESSION,
        ),
        (
            "find fault with a peer whose chain is ahead",
            "channels/session/receiver.py",
            "    if any(given.get(op.id, op.amount) != op.amount for",
            "    if any(False for",
            SESSION,
        ),
        (
            "take a peer at its word about the court",
            "channels/protocol/core.py",
            "operation.proof == BY_COURT and given.get(operation.id) != operation.amount:",
            "False:",
            CORE,
        ),
        (
            "let the court give more than the lock has",
            "channels/protocol/simplex.py",
            "            if not 0 < unlock.amount <= lock.amount:\n",
            "            if not 0 < unlock.amount:\n",
            CORE,
        ),
        (
            "unlock nothing in the name of the court",
            "channels/protocol/simplex.py",
            "            if not 0 < unlock.amount <= lock.amount:\n",
            "            if not 0 <= unlock.amount <= lock.amount:\n",
            CORE,
        ),
        (
            "let the court decide what it never judges",
            "channels/protocol/simplex.py",
            "if unlock.proof == BY_COURT and kind.judged:",
            "if unlock.proof == BY_COURT:",
            CORE,
        ),
        (
            "pay onwards by a word that is no proof",
            "router/forwarding/stakes.py",
            "return () if circuit.owed == BY_COURT else ",
            "return ",
            HUBS,
        ),
        (
            "close a channel whose peer could not unlock yet",
            "settlement/enforcement/duties.py",
            "situation.final - MARGIN - policy.unlock_patience",
            "situation.now - policy.unlock_patience",
            ("test_duties_worth.py",),
        ),
        (
            "blank in a recording what is no secret",
            "channels/session/recording/redaction.py",
            "        if proof == BY_COURT:\n            return proof\n",
            "",
            ("test_recording_apps.py",),
        ),
    )
)
