"""Mutants of what a validator's operator changes: its commission, the key of its votes, a lost seat. See `run`."""

from __future__ import annotations

from mutant import Mutant

RECORDS, BLOCKS = "settlement/modules/validator_records.py", "settlement/modules/validator_blocks.py"
CHANGES, KEYS = "settlement/modules/validator_changes.py", "settlement/replicated/key_change.py"
CHANGED = ("test_validators_changes.py", "test_replicated_key.py")

MUTANTS = tuple(
    Mutant(f"operators: {name}", file, before, after, CHANGED)
    for name, file, before, after in (
        ("raise a commission at once", RECORDS, "if ahead and rules.is_over", "if ahead or rules.is_over"),
        (
            "raise a commission by any step",
            CHANGES,
            "most = min(now + COMMISSION_STEP, MILLION)",
            "most = MILLION",
        ),
        (
            "let an announcement stand that was taken back",
            CHANGES,
            "if is_raised else (0, 0, 0)",
            "if is_raised else (found.number(state, b'f'), 0, 0)",
        ),
        (
            "let a new announcement go on with the wait of the one before",
            CHANGES,
            'ahead = (commission + 1, state.get(b"H"), state.get(b"T"))',
            'ahead = (commission + 1, found.number(state, b"u") or state.get(b"H"), state.get(b"T") - 50)',
        ),
        (
            "let anybody change a validator",
            CHANGES,
            "refuse(state.caller != operator,",
            "refuse(False,",
        ),
        (
            "forget what the old key signed",
            RECORDS,
            '    state.put(b"i" + address, validator.ordinal + 1)\n    put_wide',
            '    state.put(b"i" + validator.address(state), 0)\n'
            '    state.put(b"i" + address, validator.ordinal + 1)\n    put_wide',
        ),
        (
            "leave the old key in the consensus",
            BLOCKS,
            "    return (PowerUpdate(known, 0),)",
            "    return ()",
        ),
        (
            "tell the consensus of a key that it never knew",
            CHANGES,
            'if found.number(state, b"p") and not found.told(state):',
            "if True:",
        ),
        (
            "tell nobody of a new key",
            CHANGES,
            '    found.put(state, b"g", state.get(b"H"))\n    state.put(b"D", 1)\n',
            '    found.put(state, b"g", state.get(b"H"))\n',
        ),
        (
            "take a key that the operator does not have",
            CHANGES,
            '    check_proof(proof, possession(get_wide(state, b"I"), state.caller, public), public)\n',
            "",
        ),
        (
            "take a key that was somebody's",
            CHANGES,
            "refuse(find_validator(state, new) is not None,",
            "refuse(False,",
        ),
        (
            "let who is convicted begin anew",
            CHANGES,
            "refuse(found.is_convicted(state),",
            "refuse(False,",
        ),
        ("put a key in place a block early", KEYS, "newest.number + 1 >= told", "newest.number + 2 >= told"),
        ("put a key in place a block late", KEYS, "newest.number + 1 >= told", "newest.number >= told"),
        (
            "change the key below an engine that runs",
            KEYS,
            "                nursery.cancel_scope.cancel()\n",
            "                change_key(self._home)\n                nursery.cancel_scope.cancel()\n",
        ),
        (
            "make a new key each time",
            KEYS,
            "if not (home / NEXT).exists():",
            "if True:",
        ),
        (
            "change the key in two steps",
            KEYS,
            "    (home / NEXT).replace(home / KEY)\n",
            "    (home / KEY).write_bytes(b'')\n    (home / NEXT).replace(home / KEY)\n",
        ),
        (
            "give a seat to nobody who waits",
            BLOCKS,
            "    offer_seats(state)\n",
            "",
        ),
        (
            "look at the same few for ever",
            RECORDS,
            '    state.put(b"G", (at + len(looked_at)) % total)\n',
            "",
        ),
        (
            "give a seat without a word to the consensus",
            RECORDS,
            '    validator.put(state, b"S", seat + 1)\n    state.put(b"D", 1)\n',
            '    validator.put(state, b"S", seat + 1)\n',
        ),
    )
)
