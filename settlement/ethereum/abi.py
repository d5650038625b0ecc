"""Calls as Ethereum transactions carry them: target, value, and Solidity ABI calldata behind a 4-byte selector.

`encode_call` and `decode_call` are inverse to each other. Names and types below are the contract's Solidity interface,
and `transfer` and `approve` are ERC-20's, so that the same calls can go to an EVM. Source: the Solidity ABI
specification.

- An absent proof (None: genesis) travels as one of zeros with empty signatures.
- An absent voucher travels as the zero address with an empty signature.
- A call that pays in the native coin carries the amount as the transaction's value; every other carries none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
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
    ApproveCall,
    Call,
    ChallengeCall,
    CloseCall,
    CooperativeCloseCall,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterProofCall,
    RegisterSecretCall,
    SettleCall,
    TransferCall,
    WithdrawCall,
)
from tallystick.settlement.errors import Revert, Reverted


class Envelope(NamedTuple):
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


class _CallForm(NamedTuple):
    """How one call looks in Solidity, and what it costs."""

    name: str
    gas: int
    """A fixed figure, close to what such a contract costs on an EVM."""
    types: tuple[str, ...]
    call: Callable[..., Call]
    """Makes the call of a deployment and its decoded arguments."""
    values: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple
    """Returns the arguments of a call."""

    @property
    def selector(self) -> bytes:
        return keccak(f"{self.name}({','.join(self.types)})".encode())[:4]


_PROOF = "((bytes32,uint8,uint64,uint128,uint128,bytes32,uint64),bytes,bytes)"
_LOCKS = "(uint64,uint128,uint64,uint8,bytes32)[]"
TERMS = ("address", "address", "address", "uint64", "uint64", "bytes32")
"""Types of `terms_values`."""
_NO_PROOF = ((ZERO32, 0, 0, 0, 0, ZERO32, 0), b"", b"")


def _proof_values(signed: SignedProof | None) -> tuple[Any, ...]:
    if signed is None:
        return _NO_PROOF
    return msgspec.structs.astuple(signed.proof), signed.signature, signed.countersignature


def _proof(values: tuple[Any, ...]) -> SignedProof | None:
    return None if values == _NO_PROOF else SignedProof(BalanceProof(*values[0]), values[1], values[2])


def terms_values(terms: Terms) -> tuple[Any, ...]:
    """Return the terms as they travel: without chain and contract, which whoever reads them knows."""
    return (*terms.participants, terms.asset, terms.number, terms.challenge_period, terms.close_hash)


def read_terms(at: Deployment, first: Address, second: Address, *others: Any) -> Terms:
    """Return the terms in such values; raise InvalidInput if they are none."""
    return Terms(*at, (first, second), *others)


def _challenge_values(call: ChallengeCall) -> tuple[Any, ...]:
    if call.voucher is None and not call.voucher_signature:
        return (_proof_values(call.proof), NATIVE, b"")
    if call.voucher is None or call.voucher.channel != call.proof.proof.channel or call.voucher.beneficiary == NATIVE:
        raise InvalidInput("a challenge's voucher must be for the same channel, name a beneficiary, and be signed")
    return (_proof_values(call.proof), call.voucher.beneficiary, call.voucher_signature)


def _challenge(at: Deployment, proof: tuple[Any, ...], beneficiary: Address, signature: bytes) -> ChallengeCall:
    signed = SignedProof(BalanceProof(*proof[0]), proof[1], proof[2])
    if beneficiary == NATIVE:
        return ChallengeCall(signed)
    return ChallengeCall(signed, Voucher(signed.proof.channel, beneficiary), signature)


FORMS: dict[type[Any], _CallForm] = {
    OpenCall: _CallForm(
        "open",
        180_000,
        (*TERMS, "uint128"),
        lambda at, *values: OpenCall(read_terms(at, *values[:-1]), values[-1]),
        lambda call: (*terms_values(call.terms), call.deposit),
    ),
    DepositCall: _CallForm(
        "deposit", 70_000, ("bytes32", "uint8", "uint128", "address"), lambda at, *values: DepositCall(*values)
    ),
    WithdrawCall: _CallForm(
        "withdraw",
        90_000,
        ("(bytes32,uint8,uint128,uint64)", "bytes", "bytes"),
        lambda at, offer, first, second: WithdrawCall(Withdrawal(*offer), first, second),
        lambda call: (msgspec.structs.astuple(call.withdrawal), call.signature0, call.signature1),
    ),
    CooperativeCloseCall: _CallForm(
        "cooperativeClose",
        100_000,
        ("(bytes32,uint128,uint128,uint64)", "bytes", "bytes"),
        lambda at, offer, first, second: CooperativeCloseCall(CooperativeClose(*offer), first, second),
        lambda call: (msgspec.structs.astuple(call.close), call.signature0, call.signature1),
    ),
    CloseCall: _CallForm(
        "close",
        200_000,
        ("bytes32", _PROOF, _PROOF, "bytes32"),
        lambda at, channel, first, second, key: CloseCall(channel, _proof(first), _proof(second), key),
        lambda call: (call.channel, _proof_values(call.proof0), _proof_values(call.proof1), call.close_key),
    ),
    ChallengeCall: _CallForm("challenge", 110_000, (_PROOF, "address", "bytes"), _challenge, _challenge_values),
    SettleCall: _CallForm("settle", 90_000, ("bytes32",), lambda at, channel: SettleCall(channel)),
    RedeemCall: _CallForm(
        "redeem",
        60_000,
        ("bytes32", "uint8", _LOCKS),
        lambda at, channel, sender, locks: RedeemCall(channel, sender, tuple(Lock(*lock) for lock in locks)),
        lambda call: (call.channel, call.sender, [msgspec.structs.astuple(lock) for lock in call.locks]),
    ),
    RegisterSecretCall: _CallForm(
        "registerSecret", 48_000, ("bytes32",), lambda at, secret: RegisterSecretCall(secret)
    ),
    RegisterLinkCall: _CallForm(
        "registerLink",
        60_000,
        ("bytes32", "uint64", "bytes32", "uint128", "uint64", "uint64"),
        lambda at, *values: RegisterLinkCall(*values),
    ),
    RegisterProofCall: _CallForm(
        "registerProof", 60_000, ("uint8", "bytes32", "bytes"), lambda at, *values: RegisterProofCall(*values)
    ),
}
_TRANSFER = keccak(b"transfer(address,uint256)")[:4]
_APPROVE = keccak(b"approve(address,uint256)")[:4]
_BY_SELECTOR = {form.selector: form for form in FORMS.values()}


def encode_call(call: Call, at: Deployment) -> Envelope:
    """Return what a transaction must carry for `call`; raise InvalidInput if it cannot be written for this contract."""
    if isinstance(call, OpenCall) and Deployment(call.terms.chain_id, call.terms.contract) != at:
        raise InvalidInput("the channel's terms name another chain or contract than the one that is called")
    if isinstance(call, (TransferCall, ApproveCall)):
        return _encode_asset_call(call, at)
    form = FORMS[type(call)]
    values = form.values(call)
    if not all(len(value) == 32 for kind, value in zip(form.types, values, strict=True) if kind == "bytes32"):
        raise InvalidInput("channel ids, close keys, secrets and links have 32 bytes")
    try:
        data = form.selector + encode(form.types, values)
    except EncodingError as error:
        raise InvalidInput(f"this call cannot be written as a transaction: {error}") from error
    return Envelope(at.contract, _value_of(call), data)


def _encode_asset_call(call: TransferCall | ApproveCall, at: Deployment) -> Envelope:
    if not 0 <= call.amount <= AMOUNT_MAX:
        raise InvalidInput(f"an amount must be from 0 to 2**128 - 1, not {call.amount}")
    if isinstance(call, TransferCall):
        if call.asset == NATIVE:
            return Envelope(call.to, call.amount, b"")
        return Envelope(call.asset, 0, _TRANSFER + encode(("address", "uint256"), (call.to, call.amount)))
    if call.asset == NATIVE:
        raise InvalidInput("the native coin needs no approval; approve tokens only")
    return Envelope(call.asset, 0, _APPROVE + encode(("address", "uint256"), (at.contract, call.amount)))


def decode_call(envelope: Envelope, at: Deployment) -> Call:
    """Return the call that a transaction carries; raise Reverted if it is none that this ledger knows."""
    if envelope.to == at.contract:
        call = _decode_contract_call(envelope.data, at)
    elif not envelope.data:
        call = TransferCall(NATIVE, envelope.to, envelope.value)
    else:
        call = _decode_token_call(envelope, at)
    if envelope.value != _value_of(call):
        raise Reverted(Revert.BAD_AMOUNT, f"this call must carry a value of {_value_of(call)}, not {envelope.value}")
    return call


def _decode_contract_call(data: bytes, at: Deployment) -> Call:
    form = _BY_SELECTOR.get(data[:4])
    if form is None:
        raise Reverted(Revert.UNKNOWN_CALL, f"the adjudicator has no function 0x{data[:4].hex()}")
    values = _decode(form.types, data[4:])
    try:
        return form.call(at, *values)
    except InvalidInput as error:
        raise Reverted(Revert.BAD_TERMS, str(error)) from error


def _decode_token_call(envelope: Envelope, at: Deployment) -> Call:
    selector = envelope.data[:4]
    if selector not in (_TRANSFER, _APPROVE):
        raise Reverted(Revert.UNKNOWN_CALL, f"a token has no function 0x{selector.hex()} on this ledger")
    account, amount = _decode(("address", "uint256"), envelope.data[4:])
    if selector == _TRANSFER:
        return TransferCall(envelope.to, account, amount)
    if account != at.contract:
        raise Reverted(Revert.UNKNOWN_CALL, "on this ledger only the adjudicator can be approved")
    return ApproveCall(envelope.to, min(amount, AMOUNT_MAX))


def _decode(types: tuple[str, ...], data: bytes) -> tuple[Any, ...]:
    try:
        return decode_values(types, data)
    except InvalidInput as error:
        raise Reverted(Revert.UNKNOWN_CALL, f"the arguments of this call cannot be read: {error}") from error


def decode_values(types: tuple[str, ...], data: bytes) -> tuple[Any, ...]:
    """Return the values in ABI-encoded data, addresses as their 20 bytes; raise InvalidInput if it cannot be read."""
    try:
        found = decode(types, data)
    except (DecodingError, OverflowError, ValueError, RecursionError) as error:
        raise InvalidInput(str(error)) from error
    return tuple(
        Address(bytes.fromhex(value[2:])) if kind == "address" else value
        for kind, value in zip(types, found, strict=True)
    )


def _value_of(call: Call) -> int:
    """Return how much native coin must travel with the call."""
    match call:
        case OpenCall(terms, deposit) if terms.asset == NATIVE:
            return deposit
        case DepositCall(asset=asset, amount=amount) | TransferCall(asset=asset, amount=amount) if asset == NATIVE:
            return amount
        case _:
            return 0
