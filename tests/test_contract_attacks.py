"""Attacks on the contract that other files do not try: each must gain nothing, and lose nobody else's coins.

What an audit looked at: replays, calls from within, gas left short, odd assets, odd bytes, numbers at their limits.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from eth_abi.abi import encode

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import EvmReverted, calldata, selector
from simulation.evm_adjudicator import TERMS, CallFailed, packed
from simulation.evm_twins import Twins
from simulation.evm_world import BURNS_GAS, FAR, REFUSES, STRANGER, TOWER, EvmWorld
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Address, BalanceProof, Lock
from tallystick.settlement.chain import (
    Call,
    DepositCall,
    OpenCall,
    Owed,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
)
from tallystick.settlement.ethereum.abi import terms_values

SECRET = b"s" * 32
MOST = 2**128 - 1
CLAIM = ("address", "address")


def token_of(world: EvmWorld) -> Address:
    assert world.token is not None
    return world.token.at


def status(world: EvmWorld, channel: ChannelFixture) -> int:
    view = world.contract.view(channel.id)
    assert view is not None
    return view.status


# --- calls from within ------------------------------------------------------------------------------------------


def when_tokens_move(world: EvmWorld, data: bytes) -> None:
    """Have the first party call the contract while the token moves anything."""
    assert world.token is not None
    inner = calldata("act", ("address", "bytes", "uint256"), (world.at, data, 0))
    target = world.parties[0] if data else NATIVE
    world.token.send(STRANGER, "set_call", ("address", "bytes"), target, inner)


@pytest.mark.parametrize("wrapped", [False, True])
def test_no_call_that_moves_money_runs_within_another(wrapped: bool) -> None:
    """Each is right, and is done when it comes by itself: within a payout it does nothing."""
    world = EvmWorld(token="ordinary")
    assert world.token is not None
    owner, paying = world.parties[0], world.open()
    fixtures = [world.open() for _ in range(7)]
    world.misbehave(owner, 0)
    deposited, withdrawn, agreed, ended, few, many, refused = fixtures
    locks = (Lock(1, 300, 5, 0, digest_of(SECRET)),)
    world.send(ended.close(), world.parties[1])
    for fixture in (few, many):
        world.send(fixture.close(fixture.proof(0, 1, 0, locks)), world.parties[1])
    world.token.send(STRANGER, "block_to", ("address", "bool"), owner, True)
    world.send(refused.cooperative_close(600, 400, FAR))
    world.token.send(STRANGER, "block_to", ("address", "bool"), owner, False)
    world.evm.time += PERIOD + 1
    for fixture in (few, many):
        world.send(SettleCall(fixture.id))
    fresh = world.fixture()
    calls: tuple[Call, ...] = (
        OpenCall(fresh.terms, 7),
        DepositCall(deposited.id, 0, 5, world.asset),
        withdrawn.withdrawal(0, 5, FAR),
        agreed.cooperative_close(600, 400, FAR),
        SettleCall(ended.id),
        RedeemCall(few.id, 0, locks),
    )
    attempts = [world.contract.encode(call)[0] for call in calls]
    attempts.append(world.contract.redeem(many.id, 0, locks, many=True))
    attempts.append(calldata("claim", CLAIM, (world.asset, owner)))
    if wrapped:
        attempts = [calldata("batch", ("bytes[]",), ([data],)) for data in attempts]

    def seen() -> list[object]:
        return [world.owed(owner), *(world.contract.view(fixture.id) for fixture in (*fixtures, fresh))]

    for taken, data in enumerate(attempts, 1):
        before = seen()
        when_tokens_move(world, data)
        world.send(paying.withdrawal(0, taken, FAR))
        assert seen() == before
        when_tokens_move(world, b"")
        world.act(owner, data)
        assert seen() != before


def test_a_channel_that_is_closed_while_its_deposit_moves_pays_all_of_it_out() -> None:
    """Closes and challenges are not locked: what they write does not meet what a deposit writes."""
    world = EvmWorld(token="ordinary")
    assert world.token is not None
    owner, other = world.parties
    channel, third = world.open(), world.open()
    world.misbehave(owner, 0)
    close, _ = world.contract.encode(channel.close())
    when_tokens_move(world, close)
    world.act(owner, world.contract.encode(DepositCall(channel.id, 0, 50, world.asset))[0])
    when_tokens_move(world, b"")
    view = world.contract.view(channel.id)
    assert view is not None and (view.status, view.deposits) == (1, (650, 400))
    fresh = world.fixture()
    closing, _ = world.contract.encode(fresh.close())
    when_tokens_move(world, closing)
    world.act(owner, world.contract.encode(OpenCall(fresh.terms, 70))[0])
    when_tokens_move(world, b"")
    assert status(world, fresh) == 1 and world.balance(world.at) == 2_120
    # A challenge while another channel is paid out.
    newer, _ = world.contract.encode(channel.challenge(channel.proof(1, 1, 10)))
    when_tokens_move(world, newer)
    world.send(third.cooperative_close(600, 400, FAR))
    when_tokens_move(world, b"")
    world.evm.time += PERIOD + 1
    before = world.balance(other)
    world.send(SettleCall(channel.id))
    world.send(SettleCall(fresh.id))
    assert world.balance(other) == before + 1_050  # convicted: all is the other's
    assert world.balance(world.at) == 0


def test_what_is_owed_is_paid_once_within_a_claim_and_in_a_batch_and_grows_over_channels() -> None:
    world = EvmWorld(token="ordinary")
    assert world.token is not None
    owner = world.parties[0]
    channels, kept = [world.open() for _ in range(3)], world.open()
    world.misbehave(owner, 0)
    world.token.send(STRANGER, "block_to", ("address", "bool"), owner, True)
    for channel in channels:
        world.send(channel.cooperative_close(600, 400, FAR))
    world.token.send(STRANGER, "block_to", ("address", "bool"), owner, False)
    assert world.owed(owner) == 1_800 and world.balance(world.at) == 2_800
    claim = calldata("claim", CLAIM, (world.asset, owner))
    before = world.balance(owner)
    when_tokens_move(world, claim)
    batch = calldata("batch", ("bytes[]",), ([claim, claim, calldata("claim", CLAIM, (NATIVE, owner))],))
    events = world.act(owner, batch)
    assert [event.position for event in events if isinstance(event, CallFailed)] == [1, 2]
    assert world.balance(owner) == before + 1_800
    assert world.balance(world.at) == 1_000 and status(world, kept) == 0


# --- gas --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [REFUSES, BURNS_GAS])
def test_in_a_batch_with_too_little_gas_each_close_is_done_whole_or_not_at_all(mode: int) -> None:
    """One receiver refuses its coins, or burns the gas that comes with them; whoever sends chooses how much it is."""
    outcomes = set()
    for gas in range(90_000, 420_000, 6_000):
        world = EvmWorld()
        channels = [world.open() for _ in range(3)]
        world.misbehave(world.parties[1], mode)
        calls = [world.contract.encode(channel.cooperative_close(600, 400, FAR))[0] for channel in channels]
        before = world.balance(world.parties[0])
        with suppress(EvmReverted):
            world.evm.send(TOWER, world.at, calldata("batch", ("bytes[]",), (calls,)), gas=gas)
        done = sum(status(world, channel) == 3 for channel in channels)
        assert world.owed(world.parties[0]) == 0
        assert world.balance(world.parties[0]) == before + 600 * done
        assert world.owed(world.parties[1]) == 400 * done
        assert world.balance(world.at) == 3_000 - 600 * done
        outcomes.add(done)
    assert {0, 3} <= outcomes
    if mode == REFUSES:
        assert {1, 2} <= outcomes


def receiver_that_wants(gas: int) -> bytes:
    """Return what deploys an account that takes coins only if it gets so much gas."""
    runtime = b"\x62" + gas.to_bytes(3, "big") + bytes.fromhex("5a10600a57005b5f5ffd")
    return bytes.fromhex(f"60{len(runtime):02x}600b5f3960{len(runtime):02x}5ff3").ljust(11, b"\0") + runtime


def least_gas(wants: int, *, owed: bool) -> int:
    """The least gas with which a withdrawal to such a receiver is credited (or paid)."""
    low, high = 60_000, 400_000
    while low < high:
        middle = (low + high) // 2
        world = EvmWorld()
        channel = world.open()
        world.evm.attach(world.parties[0], world.evm.deploy(receiver_that_wants(wants), STRANGER))
        data, _ = world.contract.encode(channel.withdrawal(0, 50, FAR))
        try:
            events = world.contract.events(world.evm.send(TOWER, world.at, data, gas=middle))
            right = any(isinstance(event, Owed) for event in events) == owed
        except EvmReverted:
            right = False
        low, high = (low, middle) if right else (middle + 1, high)
    return low


def test_a_payout_is_credited_only_where_its_receiver_would_have_had_all_its_gas() -> None:
    """Also if its account is cold (2,500 more: here it is warm) and delegates (EIP-7702: 2,600, not known here)."""
    stipend = 2_300
    paid = least_gas(60_000 + stipend - 20, owed=False)
    credited = least_gas(70_000, owed=True)
    assert credited - paid >= 2_500 + 2_600


@pytest.mark.parametrize("what", ["forged", "secret"])
def test_no_gas_is_so_little_that_a_precompile_fails_unseen(what: str) -> None:
    world = EvmWorld()
    channel = world.open()
    forged = msgspec.structs.replace(channel.cooperative_close(600, 400, FAR), signature1=b"\1" * 64)
    data = world.contract.encode(forged if what == "forged" else RegisterSecretCall(SECRET))[0]
    for gas in range(30_000, 70_000, 97):
        try:
            world.evm.send(TOWER, world.at, data, gas=gas)
        except EvmReverted:
            continue
        assert what == "secret"
        stored = world.evm.call(world.at, calldata("secretTime", ("bytes32",), (digest_of(SECRET),)))
        assert int.from_bytes(stored, "big") == world.evm.time
        return
    assert what == "forged" and status(world, channel) == 0


# --- assets -----------------------------------------------------------------------------------------------------


def test_precompiles_are_no_assets_and_what_is_no_token_takes_no_deposit() -> None:
    world = EvmWorld()
    another = world.evm.deploy(bytes.fromhex("60015ff3"), STRANGER)  # code, but no token: it stops at once
    for number in range(1, 11):
        fixture = ChannelFixture(asset=Address(bytes(19) + bytes([number])), contract=world.at)
        assert world.refused(OpenCall(fixture.terms, 5), world.parties[0]) == "bad-terms"
    fixture = ChannelFixture(asset=another, contract=world.at)
    with pytest.raises(EvmReverted):
        world.send(OpenCall(fixture.terms, 5), world.parties[0])
    world.send(OpenCall(fixture.terms, 0), world.parties[0])
    world.open()
    with pytest.raises(EvmReverted):
        world.send(DepositCall(fixture.id, 0, 5, another), world.parties[0])
    assert world.balance(world.at) == 1_000


def test_a_token_whose_code_is_gone_takes_nothing_with_it() -> None:
    world = EvmWorld(token="ordinary")
    gone = world.open()
    coins = ChannelFixture(contract=world.at)
    world.send(OpenCall(coins.terms, 500), world.parties[0])
    empty = world.evm.deploy(bytes.fromhex("5f5ff3"), STRANGER)
    world.evm.attach(token_of(world), empty)
    with pytest.raises(EvmReverted):
        world.send(DepositCall(gone.id, 0, 5, world.asset), world.parties[0])
    world.send(gone.cooperative_close(600, 400, FAR))
    before = world.evm.balance(world.parties[1])
    world.send(coins.cooperative_close(0, 500, FAR))
    assert world.evm.balance(world.parties[1]) == before + 500
    assert world.evm.balance(world.at) == 0


def test_coins_and_tokens_that_nobody_deposited_are_paid_to_nobody() -> None:
    world = EvmWorld(token="ordinary")
    assert world.token is not None
    channel = world.open()
    world.evm.fund(world.at, 10_000)  # as a block's reward would
    world.token.mint(world.at, 10_000)
    world.send(DepositCall(channel.id, 0, 5, world.asset), world.parties[0])
    world.send(channel.withdrawal(0, 5, FAR))
    assert world.refused(channel.withdrawal(0, 1_006, FAR)) == "bad-amount"
    world.send(channel.cooperative_close(600, 400, FAR))
    assert world.balance(world.at) == 10_000 == world.evm.balance(world.at)


# --- bytes and numbers ------------------------------------------------------------------------------------------


def test_of_redeemed_locks_nothing_counts_but_those_that_were_signed_in_their_order() -> None:
    world = EvmWorld()
    channel = world.open()
    first = (Lock(1, 200, FAR, 0, digest_of(SECRET)), Lock(2, 100, 5, 0, digest_of(b"x" * 32)))
    second = (Lock(1, 150, FAR, 0, digest_of(SECRET)),)
    world.send(channel.close(channel.proof(0, 1, 0, first), channel.proof(1, 1, 0, second)), world.parties[0])
    world.send(RegisterSecretCall(SECRET))
    world.evm.time += PERIOD + 1
    world.send(SettleCall(channel.id))
    types = (TERMS, "uint8", "uint128", "bytes")
    good, other = packed(first), packed(second)
    for name in ("redeem", "redeemMany"):
        for side, locked, data in (
            (0, 300, b""),
            (0, 300, good[:65]),
            (0, 300, good + good[:65]),
            (0, 300, good[65:] + good[:65]),
            (0, 300, good[:65] * 2),
            (0, 300, good + b"\0"),
            (0, 300, good[:-1]),
            (0, 300, other),
            (0, 150, other),
            (0, 301, good),
            (1, 150, good),
            (1, 300, good),
        ):
            with pytest.raises(EvmReverted, match="bad-locks"):
                values = (terms_values(channel.terms), side, locked, data)
                world.evm.send(TOWER, world.at, calldata(name, types, values))
    before = [world.balance(party) for party in world.parties]
    world.send(RedeemCall(channel.id, 0, first))
    assert world.refused(RedeemCall(channel.id, 0, first)) == "nothing-to-redeem"
    world.send(RedeemCall(channel.id, 1, second))
    for side, locks in enumerate((first, second)):
        assert world.refused(RedeemCall(channel.id, side, locks)) == "wrong-status"
    assert [world.balance(party) for party in world.parties] == [before[0] + 250, before[1] + 200]
    assert world.balance(world.at) == 0


def test_two_locks_that_share_id_and_condition_are_paid_what_the_pot_holds() -> None:
    world = EvmWorld()
    channel = world.open()
    locks = (Lock(7, MOST, FAR, 0, digest_of(SECRET)), Lock(7, MOST, 5, 0, digest_of(SECRET)))
    root = keccak(b"".join(keccak(encode(("uint64", "uint128", "uint64", "uint8", "bytes32"), leaf)) for leaf in (
        (lock.id, lock.amount, lock.expiry, lock.kind, lock.condition) for lock in locks
    )))  # fmt: skip
    proof = channel.sign(BalanceProof(channel.id, 0, 1, 0, MOST, root, 0))
    world.send(channel.close(proof), world.parties[1])
    world.send(RegisterSecretCall(SECRET))
    world.evm.time += PERIOD + 1
    world.send(SettleCall(channel.id))
    before = world.balance(world.parties[1])
    world.send(RedeemCall(channel.id, 0, locks))
    assert world.balance(world.parties[1]) == before + 600
    assert world.balance(world.at) == 0


@pytest.mark.parametrize("closer", [0, 1])
@pytest.mark.parametrize("sums", [(MOST, 0), (0, MOST), (MOST, MOST), (MOST, MOST - 1)])
def test_whatever_sums_were_signed_no_more_is_paid_than_is_there(closer: int, sums: tuple[int, int]) -> None:
    twins = Twins()
    fixture = ChannelFixture(contract=twins.at)
    most = 2**99
    twins.send(OpenCall(fixture.terms, most), fixture.address(0), fixture.id)
    twins.send(DepositCall(fixture.id, 1, most), fixture.address(1), fixture.id)
    assert twins.send(fixture.withdrawal(1, MOST, FAR), TOWER, fixture.id) == "bad-amount"
    assert twins.send(fixture.withdrawal(1, 2 * most - 1, FAR), TOWER, fixture.id) == ""
    assert twins.send(fixture.withdrawal(0, MOST, FAR), TOWER, fixture.id) == "bad-amount"
    assert twins.send(fixture.cooperative_close(MOST, MOST, FAR), TOWER, fixture.id) == "bad-balances"
    root = keccak(b"locks that nobody has")
    proofs = [
        fixture.sign(BalanceProof(fixture.id, side, 2**64 - 1, sums[side], MOST, root, 2**64 - 1)) for side in (0, 1)
    ]
    assert twins.send(fixture.close(None, proofs[1]), fixture.address(closer), fixture.id) == ""
    assert twins.send(fixture.challenge(proofs[0]), TOWER, fixture.id) == ""
    assert twins.send(fixture.challenge(proofs[0]), TOWER, fixture.id) == "not-newer"
    twins.time += PERIOD + 1
    assert twins.send(SettleCall(fixture.id), TOWER, fixture.id) == ""
    view = twins.contract.view(fixture.id)
    assert view is not None and sum(view.pots) <= 1
    assert twins.evm.balance(twins.at) == sum(view.pots)


def word(number: int) -> bytes:
    return (number % 2**256).to_bytes(32, "big")


def test_a_batch_in_crooked_bytes_does_what_its_calls_do_or_nothing() -> None:
    world = EvmWorld()
    channel = world.open()
    call, _ = world.contract.encode(channel.withdrawal(0, 5, FAR))
    body = word(len(call)) + call.ljust(-(-len(call) // 32) * 32, b"\0")
    head = selector("batch(bytes[])")
    for crooked in (
        word(-32) + word(1) + word(32) + body,
        word(2**32) + word(1),
        word(32) + word(1) + word(-64),
        word(32) + word(1) + word(-(2**64)),
        word(32) + word(101) + word(32) * 101 + body,
        word(32) + word(2**255) + word(32) + body,
        word(32) + word(1) + word(32) + word(-1) + call,
        word(32) + word(1) + word(32) + word(1_025) + call,
        word(32) + word(1) + word(32) + word(4) + call,
    ):
        try:
            outcome = world.evm.send(TOWER, world.at, head + crooked)
        except EvmReverted:
            continue
        assert all(isinstance(event, CallFailed) for event in world.contract.events(outcome))
    view = world.contract.view(channel.id)
    assert view is not None and view.withdrawn == (0, 0)
    # Twice the same bytes, three batches deep: it counts once.
    twice = head + word(32) + word(2) + word(64) * 2 + body
    for _ in range(2):
        twice = calldata("batch", ("bytes[]",), ([twice],))
    before = world.balance(world.parties[0])
    events = world.contract.events(world.evm.send(TOWER, world.at, twice))
    assert [event.position for event in events if isinstance(event, CallFailed)] == [1]
    assert world.balance(world.parties[0]) == before + 5
