"""Calls as Ethereum transactions carry them: target, value, and Solidity ABI calldata behind a 4-byte selector.

`encode_call` and `decode_call` are inverse to each other. Names and types below are the contract's Solidity interface,
and `transfer` and `approve` are ERC-20's, so that the same calls can go to an EVM. Source: the Solidity ABI
specification.

- An absent proof (None: genesis) travels as one of zeros with empty signatures.
- An absent voucher travels as the zero address with an empty signature.
- A call that pays in the native coin carries the amount as the transaction's value; every other carries none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.apps import AppTerms
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import (
    NATIVE,
    ZERO32,
    Address,
    BalanceProof,
    CooperativeClose,
    Lock,
    SignedProof,
    Terms,
    Voucher,
    Withdrawal,
)
from tallystick.settlement.chain import (
    BATCH_MAX,
    BATCHED_SIZE,
    ApproveCall,
    BatchCall,
    Call,
    ChallengeCall,
    ClaimCall,
    CloseCall,
    CooperativeCloseCall,
    DepositCall,
    ModuleCall,
    OpenCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterProofCall,
    RegisterSecretCall,
    SettleCall,
    SingleCall,
    TransferCall,
    WithdrawCall,
    value_of,
)
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.abi_values import decode_values, encode_values
from tallystick.settlement.modules.table import MODULES_AT, find_function


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What of a transaction says what it does."""

    to: Address
    value: int
    data: bytes


class Deployment(NamedTuple):
    """Which adjudicator on which chain."""

    chain_id: int
    contract: Address

    def __str__(self) -> str:
        return f"chain {self.chain_id} with the adjudicator 0x{self.contract.hex()}"


class Signature(NamedTuple):
    """A function or an event of a contract, as Solidity names it."""

    name: str
    arguments: tuple[str, ...]
    """Types of what a function takes, or an event tells."""
    results: tuple[str, ...] = ()
    """Types of what a function returns."""

    @property
    def hash(self) -> bytes:
        """The first topic of an event; its first four bytes are a function's selector."""
        return keccak(f"{self.name}({','.join(self.arguments)})".encode())

    @property
    def selector(self) -> bytes:
        """The first four bytes of its calldata."""
        return self.hash[:4]

    def encode_call(self, *values: Any) -> bytes:
        """Return the calldata; raise InvalidInput if these are no values of its arguments."""
        return self.selector + encode_values(self.arguments, values)

    def decode_call(self, data: bytes) -> tuple[Any, ...]:
        """Return the arguments in calldata; raise InvalidInput if they cannot be read."""
        return self._decode(self.arguments, data[4:])

    def encode_result(self, *values: Any) -> bytes:
        """Return what it answers."""
        return encode_values(self.results, values)

    def decode_result(self, data: bytes) -> tuple[Any, ...]:
        """Return what it answered; raise InvalidInput if it cannot be read."""
        return self._decode(self.results, data)

    def _decode(self, types: tuple[str, ...], data: bytes) -> tuple[Any, ...]:
        try:
            return decode_values(types, data)
        except InvalidInput as error:
            raise InvalidInput(f"this is not what {self.name} takes or answers: {error}") from error


_PROOF = "((bytes32,uint8,uint64,uint128,uint128,bytes32,uint64),bytes,bytes)"
_NO_PROOF = ((ZERO32, 0, 0, 0, 0, ZERO32, 0), b"", b"")
_WITHDRAWAL = "(bytes32,uint8,uint128,uint64)"
_COOPERATIVE_CLOSE = "(bytes32,uint128,uint128,uint64)"
_LOCKS = "(uint64,uint128,uint64,uint8,bytes32)[]"
APP_TERMS = "(bytes32,bytes32,address,address,uint128,uint128,address,address,uint64,uint64,uint64)"
TERMS = ("address", "address", "address", "uint64", "uint64", "bytes32")
"""Types of `terms_values`."""


def _read_proof(values: tuple[Any, ...]) -> SignedProof:
    return SignedProof(BalanceProof(*values[0]), values[1], values[2])


