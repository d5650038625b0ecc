"""Mutants of the registry of towers, on the ledger and as a contract. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

TWINS = ("test_towers_twins.py",)
MACHINE = ("test_towers_machine.py",)
SIGNED = ("test_towers_contract.py",)
OFFICE = ("test_tower_covers.py",)
RULES = "settlement/modules/covers.py"
SERVICE = "watchtower/covers.py"
CLIENT = "watchtower/covering.py"
MODULE = "settlement/modules/towers.py"


def _contract(name: str, before: str, after: str, tests: tuple[str, ...] = TWINS) -> Mutant:
    return Mutant(f"towers: {name}, in the contract", "contracts/Towers.vy", before, after, tests)


def _ledger(name: str, file: str, before: str, after: str, tests: tuple[str, ...] = TWINS) -> Mutant:
    return Mutant(f"towers: {name}, on the ledger", file, before, after, tests)


MUTANTS = (
    # --- the honest are acquitted
    _contract(
        "accuse while the tower can still answer",
        "assert block.timestamp > convert(v.deadline, uint256)",
        "assert block.timestamp >= convert(v.deadline, uint256)",
    ),
    _ledger(
        "accuse while the tower can still answer", RULES, "if time <= channel.deadline:", "if time < channel.deadline:"
    ),
    _contract(
        "convict for what the client closed itself",
        "t.p1 if v.closer == 0 else t.p0",
        "t.p0 if v.closer == 0 else t.p1",
    ),
    _ledger(
        "convict for what the client closed itself",
        RULES,
        "participants[1 - channel.closer]",
        "participants[channel.closer]",
    ),
    _contract(
        "convict for a close before the promise",
        "assert since <= closed and closed <= c.until",
        "assert closed <= c.until",
    ),
    _ledger("convict for a close before the promise", RULES, "promise.since <= closed <=", "closed <="),
    _contract(
        "convict for a close after the cover's time",
        "assert since <= closed and closed <= c.until",
        "assert since <= closed",
    ),
    _ledger("convict for a close after the cover's time", RULES, "<= closed <= cover.until", "<= closed"),
    _contract(
        "convict for numbers that stood",
        "assert v.seq0 < seq0 or v.seq1 < seq1",
        "assert v.seq0 <= seq0 or v.seq1 < seq1",
    ),
    _ledger("convict for numbers that stood", RULES, "first >= promise.seq0 and", "first > promise.seq0 and"),
    _contract(
        "believe any promise",
        "    self._check(self._digest(keccak256(abi_encode(PROMISE, name, since, seq0, seq1))), by_tower, c.tower)\n",
        "",
    ),
    _ledger(
        "believe any promise",
        MODULE,
        "    _check_signature(digest_promise(chain_id, TOWERS.address, promise), signature, tower)\n",
        "",
    ),
    _contract(
        "promise more time than the channel gives", '    assert t.challenge_period >= c.response, "bad-terms"\n', ""
    ),
    _ledger(
        "convict what ended in agreement",
        RULES,
        "if channel.is_open or not channel.deadline:",
        "if channel.is_open:",
    ),
    # --- the guilty pay, and once
    _contract("let one number be too low", "v.seq0 < seq0 or v.seq1 < seq1", "v.seq0 < seq0 and v.seq1 < seq1"),
    _ledger("let one number be too low", RULES, "promise.seq0 and second", "promise.seq0 or second"),
    _contract(
        "release a cover in its last second",
        "assert block.timestamp > word >> 128",
        "assert block.timestamp >= word >> 128",
    ),
    _ledger("release a cover in its last second", MODULE, "refuse(state.time <= end,", "refuse(state.time < end,"),
    _contract(
        "leave no time to accuse",
        "convert(t.challenge_period, uint256) + ACCUSE_TIME",
        "convert(t.challenge_period, uint256)",
    ),
    _ledger("leave no time to accuse", RULES, "challenge_period + ACCUSE_TIME", "challenge_period"),
    _contract(
        "let what is set apart leave", "assert taken <= (word & LOW) - (word >> 128)", "assert taken <= word & LOW"
    ),
    _ledger(
        "promise a bond twice",
        MODULE,
        'free = state.get(b"b" + tower) - state.get(b"r" + tower)',
        'free = state.get(b"b" + tower)',
    ),
    _contract("promise a bond twice", "assert amount <= (word & LOW) - (word >> 128)", "assert amount <= word & LOW"),
    _contract(
        "pay for one failure again and again", "    self.covers[name] = word >> 128 << 128 | ENDED\n", "", MACHINE
    ),
    _contract("pay whoever accuses", "raw_call(c.client,", "raw_call(msg.sender,"),
    _ledger(
        "pay whoever accuses",
        MODULE,
        "state.give(NATIVE, amount, VAULT, client)",
        "state.give(NATIVE, amount, VAULT, state.caller)",
    ),
    _contract("forget that the bond was paid out", "    self.bonds[c.tower] -= amount\n", ""),
    _contract("reserve what the tower has not offered", "    self._check(name, by_tower, c.tower)\n", ""),
    # whether s is low cannot be tried: the bit that names the point leaves 255, where almost no high s has room
    _ledger(
        "take any signature",
        MODULE,
        "good = len(signature) == 64 and is_signed(digest, signature, tower)",
        "good = True",
    ),
    _contract(
        "let the zero address sign", "s <= HALF_ORDER and signer != empty(address) and ecrecover", "ecrecover", SIGNED
    ),
    # --- what a tower signs, and what it does then
    Mutant(
        "towers: promise before it is durable",
        SERVICE,
        "        await self.commit([ProofsPromised(ask.cover, channel, client, proofs)])\n",
        "",
        OFFICE,
    ),
    Mutant(
        "towers: promise on what was not checked",
        SERVICE,
        "if proofs != shown or proofs == (None, None):",
        "if shown == (None, None):",
        OFFICE,
    ),
    Mutant("towers: promise from the past on", SERVICE, "since = self._now() + 1", "since = self._now() - 600", OFFICE),
    Mutant(
        "towers: promise under what nobody reserved",
        SERVICE,
        "if not await self.registry.is_held(known.name):",
        "if False:",
        OFFICE,
    ),
    Mutant("towers: offer the bond twice", SERVICE, " - sum(each.cover.amount for each in waiting)", "", OFFICE),
    Mutant(
        "towers: forget a higher proof for a lower one",
        "watchtower/cover_schema.py",
        'if not rows.read(_PROOFS.rows(at_least("seq", seq), channel=name[0], client=name[1], sender=sender)):',
        "if True:",
        OFFICE,
    ),
    Mutant(
        "towers: answer by the appointment alone",
        "watchtower/watch.py",
        "return [*defences, *promised_defences(self.sender.store, dispute.channel)]",
        "return defences",
        OFFICE,
    ),
    Mutant(
        "towers: let a challenge cost no more than its reward",
        "watchtower/disputes.py",
        "max(budget.for_challenge(each, closed.closer, funds), each.cover)",
        "budget.for_challenge(each, closed.closer, funds)",
        OFFICE,
    ),
    Mutant(
        "towers: take a promise of less than was asked",
        CLIENT,
        "if (promise.cover, promise.seq0, promise.seq1) != (held.name, seq0, seq1):",
        "if False:",
        OFFICE,
    ),
    Mutant(
        "towers: take a cover for somebody else",
        CLIENT,
        "if cover != wanted or not",
        "if not",
        OFFICE,
    ),
    Mutant(
        "towers: let a promise go for one that says less",
        CLIENT,
        "return one != other and one.seq0 <= other.seq0 and one.seq1 <= other.seq1",
        "return one != other",
        OFFICE,
    ),
    _contract("reserve for a channel that is closed", '    assert v.status == OPEN, "wrong-status"\n', ""),
)
