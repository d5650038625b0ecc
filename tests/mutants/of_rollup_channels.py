"""Mutants of closes by one side in a rollup, and of its assets. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

RULES = "settlement/rollup/rules.py"
CONTRACT = "contracts/Rollup.vy"
JUDGE = "contracts/RollupJudge.vy"
ACCOUNTS = "settlement/modules/rollup_accounts.py"
DISPUTES = "settlement/rollup/disputes.py"
CLOSING = "settlement/modules/rollup_disputes.py"
ALONE = ("test_rollup_disputes.py",)
PROGRAMS = ("test_rollup_alone.py",)
TOKENS = ("test_rollup_tokens.py",)
ASSETS = ("test_rollup_assets.py",)
PAYING = "sdk/rollup/channels.py"
BOOK = "sdk/rollup/channel_book.py"
PAID = ("test_rollup_channels.py",)


def _mutant(name: str, file: str, before: str, after: str, tests: tuple[str, ...]) -> Mutant:
    return Mutant(f"rollup: {name}", file, before, after, tests)


MUTANTS = (
    _mutant("alone: convict nobody", DISPUTES, "dispute.is_convicted or knew", "dispute.is_convicted", ALONE),
    _mutant("alone: convict whoever is answered", DISPUTES, "proof.sender != dispute.closer or", "True or", ALONE),
    _mutant(
        "alone: keep what an older proof says",
        DISPUTES,
        "        transferred=with_side(dispute.transferred, proof.sender, proof.transferred),\n",
        "",
        ALONE,
    ),
    _mutant(
        "alone: take one side's word",
        DISPUTES,
        "return Statement(sides[proof.sender], digest), Statement(sides[1 - proof.sender], digest)",
        "return Statement(sides[proof.sender], digest), Statement(sides[proof.sender], digest)",
        ALONE,
    ),
    _mutant(
        "alone: take a proof with locks",
        DISPUTES,
        "        if proof.locked or any(proof.locks_root):\n",
        "        if proof.locked < 0:\n",
        ALONE,
    ),
    _mutant(
        "alone: close a leaf under another number",
        CLOSING,
        "    refuse(channel > INDEX_MAX,",
        "    refuse(channel < 0,",
        ALONE,
    ),
    _mutant(
        "alone: close a channel of others",
        CLOSING,
        "    check_sides(books, leaf, first, second, asset)\n",
        "",
        ALONE,
    ),
    _mutant(
        "alone: answer later than agreed",
        CLOSING,
        "    refuse(state.time > dispute.deadline, Revert.WINDOW_OVER,",
        "    refuse(state.time < 0, Revert.WINDOW_OVER,",
        ALONE,
    ),
    _mutant(
        "alone: go back to an older proof",
        CLOSING,
        "    refuse(newer.seq <= dispute.seqs[sender],",
        "    refuse(newer.seq < 0,",
        ALONE,
    ),
    _mutant(
        "alone: settle before the window is over",
        CLOSING,
        "    refuse(state.time <= dispute.deadline,",
        "    refuse(state.time < 0,",
        ALONE,
    ),
    _mutant("alone: settle twice", CLOSING, '    books.put(b"c" + name, ORDERED)\n', "", ALONE),
    _mutant(
        "alone: forget what the second side has paid in",
        RULES,
        "    paid = channel.second_paid + step.amount * step.side\n",
        "    paid = channel.second_paid\n",
        ALONE,
    ),
    _mutant(
        "pay a token out of a coin's account",
        RULES,
        "    payee = _credit(state, step.payee, step.amount)\n    _check_asset(payer, payee)\n",
        "    payee = _credit(state, step.payee, step.amount)\n",
        ASSETS,
    ),
    _mutant("let a channel have two assets", RULES, "    _check_asset(opener, other)\n", "", ASSETS),
    _mutant(
        "sign for any asset",
        RULES,
        "digest_transfer(place, payer.owner, payee.owner, step.amount, step.nonce, payer.asset)",
        "digest_transfer(place, payer.owner, payee.owner, step.amount, step.nonce)",
        ASSETS,
    ),
    _mutant("pay for the way out of a token", ACCOUNTS, " if account.asset == NATIVE else 0", "", ASSETS),
    _mutant(
        "contract: alone: convict nobody",
        CONTRACT,
        "    if convicts:\n        state |= CONVICTED\n",
        "",
        ALONE,
    ),
    _mutant(
        "contract: alone: close a leaf under another number",
        CONTRACT,
        """    assert index <= M32, "bad-amount"
    name: bytes32""",
        "    name: bytes32",
        ALONE,
    ),
    _mutant(
        "contract: alone: close a channel of others",
        CONTRACT,
        "    assert words[3] & M8 == OPEN and self.numbers[asset][first] == words[0] + 1 and "
        "self.numbers[asset][second] == words[1] + 1,",
        "    assert words[3] & M8 == OPEN,",
        ALONE,
    ),
    _mutant(
        "contract: alone: take one side's word",
        CONTRACT,
        "    self._check(digest, Signature(r=extract32(proof, 96), vs=convert(extract32(proof, 128), uint256)), "
        "second if side == 0 else first)\n",
        "",
        ALONE,
    ),
    _mutant(
        "contract: alone: settle twice",
        CONTRACT,
        "    self.disputes[name][0] = (state ^ RUNNING) | ORDERED\n",
        "",
        ALONE,
    ),
    _mutant(
        "contract: alone: forget what the second side has paid in",
        JUDGE,
        "        paid: uint256 = 0 if side == 0 else amount << 8\n",
        "        paid: uint256 = 0\n",
        ALONE,
    ),
    _mutant(
        "contract: pay a token out of a coin's account",
        JUDGE,
        "        second = self._credit(p, 1, payee, first.root, amount)\n"
        "        if not second.ok or second.asset != first.asset:\n",
        "        second = self._credit(p, 1, payee, first.root, amount)\n        if not second.ok:\n",
        ASSETS,
    ),
    _mutant(
        "contract: let a channel have two assets",
        JUDGE,
        "        second = self._credit(p, 1, partner, first.root, 0)\n"
        "        if not second.ok or second.asset != first.asset:\n",
        "        second = self._credit(p, 1, partner, first.root, 0)\n        if not second.ok:\n",
        ASSETS,
    ),
    _mutant(
        "contract: take a token that does not come whole",
        CONTRACT,
        '    assert staticcall Token(asset).balanceOf(self) == before + amount, "inexact-transfer"\n',
        "",
        ASSETS,
    ),
    _mutant(
        "contract: pay for the way out of a token",
        CONTRACT,
        "    if self.late and words[2] >> 64 == 0:\n",
        "    if self.late:\n",
        ASSETS,
    ),
    _mutant(
        "contract: pay no token and call it paid",
        CONTRACT,
        '        assert done and self._said_yes(answer), "transfer-failed"\n',
        "",
        ASSETS,
    ),
    _mutant(
        "user: answer by what stands already",
        "sdk/rollup/disputing.py",
        "if each is not None and each.proof.seq > running.seqs[each.proof.sender]:\n",
        "if each is not None and each.proof.seq < running.seqs[each.proof.sender]:\n",
        PROGRAMS,
    ),
    _mutant(
        "user: forget the other side's proof in a close",
        "sdk/rollup/disputing.py",
        "                newest[each.proof.sender] = each\n",
        "                newest[each.proof.sender] = newest[each.proof.sender] or None\n",
        PROGRAMS,
    ),
    _mutant(
        "watcher: forget that one side closes",
        "settlement/rollup/watcher.py",
        "                self.disputes[event.index] = RunningClose(event.closer, event.seqs, event.deadline)\n",
        "                pass\n",
        PROGRAMS,
    ),
    _mutant(
        "user: sign for coins what is a token's",
        "sdk/rollup/user.py",
        "digest_transfer(self._place, self.address, payee, amount, number, self.asset)",
        "digest_transfer(self._place, self.address, payee, amount, number)",
        TOKENS,
    ),
    _mutant(
        "user: sign a step in a token that the operator takes no fee in",
        "sdk/rollup/asking.py",
        "        if named is None and self.fee:\n",
        "        if False:\n",
        TOKENS,
    ),
    _mutant(
        "user: pay the fee of a token's step in coins",
        "sdk/rollup/signing.py",
        "digest_transfer(self._place, self._key.address, operator, fee, number, self._asset)",
        "digest_transfer(self._place, self._key.address, operator, fee, number)",
        TOKENS,
    ),
    _mutant(
        "operator: take a fee in one asset for steps of another",
        "sdk/rollup/admission.py",
        "paid_to(group, ours)",
        "sum(paid_to(steps, operator(each)) for each in of_asset)",
        TOKENS,
    ),
    _mutant(
        "operator: take the steps of tokens for nothing",
        "sdk/rollup/operating.py",
        "self.token_fees.get(asset, None if self.fee else 0)",
        "self.token_fees.get(asset, 0)",
        TOKENS,
    ),
    _mutant(
        "channel: hand on a payment that is not on disk",
        PAYING,
        '            self._store.commit([ProofKept(proof, signed.signature, b"", key)])\n',
        "",
        PAID,
    ),
    _mutant(
        "channel: give a receipt that is not on disk",
        PAYING,
        "                self._store.commit([ProofKept(proof, signed.signature, signed.countersignature)])\n",
        "",
        PAID,
    ),
    _mutant(
        "channel: sign another payment while one has no receipt",
        BOOK,
        "        if (waits := self.pending) is not None:\n",
        "        if (waits := self.pending) is not None and amount < 0:\n",
        PAID,
    ),
    _mutant(
        "channel: let two payments be signed at once",
        PAYING,
        "        self._alone = trio.Lock()\n",
        "        self._alone = trio.CapacityLimiter(9)\n",
        PAID,
    ),
    _mutant(
        "channel: countersign another payment under a number",
        PAYING,
        "            if known is not None and known.proof != proof:\n",
        "            if False:\n",
        PAID,
    ),
    _mutant(
        "channel: countersign a number that was left out",
        BOOK,
        "        if proof.seq != seq + 1 or proof.seen != seq:\n",
        "        if proof.seq <= seq:\n",
        PAID,
    ),
    _mutant(
        "channel: believe a receipt that nobody signed",
        PAYING,
        "                book.parties.check(self._place, signed)\n                if not known",
        "                if not known",
        PAID,
    ),
    _mutant(
        "channel: pay the other side's unsigned word back",
        BOOK,
        "        ours = self.before if self.pending is not None else self.newest[self.side]\n",
        "        ours = self.newest[self.side]\n",
        PAID,
    ),
    _mutant(
        "channel: sign a close and forget it",
        PAYING,
        "                self._store.commit([ChannelEnding(book.name, longest, book.balance0)])\n",
        "                pass\n",
        PAID,
    ),
    _mutant(
        "channel: let a later close shorten what was signed",
        PAYING,
        "max(until, ending.until)",
        "until",
        PAID,
    ),
    _mutant(
        "channel: count a batch's time as its block's",
        PAYING,
        "time <= ending.until + LAG",
        "time <= ending.until",
        PAID,
    ),
    _mutant(
        "channel: count by the time of a block that may go",
        PAYING,
        "await self._chain.header(await self._chain.final_number())",
        "await self._chain.head()",
        PAID,
    ),
    _mutant(
        "channel: take a payment after closing alone",
        PAYING,
        "            self._store.commit([ChannelEnding(book.name, FOREVER, None)])\n",
        "            pass\n",
        PAID,
    ),
    _mutant(
        "channel: pay though the chain has ordered the end",
        PAYING,
        "core.entries[core.state.head :]",
        "core.entries[:0]",
        PAID,
    ),
    _mutant(
        "channel: sign a close of less than was paid in",
        PAYING,
        "        if agreed and leaf.total != sum(book.deposits):\n",
        "        if False:\n",
        PAID,
    ),
    _mutant(
        "channel: fall over a number that no disk holds",
        BOOK,
        "    if not 0 <= seen < seq < _SEQ_BOUND:\n",
        "    if seq == 0:\n",
        PAID,
    ),
)