_READERS: dict[str, Callable[[Any], Any]] = {
    _PROOF: lambda values: None if values == _NO_PROOF else _read_proof(values),
    _WITHDRAWAL: lambda values: Withdrawal(*values),
    _COOPERATIVE_CLOSE: lambda values: CooperativeClose(*values),
    _LOCKS: lambda locks: tuple(Lock(*values) for values in locks),
}
"""What is made of arguments of these types; all others are what they are."""


def _written(value: Any) -> Any:
    """Return a field of a call as an argument: structs as tuples."""
    match value:
        case None:
            return _NO_PROOF
        case msgspec.Struct():
            return tuple(_written(field) for field in msgspec.structs.astuple(value))
        case tuple():
            return [_written(each) for each in value]
        case _:
            return value


def terms_values(terms: Terms) -> tuple[Any, ...]:
    """Return the terms as they travel: without chain and contract, which whoever reads them knows."""
    return (*terms.participants, terms.asset, terms.number, terms.challenge_period, terms.close_hash)


def read_terms(at: Deployment, first: Address, second: Address, *others: Any) -> Terms:
    """Return the terms in such values; raise InvalidInput if they are none."""
    return Terms(*at, (first, second), *others)


def _challenge_values(call: ChallengeCall) -> tuple[Any, ...]:
    if call.voucher is None and not call.voucher_signature:
        return call.proof, NATIVE, b""
    if call.voucher is None or call.voucher.channel != call.proof.proof.channel or call.voucher.beneficiary == NATIVE:
        raise InvalidInput("a challenge's voucher must be for the same channel, name a beneficiary, and be signed")
    return call.proof, call.voucher.beneficiary, call.voucher_signature


def _challenge(at: Deployment, proof: SignedProof | None, beneficiary: Address, signature: bytes) -> ChallengeCall:
    signed = proof or _read_proof(_NO_PROOF)
    if beneficiary == NATIVE:
        return ChallengeCall(signed)
    return ChallengeCall(signed, Voucher(signed.proof.channel, beneficiary), signature)


def _app_terms_values(terms: AppTerms) -> tuple[Any, ...]:
    """Return the terms of an app's instance as they travel: without chain and contract."""
    others = (*terms.players, *terms.stakes, *terms.assets, terms.expiry, terms.period, terms.nonce)
    return (terms.app, terms.start, *others)


def _read_app_terms(at: Deployment, values: tuple[Any, ...]) -> AppTerms:
    """Return the terms in such values; raise InvalidInput if they are none."""
    app, start, player0, player1, stake0, stake1, asset0, asset1, *times = values
    return AppTerms(*at, app, start, (player0, player1), (stake0, stake1), (asset0, asset1), *times)


class _CallForm(NamedTuple):
    """How one call looks in Solidity, and what it costs."""

    name: str
    gas: int
    """A fixed figure, close to what such a contract costs on an EVM."""
    types: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple
    """Returns what its arguments are written from."""
    call: Callable[..., SingleCall] | None = None
    """Makes the call of a deployment and its arguments; None: these are its fields."""

    @property
    def signature(self) -> Signature:
        return Signature(self.name, self.types)


