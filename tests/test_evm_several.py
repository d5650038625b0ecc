"""Of three or more providers, two that say the same bear it out; who says otherwise is named, and stops nothing."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode
from tallystick.settlement.chain import OPEN, ContractChannel
from tallystick.settlement.errors import ChainUnavailable, Contradicted
from tallystick.settlement.ethereum.evm.client import open_evm_chain
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.ethereum.views import encode_channel

NAMES = ("one", "two", "three", "four")


def saying(deposit: int, chain: FakeChain, salt: str = "0x") -> FakeNode:
    """Return a node that tells of a channel with such a deposit, on a branch of its own if there is a salt."""
    node, identify = FakeNode(chain), FakeNode(chain).eth_call
    view = ContractChannel(terms=FIXTURE.terms, status=OPEN, deposits=(deposit, 0), withdrawn=(0, 0))
    other = FakeChain(1)
    for _ in chain.blocks[1:]:
        other.add(salt=salt)

    def call(question: dict[str, str], where: object) -> str:
        return identify(question, where) if where == "latest" else to_hex(encode_channel(view))

    def block(which: str, full: bool) -> Any:
        return FakeNode(chain if which == "latest" else other).eth_getBlockByNumber(which, full)

    node.answers["eth_call"] = call
    node.answers["eth_getBlockByNumber"] = block
    return node


async def asked(said: str) -> tuple[int, list[str], list[str]]:
    """Return the deposit that is borne out, and who denies it, and who was asked.

    `said` has a letter for each node: T is true, A to D are lies, F another branch, and a dot one that is down.
    """
    chain = FakeChain(6)
    nodes = {
        name: saying(5 if letter in "TF" else 10 + ord(letter), chain, "0xff" if letter == "F" else "0x")
        for name, letter in zip(NAMES, said, strict=False)
    }
    urls = [f"http://{name}" for name in nodes]
    async with open_evm_chain(urls, AT, jitter=lambda: 0.5, transport=FakeInternet(**nodes)) as client:
        head = await client.head()
        for node, letter in zip(nodes.values(), said, strict=True):
            node.asked.clear()
            node.status = 500 if letter == "." else 200
        found = await client.evidence(head, [FIXTURE.terms])
        assert found is not None
        ((there,), denied) = found
        assert there is not None and all(url in text for url, text in denied)
        return there.deposits[0], [url[7:] for url, _ in denied], [name for name in nodes if nodes[name].asked]


@pytest.mark.parametrize("lie", ["A", "F"])
async def test_one_liar_of_three_stops_nothing_and_is_named(lie: str, autojump_clock: trio.testing.MockClock) -> None:
    assert await asked(f"{lie}TT") == (5, ["one"], ["one", "two", "three"])
    assert await asked(f"T{lie}T") == (5, ["two"], ["one", "two", "three"])
    assert await asked(f"TT{lie}") == (5, [], ["one", "two"]), "two that agree are enough"


async def test_further_nodes_are_asked_until_two_agree(autojump_clock: trio.testing.MockClock) -> None:
    assert await asked("ABTT") == (5, ["one", "two"], ["one", "two", "three", "four"])
    assert await asked("TFFT") == (5, ["two", "three"], ["one", "two", "three", "four"]), "on the branch we follow"
    assert (await asked("A.TT"))[:2] == (5, ["one"])


@pytest.mark.parametrize("said", ["TA", "AT", "TF", "FF", "TAB", "TFF", "TABC", "TA."])
async def test_it_is_a_contradiction_if_no_two_agree(said: str, autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(Contradicted) as raised:
        await asked(said)
    for name, letter in zip(NAMES, said, strict=False):
        lies = f"at http://{name} than was followed" if letter == "F" else f"http://{name}"
        assert letter in ".T" or lies in str(raised.value)


async def test_one_answer_bears_nothing_out(autojump_clock: trio.testing.MockClock) -> None:
    for said in ("T.", ".T", "T..", "F.", ".A."):
        with pytest.raises(ChainUnavailable, match="1 of 2 chain nodes say it"):
            await asked(said)
