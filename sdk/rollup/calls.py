"""Calls of a rollup and what its chain tells, written and read for both kinds of chain. Pure.

A rollup is one of the ledger's module `rollups`, under a number, or a contract of its own (`contracts/Rollup.vy`) on an
EVM. A call is named as the module names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from eth_abi.abi import encode as encode_abi

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import with_recovery_id
from tallystick.channels.protocol.objects import Address, ChannelId, SignedProof, to_address
from tallystick.contracts import artifact
from tallystick.settlement.chain import ModuleEvent
from tallystick.settlement.ethereum.abi import Envelope, Signature
from tallystick.settlement.ethereum.abi_values import decode_values
from tallystick.settlement.ethereum.module_calls import read_told, write_call
from tallystick.settlement.modules.table import MODULES
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.disputes import pack_proof
from tallystick.settlement.rollup.events import (
    BatchConvicted,
    BatchPosted,
    CloseChallenged,
    ClosedAlone,
    EntryOrdered,
    RollupEvent,
    RollupFrozen,
    RollupWithdrawn,
    SignatureDemanded,
    SignatureShown,
)
from tallystick.settlement.rollup.packing import pack_data, unpack_data
from tallystick.settlement.rollup.rules import Statement, Statements
from tallystick.settlement.rollup.steps import QueueEntry

MODULE = MODULES["rollups"]

_SIGNATURE = "(bytes32,uint256)"
_NUMBERS = ("uint256", "uint256")
_CHANNEL = ("uint256", "address", "address", "address")
"""Its number, both owners, and its asset."""
_FORMS: dict[str, Signature] = {
    "bond": Signature("bond", ()),
    "unbond": Signature("unbond", ()),
    "post": Signature("post", (*_NUMBERS, "bytes32", "bytes32", "bytes")),
    "convict": Signature("convict", ("uint256", "uint256[]")),
    "demand": Signature("demand", _NUMBERS),
    "answer": Signature("answer", ("uint256", "uint256[]", _SIGNATURE, _SIGNATURE)),
    "silence": Signature("silence", _NUMBERS),
    "refund": Signature("refund", _NUMBERS),
    "deposit": Signature("deposit", ("address",)),
    "depositToken": Signature("deposit_token", ("address", "address", "uint256")),
    "forceExit": Signature("force_exit", ("address",)),
    "forceClose": Signature(
        "force_close", ("uint256", "address", "address", *["uint256"] * 3, "address", _SIGNATURE, _SIGNATURE)
    ),
    "closeAlone": Signature("close_alone", (*_CHANNEL, "uint256", "uint256[]", "bytes", "bytes")),
    "challengeClose": Signature("challenge_close", (*_CHANNEL, "uint256", "bytes")),
    "settleClose": Signature("settle_close", _CHANNEL),
    "withdraw": Signature("withdraw", ("uint256", "uint256[]")),
    "claim": Signature("claim", ("address",)),
    "finalise": Signature("finalise", ()),
    "freeze": Signature("freeze", ()),
    "escape": Signature("escape", ("uint256[]",)),
    "reclaim": Signature("reclaim", ("uint256", "uint256[6]")),
    "reclaimClose": Signature("reclaim_close", ("uint256", "uint256[6]", "uint256[]")),
}
"""By the function's name on the ledger: the contract's."""

_EVENTS: dict[str, tuple[Signature, int]] = {
    name: (Signature(name, types), indexed)
    for name, types, indexed in (
        ("EntryOrdered", (*["uint256"] * 3, *["address"] * 3, *["uint256"] * 3), 1),
        ("BatchPosted", (*["uint256"] * 4, "bytes32", "bytes32", "bytes"), 1),
        ("BatchConvicted", ("uint256", "uint256", "address"), 1),
        ("SignatureDemanded", ("uint256", "uint256", "address", "uint256"), 1),
        ("SignatureShown", ("uint256", "uint256", _SIGNATURE, _SIGNATURE), 1),
        ("RollupWithdrawn", ("address", "address", "uint256"), 1),
        ("RollupFrozen", ("uint256",), 0),
        ("ClosedAlone", ("bytes32", *["uint256"] * 5), 1),
        ("CloseChallenged", ("bytes32", *["uint256"] * 3, "bool"), 1),
    )
}
_BY_TOPIC = {form.hash: (name, form, indexed) for name, (form, indexed) in _EVENTS.items()}


PAYING = ("bond", "deposit", "depositToken", "demand")
"""On the ledger these name the rollup's vault: nobody pays into one that has got the number of another one."""


