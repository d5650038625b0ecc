"""What a block's hash proves of the contract's storage: as the library `trie` reads it, and the contract."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie

from simulation.disputes import ChannelFixture
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.contracts import artifact
from tallystick.settlement.chain import CLOSED, GONE, OPEN, SETTLED, ContractChannel
from tallystick.settlement.ethereum.evm.proofs import (
    EMPTY_ROOT,
    IMMUTABLES,
    NODES_MAX,
    WORDS,
    channel_of_words,
    proven_account,
    proven_channel,
    proven_value,
    read_proof,
    shipped_code,
    slots,
)
from tallystick.settlement.ethereum.rpc_shapes import to_hex

TERMS = ChannelFixture(chain_id=31_337).terms
KEYS = st.binary(min_size=1, max_size=32)
VALUES = st.binary(min_size=1, max_size=40)


def trie_of(content: Mapping[bytes, bytes]) -> HexaryTrie:
    made = HexaryTrie({})
    for key, value in content.items():
        made[keccak(key)] = value
    return made


def proof_of(trie: HexaryTrie, key: bytes) -> tuple[bytes, ...]:
    return tuple(rlp.encode(node) for node in trie.get_proof(keccak(key)))


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=40), KEYS)
def test_values_and_absences_are_proven_as_the_library_says(content: dict[bytes, bytes], other: bytes) -> None:
    trie = trie_of(content)
    for key in (*content, other):
        proof = proof_of(trie, key)
        expected = HexaryTrie.get_from_proof(trie.root_hash, keccak(key), [rlp.decode(node) for node in proof])
        assert proven_value(trie.root_hash, key, proof) == expected == content.get(key, b"")


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, min_size=2, max_size=40), st.integers(), st.randoms(use_true_random=False))
def test_no_other_value_is_ever_proven(content: dict[bytes, bytes], seed: int, rng: random.Random) -> None:
    """A proof that is cut, changed in one bit, reordered, or of another trie proves the same, or nothing."""
    trie, other = trie_of(content), trie_of({**content, rng.choice(sorted(content)): b"a lie"})
    for key, value in content.items():
        proof = proof_of(trie, key)
        cut = [node for node in proof if rng.random() < 0.7]
        at = rng.randrange(len(proof))
        bit = bytearray(proof[at])
        bit[rng.randrange(len(bit))] ^= 1 << rng.randrange(8)
        changed = [*proof[:at], bytes(bit), *proof[at + 1 :]]
        shuffled = rng.sample(proof, len(proof))
        for told in (cut, changed, shuffled, proof_of(other, key), [*proof_of(other, key), *proof]):
            try:
                assert proven_value(trie.root_hash, key, told) == value
            except InvalidInput:
                assert told is not shuffled


def test_an_empty_trie_holds_nothing_and_nodes_are_no_nonsense() -> None:
    assert HexaryTrie({}).root_hash == EMPTY_ROOT
    assert proven_value(EMPTY_ROOT, b"x", ()) == proven_value(EMPTY_ROOT, b"x", (b"\x80",)) == b""
    path = keccak(b"x").hex()
    for node in (
        b"\x83abc",  # no list
        rlp.encode([b"a"]),
        rlp.encode([b"\x41" + bytes(31), b"value"]),  # a kind of step that is not there
        rlp.encode([b"\x21", b"value", b""]),
        rlp.encode([[b"\x20"], b"value"]),
        rlp.encode([bytes.fromhex("20" + path), [b"no", b"bytes"]]),
        rlp.encode([b"\x00" + bytes.fromhex(path), rlp.decode(rlp.encode([b""] * 17))]),  # ends in a branch
        b"\xc1",
    ):
        with pytest.raises(InvalidInput):
            proven_value(keccak(node), b"x", (node,))
    for wrong in (None, {}, ["0x", 5], ["0xabc"], ["0x" + "00" * 2_000], ["0x"] * (NODES_MAX + 1)):
        with pytest.raises(InvalidInput):
            read_proof(wrong)


def account_proof(storage: bytes, code: bytes) -> tuple[bytes, dict[str, object]]:
    state = trie_of({TERMS.contract: rlp.encode([b"\1", b"", storage, code]), bytes(20): rlp.encode([b"", b"\5"])})
    return state.root_hash, {"accountProof": [to_hex(node) for node in proof_of(state, TERMS.contract)]}


def test_an_account_names_its_storage_and_its_code() -> None:
    storage, code = keccak(b"storage"), keccak(b"code")
    root, told = account_proof(storage, code)
    assert proven_account(root, TERMS.contract, told) == (storage, code)
    for wrong in (None, {}, {"accountProof": []}):
        with pytest.raises(InvalidInput):
            proven_account(root, TERMS.contract, wrong)
    with pytest.raises(InvalidInput):
        proven_account(keccak(b"another root"), TERMS.contract, told)
    for fields in ([b"\1"], [b"\1", b"", storage, b"short"], [b"\1", b"", [storage], code]):
        state = trie_of({TERMS.contract: rlp.encode(fields)})
        with pytest.raises(InvalidInput):
            proven_account(
                state.root_hash,
                TERMS.contract,
                {"accountProof": [to_hex(node) for node in proof_of(state, TERMS.contract)]},
            )
    absent = trie_of({bytes(20): b"x", bytes(19) + b"\1": b"y"})
    with pytest.raises(InvalidInput, match="no such account"):
        nodes = [to_hex(node) for node in proof_of(absent, TERMS.contract)]
        proven_account(absent.root_hash, TERMS.contract, {"accountProof": nodes})


def channel_proof(words: list[int]) -> tuple[bytes, list[object]]:
    at = slots(TERMS)
    held = {
        slot: rlp.encode(word.to_bytes(-(-word.bit_length() // 8), "big"))
        for slot, word in zip(at, words, strict=True)
        if word
    }
    storage = trie_of({**held, bytes(32): rlp.encode(b"\7")})
    return storage.root_hash, [{"proof": [to_hex(node) for node in proof_of(storage, slot)]} for slot in at]


def together(status: int, deposits: tuple[int, int], withdrawn: tuple[int, int]) -> ContractChannel:
    return ContractChannel(terms=TERMS, status=status, deposits=deposits, withdrawn=withdrawn)


def test_a_channel_is_read_from_its_words() -> None:
    closed = 2 | 8 | 16 | 99_000 << 16 | 7 << 56 | 5 << 120
    cases: list[tuple[list[int], ContractChannel | None]] = [
        ([0, 0, 0, 0], None),
        (
            [1, 50 | 60 << 128, 0, 3 << 128],
            ContractChannel(terms=TERMS, status=OPEN, deposits=(50, 60), withdrawn=(0, 3)),
        ),
        ([1 | 32 | 77 << 16, 50, 0, 0], ContractChannel(terms=TERMS, status=OPEN, deposits=(50, 0), withdrawn=(0, 0))),
        ([4, 0, 0, 0], ContractChannel(terms=TERMS, status=GONE, deposits=(0, 0), withdrawn=(0, 0))),
    ]
    for status, pots in ((CLOSED, (0, 0)), (SETTLED, (4, 9))):
        alone = ContractChannel(
            terms=TERMS,
            status=status,
            deposits=(50, 60),
            withdrawn=(0, 0),
            closer=1,
            deadline=99_000,
            seqs=(7, 5),
            pots=pots,
            convicted=True,
        )
        cases.append(([closed - 2 + status + 1, 50 | 60 << 128, 4 | 9 << 128, 0], alone))
    for words, expected in cases:
        root, proofs = channel_proof(words)
        assert channel_of_words(TERMS, words) == expected
        assert proven_channel(root, TERMS, proofs) == expected
        assert len(proofs) == WORDS
        with pytest.raises(InvalidInput):
            proven_channel(root, TERMS, [*proofs[:-1], None])
        with pytest.raises(ValueError, match="argument"):
            proven_channel(root, TERMS, proofs[:-1])


def test_the_code_and_the_layout_are_those_of_the_contract_that_is_shipped() -> None:
    """A contract of another build keeps its channels elsewhere: nothing of it is believed to be proven."""
    shipped = artifact()
    runtime = bytes.fromhex(shipped.runtime.removeprefix("0x"))
    assert keccak(runtime) == shipped_code()
    assert sum(place["length"] for place in shipped.layout["code_layout"].values()) == IMMUTABLES
    words = shipped.layout["storage_layout"]["words"]
    assert (words["slot"], words["type"]) == (0, "HashMap[bytes32, uint256[7]]")
