"""A kind of lock from outside the packages, carried through whole nodes and judged on the simulated chain."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from simulation.disputes import ChannelFixture, DisputeFixture
from simulation.half_lock import HALF, HalfLock, HalfVerdict
from simulation.invariants import histories, unsettled
from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import PROOF_MAX
from tallystick.channels.protocol import conditions
from tallystick.channels.protocol.conditions.hash_lock import HashLock
from tallystick.channels.protocol.conditions.kinds import KindTable, LockKind
from tallystick.channels.protocol.conditions.stream import StreamLock
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.messages import Update, decode
from tallystick.channels.protocol.objects import Address, Lock
from tallystick.channels.protocol.operations import Unlock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.chain import (
    Block,
    Header,
    ProofRegistered,
    RedeemCall,
    RegisterProofCall,
    RegisterSecretCall,
    SettleCall,
)
from tallystick.settlement.contract import verdicts
from tallystick.settlement.contract.verdicts import require_judged, verdict_for, verdict_of
from tallystick.settlement.contract.verdicts.hash_lock import HashVerdict
from tallystick.settlement.contract.verdicts.rules import Verdict
from tallystick.settlement.contract.verdicts.stream import StreamVerdict
from tallystick.settlement.errors import ChainError, Revert, Reverted
from tallystick.settlement.ethereum.abi import Deployment, decode_call, encode_call
from tallystick.settlement.ethereum.event_logs import decode_event, encode_event
from tallystick.settlement.ethereum.transactions import gas_of
from tallystick.settlement.following.checked import check_block
from tallystick.settlement.following.index import ChainIndex
from tallystick.settlement.following.sqlite import INDEX_SCHEMA

DEPOSIT = 1_000_000_000_000_000
AMOUNT = 500_000_000_000_001
PREIMAGE = b"what the two agreed on: " * 20
CONDITION = keccak(PREIMAGE)
LOCK = Lock(0, AMOUNT, 5_000, HALF, CONDITION)
AT = Deployment(1, Address(b"c" * 20))
HERE = Path(__file__).parent


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program that brings a kind of its own: it registers it, in both tables, before it does anything else."""
    monkeypatch.setattr(conditions, "KINDS", KindTable[LockKind](HashLock(), StreamLock()))
    monkeypatch.setattr(verdicts, "VERDICTS", KindTable[Verdict](HashVerdict(), StreamVerdict()))
    conditions.KINDS.register(HalfLock())
    verdicts.VERDICTS.register(HalfVerdict())
    yield


# --- the contract's rules ----------------------------------------------------------------------------------------


def settled_court(lock: Lock) -> DisputeFixture:
    paper = ChannelFixture()
    made = DisputeFixture(paper)
    made.open(DEPOSIT, 50)
    made.apply(paper.close(paper.proof(0, 1, 0, (lock,)), None))
    made.time += paper.terms.challenge_period + 1
    made.apply(SettleCall(paper.id))
    return made


def test_the_contract_pays_by_the_verdict_of_a_kind_from_outside(half: None) -> None:
    made = settled_court(msgspec.structs.replace(LOCK, expiry=10**6))
    lock = msgspec.structs.replace(LOCK, expiry=10**6)
    redeem = RedeemCall(made.fixture.id, 0, (lock,))
    with pytest.raises(Reverted) as early:
        made.apply(redeem)
    assert early.value.code is Revert.NOTHING_TO_REDEEM
    call = verdict_of(lock).registration(lock, PREIMAGE)
    done = verdict_for(call).register(call, lambda condition: 0, made.time)
    made.kept[HALF, done.condition] = done.kept
    made.apply(redeem)
    assert made.received(1) == 50 + AMOUNT // 2 and made.received(0) == DEPOSIT - AMOUNT // 2


