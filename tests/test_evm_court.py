"""Our client and the court of applications on real nodes: its calls, its events, and whether it is ours."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from apps_play import APPS, games
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import court_bench
from simulation.court_bench import KEYS, TERMS, played
from simulation.disputes import ChannelFixture
from simulation.evm import Evm
from simulation.evm_court import deploy_court, encode
from simulation.evm_court_histories import pool
from simulation.evm_house import CAROL, EvmHouse
from simulation.evm_twins import DEPLOYER
from simulation.local_evm import on_a_node
from simulation.python_evm import URL, PythonEvm
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.app_court import AppStands, CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.objects import NATIVE, Address, Lock
from tallystick.contracts import RULES, artifact, court_code, creation_code
from tallystick.settlement.chain import (
    DepositCall,
    OpenCall,
    ProofRegistered,
    RedeemCall,
    RegisterProofCall,
    SettleCall,
)
from tallystick.settlement.errors import Revert, WrongChain
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.evm.client import open_evm_chain
from tallystick.settlement.ethereum.evm.court import check_court, court_of, encode_court_call
from tallystick.settlement.ethereum.evm.deploy import deploy
from tallystick.settlement.ethereum.evm.deploy import deploy_court as put_court
from tallystick.settlement.ethereum.evm.doctor import Grade, examine
from tallystick.settlement.ethereum.evm.endpoint import Endpoint
from tallystick.settlement.ethereum.evm.gas import measured
from tallystick.settlement.ethereum.http import make_client
from tallystick.settlement.testing.anvil import start_anvil

SHIPPED_RULES = {app.id: artifact(RULES[app.name, app.version]).code for app in APPS.values()}


@pytest.fixture(params=("pyevm", pytest.param("anvil", marks=[on_a_node, pytest.mark.processes])))
def house(request: pytest.FixtureRequest) -> Iterator[EvmHouse]:
    """A node with our contract on it, and its court."""
    if request.param == "anvil":
        with start_anvil() as anvil:
            yield EvmHouse(anvil, anvil.url, court=True)
        return
    evm = PythonEvm()
    yield EvmHouse(evm, URL, evm.transport, court=True)


def state_of(terms: apps.AppTerms, *cells: int) -> RegisterStateCall:
    number, state = len(cells), played(*cells)
    both = court_bench.signed(0, number, state, terms), court_bench.signed(1, number, state, terms)
    return RegisterStateCall(terms, number, state, both)


def outcome_of(terms: apps.AppTerms, paid: tuple[int, int]) -> RegisterProofCall:
    digest = apps.digest_outcome(terms, apps.AppOutcome(apps.instance_id(terms), paid))
    proof = apps.OutcomeProof(terms, paid, (KEYS[0].sign(digest), KEYS[1].sign(digest)))
    return RegisterProofCall(apps.APP, apps.stake_condition(apps.instance_id(terms), 1), proof.encode())


async def test_a_dispute_is_played_in_court_followed_and_redeemed(house: EvmHouse) -> None:
    fixture = ChannelFixture(chain_id=house.chain_id, contract=house.at.contract)
    async with house.client() as chain:
        assert chain.figures.kinds == (0, 1, 2)
        head = await chain.head()
        terms = msgspec.structs.replace(
            TERMS, chain_id=house.chain_id, contract=house.at.contract, expiry=head.time + 3_600, period=60
        )
        other = msgspec.structs.replace(terms, nonce=77)
        instance = apps.instance_id(terms)
        stakes = [apps.stake_condition(instance, player) for player in (0, 1)]
        locks = (
            Lock(1, 50, terms.expiry, apps.APP, stakes[0]),
            Lock(2, 9, terms.expiry, apps.APP, apps.stake_condition(apps.instance_id(other), 0)),
        )
        move = CourtMoveCall(terms, played(), b"\4", court_bench.signed(0, 1, played(4), terms))
        calls = (
            (0, OpenCall(fixture.terms, 600)),
            (1, DepositCall(fixture.id, 1, 400, NATIVE)),
            (1, fixture.close(fixture.proof(0, 1, 0, locks))),
            (2, state_of(terms)),
            (2, move),
            (2, outcome_of(other, (3, 0))),
        )
        for by, call in calls:
            receipt = await house.make(chain, house.keys[by], call)
            assert receipt.success, receipt.why
        again = await house.make(chain, CAROL, move)
        assert not again.success and again.revert is Revert.NOT_NEWER
        house.node.ask("evm_increaseTime", hex(fixture.terms.challenge_period + 1))
        late = await house.make(chain, CAROL, state_of(terms, 4, 0))
        assert not late.success and late.revert is Revert.WINDOW_OVER
        for call in (SettleCall(fixture.id), RedeemCall(fixture.id, 0, locks)):
            receipt = await house.make(chain, CAROL, call)
            assert receipt.success, receipt.why
        events = [event for block in await chain.blocks(head.number + 1, 100) for event in block.events]
        history = await chain.history(head.number + 1)
    stood = [event for event in events if isinstance(event, AppStands)]
    assert [(each.number, each.state, each.move) for each in stood] == [(0, played(), b""), (1, played(4), b"\4")]
    assert all(each.instance == instance and each.expiry == terms.expiry for each in stood)
    assert [event.kind for event in events if isinstance(event, ProofRegistered)] == [apps.APP]
    (redeemed,) = [event for event in events if type(event).__name__ == "Redeemed"]
    assert (redeemed.paid, redeemed.refunded) == (3, 56), "player 1 did not move; the other outcome pays 3"
    if history is not None:
        assert {type(event) for block in history.blocks for event in block.events} <= {type(event) for event in events}


async def test_without_a_court_no_lock_of_an_app_is_taken_and_no_call_to_it_is_written() -> None:
    evm = PythonEvm()
    house = EvmHouse(evm, URL, evm.transport)
    async with house.client() as chain:
        assert chain.figures.kinds == (0, 2)
        for call in (state_of(TERMS), outcome_of(TERMS, (1, 0))):
            with pytest.raises(InvalidInput, match="no court"):
                await chain.sign(CAROL, call, 0, 10**9)


async def test_a_court_that_is_not_ours_or_not_the_adjudicators_is_refused() -> None:
    """Nothing that such a node says is used."""
    evm = PythonEvm()
    house = EvmHouse(evm, URL, evm.transport, court=True)
    honest = {id: house.create(code) for id, code in SHIPPED_RULES.items()}
    swapped = [*honest.values()]
    swapped[0], swapped[1] = swapped[1], swapped[0]
    courts = {
        "asks another court": house.create(court_code(honest)),
        "other rules for the app": house.create(court_code(dict(zip(honest, swapped, strict=True)))),
        "not this version's court": house.create(artifact().code + bytes(64)),
    }
    fewer = house.create(court_code(dict([*honest.items()][1:])))
    for words, court in (*courts.items(), ("other rules for the app", fewer)):
        asked = house.court if words == "asks another court" else court
        at = Deployment(house.chain_id, house.create(creation_code(court=asked or bytes(20))))
        async with open_evm_chain((URL,), at, jitter=lambda: 0.5, transport=evm.transport, court=court) as chain:
            with pytest.raises(WrongChain, match=words):
                await chain.head()


async def test_an_adjudicator_and_a_court_are_deployed_and_looked_at() -> None:
    evm = PythonEvm()
    house = EvmHouse(evm, URL, evm.transport)
    async with make_client(URL, 10, evm.transport) as http:
        endpoint = Endpoint(http)
        court = await put_court(endpoint, CAROL, 30)
        made = await deploy(endpoint, CAROL, artifact().code, 250, 30, court.contract)
        assert await court_of(endpoint, made.contract) == court.contract
        assert await court_of(endpoint, house.at.contract) is None
        assert await court_of(endpoint, house.token) is None
        assert court.gas > 9_000_000
        with pytest.raises(WrongChain, match="not this version's court"):
            await deploy(endpoint, CAROL, artifact().code, 250, 30, house.token)
        grades = []
        for contract in (made.contract, house.at.contract):
            found = await examine(endpoint, lambda: 1_800_000_000.0, contract, artifact().code)
            grades += [finding.grade for finding in found.findings if finding.what == "court"]
        assert grades == [Grade.GOOD, Grade.LIMITED]
        await check_court(endpoint, court.contract)


@given(data=st.data(), name=st.sampled_from(sorted(APPS)))
@settings(max_examples=40, deadline=None)
def test_both_encoders_write_the_same_calls(data: st.DataObject, name: str) -> None:
    """The product's, and that of the tests, which was written from the interface."""
    game = data.draw(games(name))
    words, small = st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1)
    terms = msgspec.structs.replace(
        TERMS, app=game.app.id, start=data.draw(words), expiry=data.draw(small), nonce=data.draw(small)
    )
    signatures = [data.draw(st.binary(min_size=64, max_size=64)) for _ in range(2)]
    at, court = Deployment(terms.chain_id, terms.contract), Address(b"\x55" * 20)
    for call in (
        RegisterStateCall(terms, data.draw(small), game.start, (signatures[0], signatures[1])),
        CourtMoveCall(terms, game.start, data.draw(st.binary(max_size=512)), signatures[0]),
        RegisterProofCall(apps.APP, data.draw(words), data.draw(st.binary(max_size=400))),
    ):
        written = encode_court_call(call, at, court)
        assert (written.to, written.value, written.data) == (court, 0, encode(call))


