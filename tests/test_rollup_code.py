"""A contract that looks like a rollup and is none of this release's takes nobody's coins."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio

from simulation.local_evm import on_a_node
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.contracts import artifact
from tallystick.sdk.rollup.calls import TERMS, RollupCall, RollupPlace, creation_code
from tallystick.sdk.rollup.chain import RollupChain, open_rollup_chain
from tallystick.sdk.rollup.code import check_judge, read_judge
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.rpc_shapes import read_address
from tallystick.settlement.ethereum.transactions import sign_creation
from tallystick.settlement.rollup.rules import Place
from tallystick.settlement.testing.anvil import start_anvil

PLACE = Place(31_337, Address(b"\x11" * 20))
JUDGE = Address(b"\x22" * 20)
KEY = PrivateKey(keccak(b"a maker of rollups"))
TIMES = (10**6, 4_000, 600, 300, 10)


def code(place: Place = PLACE, **other: bytes) -> bytes:
    """Return what is on the chain of an honest rollup, or of one with other values in it."""
    rollup = artifact("Rollup")
    values = {
        "CHAIN_ID": place.chain_id.to_bytes(32, "big"),
        "DOMAIN": place.domain,
        "JUDGE": bytes(12) + JUDGE,
    } | other
    layout = sorted(rollup.layout["code_layout"].items(), key=lambda each: int(each[1]["offset"]))
    return rollup.deployed + b"".join(values.get(name, bytes(32)) for name, _ in layout)


def test_the_code_of_a_rollup_names_its_judge_and_no_other_code_is_taken() -> None:
    assert read_judge(code(), PLACE) == JUDGE
    honest = code()
    for bad in (b"", honest[:-1], honest + b"\0", b"\0" + honest[1:], artifact().deployed):
        with pytest.raises(ChainError, match=r"is not Rollup\.vy of this release"):
            read_judge(bad, PLACE)
    with pytest.raises(ChainError, match="another chain"):
        read_judge(code(CHAIN_ID=bytes(32)), PLACE)
    with pytest.raises(ChainError, match="signed for another contract"):
        read_judge(code(), PLACE._replace(contract=Address(b"\x33" * 20)))
    check_judge(artifact("RollupJudge").deployed, JUDGE)
    with pytest.raises(ChainError, match="it may lie"):
        check_judge(artifact("RollupJudge").deployed + b"\0", JUDGE)


async def _put(chain: RollupChain, raw: bytes) -> Address:
    cap, tip, nonce = await chain._offer(KEY.address)
    sent = await chain._submit(sign_creation(KEY, chain.chain_id, raw, nonce, cap, tip, 12_000_000))
    return read_address((await chain._receipt(await chain._mined(sent))).get("contractAddress"))


@on_a_node
async def test_on_an_evm_a_rollup_whose_judge_lies_is_found_out() -> None:
    with start_anvil("--block-time", "1") as node:
        node.ask("anvil_setBalance", f"0x{KEY.address.hex()}", hex(10**19))
        async with open_rollup_chain(node.url, RollupPlace()) as chain:
            made = await chain.create(KEY, TIMES)
            honest = creation_code(int.from_bytes(KEY.address, "big"), *TIMES)
            judge = artifact("RollupJudge").deployed
            lying = honest.replace(judge, judge[:-1] + bytes([judge[-1] ^ 1]))
            assert lying != honest
            liar = RollupPlace(contract=await _put(chain, lying))
        async with open_rollup_chain(node.url, made) as rollup:
            assert (await rollup.facts()).operator == KEY.address
            await rollup.act(KEY, RollupCall("deposit", (KEY.address,), 5))
        async with open_rollup_chain(node.url, liar) as rollup:
            with pytest.raises(ChainError, match=r"is not RollupJudge\.vy of this release: it may lie"):
                await rollup.rules_of()


AT = Address(b"\x01" * 20)


def node(codes: dict[str, bytes]) -> httpx.MockTransport:
    """Return a chain's node that has code at these addresses."""

    def one(request: dict[str, Any]) -> dict[str, Any]:
        method, params, answer = request["method"], request["params"], "0x1"
        if method == "eth_getCode":
            answer = "0x" + codes.get(params[0], b"").hex()
        elif method == "eth_call":
            words = 6 if params[0]["data"][2:] == TERMS.encode_call().hex() else 1
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
    whole = {"Rollup": code(Place(1, AT)), "": b""}
    codes = {at: whole[name] if name in whole else artifact(name).deployed for at, name in names.items()}
    with trio.fail_after(10):
        async with open_rollup_chain("http://node", RollupPlace(contract=AT), node(codes)) as chain:
            if refusal:
                for _ in range(2):
                    with pytest.raises(ChainError, match=refusal):
                        await chain.facts()
            else:
                assert (await chain.facts()).operator == JUDGE
