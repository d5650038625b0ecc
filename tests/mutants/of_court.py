"""Mutants of stakes in apps, and of the court that decides them. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

VERDICT = ("test_apps_verdict.py",)

MUTANTS = (
    Mutant(
        "count what the chain heard of a stake after its lock went back",
        "settlement/contract/verdicts/app.py",
        "        if heard and heard <= lock.expiry:\n",
        "        if heard:\n",
        VERDICT,
    ),
    Mutant(
        "take outcomes after the expiry of their instance",
        "settlement/contract/verdicts/app.py",
        "        if time > outcome.terms.expiry:\n",
        "        if False:\n",
        VERDICT,
    ),
    Mutant(
        "take a second outcome",
        "settlement/contract/verdicts/app.py",
        "        if known:\n",
        "        if False:\n",
        VERDICT,
    ),
    Mutant(
        "take an outcome that nobody signed",
        "settlement/contract/verdicts/app.py",
        "        if not outcome.holds():\n",
        "        if False:\n",
        VERDICT,
    ),
    Mutant(
        "sign a lock that the chain does not decide",
        "channels/session/session.py",
        "        if self.policy.kinds is not None and lock.kind not in self.policy.kinds:\n",
        "        if False:\n",
        VERDICT,
    ),
    Mutant(
        "take a lock from a peer that the chain does not decide",
        "channels/protocol/answers.py",
        "    if policy.kinds is not None and lock.kind not in policy.kinds:\n",
        "    if False:\n",
        VERDICT,
    ),
    Mutant(
        "sign on each chain what this program knows",
        "sdk/node/node.py",
        "            msgspec.structs.replace(config.channels, kinds=chain.figures.kinds),\n",
        "            config.channels,\n",
        VERDICT,
    ),
)
