"""ERC-20 in the contract: what arrives is credited exactly or not at all, for ordinary tokens and five odd kinds."""

from __future__ import annotations

import pytest

from simulation.disputes import PERIOD
from simulation.evm import EvmReverted, calldata
from simulation.evm_adjudicator import PERMIT, TERMS
from simulation.evm_tokens import EvmToken
from simulation.evm_world import ELSEWHERE, FAR, STRANGER, TOWER, EvmWorld
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import keccak, with_recovery_id
from tallystick.channels.protocol.objects import NATIVE, Address, Terms
from tallystick.settlement.chain import CooperativelyClosed, DepositCall, Deposited, OpenCall, Owed, SettleCall
from tallystick.settlement.ethereum.abi import terms_values

KINDS = pytest.mark.parametrize("kind", ["ordinary", "silent", "false"])


def token_of(world: EvmWorld) -> EvmToken:
    assert world.token is not None
    return world.token


@KINDS
def test_a_channel_in_tokens_is_opened_closed_and_paid_out(kind: str) -> None:
    world = EvmWorld(token=kind)
    before = [world.balance(party) for party in world.parties]
    world.open()
    assert world.balance(world.at) == 1_000
    world.send(world.channel.withdrawal(1, 50, FAR))
    assert world.send(world.channel.cooperative_close(500, 450, FAR)) == (
        CooperativelyClosed(world.channel.id, 500, 450),
    )
    assert [world.balance(party) for party in world.parties] == [before[0] - 100, before[1] + 100]
    assert world.balance(world.at) == 0


@KINDS
def test_a_deposit_needs_allowance_and_balance(kind: str) -> None:
    world = EvmWorld(token=kind)
    world.open()
    token = token_of(world)
    token.approve(world.parties[0], world.at, 4)
    assert world.refused(DepositCall(world.channel.id, 0, 5, world.asset), world.parties[0]) == "insufficient-allowance"
    poor = Address(b"\x44" * 20)
    token.approve(poor, world.at, 100)
    assert world.refused(DepositCall(world.channel.id, 0, 5, world.asset), poor) == "insufficient-balance"
    assert world.balance(world.at) == 1_000


@KINDS
def test_an_account_that_the_token_blocks_is_owed_what_is_its_own(kind: str) -> None:
    world = EvmWorld(token=kind)
    world.open()
    token = token_of(world)
    token.send(STRANGER, "block_account", ("address", "bool"), world.parties[0], True)
    assert world.refused(DepositCall(world.channel.id, 0, 5, world.asset), world.parties[0]) == "transfer-failed"
    before = world.balance(world.parties[1])
    world.send(world.channel.close(), world.parties[0])
    world.evm.time += PERIOD + 1
    assert Owed(world.parties[0], world.asset, 600) in world.send(SettleCall(world.channel.id))
    assert world.balance(world.parties[1]) == before + 400
    world.contract.claim(world.asset, world.parties[0], ELSEWHERE)
    assert world.balance(ELSEWHERE) == 600


def test_if_the_token_blocks_the_contract_all_is_owed_until_it_does_not() -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    token = token_of(world)
    token.send(STRANGER, "block_account", ("address", "bool"), world.at, True)
    world.send(world.channel.cooperative_close(600, 400, FAR))
    assert [world.owed(party) for party in world.parties] == [600, 400]
    with pytest.raises(EvmReverted, match="transfer-failed"):
        world.contract.claim(world.asset, world.parties[0], world.parties[0])
    token.send(STRANGER, "block_account", ("address", "bool"), world.at, False)
    for party in world.parties:
        world.contract.claim(world.asset, party, party)
    assert world.balance(world.at) == 0


@KINDS
def test_a_token_that_keeps_a_fee_is_refused_and_one_that_begins_to_pays_out_all_the_same(kind: str) -> None:
    world = EvmWorld(token=kind)
    world.open()
    token = token_of(world)
    token.send(STRANGER, "set_fee", ("uint256",), 2)
    assert world.refused(DepositCall(world.channel.id, 0, 5, world.asset), world.parties[0]) == "inexact-transfer"
    fresh = world.fixture()
    assert world.refused(OpenCall(fresh.terms, 5), world.parties[0]) == "inexact-transfer"
    world.send(OpenCall(fresh.terms, 0), world.parties[0])
    before = world.balance(world.parties[0])
    world.send(world.channel.cooperative_close(600, 400, FAR))
    assert world.balance(world.parties[0]) == before + 598
    assert world.balance(world.at) == 0


