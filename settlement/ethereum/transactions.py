"""Signed transactions: real Ethereum ones of EIP-1559's type 2, signed by eth-account, decoded with suspicion.

The base fee of the simulated ledger is zero, so a transaction pays its priority fee; `sign_call` sets both fees to one
price. Only the one form that `sign_call` makes is taken: canonical RLP, no access list, low s (EIP-2).
Sources: EIP-2718, EIP-1559, EIP-2.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.channels.apps.table import APPS
from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.channels.limits import AMOUNT_MAX, LOCKS_MAX, STREAM_LENGTH_MAX, UINT64_MAX
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.keys import HALF_ORDER, PrivateKey, keccak, recover
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import (
    ApproveCall,
    BatchCall,
    Call,
    ModuleCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterProofCall,
    SingleCall,
    TransferCall,
)
from tallystick.settlement.errors import Refusal, Reverted, TransactionRefused
from tallystick.settlement.ethereum.abi import (
    FORMS,
    Deployment,
    Envelope,
    decode_single,
    encode_call,
    read_batch,
)
from tallystick.settlement.ethereum.fast_fields import TYPE, TransactionFields, read_fields
from tallystick.settlement.ethereum.rlp_items import decode_item, encode_item
from tallystick.settlement.modules.table import MODULES, MODULES_AT
from tallystick.settlement.port import ChainFigures, Each, Tariff

TRANSACTION_MAX = 131_072
"""Bytes of one raw transaction. A redeem of LOCKS_MAX locks takes about 78,000."""

OUTBOX = Address(keccak(b"tallystick: the outbox of a shard")[12:])
"""Where a transaction goes that sends coins from one shard to another."""

OUTBOX_GAS = 90_000
"""Gas of that: of a transfer, and of the receipt, which is executed for nothing where it comes to."""

BASE_GAS = 21_000
"""Gas of a plain transfer, and of a call that nobody understands."""

LOCK_GAS = 9_000
"""Gas that each lock adds to a redeem."""

LINK_GAS = 200
"""Gas of each step from a registered link to its stream's tip: one call of the sha256 precompile, in a loop."""

PROOF_GAS = 50
"""Gas of each byte of a proof of any other kind: to be carried, hashed and told."""

BATCH_GAS = 30_000
"""Gas of a batch, besides its calls."""

BATCH_SAVES = 20_000
"""Gas that each call of a batch takes less than alone: it is no transaction of its own."""

GAS: dict[type[Any], int] = {
    **{kind: form.gas for kind, form in FORMS.items()},
    TransferCall: 55_000,
    ApproveCall: 48_000,
    BatchCall: BATCH_GAS,
    ModuleCall: BASE_GAS,
}
"""Gas of each call: fixed figures."""


def app_gas(app: bytes) -> int:
    """Return what is charged for having the rules of an app looked at: nothing if they are unknown."""
    found = APPS.find(app)
    return found.gas if found is not None else 0


TARIFF = Tariff(
    calls=GAS,
    permit=GAS[ApproveCall],
    batched=BATCH_SAVES,
    each={
        RedeemCall: Each("locks", LOCK_GAS),
        RegisterLinkCall: Each("depth", LINK_GAS, most=STREAM_LENGTH_MAX),  # a deeper one is refused before
        RegisterProofCall: Each("proof", PROOF_GAS),
        RegisterStateCall: Each("state", PROOF_GAS),
        CourtMoveCall: Each("state", 2 * PROOF_GAS),
    },
    app_gas=app_gas,
    functions={
        module.address + function.selector: (function.gas, function.gas_per_byte)
        for module in MODULES.values()
        for function in module.functions.values()
    },
)
"""What the simulated ledger charges."""

FIGURES = ChainFigures(tariff=TARIFF)
"""Of a simulated chain, whatever pace it is given: its blocks stand for those of Ethereum."""

