#!/usr/bin/env bash
# pympp (the Payment HTTP authentication scheme) takes prices as decimal text with a token's decimals. Of how many digits?
#
# Guess: any number, exactly, as its messages say that what makes a fraction of a base unit is refused.
# What happens (0.16.0): the text is multiplied in Python's default decimal context, of 28 significant digits, and the check for
# a fraction is made on the rounded product. So what has more digits is rounded without a word, up or down: with 18 decimals,
# 12345678901.123456789012345678 asks for 2 base units too much, and a whole number of base units of 29 digits for one more.
# The same amount means two prices: a client that computes by integers finds another one than the challenge has.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 (3.11 or later) and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "pympp==0.16.0"
"$folder/env/bin/python" - <<'PROGRAM'
import asyncio
import base64
import json
from importlib.metadata import version

from mpp import Challenge
from mpp.server.verify import verify_or_challenge


class Charge:
    """An intent that nobody gets to pay here: only its challenge is looked at."""

    name = "charge"

    async def verify(self, *arguments, **named):
        raise SystemExit("nothing was paid, so nothing is to be verified")


async def asked(amount: str, decimals: int) -> str:
    made = await verify_or_challenge(
        authorization=None,
        intent=Charge(),
        request={"amount": amount, "decimals": decimals, "currency": "0x" + "70" * 20, "recipient": "0x" + "22" * 20},
        realm="example.com",
        secret_key="a secret of this example",
    )
    assert isinstance(made, Challenge), made
    request = made.request
    if isinstance(request, str):
        request = json.loads(base64.urlsafe_b64decode(request + "=="))
    return request["amount"]


print("pympp", version("pympp"))
CASES = {
    ("1234567890.123456789012345678", 18): "1234567890123456789012345678",
    ("12345678901.123456789012345678", 18): "12345678901123456789012345680",
    ("123456789012.000000000000000001", 18): "123456789012000000000000000000",
    ("99999999999999999999999999999", 0): "100000000000000000000000000000",
}
same = True
for (amount, decimals), expected in CASES.items():
    exact = amount.replace(".", "")
    found = asyncio.run(asked(amount, decimals))
    print(f"{amount:>32} with {decimals:2} decimals: {found}, {int(found) - int(exact):+d}")
    same &= found == expected
raise SystemExit(0 if same else "it behaves otherwise now")
PROGRAM
