"""A validator that has helpers agrees with one that has none, whatever is proposed and whatever either has seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest
from msgspec.structs import replace

from simulation.disputes import ChannelFixture
from simulation.replicas import GENESIS, KEYS, application, transfer
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.chain import Call, OpenCall
from tallystick.settlement.errors import Refusal, TransactionRefused
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.execution import prepared
from tallystick.settlement.execution.ahead import Ahead
from tallystick.settlement.execution.prepared import ALONE, Bundles, Crew, Preparation
from tallystick.settlement.execution.processes import ProcessCrew, open_processes
from tallystick.settlement.replicated.decision import MintOrder, ProposedBlock, encode_order
from tallystick.settlement.simulated.ledger import Mint

FIXTURE = ChannelFixture()
OF_CHANNEL = replace(
    GENESIS,
    contract=FIXTURE.terms.contract,
    gas_limit=30_000_000,
    mints=tuple(Mint(key.address, NATIVE, 10**9) for key in (*KEYS, *FIXTURE.keys)),
)
CALLS: tuple[Call, ...] = (
    OpenCall(FIXTURE.terms, 1_000),
    FIXTURE.withdrawal(0, 200, 2**40),
    FIXTURE.close(FIXTURE.proof(0, 1, 5), FIXTURE.proof(1, 1, 7)),
    FIXTURE.challenge(FIXTURE.proof(1, 2, 30), tower=KEYS[0].address, victim=1),
)


def of_fixture(side: int, call: Call, nonce: int) -> bytes:
    return sign_call(FIXTURE.keys[side], 1337, FIXTURE.terms.contract, call, nonce, 2)


class Counted:
    """A crew of nobody, which counts what it is given."""

    def __init__(self) -> None:
        self.given = 0

    def share(self, preparation: Preparation, bundles: Sequence[Sequence[bytes]]) -> Bundles:
        self.given += sum(map(len, bundles))
        return Ahead(preparation.prepare, bundles)


@pytest.fixture(name="crew", scope="module")
def one_process() -> Iterator[ProcessCrew]:
    with open_processes(1) as crew:
        crew.wait_ready(60)
        yield crew


@pytest.mark.parametrize("seed", range(6))
def test_validators_agree_whoever_helps_them(seed: int, crew: ProcessCrew) -> None:
    choose = random.Random(seed)
    pool = [transfer(sender, nonce, 1 + nonce, price) for sender in range(3) for nonce in range(6) for price in (0, 2)]
    pool += [b"", b"\x02nothing", b"\xff\x00", pool[1][:-1] + bytes([pool[1][-1] ^ 1]), pool[1][:40]]
    pool.append(encode_order(MintOrder(Mint(KEYS[0].address, NATIVE, 5), bytes(8))))
    validators = [application(), application(crew=crew), application(crew=Counted())]
    for _ in range(3):
        block = tuple(choose.choices(pool, k=40))
        decisions = []
        for app in validators:
            for raw in choose.sample(block, 10):
                with suppress(TransactionRefused):
                    app.check(raw)
            proposed = ProposedBlock(app.height + 1, 1_000 + app.height, block)
            fitting = app.prepare(proposed, 10**6)
            assert app.accepts(ProposedBlock(app.height + 1, 1_000 + app.height, fitting))
            decisions.append(app.finalize(proposed))
            app.commit()
        assert decisions[0] == decisions[1] == decisions[2]
        assert len({app.app_hash for app in validators}) == 1


def test_signatures_in_calls_are_checked_ahead_though_the_calls_were_seen_before(
    crew: ProcessCrew, monkeypatch: pytest.MonkeyPatch
) -> None:
    raws = (of_fixture(0, CALLS[2], 1), of_fixture(1, CALLS[3], 0))
    for helping in (ALONE, Counted()):
        app = application(genesis=OF_CHANNEL, crew=helping)
        app.finalize(ProposedBlock(1, 1_000, (of_fixture(0, CALLS[0], 0),)))
        app.commit()
        for raw in raws:
            app.check(raw)
        asked: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(prepared.CheckedSignatures, "check", counting(prepared.CheckedSignatures.check, asked))
            decision = app.finalize(ProposedBlock(2, 1_010, raws))
        assert [done and done.success for done in decision.results] == [True, True]
        assert len(asked) == (4 + 3 if helping is not ALONE else 0)
        assert not isinstance(helping, Counted) or helping.given == 1 + 2


def counting(check: Callable[..., None], asked: list[int]) -> Callable[..., None]:
    def check_and_count(self: object, statement: object) -> None:
        asked.append(1)
        check(self, statement)

    return check_and_count


def test_what_was_seen_before_is_not_given_to_helpers_again() -> None:
    crew: Crew = Counted()
    app = application(crew=crew)
    seen, unseen = transfer(0, 0), transfer(1, 0)
    app.check(seen)
    order = encode_order(MintOrder(Mint(KEYS[0].address, NATIVE, 5), bytes(8)))
    block = ProposedBlock(1, 1_000, (seen, unseen, unseen, order))
    assert not app.accepts(block), "one is there twice"
    assert isinstance(crew, Counted) and crew.given == 1
    app.finalize(block)
    app.commit()
    assert crew.given == 1


def test_limits_hold_for_what_helpers_read() -> None:
    for crew in (ALONE, Counted()):
        app = application(crew=crew)
        free, good = transfer(0, 0, price=0), transfer(1, 0)
        decision = app.finalize(ProposedBlock(1, 1_000, (free, good)))
        assert [done is None for done in decision.results] == [True, False]
        with pytest.raises(TransactionRefused) as refused:
            app.check(free)
        assert refused.value.code == Refusal.UNDERPRICED
