"""The court's rules in Python and its contract say the same to every call, and so does an adjudicator that asks it."""

from __future__ import annotations

import pytest
from apps_play import APPS, INSTANCE
from court_evm import CourtWorld, runtime

from simulation.court_bench import KEYS, STAKES, TERMS, agreed, move, outcome, played
from simulation.disputes import PERIOD
from simulation.evm import EvmReverted, calldata
from simulation.evm_court import deploy_court, encode, kept, terms_words
from simulation.evm_court_histories import campaign, pool
from simulation.evm_twins import DEPLOYER, STRANGER
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.app_court import COURT_MOST, RegisterStateCall
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, Lock
from tallystick.contracts import artifact, court_code, creation_code
from tallystick.settlement.chain import RedeemCall


@pytest.mark.parametrize("seed", range(30, 33))
def test_random_histories_come_out_the_same(seed: int) -> None:
    twins = campaign(seed, 1_500)
    said = {(call, verdict) for call, verdict in twins.verdicts}
    assert said >= {
        *(("RegisterStateCall", verdict) for verdict in ("", "not-newer", "window-over", "expired", "bad-signature")),
        *(("CourtMoveCall", verdict) for verdict in ("", "not-allowed", "unknown-entry", "window-over", "not-newer")),
        *(("RegisterProofCall", verdict) for verdict in ("", "bad-proof", "bad-signature")),
        *(("RedeemCall", verdict) for verdict in ("", "nothing-to-redeem")),
    }


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_stake_is_open_up_to_the_end_of_its_clock_and_then_decided_for_ever(late: int) -> None:
    """Also past the expiry of the lock."""
    world = CourtWorld(expiry=2_000)
    lock = Lock(1, 50, world.terms.expiry, 1, world.stakes[0])
    fixture = world.settled(lock)
    assert world.send(world.agreed(4, at=world.terms.expiry)) == ""
    until = world.terms.expiry + world.terms.period
    world.twins.time = until + late
    redeemed = "nothing-to-redeem" if late <= 0 else ""
    before = world.twins.evm.balance(fixture.address(1))
    assert world.send(RedeemCall(fixture.id, 0, (lock,))) == redeemed
    assert world.send(world.move(4, 0)) == ("window-over" if late > 0 else "")
    world.twins.time += 2 * world.terms.period
    assert world.send(RedeemCall(fixture.id, 0, (lock,))) == ("wrong-status" if late > 0 else "")
    paid = 0 if late > 0 else 50  # player 1 had the move at first, and after it player 0
    assert world.twins.evm.balance(fixture.address(1)) == before + paid


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_the_court_decides_a_lock_that_expires_no_earlier_than_the_terms(late: int) -> None:
    world = CourtWorld(expiry=3_000)
    lock = Lock(1, 50, world.terms.expiry + late, 1, world.stakes[0])
    fixture = world.settled(lock)
    assert world.send(world.agreed(4, 0, at=world.terms.expiry)) == ""
    before = world.twins.evm.balance(fixture.address(1))
    world.twins.time += world.terms.period + 1
    assert world.send(RedeemCall(fixture.id, 0, (lock,))) == ""
    assert world.twins.evm.balance(fixture.address(1)) == before + (50 if late >= 0 else 0)


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_an_instance_is_taken_up_until_its_terms_expire(late: int) -> None:
    world = CourtWorld(expiry=3_000)
    assert world.send(world.agreed(4, at=world.terms.expiry + late)) == ("expired" if late > 0 else "")
    other = CourtWorld(expiry=3_000)
    other.twins.time = other.terms.expiry + late
    assert other.send(other.outcome((1, 0))) == ("expired" if late > 0 else "")


def test_no_dispute_lasts_for_longer_than_thirty_days_after_the_expiry() -> None:
    """However many states the players go on to sign."""
    world = CourtWorld(expiry=2_000, period=604_800)
    last = world.terms.expiry + COURT_MOST
    untils = []
    for number in range(9):
        if world.twins.time < last:
            assert world.send(world.signed(world.terms, number, played(4))) == ""
            untils.append(kept(world.twins.evm, world.court.at, world.stakes[0]) >> 128 & 2**64 - 1)
            world.twins.time = untils[-1]
    assert untils[-1] == last and sorted(set(untils)) == untils
    assert world.send(world.signed(world.terms, 9, played(4))) == ""
    world.twins.time = last + 1
    assert world.send(world.signed(world.terms, 10, played(4))) == "window-over"


