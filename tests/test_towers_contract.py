"""What only the registry of towers as a contract can do wrong: calls from within, refused payouts, gas, signatures."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from test_towers_twins import BOND, Story

from simulation.evm import EvmReverted, calldata
from simulation.evm_adjudicator import SIGNATURE, TERMS
from simulation.evm_gas import LIMITS
from simulation.evm_tokens import code_of
from simulation.evm_twins import DEPLOYER, STRANGER
from simulation.evm_world import CALLS_BACK, REFUSES
from simulation.tower_twins import COVER, HONEST, TowerTwins
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.objects import Address
from tallystick.contracts import artifact
from tallystick.settlement.ethereum.abi import terms_values
from tallystick.settlement.modules.towers import TOWERS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "contracts.md"
BOUNDS = {
    "bond": 48_000,
    "announce": 47_000,
    "reserve": 98_000,
    "accuse": 85_000,
    "release": 45_000,
    "withdraw": 40_000,
}
"""Gas of each call, at most."""


def attached(twins: TowerTwins, account: Address, mode: int, data: bytes = b"") -> None:
    """Put code at an account that does so when coins come: refuse them, or make a call of the registry."""
    twins.evm.attach(account, twins.evm.deploy(code_of("receiver"), DEPLOYER))
    twins.evm.send(STRANGER, account, calldata("set_mode", ("uint256",), (mode,)))
    twins.evm.send(STRANGER, account, calldata("set_call", ("address", "bytes"), (twins.registry, data)))


def counted(twins: TowerTwins, account: Address, name: str) -> int:
    return int.from_bytes(twins.evm.call(account, calldata(name, (), ())), "big")


def test_a_client_that_is_paid_and_calls_back_is_not_paid_again() -> None:
    story = Story()
    twins, client = story.twins, story.channel.address(0)
    second = twins.cover(story.channel, amount=90)
    assert twins.reserve(story.channel, second) == ""
    story.cheat()
    data = [twins.accusation(story.channel, each, story.since, 7, 7)[1] for each in (story.cover, second)]
    attached(twins, client, CALLS_BACK, data[1])
    before = twins.evm.balance(client)
    twins.evm.send(STRANGER, twins.registry, data[0])
    assert (counted(twins, client, "calls"), counted(twins, client, "succeeded")) == (1, 0)
    assert twins.evm.balance(client) == before + 100 and twins.evm.balance(twins.registry) == BOND - 100
    twins.evm.send(STRANGER, twins.registry, data[1])
    assert twins.evm.balance(client) == before + 190


def test_a_tower_that_withdraws_and_calls_back_gets_no_more() -> None:
    story = Story()
    twins, tower = story.twins, HONEST.address
    data = calldata("withdraw", ("uint128",), (60,))
    attached(twins, tower, CALLS_BACK, data)
    before = twins.evm.balance(tower)
    twins.evm.send(STRANGER, tower, calldata("act", ("address", "bytes", "uint256"), (twins.registry, data, 0)))
    assert (counted(twins, tower, "calls"), counted(twins, tower, "succeeded")) == (1, 0)
    assert twins.evm.balance(tower) == before + 60 and twins.evm.balance(twins.registry) == BOND - 60


def test_a_client_that_refuses_its_coins_hurts_nobody_else_and_can_be_paid_later() -> None:
    story = Story()
    twins, client = story.twins, story.channel.address(0)
    story.cheat()
    data = twins.accusation(story.channel, story.cover, story.since, 7, 7)[1]
    attached(twins, client, REFUSES)
    try:
        twins.evm.send(STRANGER, twins.registry, data)
    except EvmReverted as error:
        assert error.reason == "transfer-failed"
    else:
        raise AssertionError("it was paid, though it refuses")
    twins.evm.send(STRANGER, client, calldata("set_mode", ("uint256",), (0,)))
    twins.evm.send(STRANGER, twins.registry, data)
    assert twins.evm.balance(twins.registry) == BOND - 100


def test_what_is_signed_for_one_registry_counts_in_no_other() -> None:
    story = Story()
    story.cheat()
    twins = story.twins
    crossed = twins.accusation(story.channel, story.cover, story.since, 7, 7, places=(twins.registry, TOWERS.address))
    assert twins.show(STRANGER, crossed, story.cover) == "bad-signature"
    assert story.accuse() == ""


def test_nobody_signs_a_cover_for_the_zero_address() -> None:
    """The precompile answers a broken signature by nothing, which reads as that address."""
    story = Story()
    twins = story.twins
    cover = msgspec.structs.replace(twins.cover(story.channel), tower=Address(bytes(20)))
    for nothing in ((bytes(32), 0), (bytes(32), 1), (b"\xff" * 32, 5)):
        values = (terms_values(story.channel.terms), msgspec.structs.astuple(cover)[1:], nothing)
        with pytest.raises(EvmReverted, match="bad-signature"):
            twins.evm.send(STRANGER, twins.registry, calldata("reserve", (TERMS, COVER, SIGNATURE), values))


def test_the_contract_knows_where_it_is_and_what_it_asks() -> None:
    twins = TowerTwins()
    assert twins.evm.call(twins.registry, calldata("domainSeparator", (), ())) == domain_separator(1337, twins.registry)
    assert twins.evm.call(twins.registry, calldata("adjudicator", (), ())) == bytes(12) + twins.at
    names = {entry["name"] for entry in artifact("Towers").abi if entry["type"] == "function"}
    assert names >= set(TOWERS.functions)


def measure() -> dict[str, int]:
    """Return the gas of each call of the registry, cold: of a tower's first bond, and with coins that are paid out."""
    twins = TowerTwins()
    twins.meters = True
    twins.do(HONEST.address, "bond", 10**18, value=10**18)
    twins.do(HONEST.address, "announce", 600, 86_400, 172_800, 5)
    channel = twins.channel_fixture()
    covers = [twins.cover(channel, amount=amount, price=7) for amount in (10**17, 10**16)]
    for cover in covers:
        assert twins.reserve(channel, cover) == ""
    proofs = channel.proof(0, 1_000, 100, seen=999), channel.proof(1, 1_001, 200, seen=1_000)
    assert twins.send(channel.close(*proofs), channel.address(1)) == ""
    twins.time += 601
    assert twins.accuse(channel, covers[0], twins.time - 601, 2_000, 2_000) == ""
    twins.time += 10**7
    assert twins.release(covers[1]) == "" and twins.do(HONEST.address, "withdraw", 10**17) == ""
    entries = [entry for entry in artifact("Towers").abi if entry["type"] == "function"]
    found = {_selector(entry): entry["name"] for entry in entries}
    return {"deploy": twins.deployed_gas, **{found[selector]: gas for selector, gas in twins.gas.items()}}


def _selector(entry: dict[str, object]) -> str:
    from simulation.evm import selector

    return selector(f"{entry['name']}({','.join(_types(entry['inputs']))})").hex()


def _types(inputs: object) -> list[str]:
    assert isinstance(inputs, list)
    return [f"({','.join(_types(each['components']))})" if "components" in each else each["type"] for each in inputs]


def test_what_each_call_costs_is_within_bounds_and_as_the_page_says() -> None:
    gas = measure()
    assert gas.keys() == {"deploy", *BOUNDS}
    assert {name: gas[name] for name, bound in BOUNDS.items() if not 0 < gas[name] <= bound} == {}
    told = PAGE.read_text("utf-8")
    assert [name for name in gas if f"{gas[name]:,}" not in told] == []
    assert re.search(r"settle / with a reward", told) and LIMITS["settle"] == 54_000, "settles cost what they did"
