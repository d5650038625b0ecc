"""Another reader of the same chain: web3, which shares no code with our client, reads what our client reads.

On the node in pure Python, and on anvil where it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from simulation.disputes import ChannelFixture
from simulation.evm_house import BLOCK_TO, CAROL, COIN, EvmHouse
from simulation.local_evm import on_a_node
from simulation.python_evm import URL, PythonEvm
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Lock
from tallystick.settlement.chain import (
    ApproveCall,
    Call,
    ChannelOpened,
    ContractChannel,
    DepositCall,
    Event,
    OpenCall,
    Owed,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
)
from tallystick.settlement.ethereum.abi import Envelope, terms_values
from tallystick.settlement.ethereum.evm.client import EvmChain
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.testing.anvil import start_anvil

web3 = pytest.importorskip("web3")

FAR = 2**40
SECRET = keccak(b"the secret of the reader's test")
LOCKS = (Lock(10, 1_000, FAR, 0, digest_of(SECRET)), Lock(11, 500, FAR, 0, digest_of(bytes(32))))
ARTIFACT = Path(__file__).resolve().parents[1] / "contracts" / "artifacts" / "Adjudicator.json"
ERC20 = [
    {
        "type": "function",
        "name": "balanceOf",
        "stateMutability": "view",
        "inputs": [{"name": "account", "type": "address"}],
        "outputs": [{"name": "", "type": "uint256"}],
    }
]


@pytest.fixture(params=("pyevm", pytest.param("anvil", marks=[on_a_node, pytest.mark.processes])))
def place(request: pytest.FixtureRequest) -> Iterator[tuple[EvmHouse, Any]]:
    """A node with our contract on it, and web3 on that node."""
    if request.param == "anvil":
        with start_anvil() as anvil:
            yield EvmHouse(anvil, anvil.url), web3.Web3(web3.HTTPProvider(anvil.url))
        return
    evm = PythonEvm()

    class Provider(web3.providers.BaseProvider):  # type: ignore[misc,name-defined]
        def make_request(self, method: str, params: Any) -> Any:
            return evm.say(method, *params)

    yield EvmHouse(evm, URL, evm.transport), web3.Web3(Provider())


def seen(account: bytes) -> Any:
    """Return an account as web3 wants it."""
    return web3.Web3.to_checksum_address(to_hex(account))


async def play(house: EvmHouse, chain: EvmChain, fixture: ChannelFixture, *, blocks: bool) -> None:
    """Let a channel live until its locks are half redeemed; the token refuses side 0 if it `blocks`."""
    asset, amount = fixture.terms.asset, 10**8
    calls: list[tuple[int, Call]] = [
        (0, OpenCall(fixture.terms, amount)),
        (1, DepositCall(fixture.id, 1, amount, asset)),
        (0, fixture.withdrawal(0, 7, FAR)),
        (0, fixture.close(fixture.proof(0, 5, 100, seen=4), fixture.proof(1, 6, 200, LOCKS, seen=5))),
        (1, fixture.challenge(fixture.proof(0, 9, 5_000, seen=8), tower=CAROL.address, victim=1)),
        (2, SettleCall(fixture.id)),
        (2, RedeemCall(fixture.id, 1, LOCKS)),
    ]
    if blocks:
        house.send(CAROL, Envelope(house.token, 0, BLOCK_TO.encode_call(fixture.address(1), True)))
    for by, call in calls:
        if asset != NATIVE and isinstance(call, OpenCall | DepositCall):
            assert (await house.make(chain, house.keys[by], ApproveCall(asset, amount))).success
        if isinstance(call, SettleCall):
            house.node.ask("evm_increaseTime", hex(fixture.terms.challenge_period + 1))
            house.node.ask("evm_mine")  # else the call's gas is estimated in the block before
        receipt = await house.make(chain, house.keys[by], call)
        assert receipt.success, receipt.why


async def test_web3_reads_what_our_client_reads(place: tuple[EvmHouse, Any]) -> None:
    house, reader = place
    abi = json.loads(ARTIFACT.read_text("utf-8"))["abi"]
    contract = reader.eth.contract(seen(house.at.contract), abi=abi, decode_tuples=True)
    token = reader.eth.contract(seen(house.token), abi=ERC20)
    fixtures = [
        ChannelFixture(chain_id=house.chain_id, contract=house.at.contract, asset=asset)
        for asset in (NATIVE, house.token)
    ]
    async with house.client() as chain:
        start = (await chain.head()).number + 1
        assert (await house.make(chain, CAROL, RegisterSecretCall(SECRET))).success
        for fixture in fixtures:
            await play(house, chain, fixture, blocks=fixture.terms.asset != NATIVE)
        cooperative = ChannelFixture(chain_id=house.chain_id, contract=house.at.contract)
        cooperative.terms = msgspec.structs.replace(cooperative.terms, number=1)
        cooperative.id = channel_id(cooperative.terms)
        assert (await house.make(chain, house.keys[0], OpenCall(cooperative.terms, COIN))).success
        close = cooperative.cooperative_close(COIN - 3, 3, FAR)
        assert (await house.make(chain, house.keys[1], close)).success

        owed = 0
        for account in (*(key.address for key in house.keys), house.at.contract):
            assert await chain.balance(account, NATIVE) == reader.eth.get_balance(seen(account))
            held = token.functions.balanceOf(seen(account)).call()
            assert await chain.balance(account, house.token) == held
            for asset in (NATIVE, house.token):
                told = contract.functions.owed(seen(asset), seen(account)).call()
                assert await chain.owed(asset, account) == told
                owed += told
        assert owed > 0, "the token refuses one of them"
        for fixture in (*fixtures, cooperative):
            ours = await chain.channel(fixture.id)
            assert ours is not None
            p0, p1, asset, *rest = terms_values(fixture.terms)
            terms = (seen(_plain(p0)), seen(_plain(p1)), seen(_plain(asset)), *rest)
            theirs = contract.functions.channel(terms).call()
            assert _view(ours) == {name: _plain(value) for name, value in theirs._asdict().items()}
        blocks = await chain.blocks(start, 200)
        mine = [_event(event) for block in blocks for event in block.events]
        head = (await chain.head()).number
    logs = reader.eth.get_logs({"address": contract.address, "fromBlock": start, "toBlock": head})
    told = [_decoded(contract, log) for log in logs]
    assert mine == [each for each in told if each[0] != "LocksHeld"] and len(told) > len(mine) > 15
    assert {name for name, _ in mine} >= {"ChannelOpened", "Challenged", "Settled", "Redeemed", Owed.__name__}


def _plain(value: Any) -> Any:
    """Return an address or a hash as bytes, whoever wrote it; another value as it is."""
    if isinstance(value, str) and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    return bytes(value) if isinstance(value, bytes) else value


def _view(channel: ContractChannel) -> dict[str, Any]:
    """Return a channel as the contract's view names its fields."""
    pairs = {"deposit": channel.deposits, "withdrawn": channel.withdrawn, "seq": channel.seqs, "pot": channel.pots}
    return {
        "exists": True,
        "p0": channel.terms.participants[0],
        "p1": channel.terms.participants[1],
        "asset": channel.terms.asset,
        "number": channel.terms.number,
        "challenge_period": channel.terms.challenge_period,
        "close_hash": channel.terms.close_hash,
        "status": channel.status,
        **{f"{name}{side}": value for name, pair in pairs.items() for side, value in enumerate(pair)},
        "ended_alone": channel.closer is not None,
        "closer": channel.closer or 0,
        "deadline": channel.deadline or 0,
        "held0": channel.roots[0],
        "held1": channel.roots[1],
        "convicted": channel.convicted,
    }


def _event(event: Event) -> tuple[str, dict[str, Any]]:
    """Return an event of ours as the contract names its fields."""
    fields = msgspec.structs.asdict(event)
    if isinstance(event, ChannelOpened):
        names = ("p0", "p1", "asset", "number", "challenge_period", "close_hash")
        fields = {"channel": event.channel, **dict(zip(names, terms_values(event.terms), strict=True))}
    return type(event).__name__, {name: _plain(value) for name, value in fields.items()}


def _decoded(contract: Any, log: Any) -> tuple[str, dict[str, Any]]:
    """Return a log as web3 reads it."""
    for event in contract.events:
        if bytes(log.topics[0]) == bytes.fromhex(event().topic.removeprefix("0x")):
            found = event().process_log(log)
            return found.event, {name: _plain(value) for name, value in found.args.items()}
    raise AssertionError("the contract has no such event")
