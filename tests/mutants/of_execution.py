"""Mutants of what is done ahead of a block. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

MUTANTS = (
    Mutant(
        "ahead: let whoever signed once have signed for everybody",
        "settlement/execution/prepared.py",
        "        statement = (digest, signature, signer)\n        if",
        "        statement = next(iter(self.found), (digest, signature, signer))\n        if",
        ("test_execution_blocks.py",),
    ),
    Mutant(
        "ahead: mine a transaction out of its turn",
        "settlement/simulated/raw_blocks.py",
        "elif transaction.nonce != upcoming:",
        "elif transaction.nonce < upcoming:",
        ("test_execution_blocks.py",),
    ),
    Mutant(
        "ahead: mine what allows too little gas",
        "settlement/simulated/raw_blocks.py",
        "if not each.reading.gas <= transaction.gas <= plan.gas_limit:",
        "if not transaction.gas <= plan.gas_limit:",
        ("test_execution_blocks.py",),
    ),
    Mutant(
        "ahead: take a transaction's high s the fast way",
        "settlement/ethereum/transactions.py",
        "    _low(found.signature[32:])\n    return found\n",
        "    return found\n",
        ("test_execution_decoding.py",),
    ),
    Mutant(
        "ahead: take a number with a zero in front the fast way",
        "settlement/ethereum/fast_fields.py",
        'b"([\\x01-\\x80]|',
        'b"([\\x00-\\x80]|',
        ("test_execution_decoding.py",),
    ),
    Mutant(
        "ahead: leave out a bundle that a helper claimed and lost",
        "settlement/execution/ahead.py",
        "                    found = (self._work(item),)\n",
        "                    continue\n",
        ("test_execution_blocks.py",),
    ),
    Mutant(
        "ahead: read a call to a module as a transfer to it",
        "settlement/ethereum/transactions.py",
        " and envelope.to not in MODULES_AT:",
        ":",
        ("test_execution_decoding.py",),
    ),
    Mutant(
        "helpers: take the answer to another question",
        "settlement/execution/processes.py",
        "if not self.asked or self.asked[0].name != name:",
        "if not self.asked:",
        ("test_execution_processes.py",),
    ),
    Mutant(
        "helpers: take an answer about fewer transactions",
        "settlement/execution/questions.py",
        "    if len(found.transactions) != len(raws):\n",
        "    if False:\n",
        ("test_execution_processes.py",),
    ),
    Mutant(
        "helpers: leave out what one that died had",
        "settlement/execution/processes.py",
        "            self._returned.append(index)\n",
        "            self._results[index] = Bundle([], {})\n",
        ("test_execution_processes.py",),
    ),
    Mutant(
        "helpers: believe that every signature in a call holds",
        "settlement/execution/questions.py",
        "InvalidSignature(why) if why is not None else None",
        "None",
        ("test_execution_processes.py",),
    ),
    Mutant(
        "helpers: take a call that a batch holds for a transfer",
        "settlement/execution/questions.py",
        "    members = tuple(_reading(each, envelope) for each in read.members)\n",
        "    members = ()\n",
        ("test_execution_processes.py",),
    ),
    Mutant(
        "helpers: let a validator take what is too cheap, or of too little gas, from them",
        "settlement/replicated/application.py",
        "read_work(raw, rules) if ready is None else check_limits(ready, rules)",
        "read_work(raw, rules) if ready is None else ready",
        ("test_replicated_helpers.py",),
    ),
    Mutant(
        "take a signature whose r began anew, by a known key",
        "channels/protocol/keys.py",
        " and signature[:15] != _ODD_R:",
        ":",
        ("test_signatures_known.py",),
    ),
    Mutant(
        "take a signature by the key of whoever signed before",
        "channels/protocol/keys.py",
        "    point = _POINTS.get(signer)\n",
        "    point = next(reversed(_POINTS.values()), None)\n",
        ("test_signatures_known.py",),
    ),
    Mutant(
        "read a batch of any number of calls before they are counted",
        "settlement/ethereum/abi.py",
        "if _count(envelope.data[4:]) > BATCH_MAX:",
        "if _count(envelope.data[4:]) < 0:",
        ("test_execution_decoding.py",),
    ),
)
