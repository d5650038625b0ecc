"""What the players of an app sign is what any wallet would sign, and one proof decides both stakes."""

from __future__ import annotations

import msgspec
import pytest
from eth_abi.abi import encode
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.apps.interface import InvalidMove
from tallystick.channels.apps.table import APPS
from tallystick.channels.errors import InvalidInput, InvalidUpdate
from tallystick.channels.protocol import apps, eip712
from tallystick.channels.protocol.conditions.app import AppLock
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, Lock

KEYS = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
PLAYERS = KEYS[0].address, KEYS[1].address
GAME = APPS.named("tictactoe")
TERMS = apps.AppTerms(
    7, Address(b"c" * 20), GAME.id, keccak(GAME.init((50, 70))), PLAYERS, (50, 70), (NATIVE, NATIVE), 2_000, 600, 3
)
INSTANCE = apps.instance_id(TERMS)


def proof_of(*paid: int) -> bytes:
    digest = apps.digest_outcome(TERMS, apps.AppOutcome(INSTANCE, (paid[0], paid[1])))
    return apps.OutcomeProof(TERMS, (paid[0], paid[1]), (KEYS[0].sign(digest), KEYS[1].sign(digest))).encode()


def stake_of(player: int, amount: int) -> Lock:
    return Lock(0, amount, TERMS.expiry, apps.APP, apps.stake_condition(INSTANCE, player))


def test_an_outcome_pays_of_each_stake_what_both_signed() -> None:
    """One proof, two locks; and a lock of less never pays more than it holds."""
    kind = AppLock()
    assert kind.amount_paid(stake_of(0, 50), proof_of(50, 0)) == 50
    assert kind.amount_paid(stake_of(1, 70), proof_of(50, 0)) == 0
    assert kind.amount_paid(stake_of(1, 60), proof_of(0, 70)) == 60


def test_an_outcome_pays_no_lock_that_expires_before_the_terms() -> None:
    """The court would not, either."""
    lock = stake_of(0, 50)
    assert AppLock().amount_paid(msgspec.structs.replace(lock, expiry=TERMS.expiry + 1), proof_of(50, 0)) == 50
    with pytest.raises(InvalidUpdate, match="expires before"):
        AppLock().amount_paid(msgspec.structs.replace(lock, expiry=TERMS.expiry - 1), proof_of(50, 0))


@pytest.mark.parametrize("paid", [(51, 0), (0, 71)])
def test_an_outcome_beyond_the_stakes_pays_nothing(paid: tuple[int, int]) -> None:
    with pytest.raises(InvalidUpdate):
        AppLock().amount_paid(stake_of(0, 50), proof_of(*paid))


@given(at=st.integers(0, apps.PROOF_SIZE - 1), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_no_proof_with_a_bit_flipped_pays(at: int, bit: int) -> None:
    proof = bytearray(proof_of(20, 0))
    proof[at] ^= 1 << bit
    with pytest.raises(InvalidUpdate):
        AppLock().amount_paid(stake_of(0, 50), bytes(proof))


words = st.integers(0, 2**64 - 1)
amounts = st.integers(0, 2**128 - 1)
hashes = st.binary(min_size=32, max_size=32)


@given(instance=hashes, number=words, state=hashes, paid=st.tuples(amounts, amounts))
@settings(max_examples=50)
def test_digests_are_those_of_eth_account(instance: bytes, number: int, state: bytes, paid: tuple[int, int]) -> None:
    domain = {"name": "Tallystick", "version": "1", "chainId": 7, "verifyingContract": "0x" + b"c".hex() * 20}
    said = {"instance": instance, "number": number, "state": state}
    signed = encode_typed_data(domain, {"AppState": eip712.TYPES["AppState"]}, said)
    ours = apps.digest_state(TERMS, apps.AppState(instance, number, state))
    assert keccak(b"\x19" + signed.version + signed.header + signed.body) == ours
    said = {"instance": instance, "paid0": paid[0], "paid1": paid[1]}
    signed = encode_typed_data(domain, {"AppOutcome": eip712.TYPES["AppOutcome"]}, said)
    ours = apps.digest_outcome(TERMS, apps.AppOutcome(instance, paid))
    assert keccak(b"\x19" + signed.version + signed.header + signed.body) == ours


def test_the_id_of_an_instance_is_what_a_contract_would_reckon() -> None:
    types = ["bytes32", "uint64", "address", "bytes32", "bytes32", "address", "address", "uint128", "uint128"]
    types += ["address", "address", "uint64", "uint64", "uint64"]
    fields = (TERMS.chain_id, TERMS.contract, TERMS.app, TERMS.start, *PLAYERS, *TERMS.stakes, *TERMS.assets)
    times = (TERMS.expiry, TERMS.period, TERMS.nonce)
    assert keccak(encode(types, (keccak(b"tallystick app instance"), *fields, *times))) == INSTANCE
    condition = encode(["bytes32", "bytes32", "uint256"], (keccak(b"tallystick app stake"), INSTANCE, 1))
    assert apps.stake_condition(INSTANCE, 1) == keccak(condition)


def test_a_proof_is_read_back_equal() -> None:
    assert apps.OutcomeProof.decode(proof_of(1, 2)).encode() == proof_of(1, 2)
    with pytest.raises(InvalidInput, match="bytes"):
        apps.OutcomeProof.decode(proof_of(1, 2)[:-1])


def test_a_game_is_won_lost_and_forfeited_by_its_rules() -> None:
    state = GAME.init((50, 70))
    for player, cell in [(0, 0), (1, 4), (0, 1), (1, 5)]:
        assert GAME.forfeit(state, (50, 70)) == ((50, 0) if player == 0 else (0, 70))
        state = GAME.valid(state, GAME.move(cell=cell), player, INSTANCE)
    with pytest.raises(InvalidMove):
        GAME.valid(state, GAME.move(cell=0), 0, INSTANCE)
    with pytest.raises(InvalidMove):
        GAME.valid(state, GAME.move(cell=2), 1, INSTANCE)
    state = GAME.valid(state, GAME.move(cell=2), 0, INSTANCE)
    assert GAME.turn(state) is None and GAME.outcome(state, (50, 70)) == (0, 70)
    assert GAME.describe(state)["rows"] == ["XXX", ".OO", "..."]
