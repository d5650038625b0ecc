"""The client against a real node and a real contract: every call, fees and replacements, failures and their reasons."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from typer.testing import CliRunner

from simulation.disputes import ChannelFixture
from simulation.local_evm import LocalEvm, on_a_node, open_local_evm
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, Lock
from tallystick.contracts import artifact
from tallystick.sdk.cli.app import app
from tallystick.settlement.chain import (
    GONE,
    OPEN,
    SETTLED,
    ApproveCall,
    BatchCall,
    Call,
    CloseCall,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterProofCall,
    RegisterSecretCall,
    SettleCall,
    TransactionReceipt,
    TransferCall,
)
from tallystick.settlement.errors import ChainError, Refusal, Revert, TransactionRefused, WrongChain
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.evm.client import EvmChain, open_evm_chain
from tallystick.settlement.ethereum.evm.deploy import check_contract, deploy, deploy_court
from tallystick.settlement.ethereum.evm.doctor import Grade, examine
from tallystick.settlement.ethereum.evm.endpoint import Endpoint
from tallystick.settlement.ethereum.http import make_client
from tallystick.settlement.ethereum.transactions import sign_envelope
from tallystick.settlement.sending.obligations import bumped
from tallystick.settlement.testing.anvil import RICH_KEY

pytestmark = [pytest.mark.processes, on_a_node]

COIN = 10**18
FAR = 2**40
CAROL = PrivateKey(keccak(b"carol"))


@pytest.fixture(scope="module")
def evm() -> Iterator[LocalEvm]:
    with open_local_evm(funded=(*ChannelFixture().keys, CAROL)) as node:
        yield node


@asynccontextmanager
async def client(evm: LocalEvm) -> AsyncIterator[EvmChain]:
    async with open_evm_chain((evm.anvil.url,), evm.at, jitter=lambda: 0.5, start=evm.start) as chain:
        yield chain


async def make(chain: EvmChain, evm: LocalEvm, key: PrivateKey, call: Call) -> TransactionReceipt:
    """Sign, send and mine a call, which the node does at once; return its receipt."""
    nonce = int(evm.anvil.ask("eth_getTransactionCount", f"0x{key.address.hex()}", "latest"), 16)
    signed = await chain.sign(key, call, nonce, await chain.fee_price())
    return await mined(chain, await chain.submit(signed.raw))


async def mined(chain: EvmChain, transaction: bytes) -> TransactionReceipt:
    """Wait for a receipt, and until the client has seen a head that is no older."""
    with trio.fail_after(10):
        while True:
            receipt = await chain.receipt(transaction)
            if receipt is not None and (await chain.head()).number >= receipt.block.number:
                return receipt
            await trio.sleep(0.02)


async def channel(chain: EvmChain, evm: LocalEvm, amount: int = COIN, asset: Address = NATIVE) -> ChannelFixture:
    """Open the pair's next channel, with an amount of each side."""
    fixture = ChannelFixture(chain_id=evm.at.chain_id, contract=evm.at.contract, asset=asset)
    number = await chain.channel_count(*fixture.terms.participants, asset)
    fixture.terms = msgspec.structs.replace(fixture.terms, number=number)
    fixture.id = channel_id(fixture.terms)
    for side, key in enumerate(fixture.keys):
        if asset != NATIVE:
            assert (await make(chain, evm, key, ApproveCall(asset, amount))).success
        call = OpenCall(fixture.terms, amount) if side == 0 else DepositCall(fixture.id, 1, amount, asset)
        receipt = await make(chain, evm, key, call)
        assert receipt.success, receipt.why
    return fixture


async def done(chain: EvmChain, evm: LocalEvm, key: PrivateKey, call: Call) -> None:
    receipt = await make(chain, evm, key, call)
    assert receipt.success, receipt.why


