"""Calls, views and errors of the adjudicator on the EVM: what a transaction to it carries. Pure.

contracts/README.md has the interface. It differs from the simulated ledger's (`ethereum.abi`) in what a real chain
makes dear: a channel's terms travel with each call, and what stands of its locks with a settlement, as the contract
keeps hashes alone; signatures are compact (EIP-2098: the recovery id in the top bit of s); proofs and locks are packed
bytes; what is absent is absent, not zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any, TypeAlias

import msgspec

from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.channels.protocol.eip712 import (
    digest_cooperative_close,
    digest_proof,
    digest_voucher,
    digest_withdrawal,
    domain_separator,
)
from tallystick.channels.protocol.keys import keccak, with_recovery_id
from tallystick.channels.protocol.objects import ZERO32, Address, ChannelId, Lock, SignedProof, Terms
from tallystick.settlement.chain import (
    ApproveCall,
    BatchCall,
    Call,
    ChallengeCall,
    ChannelOpened,
    ClaimCall,
    CloseCall,
    CooperativeCloseCall,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterSecretCall,
    SettleCall,
    TransferCall,
    WithdrawCall,
    value_of,
)
from tallystick.settlement.ethereum.abi import (
    Deployment,
    Envelope,
    Signature,
    encode_batch,
    terms_values,
)
from tallystick.settlement.ethereum.abi import encode_call as encode_simple
from tallystick.settlement.ethereum.abi_values import decode_values, encode_values
from tallystick.settlement.ethereum.event_logs import Log, topic_of
from tallystick.settlement.ethereum.evm.court import CourtCall, encode_court_call
from tallystick.settlement.ethereum.evm.permits import Permit
from tallystick.settlement.ethereum.views import CHANNEL

TERMS = "(address,address,address,uint64,uint64,bytes32)"
SIGNATURE = "(bytes32,uint256)"
HELD = "(uint128,bytes32)"

FEW_LOCKS = 32
"""Up to so many locks are redeemed by the cheaper of two functions."""

_OFFER = ("uint128", "uint64", SIGNATURE, SIGNATURE)
_LOCKS = (TERMS, "uint8", "uint128", "bytes")
_OPEN = Signature("open", (TERMS, "uint128"))
_DEPOSIT = Signature("deposit", (TERMS, "uint8", "uint128"))
_PERMIT = "(uint256,uint8,bytes32,bytes32)"
_OPEN_PERMIT = Signature("open", (TERMS, "uint128", _PERMIT))
_DEPOSIT_PERMIT = Signature("deposit", (TERMS, "uint8", "uint128", _PERMIT))
_WITHDRAW = Signature("withdraw", (TERMS, "uint8", *_OFFER))
_COOPERATIVE_CLOSE = Signature("cooperativeClose", (TERMS, "uint128", *_OFFER))
_CLOSE = Signature("close", (TERMS, "bytes", "bytes", "bytes32"))
_CHALLENGE = Signature("challenge", (TERMS, "uint8", "bytes"))
_CHALLENGE_FOR = Signature("challenge", (TERMS, "uint8", "bytes", "address", SIGNATURE))
_SETTLE = Signature("settle", (TERMS,))
_SETTLE_HELD = Signature("settle", (TERMS, HELD, HELD))
_REDEEM, _REDEEM_MANY = Signature("redeem", _LOCKS), Signature("redeemMany", _LOCKS)
_CLAIM = Signature("claim", ("address", "address"))
_REGISTER_SECRET = Signature("registerSecret", ("bytes32",))
_REGISTER_LINK = Signature("registerLink", ("bytes32", "uint64", "bytes32", "uint128", "uint64", "uint64"))

OPENED = topic_of(ChannelOpened)
"""First topic of the logs that tell a channel's terms."""

CALL_FAILED = Signature("CallFailed", ("uint256", "bytes")).hash
"""First topic of the logs that tell of a call of a batch that did nothing."""

LOCKS_HELD = Signature("LocksHeld", ("bytes32", "uint8", "uint128", "bytes32")).hash
"""First topic of the logs that tell what a standing proof says of pending locks."""


class HeldLocks(msgspec.Struct, frozen=True):
    """What a standing proof says of pending locks: the contract keeps the hash of both alone."""

    locked: int = 0
    root: bytes = ZERO32


