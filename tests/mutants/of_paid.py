"""Mutants of paid HTTP calls. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

SELLING = ("test_paid_selling.py",)
BUYING = ("test_paid_buying.py", "test_paid_cheats.py")
SCHEME = ("test_payment_scheme.py",)

MUTANTS = (
    Mutant(
        "take a payment for an answer that is not stored",
        "paid/selling/middleware.py",
        "            await self._on_disk(partial(self._file.put, charge.payment_hash, stored))\n",
        "",
        SELLING,
    ),
    Mutant(
        "keep the payment for a failure",
        "paid/selling/middleware.py",
        "        if made.status >= 400:\n            await self._give_back(charge)\n",
        "",
        SELLING,
    ),
    Mutant(
        "sell on a challenge of somebody else's",
        "paid/selling/middleware.py",
        "if not challenge.is_bound(self._file.key) or named",
        "if named",
        SELLING,
    ),
    Mutant(
        "sell one call for the payment of another",
        "paid/selling/middleware.py",
        'if own.get("for") != _target(call) or not fits:',
        "if not fits:",
        SELLING,
    ),
    Mutant(
        "sell a call with another body",
        "paid/selling/middleware.py",
        'if own.get("for") != _target(call) or not fits:',
        'if own.get("for") != _target(call):',
        SELLING,
    ),
    Mutant(
        "make an answer twice at once",
        "paid/selling/middleware.py",
        "        if charge.payment_hash in self._busy:\n",
        "        if False:\n",
        SELLING,
    ),
    Mutant(
        "ask for another payment while nobody can tell whether this one came",
        "paid/selling/middleware.py",
        "raise _NotServed(ProblemKind.UNREACHABLE, detail, asks=False) from error",
        "raise _NotServed(ProblemKind.UNREACHABLE, detail) from error",
        SELLING,
    ),
    Mutant(
        "take the hash for a proof where the payer has the secret",
        "paid/method.py",
        "return charge.is_held and secret is None and told",
        "return told",
        ("test_paid_method.py",),
    ),
    Mutant(
        "pay before it is noted",
        "paid/buying/auth.py",
        "            await self._on_disk(partial(self._file.begin, purchase, self._budget))\n",
        "            pass\n",
        BUYING,
    ),
    Mutant(
        "forget what is on its way in the budget",
        "paid/buying/sqlite.py",
        "AND state != 'failed'",
        "AND state = 'answered'",
        BUYING,
    ),
    Mutant(
        "believe the amount beside the invoice",
        "paid/method.py",
        "(int(amount), currency.lower(), str(chain_id))",
        "(asked.amount, currency.lower(), str(chain_id))",
        BUYING,
    ),
    Mutant(
        "end a purchase that was refused after it was paid",
        "paid/buying/auth.py",
        "        elif response.status_code < 400:\n",
        "        else:\n            await self._on_disk(partial(self._file.end, purchase.payment_hash, ANSWERED))\n"
        "        if False:\n",
        BUYING,
    ),
    Mutant(
        "share a purchase between two calls at once",
        "paid/buying/auth.py",
        "            if purchase.payment_hash in self._busy:\n                continue\n",
        "",
        BUYING,
    ),
    Mutant(
        "let a slot of an id slip into the next one",
        "paid/scheme/challenges.py",
        '        if any("|" in slot for slot in self._slots()):\n            return False\n',
        "",
        SCHEME,
    ),
    Mutant(
        "read a parameter that stands twice",
        "paid/scheme/parameters.py",
        "if self.parameters is not None and name not in self.parameters:",
        "if self.parameters is not None:",
        SCHEME,
    ),
)
