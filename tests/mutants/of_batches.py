"""Mutants of what goes on chain together, or in one transaction. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

MUTANTS = (
    Mutant(
        "let what pays travel in a batch",
        "settlement/sending/batches.py",
        "obligation.alone or not isinstance(call, CARRIED) or gas(call)",
        "obligation.alone or gas(call)",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "put a call into a batch that has no time left to go alone",
        "settlement/sending/batches.py",
        "return obligation.deadline is None or obligation.deadline - now > spare",
        "return obligation.deadline is None or obligation.deadline > now",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "let who can offer much travel with those who cannot",
        "settlement/sending/batches.py",
        "return saves and not harms and units <= BATCH_GAS_MAX and budget",
        "return saves and units <= BATCH_GAS_MAX and budget",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "offer more for a batch than a node takes of one transaction",
        "settlement/sending/batches.py",
        "units <= BATCH_GAS_MAX and budget <= BATCH_BUDGET_MAX",
        "units <= BATCH_GAS_MAX",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "let a batch on its way offer more than a node takes, once its members may cost more",
        "settlement/sending/batches.py",
        "budget = min(BATCH_BUDGET_MAX, max(batch.budget, sum(member.left for member in working)))",
        "budget = max(batch.budget, sum(member.left for member in working))",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "let a batch that there are no coins for hold up calls that there are coins for",
        "settlement/sending/obligations.py",
        "code in (Refusal.INSUFFICIENT_FUNDS, Refusal.FEE_CAPPED) and self.members",
        "code is Refusal.FEE_CAPPED and self.members",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "hold up calls with a batch that costs more than nodes take",
        "settlement/sending/obligations.py",
        "code in (Refusal.INSUFFICIENT_FUNDS, Refusal.FEE_CAPPED) and self.members",
        "code is Refusal.INSUFFICIENT_FUNDS and self.members",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "let a batch not hurry for who was moot and is due again",
        "settlement/sending/obligations.py",
        "        return self.nonce is not None or self.batch is not None\n",
        "        return self.nonce is not None\n",
        ("test_obligations_again.py", "test_obligations_batches.py"),
    ),
    Mutant(
        "put a call that failed in a batch into another one",
        "settlement/sending/obligations.py",
        "return change(self, batch=None, alone=True, status=status)",
        "return change(self, batch=None, status=status)",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "take every member of a batch that was mined for done",
        "settlement/sending/batches.py",
        "        if failure.index == index:\n",
        "        if False:\n",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "store a batch without its members",
        "settlement/sending/rounds.py",
        "    book = book.with_(*bound, *board(bound, book))\n",
        "    book = book.with_(*bound)\n",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "keep members waiting for a batch that comes to nothing",
        "settlement/sending/rounds.py",
        "return self._late(member.off_batch() if is_over(batch) else member)",
        "return self._late(member)",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "let a batch be late with its most urgent member",
        "settlement/sending/rounds.py",
        "if deadline is None or obligation.is_final or obligation.members:",
        "if deadline is None or obligation.is_final:",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "rest while the batch that did it may leave the chain",
        "settlement/sending/rounds.py",
        "at_rest = final and obligation.nonce is None and obligation.batch is None",
        "at_rest = final and obligation.nonce is None",
        ("test_obligations_batches.py",),
    ),
    Mutant(
        "make a permit while a call relies on an approval",
        "settlement/enforcement/account.py",
        "elif await self.takes_permits(asset) and not self._relies_on_approval(asset):",
        "elif await self.takes_permits(asset):",
        ("test_onchain_permits.py",),
    ),
    Mutant(
        "make two permits at once, of which only one can count",
        "settlement/enforcement/account.py",
        "                await self._await_permits(asset)\n                yield True\n",
        "                yield True\n",
        ("test_onchain_permits.py",),
    ),
)