class ChannelContext(msgspec.Struct, frozen=True):
    """What a call about a channel carries besides what it says itself."""

    terms: Terms
    held: tuple[HeldLocks, HeldLocks] = (HeldLocks(), HeldLocks())
    """Of the proofs that stand for both simplices; only a settlement needs it."""


CallContext: TypeAlias = "ChannelContext | tuple[ChannelContext | None, ...] | None"
"""Of the channel that a call is about, None if it is about none; of a batch, that of each of its calls."""


def encode_evm_call(
    call: Call, at: Deployment, context: CallContext, permit: Permit | None = None, court: Address | None = None
) -> Envelope:
    """Return what a transaction must carry for `call`, with the permit that goes with it, if one does.

    `court`: the chain's court, None if it has none.

    Raise InvalidInput if it cannot be written, as a signature in it is not of who should have signed.
    """
    if isinstance(call, (TransferCall, ApproveCall)):
        return encode_simple(call, at)
    if isinstance(call, CourtCall):
        return encode_court_call(call, at, court)
    if isinstance(call, BatchCall):
        if not isinstance(context, tuple) or len(context) != len(call.calls):
            raise InvalidInput("a batch is written with what each of its calls has to say of its channel")
        return encode_batch([encode_evm_call(*each) for each in zip(call.calls, repeat(at), context, strict=False)], at)
    function, values = _written(call, at, context, permit)
    try:
        return Envelope(at.contract, value_of(call), function.encode_call(*values))
    except InvalidInput as error:
        raise InvalidInput(f"this call cannot be written as a transaction: {error}") from error


def _written(
    call: Call, at: Deployment, context: CallContext, permit: Permit | None
) -> tuple[Signature, tuple[Any, ...]]:
    """Return which function a call of the contract calls, and its arguments; raise InvalidInput."""
    if isinstance(call, OpenCall):
        if Deployment(call.terms.chain_id, call.terms.contract) != at:
            raise InvalidInput("the channel's terms name another chain or contract than the one that is called")
        first = terms_values(call.terms), call.deposit
        return (_OPEN, first) if permit is None else (_OPEN_PERMIT, (*first, permit))
    if isinstance(call, RegisterSecretCall):
        return _REGISTER_SECRET, (call.secret,)
    if isinstance(call, ClaimCall):
        return _CLAIM, (call.asset, call.to)
    if isinstance(call, RegisterLinkCall):
        return _REGISTER_LINK, msgspec.structs.astuple(call)
    if not isinstance(context, ChannelContext):
        raise InvalidInput(f"the contract takes no {type(call).__name__}, or not without its channel's terms")
    try:
        function, values = _of_channel(call, context, domain_separator(*at))
    except InvalidSignature as error:
        raise InvalidInput(f"this call cannot be written as a transaction: {error}") from error
    if isinstance(call, DepositCall) and permit is not None:
        return _DEPOSIT_PERMIT, (*values, permit)
    return function, values


def _of_channel(call: Call, context: ChannelContext, domain: bytes) -> tuple[Signature, tuple[Any, ...]]:
    """Return which function a call about a channel calls, and its arguments."""
    terms = context.terms
    first = terms_values(terms)
    match call:
        case DepositCall(_, side, amount, asset):
            if asset != terms.asset:
                raise InvalidInput("a deposit must be in the channel's asset")
            return _DEPOSIT, (first, side, amount)
        case WithdrawCall(withdrawal, by0, by1):
            signed = _both(digest_withdrawal(domain, withdrawal), (by0, by1), terms)
            return _WITHDRAW, (first, withdrawal.participant, withdrawal.total, withdrawal.valid_until, *signed)
        case CooperativeCloseCall(close, by0, by1):
            signed = _both(digest_cooperative_close(domain, close), (by0, by1), terms)
            return _COOPERATIVE_CLOSE, (first, close.balance0, close.balance1, close.valid_until, *signed)
        case CloseCall(_, proof0, proof1, close_key):
            proofs = [b"" if each is None else pack_proof(each, terms, domain) for each in (proof0, proof1)]
            return _CLOSE, (first, *proofs, close_key)
        case ChallengeCall(proof, None):
            return _CHALLENGE, (first, proof.proof.sender, pack_proof(proof, terms, domain))
        case ChallengeCall(proof, voucher, signature) if voucher is not None:
            by = _of_either(digest_voucher(domain, voucher), signature, terms)
            packed = pack_proof(proof, terms, domain)
            return _CHALLENGE_FOR, (first, proof.proof.sender, packed, voucher.beneficiary, by)
        case SettleCall():
            if context.held == (HeldLocks(), HeldLocks()):
                return _SETTLE, (first,)
            return _SETTLE_HELD, (first, *((each.locked, each.root) for each in context.held))
        case RedeemCall(_, sender, locks):
            function = _REDEEM if len(locks) <= FEW_LOCKS else _REDEEM_MANY
            return function, (first, sender, context.held[sender].locked, b"".join(map(pack_lock, locks)))
    raise InvalidInput(f"the contract takes no {type(call).__name__}")