def test_the_court_decides_what_a_stake_pays_in_whatever_channel_and_amount_it_is_locked() -> None:
    world = CourtWorld(expiry=5_000)
    locks = tuple(Lock(id, amount, world.terms.expiry, 1, world.stakes[0]) for id, amount in enumerate((50, 20, 90)))
    fixture = world.settled(*locks)
    assert world.send(world.outcome((30, 0))) == ""
    before = world.twins.evm.balance(fixture.address(1))
    world.twins.time += 1
    assert world.send(RedeemCall(fixture.id, 0, locks)) == ""
    assert world.twins.evm.balance(fixture.address(1)) == before + 30 + 20 + 30


def test_terms_that_no_node_could_agree_on_are_refused() -> None:
    world = CourtWorld(expiry=5_000)
    call = world.agreed(4)
    good = list(terms_words(call.terms))
    for place, value in ((4, good[3]), (10, 59), (10, 604_801)):
        wrong = [*good[:place], value, *good[place + 1 :]]
        if place == 10:  # expiry, period, nonce are the last three
            wrong = [*good[:10], value, good[11]]
        assert world.refused("registerState", wrong, call) == "bad-terms"
    nothing = [*good[:5], 0, 0, *good[7:]]
    assert world.refused("registerState", nothing, call) == "bad-terms"
    assert world.refused("registerState", good, call) == ""


def test_the_table_of_rules_is_written_once() -> None:
    world = CourtWorld(expiry=5_000)
    evm, place = world.twins.evm, world.court
    for app, at in place.rules.items():
        assert evm.call(place.at, calldata("rules", ("bytes32",), (app,)))[12:] == at
    known = {entry["name"]: entry["stateMutability"] for entry in artifact("Court").abi if entry["type"] == "function"}
    writes = {name for name, mutability in known.items() if mutability not in ("view", "pure")}
    assert writes == {"registerState", "moveInCourt", "registerProof"}
    somewhere = next(iter(place.rules.values()))
    for app in place.rules:  # an app twice, and rules that are not there
        with pytest.raises(RuntimeError, match=r"bad-terms|Revert"):
            evm.deploy(court_code({app: Address(b"\x31" * 20)}), DEPLOYER)
    twice = artifact("Court").code + _two_lists([b"\1" * 32] * 2, [somewhere] * 2)
    uneven = artifact("Court").code + _two_lists([b"\1" * 32] * 2, [somewhere])
    for code in (twice, uneven):
        with pytest.raises(RuntimeError):
            evm.deploy(code, DEPLOYER)
    evm.deploy(artifact("Court").code + _two_lists([b"\1" * 32, b"\2" * 32], [somewhere] * 2), DEPLOYER)


def test_an_adjudicator_needs_a_court_that_is_there_or_none() -> None:
    world = CourtWorld(expiry=5_000)
    with pytest.raises(RuntimeError):
        world.twins.evm.deploy(creation_code(court=STRANGER), DEPLOYER)
    assert world.twins.evm.call(world.twins.at, calldata("court", (), ()))[12:] == world.court.at


def _two_lists(ids: list[bytes], places: list[Address]) -> bytes:
    from eth_abi.abi import encode as encode_abi

    return encode_abi(["bytes32[]", "address[]"], [ids, ["0x" + place.hex() for place in places]])


def _silent_to(question: str) -> str:
    """Return code that reverts if it is asked this, and else answers by zeros."""
    return f"5f3560e01c63{keccak(question.encode())[:4].hex()}1460125760405ff35b5f5ffd"


SENSELESS = {
    "reverts": "60006000fd",
    "invalid": "fe",
    "loops": "5b600056",
    "says nothing": "00",
    "names a player 3": "600360005260206000f3",
    "says much": "6001600052620f4240" + "6000f3",
    "pays more than was staked": "600160005260ff60205260406000f3",
    "does not say whose turn it is": _silent_to("turn(bytes)"),
    "does not say what is due": _silent_to("due(bytes)"),
    "does not say what silence costs": _silent_to("forfeit(bytes,uint128[2])"),
}
"""Code of rules that make no sense, whatever they are asked."""