def test_a_lock_of_a_kind_that_the_contract_does_not_know_goes_back_to_its_sender() -> None:
    made = settled_court(LOCK)
    made.kept[HALF, CONDITION] = 1
    made.time = max(made.time, LOCK.expiry + 1)
    made.apply(RedeemCall(made.fixture.id, 0, (LOCK,)))
    assert (made.received(0), made.received(1)) == (DEPOSIT, 50)


def test_what_is_registered_goes_to_the_entry_of_its_kind_and_to_no_other(half: None) -> None:
    proof = RegisterProofCall(HALF, CONDITION, PREIMAGE)
    verdict = verdict_for(proof)
    assert isinstance(verdict, HalfVerdict) and isinstance(verdict_for(RegisterSecretCall(b"s" * 32)), HashVerdict)
    for wrong in (
        RegisterProofCall(0, CONDITION, b"s" * 32),
        RegisterProofCall(2, CONDITION, b""),
        RegisterProofCall(7, CONDITION, b""),
    ):
        with pytest.raises(Reverted) as refused:
            verdict_for(wrong)
        assert refused.value.code is Revert.UNKNOWN_CALL
    for bad in (
        msgspec.structs.replace(proof, proof=b"other"),
        msgspec.structs.replace(proof, proof=bytes(PROOF_MAX + 1)),
        msgspec.structs.replace(proof, condition=b"short"),
    ):
        with pytest.raises(Reverted) as refused:
            verdict.register(bad, lambda condition: 0, 5)
        assert refused.value.code is Revert.BAD_PROOF
    with pytest.raises(Reverted) as again:
        verdict.register(proof, lambda condition: 4, 5)
    assert again.value.code is Revert.ALREADY_REGISTERED


def test_its_call_and_its_event_travel_as_ethereums_do() -> None:
    call, event = RegisterProofCall(HALF, CONDITION, PREIMAGE), ProofRegistered(CONDITION, HALF, PREIMAGE, 77)
    assert decode_call(encode_call(call, AT), AT) == call and decode_event(encode_event(event), AT) == event
    assert gas_of(call) > gas_of(msgspec.structs.replace(call, proof=b""))


@pytest.mark.parametrize("change", [{"condition": b"x"}, {"kind": 256}, {"proof": bytes(PROOF_MAX + 1)}, {"time": 6}])
def test_what_a_chain_node_says_of_it_is_checked(change: dict[str, object]) -> None:
    event = ProofRegistered(CONDITION, HALF, PREIMAGE, 5)
    header = Header(3, b"h" * 32, b"p" * 32, 5)
    check_block(Block(header, (event,)))
    with pytest.raises(ChainError):
        check_block(Block(header, (msgspec.structs.replace(event, **change),)))


def test_a_proof_leaves_the_index_with_its_block_and_the_last_one_left_counts() -> None:
    store = SimulatedDisk([INDEX_SCHEMA]).open()
    index = ChainIndex(Address(bytes(20)), store)
    for number in (1, 2):
        event = ProofRegistered(CONDITION, HALF, bytes([number]), 100 + number)
        store.commit(index.add(Block(Header(number, bytes(32), bytes(32), 100 + number), (event,))))
    puzzle = (HALF, CONDITION)
    assert index.proofs([puzzle], 2) == {puzzle: (102, b"\2")} and index.proofs([puzzle], 1) == {puzzle: (101, b"\1")}
    assert index.proofs([(HALF + 1, CONDITION), (0, CONDITION), (2, CONDITION)], 2) == {}
    store.commit(index.remove(2, 101))
    assert index.proofs([puzzle], 2) == {puzzle: (101, b"\1")}


def test_a_kind_without_a_verdict_is_refused_before_a_node_runs(half: None, monkeypatch: pytest.MonkeyPatch) -> None:
    require_judged()
    monkeypatch.setattr(verdicts, "VERDICTS", KindTable[Verdict](HashVerdict(), StreamVerdict()))
    with pytest.raises(InvalidInput, match=r"kind 200 \(half\)"):
        require_judged()
    with pytest.raises(InvalidInput, match="kind 200"):
        verdict_of(LOCK)

    async def main() -> None:
        async with open_world(1) as world:
            await world.start("alice")

    with pytest.raises(ExceptionGroup) as refused:
        simulate(main, 1)
    assert refused.value.subgroup(lambda error: isinstance(error, InvalidInput) and "no verdict" in str(error))