@pytest.mark.parametrize("token", (False, True), ids=("coin", "token"))
async def test_every_call_is_understood_by_the_contract(evm: LocalEvm, token: bool) -> None:
    asset, amount = (evm.token, 10**9) if token else (NATIVE, COIN)
    async with client(evm) as chain:
        first = await channel(chain, evm, amount, asset)
        keys = first.keys
        await done(chain, evm, keys[0], first.withdrawal(0, amount // 2, FAR))
        await done(chain, evm, CAROL, first.cooperative_close(amount, amount // 2, FAR))
        second = await channel(chain, evm, amount, asset)
        secrets = [keccak(b"%d" % number + asset) for number in range(3)]
        locks = [Lock(10 + at, 1_000 + at, FAR, 0, digest_of(secret)) for at, secret in enumerate(secrets)]
        await done(
            chain, evm, keys[0], second.close(second.proof(0, 5, 100, seen=4), second.proof(1, 6, 200, locks, seen=5))
        )
        await done(
            chain,
            evm,
            keys[1],
            second.challenge(second.proof(0, 9, 5_000, locks[:1], seen=8), tower=CAROL.address, victim=1),
        )
        evm.anvil.advance(second.terms.challenge_period + 1)
        await done(chain, evm, CAROL, SettleCall(second.id))
        for secret in secrets[:2]:
            await done(chain, evm, CAROL, RegisterSecretCall(secret))
        await done(chain, evm, CAROL, RedeemCall(second.id, 1, tuple(locks)))
        await done(chain, evm, CAROL, RegisterSecretCall(secrets[2]))
        await done(chain, evm, CAROL, RedeemCall(second.id, 1, tuple(locks[2:])))
        view = await chain.channel(second.id)
        assert view is not None and view.status == SETTLED and view.pots == (1_000, 0)
        await done(chain, evm, CAROL, RedeemCall(second.id, 0, tuple(locks[:1])))
        view = await chain.channel(second.id)
        assert view is not None and view.status == GONE and view.convicted
        assert await chain.secret_time(digest_of(secrets[0])) is not None
        assert await chain.secret_time(bytes(32)) is None
        await done(chain, evm, CAROL, TransferCall(asset, Address(b"\x55" * 20), 7))
        assert await chain.balance(Address(b"\x55" * 20), asset) == 7


async def test_of_a_batch_each_call_is_done_or_fails_by_itself_and_the_receipt_says_which(evm: LocalEvm) -> None:
    async with client(evm) as chain:
        channels = [await channel(chain, evm) for _ in range(4)]
        closes = [each.cooperative_close(COIN, COIN, FAR) for each in channels]
        closes[1] = channels[1].cooperative_close(COIN, COIN + 1, FAR)
        secret = keccak(b"a secret in a batch")
        calls = (*closes, RegisterSecretCall(secret), SettleCall(channels[0].id))
        receipt = await make(chain, evm, CAROL, BatchCall(calls))
        assert receipt.success
        assert [(each.index, each.revert) for each in receipt.failures] == [
            (1, Revert.BAD_BALANCES),
            (5, Revert.WRONG_STATUS),
        ]
        assert await chain.secret_time(digest_of(secret)) is not None
        views = [await chain.channel(each.id) for each in channels]
        assert [view.status for view in views if view] == [GONE, OPEN, GONE, GONE]


async def test_who_did_not_hear_of_a_channel_finds_it_in_the_logs(evm: LocalEvm) -> None:
    async with client(evm) as chain:
        fixture = await channel(chain, evm)
        lock = Lock(1, 77, FAR, 0, digest_of(b"s" * 32))
        await done(chain, evm, fixture.keys[0], fixture.close(fixture.proof(0, 1, 5, [lock], seen=0)))
    evm.anvil.advance(fixture.terms.challenge_period + 1)
    async with client(evm) as fresh:
        view = await fresh.channel(fixture.id)
        assert view is not None and view.terms == fixture.terms
    async with client(evm) as fresh:
        await done(fresh, evm, CAROL, SettleCall(fixture.id))
    async with client(evm) as fresh:
        await done(fresh, evm, CAROL, RegisterSecretCall(b"s" * 32))
        await done(fresh, evm, CAROL, RedeemCall(fixture.id, 0, (lock,)))
        assert await fresh.channel(channel_id(msgspec.structs.replace(fixture.terms, number=99))) is None


async def test_why_a_call_failed_is_told_as_the_rule_that_refused_it(evm: LocalEvm) -> None:
    async with client(evm) as chain:
        fixture = await channel(chain, evm)
        keys = fixture.keys
        for call, revert in (
            (SettleCall(fixture.id), Revert.WRONG_STATUS),
            (OpenCall(fixture.terms, 1), Revert.CHANNEL_EXISTS),
            (CloseCall(fixture.id, None, None, keccak(b"another key")), Revert.BAD_CLOSE_KEY),
            (fixture.cooperative_close(1, 1, FAR), Revert.BAD_BALANCES),
            (fixture.cooperative_close(COIN, COIN, 5), Revert.EXPIRED),
            (fixture.withdrawal(1, 3 * COIN, FAR), Revert.BAD_AMOUNT),
        ):
            receipt = await make(chain, evm, keys[0], call)
            assert not receipt.success and receipt.fee > 0
            assert receipt.revert is revert, receipt.why
        await done(chain, evm, keys[0], fixture.close())
        receipt = await make(chain, evm, keys[1], SettleCall(fixture.id))
        assert receipt.revert is Revert.WINDOW_OPEN


async def test_a_call_that_runs_out_of_gas_is_told_apart(evm: LocalEvm) -> None:
    async with client(evm) as chain:
        fixture = await channel(chain, evm)
        signed = await chain.sign(fixture.keys[0], fixture.close(), 0, 10**10)
        assert signed.raw
        from tallystick.settlement.ethereum.evm.abi import ChannelContext, encode_evm_call

        envelope = encode_evm_call(fixture.close(), evm.at, ChannelContext(fixture.terms))
        nonce = await chain.nonce(fixture.keys[0].address)
        price = await chain.fee_price()
        raw = sign_envelope(fixture.keys[0], evm.at.chain_id, envelope, nonce, price, 1, 30_000)
        receipt = await mined(chain, await chain.submit(raw))
        assert receipt.revert is Revert.OUT_OF_GAS


async def test_replacements_are_taken_by_the_node(evm: LocalEvm) -> None:
    async with client(evm) as chain:
        evm.anvil.ask("evm_setAutomine", False)
        try:
            nonce, price, tip = await chain.nonce(CAROL.address), await chain.fee_price(), 0
            hashes = []
            for at in range(6):
                signed = await chain.sign(CAROL, TransferCall(NATIVE, Address(b"\x66" * 20), 1), nonce, price, tip)
                hashes.append(await chain.submit(signed.raw))
                assert await chain.submit(signed.raw) == hashes[-1], "what is known already was taken"
                price, tip = bumped(price), signed.tip
                assert at == 0 or hashes[-1] != hashes[-2]
            too_low = await chain.sign(CAROL, TransferCall(NATIVE, CAROL.address, 1), nonce, await chain.fee_price())
            with pytest.raises(TransactionRefused) as refused:
                await chain.submit(too_low.raw)
            assert refused.value.code is Refusal.UNDERPRICED
            evm.anvil.mine()
            receipts = [await chain.receipt(hash) for hash in hashes]
            assert [receipt is not None for receipt in receipts] == [False] * 5 + [True]
            assert await chain.submit(signed.raw) == hashes[-1], "it is mined: its nonce is too low, and all is well"
            with pytest.raises(TransactionRefused) as refused:
                await chain.submit(too_low.raw)
            assert refused.value.code is Refusal.NONCE_TOO_LOW
        finally:
            evm.anvil.ask("evm_setAutomine", True)


async def test_what_the_contract_has_no_call_for_is_said_before_it_is_sent(evm: LocalEvm) -> None:
    from tallystick.channels.errors import InvalidInput

    async with client(evm) as chain:
        with pytest.raises(InvalidInput, match="RegisterProofCall"):
            await chain.sign(CAROL, RegisterProofCall(9, bytes(32), b"proof"), 0, 10**9)


async def test_an_account_that_cannot_pay_is_refused(evm: LocalEvm) -> None:
    poor = PrivateKey(keccak(b"poor"))
    async with client(evm) as chain:
        signed = await chain.sign(poor, RegisterSecretCall(b"p" * 32), 0, await chain.fee_price())
        with pytest.raises(TransactionRefused) as refused:
            await chain.submit(signed.raw)
        assert refused.value.code is Refusal.INSUFFICIENT_FUNDS


async def test_another_contract_is_not_ours(evm: LocalEvm) -> None:
    for address in (evm.token, Address(b"\x77" * 20)):
        async with open_evm_chain((evm.anvil.url,), Deployment(evm.at.chain_id, address), jitter=lambda: 0.5) as chain:
            with pytest.raises(WrongChain):
                await chain.head()


async def test_a_contract_is_deployed_and_looked_at(evm: LocalEvm) -> None:
    async with make_client(evm.anvil.url, 10) as http:
        endpoint = Endpoint(http)
        court = await deploy_court(endpoint, PrivateKey(RICH_KEY), 30)
        made = await deploy(endpoint, PrivateKey(RICH_KEY), artifact().code, 250, 30, court.contract)
        assert await check_contract(endpoint, made.chain_id, made.contract, artifact().code) == 250
        assert made.gas < 2**24
        with pytest.raises(ChainError, match="not this version"):
            await check_contract(endpoint, made.chain_id, evm.token, artifact().code)
        head = await chain_time(evm)
        found = await examine(endpoint, lambda: head, made.contract, artifact().code)
        assert {finding.what: finding.grade for finding in found.findings if finding.grade is not Grade.GOOD} == {}
        assert found.grade is Grade.GOOD
        stale = await examine(endpoint, lambda: head + 3_600, evm.token, artifact().code)
        bad = {finding.what for finding in stale.findings if finding.grade is Grade.BAD}
        assert bad == {"newest block", "contract"} and stale.grade is Grade.BAD


async def chain_time(evm: LocalEvm) -> float:
    return float(int(evm.anvil.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16))


def test_the_commands_deploy_and_examine(evm: LocalEvm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_PASSWORD", "a password")

    def tally(*words: object) -> dict[str, object]:
        result = CliRunner().invoke(app, [*map(str, words), "--json"])
        assert result.exit_code == 0, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found

    made = tally("init", "--data", tmp_path, "--light")
    evm.anvil.fund(bytes.fromhex(str(made["address"])[2:]))
    deployed = tally("chain", "deploy", "--rpc", evm.anvil.url, "--data", tmp_path, "--reward", 500)
    assert deployed["chain_id"] == evm.at.chain_id
    evm.anvil.mine()
    result = CliRunner().invoke(app, ["chain", "doctor", evm.anvil.url, "--contract", str(deployed["contract"])])
    assert "is this version's adjudicator; towers earn 5 %" in result.output
    assert f"{deployed['court']} is this version's, and so are the rules" in result.output
    bare = tally("chain", "deploy", "--rpc", evm.anvil.url, "--data", tmp_path, "--court", "none")
    assert bare["court"] is None and int(str(bare["gas"])) < 6_000_000
    again = tally("chain", "deploy", "--rpc", evm.anvil.url, "--data", tmp_path, "--court", deployed["court"])
    assert again["court"] == deployed["court"] and int(str(again["gas"])) < 6_000_000 < int(str(deployed["gas"]))
    options = (
        "--rpc",
        evm.anvil.url,
        "--chain-id",
        31_337,
        "--contract",
        deployed["contract"],
        "--court",
        deployed["court"],
        "--start",
        deployed["start"],
    )
    tally("init", "--data", tmp_path / "node", "--light", "--chain-id", 31_337, *options)
    text = (tmp_path / "node" / "config.toml").read_text()
    assert f'rpc = ["{evm.anvil.url}"]' in text and f"start_block = {deployed['start']}" in text
    assert "confirmations = 3\n" in text and f'court = "{deployed["court"]}"' in text
    on_simulated = CliRunner().invoke(app, ["init", "--data", str(tmp_path / "no"), "--court", str(deployed["court"])])
    assert on_simulated.exit_code != 0 and "real chain" in on_simulated.output
    url, contract = "https://one.example", deployed["contract"]
    base = ("--rpc", url, "--contract", contract, "--chain-id", 8_453, "--at-risk", 10**18)
    tally("init", "--data", tmp_path / "base", "--light", *base)
    assert "confirmations = 60\n" in (tmp_path / "base" / "config.toml").read_text()
