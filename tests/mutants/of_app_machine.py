"""Mutants of how two players play an app with each other: what is signed, taken, and said again. See `run`."""

from __future__ import annotations

from mutant import Mutant

TESTS = ("test_apps_machine.py",)
MACHINE = "channels/apps/machine.py"
INSTANCE = "channels/apps/instance.py"

MUTANTS = tuple(
    Mutant(f"playing: {name}", file, before, after, TESTS)
    for name, file, before, after in (
        (
            "sign state 0 before the other has locked",
            MACHINE,
            "if held.phase is not AppPhase.LOCKING or not held.both_locked or env.late(held.terms):",
            "if held.phase is not AppPhase.LOCKING or env.late(held.terms):",
        ),
        (
            "begin so late that no court would hear of it",
            MACHINE,
            "or not held.both_locked or env.late(held.terms):",
            "or not held.both_locked:",
        ),
        (
            "move again while a move is not acknowledged",
            MACHINE,
            '    if held.move is not None:\n        raise InvalidInput(f"our move',
            '    if False:\n        raise InvalidInput(f"our move',
        ),
        (
            "countersign a move that the rules forbid",
            MACHINE,
            "        after = follow(held, before, move, held.other)\n",
            "        after = before[: move[0]] + bytes([1 + held.other]) + before[move[0] + 1 :]\n",
        ),
        (
            "countersign a move that its mover did not sign",
            MACHINE,
            '    if not held.is_theirs(digest, signature):\n        raise InvalidUpdate(f"the move',
            '    if False:\n        raise InvalidUpdate(f"the move',
        ),
        (
            "take any signature for an acknowledgement",
            MACHINE,
            "if said.state != keccak(own.after) or not held.is_theirs(held.digest(own.number, own.after), signature):",
            "if False:",
        ),
        (
            "say no move again after the link was lost",
            MACHINE,
            "        found.append(AppMove(instance, held.move.number, held.move.move, held.move.signature))\n",
            "        pass\n",
        ),
        (
            "say no acknowledgement again after the link was lost",
            MACHINE,
            "        found.append(_acknowledged(held, held.agreed))\n",
            "        pass\n",
        ),
        (
            "say no outcome again after the link was lost",
            MACHINE,
            "    if held.outcome is not None:\n        return (AppOffer(instance, held.outcome.paid,",
            "    if False:\n        return (AppOffer(instance, held.outcome.paid,",
        ),
        (
            "let player 0 take an offer beside its own",
            MACHINE,
            "return held.player == 1 or held.offer is None or held.offer.paid == paid",
            "return True",
        ),
        (
            "take an offer after a final state was signed",
            MACHINE,
            "    if held.turn is None:\n        return False\n",
            "",
        ),
        (
            "offer twice",
            MACHINE,
            '    if held.offer is not None:\n        raise InvalidInput(f"we offered',
            '    if False:\n        raise InvalidInput(f"we offered',
        ),
        (
            "take an outcome that the other did not sign",
            MACHINE,
            "    if not within or not held.is_theirs(held.digest_paid(theirs.paid), theirs.signature):",
            "    if not within:",
        ),
        (
            "withdraw after state 0 was signed",
            MACHINE,
            "    if held.phase not in BEFORE:\n",
            "    if held.agreed is not None and held.agreed.state.number:\n",
        ),
        (
            "forget a move that a reply accepts",
            INSTANCE,
            "move = self.move if self.move is not None and self.move.number > number else None",
            "move = self.move",
        ),
        (
            "not heed what the other signed for the court alone",
            MACHINE,
            "    if stands.number <= newest:\n        return AppStep(held)\n",
            "    return AppStep(held)\n",
        ),
        (
            "take an outcome for one that both signed",
            MACHINE,
            "    if held.outcome is not None or outcome.terms != held.terms or not outcome.holds():",
            "    if held.outcome is not None or outcome.terms != held.terms:",
        ),
        (
            "agree again to what was taken back",
            MACHINE,
            "            return AppStep(held, (AppAnswer(held.instance, False, held.text[: ERROR_TEXT_MAX // 4]),))\n",
            "            return AppStep(held)\n",
        ),
        (
            "not hear a yes from a stake",
            MACHINE,
            "            held = replace(held, phase=AppPhase.AGREED)  # as good as the yes, which was lost\n",
            "            pass\n",
        ),
    )
)

NODES = ("test_apps_nodes.py",)
APPS = "channels/node/apps.py"

MUTANTS += tuple(
    Mutant(f"playing nodes: {name}", file, before, after, NODES)
    for name, file, before, after in (
        (
            "keep a stake that no app expects",
            APPS,
            '        return "no app with such a stake is expected here"\n',
            "        return None\n",
        ),
        (
            "keep what the outcome gives nothing of",
            APPS,
            "            elif held.paid is not None and not held.paid[held.other]:\n",
            "            elif False:\n",
        ),
        (
            "hold instances in memory for ever",
            APPS,
            "        if not open_stakes and held.stake(held.player) not in self._queued:\n",
            "        if False:\n",
        ),
        (
            "say nothing again after a reconnect",
            APPS,
            "            self._take(played, machine.process(played.held, LinkBack(), self._env))\n",
            "            pass\n",
        ),
        (
            "wait for ever for who stalls",
            "sdk/node/app_court.py",
            "now > max(since, due) + self._patience",
            "False",
        ),
        (
            "close no channel for what a court decided by a state",
            "settlement/enforcement/enforcer.py",
            "shown = chain.proofs.keys() | chain.stakes.keys()",
            "shown = chain.proofs.keys()",
        ),
    )
)