def test_a_call_that_the_court_would_refuse_is_not_written() -> None:
    at, court = Deployment(TERMS.chain_id, TERMS.contract), Address(b"\x55" * 20)
    call = state_of(TERMS)
    for wrong in (
        msgspec.structs.replace(call, terms=msgspec.structs.replace(TERMS, contract=Address(b"\1" * 20))),
        msgspec.structs.replace(call, state=bytes(1_025)),
        RegisterProofCall(0, bytes(32), b""),
    ):
        with pytest.raises(InvalidInput):
            encode_court_call(wrong, at, court)


@pytest.mark.parametrize("name", sorted(APPS))
def test_what_calls_of_the_court_are_given_is_more_than_they_take(name: str) -> None:
    """Of every app that ships, along a game."""
    evm = Evm(time=50)
    evm.fund(DEPLOYER)
    court = deploy_court(evm, DEPLOYER).at
    for nonce, game in enumerate(pool(name)[:4]):
        app = game.app
        terms = msgspec.structs.replace(TERMS, app=app.id, stakes=game.stakes, nonce=nonce, expiry=10**6)
        instance, state, number = apps.instance_id(terms), game.start, 0
        both = court_bench.signed(0, 0, state, terms), court_bench.signed(1, 0, state, terms)
        call: RegisterStateCall | CourtMoveCall = RegisterStateCall(terms, 0, state, both)
        while True:
            assert evm.send(DEPLOYER, court, encode(call)).gas < measured(call)
            mover = app.turn(state)
            if mover is None:
                break
            move, number = game.legal(state, instance)[-1], number + 1
            after = app.valid(state, move, mover, instance)
            call = CourtMoveCall(terms, state, move, court_bench.signed(mover, number, after, terms))
            state = after
