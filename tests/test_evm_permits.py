"""Deposits of tokens that take a permit (EIP-2612), on a real node: one transaction, and nobody can spoil or use it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import trio

from simulation.disputes import ChannelFixture
from simulation.evm_tokens import code_of
from simulation.local_evm import LocalEvm, on_a_node, open_local_evm
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import ApproveCall, DepositCall, OpenCall, TransactionReceipt
from tallystick.settlement.errors import Revert
from tallystick.settlement.ethereum.abi import Signature
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.permits import PERMIT
from tallystick.settlement.ethereum.transactions import decode_transaction
from tallystick.settlement.testing.anvil import RICH_KEY

pytestmark = [pytest.mark.processes, on_a_node]

MINT = Signature("mint", ("address", "uint256"))
TERMS, SIGNED = "(address,address,address,uint64,uint64,bytes32)", "(uint256,uint8,bytes32,bytes32)"
OPEN = Signature("open", (TERMS, "uint128", SIGNED))
RICH_ACCOUNT = PrivateKey(RICH_KEY).address
CAROL = PrivateKey(keccak(b"carol"))
AMOUNT = 10**9


@pytest.fixture(scope="module")
def evm() -> Iterator[LocalEvm]:
    with open_local_evm(funded=(*ChannelFixture().keys, CAROL)) as node:
        yield node


def token(evm: LocalEvm, kind: str) -> Address:
    """Deploy a token, of which both parties hold some."""
    at = Address(evm.anvil.create(code_of(kind)))
    if kind != "phantom":
        for key in ChannelFixture().keys:
            evm.anvil.send(RICH_ACCOUNT, at, MINT.encode_call(key.address, 10**18))
    return at


def client(evm: LocalEvm):  # type: ignore[no-untyped-def]
    return open_evm_chain((evm.anvil.url,), evm.at, jitter=lambda: 0.5, start=evm.start)


async def fixture_of(chain: EvmChain, evm: LocalEvm, asset: Address) -> ChannelFixture:
    fixture = ChannelFixture(chain_id=evm.at.chain_id, contract=evm.at.contract, asset=asset)
    number = await chain.channel_count(*fixture.terms.participants, asset)
    fixture.terms = msgspec.structs.replace(fixture.terms, number=number)
    fixture.id = channel_id(fixture.terms)
    return fixture


async def signed(chain: EvmChain, evm: LocalEvm, key: PrivateKey, call: OpenCall | DepositCall | ApproveCall) -> bytes:
    nonce = int(evm.anvil.ask("eth_getTransactionCount", f"0x{key.address.hex()}", "latest"), 16)
    return (await chain.sign(key, call, nonce, await chain.fee_price())).raw


async def sent(chain: EvmChain, evm: LocalEvm, raw: bytes) -> TransactionReceipt:
    """Send a transaction, which the node mines at once; return its receipt once the client has seen it."""
    transaction = await chain.submit(raw)
    with trio.fail_after(10):
        while True:  # automatic mining takes a moment
            receipt = await chain.receipt(transaction)
            if receipt is not None:
                await caught_up(chain, evm)
                return receipt
            await trio.sleep(0.02)


async def caught_up(chain: EvmChain, evm: LocalEvm) -> None:
    with trio.fail_after(10):
        head, newest = await chain.head(), int(evm.anvil.ask("eth_blockNumber"), 16)
        while head.number < newest:
            await chain.wait(head.hash)
            head = await chain.head()


async def test_a_token_with_permits_is_deposited_in_one_transaction(evm: LocalEvm) -> None:
    asset = token(evm, "ordinary")
    async with client(evm) as chain:
        fixture = await fixture_of(chain, evm, asset)
        first, second = fixture.keys
        calls = (
            (first, OpenCall(fixture.terms, AMOUNT, permit=True)),
            (second, DepositCall(fixture.id, 1, AMOUNT, asset, permit=True)),
            (second, DepositCall(fixture.id, 1, AMOUNT, asset, permit=True)),
        )
        for key, call in calls:
            assert await chain.takes_permits(asset, key)
            receipt = await sent(chain, evm, await signed(chain, evm, key, call))
            assert receipt.success, receipt
            assert await chain.allowance(asset, key.address) == 0, "all of it was taken"
        view = await chain.channel(fixture.id)
        assert view is not None and view.deposits == (AMOUNT, 2 * AMOUNT)


@pytest.mark.parametrize("kind", ["dai", "phantom"])
async def test_a_token_without_such_permits_is_found_out(evm: LocalEvm, kind: str) -> None:
    """DAI's permits are of another kind; WETH9 takes every call that it does not know for a payment."""
    asset = token(evm, kind)
    async with client(evm) as chain:
        assert not await chain.takes_permits(asset, CAROL)


