#!/usr/bin/env bash
# A server of x402's Python package is given a price that is no whole number of the token's units. What does it ask for?
#
# Guess: it raises an error at its start, as it does for "$1,000" and for a token that it does not know.
# What happens (2.25.0): what is below a unit is cut off. "$0.0000019" of USDC asks for 1 unit, little more than half of it,
# and "$0.0000009" for "0": a payment of nothing, with a challenge, a signature and a settlement that costs gas, for an answer
# that is then sold for nothing. There is no warning when the server starts. And what the package writes, it does not read: one wei is
# formatted as "1E-18", which its own parser refuses as scientific notation.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 (3.11 or later) and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "x402[evm,httpx]==2.25.0"
"$folder/env/bin/python" - <<'PROGRAM'
from importlib.metadata import version

from x402 import ResourceConfig, SupportedKind, SupportedResponse, x402ResourceServer
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.mechanisms.evm.utils import format_amount, parse_amount

BASE_SEPOLIA = "eip155:84532"


class Facilitator:
    """Says what it supports; nothing is paid here."""

    def get_supported(self):
        return SupportedResponse(
            kinds=[SupportedKind(x402_version=2, scheme="exact", network=BASE_SEPOLIA)], extensions=[], signers={}
        )

    async def verify(self, *arguments, **named):
        raise SystemExit("nothing was paid")

    settle = verify


def asked(price):
    server = x402ResourceServer(Facilitator())
    server.register("eip155:*", ExactEvmServerScheme())
    server.initialize()
    config = ResourceConfig(scheme="exact", network=BASE_SEPOLIA, pay_to="0x" + "22" * 20, price=price)
    return server.build_payment_requirements(config)[0].amount


def parsed(units: int) -> str:
    text = format_amount(units, 18)
    try:
        return f"{text} -> {parse_amount(text, 18)}"
    except ValueError as error:
        return f"{text} -> {type(error).__name__}"


print("x402", version("x402"))
prices = ["$0.001", "$0.0000019", "$0.0000009", 0.0000009]
seen = [asked(price) for price in prices] + [parsed(1), parsed(10**18)]
for what, found in zip([*prices, "1 wei", "10**18 wei"], seen, strict=True):
    print(f"{what!s:>12}: {found}")
EXPECTED = ["1000", "1", "0", "0", "1E-18 -> ValueError", "1 -> 1000000000000000000"]
raise SystemExit(0 if seen == EXPECTED else "it behaves otherwise now")
PROGRAM
