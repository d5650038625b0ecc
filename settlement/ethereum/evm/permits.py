"""Permits (EIP-2612): a signature, in the call that deposits, tells a token what the adjudicator may take. Pure.

A permit is for the adjudicator alone, and that takes of an account only what this account itself deposits: whoever gets
hold of one, and whatever a token or a node says of its domain, gains nothing. One that somebody else handed in before
is as good as one in the call: what counts is the allowance. Sources: EIP-2612, EIP-712.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.channels.protocol.keys import PrivateKey, keccak, with_recovery_id
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.ethereum.abi import Envelope, Signature
from tallystick.settlement.ethereum.abi_values import encode_values
from tallystick.settlement.ethereum.evm.questions import call_of

PERMIT_SECONDS = 86_400
"""How long a permit is good. Each replacement of a transaction is signed with a new one."""

NONCES = Signature("nonces", ("address",), ("uint256",))
SEPARATOR = Signature("DOMAIN_SEPARATOR", (), ("bytes32",))
PERMIT = Signature("permit", ("address", "address", "uint256", "uint256", "uint8", "bytes32", "bytes32"))
_TYPE = keccak(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")


class Permit(NamedTuple):
    """A signed permit, as the adjudicator's calls take it."""

    deadline: int
    v: int
    r: bytes
    s: bytes


NO_PERMIT = Permit(2**64 - 1, 28, b"\xff" * 32, b"\xff" * 32)
"""As long as any, and taken by nobody: what a call with one takes is counted with this."""


class PermitDomain(NamedTuple):
    """What a token says of itself and an owner: enough to sign the owner's next permit."""

    separator: bytes
    nonce: int


def read_domain(separator: bytes, nonce: bytes) -> PermitDomain | None:
    """Return what a token answered to `DOMAIN_SEPARATOR()` and `nonces(owner)`; None if it knows neither."""
    if len(separator) != 32 or len(nonce) != 32:  # a token that takes every call for a payment answers nothing
        return None
    return PermitDomain(separator, int.from_bytes(nonce, "big"))


def sign_permit(key: PrivateKey, domain: PermitDomain, spender: Address, amount: int, deadline: int) -> Permit:
    """Return the owner's next permit: `spender` may take so much of the token, if that hears of it by the deadline."""
    types = ("bytes32", "address", "address", "uint256", "uint256", "uint256")
    struct = keccak(encode_values(types, (_TYPE, key.address, spender, amount, domain.nonce, deadline)))
    digest = keccak(b"\x19\x01" + domain.separator + struct)
    full = with_recovery_id(digest, key.sign(digest), key.address)
    return Permit(deadline, full[64], full[:32], full[32:64])


def trial_of(key: PrivateKey, domain: PermitDomain, asset: Address, spender: Address, deadline: int) -> dict[str, str]:
    """Return a question by which a token says whether it takes permits of this kind: one for nothing."""
    permit = sign_permit(key, domain, spender, 0, deadline)
    data = PERMIT.encode_call(key.address, spender, 0, *permit)
    return call_of(Envelope(asset, 0, data), spender)
