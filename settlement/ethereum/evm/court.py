"""The court of applications on a real chain: what a transaction to it carries, and whether what is there is ours.

contracts/README.md has the interface. It is a contract beside the adjudicator, which names it for ever; whose rules it
asks is a table that its constructor wrote (docs/contracts.md, "The court"). Whoever deployed it could have named other
rules than an app's, so the code of each that ships is compared before a node relies on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from tallystick.channels.apps.table import SHIPPED
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.apps import APP, STATE_MAX, AppTerms
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.contracts import RULES, artifact
from tallystick.settlement.chain import RegisterProofCall
from tallystick.settlement.errors import ChainUnavailable, RpcError, WrongChain
from tallystick.settlement.ethereum.abi import Deployment, Envelope, Signature
from tallystick.settlement.ethereum.evm.endpoint import Endpoint, NodeQuestion
from tallystick.settlement.ethereum.evm.questions import read_answer
from tallystick.settlement.ethereum.evm.refusals import is_revert
from tallystick.settlement.ethereum.rpc_shapes import read_bytes, to_hex

CourtCall: TypeAlias = RegisterStateCall | CourtMoveCall | RegisterProofCall

TERMS = "(address,bytes32,bytes32,address,address,uint128,uint128,address,address,uint64,uint64,uint64)"
_REGISTER_STATE = Signature("registerState", (TERMS, "uint64", "bytes", "bytes", "bytes"))
_MOVE = Signature("moveInCourt", (TERMS, "bytes", "bytes", "bytes"))
_REGISTER_PROOF = Signature("registerProof", ("uint8", "bytes32", "bytes"))
_COURT = Signature("court", (), ("address",))
_RULES = Signature("rules", ("bytes32",), ("address",))

IMMUTABLES = 32
"""Bytes at the end of the court's code that its constructor sets: the chain's id."""


def encode_court_call(call: CourtCall, at: Deployment, court: Address | None) -> Envelope:
    """Return what a transaction to the court must carry; raise InvalidInput if it cannot be written, or there is none.

    `at` is the adjudicator that the terms must name.
    """
    if isinstance(call, RegisterProofCall) and call.kind != APP:
        raise InvalidInput(f"no contract takes a RegisterProofCall of kind {call.kind}")
    if court is None:
        raise InvalidInput(f"this chain has no court that takes a {type(call).__name__}: name the court's address")
    if isinstance(call, RegisterProofCall):
        return Envelope(court, 0, _REGISTER_PROOF.encode_call(call.kind, call.condition, call.proof))
    named = Deployment(call.terms.chain_id, call.terms.contract)
    if named != at or len(call.state) > STATE_MAX:
        raise InvalidInput(f"the terms name {named}, or a state is longer than {STATE_MAX} bytes: the court refuses it")
    terms = _terms_values(call.terms)
    if isinstance(call, RegisterStateCall):
        return Envelope(court, 0, _REGISTER_STATE.encode_call(terms, call.number, call.state, *call.signatures))
    return Envelope(court, 0, _MOVE.encode_call(terms, call.state, call.move, call.signature))


def _terms_values(terms: AppTerms) -> tuple[Any, ...]:
    """Return the terms as they travel: without the chain's id, which the court knows."""
    both = (*terms.players, *terms.stakes, *terms.assets)
    return (terms.contract, terms.app, terms.start, *both, terms.expiry, terms.period, terms.nonce)


async def court_of(endpoint: Endpoint, contract: Address) -> Address | None:
    """Return which court an adjudicator asks, None if none. Raise ChainUnavailable if the node does not say it."""
    (answer,) = await endpoint.ask([_view(contract, _COURT)])
    said = _said(endpoint, answer)
    named = None if said is None else _address(_COURT, said)
    return None if named == NATIVE else named


async def check_court(endpoint: Endpoint, court: Address) -> None:
    """Check that the code at an address is our court's, and that of its rules for all apps that ship is ours, too.

    Raise WrongChain if it is not so, ChainUnavailable if the node does not say it.
    """
    questions = [_code(court), *(_view(court, _RULES, app.id) for app in SHIPPED)]
    code, *places = [_said(endpoint, answer) for answer in await endpoint.ask(questions)]
    if code is None or code[:-IMMUTABLES] != artifact("Court").deployed:
        raise WrongChain(f"the contract at 0x{court.hex()} is not this version's court, says {endpoint.url}")
    rules = [None if place is None else _address(_RULES, place) for place in places]
    codes = await endpoint.ask([_code(place or court) for place in rules])
    for app, answer in zip(SHIPPED, codes, strict=True):
        if _said(endpoint, answer) != artifact(RULES[app.name, app.version]).deployed:
            raise WrongChain(f"the court at 0x{court.hex()} has other rules for the app {app.name} than this version")


def _view(to: Address, view: Signature, *values: Any) -> NodeQuestion:
    return NodeQuestion("eth_call", ({"to": to_hex(to), "data": to_hex(view.encode_call(*values))}, "latest"))


def _code(at: Address) -> NodeQuestion:
    return NodeQuestion("eth_getCode", (to_hex(at), "latest"))


def _said(endpoint: Endpoint, answer: Any) -> bytes | None:
    """Return the bytes in an answer, None if the contract refused the question."""
    if isinstance(answer, RpcError):
        if is_revert(answer):
            return None
        raise ChainUnavailable(f"the chain node at {endpoint.url} does not say what the court is: {answer}")
    return read_answer(read_bytes, answer)


def _address(view: Signature, answer: bytes) -> Address | None:
    """Return the address in an answer, None if it is none: where no code is, a question is answered by nothing."""
    try:
        (found,) = view.decode_result(answer)
    except InvalidInput:
        return None
    address: Address = found
    return address


def tellers_of(at: Deployment, court: Address | None) -> Sequence[Address]:
    """Return whose logs tell of the adjudicator's channels, secrets, streams and apps."""
    return (at.contract,) if court is None else (at.contract, court)
