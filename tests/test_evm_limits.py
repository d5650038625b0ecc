"""How much gas a payout that may be refused is given: enough for the worst case, where its budget allows for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from simulation.disputes import ChannelFixture
from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode, refuse
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.settlement.chain import Call, ClaimCall, Header, RedeemCall, SettleCall
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.evm.client import open_evm_chain
from tallystick.settlement.ethereum.evm.gas import MEASURED, REFUSING, TARIFF, limit_of, measured
from tallystick.settlement.following.checked import _check_charge
from tallystick.settlement.port import Charge
from tallystick.settlement.sending.obligations import Obligation, ObligationBook, Observation
from tallystick.settlement.sending.policy import SendingPolicy
from tallystick.settlement.sending.pricing import charge_of
from tallystick.settlement.sending.rounds import decide

TOKEN = Address(b"\x70" * 20)
CHANNEL = ChannelId(b"\x02" * 32)
LOCKS = tuple(Lock(number, 1, 1, 0, bytes(32)) for number in range(7))
FAR = 2**40 - 1
MARKET = 10**9


def test_only_what_pays_out_and_has_no_estimate_is_given_more() -> None:
    settle, redeem = SettleCall(CHANNEL), RedeemCall(CHANNEL, 0, LOCKS)
    for call in (settle, redeem):
        coins, tokens = REFUSING[type(call)]
        assert limit_of(call, None) == measured(call)
        assert limit_of(call, None, pays_in=NATIVE) == measured(call) + coins
        assert limit_of(call, None, pays_in=TOKEN) == measured(call) + tokens
        assert limit_of(call, 50_000, pays_in=TOKEN) == measured(call), "a node has seen who refuses what"
    claim = ClaimCall(TOKEN, TOKEN)
    assert limit_of(claim, None, pays_in=TOKEN) == measured(claim), "all of it fails, whatever it is given"


def offered(budget: int, charge: Charge) -> tuple[int, int, bool]:
    """Return the price and the limit of the first transaction, and whether its budget was too short."""
    head = Header(5, bytes(32), bytes(32), 1_000)
    one = Obligation(id="o", call=SettleCall(CHANNEL), purpose="a test", budget=budget)
    seen = Observation(head, head.time, 0, MARKET, {}, charges={"o": charge})
    book = decide(
        ObligationBook({"o": one}, -1), seen, account=TOKEN, gas=TARIFF.gas, policy=SendingPolicy(together=1)
    ).book
    after = book.obligations["o"]
    assert charge_of(after, seen, TARIFF.gas).gas == after.attempts[-1].gas
    return after.attempts[-1].price, after.attempts[-1].gas, bool(after.trouble)


def test_who_cannot_pay_for_the_worst_case_is_given_what_is_enough_as_a_rule() -> None:
    """A budget of a few times what a call takes as a rule must not fall short of it at the market's price."""
    usual = MEASURED[SettleCall]
    worst = Charge(usual + 270_000, 0, True, usual)
    assert offered(worst.gas * MARKET, worst) == (MARKET, worst.gas, False)
    assert offered(worst.gas * MARKET - 1, worst) == (MARKET, usual, False)
    assert offered(usual * MARKET, worst) == (MARKET, usual, False)
    assert offered(3 * usual * MARKET, Charge(usual)) == (MARKET, usual, False)


def cooperative(fixture: ChannelFixture) -> Call:
    return fixture.cooperative_close(5, 6, FAR)


def withdrawal(fixture: ChannelFixture) -> Call:
    return fixture.withdrawal(0, 5, FAR)


@pytest.mark.parametrize("make", [cooperative, withdrawal])
@pytest.mark.parametrize("asset", [NATIVE, TOKEN])
async def test_a_payout_of_which_the_node_says_that_it_fails_is_given_what_a_refusal_takes(
    make: Callable[[ChannelFixture], Call], asset: Address, autojump_clock: trio.testing.MockClock
) -> None:
    node, fixture = FakeNode(FakeChain(6)), ChannelFixture(chain_id=AT.chain_id, contract=AT.contract, asset=asset)
    call = make(fixture)
    asked: Any
    for estimate, asked in ((None, refuse(3, "execution reverted", "0x")), (70_000, lambda *which: hex(70_000))):
        node.answers["eth_estimateGas"] = asked
        transport = FakeInternet(one=node)
        async with open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, transport=transport) as chain:
            chain.learn(fixture.terms)
            charge = await chain.charge(FIXTURE.address(0), call)
        worst = limit_of(call, estimate, pays_in=asset)
        least = measured(call) if estimate is None else 0
        assert charge == Charge(worst, 0, estimate is None, least) and worst >= measured(call)
        assert (worst > measured(call)) == (estimate is None)


def test_a_least_limit_above_the_limit_is_nonsense() -> None:
    _check_charge(Charge(5, 0, False, 5))
    with pytest.raises(ChainError):
        _check_charge(Charge(5, 0, False, 6))
