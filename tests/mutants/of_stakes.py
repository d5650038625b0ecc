"""Mutants of the stakes of validators (what is slashed, shared, kept waiting) and of snapshots. See `run`."""

from __future__ import annotations

from mutant import Mutant

RECORDS, BLOCKS = "settlement/modules/validator_records.py", "settlement/modules/validator_blocks.py"
CALLS, DELEGATIONS = "settlement/modules/validators.py", "settlement/modules/validator_delegations.py"
MOVES = "settlement/modules/validator_moves.py"
TESTS = ("test_validators_stakes.py", "test_validators_model.py")
MOVED = ("test_validators_moves.py",)
SNAPSHOTS = ("test_replicated_snapshots.py",)

_SNAPSHOTS = tuple(
    Mutant(f"snapshots: {name}", file, before, after, SNAPSHOTS)
    for name, file, before, after in (
        (
            "take a chunk that nobody offered",
            "settlement/replicated/snapshots.py",
            " or digest_of(chunk) != self.snapshot.digests[index]:",
            ":",
        ),
        (
            "restore what the consensus did not agree on",
            "settlement/replicated/snapshots.py",
            "if not whole or not right:",
            "if not whole:",
        ),
        (
            "restore sentences that no hash is over",
            "settlement/replicated/snapshots.py",
            " and without_words(head.record) == head.record",
            "",
        ),
        (
            "freeze the world that goes on",
            "settlement/replicated/snapshots.py",
            "without_words(record)), dict(world))",
            "without_words(record)), world)",
        ),
        (
            "carry the history after the block",
            "settlement/replicated/application.py",
            "return freeze(self._before,",
            "return freeze(self._history,",
        ),
        (
            "replace a ledger that executed blocks",
            "settlement/replicated/application.py",
            "if self.height and self.branch.first < self.height:",
            "if self.height and self.branch.first < 0:",
        ),
        (
            "restore half of it before it is whole",
            "settlement/replicated/snapshots.py",
            "return len(self._chunks) == len(self.snapshot.digests)",
            "return 0 in self._chunks",
        ),
        (
            "forget on disk what stands for the blocks before",
            "settlement/simulated/journal.py",
            '    rows.put(_FACTS, "history", moment.history)\n',
            "",
        ),
        (
            "answer for blocks that never were here",
            "settlement/simulated/chain.py",
            "        if start < 0:\n            began",
            "        if start < -10**9:\n            began",
        ),
    )
)

_MOVES = tuple(
    Mutant(f"moves: {name}", file, before, after, MOVED)
    for name, file, before, after in (
        (
            "let it move on before it has answered",
            MOVES,
            "found.left is not None and not found.left.is_over(state, rules),",
            "False,",
        ),
        (
            "let it answer for nothing that it left",
            MOVES,
            "backing=begin_backing(state, validator), left=left)",
            "backing=begin_backing(state, validator), left=None)",
        ),
        (
            "let it answer for votes after it left",
            MOVES,
            "left = found.backing._replace(until=now + 1)",
            "left = found.backing._replace(until=0)",
        ),
        (
            "let it stand behind both",
            MOVES,
            "    change_stake(state, old, found.owner, -amount)\n",
            "",
        ),
        (
            "let it wait from its block, not from the last vote",
            MOVES,
            '    state.put(b"U", now)\n',
            "",
        ),
        (
            "let the part that stays move without its own past",
            MOVES,
            "put_delegation(state, found._replace(amount=found.amount - amount))",
            "put_delegation(state, moved._replace(amount=found.amount - amount))",
        ),
        (
            "move somebody else's",
            MOVES,
            "rules, found = get_rules(state), own_delegation(state, number)",
            "rules, found = get_rules(state), get_delegation(state, number)",
        ),
        (
            "lose for the votes of the one that it left alone",
            DELEGATIONS,
            "(self.left, self.backing)",
            "(self.left,)",
        ),
        (
            "pay twice for who was left",
            DELEGATIONS,
            "            kept = kept._replace(left=None)",
            "            pass",
        ),
        (
            "leave power to what is burnt",
            DELEGATIONS,
            "change_stake(state, found.backing.validator, found.owner, -lost)",
            "pass",
        ),
        (
            "pay twice for the last votes that it left",
            DELEGATIONS,
            "left = self.left.paid(state) if self.left is not None else None",
            "left = self.left",
        ),
        (
            "keep who was left of a delegation that is no more",
            DELEGATIONS,
            "    elif state.get(_LEFT[0] + row):\n        _put_backing(state, _LEFT, row, 0, _NONE)\n",
            "",
        ),
        (
            "burn for nothing",
            MOVES,
            "refuse(not lost, Revert.NOTHING_OWED",
            "refuse(False, Revert.NOTHING_OWED",
        ),
    )
)