class RollupCall(msgspec.Struct, frozen=True):
    """A call of a rollup. `statements` and `signatures` are what is signed with it, of those that take signatures."""

    name: str
    values: tuple[Any, ...] = ()
    value: int = 0
    statements: Statements = ()
    signatures: tuple[bytes, ...] = ()
    proofs: tuple[SignedProof | None, ...] = ()
    """Balance proofs, of those that take some: `statements` are what is signed of them, two each."""


def post_call(batch: Batch) -> RollupCall:
    """Return the call that posts a batch."""
    return RollupCall("post", (batch.time, batch.queue_end, batch.accounts, batch.channels, batch.data))


class RollupPlace(NamedTuple):
    """Where a rollup is: the number of one of the ledger's, or the address of a contract."""

    number: int | None = None
    contract: Address | None = None
    vault: Address | None = None
    """Of one of the ledger's: it must be this one. Another rollup may get the number after a reorganisation."""

    @classmethod
    def read(cls, text: str) -> RollupPlace:
        """Return the place that is written so: a number, or 0x and 40 hex digits. Raise InvalidInput.

        After a number may follow `@` and the vault's 0x and 40 hex digits.
        """
        number, at, vault = text.partition("@")
        if number.isascii() and number.isdigit() and len(number) < 19:
            return cls(int(number), vault=to_address(vault, "the rollup's vault") if at else None)
        return cls(contract=to_address(text, "the rollup"))

    def __str__(self) -> str:
        return f"0x{self.contract.hex()}" if self.contract is not None else str(self.number)


def write_rollup_call(place: RollupPlace, call: RollupCall) -> Envelope:
    """Return a transaction's part that makes a call; raise InvalidInput if its values do not fit."""
    if place.contract is not None:
        values = [*call.values]
        if call.name in ("answer", "forceClose"):
            values += [*map(_compact, call.statements, call.signatures), (bytes(32), 0), (bytes(32), 0)][:2]
        statements = iter(call.statements)
        values += [
            b"" if each is None else compact_proof(each, next(statements), next(statements)) for each in call.proofs
        ]
        return Envelope(place.contract, call.value, _FORMS[call.name].encode_call(*values))
    values = [place.number, *call.values, *map(pack_proof, call.proofs)]
    if call.name in PAYING:
        if place.vault is None:
            raise InvalidInput(f"a {call.name} names the rollup's vault: ask the chain for it first")
        values.insert(1, place.vault)
    if call.name in ("deposit", "bond"):
        values.append(call.value)
    elif call.name in ("answer", "forceClose"):
        values.append(b"".join(call.signatures))
    elif call.name == "post":
        values[-1:] = pack_data(values[-1])
    made = write_call(MODULE.name, call.name, values, value=call.value)
    return Envelope(made.module, made.value, made.data)


def creation_code(*numbers: int) -> bytes:
    """Return what puts the contract onto a chain, with the judge that it makes: of the operator and five numbers."""
    values = encode_abi([*["uint256"] * len(numbers), "bytes"], [*numbers, artifact("RollupJudge").code])
    return artifact("Rollup").code + values


def read_rollup_log(place: RollupPlace, topics: tuple[bytes, ...], data: bytes) -> RollupEvent | None:
    """Return what a log tells of this rollup; None if it is of another one, or of none of its events.

    Raise InvalidInput if it cannot be read.
    """
    if place.contract is not None:
        name, form, indexed = _BY_TOPIC.get(topics[0], ("", None, 0)) if topics else ("", None, 0)
        if form is None:
            return None
        first = [decode_values(form.arguments[:1], topic)[0] for topic in topics[1 : 1 + indexed]]
        return _read_contract(name, [*first, *decode_values(form.arguments[indexed:], data)])
    if not topics or topics[0] not in MODULE.events:
        return None
    told = read_told(ModuleEvent(MODULE.address, topics, data))
    return _read_module(told.event, told.fields) if told.fields.get("rollup") == place.number else None


