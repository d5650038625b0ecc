"""A rollup on an EVM whose contract, or whose judge, is another one than this release's is not used."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio

from tallystick.channels.protocol.objects import Address
from tallystick.contracts import artifact
from tallystick.sdk.rollup.calls import TERMS, RollupPlace
from tallystick.sdk.rollup.chain import open_rollup_chain
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.abi import Signature

AT, JUDGE = Address(b"\x01" * 20), Address(b"\x02" * 20)
_WORDS = {TERMS.encode_call(): 6, Signature("JUDGE", ()).encode_call(): 1}


def node(codes: dict[str, bytes]) -> httpx.MockTransport:
    """Return a chain's node that has code at these addresses."""

    def one(request: dict[str, Any]) -> dict[str, Any]:
        method, params, answer = request["method"], request["params"], "0x1"
        if method == "eth_getCode":
            answer = "0x" + codes.get(params[0], b"").hex()
        elif method == "eth_call":
            words = _WORDS.get(bytes.fromhex(params[0]["data"][2:]), 1)
            answer = "0x" + (JUDGE.rjust(32, b"\0") * words).hex()
        elif method == "tally_contract":  # a node of a real chain knows nothing of that
            return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "no such method"}}
        return {"jsonrpc": "2.0", "id": request["id"], "result": answer}

    def handle(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        return httpx.Response(200, json=[one(each) for each in asked] if isinstance(asked, list) else one(asked))

    return httpx.MockTransport(handle)


@pytest.mark.parametrize(
    ("contract", "judge", "refusal"),
    [
        ("Rollup", "RollupJudge", ""),
        ("Rollup", "Adjudicator", "RollupJudge.vy"),
        ("RollupJudge", "RollupJudge", "Rollup.vy"),
        ("", "RollupJudge", "no rollup"),
    ],
)
async def test_code_that_is_not_known_is_not_used(contract: str, judge: str, refusal: str) -> None:
    names = {f"0x{AT.hex()}": contract, f"0x{JUDGE.hex()}": judge}
    codes = {at: artifact(name).deployed + bytes(64) for at, name in names.items() if name}
    with trio.fail_after(10):
        async with open_rollup_chain("http://node", RollupPlace(contract=AT), node(codes)) as chain:
            if refusal:
                for _ in range(2):
                    with pytest.raises(ChainError, match=refusal):
                        await chain.facts()
            else:
                assert (await chain.facts()).operator == JUDGE