# --- whole nodes -------------------------------------------------------------------------------------------------

Act = Callable[[World, ChannelHandle, int], Awaitable[None]]


def play(act: Act, payer: str, payee: str) -> None:
    async def main() -> None:
        async with open_world(5) as world:
            first = await world.start(payer)
            await world.start(payee)
            channel = await first.open_channel(world.address(payee), DEPOSIT)
            expiry = world.chain.newest.header.time + 3_000
            number = await channel.lock(AMOUNT, expiry, CONDITION, kind=HALF)
            there = world.node(payee).channels[0]
            assert await world.until(lambda: len(there.view.channel.theirs.simplex.locks) == 1, 60)
            await act(world, channel, number)

    simulate(main, 5)


def test_two_nodes_settle_such_a_lock_between_them(half: None) -> None:
    async def act(world: World, channel: ChannelHandle, number: int) -> None:
        bob = world.node("bob").channels[0]
        bob.reveal(number, PREIMAGE)
        assert await world.until(lambda: not channel.view.channel.newest.locks, 60)
        assert bob.balances == (AMOUNT // 2, DEPOSIT - AMOUNT // 2)

    play(act, "alice", "bob")


async def proofs_on_chain(world: World) -> list[bytes]:
    blocks = await world.chain.blocks(0, 10_000)
    return [event.proof for block in blocks for event in block.events if isinstance(event, ProofRegistered)]


def test_a_payer_that_withholds_its_unlock_is_made_to_pay_by_the_chain(half: None) -> None:
    async def act(world: World, channel: ChannelHandle, number: int) -> None:
        def withhold(message: bytes) -> list[bytes]:
            try:
                read = decode(message)
            except MalformedMessage:
                return [message]
            ends = isinstance(read, Update) and any(isinstance(op, Unlock) for op in read.operations)
            return [] if ends else [message]

        world.seats["mallory"].tamper = withhold
        alice = world.node("alice").channels[0]
        (lock,) = alice.view.channel.theirs.simplex.locks
        alice.reveal(number, PREIMAGE)
        assert await world.until(lambda: world.chain.newest.header.time > lock.expiry + 60, 6_000)
        assert await proofs_on_chain(world) == [PREIMAGE]
        await alice.force_close()

        def over() -> bool:
            return world.node("alice").channels[0].phase is Phase.GONE and not unsettled(world, ["alice"])

        assert await world.until(over, 12_000)
        paid = histories(world)[0][alice.id].paid
        side = alice.view.channel.side
        assert (paid[side], paid[1 - side]) == (AMOUNT // 2, DEPOSIT - AMOUNT // 2)

    play(act, "mallory", "alice")


def test_a_program_registers_its_kind_before_anything_else_and_not_later() -> None:
    """In a process of its own, with the tables as they are delivered."""
    program = """
from simulation.disputes import ChannelFixture, DisputeFixture
from simulation.half_lock import HALF, HalfLock, HalfVerdict
from tallystick.channels.protocol import conditions
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Lock
from tallystick.settlement.contract import verdicts
conditions.KINDS.register(HalfLock())
verdicts.VERDICTS.register(HalfVerdict())
verdicts.require_judged()
assert conditions.amount_paid(Lock(0, 9, 5, HALF, keccak(b"p")), b"p") == 4
for table, entry in ((conditions.KINDS, HalfLock()), (verdicts.VERDICTS, HalfVerdict())):
    try:
        table.register(entry)
    except ValueError as error:
        assert "too late" in str(error)
    else:
        raise SystemExit("a kind was taken while its table is in use")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=HERE, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