def compact(digest: bytes, signature: bytes, signer: Address) -> tuple[bytes, int]:
    """Return a signature of 64 bytes as EIP-2098 writes it; raise InvalidSignature if it is not the signer's."""
    full = with_recovery_id(digest, signature, signer)
    return full[:32], int.from_bytes(full[32:64], "big") | (full[64] - 27) << 255


def _both(digest: bytes, signatures: Sequence[bytes], terms: Terms) -> list[tuple[bytes, int]]:
    return [compact(digest, each, signer) for each, signer in zip(signatures, terms.participants, strict=True)]


def _of_either(digest: bytes, signature: bytes, terms: Terms) -> tuple[bytes, int]:
    try:
        return compact(digest, signature, terms.participants[0])
    except InvalidSignature:
        return compact(digest, signature, terms.participants[1])


def pack_lock(lock: Lock) -> bytes:
    """Return a lock as `redeem` takes it: id (8 bytes), amount (16), expiry (8), kind (1), condition (32)."""
    amount, times = lock.amount.to_bytes(16, "big"), lock.expiry.to_bytes(8, "big")
    return lock.id.to_bytes(8, "big") + amount + times + bytes([lock.kind]) + lock.condition


def pack_proof(signed: SignedProof, terms: Terms, domain: bytes) -> bytes:
    """Return a proof as the contract takes it; raise InvalidSignature.

    seq (8 bytes), seen (8), transferred (16), the signatures of sender and receiver (64 each), and if there are locks,
    `locked` (16) and their root (32).
    """
    proof, sender = signed.proof, signed.proof.sender
    digest = digest_proof(domain, proof)
    parts = [proof.seq.to_bytes(8, "big"), proof.seen.to_bytes(8, "big"), proof.transferred.to_bytes(16, "big")]
    for signature, side in ((signed.signature, sender), (signed.countersignature, 1 - sender)):
        r, vs = compact(digest, signature, terms.participants[side])
        parts += [r, vs.to_bytes(32, "big")]
    if proof.locked or proof.locks_root != ZERO32:
        parts += [proof.locked.to_bytes(16, "big"), proof.locks_root]
    return b"".join(parts)


# --- the contract's state ----------------------------------------------------------------------------------------

CHANNEL_OF_TERMS = Signature("channel", (TERMS,), CHANNEL.results)
DOMAIN_SEPARATOR = Signature("domainSeparator", (), ("bytes32",))
REWARD_BPS = Signature("rewardBps", (), ("uint256",))


def held_hash(held: HeldLocks) -> bytes:
    """Return what the contract keeps of the locks of a standing proof: zeros if there are none."""
    if held == HeldLocks():
        return ZERO32
    return keccak(encode_values(("uint128", "bytes32"), (held.locked, held.root)))


def encode_held(channel: ChannelId, sender: int, held: HeldLocks) -> Log:
    """Return the log `LocksHeld` of a channel's simplex."""
    return Log((LOCKS_HELD, channel), encode_values(("uint8", "uint128", "bytes32"), (sender, held.locked, held.root)))


def read_held(log: Log) -> tuple[int, HeldLocks]:
    """Return whose simplex a log `LocksHeld` is of, and what it says; raise InvalidInput."""
    sender, locked, root = decode_values(("uint8", "uint128", "bytes32"), log.data)
    if sender > 1:
        raise InvalidInput("a log of held locks is of side 0 or 1")
    return sender, HeldLocks(locked, root)
