"""What a transaction is given on a real chain: its limit, what is taken for its bytes; a budget covers both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import rlp
import trio

from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode, refuse
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.objects import NATIVE, Address, Lock
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.settlement.chain import (
    ApproveCall,
    BatchCall,
    Call,
    ClaimCall,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterSecretCall,
    SettleCall,
    TransferCall,
)
from tallystick.settlement.ethereum.evm.abi import (
    DOMAIN_SEPARATOR,
    ChannelContext,
    HeldLocks,
    encode_evm_call,
)
from tallystick.settlement.ethereum.evm.client import open_evm_chain
from tallystick.settlement.ethereum.evm.gas import TARIFF, limit_of, measured
from tallystick.settlement.ethereum.evm.permits import NO_PERMIT
from tallystick.settlement.ethereum.evm.profiles import ChainProfile, profile_of
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex
from tallystick.settlement.ethereum.transactions import sign_envelope
from tallystick.settlement.following.checked import ANSWERS, Market
from tallystick.settlement.port import Charge
from tallystick.settlement.sending.batches import CARRIED
from tallystick.settlement.sending.obligations import Obligation
from tallystick.settlement.sending.policy import policy_for
from tallystick.settlement.sending.sender import Sender
from tallystick.settlement.sending.sqlite import SCHEMA

KEY = FIXTURE.keys[0]
HISTORY = {"baseFeePerGas": ["0x7", "0x8"], "gasUsedRatio": [0.5], "reward": [["0x3b9aca00"]]}
OP_ORACLE = "0x420000000000000000000000000000000000000f"
ARB_INFO = "0x000000000000000000000000000000000000006c"
SECRET = RegisterSecretCall(b"s" * 32)


class RollupNode(FakeNode):
    """A node of some chain, with the contracts by which rollups tell what bytes cost."""

    def __init__(self, estimate: int | None = 100_000) -> None:
        super().__init__(FakeChain(12))
        self.answers["eth_feeHistory"] = lambda *which: HISTORY
        self.answers["eth_estimateGas"] = refuse(3, "no") if estimate is None else lambda *which: quantity(estimate)
        self.upper_bound = 10**16
        self.per_byte = 40

    def eth_call(self, call: dict[str, str], at: object) -> str:
        if call["data"] == to_hex(DOMAIN_SEPARATOR.encode_call()):
            return to_hex(domain_separator(*AT))
        if call["to"] == OP_ORACLE and call["data"].startswith("0xf1c7a58b"):  # getL1FeeUpperBound(uint256)
            assert int(call["data"][10:], 16) == 1_000
            return to_hex(self.upper_bound.to_bytes(32, "big"))
        if call["to"] == ARB_INFO and call["data"] == "0x41b247a8":  # getPricesInWei()
            return to_hex(b"".join(each.to_bytes(32, "big") for each in (1, self.per_byte, 3, 4, 5, 6)))
        found: str = refuse(3, "execution reverted", "0x")()
        return found


def on(chain_id: int) -> ChainProfile:
    """Return the profile of a chain, under the number that the test's contract has."""
    return msgspec.structs.replace(profile_of(chain_id), chain_id=AT.chain_id)


ETHEREUM, BASE, ARBITRUM = on(1), on(8_453), on(42_161)


@pytest.mark.parametrize(
    ("profile", "byte", "charge"),
    [
        (ETHEREUM, 0, Charge(125_000)),
        (BASE, 10**13, Charge(125_000, (180 + 36) * 10**13 * 3 // 2)),
        (ARBITRUM, 40, Charge(125_000)),
    ],
    ids=("Ethereum", "Base", "Arbitrum"),
)
async def test_what_bytes_cost_is_asked_where_it_is_told(profile: ChainProfile, byte: int, charge: Charge) -> None:
    net = FakeInternet(one=RollupNode())
    async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, profile=profile, transport=net) as chain:
        assert await chain.data_price() == byte
        assert await chain.charge(KEY.address, SECRET) == charge
        market = Market(chain)
        for _ in range(ANSWERS):
            await market.ask()
        fee = market.tariff.fee(SECRET, 7)
        assert fee == 7 * measured(SECRET) + byte * TARIFF.size(SECRET) == market.tariff.fee_of(type(SECRET), 7)


async def test_a_rollup_that_does_not_say_what_bytes_cost_holds_nothing_up() -> None:
    for answer in (refuse(3, "execution reverted", "0x"), lambda *which: "0x12", lambda *which: None):
        node = RollupNode()
        honest = node.eth_call

        def lies(call: dict[str, str], at: object, answer: Any = answer, honest: Any = honest) -> Any:
            return answer() if call["to"] == OP_ORACLE else honest(call, at)

        node.answers["eth_call"] = lies
        net = FakeInternet(one=node)
        async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, profile=BASE, transport=net) as chain:
            assert await chain.charge(KEY.address, SECRET) == Charge(125_000)


