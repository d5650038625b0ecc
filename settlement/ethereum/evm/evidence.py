"""What bears out what a node said of channels: a second node's word, or else a proof by the block's hash.

| URLs    | what is asked                                           | what it shows                                   |
| ------- | ------------------------------------------------------- | ----------------------------------------------- |
| several | two nodes: their block of that number, and the channels | neither invented events, left some out, or is   |
|         | after it (EIP-1898)                                     | on a branch of its own                          |
| one     | the account and its storage, with proofs (EIP-1186)     | nothing was invented or left out of the branch  |
|         |                                                         | with that block; not whether it is the chain's  |

Where headers do not prove their hashes, the node gives no proofs, or the contract is another build, one node's word is
all there is: `EvidenceReader.read` returns None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Terms
from tallystick.settlement.chain import Header
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

        Raise Contradicted if two nodes say different things, or the one what its own block proves to be wrong.
        """
        if len(self._nodes) > 1:
            return await self._of_two(block, terms)
        return await self._proven(block, terms)

    async def _of_two(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere:
        where = {"blockHash": to_hex(block.hash)}
        calls = [{"to": to_hex(self._at.contract), "data": _asking(each)} for each in terms]
        questions = (block_question(block.number), *(NodeQuestion("eth_call", (call, where)) for call in calls))

        def read(state: NodeState, answers: list[Any]) -> tuple[Header, ChannelsThere | None]:
            told, *views = answers
            if told is None:
                raise RpcError(0, f"it knows no block {block.number}")
            header = read_answer(read_seen, told).header
            if header.hash != block.hash:
                return header, None
            return header, tuple(
                read_answer(lambda data: decode_channel(read_bytes(data), self._at), view) for view in views
            )

        told = await self._nodes.read_several(2, read, *questions, at_least=block.number)
        for state, (header, _) in told:
            if header.number != block.number or header.hash != block.hash:
                raise Contradicted(
                    f"block {block.number} is another one at {state.endpoint.url} than was followed: "
                    f"0x{header.hash.hex()[:16]}…, not 0x{block.hash.hex()[:16]}…"
                )
        (first, (_, views)), (second, (_, others)) = told
        if views is None or views != others:
            nodes = f"{first.endpoint.url} and {second.endpoint.url}"
            raise Contradicted(f"{nodes} do not say the same of channels after block {block.number}")
        return views

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
            return tuple(
                proven_channel(storage, each, parts[WORDS * at : WORDS * (at + 1)]) for at, each in enumerate(terms)
            )
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


def _asking(terms: Terms) -> str:
    return to_hex(CHANNEL_OF_TERMS.encode_call(terms_values(terms)))
