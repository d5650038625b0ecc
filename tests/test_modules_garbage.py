"""Whatever calldata says, a module does it or refuses it: nothing else ever leaves its rules, and no coin is made."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.module_ledger import ALICE, ASSETS, BOB, EVER, GOLD, PEOPLE, SILVER, ModuleLedger, calldata
from simulation.stake_ledger import ADDRESSES, StakeLedger
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.sdk.cli.ledger import _read_values
from tallystick.sdk.ledger import LedgerAccount
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.module_calls import INNER, write_call
from tallystick.settlement.modules.interface import read_form
from tallystick.settlement.modules.rollups import vault_of
from tallystick.settlement.modules.table import MODULES
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.world import Layer
from tallystick.settlement.testing.local import LocalChain

FUNCTIONS = [(module.name, function) for module in MODULES.values() for function in module.functions.values()]
NUMBERS = {bits: st.sampled_from([0, 1, 2, 1_000, 2**bits - 1]) | st.integers(0, 2**bits - 1) for bits in (64, 128)}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "address": st.sampled_from([*ASSETS, *PEOPLE, MODULES["exchange"].address, *ADDRESSES[:2]])
    | st.binary(min_size=20, max_size=20),
    "bool": st.booleans(),
    "bytes32": st.binary(min_size=32, max_size=32),
    "bytes": st.binary(max_size=200),
    "uint256[]": st.lists(st.integers(0, 2**256 - 1), max_size=8) | st.just([0] * 40) | st.just([0] * 131),
    "uint64[]": st.lists(st.integers(0, 2), max_size=9) | st.lists(NUMBERS[64], max_size=2),
    "uint64": NUMBERS[64],
    "uint128": NUMBERS[128],
    "address[]": st.lists(st.sampled_from([module.address for module in MODULES.values()]), max_size=2),
    "bytes[]": st.lists(
        st.binary(max_size=40) | st.just(calldata("exchange", "swap", GOLD, SILVER, 0, 5, 0, EVER)), max_size=2
    ),
}
VAULT = vault_of(0, ALICE, (1337, 5, 100, 50, 50, 3))
BEGINNING: tuple[tuple[Address, str, str, tuple[Any, ...]], ...] = (
    (ALICE, "exchange", "createPool", (GOLD, SILVER, 3_000)),
    (ALICE, "exchange", "addLiquidity", (GOLD, SILVER, 0, 10**9, 10**9, 0, EVER)),
    (ALICE, "lending", "createMarket", (GOLD, SILVER, 0, 800_000)),
    (ALICE, "lending", "supply", (0, 10**9)),
    (BOB, "lending", "addCollateral", (0, 10**6)),
    (ALICE, "staking", "createPool", (GOLD, SILVER)),
    (ALICE, "staking", "fund", (0, 10**6, 1_000)),
    (BOB, "staking", "stake", (0, 10**3)),
    (ALICE, "treasury", "createTreasury", (GOLD, 400_000, 1_000)),
    (BOB, "treasury", "lock", (0, 10)),
    (ALICE, "rollups", "createRollup", (1337, 5, 100, 50, 50, 3)),
    (ALICE, "rollups", "bond", (0, VAULT, 5)),
    (BOB, "rollups", "deposit", (0, VAULT, BOB, 1_000)),
)


def populated() -> ModuleLedger:
    ledger = StakeLedger()
    ledger.call(BOB, "validators", "delegate", ADDRESSES[1], 500)
    ledger.call(BOB, "validators", "undelegate", 2, 100)
    ledger.block(offences=[ledger.offence(1, 1)], fees=1_000)
    for by, name, function, values in BEGINNING:
        ledger.call(by, name, function, *values)
        ledger.time += 400
    return ledger


START = populated()


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_any_arguments_are_done_or_refused(data: st.DataObject) -> None:
    ledger = ModuleLedger()
    ledger.state, ledger.time = Layer({}), START.time
    ledger.state.changes.update(START.state.changes)
    for _ in range(data.draw(st.integers(1, 3))):
        name, function = data.draw(st.sampled_from(FUNCTIONS))
        values = [data.draw(VALUES[kind]) for kind in function.form.types]
        try:
            if function.is_view:
                ledger.read(name, function.form.name, *values)
            else:
                ledger.call(data.draw(st.sampled_from(PEOPLE)), name, function.form.name, *values)
        except Reverted as error:
            assert str(error)
        ledger.time += data.draw(st.integers(0, 2_000))


@pytest.mark.parametrize("text", ["swap", "swap(uint8 x)", "swap(uint128)", "swap(uint128 x,uint128 y)"])
def test_a_form_that_is_none_is_not_declared(text: str) -> None:
    with pytest.raises(ValueError, match=r"no function|argument"):
        read_form(text)


SAMPLES = {
    "address": "me",
    "address[]": "native,me",
    "bool": "yes",
    "bytes": "0x00ff",
    "bytes[]": "",
    "bytes32": "tea",
    "uint64": "+5",
    "uint64[]": "",
    "uint128": "7",
    "uint256": "7",
    "uint256[]": "1,2",
}


@pytest.mark.parametrize("name", [f"{name} {function.form.name}" for name, function in FUNCTIONS])
def test_every_function_can_be_written_from_words(name: str) -> None:
    module, function = name.split()
    found = MODULES[module].functions[function]
    arguments = found.form.arguments[:-2] if found.form.types[-2:] == INNER else found.form.arguments
    account = LedgerAccount(LocalChain(), PrivateKey(keccak(b"me")))
    values = _read_values(found, [SAMPLES[argument.type] for argument in arguments], account, 1, False)
    assert write_call(module, function, values).data[:4] == found.selector


def test_a_module_pays_no_account_of_which_nobody_could_take_it_out_again() -> None:
    ledger = populated()
    ledger.call(ALICE, "treasury", "fund", 0, SILVER, 20)
    lost = (ADJUDICATOR, MODULES["exchange"].address)
    for to in lost:
        ledger.call(BOB, "treasury", "propose", 0, SILVER, 10, to, bytes(32))
    for number in range(len(lost)):
        ledger.call(BOB, "treasury", "vote", 0, number, True)
    ledger.time += 1_001
    for number, to in enumerate(lost):
        assert ledger.refused(BOB, "treasury", "execute", 0, number) == Revert.TRANSFER_FAILED
        assert ledger.balance(to, SILVER) == 0


async def test_a_number_for_which_an_event_has_no_room_is_refused_and_blocks_go_on() -> None:
    key = PrivateKey(keccak(b"alice"))
    chain = LocalChain(funds={key.address: 10**18})
    made = write_call("rollups", "createRollup", [chain.chain_id, 5, 100, 2**64 - 1, 50, 3])
    assert (await chain.call(key, made)).success
    vault = vault_of(0, key.address, (chain.chain_id, 5, 100, 2**64 - 1, 50, 3))
    receipt = await chain.call(key, write_call("rollups", "deposit", [0, vault, key.address, 1_000], value=1_000))
    assert not receipt.success and receipt.revert == Revert.BAD_AMOUNT
