"""Mutants of what a rollup's users sign and pay, and of what its desk and its watchers take; `run` uses them."""

from __future__ import annotations

from mutant import Mutant

SIGNING = ("test_rollup_signing.py",)
FEES = ("test_rollup_fees.py",)
PROGRAMS = ("test_rollup_programs.py",)
HOSTILE = ("test_rollup_hostile.py",)


def _mutant(name: str, file: str, before: str, after: str, tests: tuple[str, ...]) -> Mutant:
    return Mutant(f"rollup: {name}", file, before, after, tests)


MUTANTS = (
    _mutant(
        "user: send what is not on disk",
        "sdk/rollup/signing.py",
        "        self._store.commit([sign_moment(steps, [encode_step(each.step) for each in steps])])\n"
        "        return read_bundle(self._store, bundle)\n",
        "        return steps\n",
        SIGNING,
    ),
    _mutant(
        "user: sign under the number that the desk names",
        "sdk/rollup/signing.py",
        "else await self._next(last, ours.nonce)\n",
        "else ours.nonce\n",
        SIGNING,
    ),
    _mutant(
        "user: sign another step though one that was signed is refused",
        "sdk/rollup/signing.py",
        "            if await self._is_over(steps[0]):\n                return None\n",
        "            self._store.commit([StepSettled(steps[0].digest, StepStanding.VOID)])\n            return None\n",
        SIGNING,
    ),
    _mutant(
        "user: take a number for free before its step is impossible for good",
        "sdk/rollup/signing.py",
        "is_void(step, await read_final_state(self._chain, self._start), await self._index())",
        "is_void(step, (await read_rollup(self._chain, self._start)).state, await self._index())",
        SIGNING,
    ),
    _mutant(
        "user: count a window as over that a reorganisation may open again",
        "sdk/rollup/reading.py",
        "(await chain.facts()).window, await chain.final_number()",
        "(await chain.facts()).window, (await chain.head()).number",
        SIGNING,
    ),
    _mutant(
        "user: begin at the desk's number without a record",
        "sdk/rollup/signing.py",
        "        if told > proven or (last",
        "        if (last",
        SIGNING,
    ),
    _mutant(
        "operator: forget signatures once a batch is final",
        "sdk/rollup/operating.py",
        "                self._beyond = seen.final\n",
        "                self._beyond = seen.final\n        self._beyond = self.facts.final\n",
        PROGRAMS,
    ),
    _mutant(
        "operator: believe in a final batch of a block that is gone",
        "sdk/rollup/operating.py",
        "            if header is not None and header.hash == seen.hash:\n",
        "            if header is not None:\n",
        PROGRAMS,
    ),
    _mutant(
        "operator: take a step without its fee",
        "sdk/rollup/operating.py",
        "        check_fee(steps, self.core.ahead, ours, self.policy.fee_of)\n",
        "",
        FEES,
    ),
    _mutant(
        "operator: take a transfer of nothing to itself for nothing",
        "sdk/rollup/admission.py",
        "(len(charged) or min(1, len(signed)))",
        "len(charged)",
        FEES,
    ),
    _mutant(
        "operator: take the first part of what comes at once",
        "settlement/rollup/operator.py",
        "            ahead, statements = run_step(ahead, signed.step, self._context(time), self._entry)\n",
        "            ahead, statements = run_step(ahead, signed.step, self._context(time), self._entry)\n"
        "            self._ahead = ahead\n",
        FEES,
    ),
    _mutant(
        "user: pay any fee",
        "sdk/rollup/signing.py",
        "        if fee > self._fee_max:\n",
        "        if fee < 0:\n",
        FEES,
    ),
    _mutant(
        "user: deposit where nobody can leave",
        "sdk/rollup/user.py",
        "        check_terms(*(await self._chain.facts()).terms, accept=self._accept_terms)\n",
        "",
        ("test_rollup_terms.py",),
    ),
    _mutant(
        "watcher: leave what its demands cost",
        "sdk/rollup/leaving.py",
        "    return [demand for demand in waiting if demand[0] not in serials]\n",
        "    return [demand for demand in waiting if demand[0] < 0]\n",
        ("test_rollup_ways_out.py",),
    ),
    _mutant(
        "user: believe the desk's numbers of accounts",
        "sdk/rollup/signing.py",
        "        theirs = await self._index(recorded.other)\n",
        "        theirs = (await self._account(recorded.other)).number\n",
        SIGNING,
    ),
    _mutant(
        "user: take a promise for the end of time",
        "sdk/rollup/signing.py",
        "        if each.until > head.time + facts.order_time + SLACK:\n",
        "        if each.until > 2**64:\n",
        SIGNING,
    ),
    _mutant(
        "user: pay what a fee rose by under the same number",
        "sdk/rollup/signing.py",
        "await self._signed(steps[0].bundle, last.number + 1, self",
        "await self._signed(steps[0].bundle, last.number, self",
        FEES,
    ),
    _mutant(
        "watcher: pay an operator for each of its steps",
        "sdk/rollup/watching.py",
        "or tried < self._policy.per_batch):\n",
        "or True):\n",
        HOSTILE,
    ),
    _mutant(
        "watcher: pay an operator anew after each start",
        "sdk/rollup/watching.py",
        "self._policy.demands, core.demanded(self._key.address)",
        "self._policy.demands, Counter[int]()",
        HOSTILE,
    ),
    _mutant(
        "user: hold a number without saying what it waits for",
        "sdk/rollup/signing.py",
        "        if lacking <= 0:\n",
        "        if True:\n",
        SIGNING,
    ),
    _mutant(
        "believe the judge of any rollup",
        "sdk/rollup/code.py",
        '    if code != artifact("RollupJudge").deployed:\n',
        "    if not code:\n",
        ("test_rollup_code.py",),
    ),
    _mutant(
        "take any contract for a rollup",
        "sdk/rollup/code.py",
        "    if not code.startswith(compiled) or",
        "    if",
        ("test_rollup_code.py",),
    ),
)
