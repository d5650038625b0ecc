"""Mutants of virtual channels: their locks, and the court that decides them. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

RULES = ("test_virtual_court.py",)
MACHINE = ("test_virtual_machine.py",)
SESSION = ("test_virtual_session.py",)
NODES = ("test_virtual_nodes.py",)
COURT = "channels/protocol/virtual_court.py"
OBJECTS = "channels/protocol/virtual.py"
DUTIES = "settlement/enforcement/virtual.py"
HUBS = ("test_virtual_hubs.py",)
BOOK = "channels/node/virtual_book.py"
ENDS = "channels/node/virtual_ends.py"
WAYS = "router/sending/lock_ways.py"

MUTANTS = (
    Mutant(
        "take balances that are older than what is known of their simplex",
        COURT,
        "        if statement is not None and statement.proof.seq > seqs[side]:\n",
        "        if statement is not None and statement.proof.seq != seqs[side]:\n",
        MACHINE,
    ),
    Mutant(
        "set the court's clock anew with each call",
        COURT,
        "    return msgspec.structs.replace(known, paid=paid,",
        "    return msgspec.structs.replace(known, until=time + proof.terms.period, paid=paid,",
        RULES,
    ),
    Mutant(
        "take balances after the court has decided",
        COURT,
        "    if record is not None and time > record.until:\n",
        "    if record is not None and record.until == 0:\n",
        RULES,
    ),
    Mutant(
        "take a virtual channel up after its expiry",
        COURT,
        "    if record is None and time > expiry:\n",
        "    if False:\n",
        RULES,
    ),
    Mutant(
        "let a player's balance be below nothing",
        OBJECTS,
        "    balance = min(max(0, stakes[0] - transferred[0] + transferred[1]), total)\n",
        "    balance = min(stakes[0] - transferred[0] + transferred[1], total)\n",
        RULES,
    ),
    Mutant(
        "take an outcome that only one player signed",
        OBJECTS,
        "        return within and all(\n",
        "        return within and any(\n",
        RULES,
    ),
    Mutant(
        "take an outcome that pays more than was staked",
        OBJECTS,
        "        return within and all(\n",
        "        return all(\n",
        RULES,
    ),
    Mutant(
        "take balances of another virtual channel",
        OBJECTS,
        "        if proof.channel != virtual_id(terms) or",
        "        if",
        RULES,
    ),
    Mutant(
        "unlock by balances, off chain",
        "channels/protocol/conditions/virtual.py",
        "        if not isinstance(outcome, EndingProof) or lock.condition",
        "        if lock.condition",
        RULES,
    ),
    Mutant(
        "unlock a lock that expires before its virtual channel",
        "channels/protocol/conditions/virtual.py",
        "        if outcome.terms.expiry > lock.expiry:\n",
        "        if False:\n",
        RULES,
    ),
    Mutant(
        "decide one lock of a virtual channel, and not the others",
        "settlement/contract/verdicts/virtual.py",
        "(call.condition, VIRTUAL, call.proof, time), tuple(others))\n",
        "(call.condition, VIRTUAL, call.proof, time))\n",
        RULES,
    ),
    Mutant(
        "forget what was given by the balances that were brought",
        "settlement/contract/verdicts/virtual.py",
        "        numbers += [seq << 128 | given for seq, given in zip(now.seqs, now.transferred, strict=True)]\n",
        "        numbers += [seq << 128 for seq, given in zip(now.seqs, now.transferred, strict=True)]\n",
        RULES,
    ),
    Mutant(
        "leave old balances in court unanswered",
        DUTIES,
        "    if court is None and not _should_begin(held, now, policy):\n",
        "    if not _should_begin(held, now, policy):\n",
        MACHINE,
    ),
    Mutant(
        "leave what is ours in a virtual channel to its expiry",
        DUTIES,
        "    return held.gain > 0 and (held.disputed or now > held.terms.expiry - policy.secret_margin)\n",
        "    return held.gain > 0 and held.disputed\n",
        MACHINE,
    ),
    Mutant(
        "bring balances to court where there is an outcome",
        DUTIES,
        "        if court is not None or held.shown:\n",
        "        if held.shown:\n",
        MACHINE,
    ),
    Mutant(
        "take a stake of another amount for a virtual channel",
        "channels/node/virtual_locks.py",
        "        comes = lock.amount == stake and holding.phase",
        "        comes = holding.phase",
        SESSION,
    ),
    Mutant(
        "tell whoever passes a lock on whether a virtual channel waits for it",
        "channels/node/virtual_locks.py",
        "    known = channel.peer_key == holding.peer if word is None else word == holding.id\n",
        "    known = True\n",
        SESSION,
    ),
    Mutant(
        "open a virtual channel by a stake that is not countersigned",
        "channels/node/virtual_locks.py",
        "        held.signed and not held.given_back",
        "        not held.given_back",
        SESSION,
    ),
    Mutant(
        "open a virtual channel by a stake that was given back",
        "channels/node/virtual_locks.py",
        "        held.signed and not held.given_back",
        "        held.signed",
        SESSION,
    ),
    Mutant(
        "take locks within a virtual channel",
        "channels/protocol/core.py",
        "    if any(type(operation) is AddLock for operation in operations) and channel.is_virtual:\n",
        "    if False:\n",
        SESSION,
    ),
    Mutant(
        "take payments in a virtual channel by an old view of the chain",
        "channels/session/receiver.py",
        "    if not session.locks.fresh() and session.channel.is_virtual:\n",
        "    if False:\n",
        SESSION,
    ),
    Mutant(
        "sign any outcome of a virtual channel that the other signed",
        ENDS,
        "holding.phase is VirtualPhase.OPEN and self._is_due(holding, paid)",
        "holding.phase is VirtualPhase.OPEN",
        NODES,
    ),
    Mutant(
        "answer the end of a virtual channel by its end for ever",
        ENDS,
        "holding.signed is not None and holding.id not in self._told:",
        "holding.signed is not None:",
        NODES,
    ),
    Mutant(
        "leave the end of a virtual channel unsaid if the other left it aside",
        "channels/node/virtuals.py",
        "            if holding.outcome is None:\n",
        "            if False:\n",
        NODES,
    ),
    Mutant(
        "sign that a settlement pays before it is locked",
        ENDS,
        "        elif is_here(self._engine.sessions, holding, 2 + owes, amount):\n",
        "        else:\n",
        NODES,
    ),
    Mutant(
        "lock a stake of a virtual channel again although it is there",
        BOOK,
        "        if not amount or name in self.queued or any(held.place == place for",
        "        if not amount or name in self.queued or any(False for",
        NODES,
    ),
    Mutant(
        "keep what peers ask for and take back on disk for ever",
        BOOK,
        "        if not holding.asked and self.is_unused(holding):\n",
        "        if False:\n",
        HUBS,
    ),
    Mutant(
        "forget a virtual channel in which something was paid",
        BOOK,
        "        if not holding.asked and self.is_unused(holding):\n",
        "        if not holding.asked:\n",
        HUBS,
    ),
    Mutant(
        "go over other hubs than were named",
        WAYS,
        "            if wanted.over and edge.source != stops[hops + 1]:\n",
        "            if False:\n",
        HUBS,
    ),
    Mutant(
        "open a virtual channel in a channel that the players have anyway",
        WAYS,
        "(wanted.indirect and (edge.source, node) == (source, target)):\n",
        "False:\n",
        HUBS,
    ),
    Mutant(
        "do not take a way that the other player named",
        WAYS,
        "    yield from hinted.get(node, ())\n",
        "    yield from ()\n",
        HUBS,
    ),
    Mutant(
        "name no way to the other player",
        BOOK,
        "        return tuple(way for *_, way in best[:WAYS_MOST])\n",
        "        return ()\n",
        HUBS,
    ),
    Mutant(
        "go on paying in a virtual channel until it expires",
        "channels/node/virtuals.py",
        "                elif now > holding.terms.expiry - END_BEFORE and is_payable(channel):\n",
        "                elif False:\n",
        NODES,
    ),
)
