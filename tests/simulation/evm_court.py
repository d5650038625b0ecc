"""The court's contract as its callers see it: the calls of `protocol.app_court` in its ABI, and what it keeps.

Written from contracts/README.md alone, and not with the product's own encoder, so that each checks the other.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from simulation.evm import Evm, calldata
from tallystick.channels.apps.table import SHIPPED
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.apps import AppTerms, InstanceId, stake_condition
from tallystick.channels.protocol.objects import Address
from tallystick.contracts import RULES, artifact, court_code
from tallystick.settlement.chain import RegisterProofCall
from tallystick.settlement.contract.court import CourtRecord, unpack

CourtCall: TypeAlias = RegisterStateCall | CourtMoveCall | RegisterProofCall
COURT_CALLS = (RegisterStateCall, CourtMoveCall, RegisterProofCall)
TERMS = "(address,bytes32,bytes32,address,address,uint128,uint128,address,address,uint64,uint64,uint64)"


class CourtPlace(NamedTuple):
    """Where a court is, and the rules that it asks, by the id of their app."""

    at: Address
    rules: dict[bytes, Address]
    gas: int = 0
    """Of the deployment, rules included."""


def deploy_court(evm: Evm, by: Address, others: dict[bytes, Address] | None = None) -> CourtPlace:
    """Put the court and the rules of all apps that ship on a chain; `others` are further rules."""
    rules, gas = {}, 0
    for app in SHIPPED:
        rules[app.id] = evm.deploy(artifact(RULES[app.name, app.version]).code, by)
        gas += evm.deployed_gas
    rules |= others or {}
    return CourtPlace(evm.deploy(court_code(rules), by), rules, gas + evm.deployed_gas)


def terms_words(terms: AppTerms) -> tuple[object, ...]:
    """Return the terms as the court takes them: without the chain's id, which it knows."""
    both = (*terms.players, *terms.stakes, *terms.assets)
    return (terms.contract, terms.app, terms.start, *both, terms.expiry, terms.period, terms.nonce)


def encode(call: CourtCall) -> bytes:
    """Return a call's data."""
    match call:
        case RegisterStateCall(terms, number, state, (first, second)):
            types = (TERMS, "uint64", "bytes", "bytes", "bytes")
            return calldata("registerState", types, (terms_words(terms), number, state, first, second))
        case CourtMoveCall(terms, state, move, signature):
            return calldata(
                "moveInCourt", (TERMS, "bytes", "bytes", "bytes"), (terms_words(terms), state, move, signature)
            )
        case RegisterProofCall(kind, condition, proof):
            return calldata("registerProof", ("uint8", "bytes32", "bytes"), (kind, condition, proof))


def kept(evm: Evm, court: Address, condition: bytes) -> int:
    """What an adjudicator hears of a stake."""
    return int.from_bytes(evm.call(court, calldata("kept", ("bytes32",), (condition,))), "big")


def record_of(evm: Evm, court: Address, instance: InstanceId) -> CourtRecord | None:
    """What the court keeps of an instance, None if it never heard of it."""
    first, second = (unpack(kept(evm, court, stake_condition(instance, player))) for player in (0, 1))
    if not first[0]:
        return None
    assert first[:2] == second[:2], "both stakes are of one instance, and open for the same time"
    numbers = int.from_bytes(evm.call(court, calldata("numbers", ("bytes32",), (instance,))), "big")
    state = evm.call(court, calldata("states", ("bytes32",), (instance,)))
    return CourtRecord(first[0], first[1], (first[2], second[2]), numbers >> 64, numbers & 2**64 - 1, state)
