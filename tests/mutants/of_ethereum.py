"""Mutants of the client of a real chain. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

EVM = "settlement/ethereum/evm/"
FEES, CLIENT, HEADERS, HISTORY, HOSTILE, LIES = (
    f"test_evm_{name}.py" for name in ("fees", "client", "headers", "history", "hostile", "lies")
)

MUTANTS = (
    Mutant(
        "replace a transaction with the tip that it had",
        EVM + "fees.py",
        "tip = max(tip, before.tip + before.tip // REPLACE + 1)",
        "tip = max(tip, before.tip)",
        (FEES,),
    ),
    Mutant(
        "give the whole cap to the miner",
        EVM + "fees.py",
        "tip = market.tip if cap <= market.cap else market.tip * cap // max(1, market.cap)",
        "tip = cap",
        (FEES,),
    ),
    Mutant(
        "sign a gas limit that no transaction may have",
        EVM + "gas.py",
        "    return min(wanted, GAS_MAX)\n",
        "    return wanted\n",
        (FEES,),
    ),
    Mutant(
        "take headers that do not chain",
        EVM + "headers.py",
        "        if after.header.parent != before.header.hash:\n",
        "        if False:\n",
        (HEADERS,),
    ),
    Mutant(
        "take a header that is not what its hash says",
        EVM + "headers.py",
        "        if proven and not seen.proven and not seen.strange:\n",
        "        if False:\n",
        (HEADERS, CLIENT),
    ),
    Mutant(
        "take a log of a block that is not on the branch",
        EVM + "logs.py",
        "        if numbers.get(placed.hash) != placed.number:\n",
        "        if placed.hash not in by_block:\n",
        (HEADERS,),
    ),
    Mutant(
        "believe a node that says nothing of a block whose filter says otherwise",
        EVM + "blocks.py",
        "        if not silent:\n            return logs\n",
        "        if True:\n            return logs\n",
        (CLIENT,),
    ),
    Mutant(
        "take logs that a block cannot hold",
        EVM + "blocks.py",
        "        if forged(headers, logs, self._at.contract):\n",
        "        if False:\n",
        (CLIENT,),
    ),
    Mutant(
        "follow a single node after blocks that nobody else knows",
        EVM + "nodes.py",
        "    while len(ranked) > 1 and ranked[0].number > ranked[1].number + AHEAD_MAX:\n        ranked.pop(0)\n",
        "",
        (CLIENT,),
    ),
    Mutant(
        "skip the first block after a range of logs that was halved",
        EVM + "blocks.py",
        "            first = piece[1] + 1\n",
        "            first = piece[1] + 2\n",
        (CLIENT, HISTORY),
    ),
    Mutant(
        "ask only one node for a history",
        EVM + "blocks.py",
        "        if len(self._nodes) > 1:\n            other, _ = await self._nodes.ask_one(block_question(last)",
        "        if False:\n            other, _ = await self._nodes.ask_one(block_question(last)",
        (HISTORY,),
    ),
    Mutant(
        "conclude from words that nobody understands that a transaction is malformed",
        EVM + "transactions.py",
        "        if code is None:\n",
        "        if code is None and not refused:\n",
        (CLIENT,),
    ),
    Mutant(
        "serve a contract that is not ours",
        EVM + "client.py",
        "        if isinstance(answers[2], RpcError) or answers[2] != to_hex(domain_separator(*self._at)):\n",
        "        if isinstance(answers[2], RpcError):\n",
        (CLIENT,),
    ),
    Mutant(
        "begin the search for a channel's terms anew whenever patience ends",
        EVM + "blocks.py",
        "searched = self._searches.pop(name, None) or Searched(head + 1, head, ())",
        "searched = Searched(head + 1, head, ())",
        (HOSTILE,),
    ),
    Mutant(
        "let a contract's own words make a node busy",
        EVM + "refusals.py",
        "    if _is_revert(code, said):\n        return False\n",
        "",
        (HOSTILE,),
    ),
    Mutant(
        "take an unknown transaction for a known one",
        EVM + "refusals.py",
        'rf"(?<![a-z]){re.escape(words)}"',
        'rf"{re.escape(words)}"',
        (HOSTILE,),
    ),
    Mutant(
        "ask again for as many blocks as a node was too slow to tell",
        EVM + "blocks.py",
        "                self._plan = refused\n                raise\n",
        "                raise\n",
        (HOSTILE,),
    ),
    Mutant(
        "let a node that refuses logs be asked first for ever",
        EVM + "blocks.py",
        "                    self._nodes.blame(state, error)\n                    raise error\n",
        "                    raise error\n",
        (HOSTILE,),
    ),
    Mutant(
        "believe one node that a transaction is in no block",
        EVM + "transactions.py",
        "        if receipt is None and len(self._nodes) > 1:",
        "        if False:",
        (HOSTILE,),
    ),
    Mutant(
        "show a provider's key",
        "settlement/ethereum/http.py",
        'rest = "" if url.raw_path in (b"", b"/") else "/…"',
        'rest = url.raw_path.decode("ascii")',
        (HOSTILE,),
    ),
    Mutant(
        "take a block for empty of which no node says so",
        EVM + "blocks.py",
        "            if logs is None:\n                raise",
        "            if logs is None:\n                continue\n                raise",
        (LIES,),
    ),
    Mutant(
        "believe an invented log in a long history",
        EVM + "blocks.py",
        "            if lies:\n",
        "            if False:\n",
        (LIES,),
    ),
    Mutant(
        "take the newest block for final, as a node says so",
        EVM + "blocks.py",
        "        return min(said.number, at_most)\n",
        "        return min(said.number, head.number)\n",
        (LIES,),
    ),
    Mutant(
        "stop at a fork that adds a field to headers",
        EVM + "headers.py",
        "strange=not proven and not _KNOWN.issuperset(value)",
        "strange=False",
        (LIES,),
    ),
    Mutant(
        "leave it to the chain's logs, after a restart, to tell which channels there are",
        "sdk/node/node.py",
        "                    self.chain.learn(channel.terms)\n",
        "",
        ("test_chain_stale.py",),
    ),
)
