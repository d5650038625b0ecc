"""Stakes under a consensus: all validators compute the same, whatever was proposed, and tell the engine the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.replicas import GENESIS, KEYS, application
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.chain import ModuleCall
from tallystick.settlement.ethereum.module_calls import write_call
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.modules.validator_blocks import BlockVote, Offence
from tallystick.settlement.modules.validator_records import StakeRules
from tallystick.settlement.replicated.answers import answer
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.decision import Decision, ProposedBlock
from tallystick.settlement.replicated.genesis import EvidenceAge, Genesis, check_stakes, read_genesis
from tallystick.settlement.replicated.home import ValidatorKeys, with_stakes
from tallystick.settlement.replicated.schema import MESSAGES
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint
from tallystick.settlement.simulated.roots import state_root

RULES = StakeRules(unit=1_000, own_least=10_000, evidence_blocks=2, evidence_seconds=5, absences_max=3, jail_seconds=9)
VALIDATORS = [ValidatorKeys(*(keccak(b"%d of validator %d" % (part, at)) for part in range(3))) for at in range(4)]
STAKED = with_stakes(replace(GENESIS, gas_limit=30_000_000), VALIDATORS, RULES)
EVIDENCE = EvidenceAge(RULES.evidence_blocks, RULES.evidence_seconds)
POWER = STAKED.stakes[0].amount // RULES.unit


def calls() -> list[bytes]:
    first = VALIDATORS[0].address
    wanted: list[tuple[str, list[Any], int]] = [
        ("delegate", [first, 5_000], 5_000),
        ("undelegate", [4, 2_000], 0),
        ("claim", [4], 0),
        ("delegate", [VALIDATORS[1].address, 1_000], 1_000),
        ("redelegate", [4, VALIDATORS[1].address, 1_000], 0),
        ("withdraw", [5], 0),
        ("settle", [4], 0),
    ]
    made: list[ModuleCall] = [write_call("validators", name, values, value=value) for name, values, value in wanted]
    return [sign_call(KEYS[0], 1337, ADJUDICATOR, call, nonce, 2) for nonce, call in enumerate(made)]


CALLS = calls()
VOTES = st.lists(st.sampled_from(((True, False), (False, True), (False, False))), min_size=4, max_size=4).map(
    lambda voted: tuple(
        BlockVote(keys.address, POWER, signed, absent) for keys, (signed, absent) in zip(VALIDATORS, voted, strict=True)
    )
)
OFFENCES = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=2).map(
    lambda found: tuple(
        Offence(VALIDATORS[who].address if who < 4 else bytes(20), block, 1_000 + block) for who, block in found
    )
)
HISTORY = st.lists(st.tuples(st.integers(0, 2), VOTES, OFFENCES), min_size=3, max_size=6)


def blocks(history: list[tuple[int, tuple[BlockVote, ...], tuple[Offence, ...]]]) -> list[ProposedBlock]:
    made, sent = [], 0
    for height, (count, votes, offences) in enumerate(history, 1):
        transactions = tuple(CALLS[sent : sent + count])
        sent += len(transactions)
        made.append(ProposedBlock(height, 1_000 + 3 * height, transactions, votes if height > 1 else (), offences))
    return made


def step(app: Application, block: ProposedBlock) -> Decision:
    decision = app.finalize(block)
    app.commit()
    return decision


@settings(max_examples=15, deadline=None)
@given(HISTORY, HISTORY)
def test_all_validators_compute_the_same_whatever_else_was_proposed(history: list[Any], others: list[Any]) -> None:
    one, two = application(genesis=STAKED), application(genesis=STAKED)
    lies = blocks(others)
    for number, block in enumerate(blocks(history)):
        two.accepts(replace(block, votes=lies[number % len(lies)].votes))
        two.accepts(replace(block, offences=lies[number % len(lies)].offences))
        proposed = two.prepare(block, 10**6)
        assert proposed == block.transactions
        prepared = two.finalize(block)
        first = step(one, block)
        assert (prepared.app_hash, prepared.updates, prepared.record) == (first.app_hash, first.updates, first.record)
        two.commit()
        assert one.root == two.root == state_root(one.branch.world)
        assert {key for key, _ in first.record.undo} == first.changes.keys()
    one.branch.check_conservation()


def test_a_proposal_is_executed_once_with_its_votes_and_evidence() -> None:
    app = application(genesis=STAKED)
    step(app, ProposedBlock(1, 1_003, ()))
    votes = tuple(BlockVote(keys.address, POWER, True, False) for keys in VALIDATORS)
    offence = Offence(VALIDATORS[2].address, 1, 1_003)
    block = ProposedBlock(2, 1_006, (), votes, (offence,))
    assert app.prepare(block, 10**6) == ()
    decision = app.finalize(block)
    assert decision is app.finalize(block) and decision.updates == ((VALIDATORS[2].public, 0),)
    assert app.finalize(replace(block, offences=())).updates == ()


def test_the_engine_is_told_of_powers_and_tells_of_votes_and_evidence() -> None:
    app = application(genesis=STAKED)
    answer(app, "finalize_block", MESSAGES["RequestFinalizeBlock"](height=1, time={"seconds": 1_003}))
    app.commit()
    guilty = VALIDATORS[1]
    request = MESSAGES["RequestFinalizeBlock"](
        height=2,
        time={"seconds": 1_006},
        txs=[CALLS[0]],
        decided_last_commit={
            "votes": [
                {"validator": {"address": keys.address, "power": POWER}, "block_id_flag": 2 - (keys is VALIDATORS[3])}
                for keys in VALIDATORS
            ]
        },
        misbehavior=[{"type": 1, "validator": {"address": guilty.address}, "height": 1, "time": {"seconds": 1_003}}],
    )
    response = MESSAGES["Response"].FromString(answer(app, "finalize_block", request)).finalize_block
    told = {update.pub_key.ed25519: update.power for update in response.validator_updates}
    assert told == {guilty.public: 0, VALIDATORS[0].public: POWER + 5}
    app.commit()
    fees = app.branch.newest.entries[0].execution.fee
    step(app, ProposedBlock(3, 1_009, (), tuple(BlockVote(keys.address, POWER, True, False) for keys in VALIDATORS)))
    assert fees > 0


def test_the_consensus_begins_with_the_stakes_and_the_same_rules_of_evidence() -> None:
    app, written = application(genesis=STAKED), msgspec.json.encode(STAKED.written())
    powers = dict.fromkeys((keys.public for keys in VALIDATORS), POWER)
    assert read_genesis(written) == STAKED
    assert app.begin(written, 1, powers, EVIDENCE) == app.app_hash
    for wrong, age in (
        (powers | {VALIDATORS[0].public: POWER + 1}, EVIDENCE),
        ({}, EVIDENCE),
        (powers, EvidenceAge(2, 6)),
    ):
        with pytest.raises(InvalidInput):
            app.begin(written, 1, wrong, age)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(STAKED, staking=None),
        replace(STAKED, stakes=()),
        replace(STAKED, stakes=STAKED.stakes * 2),
        replace(STAKED, mints=GENESIS.mints),
        replace(
            STAKED, mints=(*STAKED.mints[:-1], Mint(STAKED.mints[-1].account, NATIVE, STAKED.stakes[0].amount - 1))
        ),
        replace(STAKED, staking=replace(RULES, slash=1_000_001)),
        replace(STAKED, staking=replace(RULES, validators_max=3)),
        replace(STAKED, staking=replace(RULES, own_least=10**19)),
        replace(STAKED, staking=replace(RULES, unit=0)),
        replace(STAKED, stakes=(replace(STAKED.stakes[0], public=b""), *STAKED.stakes[1:])),
    ],
)
def test_stakes_that_no_chain_can_begin_with_are_refused(wrong: Genesis) -> None:
    with pytest.raises(InvalidInput):
        check_stakes(wrong)


def test_a_genesis_without_stakes_is_what_it_was() -> None:
    assert "staking" not in GENESIS.written() and read_genesis(msgspec.json.encode(GENESIS.written())) == GENESIS
    app = application()
    votes = (BlockVote(VALIDATORS[0].address, 10, False, True),)
    decision = step(app, ProposedBlock(1, 1_000, (), votes, (Offence(VALIDATORS[0].address, 1, 1_000),)))
    assert decision.updates == () and not decision.changes