def test_a_token_that_calls_back_while_it_moves_credits_nothing_twice() -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    token = token_of(world)
    channel = world.channel
    close, _ = world.contract.encode(channel.cooperative_close(600, 400, FAR))
    deposit, _ = world.contract.encode(DepositCall(channel.id, 1, 0, world.asset))
    batch = calldata("batch", ("bytes[]",), ([close, deposit],))
    for data in (close, deposit, batch):
        token.send(STRANGER, "set_call", ("address", "bytes"), world.at, data)
        world.send(DepositCall(channel.id, 0, 5, world.asset), world.parties[0])
        view = world.contract.view(channel.id)
        assert view is not None and view.status == 0
        assert sum(view.deposits) == world.balance(world.at)
    token.send(STRANGER, "set_call", ("address", "bytes"), world.at, close)
    world.send(channel.cooperative_close(600, 400, FAR))
    assert world.balance(world.at) == 0


def permit(token: EvmToken, world: EvmWorld, amount: int, deadline: int = FAR, nonce: int = 0) -> tuple[object, ...]:
    """Return what the first party signs for a deposit."""
    owner = world.parties[0]
    kind = keccak(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
    words = (bytes(12) + owner, bytes(12) + world.at, *(n.to_bytes(32, "big") for n in (amount, nonce, deadline)))
    domain = world.evm.call(token.at, calldata("DOMAIN_SEPARATOR", (), ()))
    digest = keccak(b"\x19\x01" + domain + keccak(kind + b"".join(words)))
    full = with_recovery_id(digest, world.channel.keys[0].sign(digest), owner)
    return deadline, full[64], full[:32], full[32:64]


def by_permit(world: EvmWorld, channel: Terms, amount: int, signed: tuple[object, ...]) -> bytes:
    values = (terms_values(channel), 0, amount, signed)
    return calldata("deposit", (TERMS, "uint8", "uint128", PERMIT), values)


def test_a_deposit_by_permit_takes_one_transaction() -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    token = token_of(world)
    token.approve(world.parties[0], world.at, 0)
    data = by_permit(world, world.channel.terms, 70, permit(token, world, 70))
    events = world.contract.events(world.evm.send(world.parties[0], world.at, data))
    assert events == (Deposited(world.channel.id, 0, 670),)
    assert world.balance(world.at) == 1_070


def test_an_opening_by_permit_takes_one_transaction() -> None:
    world = EvmWorld(token="ordinary")
    token = token_of(world)
    token.approve(world.parties[0], world.at, 0)
    values = (terms_values(world.channel.terms), 70, permit(token, world, 70))
    data = calldata("open", (TERMS, "uint128", PERMIT), values)
    world.evm.send(world.parties[0], world.at, data)
    assert world.balance(world.at) == 70


def test_a_permit_that_somebody_else_handed_in_first_serves_all_the_same() -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    token = token_of(world)
    token.approve(world.parties[0], world.at, 0)
    signed = permit(token, world, 70)
    types = ("address", "address", "uint256", "uint256", "uint8", "bytes32", "bytes32")
    token.send(STRANGER, "permit", types, world.parties[0], world.at, 70, *signed)
    world.evm.send(world.parties[0], world.at, by_permit(world, world.channel.terms, 70, signed))
    assert world.balance(world.at) == 1_070


def test_a_permit_of_somebody_else_or_for_less_gives_nothing() -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    token = token_of(world)
    token.approve(world.parties[0], world.at, 0)
    token.approve(TOWER, world.at, 0)
    signed = permit(token, world, 70)
    for by, amount in ((TOWER, 70), (world.parties[0], 71)):
        with pytest.raises(EvmReverted, match="insufficient-allowance"):
            world.evm.send(by, world.at, by_permit(world, world.channel.terms, amount, signed))
    assert world.balance(world.at) == 1_000


def test_coins_and_tokens_are_not_mixed_up() -> None:
    world = EvmWorld(token="ordinary")
    world.open()
    data, _ = world.contract.encode(DepositCall(world.channel.id, 0, 5, world.asset))
    with pytest.raises(EvmReverted, match="bad-amount"):
        world.evm.send(world.parties[0], world.at, data, 5)
    coins = EvmWorld()
    coins.open()
    data, _ = coins.contract.encode(DepositCall(coins.channel.id, 0, 5))
    for value in (0, 4, 6):
        with pytest.raises(EvmReverted, match="bad-amount"):
            coins.evm.send(coins.parties[0], coins.at, data, value)
    with pytest.raises(EvmReverted):
        coins.evm.send(STRANGER, coins.at, b"", 5)
    assert coins.balance(coins.at) == 1_000


def test_an_asset_must_have_code_and_not_be_the_contract() -> None:
    world = EvmWorld()
    for asset in (Address(b"\x55" * 20), world.at):
        old = world.channel.terms
        terms = Terms(old.chain_id, old.contract, old.participants, asset, 0, old.challenge_period, old.close_hash)
        assert world.refused(OpenCall(terms, 0), world.parties[0]) == "bad-terms"
        assert world.contract.view(channel_id(terms)) is None
    assert world.asset == NATIVE
