"""What a block's hash proves of the contract's storage: Merkle proofs, as `eth_getProof` tells them (EIP-1186). Pure.

A header's hash is that of its fields, one of which is the root of a trie of all accounts; an account names the root of
a trie of its storage. So nobody can make up, or hide, what a channel is after a block whose hash is known: neither
whether it is there, nor what is in it. That the block is the chain's is another question, to which no hash answers.

The trie is read here, in forty lines, as the libraries that read it take longer to load than a node to start; tests
compare them. Nodes are found by their hashes alone, so a proof cannot lead astray, and none leads in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, Terms
from tallystick.contracts import artifact
from tallystick.settlement.chain import CLOSED, OPEN, ContractChannel
from tallystick.settlement.ethereum.rlp_items import decode_item, encode_item
from tallystick.settlement.ethereum.rpc_shapes import read_bytes

EMPTY_ROOT = keccak(encode_item(b""))
"""Of a trie with nothing in it."""

NODES_MAX = 65
"""Nodes on one way through a trie: a digit of a hashed key each."""

NODE_BYTES = 1_024
"""Of one node: sixteen hashes and their lengths, or a path and a value."""

IMMUTABLES = 4 * 32
"""Bytes at the end of the contract's code that its constructor sets: chain id, domain, reward."""

WORDS = 4
"""Of a channel that are asked for: its status, deposits, pots, what was withdrawn."""

TrieNode: TypeAlias = Any
"""Bytes, or a list of such."""


def read_proof(value: object) -> tuple[bytes, ...]:
    """Read the nodes of one proof; raise InvalidInput."""
    if not isinstance(value, list) or len(value) > NODES_MAX:
        raise InvalidInput(f"a proof is a list of at most {NODES_MAX} nodes")
    nodes = tuple(read_bytes(node, "a node of a proof") for node in value)
    if any(len(node) > NODE_BYTES for node in nodes):
        raise InvalidInput(f"a node of a proof has at most {NODE_BYTES} bytes")
    return nodes


def proven_value(root: bytes, key: bytes, proof: Sequence[bytes]) -> bytes:
    """Return what the trie of that root holds under a key (which it hashes), empty if nothing; raise InvalidInput."""
    if root == EMPTY_ROOT:
        return b""
    nodes = {keccak(node): node for node in proof}
    path = keccak(key).hex()
    node = _found(nodes, root)
    while True:
        if not isinstance(node, list):
            raise InvalidInput("a node of a trie is a list")
        if len(node) == 17:
            if not path:
                raise InvalidInput("a way through a trie ends in a leaf")
            child, path = node[int(path[0], 16)], path[1:]
        elif len(node) == 2:
            step, leaf = _step(node[0])
            if leaf:
                return _bytes(node[1]) if step == path else b""
            if not path.startswith(step) or not step:
                return b""
            child, path = node[1], path[len(step) :]
        else:
            raise InvalidInput("a node of a trie has 17 or 2 items")
        if child == b"":
            return b""
        node = child if isinstance(child, list) else _found(nodes, child)


def _found(nodes: dict[bytes, bytes], hash: bytes) -> TrieNode:
    if hash not in nodes:
        raise InvalidInput("a proof lacks a node")
    return _decoded(nodes[hash])


def _decoded(raw: bytes) -> TrieNode:
    return decode_item(raw)


def _step(item: TrieNode) -> tuple[str, bool]:
    """Read a part of a way as hex digits, and whether it is the last (hex prefix, yellow paper, appendix C)."""
    digits = _bytes(item).hex()
    kind = digits[:1]
    if kind not in ("0", "1", "2", "3") or (kind in "02" and digits[1] != "0"):
        raise InvalidInput("a part of a way through a trie begins with what it is")
    return digits[1 if kind in "13" else 2 :], kind in "23"


def _bytes(item: TrieNode) -> bytes:
    if not isinstance(item, bytes):
        raise InvalidInput("that must be bytes in a trie")
    return item


def proven_account(root: bytes, account: Address, value: object) -> tuple[bytes, bytes]:
    """Return the roots of an account's storage and the hash of its code, from an answer to `eth_getProof`.

    Raise InvalidInput if it proves nothing, or that there is no such account.
    """
    if not isinstance(value, dict):
        raise InvalidInput("a proof is an object")
    found = proven_value(root, account, read_proof(value.get("accountProof")))
    fields = _decoded(found) if found else None
    if not isinstance(fields, list) or len(fields) != 4:
        raise InvalidInput("there is no such account after that block")
    storage, code = _bytes(fields[2]), _bytes(fields[3])
    if len(storage) != 32 or len(code) != 32:
        raise InvalidInput("an account has two hashes")
    return storage, code


@cache
def shipped_code() -> bytes:
    """Return the hash of the contract's code before them: this build keeps its channels where this module looks."""
    return keccak(bytes.fromhex(artifact().runtime.removeprefix("0x")))


def slots(terms: Terms) -> tuple[bytes, ...]:
    """Return where the contract keeps what is asked for of a channel."""
    name = keccak(channel_id(terms) + terms.challenge_period.to_bytes(32, "big") + terms.close_hash)
    first = int.from_bytes(keccak(bytes(32) + name), "big")
    return tuple(((first + word) % 2**256).to_bytes(32, "big") for word in range(WORDS))


def proven_channel(storage: bytes, terms: Terms, proofs: Sequence[object]) -> ContractChannel | None:
    """Return a channel by the storage proofs of its `slots`, None if it was never opened; raise InvalidInput.

    Of its locks nothing is said.
    """
    words = []
    for slot, told in zip(slots(terms), proofs, strict=True):
        if not isinstance(told, dict):
            raise InvalidInput("a proof of storage is an object")
        raw = proven_value(storage, slot, read_proof(told.get("proof")))
        words.append(int.from_bytes(_bytes(_decoded(raw)), "big") if raw else 0)
    return channel_of_words(terms, words)


def channel_of_words(terms: Terms, words: Sequence[int]) -> ContractChannel | None:
    """Return a channel as the contract's view reads it from its words (docs/contracts.md), but for its locks."""
    state, deposits, pots, withdrawn = words
    if state == 0:
        return None
    status, deadline = (state & 7) - 1, state >> 16 & (1 << 40) - 1
    alone = status != OPEN and deadline != 0
    return ContractChannel(
        terms=terms,
        status=status,
        deposits=_pair(deposits),
        withdrawn=_pair(withdrawn),
        closer=state >> 3 & 1 if alone else None,
        deadline=deadline if alone else None,
        seqs=(state >> 56 & (1 << 64) - 1, state >> 120 & (1 << 64) - 1) if alone else (0, 0),
        pots=_pair(pots) if alone and status != CLOSED else (0, 0),
        convicted=alone and bool(state & 16),
    )


def _pair(word: int) -> tuple[int, int]:
    return word & (1 << 128) - 1, word >> 128
