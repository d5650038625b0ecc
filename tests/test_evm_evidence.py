"""Nodes on a real EVM behind providers that lie of deposits and closes: what is denied or proven wrong never counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from simulation.disputes import ChannelFixture
from simulation.evm_nodes import Refused
from simulation.local_evm import LocalEvm, on_a_node, open_local_evm
from simulation.lying_nodes import Lie, Providers, truth
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.options import Config
from tallystick.sdk.node.running import open_node
from tallystick.settlement.chain import OPEN, Closed, ContractChannel, Deposited
from tallystick.settlement.enforcement import witness
from tallystick.settlement.errors import ChainError, ChainUnavailable, Contradicted
from tallystick.settlement.ethereum.event_logs import topic_of
from tallystick.settlement.ethereum.evm import evidence
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.ethereum.views import encode_channel

pytestmark = [pytest.mark.processes, on_a_node]

ALICE, BOB = (PrivateKey(keccak(name)) for name in (b"alice of the evidence", b"bob of the evidence"))
COIN = 10**18
DEPOSITED, CLOSED = (to_hex(topic_of(kind)) for kind in (Deposited, Closed))


@pytest.fixture(scope="module")
def evm() -> Iterator[LocalEvm]:
    with open_local_evm("--block-time", "1", funded=(ALICE, BOB)) as node:
        yield node


def at(evm: LocalEvm, providers: Providers, *hosts: str) -> Any:
    return open_evm_chain(
        [f"http://{host}" for host in hosts], evm.at, jitter=lambda: 0.5, start=evm.start, transport=providers
    )


@asynccontextmanager
async def living(evm: LocalEvm, place: Path, key: PrivateKey, **lies: Lie) -> AsyncIterator[Node]:
    providers = Providers(evm.anvil.url, **lies)
    config = Config(confirmations=2, challenge_period=600, start_block=evm.start)
    async with AsyncExitStack() as stack:
        chain: EvmChain = await stack.enter_async_context(at(evm, providers, *lies))
        yield await stack.enter_async_context(open_node(place, key=key, chain=chain, config=config))


def kinds(node: Node) -> set[AlarmKind]:
    return {alarm.kind for alarm in node.alarms}


def raised(method: str, params: list[Any], answer: Any) -> Any:
    """Tell all deposits at ten times what they are."""
    if method != "eth_getLogs" or not answer:
        return answer
    return [
        {**log, "data": log["data"][:66] + (10 * int(log["data"][66:], 16)).to_bytes(32, "big").hex()}
        if log["topics"][0] == DEPOSITED
        else log
        for log in answer
    ]


def without(topic: str) -> Lie:
    def lie(method: str, params: list[Any], answer: Any) -> Any:
        hides = method == "eth_getLogs" and answer
        return [log for log in answer if log["topics"][0] != topic] if hides else answer

    return lie


async def test_each_state_of_a_channel_is_proven_and_said_alike(evm: LocalEvm, tmp_path: Path) -> None:
    providers = Providers(evm.anvil.url, one=truth, two=truth)
    async with (
        living(evm, tmp_path / "alice", ALICE, one=truth) as alice,
        living(evm, tmp_path / "bob", BOB, one=truth, two=truth) as bob,
        at(evm, providers, "one") as alone,
        at(evm, providers, "one", "two") as both,
    ):
        with trio.fail_after(120):
            channel = await alice.open_channel(str(bob.peer_address), deposit=COIN)
            terms = channel.view.channel.terms
            unknown = msgspec.structs.replace(terms, number=terms.number + 1)

            async def look() -> int:
                head = await alone.head()
                proven = await alone.evidence(head, [terms, unknown])
                said = await both.evidence(head, [terms, unknown])
                assert proven is not None and said is not None and not said.denied
                (ours, none), (theirs, nobody) = proven.channels, said.channels
                assert none is nobody is None and witness.contradiction(ours, theirs) == "" and ours is not None
                return ours.status

            assert await look() == 0
            await channel.pay(COIN // 4)
            await channel.deposit(COIN)
            await channel.withdraw(COIN // 8)
            assert await look() == 0
            await channel.force_close()
            await alice.until(lambda: channel.phase is Phase.CLOSED)
            assert await look() == 1
            evm.anvil.advance(700)
            await channel.wait_gone()
            assert await look() == 3
            assert not {AlarmKind.CHAIN_CONTRADICTED, AlarmKind.CHAIN_UNPROVEN} & (kinds(alice) | kinds(bob))
        assert ("one", "eth_getProof") in providers.asked


@pytest.mark.parametrize("lies", [{"one": raised}, {"one": raised, "two": truth}], ids=["alone", "denied"])
async def test_a_deposit_that_is_made_larger_counts_for_nothing(
    evm: LocalEvm, tmp_path: Path, lies: dict[str, Lie]
) -> None:
    """Bob's provider says that Alice has put in ten times as much: he does not use the channel, and tells why."""
    async with (
        living(evm, tmp_path / "alice", ALICE, one=truth) as alice,
        living(evm, tmp_path / "bob", BOB, **lies) as bob,
    ):
        with trio.fail_after(60):
            channel = await alice.open_channel(str(bob.peer_address), deposit=COIN, wait=False)
            await bob.until(lambda: AlarmKind.CHAIN_CONTRADICTED in kinds(bob))
            await bob.until(lambda: bob.onchain.index.head_number > bob.onchain.index.events(channel.id)[0].number + 4)
            (theirs,) = (each for each in bob.channels if each.id == channel.id)
            assert theirs.phase is Phase.OPENING and theirs.view.channel.deposits == (0, 0)
            assert alice.channel(channel.id).phase is Phase.OPEN
            await alice.channel(channel.id).force_close()


