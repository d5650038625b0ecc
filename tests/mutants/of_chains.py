"""Mutants of payments across chains: sdk/chains, and what it asks of the router."""

from __future__ import annotations

from mutant import Mutant

MUTANTS = (
    Mutant(
        "begin a swap to which makers agreed for too little",
        "sdk/chains/wallet.py",
        "        parts = [(offer, bought) for offer, bought, _ in agreed]\n",
        "        parts = offered\n",
        ("test_chains_wallet.py",),
    ),
    Mutant(
        "pay on the target whatever the time",
        "sdk/chains/carrying.py",
        "            expires_by = until - margin\n",
        "            expires_by = until\n",
        ("test_chains_maker.py",),
    ),
    Mutant(
        "let a lock outlive what its payer said",
        "router/sending/outgoing.py",
        "            if 0 < active.order.expires_by < expiry:\n",
        "            if False:\n",
        ("test_chains_maker.py",),
    ),
    Mutant(
        "take what is being paid on the target for not begun",
        "sdk/chains/carrying.py",
        "        if not self._is_begun():\n",
        "        if True:\n",
        ("test_chains_maker.py", "test_chains_maker_dies.py"),
    ),
    Mutant(
        "wait until the target has confirmed a secret",
        "sdk/chains/carrying.py",
        "        found = index.proofs([puzzle], index.head_number).get(puzzle)\n",
        "        found = index.proofs([puzzle], index.head_number - 2).get(puzzle)\n",
        ("test_chains_maker.py",),
    ),
    Mutant(
        "give back what was taken on, on the word of an old view",
        "router/forwarding/service.py",
        "        elif decision.passing and (patient or decision.taken):\n",
        "        elif decision.passing and patient:\n",
        ("test_chains_margins.py",),
    ),
    Mutant(
        "count no clocks into the margin",
        "sdk/chains/margins.py",
        "    clocks = maker.skew + math.ceil(source.look) + _blocks(1, source)\n",
        "    clocks = 0\n",
        ("test_chains_margins.py",),
    ),
    Mutant(
        "carry one hash across to two payees",
        "sdk/chains/maker.py",
        "        if known is None or known.crossing.text != text or source not in (None, known.crossing.source):\n",
        "        if known is None:\n",
        ("test_chains_maker.py",),
    ),
    Mutant(
        "agree on the same coins twice",
        "sdk/chains/maker.py",
        " - kept - sum(",
        " - sum(",
        ("test_chains_maker.py",),
    ),
    Mutant(
        "quote the same coins to everybody",
        "sdk/chains/maker.py",
        " - sum(map(_most_spent, quoted))",
        "",
        ("test_chains_wallet.py",),
    ),
    Mutant(
        "take a quote up more than once",
        "sdk/chains/crossings.py",
        "    if moment.crossing.nonce:\n",
        "    if False:\n",
        ("test_chains_wallet.py",),
    ),
    Mutant(
        "pay whatever a maker asks for after its quote",
        "sdk/chains/wallet.py",
        "        if (given.payment_hash, given.payee, given.amount) != (wanted.payment_hash, offer.maker, price):\n",
        "        if False:\n",
        ("test_chains_wallet.py",),
    ),
    Mutant(
        "sign a quote without its limits",
        "sdk/chains/quotes.py",
        "(*numbers, quote.until)",
        "(*numbers[:4], quote.until)",
        ("test_chains_quotes.py",),
    ),
    Mutant(
        "round a price the payer's way",
        "sdk/chains/rates.py",
        "        price = -(-(amount + self.route_fee(amount)) * self.take // self.give) + self.base\n",
        "        price = (amount + self.route_fee(amount)) * self.take // self.give + self.base\n",
        ("test_chains_margins.py",),
    ),
    Mutant(
        "let a lock live as long as those on the way ask for",
        "router/sending/outgoing.py",
        "            if life > active.payment.limits.lock_max:\n",
        "            if False:\n",
        ("test_chains_maker.py",),
    ),
)
