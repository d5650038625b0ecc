#!/usr/bin/env bash
# x402's Python middleware answers a browser that has not paid with a page. What does the page say of an asset with 18 decimals,
# of a tenth of a cent, and of a network where money is real?
#
# Guess: the amount by the asset's decimals, three places after the point, and nothing of a test.
# What happens (2.25.0, FastAPI): each amount is divided by 10**6, whatever the asset: the page is given 1000000000000 for
# one whole token of 18 decimals. What it is to display is rounded to cents, so that "$0.001" is 0.0. And it is told "testnet": true
# on Base's mainnet, unless the program passes a configuration that says otherwise. Each such answer is a page of 2.3 MB.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 (3.11 or later) and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "x402[evm,httpx,fastapi]==2.25.0" "fastapi==0.165.0"
"$folder/env/bin/python" - <<'PROGRAM'
import asyncio
import json
from importlib.metadata import version

import httpx
from fastapi import FastAPI
from x402 import AssetAmount, SupportedKind, SupportedResponse, x402ResourceServer
from x402.http.middleware.fastapi import payment_middleware
from x402.mechanisms.evm.exact import ExactEvmServerScheme

BASE = "eip155:8453"


class Facilitator:
    """Says what it supports; nothing is paid here."""

    def get_supported(self):
        return SupportedResponse(
            kinds=[SupportedKind(x402_version=2, scheme="exact", network=BASE)], extensions=[], signers={}
        )

    async def verify(self, *arguments, **named):
        raise SystemExit("nothing was paid")

    settle = verify


async def page(price):
    server = x402ResourceServer(Facilitator())
    server.register("eip155:*", ExactEvmServerScheme())
    offer = {"scheme": "exact", "network": BASE, "payTo": "0x" + "22" * 20, "price": price}
    app = FastAPI()
    app.middleware("http")(payment_middleware({"GET /data": {"accepts": offer}}, server))
    app.get("/data")(lambda: {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://example") as client:
        answer = await client.get("/data", headers={"Accept": "text/html", "User-Agent": "Mozilla/5.0"})
    assert answer.status_code == 402, answer.status_code
    told = json.JSONDecoder().raw_decode(answer.text.split("window.x402 = ", 1)[1])[0]
    return told["amount"], told["displayAmount"], told["testnet"], len(answer.content) // 10**5


print("x402", version("x402"))
token = AssetAmount(amount=str(10**18), asset="0x" + "33" * 20, extra={"name": "A token of 18 decimals", "version": "1"})
seen = [asyncio.run(page(price)) for price in ("$0.001", token)]
for what, (amount, shown, testnet, size) in zip(("$0.001", "one token of 18 decimals"), seen, strict=True):
    print(f"{what}: amount {amount}, displayAmount {shown}, testnet {testnet}, {size / 10} MB")
EXPECTED = [(0.001, 0.0, True, 23), (10.0**12, 10.0**12, True, 23)]
raise SystemExit(0 if seen == EXPECTED else "it behaves otherwise now")
PROGRAM
