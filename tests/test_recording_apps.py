"""Stakes in apps in what was recorded: lived through to the same states, and who played what is not in the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_recording_replay import again, spelled

from simulation.line import CONFIRMED
from simulation.line_stakes import StakesLine
from simulation.line_virtual import PERIOD, VirtualLine
from tallystick.channels.errors import InvalidUpdate
from tallystick.channels.protocol.apps import AppTerms, OutcomeProof, instance_id, stake_condition
from tallystick.channels.protocol.core import Channel
from tallystick.channels.session.chaintime import MARGIN
from tallystick.channels.session.inputs import PayLock
from tallystick.channels.session.recording.document import Recording, written
from tallystick.channels.session.recording.outcomes import StandInApp
from tallystick.channels.session.recording.redaction import stand_in

PAID = (200, 0)
ASKED = (("A", "AB"), ("B", "AB"), ("B", "BC"), ("C", "BC"))
"""Each channel from both sides."""


def played(proof_of: Callable[[StakesLine, AppTerms], bytes]) -> tuple[StakesLine, AppTerms, bytes, list[str]]:
    """Let A's and C's stakes go over B, recorded by all, and show an outcome in the channel of A, whose stake it takes.

    Return the world, the terms, the outcome, and what was said of a wrong one.
    """
    world, wrong = StakesLine(), list[str]()
    for name, channel in ASKED:
        world[name].engine.recordings.begin(world.channel(channel))
    terms = world.terms((200, 100))
    for player in (0, 1):
        world.lock(terms, player)
        world.settle()
    proof = proof_of(world, terms)
    try:
        world["A"].engine.apply(world.channel("AB"), PayLock(0, proof))
    except InvalidUpdate as error:
        wrong.append(str(error))
    world.settle()
    return world, terms, proof, wrong


def recordings(world: StakesLine) -> list[tuple[Recording, Channel]]:
    """Return what each recorded, and the state that it came to."""
    found = []
    for name, channel in ASKED:
        at, engine = world.channel(channel), world[name].engine
        found.append((engine.recordings.of(at), engine.views.channel(at)))
    return found


def test_stakes_that_an_outcome_pays_are_lived_through_to_the_same_states_at_every_node() -> None:
    world, terms, _, wrong = played(lambda world, terms: world.outcome(terms, PAID))
    assert not wrong
    for recording, channel in recordings(world):
        lived = again(recording)
        assert lived[-1].state.channel.balances() == channel.balances()
    paid = recordings(world)[0][1]
    assert not [lock for lock in paid.newest.locks if lock.condition == stake_condition(instance_id(terms), 0)]


def test_an_outcome_that_does_not_hold_does_not_hold_in_what_is_lived_through_either() -> None:
    def forged(world: StakesLine, terms: AppTerms) -> bytes:
        proof = bytearray(world.outcome(terms, PAID))
        proof[-1] ^= 1
        return bytes(proof)

    world, _, _, wrong = played(forged)
    assert wrong
    told = [one.refused for one in again(recordings(world)[0][0]) if one.refused]
    assert [text for text in told if "InvalidUpdate" in text]


def test_nobody_learns_from_a_recording_who_played_what() -> None:
    world, terms, proof, _ = played(lambda world, terms: world.outcome(terms, PAID))
    outcome = OutcomeProof.decode(proof)
    secrets = [terms.app, terms.start, instance_id(terms), *outcome.signatures]
    secrets += [stake_condition(instance_id(terms), player) for player in (0, 1)]
    for (name, channel), (recording, _) in zip(ASKED, recordings(world), strict=True):
        data = written(recording)
        away = terms.players[1 if channel == "AB" else 0]
        for secret in [*secrets, away]:
            assert not any(spelling in data for spelling in spelled(secret)), name


@pytest.mark.parametrize("court", [StakesLine, VirtualLine])
def test_a_stake_that_the_court_decided_is_lived_through_too(court: type[StakesLine] | type[VirtualLine]) -> None:
    world: Any = court()
    for name, channel in ASKED:
        world[name].engine.recordings.begin(world.channel(channel))
    terms = world.terms((200, 100))
    for player in (0, 1):
        world.lock(terms, player)
        world.settle()
    assert world.judge(terms, (70, 0), decides=world.time + PERIOD + 1)
    world.pass_time(PERIOD + 1 + CONFIRMED + MARGIN)
    world.settle()
    assert world.pending() == [] and world.wealth("C") == 1_000_070
    for recording, channel in recordings(world):
        assert again(recording)[-1].state.channel.balances() == channel.balances()


@pytest.mark.parametrize("holds", [True, False])
def test_what_stands_for_an_outcome_pays_the_same_and_holds_exactly_if_it_does(holds: bool) -> None:
    world = StakesLine()
    terms = world.terms((200, 100))
    outcome = OutcomeProof.decode(world.outcome(terms, (7, 9)))
    if not holds:
        outcome = OutcomeProof(terms, (7, 9), (outcome.signatures[0], bytes(64)))
    other = StandInApp(terms, stand_in)
    stands = other.outcome(outcome)
    assert stands.holds() is holds and stands.paid == (7, 9) and stands.terms.stakes == terms.stakes
    assert [after for _, after in other.conditions] == [
        stake_condition(instance_id(stands.terms), player) for player in (0, 1)
    ]
    assert StandInApp(world.terms((200, 100), nonce=1), stand_in).terms != other.terms, "each instance is another one"