FORMS: dict[type[Any], _CallForm] = {
    OpenCall: _CallForm(
        "open",
        180_000,
        (*TERMS, "uint128"),
        lambda call: (*terms_values(call.terms), call.deposit),
        lambda at, *values: OpenCall(read_terms(at, *values[:-1]), values[-1]),
    ),
    DepositCall: _CallForm(
        "deposit",
        70_000,
        ("bytes32", "uint8", "uint128", "address"),
        lambda call: (call.channel, call.side, call.amount, call.asset),
    ),
    WithdrawCall: _CallForm("withdraw", 90_000, (_WITHDRAWAL, "bytes", "bytes")),
    CooperativeCloseCall: _CallForm("cooperativeClose", 100_000, (_COOPERATIVE_CLOSE, "bytes", "bytes")),
    CloseCall: _CallForm("close", 200_000, ("bytes32", _PROOF, _PROOF, "bytes32")),
    ChallengeCall: _CallForm("challenge", 110_000, (_PROOF, "address", "bytes"), _challenge_values, _challenge),
    SettleCall: _CallForm("settle", 90_000, ("bytes32",)),
    RedeemCall: _CallForm("redeem", 60_000, ("bytes32", "uint8", _LOCKS)),
    RegisterSecretCall: _CallForm("registerSecret", 48_000, ("bytes32",)),
    RegisterLinkCall: _CallForm(
        "registerLink", 60_000, ("bytes32", "uint64", "bytes32", "uint128", "uint64", "uint64")
    ),
    RegisterProofCall: _CallForm("registerProof", 60_000, ("uint8", "bytes32", "bytes")),
    RegisterStateCall: _CallForm(
        "registerState",
        90_000,
        (APP_TERMS, "uint64", "bytes", "bytes", "bytes"),
        lambda call: (_app_terms_values(call.terms), call.number, call.state, *call.signatures),
        lambda at, terms, number, state, *signed: RegisterStateCall(_read_app_terms(at, terms), number, state, signed),
    ),
    CourtMoveCall: _CallForm(
        "moveInCourt",
        90_000,
        (APP_TERMS, "bytes", "bytes", "bytes"),
        lambda call: (_app_terms_values(call.terms), call.state, call.move, call.signature),
        lambda at, terms, *others: CourtMoveCall(_read_app_terms(at, terms), *others),
    ),
    ClaimCall: _CallForm("claim", 60_000, ("address", "address")),
}
BATCH = Signature("batch", ("bytes[]",))
_TRANSFER = Signature("transfer", ("address", "uint256"))
_APPROVE = Signature("approve", ("address", "uint256"))
_BY_SELECTOR = {form.signature.selector: (kind, form) for kind, form in FORMS.items()}


def encode_call(call: Call, at: Deployment) -> Envelope:
    """Return what a transaction must carry for `call`; raise InvalidInput if it cannot be written for this contract."""
    if isinstance(call, OpenCall | RegisterStateCall | CourtMoveCall):
        named = Deployment(call.terms.chain_id, call.terms.contract)
        if named != at:
            raise InvalidInput(f"the terms name {named}, and it is {at} that is called")
    if isinstance(call, (TransferCall, ApproveCall)):
        return _encode_asset_call(call, at)
    if isinstance(call, BatchCall):
        return encode_batch([encode_call(each, at) for each in call.calls], at)
    if isinstance(call, ModuleCall):
        if call.module not in MODULES_AT or not 0 <= call.value <= AMOUNT_MAX:
            raise InvalidInput(f"there is no module at 0x{call.module.hex()}, or the value is no amount")
        return Envelope(call.module, call.value, call.data)
    if isinstance(call, OpenCall | DepositCall) and call.permit:
        raise InvalidInput("no token of this ledger takes permits")
    form = FORMS[type(call)]
    values = _written(form.values(call))
    if not all(len(value) == 32 for kind, value in zip(form.types, values, strict=True) if kind == "bytes32"):
        raise InvalidInput("channel ids, close keys, secrets and links have 32 bytes")
    try:
        data = form.signature.encode_call(*values)
    except InvalidInput as error:
        raise InvalidInput(f"this call cannot be written as a transaction: {error}") from error
    return Envelope(at.contract, value_of(call), data)


def encode_batch(members: Sequence[Envelope], at: Deployment) -> Envelope:
    """Return what a transaction must carry to make these calls of the contract; raise InvalidInput if it cannot."""
    if not 0 < len(members) <= BATCH_MAX:
        raise InvalidInput(f"a batch holds from 1 to {BATCH_MAX} calls, not {len(members)}")
    if any(each.to != at.contract or each.value or len(each.data) > BATCHED_SIZE for each in members):
        raise InvalidInput(f"a batch holds calls of the contract, without coins, of up to {BATCHED_SIZE} bytes each")
    return Envelope(at.contract, 0, BATCH.encode_call([each.data for each in members]))


def read_batch(envelope: Envelope, at: Deployment) -> tuple[Envelope, ...] | None:
    """Return the calls of a batch as transactions would carry them, None if it is none; raise Reverted if it is bad."""
    if envelope.to != at.contract or envelope.data[:4] != BATCH.selector:
        return None
    if envelope.value:
        raise Reverted(Revert.BAD_AMOUNT, "a batch must carry no coins")
    if _count(envelope.data[4:]) > BATCH_MAX:  # before they are read: many may be said to be the same large one
        raise Reverted(Revert.UNKNOWN_CALL, f"a batch holds up to {BATCH_MAX} calls")
    (calls,) = _decode(BATCH, envelope.data)
    if any(len(data) > BATCHED_SIZE for data in calls):
        raise Reverted(Revert.UNKNOWN_CALL, f"a batch holds calls of up to {BATCHED_SIZE} bytes each")
    return tuple(Envelope(at.contract, 0, data) for data in calls)