async def test_nothing_counts_while_the_second_provider_is_down(evm: LocalEvm, tmp_path: Path) -> None:
    providers = Providers(evm.anvil.url, one=truth)
    config = Config(confirmations=2, challenge_period=600, start_block=evm.start)
    async with (
        living(evm, tmp_path / "alice", ALICE, one=truth) as alice,
        at(evm, providers, "one", "two") as chain,
        open_node(tmp_path / "bob", key=BOB, chain=chain, config=config) as bob,
    ):
        with trio.fail_after(90):
            channel = await alice.open_channel(str(bob.peer_address), deposit=COIN, wait=False)
            await bob.until(lambda: bool(bob.onchain.index.events(channel.id)))
            opened = bob.onchain.index.events(channel.id)[0].number
            await bob.until(lambda: bob.onchain.index.head_number > opened + 4)
            theirs = bob.channel(channel.id)
            assert theirs.phase is Phase.OPENING
            providers.lies["two"] = truth
            await channel.wait_usable()
            assert theirs.view.channel.deposits != (0, 0)
            await channel.force_close()


def forked(method: str, params: list[Any], answer: Any) -> Any:
    """Tell of other blocks, but for the newest."""
    forged = method == "eth_getBlockByNumber" and params[0] != "latest" and answer
    return {**answer, "extraData": "0xff", "hash": "0x" + "ee" * 32} if forged else answer


async def test_another_branch_than_the_second_providers_counts_for_nothing(evm: LocalEvm) -> None:
    async with at(evm, Providers(evm.anvil.url, one=truth, two=forked), "one", "two") as chain:
        head = await chain.head()
        with pytest.raises(Contradicted, match="another one at http://two"):
            await chain.evidence(head, [])


def forgetful(method: str, params: list[Any], answer: Any) -> Any:
    """Tell no logs by a block's hash."""
    return [] if method == "eth_getLogs" and "blockHash" in params[0] else answer


