"""Kind 1 on chain, and where it is not: stakes pay what both players signed, and only where somebody judges them."""

from __future__ import annotations

import msgspec
import pytest

from simulation.disputes import PERIOD, ChannelFixture, DisputeFixture
from simulation.pair import Pair, Party
from tallystick.channels.apps.table import APPS
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import Policy
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Lock
from tallystick.channels.session.effects import LockRejected
from tallystick.channels.session.inputs import SubmitLock
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import open_world
from tallystick.settlement.chain import RedeemCall, RegisterProofCall, SettleCall
from tallystick.settlement.contract.verdicts.app import AppVerdict
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.evm.profiles import PROFILES
from tallystick.settlement.simulated import chain, registry
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.world import Layer

KEYS = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
GAME = APPS.named("tictactoe")
START = GAME.init((50, 70))
EXPIRY = 5_000
TERMS = apps.AppTerms(
    1337,
    ADJUDICATOR,
    GAME.id,
    keccak(START),
    (KEYS[0].address, KEYS[1].address),
    (50, 70),
    (NATIVE, NATIVE),
    EXPIRY,
    600,
    3,
)
INSTANCE = apps.instance_id(TERMS)
STAKES = apps.stake_condition(INSTANCE, 0), apps.stake_condition(INSTANCE, 1)


def outcome(paid: tuple[int, int], player: int = 0) -> RegisterProofCall:
    digest = apps.digest_outcome(TERMS, apps.AppOutcome(INSTANCE, paid))
    signatures = KEYS[0].sign(digest), KEYS[1].sign(digest)
    return RegisterProofCall(apps.APP, STAKES[player], apps.OutcomeProof(TERMS, paid, signatures).encode())


def refused(state: Layer, call: RegisterProofCall, time: int) -> Revert:
    with pytest.raises(Reverted) as caught:
        registry.register(state, call, time)
    return caught.value.code


def test_an_outcome_decides_once_and_for_ever_up_to_the_expiry_of_the_instance() -> None:
    state = Layer({})
    assert refused(state, outcome((50, 0)), EXPIRY + 1) is Revert.EXPIRED
    registry.register(state, outcome((50, 0)), EXPIRY)
    assert registry.kept(state, (apps.APP, STAKES[0])) == EXPIRY << 192 | 50
    assert refused(state, outcome((0, 0)), EXPIRY) is Revert.WINDOW_OVER


def test_nothing_else_decides() -> None:
    state, good = Layer({}), outcome((50, 0))
    other = msgspec.structs.replace(good, condition=keccak(b"another stake"))
    unsigned = msgspec.structs.replace(good, proof=good.proof[:-1] + bytes([good.proof[-1] ^ 1]))
    assert refused(state, other, 9) is Revert.BAD_PROOF
    assert refused(state, msgspec.structs.replace(good, proof=good.proof[1:]), 9) is Revert.BAD_PROOF
    assert refused(state, unsigned, 9) is Revert.BAD_SIGNATURE
    assert refused(state, outcome((51, 0)), 9) is Revert.BAD_SIGNATURE
    assert state.changes == {}


def settled(lock: Lock) -> DisputeFixture:
    fixture = ChannelFixture()
    made = DisputeFixture(fixture)
    made.open(1_000, 5)
    made.apply(fixture.close(fixture.proof(0, 1, 0, (lock,)), None))
    made.time += PERIOD + 1
    made.apply(SettleCall(fixture.id))
    return made


@pytest.mark.parametrize("paid", [0, 20, 50])
def test_a_stake_pays_at_once_what_the_outcome_says(paid: int) -> None:
    lock = Lock(0, 50, EXPIRY, apps.APP, STAKES[0])
    made = settled(lock)
    made.kept[lock.puzzle] = EXPIRY << 192 | paid
    made.apply(RedeemCall(made.fixture.id, 0, (lock,)))
    assert (made.received(0), made.received(1)) == (1_000 - paid, 5 + paid)


