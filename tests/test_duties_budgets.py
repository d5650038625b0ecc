"""What duties may cost follows what is at stake: no wrong price and no small channel makes a node pay a fortune."""

from __future__ import annotations

import msgspec
import pytest
import trio

from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.core import Channel, KnownSecret, Phase, SignedSimplex, new_channel
from tallystick.channels.protocol.eip712 import locks_root
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, BalanceProof, Lock, Puzzle, SignedProof, Terms
from tallystick.channels.protocol.simplex import Simplex
from tallystick.settlement.chain import (
    CLOSED,
    OPEN,
    SETTLED,
    ContractChannel,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
    moved_by,
)
from tallystick.settlement.enforcement.budgets import DutyPolicy, duty_budget
from tallystick.settlement.enforcement.duties import ChannelOnChain, duties, must_close
from tallystick.settlement.ethereum.transactions import GAS, gas_of
from tallystick.settlement.following.checked import ANSWERS, REMEMBERED, Market
from tallystick.settlement.sending.obligations import Obligation

SECRET = b"s" * 32
NOW = 10_000
PRICE = 7
TOKEN = Address(b"t" * 20)
KEYS = sorted((PrivateKey(bytes([n]) * 32) for n in (1, 2)), key=lambda key: key.address)
POLICY = DutyPolicy()