def _count(arguments: bytes) -> int:
    """Return how many entries the only argument, an array, is said to have."""
    at = int.from_bytes(arguments[:32], "big")
    return int.from_bytes(arguments[at : at + 32], "big")


def _encode_asset_call(call: TransferCall | ApproveCall, at: Deployment) -> Envelope:
    if not 0 <= call.amount <= AMOUNT_MAX:
        raise InvalidInput(f"an amount must be from 0 to 2**128 - 1, not {call.amount}")
    if isinstance(call, TransferCall):
        if call.asset == NATIVE:
            return Envelope(call.to, call.amount, b"")
        return Envelope(call.asset, 0, _TRANSFER.encode_call(call.to, call.amount))
    if call.asset == NATIVE:
        raise InvalidInput("the native coin needs no approval; approve tokens only")
    return Envelope(call.asset, 0, _APPROVE.encode_call(at.contract, call.amount))


def decode_call(envelope: Envelope, at: Deployment) -> Call:
    """Return the call that a transaction carries; raise Reverted if it is none that this ledger knows."""
    members = read_batch(envelope, at)
    return decode_single(envelope, at) if members is None else BatchCall(tuple(decode_single(e, at) for e in members))


def decode_single(envelope: Envelope, at: Deployment) -> SingleCall:
    """Return the same of one that is no batch."""
    if envelope.to == at.contract:
        call: SingleCall = _decode_contract_call(envelope.data, at)
    elif envelope.to in MODULES_AT:
        call = _decode_module_call(envelope)
    elif not envelope.data:
        call = TransferCall(NATIVE, envelope.to, envelope.value)
    else:
        call = _decode_token_call(envelope, at)
    if envelope.value != value_of(call):
        raise Reverted(Revert.BAD_AMOUNT, f"this call must carry a value of {value_of(call)}, not {envelope.value}")
    return call


def _decode_contract_call(data: bytes, at: Deployment) -> SingleCall:
    found = _BY_SELECTOR.get(data[:4])
    if found is None:
        raise Reverted(Revert.UNKNOWN_CALL, f"the adjudicator has no function 0x{data[:4].hex()}")
    kind, form = found
    arguments = zip(form.types, _decode(form.signature, data), strict=True)
    try:
        fields = [_READERS[type](value) if type in _READERS else value for type, value in arguments]
        return form.call(at, *fields) if form.call else kind(*fields)
    except InvalidInput as error:
        raise Reverted(Revert.BAD_TERMS, str(error)) from error


def _decode_module_call(envelope: Envelope) -> ModuleCall:
    function = find_function(envelope.to, envelope.data)
    if function is None or function.is_view:
        name = MODULES_AT[envelope.to].name
        raise Reverted(
            Revert.UNKNOWN_CALL, f"the {name} has no function 0x{envelope.data[:4].hex()} that a transaction can call"
        )
    return ModuleCall(envelope.to, envelope.data, envelope.value)


def _decode_token_call(envelope: Envelope, at: Deployment) -> SingleCall:
    selector = envelope.data[:4]
    if selector not in (_TRANSFER.selector, _APPROVE.selector):
        raise Reverted(Revert.UNKNOWN_CALL, f"a token has no function 0x{selector.hex()} on this ledger")
    account, amount = _decode(_TRANSFER, envelope.data)
    if selector == _TRANSFER.selector:
        return TransferCall(envelope.to, account, amount)
    if account != at.contract:
        raise Reverted(Revert.UNKNOWN_CALL, "on this ledger only the adjudicator can be approved")
    return ApproveCall(envelope.to, min(amount, AMOUNT_MAX))


def _decode(function: Signature, data: bytes) -> tuple[Any, ...]:
    try:
        return decode_values(function.arguments, data[4:])
    except InvalidInput as error:
        raise Reverted(Revert.UNKNOWN_CALL, f"the arguments of this call cannot be read: {error}") from error