_TRANSFER_GAS = GAS[TransferCall]
_FIELDS = 12
_HIGHEST_S = HALF_ORDER.to_bytes(32, "big")


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """A signed transaction, decoded and its signer recovered."""

    raw: bytes
    hash: bytes
    sender: Address
    nonce: int
    price: int
    """Offered per unit of gas."""
    gas: int
    """The most gas that it may use."""
    envelope: Envelope

    @property
    def cost_max(self) -> int:
        """The most native coin that it can take from its sender."""
        return self.gas * self.price + self.envelope.value


def gas_of(call: Call) -> int:
    """Return how much gas the ledger charges for `call`."""
    return TARIFF.gas(call)


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What an envelope asks of the ledger, and what gas the ledger charges for it, understood or not."""

    gas: int
    call: SingleCall | Envelope | Reverted | None = None
    """One call; what leaves for another shard, unread; why it is none that the ledger knows; None: a batch."""
    members: tuple[Reading, ...] = ()
    """Of a batch."""


def read_envelope(envelope: Envelope, at: Deployment) -> Reading:
    """Return what a transaction asks. It depends on nothing else, so that it is read once."""
    if envelope.to == OUTBOX:
        return Reading(OUTBOX_GAS, envelope)
    if not envelope.data and envelope.to != at.contract and envelope.to not in MODULES_AT:  # most: a third of the time
        return read_transfer(envelope)
    try:
        members = read_batch(envelope, at)
        if members is None:
            call = decode_single(envelope, at)
            return Reading(gas_of(call), call)
    except Reverted as error:
        return Reading(BASE_GAS, error.with_traceback(None))
    readings = tuple(read_envelope(each, at) for each in members)
    return Reading(BATCH_GAS + sum(each.gas - BATCH_SAVES for each in readings), None, readings)


def read_transfer(envelope: Envelope) -> Reading:
    """Return what an envelope asks that does nothing but pay coins."""
    return Reading(_TRANSFER_GAS, TransferCall(NATIVE, envelope.to, envelope.value))


def sign_call(key: PrivateKey, chain_id: int, contract: Address, call: Call, nonce: int, fee_price: int) -> bytes:
    """Return the raw transaction by which `key` makes `call` at `fee_price` per unit of gas; may raise InvalidInput."""
    if not (0 <= nonce <= UINT64_MAX and 0 <= fee_price <= AMOUNT_MAX):
        raise InvalidInput(f"nonce {nonce} or fee price {fee_price} is out of range")
    if isinstance(call, RedeemCall) and len(call.locks) > LOCKS_MAX:
        raise InvalidInput(f"a redeem takes at most {LOCKS_MAX} locks")
    envelope = encode_call(call, Deployment(chain_id, contract))
    return sign_envelope(key, chain_id, envelope, nonce, fee_price, fee_price, gas_of(call))


def sign_envelope(
    key: PrivateKey, chain_id: int, envelope: Envelope, nonce: int, cap: int, tip: int, gas: int
) -> bytes:
    """Return a raw transaction: at most `cap` per unit of gas, of that at most `tip` above the base fee."""
    to = {"to": envelope.to, "value": envelope.value, "data": envelope.data}
    return _sign(key, chain_id, to, nonce, cap, tip, gas)


def sign_creation(key: PrivateKey, chain_id: int, code: bytes, nonce: int, cap: int, tip: int, gas: int) -> bytes:
    """Return a raw transaction that puts a contract onto the chain; `code` ends in its constructor's arguments."""
    return _sign(key, chain_id, {"value": 0, "data": code}, nonce, cap, tip, gas)


def _sign(key: PrivateKey, chain_id: int, what: dict[str, Any], nonce: int, cap: int, tip: int, gas: int) -> bytes:
    from tallystick.settlement.ethereum.accounts import Account  # late: it takes a third of a second

    fees = {"maxPriorityFeePerGas": tip, "maxFeePerGas": cap, "gas": gas}
    fields = {"type": 2, "chainId": chain_id, "nonce": nonce, **fees, **what}
    return bytes(Account.sign_transaction(fields, key.reveal()).raw_transaction)


def transaction_hash(raw: bytes) -> bytes:
    """Return the hash by which a transaction is known (32 bytes)."""
    return keccak(raw)


