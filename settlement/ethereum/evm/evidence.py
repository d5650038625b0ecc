"""What bears out what a node said of channels: a second node's word, or else a proof by the block's hash.

| URLs    | what is asked                                           | what it shows                                   |
| ------- | ------------------------------------------------------- | ----------------------------------------------- |
| several | two nodes: their block of that number, and the channels | neither invented events, left some out, or is   |
|         | after it (EIP-1898); further ones until two agree       | on a branch of its own                          |
| one     | the account and its storage, with proofs (EIP-1186)     | nothing was invented or left out of the branch  |
|         |                                                         | with that block; not whether it is the chain's  |

Where headers do not prove their hashes, the node gives no proofs, or the contract is another build, one node's word is
all there is: `EvidenceReader.read` returns None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Terms
from tallystick.settlement.chain import ContractChannel, Header
from tallystick.settlement.errors import ChainError, ChainUnavailable, Contradicted, RpcError
from tallystick.settlement.ethereum.abi import Deployment, terms_values
from tallystick.settlement.ethereum.evm.abi import CHANNEL_OF_TERMS
from tallystick.settlement.ethereum.evm.endpoint import NodeQuestion
from tallystick.settlement.ethereum.evm.headers import hash_of, read_seen
from tallystick.settlement.ethereum.evm.nodes import ChainNodes, NodeState
from tallystick.settlement.ethereum.evm.proofs import (
    IMMUTABLES,
    WORDS,
    proven_account,
    proven_channel,
    shipped_code,
    slots,
)
from tallystick.settlement.ethereum.evm.questions import block_question, read_answer
from tallystick.settlement.ethereum.rpc_shapes import read_bytes, to_hex
from tallystick.settlement.ethereum.views import decode_channel
from tallystick.settlement.port import ChannelsThere

UNKNOWN_METHOD = -32601

REFUSALS = 3
"""Times in a row that a lone node may refuse a proof until it is taken for one that gives none."""

_Said: TypeAlias = tuple[Header, tuple[ContractChannel | None, ...] | None]
"""A node's block of the number that was asked for, and the channels after it if that is the one that was followed."""


class EvidenceReader:
    """Part of `EvmChain`. Its methods raise ChainUnavailable, ChainError and Contradicted."""

    def __init__(self, nodes: ChainNodes, at: Deployment) -> None:
        self._nodes = nodes
        self._at = at
        self._refused = 0
        self._codes: dict[bytes, bool] = {}
        """By the hash of a code: whether it is our contract's."""

    async def read(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere | None:
        """Return these channels as they are after a block, borne out; None if nothing can bear that out.

        Raise Contradicted if no two nodes say the same, or the one says what its own block proves to be wrong.
        """
        if len(self._nodes) > 1:
            return await self._of_two(block, terms)
        return await self._proven(block, terms)

    async def _of_two(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere:
        where = {"blockHash": to_hex(block.hash)}
        calls = [{"to": to_hex(self._at.contract), "data": _asking(each)} for each in terms]
        questions = (block_question(block.number), *(NodeQuestion("eth_call", (call, where)) for call in calls))

        def read(state: NodeState, answers: list[Any]) -> _Said:
            told, *views = answers
            if told is None:
                raise RpcError(0, f"it knows no block {block.number}")
            header = read_answer(read_seen, told).header
            if header.number != block.number or header.hash != block.hash:
                return header, None
            return header, tuple(
                read_answer(lambda data: decode_channel(read_bytes(data), self._at), view) for view in views
            )

        told = await self._nodes.read_several(_has_two_alike, read, *questions, at_least=block.number)
        views = _said_twice([said for _, said in told])
        denied: list[tuple[str, str]] = []
        for state, (header, others) in told:
            url = state.endpoint.url
            if others is None:
                other = f"0x{header.hash.hex()[:16]}…, not 0x{block.hash.hex()[:16]}…"
                denied.append((url, f"block {block.number} is another one at {url} than was followed: {other}"))
            elif views is not None and others != views:
                denied.append((url, f"{url} does not say the same of channels after block {block.number} as others do"))
        if views is not None:
            return ChannelsThere(views, tuple(denied))
        if denied:
            raise Contradicted("; ".join(text for _, text in denied))
        nodes = " and ".join(state.endpoint.url for state, _ in told)
        raise Contradicted(f"{nodes} do not say the same of channels after block {block.number}")

    async def _proven(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere | None:
        keys = [to_hex(slot) for each in terms for slot in slots(each)]
        where = {"blockHash": to_hex(block.hash)}
        contract = to_hex(self._at.contract)
        state, (told, proof) = await self._nodes.ask_one(
            block_question(block.number),
            NodeQuestion("eth_getProof", (contract, keys, where)),
            at_least=block.number,
        )
        if told is None:
            raise ChainUnavailable(f"the chain node at {state.endpoint.url} does not know block {block.number} (yet)")
        if isinstance(told, dict) and read_answer(read_seen, told).header.hash != block.hash:
            raise Contradicted(f"block {block.number} is another one at {state.endpoint.url} than was followed")
        if isinstance(told, RpcError) or hash_of(told) != block.hash:
            return None
        if isinstance(proof, RpcError):
            self._refused += REFUSALS if proof.code == UNKNOWN_METHOD else 1
            if self._refused < REFUSALS:
                raise ChainUnavailable(f"the chain node at {state.endpoint.url} gives no proof: {proof.said}")
            return None
        self._refused = 0
        try:
            root = read_bytes(told.get("stateRoot"), "stateRoot", 32)
            storage, code = proven_account(root, self._at.contract, proof)
            if not await self._is_ours(state, code, where):
                return None
            parts = proof.get("storageProof")
            if not isinstance(parts, list) or len(parts) != len(keys):
                raise InvalidInput("there is a proof for each word that was asked for")
            words = (parts[WORDS * at : WORDS * (at + 1)] for at in range(len(terms)))
            return ChannelsThere(tuple(proven_channel(storage, *each) for each in zip(terms, words, strict=True)))
        except InvalidInput as error:
            fault = ChainError(f"the chain node at {state.endpoint.url} proves nothing: {error}")
            self._nodes.blame(state, fault)
            raise fault from error

    async def _is_ours(self, state: NodeState, hash: bytes, where: dict[str, str]) -> bool:
        """Return whether a code is that of our contract; ask for it, once."""
        if hash not in self._codes:
            (answer,) = await self._nodes.ask_this(
                state, NodeQuestion("eth_getCode", (to_hex(self._at.contract), where))
            )
            code = read_answer(read_bytes, answer)
            if keccak(code) != hash:
                raise InvalidInput("the contract's code is another one than its account says")
            self._codes = {hash: keccak(code[:-IMMUTABLES]) == shipped_code()}
        return self._codes[hash]


def _said_twice(told: Sequence[_Said]) -> tuple[ContractChannel | None, ...] | None:
    """Return the channels as two say them that have the block that was followed; None if no two say the same."""
    said = [views for _, views in told if views is not None]
    return next((views for at, views in enumerate(said) if views in said[:at]), None)


def _has_two_alike(told: Sequence[tuple[NodeState, _Said]]) -> bool:
    return _said_twice([said for _, said in told]) is not None


def _asking(terms: Terms) -> str:
    return to_hex(CHANNEL_OF_TERMS.encode_call(terms_values(terms)))