async def test_neither_a_plain_token_nor_an_account_without_code_takes_permits(evm: LocalEvm) -> None:
    async with client(evm) as chain:
        for asset in (evm.token, Address(b"\x55" * 20), evm.at.contract):
            assert not await chain.takes_permits(asset, CAROL)


async def test_a_permit_that_somebody_else_handed_in_first_does_no_harm(evm: LocalEvm) -> None:
    asset = token(evm, "ordinary")
    async with client(evm) as chain:
        fixture = await fixture_of(chain, evm, asset)
        key = fixture.keys[0]
        raw = await signed(chain, evm, key, OpenCall(fixture.terms, AMOUNT, permit=True))
        _, _, permit = OPEN.decode_call(decode_transaction(raw, evm.at.chain_id).envelope.data)
        data = PERMIT.encode_call(key.address, evm.at.contract, AMOUNT, *permit)
        evm.anvil.send(RICH_ACCOUNT, asset, data)
        await caught_up(chain, evm)
        assert await chain.allowance(asset, key.address) == AMOUNT
        receipt = await sent(chain, evm, raw)
        assert receipt.success, receipt


async def test_a_permit_that_is_too_late_is_told_as_what_it_is_and_made_anew_with_the_next_try(evm: LocalEvm) -> None:
    asset = token(evm, "ordinary")
    async with client(evm) as chain:
        fixture = await fixture_of(chain, evm, asset)
        key, call = fixture.keys[0], OpenCall(fixture.terms, AMOUNT, permit=True)
        raw = await signed(chain, evm, key, call)
        evm.anvil.advance(86_401)
        receipt = await sent(chain, evm, raw)
        assert receipt.revert is Revert.INSUFFICIENT_ALLOWANCE
        receipt = await sent(chain, evm, await signed(chain, evm, key, call))
        assert receipt.success, receipt


async def test_the_coin_takes_no_permit(evm: LocalEvm) -> None:
    async with client(evm) as chain:
        assert not await chain.takes_permits(NATIVE, CAROL)


async def test_a_permit_costs_less_than_an_approval(evm: LocalEvm) -> None:
    """docs/contracts.md has the figures: of a token that is no better than it must be."""
    asset, took = token(evm, "ordinary"), dict[str, int]()
    async with client(evm) as chain:

        async def measure(name: str, key: PrivateKey, call: OpenCall | DepositCall | ApproveCall) -> None:
            receipt = await sent(chain, evm, await signed(chain, evm, key, call))
            assert receipt.success, receipt
            told = evm.anvil.ask("eth_getTransactionReceipt", f"0x{receipt.transaction.hex()}")
            took[name] = int(told["gasUsed"], 16)

        for permit in (False, True, True, False):  # what the first ones find empty is not what is compared
            fixture = await fixture_of(chain, evm, asset)
            calls = {
                "open": (fixture.keys[0], OpenCall(fixture.terms, AMOUNT, permit)),
                "deposit": (fixture.keys[1], DepositCall(fixture.id, 1, AMOUNT, asset, permit)),
            }
            for name, (key, call) in calls.items():
                if not permit:
                    await measure(f"approve for {name}", key, ApproveCall(asset, AMOUNT))
                await measure(f"{name} by permit" if permit else name, key, call)
    for name in ("open", "deposit"):
        assert took[f"{name} by permit"] + 5_000 < took[name] + took[f"approve for {name}"], took