async def sent(node: RollupNode, profile: ChainProfile, call: Call, budget: int, path: Path) -> list[list[bytes]]:
    """Return the transactions (their fields) that a sender hands in for a call in some time."""
    store = open_store(path, [SCHEMA], owner="a test", durable=False)

    async def commit(moments: Any) -> None:
        store.commit(moments)

    net = FakeInternet(one=node)
    async with (
        open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, profile=profile, transport=net) as chain,
        trio.open_nursery() as nursery,
    ):
        sender = Sender(
            key=KEY,
            chain=chain,
            store=store,
            commit=commit,
            alarm=lambda alarm: None,
            jitter=lambda: 0.5,
            policy=policy_for(chain.figures, 1),
        )
        await commit(sender.require(Obligation(id="o", call=call, purpose="a test", budget=budget)))
        nursery.start_soon(sender.run)
        for _ in range(34):
            for _ in range(chain.figures.pace):
                node.chain.add()
            await trio.sleep(12)
        nursery.cancel_scope.cancel()
    store.close()
    raws = [bytes.fromhex(params[0][2:]) for method, params in node.asked if method == "eth_sendRawTransaction"]
    return [rlp.decode(raw[1:]) for raw in raws]


@pytest.mark.parametrize(
    ("profile", "estimate"),
    [(ETHEREUM, None), (ETHEREUM, 5_000_000), (BASE, 150_000), (ARBITRUM, 5_000_000)],
    ids=lambda value: getattr(value, "name", value),
)
async def test_no_transaction_is_signed_that_could_cost_more_than_its_budget(
    profile: ChainProfile, estimate: int | None, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    node, budget = RollupNode(estimate), 10**16
    found = await sent(node, profile, SECRET, budget, tmp_path)
    limits = {int.from_bytes(fields[4], "big") for fields in found}
    assert limits == {limit_of(SECRET, estimate, profile is ARBITRUM)}
    data = 216 * 10**13 * 3 // 2 if profile is BASE else 0
    costs = [int.from_bytes(fields[3], "big") * int.from_bytes(fields[4], "big") + data for fields in found]
    assert max(costs) <= budget, "whatever limit the node asks for"
    assert max(costs) > 0.99 * budget, "and all of it is offered in the end"


def test_no_transaction_has_more_bytes_than_are_counted_for_it() -> None:
    terms, lock = FIXTURE.terms, Lock(1, 2**100, 2**40, 0, b"\xff" * 32)
    proof = FIXTURE.proof(0, 2**60, 2**100, locks=(lock,))
    held = ChannelContext(terms, (HeldLocks(2**100, b"\xff" * 32), HeldLocks(2**100, b"\xff" * 32)))
    calls: list[Call] = [
        OpenCall(terms, 2**100),
        OpenCall(terms, 2**100, permit=True),
        DepositCall(FIXTURE.id, 1, 2**100),
        DepositCall(FIXTURE.id, 1, 2**100, permit=True),
        FIXTURE.close(proof, FIXTURE.proof(1, 2**60, 2**100, locks=(lock,))),
        FIXTURE.challenge(proof, tower=Address(b"\xff" * 20)),
        SettleCall(FIXTURE.id),
        RedeemCall(FIXTURE.id, 0, (lock,) * 100),
        SECRET,
        RegisterLinkCall(b"\xff" * 32, 60_000, b"\xff" * 32, 2**100, 65_536, 2**40),
        ClaimCall(NATIVE, Address(b"\xff" * 20)),
        TransferCall(Address(b"\xff" * 20), Address(b"\xff" * 20), 2**100),
        ApproveCall(Address(b"\xff" * 20), 2**100),
        FIXTURE.cooperative_close(2**100, 2**100, 2**40),
        FIXTURE.withdrawal(0, 2**100, 2**40),
    ]
    for call in calls:
        envelope = encode_evm_call(call, AT, held, NO_PERMIT if getattr(call, "permit", False) else None)
        raw = sign_envelope(KEY, AT.chain_id, envelope, 2**30, 2**60, 2**60, 2**24)
        assert len(raw) <= TARIFF.size(call) <= len(raw) + 200, type(call).__name__
    members = tuple(call for call in calls if isinstance(call, CARRIED) and not isinstance(call, RedeemCall))
    envelope = encode_evm_call(BatchCall(members), AT, (held,) * len(members))
    raw = sign_envelope(KEY, AT.chain_id, envelope, 2**30, 2**60, 2**60, 2**24)
    assert len(raw) <= TARIFF.size(BatchCall(members)) <= len(raw) + 200 * (1 + len(members))
