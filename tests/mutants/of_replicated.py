"""Mutants of the replicated ledger: its state root, its application, its stakes. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

MUTANTS = (
    Mutant(
        "leave entries that are gone in the state root",
        "settlement/simulated/roots.py",
        "                bucket.pop(hashed, None)",
        "                pass",
        ("test_simulated_roots.py",),
    ),
    Mutant(
        "let looking ahead change the state root",
        "settlement/simulated/roots.py",
        "touched[number] = dict(self._buckets[number])",
        "touched[number] = self._buckets[number]",
        ("test_simulated_roots.py",),
    ),
    Mutant(
        "take a proof whose entries are cut elsewhere",
        "settlement/simulated/roots.py",
        "any(len(entry) != 64 for entry in proof.bucket)",
        "not all(proof.bucket)",
        ("test_simulated_roots.py",),
    ),
    Mutant(
        "replicated: accept a proposal with what has no place in it",
        "settlement/replicated/application.py",
        "return None not in self._decide(block).results",
        "return bool(self._decide(block))",
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: take a transaction of the consensus out of its turn",
        "settlement/replicated/decision.py",
        "isinstance(work, Prepared) and _is_next(state, work.transaction)",
        "isinstance(work, Prepared)",
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: mint on a chain that is no development chain",
        "settlement/replicated/decision.py",
        "if not rules.dev:",
        "if rules.dev and not rules.dev:",
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: reuse what a proposal of another time did",
        "settlement/replicated/application.py",
        "found = self._memo.get(block)",
        "found = next(iter(self._memo.values()), None)",
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: leave the blocks so far out of the app hash",
        "settlement/replicated/decision.py",
        "hashlib.sha256(root + history)",
        "hashlib.sha256(root + b'')",
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: keep the state root of the block before",
        "settlement/replicated/application.py",
        "        self._tree.apply(decision.tree)",
        "        pass",
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: begin at a genesis that is another one",
        "settlement/replicated/application.py",
        "if read_genesis(genesis) != self._genesis or ",
        "if ",
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: answer on after what was no ABCI",
        "settlement/replicated/server.py",
        'write_frame(write_response("exception", error=str(error))))\n                    return',
        'write_frame(write_response("exception", error=str(error))))\n                    continue',
        ("test_replicated_abci.py",),
    ),
    Mutant(
        "replicated: take a vote extension",
        "settlement/replicated/answers.py",
        "status=REJECT if request.vote_extension else ACCEPT",
        "status=ACCEPT",
        ("test_replicated_abci.py",),
    ),
    Mutant(
        "replicated: agree on how a library words what it refuses",
        "settlement/replicated/decision.py",
        'reason=done.reason.partition(":")[0], failures=failures',
        "reason=done.reason, failures=failures",
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: agree on how a library words what it refuses of a batch",
        "settlement/replicated/decision.py",
        'replace(failure, reason="") for failure',
        "failure for failure",
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: leave out of the history by which rule a call failed",
        "settlement/replicated/decision.py",
        'reason=done.reason.partition(":")[0], failures',
        'reason="", failures',
        ("test_replicated_application.py",),
    ),
    Mutant(
        "replicated: keep all that anybody sends decoded, however large",
        "settlement/replicated/application.py",
        " or self.kept_bytes > READ_BYTES:",
        ":",
        ("test_replicated_application.py",),
    ),
)