MUTANTS = (
    _SNAPSHOTS
    + _MOVES
    + tuple(
        Mutant(f"stakes: {name}", file, before, after, tests)
        for name, file, before, after, tests in (
            (
                "slash what came after the offence",
                DELEGATIONS,
                "before = count_offences(state, self.validator, self.since - 1)",
                "before = 0",
                TESTS,
            ),
            (
                "slash what was gone before the offence",
                DELEGATIONS,
                "until = self.until - 2 if self.until else OFFENCES_LAST",
                "until = OFFENCES_LAST",
                TESTS,
            ),
            (
                "let what is unbonding escape",
                DELEGATIONS,
                "until = self.until - 2 if self.until else OFFENCES_LAST",
                "until = -1 if self.until else OFFENCES_LAST",
                TESTS,
            ),
            (
                "burn nothing of a slashed stake that is undelegated",
                DELEGATIONS,
                "        state.give(NATIVE, lost, STAKES, BURNT)\n        if not",
                "        if not",
                TESTS,
            ),
            (
                "burn nothing of a slashed stake that is withdrawn",
                CALLS,
                "        state.give(NATIVE, lost, STAKES, BURNT)\n    state.give",
                "        pass\n    state.give",
                TESTS,
            ),
            (
                "let the first offence shown be the only one",
                BLOCKS,
                "validator is None or rules",
                "validator is None or validator.is_convicted(state) or rules",
                TESTS,
            ),
            (
                "slash by evidence that is too old",
                BLOCKS,
                " or rules.is_over(state, offence.block, offence.time):",
                ":",
                TESTS,
            ),
            (
                "pay a slashed stake out whole",
                CALLS,
                "state.give(NATIVE, found.amount - lost, STAKES, found.owner)",
                "state.give(NATIVE, found.amount, STAKES, found.owner)",
                TESTS,
            ),
            (
                "slash again what was slashed when a part was undelegated",
                DELEGATIONS,
                "backing=self.backing._replace(since=OFFENCES_LAST))",
                "backing=self.backing)",
                TESTS,
            ),
            (
                "forget by a partial undelegation how old a stake is",
                CALLS,
                "found._replace(amount=amount).ended(now)).number",
                "found._replace(amount=amount, backing=found.backing._replace(since=now)).ended(now)).number",
                TESTS,
            ),
            (
                "let a stake out before its evidence, by blocks alone",
                RECORDS,
                "now - block > self.evidence_blocks and clock - time > self.evidence_seconds",
                "now - block > self.evidence_blocks",
                TESTS,
            ),
            (
                "let a stake out before its evidence, by time alone",
                RECORDS,
                "now - block > self.evidence_blocks and clock - time > self.evidence_seconds",
                "clock - time > self.evidence_seconds",
                TESTS,
            ),
            (
                "count the wait from the block of the undelegation, not from the last vote",
                BLOCKS,
                'state.put(b"t" + height.to_bytes(8, "big"), max(time, state.get(b"T")))',
                'state.put(b"t" + height.to_bytes(8, "big"), state.get(b"T"))',
                TESTS,
            ),
            (
                "let anybody take back a stake",
                DELEGATIONS,
                'refuse(found.owner != state.caller, Revert.NOT_ALLOWED, f"delegation',
                'refuse(False, Revert.NOT_ALLOWED, f"delegation',
                TESTS,
            ),
            (
                "pay a reward twice",
                DELEGATIONS,
                "    return found.paid(state), amount",
                "    return found, amount",
                TESTS,
            ),
            (
                "let a new delegation earn what was there before it",
                DELEGATIONS,
                "now + PAID_AFTER if now else 0, 0)",
                "0, 0)",
                TESTS,
            ),
            (
                "let a delegation earn a block before its first vote is paid for",
                DELEGATIONS,
                "now + PAID_AFTER if now else 0, 0)",
                "now + PAID_AFTER - 1 if now else 0, 0)",
                TESTS,
            ),
            (
                "share fees by the stakes of the moment",
                BLOCKS,
                'validator.number(state, b"b"), fees',
                'validator.number(state, b"s"), fees',
                TESTS,
            ),
            (
                "let stakes count a block early",
                RECORDS,
                "changed = max(height - PAID_AFTER, 0)",
                "changed = max(height - DELAY, 0)",
                TESTS,
            ),
            (
                "keep the first of two changes in one block",
                RECORDS,
                "    state.put(key, staked + 1)",
                "        state.put(key, staked + 1)",
                TESTS,
            ),
            (
                "keep what was earned after the fees were shared, not before",
                BLOCKS,
                "    apply_changes(state, height)\n    _share_fees(state, rules, votes)",
                "    _share_fees(state, rules, votes)\n    apply_changes(state, height)",
                TESTS,
            ),
            (
                "let what was undelegated earn for ever",
                DELEGATIONS,
                "        if not self.until:\n",
                "        if self.until >= 0:\n",
                TESTS,
            ),
            (
                "pay nothing for the last votes that a stake backed",
                CALLS,
                "    pay(state, found)\n    lost",
                "    lost",
                TESTS,
            ),
            (
                "let a delegation that is not yet paid count from when it is looked at",
                DELEGATIONS,
                '        if self.counts > state.get(b"H"):\n            return self\n',
                "",
                TESTS,
            ),
            (
                "let what an unreleased build had undelegated earn again",
                DELEGATIONS,
                "        if 0 < self.until <= state.get(VERSION):\n            return 0\n",
                "",
                TESTS,
            ),
            (
                "take over no stakes of an unreleased build",
                BLOCKS,
                '        validator.put(state, b"b", validator.number(state, b"s"))\n',
                "        pass\n",
                TESTS,
            ),
            (
                "share fees with who did not sign",
                BLOCKS,
                "Address(vote.address)) if vote.signed else None",
                "Address(vote.address))",
                TESTS,
            ),
            (
                "share the commission twice",
                BLOCKS,
                "(share - commission << SCALE)",
                "(share << SCALE)",
                TESTS,
            ),
            (
                "register a key that the caller does not have",
                CALLS,
                "    check_proof(proof, asked, public)\n",
                "",
                TESTS,
            ),
            (
                "take the proof of a key for another account",
                CALLS,
                'chain_id.to_bytes(32, "big") + operator + public',
                'chain_id.to_bytes(32, "big") + public',
                TESTS,
            ),
            (
                "let a convicted validator vote",
                RECORDS,
                "if self.is_convicted(state) or self.number",
                "if self.number",
                TESTS,
            ),
            (
                "leave the consensus with nobody",
                BLOCKS,
                "    if not wanted:\n        return ()\n",
                "",
                TESTS,
            ),
            (
                "let power grow beyond the consensus's limit",
                DELEGATIONS,
                "refuse(whole > rules.power_max,",
                "refuse(False,",
                TESTS,
            ),
            (
                "propose with other votes than the block's",
                "settlement/replicated/application.py",
                "self._decide(replace(block, transactions=those))",
                "self._decide(replace(block, votes=(), offences=(), transactions=those))",
                ("test_replicated_stakes.py",),
            ),
            (
                "begin with other powers than the genesis stakes",
                "settlement/replicated/application.py",
                "powers != self._genesis.powers() or ",
                "",
                ("test_replicated_stakes.py",),
            ),
        )
    )
)