def _read_contract(name: str, values: list[Any]) -> RollupEvent | None:
    match name:
        case "EntryOrdered":
            index, kind, leaf, first, second, asset, amount0, amount1, due = values
            return EntryOrdered(index, QueueEntry(kind, leaf, first, second, amount0, amount1, asset), due)
        case "BatchPosted":
            number, serial, time, queue_end, accounts, channels, data = values
            return BatchPosted(number, serial, Batch(time, queue_end, accounts, channels, data))
        case "BatchConvicted":
            return BatchConvicted(*values)
        case "SignatureDemanded":
            return SignatureDemanded(*values)
        case "SignatureShown":
            return SignatureShown(*values[:2])
        case "RollupWithdrawn":
            return RollupWithdrawn(*values)
        case "RollupFrozen":
            return RollupFrozen(*values)
        case "ClosedAlone":
            return ClosedAlone(values[0], values[1], values[2], (values[3], values[4]), values[5])
        case "CloseChallenged":
            return CloseChallenged(*values)
    return None


def _read_module(name: str, told: Mapping[str, Any]) -> RollupEvent | None:
    match name:
        case "EntryOrdered":
            parties = Address(told["first"]), Address(told["second"])
            amounts = told["amount0"], told["amount1"]
            entry = QueueEntry(told["kind"], told["leaf"], *parties, *amounts, Address(told["asset"]))
            return EntryOrdered(told["index"], entry, told["due"])
        case "BatchPosted":
            data = unpack_data(told["roots"], told["words"])
            batch = Batch(told["time"], told["queueEnd"], told["accounts"], told["channels"], data)
            return BatchPosted(told["number"], told["serial"], batch)
        case "BatchConvicted":
            return BatchConvicted(told["number"], told["position"], Address(told["by"]))
        case "SignatureDemanded":
            return SignatureDemanded(told["number"], told["position"], Address(told["by"]), told["deadline"])
        case "SignatureShown":
            return SignatureShown(told["number"], told["position"])
        case "RollupWithdrawn":
            return RollupWithdrawn(Address(told["account"]), Address(told["asset"]), told["amount"])
        case "RollupFrozen":
            return RollupFrozen(told["count"])
        case "ClosedAlone":
            seqs = (told["seq0"], told["seq1"])
            return ClosedAlone(ChannelId(told["channel"]), told["leaf"], told["closer"], seqs, told["deadline"])
        case "CloseChallenged":
            channel, numbers = ChannelId(told["channel"]), (told["leaf"], told["sender"], told["seq"])
            return CloseChallenged(channel, *numbers, told["convicts"])
    return None


def _compact(statement: Any, signature: bytes) -> tuple[bytes, int]:
    """Return a signature as the contract takes it (EIP-2098)."""
    odd = with_recovery_id(statement.digest, signature, statement.signer)[64] - 27
    return signature[:32], int.from_bytes(signature[32:], "big") | odd << 255


def compact_proof(signed: SignedProof, by_sender: Statement, by_receiver: Statement) -> bytes:
    """Return a balance proof as the contract takes it: its numbers, and both signatures."""
    signatures = zip((by_sender, by_receiver), (signed.signature, signed.countersignature), strict=True)
    compact = [_compact(statement, signature) for statement, signature in signatures]
    return pack_proof(signed)[:32] + b"".join(r + vs.to_bytes(32, "big") for r, vs in compact)


class RollupFacts(NamedTuple):
    """What a rollup is, and where it stands on its chain."""

    operator: Address
    vault: Address
    """Names it in signatures, and holds its coins."""
    chain_id: int
    bond: int
    window: int
    order_time: int
    answer_time: int
    demand_fee: int
    bonded: int
    batches: int
    """That stand."""
    final: int
    """Of these, the ones that can be convicted no more."""
    queue_length: int
    frozen: int
    deposited: int = 0

    @property
    def terms(self) -> tuple[int, int, int, int, int]:
        """What it was made with: bond, window, an order's time, an answer's, a demand's fee."""
        return self.bond, self.window, self.order_time, self.answer_time, self.demand_fee


TERMS = Signature("terms", (), ("address", *["uint256"] * 5))
"""The contract's view of what it was made with."""

NUMBERS = ("bonded", "count", "final", "queue_length", "frozen", "deposited")
"""The contract's views of where it stands, each a number."""


def read_module_facts(values: Mapping[str, Any]) -> RollupFacts:
    """Return the facts that the module's view `rollup` tells."""
    names = ("operator", "vault", "chainId", "bond", "window", "orderTime", "answerTime", "demandFee", "bonded")
    later = ("count", "finalCount", "queueLength", "frozen")
    facts = [values[name] for name in (*names, *later)]
    if len(facts) != len(names) + len(later):
        raise InvalidInput("this is no rollup")
    return RollupFacts(Address(facts[0]), Address(facts[1]), *facts[2:])