def channel(
    funds: int, *, asset: Address = NATIVE, phase: Phase = Phase.OPEN, ours: int = 0, theirs: int = 0
) -> Channel:
    """Ours is side 0, who has half of the funds; each has locked so much, with a proof that both have signed."""
    terms = Terms(1, Address(bytes(20)), (KEYS[0].address, KEYS[1].address), asset, 0, 600, bytes(32))
    fresh = new_channel(terms, 0, bytes(KEYS[1].public), 0)
    states = []
    for sender, amount in ((0, ours), (1, theirs)):
        locks = (Lock(0, amount, NOW, HASH, digest_of(SECRET)),) if amount else ()
        proof = BalanceProof(fresh.id, sender, 5, 0, amount, locks_root(locks) if locks else ZERO32)
        states.append(SignedSimplex(Simplex(proof, locks, 1), SignedProof(proof, b"a" * 64, b"b" * 64)))
    secrets = (KnownSecret(0, SECRET),) if theirs else ()
    return msgspec.structs.replace(
        fresh, ours=states[0], theirs=states[1], deposits=(funds // 2, funds - funds // 2), phase=phase, secrets=secrets
    )


def derived(
    of: Channel,
    status: int,
    *,
    market: int | None = PRICE,
    lowest: int | None = PRICE,
    pots: tuple[int, int] = (0, 0),
    proofs: dict[Puzzle, tuple[int, bytes]] | None = None,
    now: int = NOW - 10,
    policy: DutyPolicy = POLICY,
) -> dict[str, Obligation]:
    view = ContractChannel(
        terms=of.terms,
        status=status,
        deposits=of.deposits,
        withdrawn=(0, 0),
        closer=1 if status != OPEN else None,
        deadline=NOW if status == CLOSED else None,
        seqs=(5, 0) if status == CLOSED else (5, 5),
        pots=pots,
    )
    at = ChannelOnChain(view, now, proofs or {}, ([], []), {}, market, {}, {}, lowest)
    return {duty.id.partition(":")[0]: duty for duty in duties(of, at, policy, lambda channel: bytes(32))}


def test_closing_a_small_channel_costs_little_more_than_the_market_asks_for() -> None:
    close = derived(channel(10**6, phase=Phase.CLOSING), OPEN)["close"]
    assert gas_of(close.call) * PRICE <= close.budget <= 4 * gas_of(close.call) * PRICE
    assert derived(channel(10**6, phase=Phase.CLOSING), OPEN, market=10**15)["close"].budget == POLICY.budget_floor


def test_defending_much_may_cost_much_but_no_more_than_half_of_it() -> None:
    found = derived(channel(10**15, phase=Phase.CLOSED), CLOSED)
    assert found["challenge"].budget == 10**15 // 2
    assert found["settle"].budget == 10**15 // 4, "half of what is ours"
    assert derived(channel(10**24, phase=Phase.CLOSED), CLOSED)["challenge"].budget == POLICY.budget


def test_a_claim_costs_no_more_than_it_brings() -> None:
    claim = derived(channel(10**9, theirs=500_000), OPEN)["register-secret"]
    assert claim.budget == 500_000
    everything = derived(channel(10**9, theirs=500), OPEN, policy=DutyPolicy(worth_percent=0))["register-secret"]
    assert everything.budget == POLICY.budget


def test_a_price_that_only_now_is_said_to_be_absurd_leaves_no_claim_undone() -> None:
    fee = GAS[RegisterSecretCall] * PRICE
    assert "register-secret" in derived(channel(10**9, theirs=fee), OPEN, market=10**15)
    assert "register-secret" not in derived(channel(10**9, theirs=fee), OPEN, lowest=PRICE + 1)


class Node:
    """A chain node that says what it is told to."""

    says = PRICE

    async def fee_price(self) -> int:
        await trio.lowlevel.checkpoint()
        return self.says

    async def data_price(self) -> int:
        return 0


async def test_the_market_is_what_was_said_several_times() -> None:
    node = Node()
    market = Market(node)  # type: ignore[arg-type]  # all that it uses of a Chain
    assert (market.price, market.lowest) == (None, None)
    for price in [PRICE] * 10 + [10**15] * (ANSWERS // 2):
        node.says = price
        await market.ask()
    assert (market.price, market.lowest) == (PRICE, PRICE)
    node.says = PRICE + 1
    for _ in range(REMEMBERED):
        await market.ask()
    assert (market.price, market.lowest) == (PRICE + 1, PRICE + 1), "fees have risen, and stay so"


REDEEM = gas_of(RedeemCall(channel(1).id, 0, (Lock(0, 1, NOW, HASH, bytes(32)),))) * PRICE


@pytest.mark.parametrize("brought", [REDEEM, REDEEM - 1])
def test_a_pot_is_redeemed_if_what_it_brings_us_is_worth_the_fee(brought: int) -> None:
    late, worth = NOW + 1, brought == REDEEM
    back = derived(channel(10**9, ours=brought, phase=Phase.SETTLED), SETTLED, pots=(brought, 0), now=late)
    assert ("redeem" in back) is worth, "what expired comes back to us"
    paid = {(HASH, digest_of(SECRET)): (NOW, SECRET)}
    theirs = channel(10**9, theirs=brought, phase=Phase.SETTLED)
    assert ("redeem" in derived(theirs, SETTLED, pots=(0, brought), now=late, proofs=paid)) is worth
    assert "redeem" not in derived(theirs, SETTLED, pots=(0, brought), now=late), "it goes back to the peer, not to us"
    if worth:
        assert back["redeem"].budget == brought


def test_in_tokens_a_claim_costs_a_fixed_sum_at_most() -> None:
    """What a token is worth in the coin is not known here; else a peer with enough of one makes us pay any fee."""
    dear = POLICY.token_budget // GAS[RegisterSecretCall] + 1
    of = channel(10**9, asset=TOKEN, theirs=1)
    assert derived(of, OPEN)["register-secret"].budget == POLICY.token_budget
    assert "register-secret" not in derived(of, OPEN, lowest=dear)
    assert derived(channel(10**24, asset=TOKEN, phase=Phase.CLOSED), CLOSED)["challenge"].budget == POLICY.token_budget


def test_a_channel_of_tokens_is_not_closed_over_what_is_owed_if_gas_is_dear() -> None:
    of = channel(10**9, asset=TOKEN, theirs=10**6)
    view = ContractChannel(terms=of.terms, status=OPEN, deposits=of.deposits, withdrawn=(0, 0))
    late = NOW + POLICY.unlock_patience + 1
    owed = {(HASH, digest_of(SECRET)): (NOW, SECRET)}
    for price, closes in ((PRICE, True), (POLICY.token_budget // 100_000, False)):
        assert must_close(of, ChannelOnChain(view, late, owed, ([], []), {}, price, {}, {}, price), POLICY) is closes


def test_the_users_own_transactions_cost_in_proportion_too() -> None:
    of = channel(1).terms
    for call, at_least in ((OpenCall(of, 10**6), 10**6), (DepositCall(channel(1).id, 0, 10**6), 10**6 // 2)):
        asset, moved = moved_by(call)
        assert (asset, moved) == (NATIVE, 10**6)
        budget = duty_budget(asset, moved, gas_of(call) * (PRICE + 1), POLICY)
        assert at_least <= budget <= 4 * gas_of(call) * PRICE
    assert moved_by(SettleCall(channel(1).id)) == (NATIVE, 0)
