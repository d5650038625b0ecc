"""Mutants of the court's contract, of the adjudicator that asks it, and of our client. See `run`."""

from __future__ import annotations

from mutant import Mutant

TWINS = ("test_court_twins.py",)
CLIENT = ("test_evm_court.py",)


def _mutant(name: str, before: str, after: str, file: str = "Court") -> Mutant:
    return Mutant(f"evm court: {name}", f"contracts/{file}.vy", before, after, TWINS)


MUTANTS = (
    # --- who signed
    _mutant(
        "let one player sign for both",
        "self._check(digest, signature1, t.player1)",
        "self._check(digest, signature0, t.player0)",
    ),
    _mutant("take a signature with high s", "assert s <= HALF_ORDER and (ecrecover", "assert (ecrecover"),
    _mutant(
        "take a move that the other player signed",
        "t.player0 if mover == 0 else t.player1)",
        "t.player1 if mover == 0 else t.player0)",
    ),
    _mutant(
        "take an outcome that player 1 has not signed",
        "    self._check(digest, slice(proof, 324, 64), t.player1)\n",
        "",
    ),
    _mutant(
        "let what counts on one chain count on all",
        "instance: bytes32 = self._instance(chain_id, t)",
        "instance: bytes32 = self._instance(CHAIN_ID, t)",
    ),
    _mutant(
        "let the order of numbers slip",
        "keccak256(abi_encode(STATE, instance, number, keccak256(after)))",
        "keccak256(abi_encode(STATE, instance, numbers & M64, keccak256(after)))",
    ),
    # --- time
    _mutant(
        "hear of an instance a second too late",
        "assert block.timestamp <= convert(expiry, uint256)",
        "assert block.timestamp <= convert(expiry, uint256) + 1",
    ),
    _mutant(
        "take a move a second too late",
        "assert block.timestamp <= (known >> 128) & M64",
        "assert block.timestamp <= ((known >> 128) & M64) + 1",
    ),
    _mutant(
        "forget what is due",
        "max(block.timestamp + convert(t.period, uint256), min(due, expiry))",
        "block.timestamp + convert(t.period, uint256)",
    ),
    _mutant("let a dispute go on for ever", "min(expiry + COURT_MOST, M64)", "M64"),
    _mutant("end a dispute too early", "expiry + COURT_MOST", "expiry + convert(t.period, uint256)"),
    _mutant(
        "leave a stake open that an outcome decided",
        "self.kept[second] = (expiry << 192) | paid1",
        "self.kept[second] = (expiry << 192) | (M64 << 128) | paid1",
    ),
    # --- what counts
    _mutant(
        "take an older state",
        "assert convert(number, uint256) > self.numbers[instance] >> 64",
        "assert convert(number, uint256) > 0",
    ),
    _mutant(
        "count a move as agreed",
        't, numbers >> 64, number, after, move, signature, b"")',
        't, (numbers & M64) + 1, number, after, move, signature, b"")',
    ),
    _mutant(
        "take a move on any state", "assert keccak256(state) == self.states[instance] and numbers", "assert numbers"
    ),
    _mutant(
        "take a move that the rules forbid",
        '    assert done, "not-allowed"\n    return abi_decode(answer, Bytes[STATE_MAX])',
        "    return abi_decode(answer, Bytes[STATE_MAX]) if done else state",
    ),
    _mutant(
        "tell the rules of another instance",
        "abi_encode(state, move, mover, instance,",
        "abi_encode(state, move, mover, empty(bytes32),",
    ),
    _mutant(
        "pay more than was staked, by the rules",
        '    assert paid[0] <= convert(t.stake0, uint256) and paid[1] <= convert(t.stake1, uint256), "bad-proof"\n',
        "",
    ),
    _mutant(
        "pay more than was staked, by agreement",
        '    assert paid0 <= convert(t.stake0, uint256) and paid1 <= convert(t.stake1, uint256), "bad-signature"\n',
        "",
    ),
    _mutant(
        "take rules that do not answer at their word",
        'assert done and len(answer) == 32, "bad-proof"\n    turn:',
        "turn:",
    ),
    _mutant(
        "let a rule take all the gas there is",
        'method_id("turn(bytes)")), max_outsize=32, gas=RULES_GAS,',
        'method_id("turn(bytes)")), max_outsize=32,',
    ),
    _mutant(
        "give player 0's part to player 1",
        "self.kept[self._stake(instance, 1)] = (expiry << 192) | (until << 128) | paid[1]",
        "self.kept[self._stake(instance, 1)] = (expiry << 192) | (until << 128) | paid[0]",
    ),
    _mutant("take terms with a period of nothing", "PERIOD_LEAST <= t.period and ", ""),
    _mutant(
        "take any lock's condition",
        'assert condition == first or condition == second, "bad-proof"',
        'assert condition != first or True, "bad-proof"',
    ),
    _mutant(
        "let an app's rules be said twice",
        "assert self.rules[apps[at]] == empty(address) and rules[at]",
        "assert rules[at]",
    ),
    # --- the adjudicator's question
    _mutant(
        "redeem a stake that is open",
        "            kept = block.timestamp <= (said >> 128) & M64\n",
        "            kept = False\n",
        "Adjudicator",
    ),
    _mutant(
        "decide a lock that expires before the terms",
        "if said != 0 and said >> 192 <= expiry:",
        "if said != 0:",
        "Adjudicator",
    ),
    _mutant(
        "redeem a stake a second too early",
        "kept = block.timestamp <= (said >> 128) & M64",
        "kept = block.timestamp < (said >> 128) & M64",
        "Adjudicator",
    ),
    _mutant(
        "pay all of a stake",
        "                paid = min(said & LOW, share)\n",
        "                paid = share\n",
        "Adjudicator",
    ),
    _mutant(
        "ask no court",
        "elif kind == 1 and COURT != empty(address):",
        "elif kind == 1 and COURT == empty(address):",
        "Adjudicator",
    ),
    _mutant(
        "take an account without code for a court",
        "(court == empty(address) or court.codesize > 0)",
        "True",
        "Adjudicator",
    ),
    # --- our client
    *(
        Mutant(f"evm court: {name}", f"settlement/ethereum/evm/{file}", before, after, tests)
        for name, file, before, after, tests in (
            (
                "believe that an adjudicator asks the court that is named",
                "client.py",
                "            if await court_of(endpoint, self.contract) != self._court:\n",
                "            if False:\n",
                CLIENT,
            ),
            ("take any court", "client.py", "            await check_court(endpoint, self._court)\n", "", CLIENT),
            (
                "take any rules",
                "court.py",
                "        if _said(endpoint, answer) != artifact(RULES[app.name, app.version]).deployed:\n",
                "        if False:\n",
                CLIENT,
            ),
            (
                "take locks of apps where no court is named",
                "client.py",
                "return known if self._court is None else",
                "return",
                CLIENT,
            ),
            (
                "follow the adjudicator alone",
                "court.py",
                "return (at.contract,) if court is None else (at.contract, court)",
                "return (at.contract,)",
                CLIENT,
            ),
            (
                "not notice that a node leaves out the court's logs alone",
                "logs.py",
                "return (seen.header.hash, teller) not in told and seen.may_hold(teller)",
                "return seen.header.hash not in {hash for hash, _ in told} and seen.may_hold(teller)",
                ("test_evm_headers.py",),
            ),
            (
                "give a call of the court less gas than rules may take",
                "gas.py",
                "    return APP_GAS\n",
                "    return 0\n",
                CLIENT,
            ),
        )
    ),
)
