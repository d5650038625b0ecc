"""Mutants of the contract: its source is changed and compiled, and the tests run the bytecode. See `run`."""

from __future__ import annotations

from mutant import Mutant

FILE = "contracts/Adjudicator.vy"
PAYOUTS = ("test_contract_payouts.py",)
TOKENS = ("test_contract_tokens.py",)
SIGNATURES = ("test_contract_signatures.py",)
REGISTRY = ("test_contract_registry.py",)
BATCHES = ("test_contract_batches.py",)
TWINS = ("test_contract_twins.py",)
ATTACKS = ("test_contract_attacks.py",)


def _mutant(name: str, before: str, after: str, tests: tuple[str, ...]) -> Mutant:
    return Mutant(f"contract: {name}", FILE, before, after, tests)


MUTANTS = (
    # --- signatures
    _mutant("let nobody sign for the zero address", "and first != empty(address) and", "and", SIGNATURES),
    _mutant(
        "check the receiver's signature against the sender",
        "convert(by_second.r, uint256), s) == second,",
        "convert(by_second.r, uint256), s) == first,",
        TWINS,
    ),
    _mutant(
        "leave the terms out of what finds a channel",
        "abi_encode(id, t.challenge_period, t.close_hash))\n\n@internal\n@view\ndef _find",
        "abi_encode(id, t.challenge_period))\n\n@internal\n@view\ndef _find",
        TWINS,
    ),
    # --- payouts
    _mutant(
        "let a refusal stop the payout",
        "    if not self._moved(asset, to, amount, bound):\n",
        "    assert self._moved(asset, to, amount, bound)\n    if False:\n",
        PAYOUTS,
    ),
    _mutant("forget what was owed before", "self.owed[asset][to] += amount", "self.owed[asset][to] = amount", PAYOUTS),
    _mutant("pay a claim again and again", "    self.owed[asset][msg.sender] = 0\n", "", PAYOUTS),
    _mutant("let a claim of nothing pass", '    assert amount != 0, "nothing-owed"\n', "", PAYOUTS),
    _mutant(
        "forget a claim that failed",
        ' and self._moved(asset, to, amount, msg.gas), "transfer-failed"\n',
        ', "transfer-failed"\n    done: bool = self._moved(asset, to, amount, msg.gas)\n',
        PAYOUTS,
    ),
    *(
        _mutant(f"pay a claim to {whom}", f"to != {what} and ", "", PAYOUTS)
        for whom, what in (("the token", "asset"), ("nobody", "empty(address)"), ("the contract", "self"))
    ),
    _mutant(
        "credit what its receiver had too little gas for behind a delegation",
        "bound + bound // 32 + 20_000",
        "bound + bound // 32 + 12_000",
        ATTACKS,
    ),
    *(
        _mutant(f"let {name} run within a payout", f"@nonreentrant\ndef {name}(", f"def {name}(", ATTACKS)
        for name in ("open", "withdraw", "cooperativeClose", "settle", "redeem", "redeemMany", "claim")
    ),
    # --- tokens
    _mutant(
        "refuse tokens that answer nothing",
        "len(answer) == 0 or (len(answer) == 32 and",
        "(len(answer) == 32 and",
        TOKENS,
    ),
    _mutant("take false for true", "and convert(answer, uint256) == 1)", "and convert(answer, uint256) < 2)", TOKENS),
    _mutant(
        "credit what did not arrive",
        '    assert staticcall Token(asset).balanceOf(self) == before + amount, "inexact-transfer"\n',
        "",
        TOKENS,
    ),
    _mutant(
        "credit more than arrived", "balanceOf(self) == before + amount,", "balanceOf(self) <= before + amount,", TOKENS
    ),
    _mutant("leave the permit out", "    if permit.deadline != 0:\n", "    if permit.deadline == 1:\n", TOKENS),
    _mutant(
        "take tokens without any", "    if not done or not self._said_yes(answer):\n", "    if not done:\n", TOKENS
    ),
    _mutant("let a token call back into a deposit", "@nonreentrant\ndef deposit(", "def deposit(", TOKENS),
    _mutant("take an asset without code", "(t.asset.codesize > 0 and t.asset != self)", "t.asset != self", TOKENS),
    _mutant(
        "take the contract for a token", "(t.asset.codesize > 0 and t.asset != self)", "t.asset.codesize > 0", TOKENS
    ),
    _mutant(
        "take a deposit in coins that did not come",
        '    assert msg.value == (added if t.asset == empty(address) else 0), "bad-amount"\n',
        "",
        TOKENS,
    ),
    # --- open, deposit, withdraw, cooperative close
    _mutant(
        "let anybody open",
        '    assert msg.sender == t.p0 or msg.sender == t.p1, "not-a-participant"\n    assert t.p0 != self',
        "    assert t.p0 != self",
        TWINS,
    ),
    _mutant("let a number be used again", "self.counts[pair] = count + 1", "self.counts[pair] = count", TWINS),
    _mutant(
        "open with any period",
        '    assert 1 <= t.challenge_period and t.challenge_period <= CHALLENGE_PERIOD_MAX, "bad-terms"\n',
        "",
        TWINS,
    ),
    _mutant("note the other side's share", "self.shares[key][sum] = d0 + 1", "self.shares[key][sum] = d1 + 1", TWINS),
    _mutant(
        "forget how the first sum was shared",
        "    elif (d0 if side == 0 else d1) != 0:\n",
        "    elif (d0 if side == 0 else d1) == 1:\n",
        TWINS,
    ),
    _mutant("forget that a channel was empty", "state | EMPTY |", "state |", TWINS),
    _mutant(
        "take the first deposit for side 0's",
        "if total != 0 and state & FIRST == 0 and total == first0:",
        "if total != 0 and total == first0:",
        TWINS,
    ),
    _mutant(
        "withdraw the same again",
        'assert convert(total, uint256) > before, "bad-amount"',
        'assert convert(total, uint256) >= before, "bad-amount"',
        TWINS,
    ),
    _mutant(
        "withdraw what is not there",
        "(deposits >> 128) - (withdrawn & LOW) - (withdrawn >> 128), ",
        "(deposits >> 128), ",
        TWINS,
    ),
    _mutant(
        "withdraw later than agreed",
        '    assert side < 2, "not-a-participant"\n'
        '    assert block.timestamp <= convert(valid_until, uint256), "expired"\n',
        '    assert side < 2, "not-a-participant"\n',
        TWINS,
    ),
    _mutant("give a late deposit to the other side", "paid0 += d0 - first", "paid1 += d0 - first", TWINS),
    _mutant("leave a channel open that was closed in agreement", "    self.words[key][0] = GONE\n", "", TWINS),
    # --- close, challenge, settle
    _mutant(
        "let anybody close",
        '    assert msg.sender == t.p0 or msg.sender == t.p1, "not-a-participant"\n    assert keccak256(close_key)',
        "    assert keccak256(close_key)",
        TWINS,
    ),
    _mutant("close with any key", '    assert keccak256(close_key) == t.close_hash, "bad-close-key"\n', "", TWINS),
    _mutant(
        "keep the other's seq as the closer's own",
        "(seq0 if closer == 0 else seq1) << 184",
        "(seq1 if closer == 0 else seq0) << 184",
        TWINS,
    ),
    _mutant("take a signed genesis", '    assert numbers >> 192 != 0, "bad-proof"\n', "", TWINS),
    _mutant(
        "take the same proof again",
        'assert seq > (state >> at) & M64, "not-newer"',
        'assert seq >= (state >> at) & M64, "not-newer"',
        TWINS,
    ),
    _mutant(
        "challenge a second too late",
        'assert block.timestamp <= (state >> 16) & M40, "window-over"',
        'assert block.timestamp <= ((state >> 16) & M40) + 1, "window-over"',
        TWINS,
    ),
    _mutant(
        "settle a second too early",
        'assert block.timestamp > (state >> 16) & M40, "window-open"',
        'assert block.timestamp >= (state >> 16) & M40, "window-open"',
        TWINS,
    ),
    _mutant(
        "convict an honest closer by what it had seen",
        "(numbers >> 128) & M64 > state >> 184",
        "(numbers >> 128) & M64 >= state >> 184",
        TWINS,
    ),
    _mutant("convict nobody who hides what it got", "bool = side != closer or", "bool = side == closer and", TWINS),
    _mutant(
        "let the closer name its own tower",
        "voucher, t.p1 if closer == 0 else t.p0)",
        "voucher, t.p0 if closer == 0 else t.p1)",
        TWINS,
    ),
    _mutant("let a voucher name the contract", '        assert beneficiary != self, "bad-proof"\n', "", TWINS),
    _mutant(
        "let a second conviction change whom the voucher names",
        "    if convicts and state & CONVICTED == 0:\n",
        "    if convicts:\n",
        TWINS,
    ),
    _mutant("keep locks that a newer proof has not", "        state ^= HELD << side\n", "", TWINS),
    _mutant(
        "believe any locks",
        "    assert convert(keccak256(abi_encode(held.locked, held.root)), uint256) == self.words[key][4 + side], "
        '"bad-locks"\n',
        "",
        PAYOUTS,
    ),
    _mutant(
        "take the reward of what is not forfeited",
        "(net0 if state & CLOSER == 0 else net1) * REWARD_BPS",
        "(net1 if state & CLOSER == 0 else net0) * REWARD_BPS",
        TWINS,
    ),
    _mutant("forget a withdrawal in the settlement", "        minus += withdrawn & LOW\n", "", TWINS),
    _mutant("reward more than all", "assert reward_bps <= 10_000 and (court", "assert (court", PAYOUTS),
    # --- locks and the registry
    _mutant("pay for a late secret", "if registered != 0 and registered <= expiry:", "if registered != 0:", TWINS),
    _mutant(
        "let a lock expire a second early",
        "kept: bool = block.timestamp <= expiry",
        "kept: bool = block.timestamp < expiry",
        TWINS,
    ),
    _mutant(
        "pay a stream more than its share",
        "paid = min(self.streams[condition] & LOW, share)",
        "paid = self.streams[condition] & LOW",
        TWINS,
    ),
    _mutant(
        "decide any kind of lock by streams", "elif kind == 2 and not kept:", "elif kind != 0 and not kept:", TWINS
    ),
    _mutant(
        "pay locks to their sender",
        "t.p1 if sender == 0 else t.p0, paid)",
        "t.p0 if sender == 0 else t.p1, paid)",
        TWINS,
    ),
    _mutant("keep what is no lock's", "waiting + left if roots[1] != empty(bytes32) else 0", "waiting + left", TWINS),
    _mutant("redeem nothing for ever", '    assert decided or not any, "nothing-to-redeem"\n', "", TWINS),
    _mutant(
        "redeem any locks",
        "    assert convert(keccak256(abi_encode(locked, roots[0])), uint256) == self.words[r.key][slot], "
        '"bad-locks"\n',
        "",
        TWINS,
    ),
    _mutant("register a secret again", '    assert self.secrets[digest] == 0, "already-registered"\n', "", REGISTRY),
    _mutant("take a link that leads nowhere", '    assert at == end, "bad-proof"\n', "", REGISTRY),
    _mutant("take a shallower link", '    assert worth > known & LOW, "not-newer"\n', "", REGISTRY),
    _mutant(
        "take a link after its stream's expiry",
        '    assert block.timestamp <= convert(expiry, uint256), "expired"\n',
        "",
        REGISTRY,
    ),
    _mutant(
        "walk to the tip each time",
        "        steps -= known >> 128\n        end = self.checkpoints[condition]\n",
        "        pass\n",
        REGISTRY,
    ),
    _mutant(
        "call a shallow link a checkpoint",
        "        known = convert(depth, uint256) << 128\n",
        "        known = convert(depth - 1, uint256) << 128\n",
        REGISTRY,
    ),
    # --- many at once
    _mutant(
        "call as the contract itself",
        "max_outsize=100, is_delegate_call=True, revert_on_failure=False",
        "max_outsize=100, revert_on_failure=False",
        BATCHES,
    ),
    _mutant(
        "let one call stop the others",
        "        if not done:\n            log CallFailed",
        "        assert done\n        if not done:\n            log CallFailed",
        BATCHES,
    ),
    _mutant("take coins with a batch", "@external\ndef batch(", "@external\n@payable\ndef batch(", BATCHES),
)