@pytest.mark.parametrize("second", [{}, {"two": forgetful}], ids=["alone", "mended"])
async def test_a_close_that_is_left_out_is_noticed(
    evm: LocalEvm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: dict[str, Lie]
) -> None:
    """Bob's provider does not tell him that Alice has closed; a second one does."""
    monkeypatch.setattr(witness, "LOOK_SECONDS", 2.0)
    async with (
        living(evm, tmp_path / "alice", ALICE, one=truth) as alice,
        living(evm, tmp_path / "bob", BOB, one=without(CLOSED), **second) as bob,
    ):
        with trio.fail_after(90):
            channel = await alice.open_channel(str(bob.peer_address), deposit=COIN)
            await channel.pay(5)
            await channel.force_close()
            await bob.until(lambda: AlarmKind.CHAIN_CONTRADICTED in kinds(bob))
            (text,) = (alarm.text for alarm in bob.alarms if alarm.kind is AlarmKind.CHAIN_CONTRADICTED)
            assert channel.id.hex()[:8] in text and "status 1, not 0" in text
            assert (bob.channel(channel.id).phase is Phase.CLOSED) == bool(second)


def refusing(code: int) -> Lie:
    def lie(method: str, params: list[Any], answer: Any) -> Any:
        if method == "eth_getProof":
            raise Refused(code, "no proofs in your plan")
        return answer

    return lie


def proving(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Lie:
    return lambda method, params, answer: change(answer) if method == "eth_getProof" and answer else answer


def another_code(method: str, params: list[Any], answer: Any) -> Any:
    return "0x6001" if method == "eth_getCode" and params[1] != "latest" else answer


async def test_what_gives_no_proofs_proves_nothing(evm: LocalEvm) -> None:
    terms = [ChannelFixture(chain_id=evm.at.chain_id, contract=evm.at.contract).terms]
    for code, tries in ((-32601, 1), (-32000, 3)):
        async with at(evm, Providers(evm.anvil.url, one=refusing(code)), "one") as chain:
            head = await chain.head()
            for _ in range(tries - 1):
                with pytest.raises(ChainUnavailable, match="gives no proof"):
                    await chain.evidence(head, terms)
            assert await chain.evidence(head, terms) is None
    for lie, fault in (
        (proving(lambda told: {**told, "accountProof": told["accountProof"][:-1]}), "proves nothing"),
        (proving(lambda told: {**told, "storageProof": []}), "proves nothing"),
        (proving(lambda told: {**told, "storageProof": [{"proof": 5}] * 4}), "proves nothing"),
        (proving(lambda told: {}), "proves nothing"),
        (another_code, "proves nothing"),
    ):
        async with at(evm, Providers(evm.anvil.url, one=lie), "one") as chain:
            head = await chain.head()
            with pytest.raises(ChainError, match=fault):
                await chain.evidence(head, terms)


async def test_a_contract_of_another_build_is_not_taken_for_proven(
    evm: LocalEvm, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = [ChannelFixture(chain_id=evm.at.chain_id, contract=evm.at.contract).terms]
    monkeypatch.setattr(evidence, "shipped_code", lambda: bytes(32))
    async with at(evm, Providers(evm.anvil.url, one=truth), "one") as chain:
        assert await chain.evidence(await chain.head(), terms) is None


async def test_two_that_differ_in_a_channel_alone_contradict_each_other(evm: LocalEvm) -> None:
    terms = ChannelFixture(chain_id=evm.at.chain_id, contract=evm.at.contract).terms
    there = ContractChannel(terms=terms, status=OPEN, deposits=(5, 0), withdrawn=(0, 0))

    def richer(method: str, params: list[Any], answer: Any) -> Any:
        return to_hex(encode_channel(there)) if method == "eth_call" and params[1] != "latest" else answer

    async with at(evm, Providers(evm.anvil.url, one=truth, two=richer), "one", "two") as chain:
        with pytest.raises(Contradicted, match="do not say the same"):
            await chain.evidence(await chain.head(), [terms])
    async with at(evm, Providers(evm.anvil.url, one=truth, two=richer, three=truth), "one", "two", "three") as chain:
        found = await chain.evidence(await chain.head(), [terms])
        assert found is not None and found.channels == (None,) and [url for url, _ in found.denied] == ["http://two"]
