"""A rollup's name on the ledger after a reorganisation: the same operator's rollup, or nothing."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from simulation.rollup_house import RollupHouse
from simulation.rollup_twins import Twins
from simulation.rollup_world import ANSWER_TIME, BOND, FEE, OPERATOR, ORDER_TIME, STRANGER, USERS, WINDOW, open_world
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE
from tallystick.sdk.rollup.calls import MODULE, RollupCall, RollupPlace, write_rollup_call
from tallystick.sdk.rollup.chain import RollupChain
from tallystick.settlement.errors import ChainError, Revert, Reverted
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.module_calls import write_call
from tallystick.settlement.modules.rollups import ROLLUPS, Books, vault_of
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.module_calls import ModuleRun

TERMS = (BOND, WINDOW, ORDER_TIME, ANSWER_TIME, FEE)


async def test_after_a_reorganisation_a_deposit_meets_the_same_operator_or_nobody(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        rollup, user = world.rollup, USERS[0]
        before = await rollup.balance(user.address)
        await world.user(0).deposit(1_000)
        await world.user(0).deposit(500)
        depth = world.chain.newest.header.number
        world.chain.reorganise(depth, keep=lambda _: False)
        assert await rollup.balance(user.address) == before
        envelope = Envelope(MODULE.address, 0, write_call(MODULE.name, "createRollup", [rollup.chain_id, *TERMS]).data)
        await rollup._mined(await rollup._send(STRANGER, envelope))
        with pytest.raises(ChainError, match="somebody else has its number"):
            await world.user(0).deposit(1_000)
        for call in (RollupCall("deposit", (user.address,), 1_000), RollupCall("demand", (0, 0), FEE)):
            with pytest.raises(Reverted) as refused:  # what was sent before, and is mined again
                await rollup._trial(
                    "eth_call",
                    {"from": f"0x{user.address.hex()}", **_request(rollup, call)},
                    "latest",
                )
            assert refused.value.code == Revert.UNKNOWN_ENTRY
        rollup.at = RollupPlace(0)
        place = await rollup.rules_of()
        assert place.contract != world.place.contract, "what was signed for the first one counts in no other one"
        assert place.contract == vault_of(0, STRANGER.address, (rollup.chain_id, *TERMS))
        assert await rollup.balance(user.address) == before


async def test_a_rollup_that_is_mined_again_is_the_same(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.user(0).deposit(1_000)
        world.chain.reorganise(world.chain.newest.header.number, keep=lambda _: True)
        world.chain.mine()
        facts = await world.rollup.facts()
        assert (facts.operator, facts.vault, facts.queue_length) == (OPERATOR.address, world.place.contract, 1)


def test_other_terms_make_another_name() -> None:
    numbers = (1337, *TERMS)
    names = {vault_of(0, OPERATOR.address, (*numbers[:at], numbers[at] + 1, *numbers[at + 1 :])) for at in range(6)}
    names |= {vault_of(number, by.address, numbers) for number in (0, 1) for by in (OPERATOR, STRANGER)}
    assert len(names) == 10


def test_a_rollup_from_before_names_had_more_keeps_its_coins() -> None:
    twins = Twins(RollupHouse(2))
    books = Books(ModuleRun(twins.ledger.state, ROLLUPS, NATIVE, twins.ledger.time, [], 1, ADJUDICATOR), 0)
    books.put_address(b"vault", NATIVE)
    assert books.vault == ROLLUPS.account_of(books.prefix)
    assert books.vault != twins.vault


async def test_whoever_names_the_vault_gets_no_other_rollup(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        named = RollupPlace.read(f"0@0x{world.place.contract.hex()}")
        assert named == (0, None, world.place.contract)
        world.rollup.at = named
        assert (await world.rollup.facts()).operator == OPERATOR.address
        world.rollup.at = RollupPlace.read(f"0@0x{STRANGER.address.hex()}")
        with pytest.raises(ChainError, match="somebody else has its number"):
            await world.rollup.facts()
    with pytest.raises(InvalidInput, match="vault"):
        RollupPlace.read("0@1234")
    with pytest.raises(InvalidInput, match="ask the chain"):
        write_rollup_call(RollupPlace(0), RollupCall("bond", (), 1))


def _request(rollup: RollupChain, call: RollupCall) -> dict[str, str]:
    envelope = write_rollup_call(rollup.at, call)
    return {"to": f"0x{envelope.to.hex()}", "value": hex(envelope.value), "data": f"0x{envelope.data.hex()}"}
