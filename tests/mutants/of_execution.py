"""Mutants of what is done ahead of a block. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

MUTANTS = (
    Mutant(
        "ahead: let whoever signed once have signed for everybody",
        "settlement/execution/prepared.py",
        "        statement = (digest, signature, signer)\n",
        "        statement = next(iter(self._found), (digest, signature, signer))\n",
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
        "        _low(found.signature[32:])\n",
        "",
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
        "ahead: give machine code a chain id that it does not know",
        "settlement/execution/native.py",
        "if chain_id > _CHAIN_MAX or any(",
        "if any(",
        ("test_execution_decoding.py",),
    ),
    Mutant(
        "read a batch of any number of calls before they are counted",
        "settlement/ethereum/abi.py",
        "if _count(envelope.data[4:]) > BATCH_MAX:",
        "if _count(envelope.data[4:]) < 0:",
        ("test_execution_decoding.py",),
    ),
)
