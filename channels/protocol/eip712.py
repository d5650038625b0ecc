"""Digests of everything that is signed, as EIP-712 typed data, packed by hand (2 keccaks, about 2 µs).

The domain is {name: "Tallystick", version: "1", chainId, verifyingContract}. A property test keeps each digest
equal to eth-account's for every input; TYPES is the description that wallets and that test take.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import (
    ZERO32,
    Address,
    BalanceProof,
    ChannelId,
    CooperativeClose,
    Lock,
    Terms,
    Voucher,
    Withdrawal,
)

_SIGNED = {
    "BalanceProof": (
        "bytes32 channel,uint8 sender,uint64 seq,uint128 transferred,uint128 locked,bytes32 locksRoot,uint64 seen"
    ),
    "CooperativeClose": "bytes32 channel,uint128 balance0,uint128 balance1,uint64 validUntil",
    "Withdrawal": "bytes32 channel,uint8 participant,uint128 total,uint64 validUntil",
    "Voucher": "bytes32 channel,address beneficiary",
    "AppState": "bytes32 instance,uint64 number,bytes32 state",
    "AppOutcome": "bytes32 instance,uint128 paid0,uint128 paid1",
    "VirtualOutcome": "bytes32 channel,uint128 paid0,uint128 paid1,uint128 settled0,uint128 settled1",
}

TYPES: dict[str, list[dict[str, str]]] = {
    name: [dict(zip(("type", "name"), field.split(), strict=True)) for field in fields.split(",")]
    for name, fields in _SIGNED.items()
}


_DOMAIN_TYPE = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_NAME = keccak(b"Tallystick")
_VERSION = keccak(b"1")


def type_hash(name: str) -> bytes:
    """Return the hash (32 bytes) of one of the types that are signed."""
    return keccak(f"{name}({_SIGNED[name]})".encode())


_BALANCE_PROOF, _COOPERATIVE_CLOSE, _WITHDRAWAL, _VOUCHER = map(
    type_hash, ("BalanceProof", "CooperativeClose", "Withdrawal", "Voucher")
)


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


@lru_cache(maxsize=64)
def domain_separator(chain_id: int, contract: Address) -> bytes:
    """Return the EIP-712 domain separator (32 bytes) of the adjudicator `contract` on chain `chain_id`."""
    return keccak(_DOMAIN_TYPE + _NAME + _VERSION + _word(chain_id) + bytes(12) + contract)


def digest_of_struct(domain: bytes, struct: bytes) -> bytes:
    """Return the digest (32 bytes) of a struct that is encoded already: its type's hash, and a word for each field."""
    return keccak(b"\x19\x01" + domain + keccak(struct))


def digest_proof(domain: bytes, proof: BalanceProof) -> bytes:
    """Return the digest (32 bytes) that both parties sign for a balance proof."""
    fields = (
        _BALANCE_PROOF,
        proof.channel,
        proof.sender.to_bytes(32, "big"),
        proof.seq.to_bytes(32, "big"),
        proof.transferred.to_bytes(32, "big"),
        proof.locked.to_bytes(32, "big"),
        proof.locks_root,
        proof.seen.to_bytes(32, "big"),
    )
    return digest_of_struct(domain, b"".join(fields))


def digest_cooperative_close(domain: bytes, close: CooperativeClose) -> bytes:
    """Return the digest (32 bytes) that both parties sign for a cooperative close."""
    fields = _word(close.balance0) + _word(close.balance1) + _word(close.valid_until)
    return digest_of_struct(domain, _COOPERATIVE_CLOSE + close.channel + fields)


def digest_withdrawal(domain: bytes, withdrawal: Withdrawal) -> bytes:
    """Return the digest (32 bytes) that both parties sign for a withdrawal."""
    fields = _word(withdrawal.participant) + _word(withdrawal.total) + _word(withdrawal.valid_until)
    return digest_of_struct(domain, _WITHDRAWAL + withdrawal.channel + fields)


def digest_voucher(domain: bytes, voucher: Voucher) -> bytes:
    """Return the digest (32 bytes) that the victim signs for its tower."""
    return digest_of_struct(domain, _VOUCHER + voucher.channel + bytes(12) + voucher.beneficiary)


@lru_cache(maxsize=4096)
def channel_id(terms: Terms) -> ChannelId:
    """Return keccak(abi.encode(chainId, contract, p0, p1, asset, n)): 32 bytes, known before the channel exists."""
    addresses = (terms.contract, *terms.participants, terms.asset)
    packed = _word(terms.chain_id) + b"".join(bytes(12) + each for each in addresses) + _word(terms.number)
    return ChannelId(keccak(packed))


@lru_cache(maxsize=8192)
def lock_leaf(lock: Lock) -> bytes:
    """Return keccak(abi.encode(id, amount, expiry, kind, condition)), 32 bytes. A lock is in many roots: remembered."""
    words = _word(lock.id) + _word(lock.amount) + _word(lock.expiry) + _word(lock.kind)
    return keccak(words + lock.condition)


def locks_root(locks: Iterable[Lock]) -> bytes:
    """Return the root over pending locks, which must come in order of id: 32 zero bytes if there are none."""
    leaves = b"".join(lock_leaf(lock) for lock in locks)
    return keccak(leaves) if leaves else ZERO32
