"""Mutants of stakes in apps, and of the court that decides them. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

VERDICT = ("test_apps_verdict.py",)
RULES = ("test_court_rules.py",)
COURT = "settlement/contract/court.py"

MUTANTS = (
    Mutant(
        "count what the chain heard of a stake after its lock went back",
        "settlement/contract/verdicts/app.py",
        "        if heard and heard <= lock.expiry:\n",
        "        if heard:\n",
        VERDICT,
    ),
    Mutant(
        "decide a stake while its instance is in court",
        "settlement/contract/verdicts/app.py",
        "return min(paid, lock.amount) if time > until else None",
        "return min(paid, lock.amount)",
        RULES,
    ),
    Mutant(
        "decide a stake in the last block that the court takes something in",
        "settlement/contract/verdicts/app.py",
        "return min(paid, lock.amount) if time > until else None",
        "return min(paid, lock.amount) if time >= until else None",
        RULES,
    ),
    Mutant(
        "decide one stake of an instance by its outcome, and not the other",
        "settlement/simulated/registry.py",
        "    for condition, number in ((done.condition, done.kept), *done.others):\n",
        "    for condition, number in ((done.condition, done.kept),):\n",
        RULES,
    ),
    Mutant(
        "take instances up after their expiry",
        COURT,
        "    if record is None and time > terms.expiry:\n",
        "    if False:\n",
        RULES,
    ),
    Mutant(
        "take something after the clock has run out",
        COURT,
        "    if record is not None and time > record.until:\n",
        "    if False:\n",
        RULES,
    ),
    Mutant(
        "take an outcome that nobody signed",
        COURT,
        "    if not outcome.holds():\n",
        "    if False:\n",
        VERDICT,
    ),
    Mutant(
        "take an older state than the newest that both signed",
        COURT,
        "    if record is not None and call.number <= record.agreed:\n",
        "    if False:\n",
        RULES,
    ),
    Mutant(
        "hold moves that were made in court against what both signed later",
        COURT,
        "call.number <= record.agreed:",
        "call.number <= record.number:",
        RULES,
    ),
    Mutant(
        "take a state that one player signed",
        COURT,
        "    for player, signature in enumerate(call.signatures):\n",
        "    for player, signature in enumerate(call.signatures[:1]):\n",
        RULES,
    ),
    Mutant(
        "take a move that its mover has not signed",
        COURT,
        "    _check_signature(call.terms, record.number + 1, after, mover, call.signature, verify)\n",
        "",
        RULES,
    ),
    Mutant(
        "take a move on another state than the one that stands",
        COURT,
        "keccak(call.state) != record.state",
        "False",
        RULES,
    ),
    Mutant(
        "let a move count as what both signed",
        COURT,
        "_standing(record.heard, record.agreed, record.number + 1,",
        "_standing(record.heard, record.number + 1, record.number + 1,",
        RULES,
    ),
    Mutant(
        "forget when the court first heard of an instance",
        COURT,
        "    heard = record.heard if record is not None else time\n",
        "    heard = time\n",
        RULES,
    ),
    Mutant(
        "pay by a final state what silence would pay",
        COURT,
        "app.outcome(state, terms.stakes) if ends else app.forfeit(state, terms.stakes)",
        "app.forfeit(state, terms.stakes)",
        RULES,
    ),
    Mutant(
        "call a player late before the rules do",
        COURT,
        "max(time + terms.period, min(due, terms.expiry))",
        "time + terms.period",
        RULES,
    ),
    Mutant(
        "wait for a player as long as the rules say, beyond the expiry",
        COURT,
        "max(time + terms.period, min(due, terms.expiry))",
        "max(time + terms.period, due)",
        RULES,
    ),
    Mutant(
        "clamp what the rules say, or let it through",
        COURT,
        "    if not fits or due < 0:\n",
        "    if False:\n",
        RULES,
    ),
    Mutant(
        "stop the ledger at a state of which the rules make no sense",
        COURT,
        "    except Exception as error:  # two players",
        "    except InvalidInput as error:  # two players",
        RULES,
    ),
    Mutant(
        "take a move of any size",
        COURT,
        "    if len(call.move) > MOVE_MAX:\n",
        "    if False:\n",
        RULES,
    ),
    Mutant(
        "charge nothing for the rules of an app",
        "settlement/ethereum/transactions.py",
        "    return found.gas if found is not None else 0\n",
        "    return 0\n",
        RULES,
    ),
    Mutant(
        "believe a chain node of an outcome that nobody signed",
        "settlement/following/checked.py",
        "    if not outcome.holds() or condition not in",
        "    if condition not in",
        RULES,
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