def decode_transaction(raw: bytes, chain_id: int) -> Transaction:
    """Return the transaction of its raw bytes; raise TransactionRefused if they are not a valid one for this chain."""
    found = read_transaction(raw, chain_id)
    try:
        sender = recover(found.digest, found.signature, found.parity)
    except InvalidSignature as error:
        raise TransactionRefused(f"the transaction's signer is unknown: {error}", Refusal.BAD_SIGNATURE) from error
    envelope = Envelope(Address(found.to), found.value, found.data)
    return Transaction(raw, keccak(raw), sender, found.nonce, found.priority, found.gas, envelope)


def read_unsigned(raw: bytes, at: Deployment) -> Reading:
    """Return what a transaction asks, whoever signed it, and if nobody did; raise TransactionRefused."""
    found = read_transaction(raw, at.chain_id)
    return read_envelope(Envelope(Address(found.to), found.value, found.data), at)


def read_transaction(raw: bytes, chain_id: int) -> TransactionFields:
    """Return what a transaction's raw bytes say, whoever signed it; raise TransactionRefused."""
    found = read_fields(raw) if len(raw) <= TRANSACTION_MAX else None
    if found is None:
        return _read_any_fields(raw, chain_id)
    _check_chain(found.chain, chain_id)
    _check_fees(found.priority, found.fee_max)
    _low(found.signature[32:])
    return found


def _read_any_fields(raw: bytes, chain_id: int) -> TransactionFields:
    """Return the fields of any transaction that this ledger takes; raise TransactionRefused with what is wrong."""
    fields = _split(raw)
    chain, nonce, priority, fee_max, gas, value, parity = (_number(fields[i]) for i in (0, 1, 2, 3, 4, 6, 9))
    _check_chain(chain, chain_id)
    if fields[8] or len(fields[5]) != 20:
        raise _malformed("it has an access list or no recipient, which this ledger does not take")
    _check_fees(priority, fee_max)
    if max(nonce, gas) > UINT64_MAX or max(fee_max, value) > AMOUNT_MAX:
        raise _malformed("one of its numbers is too large")
    digest = keccak(TYPE + encode_item(fields[:9]))
    s = _low(_number(fields[11]).to_bytes(32, "big"))
    signature = _number(fields[10]).to_bytes(32, "big") + s
    return TransactionFields(
        chain, nonce, priority, fee_max, gas, fields[5], value, fields[7], parity, signature, digest
    )


def _check_chain(chain: int, expected: int) -> None:
    if chain != expected:
        why = f"the transaction is for chain {chain}, this is chain {expected}"
        raise TransactionRefused(why, Refusal.WRONG_CHAIN)


def _check_fees(priority: int, fee_max: int) -> None:
    if priority > fee_max:
        raise _malformed("its priority fee exceeds its maximal fee")


def _split(raw: bytes) -> list[Any]:
    if len(raw) > TRANSACTION_MAX:
        raise _malformed(f"it is longer than {TRANSACTION_MAX} bytes")
    if raw[:1] != TYPE:
        raise _malformed("it is not of EIP-1559's type 2 (ethers: pass type: 2 and both fees)")
    try:
        fields = decode_item(raw[1:])
    except InvalidInput as error:
        raise _malformed(str(error)) from error
    if not isinstance(fields, list) or len(fields) != _FIELDS:
        raise _malformed(f"it has not {_FIELDS} fields")
    if not all(isinstance(field, list if i == 8 else bytes) for i, field in enumerate(fields)):
        raise _malformed("its fields are not of the right kinds")
    return fields


def _number(field: bytes) -> int:
    if len(field) > 32 or field[:1] == b"\0":
        raise _malformed("one of its numbers is not canonical")
    return int.from_bytes(field, "big")


def _low(s: bytes) -> bytes:
    if s > _HIGHEST_S:
        raise TransactionRefused("the transaction's signature has a high s (EIP-2)", Refusal.BAD_SIGNATURE)
    return s


def _malformed(why: str) -> TransactionRefused:
    return TransactionRefused(f"this is no transaction that the ledger takes: {why}", Refusal.MALFORMED)