@pytest.mark.parametrize("name", SENSELESS)
def test_rules_that_revert_run_out_of_gas_or_make_no_sense_are_refused_and_nobody_is_stuck(name: str) -> None:
    world = CourtWorld(expiry=5_000)
    evm = world.twins.evm
    rules = evm.deploy(runtime(bytes.fromhex(SENSELESS[name])), DEPLOYER)
    app = keccak(b"an app of somebody's")
    court = deploy_court(evm, DEPLOYER, {app: rules}).at
    adjudicator = evm.deploy(creation_code(court=court), DEPLOYER)
    terms = world.replaced(app=app, contract=adjudicator)
    call = world.signed(terms, 1, b"any state")
    with pytest.raises(EvmReverted) as refused:
        evm.send(STRANGER, court, encode(call), gas=12_000_000)
    assert refused.value.reason == "bad-proof" and refused.value.gas < 2_300_000
    assert kept(evm, court, apps.stake_condition(apps.instance_id(terms), 0)) == 0
    # by agreement it ends all the same, and another app is played as ever
    evm.send(STRANGER, court, encode(world.outcome((1, 2), terms)))
    assert kept(evm, court, apps.stake_condition(apps.instance_id(terms), 0)) & 2**128 - 1 == 1
    evm.send(STRANGER, court, encode(world.agreed(4)))


def test_too_little_gas_never_makes_a_lock_go_back() -> None:
    """Whoever sends the redeem chooses its gas: a question to the court that failed is no answer."""
    world = CourtWorld(expiry=5_000)
    lock = Lock(1, 50, world.terms.expiry, 1, world.stakes[0])
    fixture = world.settled(lock)
    assert world.send(world.outcome((50, 0))) == ""
    world.twins.time = world.terms.expiry + PERIOD
    data, _ = world.twins.contract.encode(RedeemCall(fixture.id, 0, (lock,)))
    receiver = fixture.address(1)
    before, done = world.twins.evm.balance(receiver), 0
    for gas in range(30_000, 90_000, 250):
        evm = world.copied()
        try:
            evm.send(STRANGER, world.twins.at, data, gas=gas)
        except EvmReverted:
            continue
        done += 1
        assert evm.balance(receiver) == before + 50
    assert done


def test_the_bench_of_the_rules_and_the_contract_know_the_same_words() -> None:
    """What tests of the rules alone bring to court, the contract takes, too."""
    world = CourtWorld(expiry=TERMS.expiry, contract=TERMS.contract, nonce=TERMS.nonce)
    assert (world.instance, world.stakes) == (apps.instance_id(TERMS), STAKES)
    for call in (agreed(), move(4), agreed(4, 0), move(4, 0, 8), move(4, 0, 8, 1)):
        assert world.send(call) == ""
    assert world.send(agreed(4)) == "not-newer"
    assert world.send(outcome((50, 0), 1)) == ""
    assert world.send(agreed(4, 0, 8, 1, 2)) == "window-over"
    assert isinstance(agreed(), RegisterStateCall)
    assert KEYS[0].address == world.terms.players[0]


@pytest.mark.parametrize("name", APPS)
def test_rules_that_ship_take_less_than_a_tenth_of_the_gas_that_they_may(name: str) -> None:
    """In every state of every game of a pool, whatever they are asked."""
    world = CourtWorld(expiry=5_000)
    evm, at = world.twins.evm, world.court.rules[APPS[name].id]
    app, most = APPS[name], 0
    for game in pool(name):
        state: bytes | None = game.start
        while state is not None:
            mover = app.turn(state)
            last = "outcome" if mover is None else "forfeit"
            asked = [
                calldata("turn", ("bytes",), (state,)),
                calldata("due", ("bytes",), (state,)),
                calldata(last, ("bytes", "uint128[2]"), (state, game.stakes)),
            ]
            moves = game.legal(state) if mover is not None else []
            types = ("bytes", "bytes", "uint8", "bytes32")
            asked += [calldata("valid", types, (state, move, mover, INSTANCE)) for move in moves]
            most = max(most, *(evm.send(STRANGER, at, data).gas for data in asked))
            state = app.valid(state, moves[-1], mover, INSTANCE) if mover is not None else None
    assert 10 * most < 2_000_000
