"""Checking a 64-byte signature against an address, as a contract does: by recovery, low s only.

A contract knows addresses, not keys, and takes `v` from whoever calls. Here `v` is left out: both of its values are
tried. High s is refused (BIP 62, EIP-2), so that every statement has one valid signature per signer.
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidSignature
from tallystick.channels.protocol.keys import HALF_ORDER, is_signed
from tallystick.channels.protocol.objects import Address


def verify_signer(digest: bytes, signature: bytes, signer: Address) -> None:
    """Raise InvalidSignature unless `signature` (r ‖ s, low s) over `digest` (32 bytes) was made by `signer`."""
    if len(signature) != 64:
        raise InvalidSignature(f"a signature has 64 bytes, this one has {len(signature)}")
    if int.from_bytes(signature[32:], "big") > HALF_ORDER:
        raise InvalidSignature("the signature's s is in the upper half of its range; only the lower half is accepted")
    if not is_signed(digest, signature, signer):
        raise InvalidSignature(f"the signature is not that of 0x{signer.hex()} over this statement")