def test_an_instance_whose_terms_expire_after_a_lock_never_counts_for_it() -> None:
    """An instance's terms may have another expiry than a lock on it: a lock that went back stays back."""
    verdict, lock = AppVerdict(), Lock(0, 50, 3_000, apps.APP, STAKES[0])
    for kept in (0, 3_001 << 192 | 50):
        assert verdict.due(lock, 3_000, kept) is None and verdict.due(lock, 3_001, kept) == 0
    in_time = 3_000 << 192 | 50
    assert [verdict.due(lock, time, in_time) for time in (3_000, 3_001, 10**9)] == [50, 50, 50]
    less = msgspec.structs.replace(lock, amount=30)
    assert verdict.due(less, 3_000, in_time) == 30


# --- chains on which no court is known ---------------------------------------------------------------------------


def test_no_ethereum_chain_decides_stakes_of_which_no_court_is_named() -> None:
    assert all(profile.figures.kinds == (0, 2) for profile in PROFILES)


def pair_of(alice: Policy, bob: Policy) -> Pair:
    pair = Pair((10_000, 10_000), policy=alice)
    pair.bob.policy = bob
    pair.crash(pair.bob)
    pair.connect()
    pair.settle()
    return pair


class OneStake:
    """Expects one stake, and no other."""

    def __init__(self, condition: bytes) -> None:
        self._condition = condition

    def objection(self, channel: Channel, lock: Lock, word: bytes | None) -> str | None:
        return None if lock.condition == self._condition else "no stake of an app here"

    def on_dropped(self, lock: Lock) -> None:
        pass


def expects(party: Party, condition: bytes) -> None:
    party.engine.expected.register(apps.APP, OneStake(condition))


def test_what_the_chain_does_not_decide_is_neither_signed_nor_taken_from_a_peer() -> None:
    lacking = Policy(kinds=(0, 2))
    submit = SubmitLock(50, int(Pair((1, 1)).now) + 900, STAKES[0], b"", apps.APP)
    with pytest.raises(InvalidInput, match="kind 1 are not decided on this chain"):
        pair_of(lacking, Policy()).alice.apply(submit)
    for there, pending in ((lacking, 0), (Policy(kinds=(0, 1)), 1)):
        pair = pair_of(Policy(), there)
        expects(pair.bob, STAKES[0])
        pair.alice.apply(submit)
        pair.settle()
        assert len(pair.alice.channel.newest.locks) == pending
        assert len([event for event in pair.alice.events if isinstance(event, LockRejected)]) == 1 - pending


def test_stakes_that_nobody_expects_are_rejected_at_once() -> None:
    pair = pair_of(Policy(), Policy())
    expiry = int(pair.now) + 900
    pair.alice.apply(SubmitLock(50, expiry, STAKES[0], b"", apps.APP))
    pair.settle()
    (rejected,) = [event for event in pair.alice.events if isinstance(event, LockRejected)]
    assert rejected.reason == b"nobody here expects locks of kind 1"
    expects(pair.bob, STAKES[1])
    for condition in STAKES:
        pair.alice.apply(SubmitLock(50, expiry, condition, b"", apps.APP))
    pair.settle()
    rejected = [event for event in pair.alice.events if isinstance(event, LockRejected)][-1]
    assert rejected.reason == b"no stake of an app here"
    assert [lock.condition for lock in pair.alice.channel.newest.locks] == [STAKES[1]]


def test_a_node_asks_its_chain_which_kinds_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(3) as world:
            first = await world.start("alice")
            await world.start("bob")
            assert first.engine.policy.kinds is None
            monkeypatch.setattr(chain, "FIGURES", msgspec.structs.replace(chain.FIGURES, kinds=(0, 2)))
            carol = await world.start("carol")
            channel = await carol.open_channel(world.address("bob"), 10**15)
            expiry = world.chain.newest.header.time + 3_000
            with pytest.raises(InvalidInput, match="kind 1 are not decided"):
                await channel.lock(50, expiry, STAKES[0], kind=apps.APP)

    simulate(main, 3)
