"""Attacks on the contract that other files do not try: each must gain nothing, and lose nobody else's coins.

What an audit looked at: replays, calls from within, gas left short, odd assets, odd bytes, numbers at their limits.
"""

from __future__ import annotations

import msgspec
import pytest
from eth_abi.abi import encode

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import EvmReverted, adjudicator_code, calldata, selector
from simulation.evm_adjudicator import TERMS, CallFailed, EvmAdjudicator, packed
from simulation.evm_twins import Twins
from simulation.evm_world import BURNS_GAS, FAR, REFUSES, STRANGER, TOWER, EvmWorld
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Address, BalanceProof, Lock
from tallystick.settlement.chain import (
    Call,
    Challenged,
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


# --- replays ----------------------------------------------------------------------------------------------------


def replayed(old: ChannelFixture, new: ChannelFixture) -> list[Call]:
    """All that both signed for one channel, handed in for another."""
    withdrawal, close = old.withdrawal(0, 5, FAR), old.cooperative_close(600, 400, FAR)
    proof = old.proof(1, 3, 50)
    moved = msgspec.structs.replace(proof, proof=msgspec.structs.replace(proof.proof, channel=new.id))
    return [
        msgspec.structs.replace(withdrawal, withdrawal=msgspec.structs.replace(withdrawal.withdrawal, channel=new.id)),
        msgspec.structs.replace(close, close=msgspec.structs.replace(close.close, channel=new.id)),
        new.close(None, moved),
    ]


def test_what_was_signed_for_a_channel_counts_in_no_later_one_of_the_same_pair() -> None:
    world = EvmWorld()
    old = world.open()
    world.send(old.cooperative_close(600, 400, FAR))
    new = world.open()
    for call in replayed(old, new):
        assert world.refused(call, world.parties[0]) == "bad-signature"
    world.send(new.close(), world.parties[0])
    right, foreign = new.proof(1, 1, 5), old.challenge(old.proof(1, 1, 5), tower=TOWER, victim=1)
    assert foreign.voucher is not None
    voucher = msgspec.structs.replace(foreign.voucher, channel=new.id)
    for call in (
        msgspec.structs.replace(foreign, voucher=voucher, proof=right),
        msgspec.structs.replace(new.challenge(right, tower=TOWER, victim=1), proof=replayed(old, new)[2].proof1),
        new.challenge(right, tower=TOWER, victim=0),  # the closer's own voucher
    ):
        assert world.refused(call) == "bad-signature"
    world.send(new.challenge(right, tower=TOWER, victim=1))


@pytest.mark.parametrize("field", ["chain_id", "asset"])
def test_what_was_signed_for_another_chain_or_another_asset_counts_for_nothing(field: str) -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    other = ChannelFixture(
        asset=NATIVE if field == "asset" else world.asset, chain_id=1 if field == "chain_id" else 1337, contract=world.at
    )
    for call in replayed(other, world.channel):
        assert world.refused(call, world.parties[0]) == "bad-signature"


def test_a_proof_of_one_simplex_is_none_of_the_other_and_needs_both_signatures() -> None:
    world = EvmWorld()
    channel = world.open()
    good = channel.proof(1, 1, 100)
    other_way = channel.sign(BalanceProof(channel.id, 0, 1, 100, 0, bytes(32), 0))
    crossed = msgspec.structs.replace(good, signature=good.countersignature, countersignature=good.signature)
    alone = msgspec.structs.replace(good, countersignature=good.signature)
    twice = msgspec.structs.replace(good, signature=good.countersignature)
    renamed = msgspec.structs.replace(
        other_way, proof=good.proof, signature=other_way.countersignature, countersignature=other_way.signature
    )
    for wrong in (crossed, alone, twice, renamed):
        assert world.refused(channel.close(None, wrong), world.parties[0]) == "bad-signature"
    bytes_of = world.contract.proof(channel.id, good)
    types = (TERMS, "bytes", "bytes", "bytes32")
    for proofs in ((bytes_of, b""), (b"", bytes_of[:159]), (b"", bytes_of + b"\0"), (b"", bytes_of + bytes(47))):
        data = calldata("close", types, (terms_values(channel.terms), *proofs, channel.close().close_key))
        with pytest.raises(EvmReverted, match="bad-signature|bad-proof"):
            world.evm.send(world.parties[0], world.at, data)
    # Locks that are none are the same proof, in more bytes.
    data = calldata(
        "close", types, (terms_values(channel.terms), b"", bytes_of + bytes(48), channel.close().close_key)
    )
    world.evm.send(world.parties[0], world.at, data)
    view = world.contract.view(channel.id)
    assert view is not None and view.seqs == (0, 1) and view.held == (bytes(32), bytes(32))


def test_a_withdrawal_counts_once_and_only_while_the_channel_is_open() -> None:
    world = EvmWorld()
    channel = world.open()
    first, second = channel.withdrawal(0, 50, FAR), channel.withdrawal(0, 80, FAR)
    before = world.balance(world.parties[0])
    world.send(second)
    assert [world.refused(call) for call in (second, first)] == ["bad-amount"] * 2
    assert world.balance(world.parties[0]) == before + 80
    world.send(channel.close(), world.parties[1])
    assert world.refused(channel.withdrawal(0, 90, FAR)) == "wrong-status"
    assert world.refused(channel.cooperative_close(520, 400, FAR)) == "wrong-status"
    assert world.refused(DepositCall(channel.id, 0, 5), world.parties[0]) == "wrong-status"
    world.evm.time += PERIOD + 1
    world.send(SettleCall(channel.id))
    assert world.balance(world.parties[0]) == before + 600
    assert world.refused(SettleCall(channel.id)) == "wrong-status"
    assert world.refused(channel.challenge(channel.proof(0, 9, 9))) == "wrong-status"


def test_a_close_and_a_withdrawal_that_live_at_once_can_both_count_so_that_nobody_signs_both() -> None:
    """A limit of what is signed, not of the contract: a deposit of just the amount hides the withdrawal.

    `is_quiet` and FROZEN keep nodes from it.
    """
    twins = Twins()
    fixture = ChannelFixture(contract=twins.at)
    twins.send(OpenCall(fixture.terms, 600), fixture.address(0), fixture.id)
    twins.send(DepositCall(fixture.id, 1, 400), fixture.address(1), fixture.id)
    close = fixture.cooperative_close(600, 400, FAR)
    assert twins.send(fixture.withdrawal(1, 50, FAR), TOWER, fixture.id) == ""
    assert twins.send(close, TOWER, fixture.id) == "bad-balances"
    assert twins.send(DepositCall(fixture.id, 0, 50), fixture.address(0), fixture.id) == ""
    assert twins.send(close, TOWER, fixture.id) == ""
    assert twins.evm.balance(twins.at) == 0


def test_who_opens_first_with_other_terms_takes_nobodys_coins() -> None:
    world = EvmWorld()
    wanted = world.channel.terms
    assert world.refused(OpenCall(wanted, 5), STRANGER) == "not-a-participant"
    other = msgspec.structs.replace(wanted, challenge_period=1, close_hash=bytes(32))
    world.send(OpenCall(other, 0), world.parties[1])
    world.contract.know(wanted)
    before = world.balance(world.parties[0])
    assert world.refused(OpenCall(wanted, 600), world.parties[0]) == "channel-exists"
    assert world.refused(DepositCall(channel_id(wanted), 0, 600), world.parties[0]) == "unknown-channel"
    assert world.balance(world.parties[0]) == before


# --- calls from within ------------------------------------------------------------------------------------------


def when_tokens_move(world: EvmWorld, data: bytes) -> None:
    """Have the first party call the contract while the token moves anything."""
    assert world.token is not None
    inner = calldata("act", ("address", "bytes", "uint256"), (world.at, data, 0))
    world.token.send(STRANGER, "set_call", ("address", "bytes"), world.parties[0] if data else Address(bytes(20)), inner)


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
    """One receiver refuses its coins, or burns the gas that comes with them; whoever sends chooses how much there is."""
    outcomes = set()
    for gas in range(90_000, 420_000, 6_000):
        world = EvmWorld()
        channels = [world.open() for _ in range(3)]
        world.misbehave(world.parties[1], mode)
        calls = [world.contract.encode(channel.cooperative_close(600, 400, FAR))[0] for channel in channels]
        before = world.balance(world.parties[0])
        try:
            world.evm.send(TOWER, world.at, calldata("batch", ("bytes[]",), (calls,)), gas=gas)
        except EvmReverted:
            pass
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
    """Also if its account is cold (2,500 more; here it is warm) and delegates (EIP-7702: 2,600, unknown to this EVM)."""
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
                world.evm.send(TOWER, world.at, calldata(name, types, (terms_values(channel.terms), side, locked, data)))
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


def test_a_batch_in_crooked_bytes_does_what_its_calls_do_or_nothing() -> None:
    world = EvmWorld()
    channel = world.open()
    call, _ = world.contract.encode(channel.withdrawal(0, 5, FAR))
    word = lambda number: (number % 2**256).to_bytes(32, "big")  # noqa: E731
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


def test_a_cheater_that_convicts_itself_only_spares_its_victim_the_reward() -> None:
    world = EvmWorld()
    channel = world.open()
    world.send(channel.close(), world.parties[0])
    first = world.send(channel.challenge(channel.proof(0, 2, 10, seen=1)), world.parties[0])
    assert isinstance(first[0], Challenged) and first[0].convicts
    world.send(channel.challenge(channel.proof(0, 3, 20, seen=2), tower=TOWER, victim=1))
    world.evm.time += PERIOD + 1
    before = world.balance(world.parties[1]), world.balance(TOWER)
    world.send(SettleCall(channel.id))
    assert (world.balance(world.parties[1]), world.balance(TOWER)) == (before[0] + 1_000, before[1])


def test_a_voucher_for_nobody_is_none() -> None:
    twins = Twins()
    fixture = ChannelFixture(contract=twins.at)
    twins.send(OpenCall(fixture.terms, 600), fixture.address(0), fixture.id)
    twins.send(fixture.close(), fixture.address(0), fixture.id)
    for seq, victim in ((1, 0), (2, 1)):
        call = fixture.challenge(fixture.proof(1, seq, 10), tower=NATIVE, victim=victim)
        assert twins.send(call, TOWER, fixture.id) == ""
    twins.time += PERIOD + 1
    assert twins.send(SettleCall(fixture.id), TOWER, fixture.id) == ""
    assert twins.evm.balance(NATIVE) == 0


def test_a_second_deployment_on_the_same_chain_knows_nothing_of_the_first() -> None:
    world = EvmWorld()
    channel = world.open()
    twin = EvmAdjudicator(world.evm, world.evm.deploy(adjudicator_code(), STRANGER))
    assert twin.at != world.at
    twin.know(channel.terms)
    for call in (channel.withdrawal(0, 5, FAR), channel.cooperative_close(600, 400, FAR)):
        with pytest.raises(EvmReverted, match="unknown-channel"):
            twin.send(call, TOWER)
    copied = ChannelFixture(contract=twin.at)
    twin.send(OpenCall(copied.terms, 600), world.parties[0])
    for call in replayed(channel, copied):
        with pytest.raises(EvmReverted, match="bad-signature|unknown-channel|bad-balances"):
            twin.send(call, world.parties[0])
    assert world.evm.balance(twin.at) == 600 and world.balance(world.at) == 1_000
