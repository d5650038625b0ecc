"""Mutants of payments across chains: sdk/chains, and what it asks of the router."""

from __future__ import annotations

from mutant import Mutant

MUTANTS = (
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
        " - sum(each.amount + each.fee for each in agreed)",
        "",
        ("test_chains_maker.py",),
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
