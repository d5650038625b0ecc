"""What a node may spend, should hold and leaves unclaimed is counted with what calls take on its own chain."""

from __future__ import annotations

import pytest

from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.options import Config
from tallystick.sdk.testing.world import open_world
from tallystick.settlement.chain import ChallengeCall, CloseCall, OpenCall, RegisterSecretCall, SettleCall
from tallystick.settlement.enforcement.budgets import MARGIN, ORDINARY, DutyPolicy, fee_need
from tallystick.settlement.ethereum.evm.gas import TARIFF
from tallystick.settlement.ethereum.evm.profiles import profile_of
from tallystick.settlement.ethereum.transactions import TARIFF as LEDGER
from tallystick.settlement.sending.obligations import Duty
from tallystick.settlement.simulated.chain import SimulatedChain

PRICE = 1_000
BYTE = 77


def test_a_node_counts_with_the_gas_and_the_bytes_of_its_own_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    base = profile_of(8_453).figures

    async def data_price(self: SimulatedChain) -> int:
        return BYTE

    monkeypatch.setattr(SimulatedChain, "figures", property(lambda self: base))
    monkeypatch.setattr(SimulatedChain, "data_price", data_price)
    config = Config(challenge_period=600, duties=DutyPolicy(stake_percent=0), confirmations=3)

    async def act() -> None:
        async with open_world(5, config=config) as world:
            world.chain.congest(PRICE - 1)
            alice = await world.start("alice")
            await world.start("bob")
            opened = await alice.open_channel(world.address("bob"), 10**9)
            onchain = alice.onchain
            assert onchain.following.market.price == PRICE
            priced = onchain.following.market.tariff
            assert priced.data_price == BYTE
            assert (
                onchain.claim_fee == priced.fee_of(RegisterSecretCall, PRICE) > LEDGER.fee_of(RegisterSecretCall, PRICE)
            )
            need = fee_need(alice.engine.views.channels, PRICE, priced, config.duties)
            steps = (CloseCall, ChallengeCall, SettleCall)
            assert need == sum(MARGIN * priced.fee_of(kind, PRICE) for kind in steps)
            (opening,) = (one for one in onchain.sender.obligations() if isinstance(one.call, OpenCall))
            assert opening.budget >= ORDINARY * TARIFF.fee_of(OpenCall, PRICE)
            await world.crash("bob")
            await opened.force_close()
            sent = onchain.sender.obligations
            assert await world.until(lambda: any(one.duty is Duty.CLOSE for one in sent()), 120)
            found = [one for one in sent() if one.duty is Duty.CLOSE]
            assert found[0].budget == ORDINARY * priced.fee_of(CloseCall, PRICE + 1)

    simulate(act, 5)
