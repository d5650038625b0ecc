"""Mutants of the rollup: its rules, its module on the ledger, its contract. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

RULES = "settlement/rollup/rules.py"
CONTRACT = "contracts/Rollup.vy"
JUDGE = "contracts/RollupJudge.vy"
BOOKS = "settlement/modules/rollups.py"
ACCOUNTS = "settlement/modules/rollup_accounts.py"
TWINS = ("test_rollup_twins.py",)
LEAVING = ("test_rollup_leaving.py", "test_rollup_twins.py")
PROGRAMS = ("test_rollup_programs.py",)
HOSTILE = ("test_rollup_hostile.py",)
WATCHER = ("test_rollup_watcher.py", "test_rollup_rules.py")


def _mutant(name: str, file: str, before: str, after: str, tests: tuple[str, ...] = TWINS) -> Mutant:
    return Mutant(f"rollup: {name}", file, before, after, tests)


MUTANTS = (
    _mutant(
        "let a deposit meet whoever has got the number",
        BOOKS,
        "    other = vault != books.vault\n",
        "    other = False\n",
        ("test_rollup_names.py",),
    ),
    _mutant(
        "name a rollup by its number alone",
        BOOKS,
        'return ROLLUPS.account_of(b"r" + rollup.to_bytes(8, "big") + operator + numbers)',
        'return ROLLUPS.account_of(b"r" + rollup.to_bytes(8, "big") + numbers[:0])',
        ("test_rollup_names.py",),
    ),
    _mutant(
        "pay out a closed channel again",
        RULES,
        "if channel is None or channel.standing != LeafStanding.OPEN:\n        raise",
        "if channel is None:\n        raise",
    ),
    _mutant("take any nonce", RULES, "    if nonce != account.nonce:\n", "    if nonce < 0:\n"),
    _mutant("pay more than there is", RULES, "    if amount > account.balance:\n", "    if amount < 0:\n"),
    _mutant(
        "close later than agreed", RULES, "    if context.time > step.valid_until:\n", "    if context.time < 0:\n"
    ),
    _mutant(
        "take one side's word for a close",
        RULES,
        "return (Statement(first.owner, digest), Statement(second.owner, digest))",
        "return (Statement(first.owner, digest),)",
    ),
    _mutant(
        "believe the leaves of a proof",
        "settlement/rollup/state.py",
        "        if climb(leaf, index, self._siblings) != root:\n",
        "        if climb(leaf, index, self._siblings) == bytes(1):\n",
    ),
    _mutant(
        "believe the step of a proof",
        "settlement/rollup/batches.py",
        "or climb(leaf, proof.position, proof.siblings) != steps_root:",
        "or False:",
    ),
    _mutant(
        "believe the entry of a proof",
        "settlement/rollup/batches.py",
        "for word in proof.entry)) != then:",
        "for word in proof.entry)) == bytes(1):",
    ),
    _mutant(
        "take a batch without a bond",
        BOOKS,
        'refuse(books.get(b"bonded") < books.get(b"bond"),',
        'refuse(books.get(b"bonded") < 0,',
    ),
    _mutant(
        "leave out what is overdue",
        BOOKS,
        "    overdue = queue_end < length and",
        "    overdue = queue_end > length and",
    ),
    _mutant(
        "make a batch final that waits for signatures",
        BOOKS,
        'if final >= count or self.get(_batch(final, b"d")):',
        "if final >= count:",
    ),
    _mutant("pay an exit twice", ACCOUNTS, "    books.put(key, total)\n", ""),
    _mutant(
        "pay from a batch that is not final",
        ACCOUNTS,
        'refuse(number >= books.get(b"final"), Revert.WINDOW_OPEN',
        'refuse(number >= books.get(b"count"), Revert.WINDOW_OPEN',
    ),
    _mutant(
        "give a deposit back twice",
        ACCOUNTS,
        "    books.put(key, 1)\n    leave(books, made.asset, made.amount0)\n",
        "    leave(books, made.asset, made.amount0)\n",
        LEAVING,
    ),
    _mutant("take a batch made for another list", BOOKS, "batch.check_form(books.done(queue_end))", "0", LEAVING),
    _mutant(
        "give the bond back before everybody has left",
        BOOKS,
        'refuse(books.get(b"deposited") > 0 and not over,',
        'refuse(books.get(b"deposited") < 0,',
        LEAVING,
    ),
    _mutant(
        "let an operator stop for nothing",
        ACCOUNTS,
        'lost = books.get(b"bonded") // 2',
        "lost = 0",
        LEAVING,
    ),
    _mutant(
        "let a flood of demands fall due at once",
        BOOKS,
        "deadline = max(state.time + wait,",
        "deadline = min(state.time + wait,",
        LEAVING,
    ),
    _mutant("let dust drain the bond", ACCOUNTS, 'books.get(b"bonded"), gets)', 'books.get(b"bonded"))', LEAVING),
    _mutant("give a demand's fee back to who answers", BOOKS, '"operator"), fee // 2)', '"operator"), fee)', LEAVING),
    _mutant("pay for a way out from nothing", ACCOUNTS, '    books.add(b"bonded", -reward)\n', "", LEAVING),
    _mutant(
        "contract: take a batch made for another list",
        CONTRACT,
        "accounts, channels, queue_end, self._done(queue_end)))",
        "accounts, channels, queue_end, extract32(data, 0)))",
        LEAVING,
    ),
    _mutant(
        "contract: give the bond back before everybody has left",
        CONTRACT,
        "    assert self.deposited == 0 or (frozen",
        "    assert True or (frozen",
        LEAVING,
    ),
    _mutant("contract: give a deposit back twice", CONTRACT, "    self.reclaimed[index] = True\n", "", LEAVING),
    _mutant(
        "contract: let everybody stop everything",
        CONTRACT,
        '        assert msg.sender == OPERATOR, "window-open"\n',
        "        pass\n",
        LEAVING,
    ),
    _mutant(
        "contract: let a closed channel be closed",
        JUDGE,
        "if words[3] & M8 != OPEN or balance0 > words[2]:",
        "if balance0 > words[2]:",
    ),
    _mutant("contract: close later than agreed", JUDGE, "or time > valid_until:", "or False:"),
    _mutant("contract: take any nonce", JUDGE, "words[2] & M64 != nonce or words[1] < amount:", "words[1] < amount:"),
    _mutant(
        "contract: believe the leaves of a proof",
        JUDGE,
        '    assert self._climb(leaf, index, p, at + 4, DEPTH) == root, "bad-proof"\n',
        "",
    ),
    _mutant(
        "contract: believe the step of a proof",
        JUDGE,
        "    assert self._climb(keccak256(abi_encode(p[1], p[2], p[3])), p[0], p, 4, STEPS_DEPTH) == steps, "
        '"bad-proof"\n',
        "",
    ),
    _mutant("contract: convict whom nothing was proven", CONTRACT, '    assert found.wrong, "step-right"\n', ""),
    _mutant(
        "contract: pay the whole bond to the prover",
        CONTRACT,
        "reward: uint256 = bonded // 2",
        "reward: uint256 = bonded",
    ),
    _mutant("contract: pay an exit twice", CONTRACT, "    self.paid[asset][owner] = total\n", ""),
    _mutant(
        "contract: take the second side's word for the first's",
        CONTRACT,
        "        self._check(found.digest, by1, found.second)\n",
        "        pass\n",
    ),
    _mutant(
        "contract: leave the odd leaf out of the tree of steps",
        CONTRACT,
        "            nodes[width] = empty(bytes32)\n",
        "            pass\n",
    ),
    _mutant(
        "contract: let a demand be made when the window is over",
        CONTRACT,
        '    assert block.timestamp <= (batch.meta & M40) + WINDOW, "window-over"\n',
        "",
    ),
    _mutant(
        "watcher: follow a wrong batch",
        "settlement/rollup/watcher.py",
        "        if found.wrong is not None:\n",
        "        if found.wrong == -1:\n",
        WATCHER,
    ),
    _mutant(
        "watcher: take a signature for good",
        "settlement/rollup/watcher.py",
        "            if not good and",
        "            if not given and",
        WATCHER,
    ),
    _mutant(
        "operator: take a step that nobody signed",
        "settlement/rollup/operator.py",
        "            if not statement.is_signed(signature):\n",
        "            if not signature:\n",
        WATCHER,
    ),
    _mutant(
        "operator: take a number that no word holds",
        "settlement/rollup/operator.py",
        "        encode_step(signed.step)  # what has no word would take the whole batch with it\n",
        "",
        WATCHER,
    ),
    _mutant(
        "pay a channel out twice when everything stopped",
        ACCOUNTS,
        "    books.put(key, 1)\n    leave(books, made.asset, channel.total)\n",
        "    leave(books, made.asset, channel.total)\n",
    ),
    _mutant(
        "take a close of others than a channel's sides",
        ACCOUNTS,
        "    refuse(sides != (channel.first + 1, channel.second + 1),",
        "    refuse(sides == (0, 0),",
    ),
    _mutant(
        "contract: pay a channel out twice when everything stopped",
        CONTRACT,
        "    self.settled[entry[1]] = True\n",
        "",
    ),
    _mutant(
        "contract: pay a channel out for another one's close",
        CONTRACT,
        '    assert proof[3] == entry[1], "bad-proof"\n',
        "",
    ),
    _mutant(
        "contract: take a close of others than a channel's sides",
        CONTRACT,
        "    assert self.numbers[asset][first] == words[0] + 1 and self.numbers[asset][second] == words[1] + 1,",
        "    assert words[0] != words[1],",
    ),
    _mutant(
        "keep nothing of what was made final",
        BOOKS,
        "    open_books(state, rollup).finalise()\n",
        "    open_books(state, rollup)\n",
    ),
    _mutant(
        "contract: keep nothing of what was made final",
        CONTRACT,
        'cannot, where more wait than one counts."""\n    self._finalise()\n',
        'cannot, where more wait than one counts."""\n    pass\n',
    ),
    _mutant(
        "watcher: fall over signatures of a wrong batch",
        "settlement/rollup/watcher.py",
        "        if number >= len(self.standing):\n            return []",
        "        if number < 0:\n            return []",
        WATCHER,
    ),
    _mutant(
        "operator: post what is not on disk",
        "sdk/rollup/operating.py",
        "                self._store.commit([BatchMade(self._made)])\n",
        "                pass\n",
        PROGRAMS,
    ),
    _mutant(
        "operator: promise what is not on disk",
        "sdk/rollup/operating.py",
        "            self._store.commit([StepTaken(word, each.signatures, until) for word, each in fresh])\n",
        "",
        PROGRAMS,
    ),
    _mutant(
        "operator: post a batch that was made for another list",
        "sdk/rollup/operating.py",
        "if state_root(batch.accounts, batch.channels, batch.queue_end, done) != batch.root:",
        "if done == batch.root:",
        PROGRAMS,
    ),
    _mutant(
        "follower: believe what left the chain",
        "sdk/rollup/follower.py",
        "            self.core = self._rebuilt()\n            self.remade += 1\n",
        "            self.remade += 1\n",
        PROGRAMS,
    ),
    _mutant(
        "watcher: demand before the desk has had time",
        "sdk/rollup/watching.py",
        "            if signatures is None and",
        "            if signatures is False and",
        PROGRAMS,
    ),
    _mutant(
        "take what was not told of for a batch on top of a wrong one",
        "settlement/rollup/watcher.py",
        "        if number != len(self.standing):\n            raise InvalidInput(",
        "        if number != len(self.standing):\n            return []\n            raise InvalidInput(",
        HOSTILE,
    ),
    _mutant(
        "read at a desk before a wrong batch is convicted",
        "sdk/rollup/watching.py",
        "            if not isinstance(duty, DemandSignatures):\n",
        "            if False:\n",
        HOSTILE,
    ),
    _mutant(
        "lose a batch whose number has changed",
        "sdk/rollup/operating.py",
        "        if found is not None or number < self.facts.final:\n",
        "        if found is not None or number >= 0:\n",
        HOSTILE,
    ),
    _mutant(
        "leave batches uncounted when everybody leaves",
        "sdk/rollup/leaving.py",
        "        while last < len(core.standing) and now >",
        "        while False and now >",
        HOSTILE,
    ),
)
